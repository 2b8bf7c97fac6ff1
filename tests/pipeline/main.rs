//! The end-to-end suite: the real daemons as processes, real services, and one promise a test.
//!
//! Each test has a [`harness::rig::Rig`] of its own, so all run side by side. Those in
//! `on_the_stack` need Kafka, Mosquitto and MongoDB: `dev/test` starts them, or `dev/stack up`.
//! Where a test must take a service away, it starts one of its own.

mod configuration;
mod demo;
mod documentation;
mod embedded;
mod faults_agent;
mod faults_kafka;
mod faults_mqtt;
mod faults_serial;
mod looking;
mod secrets;

mod on_the_stack {
    mod audit;
    mod bad_input;
    mod confluent;
    mod faults_sink;
    mod house;
    mod kafka_away;
    mod mongodb_away;
    mod mqtt;
    mod mqtt_brokers;
    mod restarts;
    mod serial;
    mod shutdown;
    mod sink_catalogue;
    mod sink_dead_letters;
    mod whole_way;

    use anyhow::{Result, ensure};
    use harness::rig::{Rig, kafka::RawRecord};
    use std::collections::{BTreeMap, BTreeSet};

    /// Devices that publish JSON with a sequence under `{{rig}}/DEVICE/state`.
    pub const MQTT: &str = r#"
[[mqtt]]
name = "house"
url = "{{mqtt}}"
subscribe = [ { topic = "{{rig}}/{device}/state", preset = "json", sequence = "seq", boot = "boot" } ]
"#;

    /// A payload for [`MQTT`] whose value is a function of its sequence.
    pub fn payload(sequence: u64) -> String {
        format!(r#"{{"boot":1,"seq":{sequence},"power_w":{sequence}.5}}"#)
    }

    /// Publishes readings `range` of a device and waits for the broker.
    pub fn publish(rig: &Rig, device: &str, range: std::ops::Range<u64>) -> Result<()> {
        let publisher = rig.publisher(device)?;
        let topic = format!("{}/{device}/state", rig.name());
        let count = usize::try_from(range.end - range.start)?;
        for sequence in range {
            publisher.publish(&topic, payload(sequence))?;
        }
        publisher.wait_acknowledged(count)
    }

    /// Every reading of `devices` is a document exactly once, unaltered.
    pub fn assert_stored_once(rig: &Rig, devices: &[&str], readings: u64) -> Result<()> {
        let documents = rig.documents.readings_by_id()?;
        let mut found = BTreeSet::new();
        for document in &documents {
            let device = document.get_document("meta")?.get_str("device")?;
            let sequence = document.get_document("src")?.get_i64("seq")?;
            let power = document.get_f64("power_w")?;
            ensure!(power == sequence as f64 + 0.5, "altered: {document}");
            ensure!(
                found.insert((device.to_owned(), sequence)),
                "twice: {document}"
            );
        }
        for device in devices {
            for sequence in 0..readings {
                let key = ((*device).to_owned(), i64::try_from(sequence)?);
                ensure!(found.remove(&key), "{device} {sequence} is missing");
            }
        }
        ensure!(found.is_empty(), "never sent: {found:?}");
        Ok(())
    }

    /// Within Kafka each device's readings are in the order of its sequence; a reading sent again
    /// counts where it came first.
    pub fn assert_in_order(records: &[RawRecord]) -> Result<()> {
        let mut seen = BTreeSet::new();
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        for record in records {
            let reading = record.reading()?.reading;
            let Some(source) = reading.source else {
                continue;
            };
            let device = reading.device.to_string();
            let sequence = source.sequence;
            if seen.insert((device.clone(), sequence)) {
                let before = newest.insert(device.clone(), sequence);
                ensure!(
                    before.is_none_or(|before| before < sequence),
                    "{device}: {sequence} comes after {before:?}"
                );
            }
        }
        Ok(())
    }
}
