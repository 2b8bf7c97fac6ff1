//! Row 29 from the sink's side: Kafka and MongoDB are well, and the way to them is not.

use std::time::Duration;

use anyhow::Result;
use harness::{
    link::{Link, Quality},
    rig::{PATIENCE, Rig},
    service::Kind,
    wait,
};

const SEED: u64 = 29;

const SLOW: Quality = Quality {
    latency: Duration::from_millis(20),
    bytes_per_second: 500_000,
    loses_one_in: 0,
    breaks_one_in: 0,
};
const LOSING: Quality = Quality {
    loses_one_in: 8,
    ..SLOW
};
const BREAKING: Quality = Quality {
    breaks_one_in: 12,
    ..LOSING
};

/// Connections that break before the link is well again.
const BREAKS: u64 = 5;

/// Publishes while the link gets worse and is cut, and waits for each part to arrive.
fn play(rig: &Rig, link: &Link) -> Result<u64> {
    let mut sent = 50;
    super::publish(rig, "press", 0..sent)?;
    rig.wait_until_stored(sent)?;
    for quality in [SLOW, LOSING, BREAKING] {
        link.set(quality);
        super::publish(rig, "press", sent..sent + 150)?;
        link.down();
        super::publish(rig, "press", sent + 150..sent + 300)?;
        link.up();
        sent += 300;
        // A connection takes some exchanges to be made; where one piece in twelve breaks it, that might take for ever.
        if quality.breaks_one_in == 0 {
            rig.wait_until_stored(sent)?;
        }
    }
    // How many pieces pass is the machine's matter, so the dice get more of them until each fault has come.
    for (fault, times) in [("segment-lost", 1), ("connection-broken", BREAKS)] {
        wait::until_true(fault, PATIENCE, || {
            super::publish(rig, "press", sent..sent + 10)?;
            sent += 10;
            Ok(link.faults().get(fault) >= Some(&times))
        })?;
    }
    link.set(Quality::default());
    rig.wait_until_stored(sent)?;
    eprintln!("{:?}", link.faults());
    Ok(sent)
}

#[test]
fn a_bad_link_between_kafka_and_both_daemons_costs_nothing() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(super::MQTT)?;
    let link = Link::to(rig.address(Kind::Kafka), SEED)?;
    rig.agent.set_environment(link.detour()?);
    rig.sink.set_environment(link.detour()?);
    rig.agent.start()?;
    rig.sink.start()?;
    let sent = play(&rig, &link)?;
    super::assert_all_is_well(&mut rig, &["press"], sent)?;
    rig.done()
}

#[test]
fn a_bad_link_between_the_sink_and_mongodb_costs_nothing() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(super::MQTT)?;
    let link = super::link_to_mongodb(&rig, SEED)?;
    rig.agent.start()?;
    rig.sink.start()?;
    let sent = play(&rig, &link)?;
    super::assert_all_is_well(&mut rig, &["press"], sent)?;
    rig.done()
}
