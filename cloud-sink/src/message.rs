//! A Kafka record as the sink carries it until it is settled.
//!
//! Key, value and headers are kept as they came, in one allocation: a record that turns out to be bad
//! only at MongoDB must still reach the dead-letter topic byte for byte.

use std::sync::Arc;

use protocol::GatewayId;

/// A partition of one of our topics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number.
    pub number: i32,
}

/// Where a record lies in Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinates {
    /// The partition.
    pub partition: Partition,
    /// The record's own offset, not the next one.
    pub offset: i64,
    /// The broker's timestamp in milliseconds since 1970, where it has one.
    pub timestamp_ms: Option<i64>,
}

/// Where a part lies among a record's bytes. Small, for a record has a dozen of them; Kafka has no record of 2 GiB.
#[derive(Debug, Clone, Copy)]
struct Part {
    start: u32,
    end: u32,
}

/// A record with its bytes.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where it lies.
    pub at: Coordinates,
    bytes: Box<[u8]>,
    key: Option<Part>,
    value: Option<Part>,
    headers: Box<[(Part, Option<Part>)]>,
}

fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Message {
    /// Copies a record's bytes.
    pub fn new<'a>(
        at: Coordinates,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + Clone,
    ) -> Self {
        let len = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let (mut all, mut count) = (len(key) + len(value), 0);
        for (name, value) in headers.clone() {
            all += name.len() + len(value);
            count += 1;
        }
        // Thousands are in memory at once: neither too small at first nor too large at last.
        let mut bytes = Vec::with_capacity(all);
        let mut keep = |part: &[u8]| {
            let start = place(bytes.len());
            bytes.extend_from_slice(part);
            let end = place(bytes.len());
            Part { start, end }
        };
        let key = key.map(&mut keep);
        let value = value.map(&mut keep);
        let mut places = Vec::with_capacity(count);
        places.extend(headers.map(|(name, value)| (keep(name.as_bytes()), value.map(&mut keep))));
        Self {
            at,
            bytes: bytes.into(),
            key,
            value,
            headers: places.into(),
        }
    }

    fn part(&self, Part { start, end }: Part) -> &[u8] {
        let part = self.bytes.get(start as usize..end as usize);
        part.unwrap_or_default()
    }

    /// The key, `None` where there is none.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key.map(|part| self.part(part))
    }

    /// The key, where it is the id of a gateway.
    #[must_use]
    pub fn gateway(&self) -> Option<GatewayId> {
        GatewayId::new(std::str::from_utf8(self.key()?).ok()?).ok()
    }

    /// The value, `None` for a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.value.map(|part| self.part(part))
    }

    /// The headers in their order. A name is text, as Kafka demands.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.headers.iter().map(|&(name, value)| {
            let name = std::str::from_utf8(self.part(name)).unwrap_or_default();
            (name, value.map(|part| self.part(part)))
        })
    }

    /// A header that is text; the newest of a name counts.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.headers().filter(|(known, _)| *known == name);
        std::str::from_utf8(values.last()?.1?).ok()
    }

    /// What it takes of the memory budget, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        // The decoded reading is about as large as the record; the rest is our bookkeeping.
        2 * self.bytes.len() + 1024
    }
}
