//! `[queue]`: the disk between sources and Kafka.

use std::time::Duration;

use super::{
    document::{Mistake, Table},
    value,
};

const DAY: Duration = Duration::from_secs(86_400);

/// `[queue]`: bounds of each lane, where `[[topic]]` says nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Most bytes on disk, per lane; default 2 GiB.
    pub max_bytes: u64,
    /// Oldest reading kept, counted only between synchronised times; default 30 d.
    pub max_age: Duration,
    /// New readings are refused when the file system has less left; default 64 MiB.
    pub min_free_bytes: u64,
    /// What gives way at `max_bytes`; default `drop-oldest`.
    pub when_full: WhenFull,
    /// Longest wait of a commit for sources that cannot be asked again (QoS 0, lines): what a power
    /// cut may cost them. Others are committed at once. Default 100 ms.
    pub commit_every: Duration,
    /// A segment is sealed at this size; default 8 MiB.
    pub segment_bytes: u64,
    /// A segment is sealed at this age; default 1 h.
    pub segment_age: Duration,
}

/// What gives way when a lane is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The oldest segment is dropped and recorded as an exact loss: the newest data survives.
    #[default]
    DropOldest,
    /// New readings are numbered, recorded as an exact loss, acknowledged and dropped: the oldest data
    /// survives.
    DropNewest,
    /// Nothing is dropped and nothing acknowledged: sources that can wait do, others lose at their own
    /// buffers, uncounted. A lane with `block` needs an MQTT client of its own.
    Block,
}

impl WhenFull {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::DropOldest, Self::DropNewest, Self::Block];

    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DropOldest => "drop-oldest",
            Self::DropNewest => "drop-newest",
            Self::Block => "block",
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            max_bytes: 2 << 30,
            max_age: 30 * DAY,
            min_free_bytes: 64 << 20,
            when_full: WhenFull::DropOldest,
            commit_every: Duration::from_millis(100),
            segment_bytes: 8 << 20,
            segment_age: Duration::from_secs(3600),
        }
    }
}

/// Reads `[queue]`.
pub fn read(table: &Table<'_, '_>) -> Queue {
    let default = Queue::default();
    let second = Duration::from_secs(1);
    let queue = Queue {
        max_bytes: table.or(
            "max_bytes",
            default.max_bytes,
            value::bytes(1 << 20..=1 << 42),
        ),
        max_age: table.or(
            "max_age",
            default.max_age,
            value::duration(second..=3650 * DAY),
        ),
        min_free_bytes: table.or(
            "min_free_bytes",
            default.min_free_bytes,
            value::bytes(0..=1 << 40),
        ),
        when_full: table.or("when_full", default.when_full, value::one_of(policies())),
        commit_every: table.or(
            "commit_every",
            default.commit_every,
            value::duration(Duration::from_millis(1)..=10 * second),
        ),
        segment_bytes: table.or(
            "segment_bytes",
            default.segment_bytes,
            value::bytes(1 << 16..=1 << 28),
        ),
        segment_age: table.or(
            "segment_age",
            default.segment_age,
            value::duration(second..=30 * DAY),
        ),
    };
    check_segments(table, queue.max_bytes, queue.segment_bytes);
    queue
}

/// Words of `when_full`.
pub fn policies() -> [(&'static str, WhenFull); 3] {
    WhenFull::ALL.map(|policy| (policy.as_str(), policy))
}

/// Whole segments are dropped: with fewer than four, "full" would throw away most of the queue. However small
/// it is set, a segment takes 1 MiB: what is remembered of the sources goes into each.
pub fn check_segments(table: &Table<'_, '_>, max_bytes: u64, segment_bytes: u64) {
    let segment = segment_bytes.max(1 << 20);
    if max_bytes / 4 < segment {
        let least = value::show_bytes(segment * 4);
        let message = format!("must hold at least four segments, {least}");
        let key = table.named("max_bytes");
        let fix = if segment_bytes > 1 << 20 {
            format!("raise {key} or lower queue.segment_bytes")
        } else {
            format!("raise {key}")
        };
        table.wrong("max_bytes", Mistake::fix(message, fix));
    }
}
