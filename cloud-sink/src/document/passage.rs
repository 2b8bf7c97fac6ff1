//! The stations of a reading, `hops` in its document.

use mongodb::bson::DateTime;
use protocol::{Timestamp, header::Hops};
use serde::Serialize;

use crate::message::Coordinates;

/// The way of a reading, as far as it is known when the document is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Passage {
    hops: Hops,
    at: Coordinates,
    /// Milliseconds since 1970.
    pub consumed_ms: Option<i64>,
    /// The same, of the last try: a document cannot hold when it was confirmed.
    pub written_ms: Option<i64>,
}

impl Passage {
    pub fn new(hops: Hops, at: &Coordinates) -> Self {
        Self {
            hops,
            at: at.clone(),
            consumed_ms: None,
            written_ms: None,
        }
    }

    pub fn stored(&self) -> StoredHops<'_> {
        let time = |time: Option<Timestamp>| time.map(|t| DateTime::from_millis(t.as_millis()));
        let millis = |ms: Option<i64>| ms.map(DateTime::from_millis);
        StoredHops {
            received: time(self.hops.received),
            committed: time(self.hops.committed),
            sent: time(self.hops.sent),
            appended: millis(self.at.timestamp_ms),
            consumed: millis(self.consumed_ms),
            written: millis(self.written_ms),
            topic: &self.at.partition.topic,
            partition: self.at.partition.number,
            offset: self.at.offset,
        }
    }
}

#[derive(Serialize)]
pub(super) struct StoredHops<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<DateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    committed: Option<DateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<DateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    appended: Option<DateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumed: Option<DateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<DateTime>,
    topic: &'a str,
    partition: i32,
    offset: i64,
}
