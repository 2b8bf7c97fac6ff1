//! The uplink comes and goes.

use anyhow::{Result, ensure};
use harness::{daemon::Link, rig::Rig, service::Kind};

fn kafka_is_not_up(link: &Link) -> bool {
    link.kind == "kafka" && link.state != "up"
}

#[test]
fn readings_wait_while_kafka_is_away_and_arrive_in_order() -> Result<()> {
    let mut rig = Rig::new(&[Kind::Kafka])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..50)?;
    rig.wait_until_stored(50)?;
    rig.wait_agent("all to be acknowledged", |agent| agent.balance.queued == 0)?;

    rig.service(Kind::Kafka)?.kill()?;
    super::publish(&rig, "press", 50..400)?;
    super::publish(&rig, "drill", 0..400)?;
    rig.wait_agent("everything to be queued", |agent| {
        agent.balance.queued == 750 && agent.links.iter().any(kafka_is_not_up)
    })?;

    rig.service(Kind::Kafka)?.start()?;
    rig.service(Kind::Kafka)?.wait_ready()?;
    rig.wait_until_stored(800)?;
    super::assert_stored_once(&rig, &["press", "drill"], 400)?;
    super::assert_in_order(&rig.kafka.read_all(rig.kafka.readings())?)?;
    rig.done()
}

/// Row 30. Frozen until the daemons have given up requests that the broker then finds when it goes on, besides those
/// that were sent instead of them.
#[test]
fn a_kafka_that_hangs_costs_nothing() -> Result<()> {
    let mut rig = Rig::new(&[Kind::Kafka])?;
    rig.configure_agent(super::MQTT)?;
    let config = std::fs::read_to_string(rig.agent.config_file())?;
    let impatient = "[kafka]\nproperties = { \"socket.timeout.ms\" = \"1500\" }";
    ensure!(config.contains("[kafka]"), "{config}");
    rig.agent
        .configure(&config.replacen("[kafka]", impatient, 1))?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..50)?;
    rig.wait_until_stored(50)?;
    let mut sent = 50;
    for _ in 0..2 {
        rig.wait_agent("all to be acknowledged", |agent| agent.balance.queued == 0)?;
        rig.service(Kind::Kafka)?.freeze()?;
        super::publish(&rig, "press", sent..sent + 250)?;
        sent += 250;
        rig.wait_agent("everything to be queued, and nobody to answer", |agent| {
            agent.balance.queued == 250 && agent.links.iter().any(kafka_is_not_up)
        })?;
        rig.service(Kind::Kafka)?.thaw()?;
        rig.wait_until_stored(sent)?;
    }
    super::assert_all_is_well(&mut rig, &["press"], sent)?;
    rig.done()
}

#[test]
fn readings_outlive_an_agent_killed_while_kafka_is_away() -> Result<()> {
    let mut rig = Rig::new(&[Kind::Kafka])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    super::publish(&rig, "press", 0..1)?;
    rig.wait_agent("the first", |agent| agent.balance.acknowledged == 1)?;
    rig.service(Kind::Kafka)?.kill()?;
    let mut next = 1;
    for _ in 0..4 {
        super::publish(&rig, "press", next..next + 50)?;
        next += 50;
        // The last that Kafka took may be found again: the cursor is synced once a second.
        rig.wait_agent("a queue", |agent| agent.balance.queued >= next - 1)?;
        rig.agent.kill()?;
        rig.agent.start()?;
        rig.wait_agent("the queue found again", |agent| {
            agent.balance.recovered_at_start >= next - 1
        })?;
    }
    rig.service(Kind::Kafka)?.start()?;
    rig.service(Kind::Kafka)?.wait_ready()?;
    rig.sink.start()?;
    rig.wait_until_stored(next)?;
    super::assert_stored_once(&rig, &["press"], next)?;
    super::assert_in_order(&rig.kafka.read_all(rig.kafka.readings())?)?;
    rig.done()
}

#[test]
fn memory_stays_flat_while_kafka_is_away() -> Result<()> {
    const BEFORE: u64 = 5_000;
    const AFTER: u64 = 40_000;
    const ALLOWED: u64 = 24 << 20;
    let mut rig = Rig::new(&[Kind::Kafka])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    super::publish(&rig, "press", 0..1)?;
    rig.wait_agent("the first", |agent| agent.balance.acknowledged == 1)?;
    rig.service(Kind::Kafka)?.kill()?;
    super::publish(&rig, "press", 1..BEFORE)?;
    rig.wait_agent("a queue", |agent| agent.balance.queued == BEFORE - 1)?;
    let before = rig.agent.process()?.peak_memory()?;
    super::publish(&rig, "press", BEFORE..AFTER)?;
    rig.wait_agent("a longer queue", |agent| agent.balance.queued == AFTER - 1)?;
    let after = rig.agent.process()?.peak_memory()?;
    ensure!(
        after < before + ALLOWED,
        "peak memory grew from {before} to {after} bytes"
    );
    rig.done()
}

#[test]
fn the_agent_can_start_without_kafka() -> Result<()> {
    let mut rig = Rig::new(&[Kind::Kafka])?;
    rig.configure_agent(super::MQTT)?;
    rig.service(Kind::Kafka)?.kill()?;
    rig.agent.start()?;
    super::publish(&rig, "press", 0..20)?;
    rig.wait_agent("a queue", |agent| {
        agent.balance.queued == 20 && !agent.ready
    })?;
    rig.service(Kind::Kafka)?.start()?;
    rig.service(Kind::Kafka)?.wait_ready()?;
    rig.sink.start()?;
    rig.wait_until_stored(20)?;
    rig.wait_agent("ready", |agent| agent.ready)?;
    rig.done()
}
