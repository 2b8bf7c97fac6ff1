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
