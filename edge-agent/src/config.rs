//! What an operator may set. Each field's doc is its reference, with its default.
//!
//! The types are what the rest of the agent sees: complete, checked, without a "maybe". Each table has a module,
//! which holds its types and reads them from TOML; `sections` reads the file as a whole, with every mistake and
//! its place. [`protocol_host::config`] is the reading itself, `value` the agent's own rules for one value.

mod kafka;
mod limits;
mod lines;
mod modbus;
mod mqtt;
mod process;
mod promises;
mod queue;
mod roles;
mod sections;
mod serial;
mod show;
mod sources;
mod subscription;
mod topics;
mod value;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use protocol::{GatewayId, Metadata, Topic, schema::Declaration};
use protocol_host::config::{
    document::{self, Document},
    schema,
};

pub use self::{
    kafka::{Kafka, ValueFormat},
    limits::{Bounds, Limits, Window},
    lines::{LineFormat, Lines},
    modbus::{ModbusTcp, Polled, PolledDevice},
    mqtt::{MAX_INFLIGHT, Mqtt, MqttUrl, MqttVersion},
    queue::{Queue, WhenFull},
    roles::{MessageKeys, Roles, TimeFormat},
    serial::{Framing, Parity, Serial, SerialDevice, SerialMode},
    subscription::{MqttPreset, Subscription},
    topics::{Schemas, TopicSettings},
    value::{show_bytes, show_duration},
};
pub use protocol_host::{
    config::{Secrets, document::Problem, kafka::Client},
    registry::Language,
    secret::Secret,
};

/// An annotated file: what has to be set, and every default as a comment.
pub const SAMPLE: &str = include_str!("config/sample.toml");

/// Reads the configuration.
///
/// # Errors
/// Every problem there is, in the order of the file.
pub fn load(path: &Path, secrets: Secrets) -> Result<Config, Vec<Problem>> {
    let text = document::read(path, "edge-agent")?;
    parse(path, &text, secrets)
}

/// The same of a text that was read from `path`.
///
/// # Errors
/// Every problem there is, in the order of the file.
pub fn parse(path: &Path, text: &str, secrets: Secrets) -> Result<Config, Vec<Problem>> {
    let doc = Document::new(path, text);
    match sections::read(&doc, secrets) {
        Some(config) => Ok(config),
        None => Err(doc.into_problems()),
    }
}

/// A JSON Schema of the configuration, for editors.
#[must_use]
pub fn schema() -> serde_json::Value {
    schema::of("edge-agent", SAMPLE, |doc| {
        let _ = sections::read(doc, Secrets::Leave);
    })
}

/// Reads the keys of a `[[serial]]` with `mode = "lines"` from the top of a file, `format` already chosen;
/// none is required but what the format itself needs.
///
/// # Errors
/// Every problem there is, in the order of the file.
pub fn lines(path: &Path, text: &str, format: &'static str) -> Result<Lines, Vec<Problem>> {
    let doc = Document::new(path, text);
    let root = doc.parse();
    let lines = lines::lines_of(&document::Table::root(&doc, &root), format);
    match lines.filter(|_| doc.is_clean()) {
        Some(lines) => Ok(lines),
        None => Err(doc.into_problems()),
    }
}

/// Reads the keys of a `[[mqtt.subscribe]]` from the top of a file; none is required.
///
/// # Errors
/// Every problem there is, in the order of the file.
pub fn message(path: &Path, text: &str) -> Result<MessageKeys, Vec<Problem>> {
    let doc = Document::new(path, text);
    let root = doc.parse();
    let keys = roles::message(&document::Table::root(&doc, &root));
    if doc.is_clean() {
        Ok(keys)
    } else {
        Err(doc.into_problems())
    }
}

/// Everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[agent]`: this box.
    pub agent: Agent,
    /// `[[serial]]`: serial lines.
    pub serial: Vec<Serial>,
    /// `[[modbus]]`: Modbus TCP servers.
    pub modbus: Vec<ModbusTcp>,
    /// `[[mqtt]]`: brokers.
    pub mqtt: Vec<Mqtt>,
    /// `[[process]]`: what happens to readings in front of the queue.
    pub process: Vec<crate::process::Rule>,
    /// `[queue]`: the disk between sources and Kafka.
    pub queue: Queue,
    /// `[kafka]`: the uplink.
    pub kafka: Kafka,
    /// `[registry]`, beside what both daemons have there: how schemas come into it.
    pub schemas: Schemas,
    /// `[[topic]]`: what is different for a topic: how its readings are written, its lane of the queue, what
    /// holds it back.
    pub topics: Vec<TopicSettings>,
    /// `[status]`: health, metrics.
    pub status: Status,
}

impl Config {
    /// Every topic that a source writes to, each once: the lanes.
    pub fn lanes(&self) -> impl Iterator<Item = &Topic> {
        let serial = self.serial.iter().map(|serial| &serial.topic);
        let modbus = self.modbus.iter().map(|modbus| &modbus.topic);
        let mqtt = self.mqtt.iter().flat_map(|mqtt| &mqtt.subscribe);
        let topics = serial
            .chain(modbus)
            .chain(mqtt.map(|subscription| &subscription.kafka_topic));
        topics.collect::<BTreeSet<_>>().into_iter()
    }

    /// How the values of a topic are written, and what its readings are declared to have.
    #[must_use]
    pub fn value_of(&self, topic: &Topic) -> (ValueFormat, Declaration) {
        let set = self.topics.iter().find(|set| set.name == *topic);
        let value = set.and_then(|set| set.value).unwrap_or(self.kafka.value);
        let fields = set.map(|set| set.fields.clone());
        (value, fields.unwrap_or_default())
    }

    /// `[queue]`, as it is for the lane of a topic.
    #[must_use]
    pub fn queue_of(&self, topic: &Topic) -> Queue {
        match self.topics.iter().find(|set| set.name == *topic) {
            Some(set) => set.bounds.over(&self.queue),
            None => self.queue.clone(),
        }
    }

    /// What holds the lane of a topic back.
    #[must_use]
    pub fn limits_of(&self, topic: &Topic) -> Limits {
        let set = self.topics.iter().find(|set| set.name == *topic);
        set.map(|set| set.limits.clone()).unwrap_or_default()
    }

    /// Nothing will be read. No mistake: an agent that only drains its queue is of use.
    #[must_use]
    pub fn has_no_source(&self) -> bool {
        self.serial.is_empty() && self.modbus.is_empty() && self.mqtt.is_empty()
    }
}

/// `[agent]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// Names this box in every id; required.
    pub gateway: GatewayId,
    /// Queue, quarantine and state live here; default `/var/lib/edge-agent`.
    pub state_dir: PathBuf,
    /// How long SIGTERM may take to drain; default 10 s.
    pub shutdown_timeout: Duration,
    /// Static metadata of every reading, such as `site`; default none.
    pub meta: Metadata,
}

/// `[status]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Address for the page at `/`, `/livez`, `/readyz`, `/status.json` and `/metrics`; default `127.0.0.1:9600`;
    /// `off` for none.
    pub listen: Option<std::net::SocketAddr>,
}

#[cfg(test)]
mod tests;
