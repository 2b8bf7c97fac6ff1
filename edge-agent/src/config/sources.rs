//! What the tables of sources share, and what they have to agree on: names, ports, sessions, topics.

use protocol::{GatewayId, Topic};

use super::{
    Queue, Secrets, TopicSettings,
    document::{Mistake, Table},
    sections::Unique,
    value,
};

/// What the sources have to agree with, and among each other.
pub struct Sources<'a> {
    /// `agent.gateway`, where it is right.
    pub gateway: Option<&'a GatewayId>,
    /// `kafka.topic`, where it is right.
    pub topic: Option<&'a Topic>,
    /// `kafka.control_topic`.
    pub control_topic: Option<&'a Topic>,
    /// `[queue]`.
    pub queue: &'a Queue,
    /// `[[topic]]`, as far as they are right.
    pub topics: &'a [TopicSettings],
    /// Whether to read secrets.
    pub secrets: Secrets,
    /// Names of sources.
    pub names: Unique,
    /// Serial ports.
    pub ports: Unique,
    /// MQTT sessions.
    pub sessions: Unique,
    /// Where they say how the gateway is.
    pub statuses: Unique,
}

impl Sources<'_> {
    pub fn name(&mut self, table: &Table<'_, '_>, example: &str) -> Option<String> {
        let name = table.required("name", example, |value| {
            let name = value::text(value)?;
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            if name.len() > 64 || !name.bytes().all(plain) {
                let message = format!("may hold 1 to 64 of A-Z a-z 0-9 . _ -, not \"{name}\"");
                return Err(Mistake::new(message));
            }
            Ok(name)
        })?;
        self.names.check(table, "name", &name);
        Some(name)
    }

    /// The topic readings go to. The control topic is compacted: readings would vanish in it.
    pub fn lane(&self, table: &Table<'_, '_>, key: &'static str) -> Option<Topic> {
        let own = table.optional(key, value::parsed::<Topic>);
        if own.is_some() && own.as_ref() == self.control_topic {
            let fix = "choose another topic, or another kafka.control_topic";
            let message = "is the control topic, which is compacted and would lose readings";
            table.wrong(key, Mistake::fix(message, fix));
        }
        own.or_else(|| self.topic.cloned())
    }
}
