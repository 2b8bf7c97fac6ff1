//! When to commit: the decision, without threads or clocks.
//!
//! A message whose source waits for an answer is committed **at once**: the next group is whatever
//! arrived during the commit before, so the group grows with the load and no source ever waits for a
//! timer. Only messages that nobody can be told of wait, up to `commit_every`, to spare the disk; one
//! of them rides along with any message that cannot wait.

use std::time::{Duration, Instant};

/// Most readings of one commit, unless a single message has more: what comes while a slow card syncs, 50 000 a
/// second for 40 ms.
pub const MAX_READINGS: usize = 2000;
/// Most bytes of one commit, unless a single message has more: the smallest size of a segment, so that one grows by
/// no more than its own size beyond it.
pub const MAX_BYTES: usize = 1 << 20;

/// What the decision needs of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Readings in it.
    pub readings: usize,
    /// Its size, as the gate counts it.
    pub bytes: usize,
    /// Somebody waits for the answer.
    pub asks: bool,
}

/// What to do with the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Commit it.
    Commit,
    /// Wait for more, but no longer than this.
    Until(Instant),
    /// There is nothing to commit.
    Idle,
}

/// The group that is being collected.
#[derive(Debug)]
pub struct Batch {
    commit_every: Duration,
    readings: usize,
    bytes: usize,
    asks: bool,
    oldest: Option<Instant>,
}

impl Batch {
    /// An empty group.
    pub fn new(commit_every: Duration) -> Self {
        Self {
            commit_every,
            readings: 0,
            bytes: 0,
            asks: false,
            oldest: None,
        }
    }

    /// Whether the message may join. An empty group takes anything.
    pub fn fits(&self, message: Weight) -> bool {
        self.oldest.is_none()
            || (self.readings + message.readings <= MAX_READINGS
                && self.bytes + message.bytes <= MAX_BYTES)
    }

    /// The message joined at `now`.
    pub fn push(&mut self, now: Instant, message: Weight) {
        self.readings += message.readings;
        self.bytes += message.bytes;
        self.asks |= message.asks;
        self.oldest.get_or_insert(now);
    }

    /// What to do at `now`; `more` says that a message stands outside which does not fit.
    pub fn next(&self, now: Instant, more: bool) -> Next {
        let Some(oldest) = self.oldest else {
            return Next::Idle;
        };
        let full = more || self.readings >= MAX_READINGS || self.bytes >= MAX_BYTES;
        let due = oldest + self.commit_every;
        if self.asks || full || now >= due {
            Next::Commit
        } else {
            Next::Until(due)
        }
    }

    /// The group was committed.
    pub fn clear(&mut self) {
        *self = Self::new(self.commit_every);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(100);

    fn weight(readings: usize, bytes: usize, asks: bool) -> Weight {
        Weight {
            readings,
            bytes,
            asks,
        }
    }

    #[test]
    fn a_group_is_committed_when_somebody_waits_or_it_is_full_or_due() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let quiet = weight(1, 100, false);
        let asks = weight(1, 100, true);
        for (case, pushed, now, more, expected) in [
            ("empty", vec![], 500, false, Next::Idle),
            (
                "one that cannot be told waits",
                vec![(0, quiet)],
                1,
                false,
                Next::Until(at(100)),
            ),
            (
                "the wait counts from the first",
                vec![(0, quiet), (90, quiet)],
                91,
                false,
                Next::Until(at(100)),
            ),
            ("due", vec![(0, quiet)], 100, false, Next::Commit),
            ("one that asks", vec![(0, asks)], 0, false, Next::Commit),
            (
                "one that asks takes the others along",
                vec![(0, quiet), (1, asks)],
                1,
                false,
                Next::Commit,
            ),
            (
                "and stays urgent",
                vec![(0, asks), (1, quiet)],
                1,
                false,
                Next::Commit,
            ),
            (
                "full of readings",
                vec![(0, weight(MAX_READINGS, 100, false))],
                0,
                false,
                Next::Commit,
            ),
            (
                "full of bytes",
                vec![(0, weight(1, MAX_BYTES, false))],
                0,
                false,
                Next::Commit,
            ),
            (
                "the next one does not fit",
                vec![(0, quiet)],
                0,
                true,
                Next::Commit,
            ),
        ] {
            let mut batch = Batch::new(EVERY);
            for (ms, message) in pushed {
                batch.push(at(ms), message);
            }
            assert_eq!(batch.next(at(now), more), expected, "{case}");
        }
    }

    #[test]
    fn a_group_is_bounded_unless_one_message_alone_is_larger() {
        let now = Instant::now();
        let mut batch = Batch::new(EVERY);
        let huge = weight(MAX_READINGS, 2 * MAX_BYTES, true);
        assert!(batch.fits(huge));
        batch.push(now, weight(MAX_READINGS - 400, 1000, true));
        assert!(batch.fits(weight(400, 1000, true)));
        assert!(!batch.fits(weight(401, 1000, true)));
        assert!(!batch.fits(weight(1, MAX_BYTES, true)));
        batch.clear();
        assert!(batch.fits(huge));
        assert_eq!(batch.next(now, false), Next::Idle);
    }
}
