//! What is on the way to Kafka, and what its answers mean: the decisions, without threads or sockets.
//!
//! **A producer does not outlive a failure.** It is idempotent and gapless (see
//! [`producer`](super::producer)), so once one record fails for good nothing behind it can get into the
//! topic. Then everything unsettled is handed out again from the queue, to a new producer, in the old
//! order. So order holds across every failure, and the only price is records that come twice.
//!
//! **A producer has to bring one record through before it gets many.** librdkafka keeps each record with its
//! headers, ten times in small pieces, for as long as no broker answers: what a dead broker is given is memory,
//! and helps nobody.
//!
//! What a failure means for the time after:
//!
//! | [`Failure`] | then |
//! |---|---|
//! | `Ended` | wait a little for the cause, for librdkafka may report the consequence first |
//! | `Broken` | again after a short pause |
//! | `Denied` | hold everything, probe with one record after a longer pause; drop nothing |
//! | `TooLarge`, in a batch | again in smaller batches, at last singly: Kafka refuses a whole batch for its size |
//! | `TooLarge`, sent singly | it is this one: it is lost, with its reason and its bytes kept |

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::failure::Failure;

/// Most records under way.
pub const MAX_RECORDS: usize = 4000;
/// Most records under way before a producer has brought one through.
pub const TRIAL_RECORDS: usize = 250;
/// No more records are sent while this many bytes are under way.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
/// librdkafka's default for `batch.size`.
pub const FULL_BATCH_BYTES: usize = 1_000_000;
/// Batches are not made smaller than this; then records go singly.
pub const MIN_BATCH_BYTES: usize = 16 * 1024;

/// How long the cause of an end may come after it.
const CAUSE: Duration = Duration::from_millis(500);
const BROKEN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
const DENIED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The oldest `count` records are in Kafka, the newest of them per partition at these offsets.
    Acknowledge {
        /// Contiguous from the oldest.
        count: usize,
        /// Highest offset of each partition.
        offsets: BTreeMap<i32, i64>,
    },
    /// Throw the producer away and hand out again what is not settled; `refused`: lose the oldest first.
    Restart {
        /// Why.
        failure: Failure,
        /// Exactly the oldest record is too large.
        refused: bool,
    },
    /// Send up to so many more.
    Send(usize),
    /// Nothing until a report comes.
    Full,
    /// Nothing before this moment.
    Hold(Instant),
}

/// Records handed to one producer after the other.
#[derive(Debug)]
pub struct Window {
    /// Oldest first.
    records: VecDeque<Record>,
    /// Ticket of the oldest: how many this producer has settled, modulo the width of a pointer.
    first: usize,
    bytes: usize,
    pace: Pace,
    /// This producer has brought a record through.
    proven: bool,
    full_batch_bytes: usize,
    failure: Option<Failure>,
    /// Until when a failure may wait for its cause.
    grace: Option<Instant>,
    /// Failures since the last record that got through.
    failures: u32,
    hold: Option<Instant>,
}

#[derive(Debug)]
struct Record {
    bytes: usize,
    delivered: Option<(i32, i64)>,
}

/// How many may be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// In batches of at most so many bytes.
    Batches(usize),
    /// One, until `left` got through or were refused; then batches of `then` bytes.
    Singly { left: usize, then: usize },
}

impl Window {
    /// Nothing under way.
    pub fn new(full_batch_bytes: usize) -> Self {
        Self {
            records: VecDeque::new(),
            first: 0,
            bytes: 0,
            pace: Pace::Batches(full_batch_bytes),
            proven: false,
            full_batch_bytes,
            failure: None,
            grace: None,
            failures: 0,
            hold: None,
        }
    }

    /// Records under way.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Bytes under way, before compression.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How large a batch the next producer may make.
    pub fn batch_bytes(&self) -> usize {
        match self.pace {
            Pace::Batches(bytes) => bytes,
            Pace::Singly { .. } => MIN_BATCH_BYTES,
        }
    }

    /// The ticket of the next record that is sent.
    pub fn ticket(&self) -> usize {
        self.first.wrapping_add(self.records.len())
    }

    /// A record of so many bytes was handed to the producer, with [`Window::ticket`].
    pub fn sent(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.records.push_back(Record {
            bytes,
            delivered: None,
        });
    }

    /// The record is in Kafka. Tickets that are not under way are passed by.
    pub fn delivered(&mut self, ticket: usize, partition: i32, offset: i64) {
        if let Some(record) = self.records.get_mut(ticket.wrapping_sub(self.first)) {
            record.delivered = Some((partition, offset));
        }
    }

    /// A record will not get into Kafka by this producer. The gravest failure decides; whether this one
    /// is it.
    pub fn failed(&mut self, failure: Failure) -> bool {
        let is_graver = self.failure < Some(failure);
        if is_graver {
            self.failure = Some(failure);
        }
        is_graver
    }

    /// The producer is gone, with all that was under way.
    pub fn restarted(&mut self) {
        self.records.clear();
        self.bytes = 0;
        self.first = 0;
        self.proven = false;
    }

    /// What to do at `now`. Each call settles what it returns.
    pub fn next(&mut self, now: Instant) -> Next {
        if let Some(acknowledged) = self.settle() {
            return acknowledged;
        }
        if self.failure == Some(Failure::Ended) && !self.records.is_empty() {
            let until = *self.grace.get_or_insert(now + CAUSE);
            if now < until {
                return Next::Hold(until);
            }
        }
        if let Some(failure) = self.failure.take() {
            self.grace = None;
            let refused = self.learn(failure, now);
            return Next::Restart { failure, refused };
        }
        if let Some(until) = self.hold {
            if now < until {
                return Next::Hold(until);
            }
            self.hold = None;
        }
        match self.room() {
            0 => Next::Full,
            room => Next::Send(room),
        }
    }

    /// How many more records may be under way.
    pub fn room(&self) -> usize {
        let limit = match self.pace {
            _ if self.failure.is_some() || self.hold.is_some() => 0,
            _ if self.bytes >= MAX_BYTES => 0,
            Pace::Batches(_) if !self.proven => TRIAL_RECORDS,
            Pace::Batches(_) => MAX_RECORDS,
            Pace::Singly { .. } => 1,
        };
        limit.saturating_sub(self.records.len())
    }

    /// Takes the contiguous prefix that is delivered.
    fn settle(&mut self) -> Option<Next> {
        let mut offsets = BTreeMap::new();
        let mut count = 0;
        while let Some(&Record {
            bytes,
            delivered: Some((partition, offset)),
        }) = self.records.front()
        {
            let highest = offsets.entry(partition).or_insert(offset);
            *highest = offset.max(*highest);
            self.records.pop_front();
            self.bytes -= bytes;
            count += 1;
        }
        if count == 0 {
            return None;
        }
        self.first = self.first.wrapping_add(count);
        self.proven = true;
        self.failures = 0;
        self.pass(count);
        Some(Next::Acknowledge { count, offsets })
    }

    /// Counts records of the single pace that are settled.
    fn pass(&mut self, count: usize) {
        if let Pace::Singly { left, then } = self.pace {
            self.pace = match left.saturating_sub(count) {
                0 => Pace::Batches(then),
                left => Pace::Singly { left, then },
            };
        }
    }

    /// Sets pause and pace after a failure; whether the oldest record is to be lost.
    fn learn(&mut self, failure: Failure, now: Instant) -> bool {
        let (first, longest) = match failure {
            Failure::TooLarge => return self.shrink(),
            Failure::Ended | Failure::Broken => BROKEN,
            Failure::Denied => {
                let (left, then) = match self.pace {
                    Pace::Singly { left, then } => (left, then),
                    Pace::Batches(then) => (1, then),
                };
                self.pace = Pace::Singly { left, then };
                DENIED
            }
        };
        let pause = first
            .saturating_mul(1 << self.failures.min(16))
            .min(longest);
        self.failures += 1;
        self.hold = Some(now + pause);
        false
    }

    /// Something under way is too large, as a batch or by itself.
    fn shrink(&mut self) -> bool {
        let batch = match self.pace {
            Pace::Batches(batch) => batch,
            Pace::Singly { left, .. } => {
                // The one to blame is found: what follows may be batched as before.
                let then = self.full_batch_bytes;
                self.pace = Pace::Singly { left, then };
                self.pass(1);
                return self.records.len() == 1;
            }
        };
        let half = batch.min(self.bytes) / 2;
        self.pace = if half >= MIN_BATCH_BYTES {
            Pace::Batches(half)
        } else {
            // The one to blame is in the oldest batch.
            let mut sum = 0;
            let in_batch = |record: &&Record| {
                sum += record.bytes;
                sum <= batch
            };
            let left = self.records.iter().take_while(in_batch).count().max(1);
            let then = batch.min(MIN_BATCH_BYTES);
            Pace::Singly { left, then }
        };
        false
    }
}

#[cfg(test)]
mod tests;
