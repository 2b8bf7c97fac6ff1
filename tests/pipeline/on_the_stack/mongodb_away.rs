//! The store comes and goes, and Kafka holds what nobody wants.

use anyhow::{Context, Result, ensure};
use harness::{
    daemon::Link,
    rig::{PATIENCE, Rig, kafka::Foreign},
    service::Kind,
    wait,
};

fn mongodb_is_not_up(link: &Link) -> bool {
    link.kind == "mongodb" && link.state != "up"
}

#[test]
fn a_mongodb_killed_again_and_again_loses_and_doubles_nothing() -> Result<()> {
    let mut rig = Rig::new(&[Kind::Mongodb])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..50)?;
    rig.wait_until_stored(50)?;
    for cycle in 1..4 {
        // Some on their way when it goes, some while it is away.
        super::publish(&rig, "press", cycle * 100 - 50..cycle * 100)?;
        rig.service(Kind::Mongodb)?.kill()?;
        super::publish(&rig, "press", cycle * 100..cycle * 100 + 50)?;
        rig.service(Kind::Mongodb)?.start()?;
        rig.service(Kind::Mongodb)?.wait_ready()?;
        rig.wait_until_stored(cycle * 100 + 50)?;
    }
    super::assert_stored_once(&rig, &["press"], 350)?;
    rig.done()
}

#[test]
fn a_mongodb_that_hangs_stops_nothing_before_the_sink() -> Result<()> {
    let mut rig = Rig::new(&[Kind::Mongodb])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..50)?;
    rig.wait_until_stored(50)?;
    rig.service(Kind::Mongodb)?.freeze()?;
    super::publish(&rig, "press", 50..300)?;
    rig.wait_agent("everything to be in Kafka", |agent| {
        agent.balance.acknowledged == 300
    })?;
    rig.wait_sink("the sink to notice", |sink| {
        sink.links.iter().any(mongodb_is_not_up) && !sink.ready
    })?;
    rig.service(Kind::Mongodb)?.thaw()?;
    rig.wait_until_stored(300)?;
    rig.wait_sink("ready", |sink| sink.ready)?;
    super::assert_stored_once(&rig, &["press"], 300)?;
    rig.done()
}

#[test]
fn what_cannot_be_a_document_becomes_a_dead_letter_and_the_rest_goes_on() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let ours = rig.name().to_owned();
    let newer: &[(&str, &[u8])] = &[("ce_specversion", b"1.0"), ("ce_type", b"edge.reading.v9")];
    let dead: [Foreign<'_>; 5] = [
        foreign("somebody", b"no JSON at all"),
        foreign("somebody", b"\xff\xfe\x00\x01"),
        foreign("somebody", b""),
        foreign("somebody", b"{\"temperature_c\": 21.5}"),
        Foreign {
            key: &ours,
            value: b"{\"v\": 9}",
            headers: newer,
        },
    ];
    let guest = foreign(
        "somebody",
        b"{\"device\": \"guest\", \"temperature_c\": 21.5}",
    );
    rig.kafka.write(rig.kafka.readings(), &dead)?;
    rig.kafka.write(rig.kafka.readings(), &[guest])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..20)?;
    // The guest's document beside ours.
    rig.wait_until_stored(21)?;
    let mut letters = Vec::new();
    wait::until_true("the dead letters", PATIENCE, || {
        letters = rig.kafka.read_all(rig.kafka.dead_letters())?;
        Ok(letters.len() >= dead.len())
    })?;
    ensure!(
        letters.len() == dead.len(),
        "{} dead letters",
        letters.len()
    );
    for letter in &letters {
        let original = dead.iter().any(|dead| dead.value == letter.value);
        ensure!(original, "a dead letter was altered: {letter:?}");
        let topic = letter.header("edge_dead_topic").context("its origin")?;
        ensure!(topic == rig.kafka.readings().as_bytes(), "{letter:?}");
        letter.header("edge_dead_reason").context("its reason")?;
    }
    let newer = letters.iter().find(|letter| letter.value == b"{\"v\": 9}");
    let reason = newer.and_then(|letter| letter.header("edge_dead_reason"));
    ensure!(reason == Some(b"version_unknown"), "{newer:?}");
    rig.done()
}

fn foreign<'a>(key: &'a str, value: &'a [u8]) -> Foreign<'a> {
    Foreign {
        key,
        value,
        headers: &[],
    }
}
