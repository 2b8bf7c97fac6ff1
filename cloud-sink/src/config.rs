//! What an operator may set. Each field's doc is its reference, with its default.
//!
//! The types here are what the rest of the sink sees: complete, checked, without a "maybe". Reading
//! them from TOML, with every mistake and its place, is [`load`] on top of [`protocol_host::config`].

mod kafka;
mod promises;
mod sections;
mod show;
mod topics;

use std::{net::SocketAddr, path::Path, time::Duration};

use protocol::{Topic, schema::Declaration};

pub use protocol_host::{
    config::{
        Secrets,
        document::Problem,
        kafka::Client,
        value::{show_bytes, show_duration},
    },
    registry::Language,
    secret::Secret,
};

use protocol_host::config::{
    document::{self, Document},
    schema, value,
};

/// An annotated file: what has to be set, and every default as a comment.
pub const SAMPLE: &str = include_str!("config/sample.toml");

/// Reads the configuration.
///
/// # Errors
/// Every problem there is, in the order of the file.
pub fn load(path: &Path, secrets: Secrets) -> Result<Config, Vec<Problem>> {
    let text = document::read(path, "cloud-sink")?;
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
    schema::of("cloud-sink", SAMPLE, |doc| {
        let _ = sections::read(doc, Secrets::Leave);
    })
}

/// Everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[kafka]`: where records come from.
    pub kafka: Kafka,
    /// `[mongodb]`: where documents go.
    pub mongodb: Mongodb,
    /// `[[route]]`: which topic goes to which collection; at least one.
    pub routes: Vec<Route>,
    /// `[[topic]]`: what `cloud-sink topics` makes of them.
    pub topics: Vec<TopicSettings>,
    /// `[batch]`: how inserts are grouped.
    pub batch: Batch,
    /// `[status]`: health, metrics.
    pub status: Status,
}

/// `[kafka]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Kafka {
    /// The cluster and its Schema Registry: `bootstrap`, `properties_file` and `properties`.
    pub client: Client,
    /// Consumer group; default `cloud-sink`. Sinks of one group share the partitions. Where they go on is
    /// kept in MongoDB, whatever the group.
    pub group: String,
    /// Compacted topic of the gateways' facts; default `edge.control.v1`.
    pub control_topic: Topic,
    /// Where records go that cannot become documents; default `edge.dead-letters.v1`.
    pub dead_letter_topic: Topic,
}

/// `[mongodb]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mongodb {
    /// Connection string, required: a text without a password, or `{ credential | file | env = … }`.
    pub uri: Uri,
    /// Whether a MongoDB on another machine may be reached without TLS; default false.
    pub allow_plaintext: bool,
    /// Database; default `telemetry`.
    pub database: String,
    /// Longest wait for one answer; default 10 s. A slower MongoDB counts as away.
    pub timeout: Duration,
}

/// A connection string, or where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uri {
    /// In the file itself; it holds no password.
    Text(String),
    /// Elsewhere.
    Secret(Secret),
}

/// One of `[[route]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Kafka topic; required, unique.
    pub topic: Topic,
    /// Collection; required.
    pub collection: String,
    /// What the collection is; default `regular`.
    pub kind: Kind,
    /// MongoDB removes a document this long after it was written (of a time series: measured); default
    /// never.
    pub keep: Option<Duration>,
    /// Whether documents carry the gateway's hop times; default false.
    pub hops: bool,
    /// Whether MongoDB is to hold every document of the collection to the fields that the topics declare;
    /// default false.
    pub validator: bool,
}

/// What a collection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `"regular"`: each reading once, at any moment.
    Regular,
    /// `"timeseries"`: a time series of MongoDB, smaller on disk, each reading once after it has settled.
    TimeSeries,
}

impl Kind {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::TimeSeries => "timeseries",
        }
    }
}

/// One of `[[topic]]`. What is not declared is left as it is found.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicSettings {
    /// One of the topics of this file; required, unique.
    pub name: Topic,
    /// Partitions, 1 to 10 000; a new topic of readings has 6, one of facts or dead letters 1.
    pub partitions: Option<u16>,
    /// Copies, 1 to 10; a new topic has as many as the cluster gives.
    pub replication: Option<u16>,
    /// How long records are kept: how long the sink may be away. Not for the topic of facts, which is
    /// compacted.
    pub retention: Option<Retention>,
    /// Largest batch of records, 1 KiB to 1 GiB.
    pub max_message_bytes: Option<u64>,
    /// The language of the schema that agents write by: `avro` (default) or `json-schema`.
    pub value: Language,
    /// What its readings are declared to have, in this file or one of its own, as at the agents; what
    /// `cloud-sink schema` is about.
    pub fields: Option<Declaration>,
}

/// How long a topic keeps records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// `"forever"`.
    Forever,
    /// At least so long.
    For(Duration),
}

impl Retention {
    /// Kafka's `retention.ms`.
    #[must_use]
    pub fn as_millis(self) -> String {
        match self {
            Self::Forever => "-1".to_owned(),
            Self::For(duration) => duration.as_millis().to_string(),
        }
    }
}

/// `[batch]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Most documents of an insert; default 1 000, at most 100 000.
    pub max_records: usize,
    /// Most bytes of an insert; default 4 MiB.
    pub max_bytes: usize,
    /// Longest wait of a record for company while a write is free; default 10 ms.
    pub max_wait: Duration,
    /// Most bytes between Kafka and MongoDB, beside librdkafka's own; default 8 MiB. A record counts for
    /// about three times what it is in Kafka.
    pub max_in_flight: usize,
}

/// `[status]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Address for the page at `/`, `/livez`, `/readyz`, `/status.json` and `/metrics`; default `127.0.0.1:9601`;
    /// `off` for none.
    pub listen: Option<SocketAddr>,
}

#[cfg(test)]
mod tests;
