//! SIGTERM.

use std::fs;

use anyhow::{Result, ensure};
use harness::{
    rig::{PATIENCE, Rig},
    service::Kind,
    wait,
};
use rustix::process::Signal;

/// Lets the agent drain for so long when it is told to stop, from its next start.
fn may_drain_for(rig: &Rig, timeout: &str) -> Result<()> {
    rig.configure_agent(super::MQTT)?;
    let config = fs::read_to_string(rig.agent.config_file())?;
    let with_timeout = format!("[agent]\nshutdown_timeout = \"{timeout}\"\n");
    rig.agent
        .configure(&config.replacen("[agent]\n", &with_timeout, 1))
}

#[test]
fn sigterm_drains_the_queue_and_exits_with_0() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    may_drain_for(&rig, "90s")?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..500)?;
    rig.wait_agent("all to be received", |agent| agent.balance.received >= 500)?;
    let status = rig.agent.stop(PATIENCE)?;
    ensure!(
        status.code() == Some(0),
        "{status}\n{}",
        rig.agent.end_of_log()
    );
    let sent = rig.kafka.read_all(rig.kafka.readings())?.len();
    ensure!(sent == 500, "{sent} of 500 left the queue");
    rig.wait_until_stored(500)?;
    let status = rig.sink.stop(PATIENCE)?;
    ensure!(
        status.code() == Some(0),
        "{status}\n{}",
        rig.sink.end_of_log()
    );
    super::assert_stored_once(&rig, &["press"], 500)?;
    rig.done()
}

#[test]
fn sigterm_while_kafka_is_away_ends_in_time_and_keeps_the_queue() -> Result<()> {
    let mut rig = Rig::new(&[Kind::Kafka])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    super::publish(&rig, "press", 0..1)?;
    rig.wait_agent("the first", |agent| agent.balance.acknowledged == 1)?;
    rig.service(Kind::Kafka)?.kill()?;
    super::publish(&rig, "press", 1..100)?;
    rig.wait_agent("a queue", |agent| agent.balance.queued == 99)?;
    let status = rig.agent.stop(PATIENCE)?;
    ensure!(
        status.code() == Some(0),
        "{status}\n{}",
        rig.agent.end_of_log()
    );
    rig.agent.start()?;
    rig.wait_agent("the queue", |agent| agent.balance.queued == 99)?;
    rig.done()
}

#[test]
fn a_second_signal_ends_the_agent_at_once() -> Result<()> {
    let mut rig = Rig::new(&[Kind::Kafka])?;
    // Far longer than is waited for the end here, however slow the machine is.
    may_drain_for(&rig, "10m")?;
    rig.agent.start()?;
    super::publish(&rig, "press", 0..1)?;
    rig.wait_agent("the first", |agent| agent.balance.acknowledged == 1)?;
    rig.service(Kind::Kafka)?.kill()?;
    super::publish(&rig, "press", 1..100)?;
    rig.wait_agent("a queue", |agent| agent.balance.queued == 99)?;
    rig.agent.process()?.signal(Signal::TERM)?;
    // Two signals at once could arrive as one.
    wait::until_true("the first signal to be heeded", PATIENCE, || {
        Ok(rig.agent.end_of_log().contains("stopping: draining"))
    })?;
    rig.agent.process()?.signal(Signal::TERM)?;
    rig.agent.process()?.wait(PATIENCE)?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    // That Kafka has the first may not have been noted: once a second is enough, for it would be sent again.
    rig.wait_agent("the queue", |agent| {
        (99..=100).contains(&agent.balance.queued)
    })?;
    rig.done()
}
