//! What README shows first does what it says.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use harness::{
    daemon::{AgentStatus, status_of},
    rig::PATIENCE,
    wait,
};

fn demo(argument: &str) -> Result<Output> {
    Command::new(harness::binary("rig")?)
        .args(["demo", argument])
        .output()
        .context("run the demo")
}

/// Whatever the test finds, nothing stays.
struct Stop;

impl Drop for Stop {
    fn drop(&mut self) {
        drop(demo("--stop"));
    }
}

#[test]
fn the_demo_ends_with_a_clean_verdict_and_what_it_keeps_runs_until_it_is_stopped() -> Result<()> {
    let kept = demo("--keep")?;
    let stop = Stop;
    let shown = String::from_utf8(kept.stdout)?;
    let told = String::from_utf8(kept.stderr)?;
    ensure!(kept.status.success(), "{}\n{shown}{told}", kept.status);
    for line in [
        "verdict                    clean",
        "readings: nothing is missing",
    ] {
        ensure!(shown.contains(line), "no {line:?} in\n{shown}");
    }
    let agent = shown
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find_map(|words| matches!(words[..], [_, "agent", _]).then(|| words[2].to_owned()))
        .with_context(|| format!("nothing says where the agent is:\n{shown}"))?;
    wait::until_true("the agent to be ready", PATIENCE, || {
        Ok(status_of::<AgentStatus>(&agent)?.ready)
    })?;

    let second = demo("--keep")?;
    let told = String::from_utf8(second.stderr)?;
    ensure!(
        told.contains("dev/demo --stop"),
        "a second demo said {told:?}"
    );

    drop(stop);
    ensure!(
        status_of::<AgentStatus>(&agent).is_err(),
        "the agent still answers"
    );
    Ok(())
}
