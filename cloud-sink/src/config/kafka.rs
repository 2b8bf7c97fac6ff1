//! `[kafka]`: the client as both daemons have it, and where records come from.

use protocol::Topic;
use protocol_host::config::kafka::{self, Daemon, Instead};

use super::{Kafka, Secrets, document::Table, promises::breaks_promise, value};

const DEFAULT_CONTROL_TOPIC: &str = "edge.control.v1";
const DEFAULT_DEAD_LETTER_TOPIC: &str = "edge.dead-letters.v1";

/// The sink, to those who read its client's settings.
const DAEMON: Daemon = Daemon {
    program: "cloud-sink",
    breaks_promise,
    verify: crate::kafka::verify,
    instead: Instead {
        serializers: "remove the line: each record says how it is written",
        buffers: "remove the line: the sink produces dead letters only",
        polls: "set batch.max_records = 1000 in the TOML file: how many go into one insert",
    },
};

/// Reads `[kafka]`.
pub fn read(table: &Table<'_, '_>, secrets: Secrets) -> Option<Kafka> {
    let client = kafka::read(table, secrets, &DAEMON);
    let group = table.or("group", String::from("cloud-sink"), value::text);
    let control_topic = topic(table, "control_topic", DEFAULT_CONTROL_TOPIC);
    let dead_letter_topic = topic(table, "dead_letter_topic", DEFAULT_DEAD_LETTER_TOPIC);
    Some(Kafka {
        client,
        group,
        control_topic: control_topic?,
        dead_letter_topic: dead_letter_topic?,
    })
}

fn topic(table: &Table<'_, '_>, key: &'static str, default: &str) -> Option<Topic> {
    table
        .optional(key, value::parsed::<Topic>)
        .or_else(|| Topic::new(default).ok())
}
