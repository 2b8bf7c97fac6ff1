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
    super::assert_all_is_well(&mut rig, &["press"], 350)?;
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
    super::assert_all_is_well(&mut rig, &["press"], 300)?;
    rig.done()
}

/// Such a sink has no partition and has seen no record, and retention goes on.
#[test]
fn a_sink_started_without_mongodb_knows_how_long_retention_leaves_it() -> Result<()> {
    const HOUR: f64 = 3600.0;
    let mut rig = Rig::new(&[Kind::Mongodb])?;
    rig.kafka
        .configure(rig.kafka.readings(), &[("retention.ms", "3600000")])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..20)?;
    rig.wait_until_stored(20)?;
    let status = rig.sink.stop(PATIENCE)?;
    ensure!(status.success(), "{}", rig.sink.end_of_log());
    rig.service(Kind::Mongodb)?.kill()?;
    super::publish(&rig, "press", 20..50)?;
    rig.wait_agent("all of it in Kafka", |agent| {
        agent.balance.acknowledged == 50
    })?;
    rig.sink.start()?;
    // What was read before is not unread: that it was is known to Kafka, too.
    rig.wait_sink("what waits", |sink| sink.lag == Some(30))?;
    let metrics = rig.sink.page("/metrics")?;
    let left: Vec<f64> = metrics
        .lines()
        .filter(|line| line.starts_with("sink_time_to_loss_seconds{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    let is_less = |left: &f64| (0.0..HOUR).contains(left);
    ensure!(left.len() == 1 && left.iter().all(is_less), "{metrics}");
    rig.service(Kind::Mongodb)?.start()?;
    rig.service(Kind::Mongodb)?.wait_ready()?;
    rig.wait_until_stored(50)?;
    rig.wait_sink("nothing that waits", |sink| sink.lag == Some(0))?;
    super::assert_all_is_well(&mut rig, &["press"], 50)?;
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
    let originals = rig.kafka.read_all(rig.kafka.readings())?;
    for letter in &letters {
        let original = originals.iter().find(|one| one.value == letter.value);
        let original = original.with_context(|| format!("altered: {letter:?}"))?;
        for (name, value) in [
            ("edge_dead_topic", rig.kafka.readings().to_owned()),
            ("edge_dead_partition", original.partition.to_string()),
            ("edge_dead_offset", original.offset.to_string()),
        ] {
            ensure!(
                letter.header(name) == Some(value.as_bytes()),
                "{name}: {letter:?}"
            );
        }
        for name in [
            "edge_dead_reason",
            "edge_dead_detail",
            "edge_dead_timestamp",
        ] {
            ensure!(
                letter.header(name).is_some_and(|said| !said.is_empty()),
                "{name}: {letter:?}"
            );
        }
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
