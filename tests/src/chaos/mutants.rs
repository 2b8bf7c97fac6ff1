//! Broken builds. A hunt that cannot find a fault that was put there on purpose proves nothing, so each
//! of these is built and must be caught by the loop that is meant to catch it.
//!
//! A mutant is one replaced text in a copy of the source tree under `target/mutants`: the product has no
//! code for it and no feature. When a text is no longer there exactly once, this fails and says which.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{kills, power, report::Report, rot, sinks};

/// One mistake.
struct Mutant {
    name: &'static str,
    program: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    hunt: fn(&Path, u64) -> Result<Report>,
}

const MUTANTS: [Mutant; 4] = [
    Mutant {
        name: "fdatasync-removed",
        program: "edge-agent",
        file: "edge-agent/src/queue/segment.rs",
        from: "        step(\"append: before fdatasync\")?;\n        self.file.sync_data()?;\n",
        to: "",
        hunt: |program, seed| {
            power::run(20, seed, |bench| {
                bench.use_program(program.to_owned());
                Ok(())
            })
        },
    },
    Mutant {
        name: "ack-before-commit",
        program: "edge-agent",
        file: "edge-agent/src/ingest/commit.rs",
        from: "                group.messages.push(message);\n",
        to: "                let mut message = message;\n\
             \x20               if let Some(answer) = message.answer.take() {\n\
             \x20                   answer.give(Outcome::Stored);\n\
             \x20               }\n\
             \x20               group.messages.push(message);\n",
        hunt: |program, seed| {
            kills::run(150, seed, |bench| {
                bench.use_program(program.to_owned());
                Ok(())
            })
        },
    },
    Mutant {
        name: "offset-before-write",
        program: "cloud-sink",
        file: "cloud-sink/src/pipeline/intake.rs",
        from: "        self.kept.consumed(1);\n",
        to: "        self.kept.consumed(1);\n\
             \x20       if self.assignments.settle(&message.at, generation) {\n\
             \x20           self.store_offsets();\n\
             \x20       }\n",
        hunt: |program, _| sinks::killed_after_checkpoints(Some(program)),
    },
    Mutant {
        name: "no-digest-check",
        program: "cloud-sink",
        file: "cloud-sink/src/store/readings.rs",
        from: "if there.digest == Some(entry.document.digest.0.cast_signed()) {",
        to: "if there.digest.is_some() {",
        hunt: |program, _| sinks::one_identity_with_two_contents(Some(program)),
    },
];

/// Builds and hunts each; returns the names of those that were not caught.
///
/// # Errors
/// One cannot be made or run.
pub fn run(seed: u64) -> Result<Vec<&'static str>> {
    let mut alive = Vec::new();
    for mutant in &MUTANTS {
        eprintln!("building {}", mutant.name);
        let program = mutant.build()?;
        let report =
            (mutant.hunt)(&program, seed).with_context(|| format!("hunt {}", mutant.name))?;
        let caught = !report.is_clean();
        let name = mutant.name;
        println!("{{\"mutant\":\"{name}\",\"caught\":{caught},\"report\":{report}}}");
        if !caught {
            alive.push(mutant.name);
        }
    }
    Ok(alive)
}

impl Mutant {
    fn build(&self) -> Result<PathBuf> {
        let root = crate::target().join("mutants");
        let (source, build) = (root.join("source"), root.join("build"));
        if source.exists() {
            fs::remove_dir_all(&source)?;
        }
        fs::create_dir_all(&source)?;
        for entry in fs::read_dir(crate::tree())? {
            let entry = entry?;
            let name = entry.file_name();
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if hidden || name == "target" || name == "fuzz" {
                continue;
            }
            if entry.file_type()?.is_dir() {
                rot::copy(&entry.path(), &source.join(&name))?;
            } else {
                fs::copy(entry.path(), source.join(&name))?;
            }
        }
        fs::write(source.join(self.file), self.applied_to(&source)?)?;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--workspace", "--bin", self.program]);
        cargo.current_dir(&source).env("CARGO_TARGET_DIR", &build);
        let status = cargo.status().context("start cargo")?;
        ensure!(status.success(), "mutant {} does not build", self.name);
        let program = root.join(self.name);
        fs::copy(build.join("debug").join(self.program), &program)?;
        Ok(program.canonicalize()?)
    }

    /// The file of that tree, with the mistake in it.
    fn applied_to(&self, tree: &Path) -> Result<String> {
        let text = fs::read_to_string(tree.join(self.file))?;
        let found = text.matches(self.from).count();
        ensure!(
            found == 1,
            "mutant {} is out of date: its text is {found} times in {}",
            self.name,
            self.file
        );
        Ok(text.replace(self.from, self.to))
    }
}

#[cfg(test)]
mod tests {
    use super::MUTANTS;

    #[test]
    fn every_mutant_still_finds_the_text_it_replaces() -> anyhow::Result<()> {
        for mutant in &MUTANTS {
            mutant.applied_to(crate::tree())?;
        }
        Ok(())
    }
}
