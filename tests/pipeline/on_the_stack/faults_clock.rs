//! Row 40 at Kafka, which keeps records by their stamp: a gateway's wrong clock must not be what counts.

use anyhow::Result;
use harness::{
    rig::{
        PATIENCE, Rig,
        kafka::{Foreign, Kafka},
    },
    service::Kind,
    wait,
    wall_clock::{WallClock, YEAR},
};

#[test]
fn what_a_gateway_with_a_clock_years_behind_sends_is_not_old_for_kafka() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(super::MQTT)?;
    let clock = WallClock::new(rig.dir())?;
    clock.set(-20 * YEAR)?;
    rig.agent.set_environment(clock.environment());
    rig.agent.start()?;
    super::publish(&rig, "press", 0..50)?;
    rig.wait_agent("all of it in Kafka", |agent| {
        agent.balance.acknowledged == 50
    })?;
    // Retention has looked at every topic, and nobody has read yet, when it has taken what came after.
    let witness = format!("{}.witness", rig.name());
    Kafka::create(rig.address(Kind::Kafka), &[(&witness, 1, false)])?;
    rig.kafka.configure(&witness, &[("retention.ms", "1")])?;
    let record = Foreign {
        key: "witness",
        value: b"{}",
        headers: &[],
    };
    rig.kafka.write(&witness, &[record])?;
    wait::until_true(
        "retention",
        PATIENCE,
        || Ok(rig.kafka.count(&witness)? == 0),
    )?;
    rig.sink.start()?;
    rig.wait_until_stored(50)?;
    super::assert_all_is_well(&mut rig, &["press"], 50)?;
    rig.done()
}
