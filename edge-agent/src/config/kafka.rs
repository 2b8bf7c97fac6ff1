//! `[kafka]`: the client as both daemons have it, and where readings go.

use protocol::Topic;
use protocol_host::config::kafka::{self, Daemon, Instead};

use super::{
    Kafka, Secrets, ValueFormat,
    document::{Mistake, Table},
    promises::breaks_promise,
    value,
};

const DEFAULT_CONTROL_TOPIC: &str = "edge.control.v1";

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
    let words = [
        ("json", ValueFormat::Json),
        ("postcard", ValueFormat::Postcard),
    ];
    let value = table.or("value", ValueFormat::Json, value::one_of(words));
    Some(Kafka {
        client,
        topic: topic?,
        control_topic: control_topic?,
        value,
    })
}
