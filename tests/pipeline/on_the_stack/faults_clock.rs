//! Row 40 at Kafka, which keeps records by their stamp: a gateway's wrong clock must not be what counts.

use std::time::Duration;

use anyhow::Result;
use harness::{
    rig::Rig,
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
    rig.wait_agent("the broker", super::mqtt_is_up)?;
    super::publish(&rig, "press", 0..50)?;
    rig.wait_agent("all of it in Kafka", |agent| {
        agent.balance.acknowledged == 50
    })?;
    // Time is the fault: Kafka looks for what is too old, here once a second, and nobody has read it yet.
    // In a topic that gateways stamp, all of it is gone by now.
    std::thread::sleep(Duration::from_secs(4));
    rig.sink.start()?;
    rig.wait_until_stored(50)?;
    super::assert_all_is_well(&mut rig, &["press"], 50)?;
    rig.done()
}
