//! `[[topic]]`: what the topics have to be like.

use std::{collections::BTreeSet, time::Duration};

use protocol::Topic;
use protocol_host::{config::fields, registry::Language};

use super::{
    Kafka, Retention, Route, TopicSettings,
    document::{Mistake, Table, Value, nearest},
    value,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Reads all of them.
pub fn read(
    root: &Table<'_, '_>,
    kafka: Option<&Kafka>,
    routes: Option<&[Route]>,
) -> Option<Vec<TopicSettings>> {
    let mut seen = BTreeSet::new();
    let read: Vec<Option<TopicSettings>> = root
        .tables("topic")
        .iter()
        .map(|table| {
            let topic = one(table, kafka)?;
            if !seen.insert(topic.name.clone()) {
                table.wrong("name", Mistake::new("is declared already"));
            }
            if let (Some(kafka), Some(routes)) = (kafka, routes) {
                known(table, &topic.name, kafka, routes);
            }
            Some(topic)
        })
        .collect();
    read.into_iter().collect()
}

fn one(table: &Table<'_, '_>, kafka: Option<&Kafka>) -> Option<TopicSettings> {
    let remedy = "write name = \"telemetry.readings.v1\"";
    let name = table.required("name", remedy, value::parsed::<Topic>);
    let partitions = table.optional("partitions", value::integer(1..=10_000));
    let replication = table.optional("replication", value::integer(1..=10));
    let retention = table.optional("retention", retention);
    let max_message_bytes = table.optional("max_message_bytes", value::bytes(1 << 10..=1 << 30));
    let words = value::one_of([("avro", false), ("json-schema", true)]);
    let value = match table.or("value", false, words) {
        true => Language::Json,
        false => Language::Avro,
    };
    let fields = fields::read(table);
    if table.span_of("value").is_some() && table.span_of("fields").is_none() {
        let fix =
            "write fields = \"/etc/cloud-sink/readings.fields.toml\", the file the agents have";
        table.wrong("fields", Mistake::fix("is missing", fix));
    }
    if retention.is_some() && name.is_some() && kafka.map(|k| &k.control_topic) == name.as_ref() {
        let message =
            "is not for the topic of facts: it is compacted, and keeps the newest of each for ever";
        table.wrong("retention", Mistake::fix(message, "remove the line"));
    }
    Some(TopicSettings {
        name: name?,
        partitions,
        replication,
        retention,
        max_message_bytes,
        value,
        fields,
    })
}

fn retention(value: &Value<'_>) -> Result<Retention, Mistake> {
    if value.get_ref().as_str() == Some("forever") {
        return Ok(Retention::Forever);
    }
    value::duration(HOUR..=36_500 * 24 * HOUR)(value).map(Retention::For)
}

/// A declaration that applies to nothing would be believed in.
fn known(table: &Table<'_, '_>, name: &Topic, kafka: &Kafka, routes: &[Route]) {
    let own = [&kafka.control_topic, &kafka.dead_letter_topic];
    let all: Vec<&str> = routes
        .iter()
        .map(|route| route.topic.as_str())
        .chain(own.map(Topic::as_str))
        .collect();
    if all.contains(&name.as_str()) {
        return;
    }
    let fix = match nearest(name.as_str(), all.iter().copied()) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("the topics of this file are {}", all.join(", ")),
    };
    table.wrong("name", Mistake::fix("is no topic of this file", fix));
}
