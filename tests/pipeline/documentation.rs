//! README and docs hold what they show: commands are run, configurations are checked, tests exist.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// Commands of the documentation that are not run here, and who runs them instead.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "dev/demo",
        "`the_demo_ends_with_a_clean_verdict_and_what_it_keeps_runs_until_it_is_stopped`",
    ),
    (
        "dev/chaos",
        "its loops, short, are in `faults_agent` and `faults_chaos`",
    ),
    ("dev/fuzz", "the same properties run beside the parsers"),
    (
        "dev/bench",
        "`every_row_of_the_bench_runs_and_misses_no_reading`, by the same code",
    ),
    ("dev/test", "is what runs this"),
    ("dev/deny", "is run by dev/test"),
    (
        "docker compose",
        "no Docker daemon where this is tested; `containers` has its files parsed and their commands run",
    ),
    (
        "dev/stack",
        "dev/test brings its services up by the same code",
    ),
    (
        "dev/chaos",
        "`a_short_mixture_of_every_fault_ends_with_a_clean_verdict`, by the same code",
    ),
    (
        "dev/fuzz",
        "needs a nightly compiler; the same properties are tests in `decode::properties`",
    ),
    (
        "cargo install",
        "installs into the user's home; dev/test builds the same crates",
    ),
    (
        "dev/package",
        "`packaging`, by the same script around the programs that are there",
    ),
    (
        "sudo",
        "changes the machine; `packaging` does the same in a folder",
    ),
    ("systemctl", "the tests have no systemd of their own"),
    ("journalctl", "the tests have no systemd of their own"),
    (
        "cloud-sink check -c /etc",
        "reads what is installed; `every_configuration_in_the_documentation_passes_check`",
    ),
    (
        "edge-agent check -c /etc",
        "reads what is installed; `every_configuration_in_the_documentation_passes_check`",
    ),
    ("edge-agent run", "every test in `on_the_stack`"),
    ("cloud-sink topics", "`on_the_stack::confluent`"),
    ("cloud-sink schema", "`on_the_stack::registry`"),
    ("edge-agent check --online", "`on_the_stack::confluent`"),
    ("cloud-sink check --online", "`on_the_stack::confluent`"),
    ("cloud-sink run", "every test in `on_the_stack`"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README, the other pages beside it and all of docs/, by name.
fn pages() -> Result<Vec<(String, String)>> {
    let mut pages = Vec::new();
    for dir in [root(), root().join("docs")] {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                pages.push((name, fs::read_to_string(&path)?));
            }
        }
    }
    Ok(pages)
}

/// The fenced blocks of a page whose fence says `kind`, with the line each begins at.
pub fn blocks(page: &str, kind: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, bool, String)> = None;
    for (number, line) in (1..).zip(page.lines()) {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((number, info.trim() == kind, String::new())),
            (Some(_), Some(_)) => {
                if let Some((begin, true, text)) = open.take() {
                    blocks.push((begin, text));
                }
            }
            (Some((_, _, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// Runs a line of shell in `dir` with our programs on the PATH.
fn shell(dir: &Path, line: &str) -> Result<()> {
    let programs = harness::binary("edge-agent")?;
    let programs = programs.parent().context("no directory")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-euc", line])
        .current_dir(dir)
        .env("PATH", format!("{}:{path}", programs.display()))
        .output()?;
    ensure!(
        output.status.success(),
        "{}\n{}",
        output.status,
        harness::process::said(&output)
    );
    Ok(())
}

#[test]
fn every_command_in_the_documentation_is_run_or_says_who_runs_it() -> Result<()> {
    let mut run = 0;
    for (name, page) in pages()? {
        let dir = tempfile::tempdir()?;
        for (begin, block) in blocks(&page, "sh") {
            for line in block
                .lines()
                .map(|line| line.split(" #").next().unwrap_or(line).trim())
            {
                if line.is_empty() || ELSEWHERE.iter().any(|(prefix, _)| line.starts_with(prefix)) {
                    continue;
                }
                shell(dir.path(), line).with_context(|| format!("{name}:{begin}: {line}"))?;
                run += 1;
            }
        }
    }
    ensure!(run > 0, "no command was found: has the fence changed?");
    Ok(())
}

#[test]
fn every_configuration_in_the_documentation_passes_check() -> Result<()> {
    for program in ["edge-agent", "cloud-sink"] {
        let mut checked = 0;
        for (name, page) in pages()? {
            let properties = blocks(&page, "properties").into_iter();
            let properties: String = properties.map(|(_, text)| text).collect();
            for (begin, block) in blocks(&page, &format!("toml {program}")) {
                let dir = tempfile::tempdir()?;
                fs::write(dir.path().join("client.properties"), &properties)?;
                fs::write(dir.path().join("config.toml"), block)?;
                shell(dir.path(), &format!("{program} check -c config.toml"))
                    .with_context(|| format!("{name}:{begin}"))?;
                checked += 1;
            }
        }
        ensure!(checked > 0, "no configuration of {program} was found");
    }
    Ok(())
}

#[test]
fn every_test_named_in_the_documentation_exists() -> Result<()> {
    let mut tests = BTreeSet::new();
    for member in [
        "protocol",
        "edge-agent",
        "cloud-sink",
        "hardware-sim",
        "tests",
    ] {
        collect_functions(&root().join(member), &mut tests)?;
    }
    let mut named = 0;
    for (name, page) in pages()? {
        // Sentences: only metrics have as many underscores, and those begin with their daemon.
        for word in page
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| is_sentence(word))
        {
            ensure!(
                tests.contains(word),
                "{name} names {word}, which is no test"
            );
            named += 1;
        }
    }
    ensure!(named > 0, "no test is named");
    Ok(())
}

fn is_sentence(word: &str) -> bool {
    word.matches('_').count() >= 4
        && !["edge_", "sink_"]
            .iter()
            .any(|metric| word.starts_with(metric))
        && word
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn collect_functions(dir: &Path, into: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_functions(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let functions = text
                .split("fn ")
                .skip(1)
                .filter_map(|rest| rest.split('(').next());
            into.extend(functions.map(str::to_owned));
        }
    }
    Ok(())
}
