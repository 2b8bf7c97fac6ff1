//! What the daemons say about a configuration that is wrong.

use std::process::{Command, Output};

use anyhow::{Result, ensure};

/// `EX_CONFIG`: systemd is told not to start again.
const CONFIG: i32 = 78;

fn run(program: &str, arguments: &[&str], config: &str) -> Result<(Output, String)> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("config.toml");
    std::fs::write(&file, config)?;
    let output = Command::new(harness::binary(program)?)
        .args(arguments)
        .arg("-c")
        .arg(&file)
        .output()?;
    let said = harness::process::said(&output);
    Ok((output, said))
}

#[test]
fn the_agent_names_every_mistake_with_its_place_and_ends_with_78() -> Result<()> {
    let config = "[agent]\ngateway = \"GW 7\"\n\n[queue]\nwhen_ful = \"drop-oldest\"\n\n[kafka]\ntopic = \"t\"\n";
    for arguments in [&["run"], &["check"]] {
        let (output, said) = run("edge-agent", arguments, config)?;
        ensure!(
            output.status.code() == Some(CONFIG),
            "{}: {said}",
            output.status
        );
        for expected in ["config.toml:2:", "config.toml:5:", "when_full"] {
            ensure!(said.contains(expected), "{expected} is not in: {said}");
        }
    }
    Ok(())
}

#[test]
fn the_sink_names_every_mistake_with_its_place_and_ends_with_78() -> Result<()> {
    let config = "[kafka]\nbootstrap = 7\n\n[mongodb]\nury = \"mongodb://localhost\"\n";
    for arguments in [&["run"], &["check"]] {
        let (output, said) = run("cloud-sink", arguments, config)?;
        ensure!(
            output.status.code() == Some(CONFIG),
            "{}: {said}",
            output.status
        );
        for expected in ["config.toml:2:", "config.toml:5:", "uri"] {
            ensure!(said.contains(expected), "{expected} is not in: {said}");
        }
    }
    Ok(())
}

#[test]
fn a_configuration_that_is_not_there_is_said_so() -> Result<()> {
    for program in ["edge-agent", "cloud-sink"] {
        let output = Command::new(harness::binary(program)?)
            .args(["run", "-c", "/nowhere/config.toml"])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(CONFIG),
            "{}: {said}",
            output.status
        );
        ensure!(said.contains("/nowhere/config.toml"), "{said}");
    }
    Ok(())
}

/// A configuration with more than forty mistakes, none like the other, and what is said about them: lines of the
/// output, `…` at the end of one for a list that grows with what is understood.
const FULL_OF_MISTAKES: [(&str, &str, &str); 2] = [
    (
        "edge-agent",
        include_str!("mistakes/agent.toml"),
        include_str!("mistakes/agent.txt"),
    ),
    (
        "cloud-sink",
        include_str!("mistakes/sink.toml"),
        include_str!("mistakes/sink.txt"),
    ),
];

#[test]
fn more_than_forty_mistakes_are_named_in_one_run_each_with_place_and_remedy() -> Result<()> {
    for (program, config, expected) in FULL_OF_MISTAKES {
        for command in ["check", "run"] {
            let (output, said) = run(program, &[command], config)?;
            ensure!(
                output.status.code() == Some(CONFIG),
                "{}: {said}",
                output.status
            );
            let short = |line: &str| match line.split_once("config.toml:") {
                Some((_, rest)) => format!("config.toml:{rest}"),
                None => line.to_owned(),
            };
            let said: Vec<String> = said.lines().map(short).collect();
            let mut lines = said.iter();
            for wanted in expected.lines() {
                let (_, place) = wanted.split_once(".toml:").unwrap_or_default();
                let wanted = match place {
                    "" => wanted.to_owned(),
                    place => format!("config.toml:{place}"),
                };
                let line = lines.next().map_or("", String::as_str);
                let same = match wanted.strip_suffix('…') {
                    Some(beginning) => line.starts_with(beginning),
                    None => line == wanted,
                };
                ensure!(
                    same,
                    "{program} {command} says\n{line}\ninstead of\n{wanted}"
                );
            }
            ensure!(
                lines.next().is_none(),
                "{program} {command} says more: {said:#?}"
            );
            let places = said.iter().filter(|line| line.starts_with("config.toml:"));
            ensure!(places.count() > 40);
            let secret = said.iter().any(|line| line.contains("hunter2"));
            ensure!(!secret, "{program} {command} repeats a secret");
        }
    }
    Ok(())
}
