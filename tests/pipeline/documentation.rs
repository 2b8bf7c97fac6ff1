//! README and docs hold what they show: commands are run, configurations are checked, tests exist.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// The rows of the table of CONTRIBUTING.md whose head begins so, by cells.
fn listed(head: &str) -> Result<Vec<Vec<String>>> {
    let page = fs::read_to_string(root().join("CONTRIBUTING.md"))?;
    let (_, rest) = page
        .split_once(&format!("| {head}"))
        .context(head.to_owned())?;
    let rows = rest
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        let cells = row.trim_matches('|').split(" | ");
        cells
            .map(|cell| cell.trim().trim_matches('`').to_owned())
            .collect()
    };
    Ok(rows.map(cells).collect())
}

/// Beginnings of lines of `sh` that are not run here, and say why.
fn elsewhere() -> Result<Vec<String>> {
    let rows = listed("a line of `sh`")?;
    Ok(rows
        .into_iter()
        .filter_map(|row| row.into_iter().next())
        .collect())
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README, the other pages beside it and all of docs/, by their path.
pub fn pages() -> Result<Vec<(String, String)>> {
    let mut pages = Vec::new();
    for dir in [root(), root().join("docs")] {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.strip_prefix(root())?.to_string_lossy().into_owned();
                pages.push((name, fs::read_to_string(&path)?));
            }
        }
    }
    Ok(pages)
}

/// The fenced blocks of a page whose fence says `kind`, with the line each begins at.
pub fn blocks(page: &str, kind: &str) -> Vec<(usize, String)> {
    let all = all_blocks(page).into_iter();
    all.filter(|(_, info, _)| info == kind)
        .map(|(begin, _, text)| (begin, text))
        .collect()
}

/// All of them: the line it begins at, what its fence says, the text.
fn all_blocks(page: &str) -> Vec<(usize, String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String, String)> = None;
    for (number, line) in (1..).zip(page.lines()) {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((number, info.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
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
    let (mut run, elsewhere, mut named) = (0, elsewhere()?, BTreeSet::new());
    for (name, page) in pages()? {
        let dir = tempfile::tempdir()?;
        for (begin, block) in blocks(&page, "sh") {
            for line in block
                .lines()
                .map(|line| line.split(" #").next().unwrap_or(line).trim())
            {
                let begins = |prefix: &&String| line.starts_with(prefix.as_str());
                if let Some(prefix) = elsewhere.iter().find(begins) {
                    named.insert(prefix);
                    continue;
                }
                if line.is_empty() {
                    continue;
                }
                shell(dir.path(), line).with_context(|| format!("{name}:{begin}: {line}"))?;
                run += 1;
            }
        }
    }
    ensure!(run > 0, "no command was found: has the fence changed?");
    for prefix in &elsewhere {
        ensure!(
            named.contains(prefix),
            "no page has a line that begins with {prefix}"
        );
    }
    Ok(())
}

#[test]
fn every_block_in_the_documentation_is_held_by_a_test_or_listed_with_the_reason() -> Result<()> {
    let rows = listed("page | block")?;
    let mut used = BTreeSet::new();
    let programs = [
        "edge-agent ",
        "cloud-sink ",
        "hardware-sim ",
        "dev/",
        "sudo ",
        "docker ",
        "cargo ",
    ];
    for (name, page) in pages()? {
        for (begin, info, text) in all_blocks(&page) {
            let words: Vec<&str> = info.split_whitespace().collect();
            match &words[..] {
                ["sh" | "properties"] | ["toml", "edge-agent" | "cloud-sink"] => continue,
                ["toml", "edge-agent" | "cloud-sink", "part"] => continue,
                ["console"] => {}
                _ => {
                    let command = text
                        .lines()
                        .find(|line| programs.iter().any(|p| line.starts_with(p)));
                    ensure!(
                        command.is_none(),
                        "{name}:{begin}: {command:?} is to be in a block `sh`"
                    );
                }
            }
            let is_row = |row: &&Vec<String>| {
                let kind = if row[1] == "none" { "" } else { &row[1] };
                row[0] == name
                    && (info == kind || !kind.is_empty() && info.starts_with(&format!("{kind} ")))
            };
            let row = rows.iter().find(is_row);
            let row = row
                .with_context(|| format!("{name}:{begin}: a block `{info}` that nothing holds"))?;
            used.insert(row);
        }
    }
    for row in &rows {
        ensure!(
            row.len() == 3 && !row[2].is_empty(),
            "{row:?} has no reason"
        );
        ensure!(used.contains(row), "no page has the block of {row:?}");
    }
    Ok(())
}

/// The words of a command up to its first value, and its options: what `--help` can be asked of.
fn question(command: &str) -> Vec<&str> {
    let is_name = |word: &str| {
        let letters = word.trim_start_matches('-');
        !letters.is_empty() && letters.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
    };
    command
        .split_whitespace()
        .take_while(|word| is_name(word))
        .collect()
}

#[test]
fn every_command_that_a_sentence_names_exists() -> Result<()> {
    let mut asked = BTreeSet::new();
    for (name, page) in pages()? {
        for code in page.split('`').skip(1).step_by(2) {
            let [program @ ("edge-agent" | "cloud-sink"), words @ ..] = &question(code)[..] else {
                continue;
            };
            if words.is_empty() || !asked.insert(code.to_owned()) {
                continue;
            }
            let output = Command::new(harness::binary(program)?)
                .args(words.iter().take_while(|word| !word.starts_with('-')))
                .arg("--help")
                .output()?;
            let said = harness::process::said(&output);
            ensure!(output.status.success(), "{name}: {code}\n{said}");
            for option in words.iter().filter(|word| word.starts_with("--")) {
                ensure!(
                    said.contains(option),
                    "{name}: {code}: no {option} in\n{said}"
                );
            }
        }
    }
    ensure!(asked.len() > 20, "{asked:?}");
    Ok(())
}

/// A part of a configuration with the least that it lacks.
fn whole(program: &str, part: &str) -> String {
    let lacks: &[(&str, &str)] = match program {
        "edge-agent" => &[
            ("[agent]", "[agent]\ngateway = \"gw7\"\n"),
            (
                "[kafka]",
                "[kafka]\nbootstrap = \"127.0.0.1:9092\"\ntopic = \"telemetry.readings.v1\"\n",
            ),
        ],
        _ => &[
            ("[kafka]", "[kafka]\nbootstrap = \"127.0.0.1:9092\"\n"),
            ("[mongodb]", "[mongodb]\nuri = \"mongodb://127.0.0.1\"\n"),
            (
                "[[route]]",
                "[[route]]\ntopic = \"telemetry.readings.v1\"\ncollection = \"readings\"\n",
            ),
        ],
    };
    // What a rule names has to be there.
    let named: BTreeSet<&str> = part
        .lines()
        .filter_map(|line| line.strip_prefix("source = "))
        .collect();
    let sources: String = named
        .iter()
        .map(|name| {
            format!("[[serial]]\nname = {name}\nport = \"/dev/ttyS0\"\nmode = \"frames\"\n")
        })
        .collect();
    let lacks = lacks.iter().filter(|(table, _)| !part.contains(table));
    let lacks: String = lacks.map(|(_, text)| *text).collect();
    format!("{part}\n{lacks}{sources}")
}

#[test]
fn every_configuration_in_the_documentation_passes_check() -> Result<()> {
    for program in ["edge-agent", "cloud-sink"] {
        let mut checked = 0;
        for (name, page) in pages()? {
            let properties = blocks(&page, "properties").into_iter();
            let properties: String = properties.map(|(_, text)| text).collect();
            let parts = blocks(&page, &format!("toml {program} part")).into_iter();
            let parts = parts.map(|(begin, part)| (begin, whole(program, &part)));
            let wholes = blocks(&page, &format!("toml {program}")).into_iter();
            for (begin, block) in wholes.chain(parts) {
                // What is installed beside it is not there.
                let block = block.replace(&format!("/etc/{program}/client"), "client");
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
