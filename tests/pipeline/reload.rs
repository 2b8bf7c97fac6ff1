//! SIGHUP: the configuration is read again, and taken over or refused as a whole.

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::{
    daemon::{AgentStatus, Daemon},
    rig::PATIENCE,
    wait,
};
use rustix::process::Signal;

use crate::page::alone;

/// Writes a configuration, asks for it to be read, and waits for the answer in the log, which it returns.
pub fn reload(agent: &mut Daemon, config: &str, answer: &str) -> Result<String> {
    let before = fs::read_to_string(agent.log())?.len();
    fs::write(agent.config_file(), config)?;
    agent.process()?.signal(Signal::HUP)?;
    let mut said = String::new();
    wait::until_true(answer, PATIENCE, || {
        said = fs::read_to_string(agent.log())?.split_off(before);
        // A line may be read while it is written.
        said.truncate(said.rfind('\n').map_or(0, |end| end + 1));
        Ok(said.contains(answer))
    })
    .with_context(|| agent.end_of_log())?;
    Ok(said)
}

fn links(agent: &Daemon) -> Result<Vec<String>> {
    let status: AgentStatus = agent.status()?;
    let serial = status
        .links
        .into_iter()
        .filter(|link| link.kind == "serial");
    Ok(serial.map(|link| link.name).collect())
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_every_mistake_is_told_with_its_place() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut agent = alone("edge-agent", dir.path())?;
    agent.start()?;
    let right = fs::read_to_string(agent.config_file())?;
    // More than the log lets one place say at once.
    let mistakes: String = (0..12).map(|n| format!("colour{n} = 1\n")).collect();
    let wrong = format!("{right}\n{mistakes}");
    let said = reload(&mut agent, &wrong, "configuration not taken over")?;
    let first = right.lines().count() + 2;
    for n in 0..12 {
        let place = format!("at={}:1 ", first + n);
        ensure!(said.contains(&place), "{place} is not in\n{said}");
        ensure!(
            said.contains(&format!("serial.colour{n} is not a setting")),
            "{said}"
        );
    }
    ensure!(said.contains("mistakes=12"), "{said}");

    let frame =
        right.replace("gateway = \"gw7\"", "gateway = \"gw8\"") + "[queue]\nmax_age = \"1d\"\n";
    let said = reload(&mut agent, &frame, "configuration needs a restart")?;
    ensure!(said.contains("changed=\"[agent], [queue]\""), "{said}");
    ensure!(links(&agent)? == ["cabinet"]);

    let said = reload(&mut agent, &right, "configuration taken over")?;
    ensure!(
        said.contains("unchanged=1") && !said.contains("altered="),
        "{said}"
    );
    let incidents: serde_json::Value = agent.status()?;
    ensure!(
        incidents["incidents"]
            .to_string()
            .contains("needs a restart"),
        "{incidents}"
    );
    agent.kill()?;
    Ok(())
}

#[test]
fn a_source_that_was_removed_is_gone_from_the_status_and_may_come_back() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut agent = alone("edge-agent", dir.path())?;
    agent.start()?;
    let one = fs::read_to_string(agent.config_file())?;
    let two = format!(
        "{one}[[serial]]\nname = \"garden\"\nport = \"{}/garden\"\nmode = \"frames\"\n",
        dir.path().display()
    );
    for _ in 0..3 {
        let said = reload(&mut agent, &two, "configuration taken over")?;
        ensure!(said.contains("added=garden unchanged=1"), "{said}");
        wait::until_true("the source", PATIENCE, || {
            Ok(links(&agent)? == ["cabinet", "garden"])
        })?;
        let said = reload(&mut agent, &one, "configuration taken over")?;
        ensure!(said.contains("removed=garden unchanged=1"), "{said}");
        wait::until_true("its end", PATIENCE, || Ok(links(&agent)? == ["cabinet"]))?;
    }
    let mut metrics = String::new();
    wait::until_true("metrics without it", PATIENCE, || {
        metrics = agent.page("/metrics")?;
        Ok(!metrics.contains("garden") && metrics.contains("cabinet"))
    })
    .with_context(|| metrics.clone())?;
    agent.kill()?;
    Ok(())
}

#[test]
fn a_sink_that_is_asked_to_reload_goes_on_and_says_what_a_restart_would_bring() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut sink = alone("cloud-sink", dir.path())?;
    sink.start()?;
    let process = sink.process()?.identity();
    let right = fs::read_to_string(sink.config_file())?;
    let said = reload(&mut sink, &right, "configuration read again")?;
    ensure!(said.contains("it is the one in force"), "{said}");

    let wrong = format!("{right}colour = 1\n[batch]\nmax_wait = \"soon\"\n");
    let said = reload(&mut sink, &wrong, "a restart would fail")?;
    let line = right.lines().count() + 1;
    for told in [&format!("at={line}:1 "), "batch.max_wait", "mistakes=2"] {
        ensure!(said.contains(told), "{told} is not in\n{said}");
    }

    let other =
        right.replace("group = \"sinks\"", "group = \"others\"") + "[batch]\nmax_wait = \"1s\"\n";
    let said = reload(&mut sink, &other, "it needs a restart")?;
    ensure!(said.contains("changed=\"[kafka], [batch]\""), "{said}");
    ensure!(sink.process()?.identity() == process && sink.runs());
    sink.stop(PATIENCE)?;
    Ok(())
}
