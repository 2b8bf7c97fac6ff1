//! The effective configuration as TOML: what [`super::load`] would read the same again, but for secrets.

use toml::{Table, Value};

use super::{
    Config, Retention, Route, Secret, TopicSettings, Uri,
    value::{show_bytes, show_duration},
};

/// Collects the keys that have a value.
#[derive(Default)]
struct Keys(Table);

impl Keys {
    fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    fn maybe(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }
}

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
            .set("mongodb", self.show_mongodb())
            .set("route", routes)
            .maybe("topic", (!topics.is_empty()).then_some(topics))
            .set("batch", batch.0)
            .set("status", Keys::default().set("listen", listen).0)
            .0
            .to_string()
    }

    fn show_kafka(&self) -> Table {
        let properties = self.kafka.shown().into_iter();
        let properties: Table = properties
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        Keys::default()
            .set("group", self.kafka.group.clone())
            .set("control_topic", self.kafka.control_topic.as_str())
            .set("dead_letter_topic", self.kafka.dead_letter_topic.as_str())
            .set("properties", properties)
            .0
    }

    fn show_mongodb(&self) -> Table {
        let keys = match &self.mongodb.uri {
            Uri::Text(text) => Keys::default().set("uri", text.clone()),
            Uri::Secret(secret) => {
                let (key, place) = match secret {
                    Secret::Credential(name) => ("credential", name.clone()),
                    Secret::File(path) => ("file", path.display().to_string()),
                    Secret::Env(name) => ("env", name.clone()),
                };
                Keys::default().set("uri", Keys::default().set(key, place).0)
            }
        };
        keys.set("database", self.mongodb.database.clone())
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
        .0
}

fn show_topic(topic: &TopicSettings) -> Table {
    let retention = topic.retention.map(|retention| match retention {
        Retention::Forever => "forever".to_owned(),
        Retention::For(duration) => show_duration(duration),
    });
    Keys::default()
        .set("name", topic.name.as_str())
        .maybe("partitions", topic.partitions.map(i64::from))
        .maybe("replication", topic.replication.map(i64::from))
        .maybe("retention", retention)
        .maybe("max_message_bytes", topic.max_message_bytes.map(show_bytes))
        .0
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
