//! Whatever comes, it is counted, named, and everything else goes on.

use anyhow::{Result, ensure};
use harness::rig::Rig;

/// What no decoder takes for a reading.
fn garbage() -> Vec<Vec<u8>> {
    vec![
        b"no JSON".to_vec(),
        b"\xff\xfe\xfd".to_vec(),
        b"[1, 2, 3]".to_vec(),
        b"{\"power_w\": 1e400}".to_vec(),
        b"{\"power_w\": NaN}".to_vec(),
        b"{\"power_w\": 99999999999999999999}".to_vec(),
        [vec![b'['; 50_000], vec![b']'; 50_000]].concat(),
        [vec![b'{'; 300], b"\"a\":1".to_vec(), vec![b'}'; 300]].concat(),
        b"{\"a\":".repeat(200),
    ]
}

#[test]
fn garbage_over_mqtt_is_counted_and_the_rest_goes_on() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    let agent = rig.agent.process()?.identity();
    let publisher = rig.publisher("vandal")?;
    let topic = format!("{}/vandal/state", rig.name());
    let garbage = garbage();
    for (number, payload) in (0..).zip(&garbage) {
        publisher.publish(&topic, payload.clone())?;
        super::publish(&rig, "press", number..number + 1)?;
    }
    // Larger than anything the agent takes: only this one may be missing.
    publisher.publish(&topic, vec![b' '; 2 << 20])?;
    // Names that MQTT allows and nobody wants.
    publisher.publish(&format!("{}/ü b/state", rig.name()), super::payload(0))?;
    publisher.wait_acknowledged(garbage.len() + 2)?;
    let readings = u64::try_from(garbage.len())?;
    super::publish(&rig, "press", readings..readings + 10)?;
    rig.wait_until_stored(readings + 10 + 1)?;
    // What is too large for a packet costs the connection, which is made anew.
    rig.wait_agent("all to be refused", |agent| {
        agent.balance.rejected >= readings && agent.ready
    })?;
    ensure!(
        rig.agent.process()?.identity() == agent,
        "the agent was started again"
    );
    // Everything but what was refused is there, once, in order, and nothing is called lost.
    super::assert_at_rest(&mut rig)?;
    super::assert_in_order(&rig.kafka.read_all(rig.kafka.readings())?)?;
    super::assert_audit_is_clean(&rig, readings + 10 + 1)?;
    rig.done()
}

#[test]
fn garbage_on_a_text_line_is_counted_and_the_next_line_is_read() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(super::CLIMATE)?;
    let mut line = rig.line("climate")?;
    rig.agent.start()?;
    rig.sink.start()?;
    rig.wait_agent("the line", |agent| {
        agent
            .links
            .iter()
            .any(|link| link.kind == "serial" && link.state == "up")
    })?;
    // A line that was not listened to from its beginning is no line.
    line.send(b"\n")?;
    let garbage = garbage();
    for (number, payload) in (0..).zip(&garbage) {
        line.send(payload)?;
        line.send(b"\r\n\n")?;
        line.send(super::payload(number).as_bytes())?;
        line.send(b"\n")?;
    }
    let readings = u64::try_from(garbage.len())?;
    rig.wait_until_stored(readings)?;
    super::assert_stored_once(&rig, &["climate"], readings)?;
    rig.wait_agent("all to be counted", |agent| {
        agent.balance.rejected >= readings
    })?;
    rig.done()
}
