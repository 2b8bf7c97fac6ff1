//! Who may write to a time series, until when, and what may have been written already. Pure.
//!
//! A time series has no unique `_id` and no transactions, so nothing there refuses a reading a second time.
//! Instead at most one sink writes the readings of a partition at a time, and it knows what it has to look
//! for before it writes:
//!
//! ```text
//! checkpoints   { _id: "cluster/topic/3", generation: 7, next: 118822, reserved: 131000 }
//!                                                          ▲ settled        ▲ may have been written
//! ```
//!
//! - **Lease.** A write is allowed for [`LEASE`] after MongoDB took a touch of the checkpoint, which only the
//!   holder of the newest generation can make. Each write has a deadline at the server that lies before the
//!   end of the lease. Whoever takes the partition raises the generation, so its holder can touch no more, and
//!   waits for [`LEASE`] before it reads or writes; no clock has to agree with another.
//! - **Doubt.** The touch says up to which offset the holder may write from now on (`reserved`). Records below
//!   it that are read again, after a crash or a takeover, are looked for in the collection first. A write whose
//!   end is unknown puts its own records in doubt in the same way.
//! - An orderly handover takes `reserved` away: nothing is in doubt and nobody waits.
//!
//! What a lease cannot hold back is a command that lies in a network or in a frozen process for longer than
//! that. It is found afterwards: see [`crate::store::series`].

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    checkpoint::Taken,
    message::{Coordinates, Partition},
};

/// So long one touch of the checkpoint allows writes, and so long a successor waits.
pub const LEASE: Duration = Duration::from_secs(15);
/// A write ends so long before the lease does.
const MARGIN: Duration = Duration::from_secs(1);
/// Offsets reserved beyond those that are to be written, so that not each batch needs a touch.
const AHEAD: i64 = 20_000;

#[derive(Debug)]
struct Lease {
    fence: i64,
    until: Option<Instant>,
    reserved: i64,
    doubted: i64,
}

/// What has to be done before offsets of a partition may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// Touch the checkpoint if its generation is still `fence`, and reserve up to there.
    Touch {
        /// The generation of this sink.
        fence: i64,
        /// Exclusive.
        reserve: i64,
    },
    /// The partition is not this sink's: they must not be written.
    Lost,
}

/// The leases of the partitions of this sink.
#[derive(Debug, Default)]
pub struct Leases {
    cluster: Option<Arc<str>>,
    partitions: HashMap<Partition, Lease>,
}

impl Leases {
    /// This sink has taken a partition of a cluster, and the lease of its predecessor has run out.
    pub fn taken(&mut self, cluster: &Arc<str>, taken: &Taken) {
        self.cluster = Some(cluster.clone());
        let lease = Lease {
            fence: taken.fence,
            until: None,
            reserved: 0,
            doubted: taken.reserved.unwrap_or(0),
        };
        self.partitions.insert(taken.partition.clone(), lease);
    }

    /// A partition went.
    pub fn dropped(&mut self, partition: &Partition) {
        self.partitions.remove(partition);
    }

    /// Whose partitions these are.
    #[must_use]
    pub fn cluster(&self) -> Option<Arc<str>> {
        self.cluster.clone()
    }

    /// The generation of this sink.
    #[must_use]
    pub fn fence(&self, partition: &Partition) -> Option<i64> {
        self.partitions.get(partition).map(|lease| lease.fence)
    }

    /// What has to be done before offsets up to `last`, inclusive, may be written.
    #[must_use]
    pub fn due(&self, partition: &Partition, last: i64, now: Instant) -> Due {
        let Some(lease) = self.partitions.get(partition) else {
            return Due::Lost;
        };
        let is_fresh = lease.until.is_some_and(|until| now + LEASE / 2 < until);
        if is_fresh && last < lease.reserved {
            return Due::Nothing;
        }
        let reserve = if last < lease.reserved {
            lease.reserved
        } else {
            last + 1 + AHEAD
        };
        Due::Touch {
            fence: lease.fence,
            reserve,
        }
    }

    /// MongoDB took the touch that was asked for at `asked`.
    pub fn touched(&mut self, partition: &Partition, fence: i64, reserve: i64, asked: Instant) {
        if let Some(lease) = self.partitions.get_mut(partition)
            && lease.fence == fence
        {
            lease.until = Some(asked + LEASE);
            lease.reserved = reserve;
        }
    }

    /// How long a write that begins now may take at the server.
    #[must_use]
    pub fn left(&self, partition: &Partition, now: Instant) -> Duration {
        let until = self.partitions.get(partition).and_then(|lease| lease.until);
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(now + MARGIN)
        })
    }

    /// Whether the reading of the record there may be stored already.
    #[must_use]
    pub fn is_doubted(&self, at: &Coordinates) -> bool {
        let lease = self.partitions.get(&at.partition);
        lease.is_none_or(|lease| at.offset < lease.doubted)
    }

    /// Nobody knows whether offsets up to `last`, inclusive, were written.
    pub fn doubt(&mut self, partition: &Partition, last: i64) {
        if let Some(lease) = self.partitions.get_mut(partition) {
            lease.doubted = lease.doubted.max(last + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        Partition {
            topic: "t".into(),
            number: 3,
        }
    }

    fn taken(fence: i64, reserved: Option<i64>) -> Leases {
        let mut leases = Leases::default();
        let taken = Taken {
            partition: partition(),
            fence,
            next: Some(50),
            mark: None,
            reserved,
        };
        leases.taken(&Arc::from("c"), &taken);
        leases
    }

    fn at(offset: i64) -> Coordinates {
        Coordinates {
            partition: partition(),
            offset,
            timestamp_ms: None,
        }
    }

    #[test]
    fn a_write_needs_a_touch_that_is_fresh_and_reaches_far_enough() {
        let start = Instant::now();
        let secs = |secs| start + Duration::from_secs(secs);
        let mut leases = taken(7, None);
        let touch = |reserve| Due::Touch { fence: 7, reserve };
        assert_eq!(leases.due(&partition(), 50, start), touch(51 + AHEAD));
        assert_eq!(leases.left(&partition(), start), Duration::ZERO);
        leases.touched(&partition(), 7, 51 + AHEAD, start);
        // (seconds, last offset, what is due, seconds left for a write)
        let table = [
            (0, 50, Due::Nothing, 14),
            (7, 50 + AHEAD, Due::Nothing, 7),
            (7, 51 + AHEAD, touch(52 + 2 * AHEAD), 7),
            (8, 50, touch(51 + AHEAD), 6),
            (20, 50, touch(51 + AHEAD), 0),
        ];
        for (at, last, due, left) in table {
            assert_eq!(leases.due(&partition(), last, secs(at)), due, "{at} {last}");
            assert_eq!(leases.left(&partition(), secs(at)).as_secs(), left, "{at}");
        }
    }

    #[test]
    fn a_write_ends_before_a_successor_begins() {
        // The successor's generation can be no earlier than the touch, and it waits for all of LEASE.
        let asked = Instant::now();
        let mut leases = taken(7, None);
        leases.touched(&partition(), 7, 100, asked);
        let successor_begins = asked + LEASE;
        for ms in [0, 1, 5_000, 13_999, 14_000, 20_000] {
            let now = asked + Duration::from_millis(ms);
            let left = leases.left(&partition(), now);
            assert!(left.is_zero() || now + left < successor_begins, "{ms}");
        }
    }

    #[test]
    fn what_the_predecessor_may_have_written_is_in_doubt_and_so_is_what_got_no_answer() {
        let leases = taken(7, Some(80));
        assert!(leases.is_doubted(&at(79)));
        assert!(!leases.is_doubted(&at(80)));
        let mut leases = taken(7, None);
        assert!(!leases.is_doubted(&at(50)), "handed over in order");
        leases.doubt(&partition(), 50);
        assert!(leases.is_doubted(&at(50)) && !leases.is_doubted(&at(51)));
    }

    #[test]
    fn a_partition_that_went_may_not_be_written() {
        let mut leases = taken(7, None);
        leases.dropped(&partition());
        assert_eq!(leases.due(&partition(), 1, Instant::now()), Due::Lost);
        assert!(leases.left(&partition(), Instant::now()).is_zero());
        // The answer to a touch of a former life changes nothing.
        let mut leases = taken(9, None);
        leases.touched(&partition(), 7, 100, Instant::now());
        assert!(leases.left(&partition(), Instant::now()).is_zero());
    }
}
