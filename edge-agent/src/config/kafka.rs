//! `[kafka]`: the client as both daemons have it, and where readings go.

use protocol::Topic;
use protocol_host::{
    config::kafka::{self, Client, Daemon, Instead},
    registry::Language,
};

use super::{
    Secrets,
    document::{Mistake, Table},
    promises::breaks_promise,
    topics, value,
};

const DEFAULT_CONTROL_TOPIC: &str = "edge.control.v1";

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

/// The agent, to those who read its client's settings.
pub const DAEMON: Daemon = Daemon {
    program: "edge-agent",
    breaks_promise,
    verify: crate::forward::check,
    instead: Instead {
        serializers: "remove the line: kafka.value says how readings are written",
        buffers: "remove the line: the queue on disk is the buffer",
        polls: "remove the line: the sink's batch.max_records says how many go into one insert",
    },
};

/// Reads `[kafka]`.
pub fn read(table: &Table<'_, '_>, secrets: Secrets) -> Option<Kafka> {
    let client = kafka::read(table, secrets, &DAEMON);
    let remedy = "write topic = \"telemetry.readings.v1\"";
    let topic = table.required("topic", remedy, value::parsed::<Topic>);
    let control_topic = table
        .optional("control_topic", value::parsed::<Topic>)
        .or_else(|| Topic::new(DEFAULT_CONTROL_TOPIC).ok());
    if topic.is_some() && topic == control_topic {
        let message = "is the control topic, which is compacted and would lose readings";
        table.wrong(
            "topic",
            Mistake::fix(message, "choose two different topics"),
        );
    }
    let words = value::one_of(topics::formats());
    let value = table.or("value", ValueFormat::Json, words);
    Some(Kafka {
        client,
        topic: topic?,
        control_topic: control_topic?,
        value,
    })
}
