//! What an operator may set. Each field's doc is its reference, with its default.
//!
//! The types here are what the rest of the sink sees: complete, checked, without a "maybe". Reading
//! them from TOML, with every mistake and its place, is [`load`]. (The reader of tables is the agent's,
//! copied: two daemons that share only Kafka bytes is worth more than one file.)

mod document;
mod kafka;
mod properties;
mod sections;
mod show;
mod topics;
mod value;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use protocol::Topic;

pub use document::Problem;
pub use value::{show_bytes, show_duration};

use document::{Document, Mistake};

/// An annotated file: what has to be set, and every default as a comment.
pub const SAMPLE: &str = include_str!("config/sample.toml");

/// Whether secrets are needed, or only what is said of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// Read them: for `run`, `init` and `check --online`.
    Read,
    /// Leave them where they are: for `check` and `config show`, which may run elsewhere.
    Leave,
}

/// Reads the configuration.
///
/// # Errors
/// Every problem there is, in the order of the file.
pub fn load(path: &Path, secrets: Secrets) -> Result<Config, Vec<Problem>> {
    match fs::read_to_string(path) {
        Ok(text) => parse(path, &text, secrets),
        Err(error) => {
            let message = format!("cannot be read: {error}");
            let fix = "name the file with -c; `cloud-sink config sample` prints one to start from";
            Err(vec![Mistake::fix(message, fix).at(path, None)])
        }
    }
}

fn parse(path: &Path, text: &str, secrets: Secrets) -> Result<Config, Vec<Problem>> {
    let doc = Document::new(path, text);
    match sections::read(&doc, secrets) {
        Some(config) => Ok(config),
        None => Err(doc.into_problems()),
    }
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

/// `[kafka]`. Its `Debug` hides secrets.
#[derive(Clone, PartialEq)]
pub struct Kafka {
    /// Settings for librdkafka, in its own names: from `bootstrap`, `properties_file` and `properties`.
    /// Each has one name, whichever of its aliases was written.
    pub properties: BTreeMap<String, String>,
    /// Names in `properties` whose values are never shown.
    pub secret_properties: Vec<String>,
    /// Consumer group; default `cloud-sink`. Sinks of one group share the partitions. Where they go on is
    /// kept in MongoDB, whatever the group.
    pub group: String,
    /// Compacted topic of the gateways' facts; default `edge.control.v1`.
    pub control_topic: Topic,
    /// Where records go that cannot become documents; default `edge.dead-letters.v1`.
    pub dead_letter_topic: Topic,
    /// The Schema Registry, where `properties_file` names one.
    pub registry: Option<Registry>,
}

/// A Schema Registry. Its `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Registry {
    /// `http://` or `https://`, without user, perhaps with a path.
    pub url: String,
    /// Key, where it needs one.
    pub username: Option<String>,
    /// Secret, where it needs one.
    pub password: Option<String>,
}

/// `[mongodb]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mongodb {
    /// Connection string, required: a text without a password, or `{ credential | file | env = … }`.
    pub uri: Uri,
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

/// Where a secret is; never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// A file in systemd's `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
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
    /// Longest wait of a record for company; default 200 ms.
    pub max_wait: Duration,
    /// Most bytes between Kafka and MongoDB, beside librdkafka's own; default 16 MiB. A record counts for
    /// about three times what it is in Kafka.
    pub max_in_flight: usize,
}

/// `[status]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Address for `/livez`, `/readyz`, `/status.json` and `/metrics`; default `127.0.0.1:9601`;
    /// `off` for none.
    pub listen: Option<SocketAddr>,
}

#[cfg(test)]
mod tests;
