//! Progress is drawn for people, and never stands between what programs read.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::{
    rig::{PATIENCE, Rig},
    terminal::seen,
};
use serde_json::Value as Json;

use super::{audit::wait_settled, sink_dead_letters::foreign};

/// What clears a line of a terminal.
const CLEARED: &str = "\x1b[2K";

#[test]
fn a_bar_is_drawn_on_a_terminal_and_gone_at_the_end_and_a_pipe_gets_only_the_answer() -> Result<()>
{
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..20)?;
    wait_settled(&rig, 20)?;
    rig.kafka
        .write(rig.kafka.readings(), &[foreign(b"poison")])?;
    rig.wait_sink("a dead letter", |sink| sink.balance.dead_letters == 1)?;
    // A queue is looked at while nobody writes to it.
    let status = rig.agent.stop(PATIENCE)?;
    ensure!(status.success(), "{}", rig.agent.end_of_log());

    for (program, words, drawn) in [
        ("cloud-sink", "audit --format json", "/1 "),
        ("cloud-sink", "audit --full --format json", "/20 "),
        ("cloud-sink", "dead-letters replay --dry-run", "1/1"),
        ("edge-agent", "queue verify --format json", "1/1"),
        ("edge-agent", "queue export --all", "\u{2801}"),
    ] {
        let config = match program {
            "edge-agent" => rig.agent.config_file(),
            _ => rig.sink.config_file(),
        };
        let command = || -> Result<Command> {
            let mut command = Command::new(harness::binary(program)?);
            command.args(words.split(' ')).arg("-c").arg(&config);
            Ok(command)
        };
        let (output, screen) = seen(command()?)?;
        ensure!(output.status.success(), "{words}: {output:?} {screen:?}");
        readable(&output.stdout).with_context(|| words.to_owned())?;
        ensure!(screen.contains(drawn), "{words}: {screen:?}");
        let (_, rest) = screen.rsplit_once(CLEARED).context("never cleared")?;
        ensure!(rest.trim().is_empty(), "{words} leaves {rest:?}");

        let output = command()?.output()?;
        ensure!(output.status.success(), "{words}: {output:?}");
        readable(&output.stdout).with_context(|| words.to_owned())?;
        ensure!(output.stderr.is_empty(), "{words}: {output:?}");
    }
    rig.done()
}

/// One value, or one a line; or the one sentence that is all there is to say.
fn readable(answer: &[u8]) -> Result<()> {
    if answer == b"1 dead letter would be sent\n" {
        return Ok(());
    }
    let values = serde_json::Deserializer::from_slice(answer).into_iter::<Json>();
    let values: Vec<Json> = values.collect::<Result<_, _>>()?;
    ensure!(!values.is_empty(), "nothing");
    Ok(())
}
