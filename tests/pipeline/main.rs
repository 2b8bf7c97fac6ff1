//! The end-to-end suite: the real daemons as processes, real services, and one promise a test.
//!
//! Each test has a [`harness::rig::Rig`] of its own, so all run side by side. Those in
//! `on_the_stack` need Kafka, Mosquitto and MongoDB: `dev/test` starts them, or `dev/stack up`.
//! Where a test must take a service away, it starts one of its own.

mod commands_alone;
mod configuration;
mod containers;
mod demo;
mod documentation;
mod embedded;
mod faults_agent;
mod faults_audit;
mod faults_chaos;
mod faults_clock;
mod faults_kafka;
mod faults_mqtt;
mod faults_serial;
mod looking;
mod monitoring;
mod packaging;
mod page;
mod places;
mod reload;
mod secrets;
mod supervised;
mod transcript;
mod verdict;

mod on_the_stack {
    mod analysis;
    mod audit;
    mod bad_input;
    mod bench;
    mod config_schema;
    mod confluent;
    mod confluent_page;
    mod faults_certificates;
    mod faults_clock;
    mod faults_devices;
    mod faults_fleet;
    mod faults_ledger;
    mod faults_link;
    mod faults_mongodb;
    mod faults_remade;
    mod faults_sink;
    mod faults_topics;
    mod faults_versions;
    mod house;
    mod kafka_away;
    mod lanes;
    mod mongodb_away;
    mod monitoring;
    mod mqtt;
    mod mqtt_brokers;
    mod page;
    mod progress;
    mod registry;
    mod reload;
    mod restarts;
    mod serial;
    mod shutdown;
    mod sink_catalogue;
    mod sink_dead_letters;
    mod sink_memory;
    mod sink_registered;
    mod timeseries;
    mod walkthrough;
    mod whole_way;

    use anyhow::{Result, ensure};
    use harness::{
        chaos::bench::MEMORY,
        link::Link,
        rig::{Rig, kafka::RawRecord},
        service::Kind,
    };
    use std::{
        collections::{BTreeMap, BTreeSet},
        path::Path,
        process::Command,
    };

    /// What a command of ours says, which is never `secret`, and its exit code.
    pub fn said(
        program: &str,
        arguments: &[&str],
        config: &Path,
        secret: &str,
    ) -> Result<(i32, String)> {
        let output = Command::new(harness::binary(program)?)
            .args(arguments)
            .arg("-c")
            .arg(config)
            .output()?;
        let text = harness::process::said(&output);
        ensure!(!text.contains(secret), "{program} tells a secret:\n{text}");
        Ok((output.status.code().unwrap_or(-1), text))
    }

    /// Devices that publish JSON with a sequence under `{{rig}}/DEVICE/state`.
    pub const MQTT: &str = r#"
[[mqtt]]
name = "house"
url = "{{mqtt}}"
subscribe = [ { topic = "{{rig}}/{device}/state", preset = "json", sequence = "seq", boot = "boot" } ]
"#;

    /// One device on a serial line, `{{dir}}/climate`, that numbers its JSON lines.
    pub const CLIMATE: &str = r#"
[[serial]]
name = "climate"
port = "{{dir}}/climate"
mode = "lines"
format = "json"
device = "climate"
sequence = "seq"
boot = "boot"
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

    /// Puts a link between the sink and MongoDB, from its next start.
    pub fn link_to_mongodb(rig: &Rig, seed: u64) -> Result<Link> {
        let uri = rig.address(Kind::Mongodb);
        let (_, rest) = uri.split_once("://").unwrap_or_default();
        let host = rest.split('/').next().unwrap_or_default();
        let link = Link::to(host, seed)?;
        let config = std::fs::read_to_string(rig.sink.config_file())?;
        rig.sink
            .configure(&config.replace(uri, &uri.replace(host, &link.address())))?;
        Ok(link)
    }

    /// The whole verdict, after the faults: every reading is one document and unaltered (I1, I2, I8), in
    /// order in Kafka (I3), both daemons are within their memory (I4), ready (I6) and have numbers that are
    /// conserved (I7), and the audit finds nothing missing and no loss, by its notes and by counting (I9).
    pub fn assert_all_is_well(rig: &mut Rig, devices: &[&str], readings: u64) -> Result<()> {
        assert_at_rest(rig)?;
        assert_stored_once(rig, devices, readings)?;
        assert_in_order(&rig.kafka.read_all(rig.kafka.readings())?)?;
        assert_audit_is_clean(rig, readings * devices.len() as u64)
    }

    /// I4, I6 and I7, of both daemons.
    pub fn assert_at_rest(rig: &mut Rig) -> Result<()> {
        rig.wait_agent("the agent to be ready", |agent| {
            agent.ready && agent.balance.queued == 0 && agent.balance.uncommitted == 0
        })?;
        rig.wait_sink("the sink to be ready", |sink| {
            sink.ready && sink.balance.in_flight == 0
        })?;
        for daemon in [&mut rig.agent, &mut rig.sink] {
            let peak = daemon.process()?.peak_memory()?;
            ensure!(peak <= MEMORY, "{} MiB of memory", peak >> 20);
        }
        Ok(())
    }

    /// I1, I2 and I9 as an operator would ask: by what the sink noted, and by counting.
    pub fn assert_audit_is_clean(rig: &Rig, readings: u64) -> Result<()> {
        audit::wait_settled(rig, readings)?;
        let counted = audit::audit(rig, &["--full"])?;
        ensure!(counted.code == Some(0), "{}", counted.text);
        ensure!(!counted.text.contains("declared lost"), "{}", counted.text);
        Ok(())
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
