//! A record that cannot become a document, on its way to the dead-letter topic: key, value and headers
//! as they were, and beside them why and from where.
//!
//! ```text
//! edge_dead_reason      decode_failed
//! edge_dead_detail      malformed record: missing field `device` at line 1 column 40
//! edge_dead_topic       telemetry.readings.v1
//! edge_dead_partition   3
//! edge_dead_offset      118821
//! edge_dead_timestamp   1763931847113, the broker's, where it had one
//! ```

use protocol::header;

use crate::{decode::Undecodable, excerpt::excerpt, message::Message};

/// A record with the reason it is dead.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The record.
    pub message: Message,
    /// The stamp of the assignment it was read in.
    pub generation: u64,
    /// Why.
    pub cause: Undecodable,
}

impl DeadLetter {
    /// `gateway/device` as far as key and headers say it, for logs.
    #[must_use]
    pub fn device(&self) -> Option<String> {
        let named = self.message.header(header::SUBJECT);
        let device = named.map(|device| excerpt(device, 128));
        match (self.message.gateway(), device) {
            (Some(gateway), Some(device)) => Some(format!("{gateway}/{device}")),
            (Some(gateway), None) => Some(gateway.to_string()),
            (None, device) => device.map(str::to_owned),
        }
    }

    /// What is added to the record's own headers. The newest header of a name counts, so a record that
    /// dies again names its last death.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let at = &self.message.at;
        let mut headers = vec![
            ("edge_dead_reason", self.cause.reason.as_str().into()),
            ("edge_dead_detail", self.cause.detail.clone()),
            ("edge_dead_topic", at.partition.topic.to_string()),
            ("edge_dead_partition", at.partition.number.to_string()),
            ("edge_dead_offset", at.offset.to_string()),
        ];
        if let Some(timestamp) = at.timestamp_ms {
            headers.push(("edge_dead_timestamp", timestamp.to_string()));
        }
        headers
    }
}
