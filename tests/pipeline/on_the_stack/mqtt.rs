//! Acknowledgement and redelivery over MQTT, against a broker played by hand.

use std::{
    collections::BTreeSet,
    sync::mpsc::{Receiver, channel},
};

use anyhow::{Context, Result, ensure};
use harness::{
    rig::{PATIENCE, Rig, broker::Broker},
    service::Kind,
};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;

/// Like [`super::MQTT`], without a sequence in the payload: all there is, is the packet.
const WITHOUT_SEQUENCE: &str = r#"
[[mqtt]]
name = "house"
url = "{{broker}}"
subscribe = [ { topic = "{{rig}}/{device}/state", preset = "json" } ]
"#;

fn with_broker(sources: &str, broker: &Broker) -> Result<String> {
    Ok(sources
        .replace("{{mqtt}}", &broker.url()?)
        .replace("{{broker}}", &broker.url()?))
}

#[test]
fn a_message_that_was_acknowledged_survives_kill_9_of_the_agent() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let broker = Broker::listen()?;
    rig.configure_agent(&with_broker(super::MQTT, &broker)?)?;
    let topic = format!("{}/press/state", rig.name());
    let mut sequence = 0;
    for cycle in 0..6 {
        rig.agent.start()?;
        let mut session = broker.accept(cycle > 0)?;
        // In a burst, so that the kill meets commits at all stages; the last that was acknowledged
        // tells which ones the agent has promised, since PUBACKs go out in order.
        for packet in 1..=50_u16 {
            let payload = super::payload(sequence + u64::from(packet) - 1);
            session.deliver(packet, false, &topic, payload.as_bytes())?;
        }
        session.wait_ack(20)?;
        rig.agent.kill()?;
        sequence += 50;
        // What was not acknowledged comes again from a broker; here it may be missing, so the next
        // burst begins where nothing is owed.
    }
    rig.agent.start()?;
    rig.sink.start()?;
    drop(broker.accept(true)?);
    rig.wait_agent("an empty queue", |agent| agent.balance.queued == 0)?;
    let records = rig.kafka.read_all(rig.kafka.readings())?;
    let ids: BTreeSet<_> = records
        .iter()
        .map(|record| record.header("ce_id"))
        .collect();
    rig.wait_until_stored(u64::try_from(ids.len())?)?;
    let documents = rig.documents.readings_by_id()?;
    let mut stored = Vec::new();
    for document in &documents {
        stored.push(document.get_document("src")?.get_i64("seq")?);
    }
    for cycle in 0..6 {
        for promised in cycle * 50..cycle * 50 + 20 {
            let copies = stored
                .iter()
                .filter(|&&sequence| sequence == promised)
                .count();
            ensure!(copies == 1, "reading {promised} is stored {copies} times");
        }
    }
    rig.done()
}

#[test]
fn a_message_redelivered_after_a_crash_is_stored_once() -> Result<()> {
    for sources in [super::MQTT, WITHOUT_SEQUENCE] {
        let mut rig = Rig::new(&[])?;
        let broker = Broker::listen()?;
        rig.configure_agent(&with_broker(sources, &broker)?)?;
        let topic = format!("{}/press/state", rig.name());
        rig.agent.start()?;
        rig.sink.start()?;
        let mut session = broker.accept(false)?;
        for packet in 1..=3 {
            let payload = super::payload(u64::from(packet) - 1);
            session.deliver(packet, false, &topic, payload.as_bytes())?;
            session.wait_ack(packet)?;
        }
        rig.wait_until_stored(3)?;
        rig.agent.kill()?;
        drop(session);
        // As if the PUBACKs had been lost, these and then those of the repetitions: the standard makes the
        // broker send all again on each connection.
        rig.agent.start()?;
        let mut session = broker.accept(true)?;
        for connection in 0..3 {
            if connection > 0 {
                drop(session);
                session = broker.accept(true)?;
            }
            for packet in 1..=3 {
                let payload = super::payload(u64::from(packet) - 1);
                session.deliver(packet, true, &topic, payload.as_bytes())?;
                session.wait_ack(packet)?;
            }
        }
        session.deliver(4, false, &topic, super::payload(3).as_bytes())?;
        session.wait_ack(4)?;
        rig.wait_until_stored(4)?;
        rig.wait_agent("an empty queue", |agent| agent.balance.queued == 0)?;
        let stored = rig.documents.count()?;
        ensure!(stored == 4, "{stored} documents of 4 messages");
        let retransmitted = rig.agent_status()?.balance.retransmitted;
        ensure!(retransmitted == 9, "{retransmitted} of 9 were recognised");
        super::assert_at_rest(&mut rig)?;
        super::assert_audit_is_clean(&rig, 4)?;
        rig.done()?;
    }
    Ok(())
}

#[test]
fn acknowledgements_go_out_in_the_order_of_arrival() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let broker = Broker::listen()?;
    rig.configure_agent(&with_broker(super::MQTT, &broker)?)?;
    let topic = format!("{}/press/state", rig.name());
    rig.agent.start()?;
    let mut session = broker.accept(false)?;
    for packet in 1..=100_u16 {
        // Every third is refused by ingest, which knows so before the others are durable.
        let payload = match packet % 3 {
            0 => "no JSON".to_owned(),
            _ => super::payload(packet.into()),
        };
        session.deliver(packet, false, &topic, payload.as_bytes())?;
    }
    let mut acks = Vec::new();
    while acks.len() < 100 {
        match session.next_ack(PATIENCE)? {
            Some(ack) => acks.push(ack),
            None => break,
        }
    }
    ensure!(acks == (1..=100).collect::<Vec<u16>>(), "{acks:?}");
    rig.done()
}

#[test]
fn messages_sent_while_the_agent_is_away_arrive_when_it_is_back() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..1)?;
    rig.wait_until_stored(1)?;
    rig.agent.kill()?;
    super::publish(&rig, "press", 1..200)?;
    rig.agent.start()?;
    rig.wait_until_stored(200)?;
    super::assert_stored_once(&rig, &["press"], 200)?;
    rig.done()
}

/// What is retained under a topic, as it changes.
fn listen(address: &str, topic: &str) -> Result<Receiver<Value>> {
    let address = address.strip_prefix("mqtt://").context("no mqtt://")?;
    let (host, port) = address.rsplit_once(':').context("no host:port")?;
    let mut options = MqttOptions::new(format!("listener of {topic}"), host, port.parse::<u16>()?);
    options.set_max_packet_size(8 << 20, 8 << 20);
    let (client, mut connection) = Client::new(options, 10);
    client.subscribe(topic, QoS::AtLeastOnce)?;
    let (to, said) = channel();
    std::thread::spawn(move || {
        // It lives as long as somebody asks.
        let _client = client;
        for event in connection.iter() {
            if let Ok(Event::Incoming(Packet::Publish(publish))) = event {
                let json = serde_json::from_slice(&publish.payload).unwrap_or_default();
                if to.send(json).is_err() {
                    return;
                }
            }
        }
    });
    Ok(said)
}

#[test]
fn a_gateway_that_is_killed_is_offline_at_the_broker_and_one_that_stops_says_so() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let topic = format!("{}-status/{{gateway}}", rig.name());
    let told = format!("{}status_topic = \"{topic}\"\n", super::MQTT);
    rig.configure_agent(&told)?;
    let said = listen(
        rig.address(Kind::Mosquitto),
        &topic.replace("{gateway}", "+"),
    )?;
    let wait = |what: &str, is: &dyn Fn(&Value) -> bool| -> Result<Value> {
        let mut heard = Vec::new();
        loop {
            let said = said.recv_timeout(PATIENCE);
            let said = said.with_context(|| format!("{what}, but {heard:?}"))?;
            if is(&said) {
                return Ok(said);
            }
            heard.push(said);
        }
    };
    let state = |said: &Value| format!("{} {}", said["state"], said["reason"]).replace('"', "");
    rig.agent.start()?;
    let online = wait("online", &|said| said["ready"] == true)?;
    ensure!(
        online["state"] == "online" && online["queued"].is_u64(),
        "{online}"
    );
    ensure!(online["down"] == serde_json::json!([]), "{online}");
    rig.agent.kill()?;
    wait("the will", &|said| state(said) == "offline connection lost")?;
    rig.agent.start()?;
    wait("online again", &|said| said["state"] == "online")?;
    rig.agent.stop(PATIENCE)?;
    wait("the farewell", &|said| state(said) == "offline stopped")?;
    rig.done()
}

/// Row 17, with a real broker: what it had delivered may come again once it is back, or may not.
#[test]
fn a_broker_that_is_killed_and_comes_back_costs_and_doubles_nothing() -> Result<()> {
    let mut rig = Rig::new(&[Kind::Mosquitto])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    let mut sent = 0;
    for _ in 0..3 {
        super::publish(&rig, "press", sent..sent + 100)?;
        sent += 100;
        // What the broker had not delivered goes with it, and is nobody's promise.
        rig.wait_agent("all of it", |agent| agent.balance.received >= sent)?;
        rig.service(Kind::Mosquitto)?.kill()?;
        rig.wait_agent("the loss of the broker", |agent| {
            !agent.mqtt_is_up() && !agent.ready
        })?;
        rig.service(Kind::Mosquitto)?.start()?;
        rig.service(Kind::Mosquitto)?.wait_ready()?;
        rig.wait_agent("its return", |agent| agent.mqtt_is_up())?;
    }
    super::publish(&rig, "press", sent..sent + 10)?;
    rig.wait_until_stored(sent + 10)?;
    super::assert_all_is_well(&mut rig, &["press"], sent + 10)?;
    rig.done()
}
