//! The effective configuration as TOML: what [`super::load`] would read the same again, but for secrets.

use protocol_host::{
    config::show::{self, Keys},
    registry::Language,
};
use toml::{Table, Value};

use super::{
    Config, Retention, Route, TopicSettings, Uri,
    value::{show_bytes, show_duration},
};

impl Config {
    /// As TOML, without secrets.
    #[must_use]
    pub fn show(&self) -> String {
        let batch = Keys::default()
            .set("max_records", whole(self.batch.max_records))
            .set("max_bytes", show_bytes(self.batch.max_bytes as u64))
            .set("max_wait", show_duration(self.batch.max_wait))
            .set("max_in_flight", show_bytes(self.batch.max_in_flight as u64));
        let listen = match self.status.listen {
            Some(address) => address.to_string(),
            None => "off".to_owned(),
        };
        let routes: Vec<Value> = self.routes.iter().map(|r| show_route(r).into()).collect();
        let topics: Vec<Value> = self.topics.iter().map(|t| show_topic(t).into()).collect();
        Keys::default()
            .set("kafka", self.show_kafka())
            .maybe("registry", self.show_registry())
            .set("mongodb", self.show_mongodb())
            .set("route", routes)
            .maybe("topic", (!topics.is_empty()).then_some(topics))
            .set("batch", batch.0)
            .set("status", Keys::default().set("listen", listen).0)
            .0
            .to_string()
    }

    fn show_kafka(&self) -> Table {
        let properties = self.kafka.client.shown().into_iter();
        let properties: Table = properties
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        Keys::default()
            .set("group", self.kafka.group.clone())
            .set("control_topic", self.kafka.control_topic.as_str())
            .set("dead_letter_topic", self.kafka.dead_letter_topic.as_str())
            .set("allow_plaintext", self.kafka.client.allow_plaintext)
            .set("properties", properties)
            .0
    }

    fn show_registry(&self) -> Option<Table> {
        let registry = self.kafka.client.registry.as_ref()?;
        Some(registry.show().0)
    }

    fn show_mongodb(&self) -> Table {
        let keys = match &self.mongodb.uri {
            Uri::Text(text) => Keys::default().set("uri", text.clone()),
            Uri::Secret(secret) => Keys::default().set("uri", show::secret(secret)),
        };
        keys.set("allow_plaintext", self.mongodb.allow_plaintext)
            .set("database", self.mongodb.database.clone())
            .set("timeout", show_duration(self.mongodb.timeout))
            .0
    }
}

fn show_route(route: &Route) -> Table {
    Keys::default()
        .set("topic", route.topic.as_str())
        .set("collection", route.collection.clone())
        .set("kind", route.kind.as_str())
        .maybe("keep", route.keep.map(show_duration))
        .set("hops", route.hops)
        .set("validator", route.validator)
        .0
}

fn show_topic(topic: &TopicSettings) -> Table {
    let retention = topic.retention.map(|retention| match retention {
        Retention::Forever => "forever".to_owned(),
        Retention::For(duration) => show_duration(duration),
    });
    let value = match topic.value {
        Language::Json => "json-schema",
        _ => "avro",
    };
    Keys::default()
        .set("name", topic.name.as_str())
        .maybe("partitions", topic.partitions.map(i64::from))
        .maybe("replication", topic.replication.map(i64::from))
        .maybe("retention", retention)
        .maybe("max_message_bytes", topic.max_message_bytes.map(show_bytes))
        .maybe("value", topic.fields.as_ref().map(|_| value))
        .maybe("fields", topic.fields.as_ref().map(show::fields))
        .0
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
