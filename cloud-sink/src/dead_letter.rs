//! A record that cannot become a document, on its way to the dead-letter topic and back: key, value and
//! headers as they were, and beside them why and from where.
//!
//! ```text
//! edge_dead_reason         decode_failed
//! edge_dead_detail         malformed record: missing field `device` at line 1 column 40
//! edge_dead_topic          telemetry.readings.v1
//! edge_dead_partition      3
//! edge_dead_offset         118821
//! edge_dead_timestamp      1763931847113, the broker's, where it had one
//! ```
//!
//! A replay sends the record to the partition where it died first, without these headers but with its
//! first place, and how often it came back:
//!
//! ```text
//! edge_replay_topic, _partition, _offset, _timestamp      where it was written first
//! edge_replay_count                                       1
//! ```
//!
//! That place stays its identity where it has no other, so a replay twice is one document. Whoever dies
//! [`MAX_REPLAYS`] times after a replay is not sent again.

use std::collections::{HashMap, HashSet};

use protocol::header;

use crate::{
    decode::Undecodable,
    excerpt::excerpt,
    message::{Coordinates, Message, Partition},
};

/// A record comes back so often.
pub const MAX_REPLAYS: u32 = 5;

const REASON: &str = "edge_dead_reason";
const DETAIL: &str = "edge_dead_detail";
/// Begin of the names of the sink's headers; the place's members follow.
const DEAD: &str = "edge_dead_";
const REPLAY: &str = "edge_replay_";
const COUNT: &str = "edge_replay_count";

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
        device(&self.message)
    }

    /// What is added to the record's own headers. The newest header of a name counts, so a record that
    /// dies again names its last death.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let at = &self.message.at;
        let mut headers = vec![
            (REASON, self.cause.reason.as_str().into()),
            (DETAIL, self.cause.detail.clone()),
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

fn device(message: &Message) -> Option<String> {
    let named = message.header(header::SUBJECT);
    let device = named.map(|device| excerpt(device, 128));
    match (message.gateway(), device) {
        (Some(gateway), Some(device)) => Some(format!("{gateway}/{device}")),
        (Some(gateway), None) => Some(gateway.to_string()),
        (None, device) => device.map(str::to_owned),
    }
}

/// Where a record was written first: its own place, unless it is a replay.
#[must_use]
pub fn origin(message: &Message) -> Coordinates {
    place(message, REPLAY).unwrap_or_else(|| message.at.clone())
}

fn place(message: &Message, prefix: &str) -> Option<Coordinates> {
    let member = |name: &str| message.header(&format!("{prefix}{name}"));
    Some(Coordinates {
        partition: Partition {
            topic: member("topic")?.into(),
            number: member("partition")?.parse().ok()?,
        },
        offset: member("offset")?.parse().ok()?,
        timestamp_ms: member("timestamp").and_then(|ms| ms.parse().ok()),
    })
}

/// A record of the dead-letter topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buried {
    /// Why it died last.
    pub reason: String,
    /// In words.
    pub detail: String,
    /// Where it was written first.
    pub origin: Coordinates,
    /// How often it came back.
    pub replays: u32,
    /// Whose it was, as far as it says so.
    pub device: Option<String>,
}

impl Buried {
    /// Reads the headers; `None` for a record that no sink wrote.
    #[must_use]
    pub fn read(message: &Message) -> Option<Self> {
        let died_at = place(message, DEAD)?;
        let count = message.header(COUNT).and_then(|count| count.parse().ok());
        Some(Self {
            reason: message.header(REASON)?.to_owned(),
            detail: message.header(DETAIL).unwrap_or_default().to_owned(),
            origin: place(message, REPLAY).unwrap_or(died_at),
            replays: count.unwrap_or(0),
            device: device(message),
        })
    }
}

/// A dead letter on its way back.
#[derive(Debug, Clone)]
pub struct Replay {
    /// As it was buried.
    pub message: Message,
    /// Where it goes, and was.
    pub origin: Coordinates,
    /// Which return this is.
    pub count: u32,
}

impl Replay {
    /// Of a buried record; `None` when it came back often enough.
    #[must_use]
    pub fn of(message: Message, buried: &Buried) -> Option<Self> {
        (buried.replays < MAX_REPLAYS).then(|| Self {
            message,
            origin: buried.origin.clone(),
            count: buried.replays + 1,
        })
    }

    /// The record's own headers.
    pub fn own_headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let headers = self.message.headers();
        headers.filter(|(name, _)| !name.starts_with(DEAD) && !name.starts_with(REPLAY))
    }

    /// What is added.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let Coordinates {
            partition,
            offset,
            timestamp_ms,
        } = &self.origin;
        let mut headers = vec![
            ("edge_replay_topic", partition.topic.to_string()),
            ("edge_replay_partition", partition.number.to_string()),
            ("edge_replay_offset", offset.to_string()),
            (COUNT, self.count.to_string()),
        ];
        if let Some(timestamp) = timestamp_ms {
            headers.push(("edge_replay_timestamp", timestamp.to_string()));
        }
        headers
    }
}

/// The last death of each record: whoever died again after a replay must not be sent twice.
#[derive(Debug, Default)]
pub struct LastDeaths(HashMap<Origin, (u32, Grave)>);

/// Partition and offset in the dead-letter topic.
pub type Grave = (i32, i64);

type Origin = (std::sync::Arc<str>, i32, i64, Option<i64>);

impl LastDeaths {
    /// Records that are told apart at once.
    pub const MAX: usize = 1_000_000;

    /// A death; `false` when there are too many.
    pub fn note(&mut self, at: Grave, buried: &Buried) -> bool {
        let Coordinates {
            partition,
            offset,
            timestamp_ms,
        } = &buried.origin;
        let origin = (
            partition.topic.clone(),
            partition.number,
            *offset,
            *timestamp_ms,
        );
        if self.0.len() >= Self::MAX && !self.0.contains_key(&origin) {
            return false;
        }
        let last = self.0.entry(origin).or_insert((buried.replays, at));
        if buried.replays >= last.0 {
            *last = (buried.replays, at);
        }
        true
    }

    /// Where the last deaths are.
    #[must_use]
    pub fn last(&self) -> HashSet<Grave> {
        self.0.values().map(|(_, at)| *at).collect()
    }
}

#[cfg(test)]
mod tests;
