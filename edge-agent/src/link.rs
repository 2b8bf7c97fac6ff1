//! The state of every link to the outside: what the status page shows and readiness is made of.

/// All links of the process; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Links {}

/// What a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// A serial line.
    Serial,
    /// An MQTT broker.
    Mqtt,
    /// Kafka.
    Kafka,
    /// The queue's disk.
    Disk,
}

/// How a link is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "detail")]
pub enum LinkState {
    /// Works.
    Up,
    /// Being made.
    Connecting,
    /// Does not work; why, in one line, without secrets.
    Down(String),
}

impl Links {
    /// Notes the state of a link, and logs it if it changed: once, however often it is noted.
    pub fn set(&self, _kind: LinkKind, _name: &str, _state: LinkState) {
        todo!()
    }

    /// Every link with its state, in a fixed order.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(LinkKind, String, LinkState)> {
        todo!()
    }
}
