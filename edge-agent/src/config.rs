//! What an operator may set. Each field's doc is its reference, with its default.
//!
//! The types here are what the rest of the agent sees: complete, checked, without a "maybe". Reading
//! them from TOML, with every mistake and its place, is [`load`]: [`protocol_host::config`] is the reading,
//! `value` the agent's own rules for one value, `sections`, `sources`, `payload`, `kafka`, `topics` and
//! `limits` the tables and what they have to agree on.

mod kafka;
mod limits;
mod payload;
mod process;
mod promises;
mod sections;
mod show;
mod sources;
mod topics;
mod value;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use protocol::{DeviceId, FieldName, GatewayId, Metadata, Topic, schema::Declaration};

pub use limits::{Bounds, Limits, Window};
pub use protocol_host::{
    config::{Secrets, document::Problem, kafka::Client},
    registry::Language,
    secret::Secret,
};
pub use value::{show_bytes, show_duration};

use crate::decode::{pattern::Pattern, preset::Preset, time::TimePattern};
use protocol_host::config::{
    document::{self, Document},
    schema,
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
    let lines = payload::lines_of(&document::Table::root(&doc, &root), format);
    match lines.filter(|_| doc.is_clean()) {
        Some(lines) => Ok(lines),
        None => Err(doc.into_problems()),
    }
}

/// What may be said of one MQTT message that is read by itself: the keys of `[[mqtt.subscribe]]` that are about
/// reading.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MessageKeys {
    /// The template its topic is of.
    pub topic: Option<String>,
    /// The zone of times that name none.
    pub timezone: Option<jiff::tz::TimeZone>,
    /// Which members of JSON are not values.
    pub roles: Roles,
    /// Only these members of JSON, by path.
    pub fields: Vec<(FieldName, String)>,
    /// The device, where nothing else names it.
    pub device: Option<DeviceId>,
    /// The field of a `number`.
    pub field: Option<FieldName>,
}

/// Reads the keys of a `[[mqtt.subscribe]]` from the top of a file; none is required.
///
/// # Errors
/// Every problem there is, in the order of the file.
pub fn message(path: &Path, text: &str) -> Result<MessageKeys, Vec<Problem>> {
    let doc = Document::new(path, text);
    let root = doc.parse();
    let keys = sources::message(&document::Table::root(&doc, &root));
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

/// One of `[[serial]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Serial {
    /// Names the source in logs and metrics; required, unique.
    pub name: String,
    /// Device file; prefer `/dev/serial/by-id/…`, which survives replugging.
    pub port: PathBuf,
    /// Speed in baud; default 115 200.
    pub baud: u32,
    /// Data bits, parity and stop bits, default `8N1`; meters of DSMR 2.2 and 3 speak `7E1`.
    pub framing: Framing,
    /// Whether the driver switches the direction of an RS-485 line; default false, for most adapters do it
    /// themselves.
    pub rs485: bool,
    /// How the line speaks; required.
    pub mode: SerialMode,
    /// Where its readings go; default `kafka.topic`.
    pub topic: Topic,
    /// Static metadata of its readings; default none.
    pub meta: Metadata,
}

/// One of `[[modbus]]`: a Modbus TCP server, or a gateway to a serial line.
#[derive(Debug, Clone, PartialEq)]
pub struct ModbusTcp {
    /// Names the source in logs and metrics; required, unique.
    pub name: String,
    /// Name or address, from `address = "10.0.0.7:502"`; required.
    pub host: String,
    /// Default 502.
    pub port: u16,
    /// Who is asked, and how: `[[modbus.device]]`; `timeout` is 1 s by default.
    pub polled: Polled,
    /// Where its readings go; default `kafka.topic`.
    pub topic: Topic,
    /// Static metadata of its readings; default none.
    pub meta: Metadata,
}

/// How a byte is sent on a serial line: `8N1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    /// 5 to 8.
    pub data_bits: u8,
    /// None, even or odd.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// The parity of a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// `N`.
    None,
    /// `E`.
    Even,
    /// `O`.
    Odd,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            data_bits: 8,
            parity: Parity::None,
            stop_bits: 1,
        }
    }
}

impl std::str::FromStr for Framing {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let &[data @ b'5'..=b'8', parity, stop @ b'1'..=b'2'] = text.as_bytes() else {
            return Err(framing_rule(text));
        };
        let parity = match parity {
            b'N' | b'n' => Parity::None,
            b'E' | b'e' => Parity::Even,
            b'O' | b'o' => Parity::Odd,
            _ => return Err(framing_rule(text)),
        };
        Ok(Self {
            data_bits: data - b'0',
            parity,
            stop_bits: stop - b'0',
        })
    }
}

fn framing_rule(text: &str) -> String {
    format!(
        "must be data bits 5 to 8, parity N, E or O, and stop bits 1 or 2, as in \"8N1\", not \"{text}\""
    )
}

impl std::fmt::Display for Framing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parity = match self.parity {
            Parity::None => 'N',
            Parity::Even => 'E',
            Parity::Odd => 'O',
        };
        write!(f, "{}{parity}{}", self.data_bits, self.stop_bits)
    }
}

/// How a serial line speaks.
#[derive(Debug, Clone, PartialEq)]
pub enum SerialMode {
    /// `mode = "frames"`: our protocol, docs/protocol.md.
    Frames,
    /// `mode = "lines"`: one reading a line of text.
    Lines(Lines),
    /// `mode = "nmea" | "dsmr" | "ve-direct" | "pms5003" | …`: what such a device says by itself, docs/devices.md.
    Device(SerialDevice),
    /// `mode = "modbus" | "mh-z19"`: devices that speak when they are asked.
    Polled(Polled),
}

/// `mode = "modbus" | "mh-z19"`: devices that speak when they are asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Polled {
    /// The word after `mode`.
    pub name: &'static str,
    /// How long a device may take to begin its answer; default 300 ms.
    pub timeout: Duration,
    /// Silence between an answer and the next question; default 20 ms.
    pub turnaround: Duration,
    /// How often a question is put again; default 1.
    pub retries: u8,
    /// Who is asked, at least one.
    pub devices: Vec<PolledDevice>,
}

/// One of `[[serial.device]]`, or the device of a `mode` that has only one.
#[derive(Debug, Clone, PartialEq)]
pub struct PolledDevice {
    /// Who measures; required.
    pub id: DeviceId,
    /// Modbus address; default 1.
    pub unit: u8,
    /// The registers of `profile`, required for Modbus, or what else the device speaks.
    pub preset: Preset,
    /// Time from one round of questions to the next; default 10 s.
    pub every: Duration,
}

/// A mode that is the name of what a device speaks.
#[derive(Debug, Clone, PartialEq)]
pub struct SerialDevice {
    /// The word after `mode`.
    pub name: &'static str,
    /// What it stands for.
    pub preset: Preset,
    /// Who measures; required. Meters behind a DSMR meter keep their own names.
    pub device: DeviceId,
}

/// `mode = "lines"`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lines {
    /// Who measures on this line; required unless `fields.device` names a member that says so.
    pub device: Option<DeviceId>,
    /// How a line is read: `format = "json" | "key-value" | "csv" | "influx" | "regex"`.
    pub format: LineFormat,
    /// Which members of a line are not values.
    pub roles: Roles,
    /// Longest line in bytes; longer ones are rejected; default 4 096.
    pub max_line_bytes: usize,
}

/// How a line of text is read.
#[derive(Debug, Clone, PartialEq)]
pub enum LineFormat {
    /// One JSON object.
    Json,
    /// `temperature_c=21.5 humidity_pct=40`, separated by spaces or commas.
    KeyValue,
    /// Values only, in the order of `columns`; an empty column name is skipped.
    Csv {
        /// `separator`, default `,`.
        separator: u8,
        /// `columns`, required.
        columns: Vec<String>,
    },
    /// InfluxDB line protocol: `weather,room=cellar temperature=21.5 1465839830100400200`.
    Influx,
    /// Whatever `pattern`, a regular expression, has named groups for.
    Regex(Pattern),
}

/// Which members of a payload are not values. Each is the member's name, absent by default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Roles {
    /// `device = { field = "id" }`: the device's name.
    pub device: Option<String>,
    /// `time = "ts"`: when it was measured.
    pub time: Option<String>,
    /// `time_format`: how to read it; default RFC 3339.
    pub time_format: TimeFormat,
    /// `sequence = "seq"`: the device's own number, by which a retransmission is recognised.
    pub sequence: Option<String>,
    /// `boot = "boot"`: what changes from start to start of the device; without it boot is 0.
    pub boot: Option<String>,
}

/// How a time is written.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum TimeFormat {
    /// `"rfc3339"`: `2026-11-23T21:04:07.113Z`.
    #[default]
    Rfc3339,
    /// `"unix-seconds"`: since 1970, with decimals or without.
    UnixSeconds,
    /// `"unix-millis"`: since 1970.
    UnixMillis,
    /// `"unix-micros"`: since 1970.
    UnixMicros,
    /// `"unix-nanos"`: since 1970.
    UnixNanos,
    /// `{ pattern = "%d.%m.%Y %H:%M:%S", zone = "Europe/Berlin" }`: strftime's letters; the zone counts where
    /// the text has no offset of its own, default UTC.
    Pattern(TimePattern),
}

/// One of `[[mqtt]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mqtt {
    /// Names the source in logs and metrics; required, unique.
    pub name: String,
    /// `mqtt://host:1883` or `mqtts://host:8883`; required.
    pub url: MqttUrl,
    /// Session name at the broker; default `edge-agent-{gateway}-{name}`; must stay the same.
    pub client_id: String,
    /// User, default none.
    pub username: Option<String>,
    /// `{ credential = "name" } | { file = "/path" } | { env = "NAME" }`, default none.
    pub password: Option<Secret>,
    /// PEM file of the authority that signed the broker's certificate; default the system's.
    pub tls_ca: Option<PathBuf>,
    /// PEM file of our own certificate, where the broker asks for one; default none.
    pub tls_cert: Option<PathBuf>,
    /// PEM file of its key, PKCS#8 without a password; default none.
    pub tls_key: Option<PathBuf>,
    /// Whether a broker on another machine may be reached without TLS; default false.
    pub allow_plaintext: bool,
    /// Of the protocol: `3.1.1` (default) or `5`.
    pub version: MqttVersion,
    /// Version 5: how long the broker keeps messages for us while we are away; default 30 d.
    pub session_expiry: Duration,
    /// Largest packet taken; larger ones are refused without stopping the others; default 1 MiB.
    pub max_packet_bytes: usize,
    /// Messages taken but not yet acknowledged; default 1000.
    pub max_inflight: u16,
    /// Where the gateway leaves a retained message on how it is, with a will; `{gateway}` stands for its name;
    /// default none: it only listens.
    pub status_topic: Option<String>,
    /// What to listen to; at least one.
    pub subscribe: Vec<Subscription>,
}

/// Version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MqttVersion {
    /// 3.1.1.
    #[default]
    V3,
    /// 5.
    V5,
}

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttUrl {
    /// `mqtts`.
    pub tls: bool,
    /// Name or address.
    pub host: String,
    /// Default 1883, with TLS 8883.
    pub port: u16,
}

/// One of `subscribe = [ … ]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    /// `plant/{site}/{device}/{field}`: what the levels of the topic mean. `{device}` is one level,
    /// `{device:**}` the rest, `{field}` names the value, any other word is metadata; `+` and `#` as ever.
    /// Required, but for presets of devices that have a usual topic.
    pub topic: String,
    /// How a payload is read: `json` (default), `number`, or as a device speaks: `tasmota` …
    pub preset: MqttPreset,
    /// Which members of a JSON payload are not values.
    pub roles: Roles,
    /// `fields = { temperature_c = "main.temp" }`: take only these members of a JSON payload, by path;
    /// default all of them.
    pub fields: Vec<(FieldName, String)>,
    /// The zone of times that name none, for the presets of devices; default none: such times are not
    /// believed.
    pub timezone: Option<jiff::tz::TimeZone>,
    /// 0 or 1, default 1. 2 is refused: at 1 the effect here is the same.
    pub qos: u8,
    /// Retained messages are state, not readings, and are passed by; default false.
    pub retained: bool,
    /// The device, when neither topic nor payload names it.
    pub device: Option<DeviceId>,
    /// The field of a `number`, when the topic does not name it.
    pub field: Option<FieldName>,
    /// A shared subscription: of all clients with this group, the broker gives each message to one; default
    /// none. Order is then nobody's promise.
    pub share: Option<String>,
    /// Version 5: user properties that become metadata; default none.
    pub user_properties: Vec<FieldName>,
    /// Where its readings go; default `kafka.topic`.
    pub kafka_topic: Topic,
    /// Static metadata of its readings; default none.
    pub meta: Metadata,
}

/// How an MQTT payload is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MqttPreset {
    /// One JSON object; nested objects become `outer_inner`.
    #[default]
    Json,
    /// One bare number, boolean or text.
    Number,
    /// What these devices send, by their own topics.
    Devices(crate::decode::mqtt::Preset),
}

impl MqttPreset {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Number => "number",
            Self::Devices(preset) => preset.as_str(),
        }
    }
}

/// `[queue]`: bounds of each lane, where `[[topic]]` says nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Most bytes on disk, per lane; default 2 GiB.
    pub max_bytes: u64,
    /// Oldest reading kept, counted only between synchronised times; default 30 d.
    pub max_age: Duration,
    /// New readings are refused when the file system has less left; default 64 MiB.
    pub min_free_bytes: u64,
    /// What gives way at `max_bytes`; default `drop-oldest`.
    pub when_full: WhenFull,
    /// Longest wait of a commit for sources that cannot be asked again (QoS 0, lines): what a power
    /// cut may cost them. Others are committed at once. Default 100 ms.
    pub commit_every: Duration,
    /// A segment is sealed at this size; default 8 MiB.
    pub segment_bytes: u64,
    /// A segment is sealed at this age; default 1 h.
    pub segment_age: Duration,
}

/// What gives way when a lane is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The oldest segment is dropped and recorded as an exact loss: the newest data survives.
    #[default]
    DropOldest,
    /// New readings are numbered, recorded as an exact loss, acknowledged and dropped: the oldest data
    /// survives.
    DropNewest,
    /// Nothing is dropped and nothing acknowledged: sources that can wait do, others lose at their own
    /// buffers, uncounted. A lane with `block` needs an MQTT client of its own.
    Block,
}

impl WhenFull {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::DropOldest, Self::DropNewest, Self::Block];

    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DropOldest => "drop-oldest",
            Self::DropNewest => "drop-newest",
            Self::Block => "block",
        }
    }
}

/// `[kafka]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Kafka {
    /// The cluster and its Schema Registry: `bootstrap`, `properties_file` and `properties`.
    pub client: Client,
    /// Where readings go unless a source says otherwise; required.
    pub topic: Topic,
    /// Compacted topic for facts; default `edge.control.v1`.
    pub control_topic: Topic,
    /// Form of the value where `[[topic]]` says nothing else: `json` (default), `avro`, `json-schema` or
    /// `postcard`.
    pub value: ValueFormat,
}

/// Form of a Kafka value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ValueFormat {
    /// Readable, for everybody's tools.
    #[default]
    Json,
    /// Compact.
    Postcard,
    /// By a schema of the registry's.
    Avro,
    /// As `Json`, behind the number of a JSON Schema of the registry's.
    JsonSchema,
}

impl ValueFormat {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Json, Self::Avro, Self::JsonSchema, Self::Postcard];

    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Postcard => "postcard",
            Self::Avro => "avro",
            Self::JsonSchema => "json-schema",
        }
    }

    /// What the schema is written in, where there is one.
    #[must_use]
    pub const fn language(self) -> Option<Language> {
        match self {
            Self::Json | Self::Postcard => None,
            Self::Avro => Some(Language::Avro),
            Self::JsonSchema => Some(Language::Json),
        }
    }
}

/// How schemas come into the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Schemas {
    /// The agent registers what it needs; default false: `cloud-sink schema register` does.
    pub auto_register: bool,
    /// Readings are written by the newest schema of the subject, whatever `fields` says; default false.
    pub use_latest: bool,
}

/// One of `[[topic]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicSettings {
    /// One of the topics of this file; required, unique.
    pub name: Topic,
    /// Form of its values; default `kafka.value`.
    pub value: Option<ValueFormat>,
    /// What its readings are declared to have, in this file or one of its own; default nothing. What is not
    /// declared is sent as well.
    pub fields: Declaration,
    /// Bounds of its lane.
    pub bounds: Bounds,
    /// What holds its lane back.
    pub limits: Limits,
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
