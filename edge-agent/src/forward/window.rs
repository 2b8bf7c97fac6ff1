//! What is on the way to Kafka, and what its answers mean: the decisions, without threads or sockets.
//!
//! **A producer does not outlive a failure.** It is idempotent and gapless (see
//! [`producer`](super::producer)), so once one record fails for good nothing behind it can get into the
//! topic. Then everything unsettled is handed out again from the queue, to a new producer, in the old
//! order. So order holds across every failure, and the only price is records that come twice.
//!
//! What a failure means for the time after:
//!
//! | [`Failure`] | then |
//! |---|---|
//! | `Broken` | again after a short pause |
//! | `Denied` | hold everything, probe with one record after a longer pause; drop nothing |
//! | `TooLarge`, in a batch | again in smaller batches, at last singly: Kafka refuses a whole batch for its size |
//! | `TooLarge`, sent singly | it is this one: it is lost, with its reason and its bytes kept |

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// Most records under way.
pub const MAX_RECORDS: usize = 4000;
/// No more records are sent while this many bytes are under way.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
/// librdkafka's default for `batch.size`.
pub const FULL_BATCH_BYTES: usize = 1_000_000;
/// Batches are not made smaller than this; then records go singly.
pub const MIN_BATCH_BYTES: usize = 16 * 1024;

const BROKEN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
const DENIED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Why a record did not get into Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The producer ended, or something that passes.
    Broken,
    /// Its batch is larger than the topic takes.
    TooLarge,
    /// We may not, or there is no such topic: somebody has to change something.
    Denied,
}

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
    full_batch_bytes: usize,
    failure: Option<Failure>,
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
            full_batch_bytes,
            failure: None,
            failures: 0,
            hold: None,
        }
    }

    /// Records under way.
    pub fn len(&self) -> usize {
        self.records.len()
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
    }

    /// What to do at `now`. Each call settles what it returns.
    pub fn next(&mut self, now: Instant) -> Next {
        if let Some(acknowledged) = self.settle() {
            return acknowledged;
        }
        if let Some(failure) = self.failure.take() {
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
            Failure::Broken => BROKEN,
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
mod tests {
    use super::*;

    fn acknowledge(count: usize, offsets: &[(i32, i64)]) -> Next {
        Next::Acknowledge {
            count,
            offsets: offsets.iter().copied().collect(),
        }
    }

    fn restart(failure: Failure) -> Next {
        let refused = false;
        Next::Restart { failure, refused }
    }

    fn send(window: &mut Window, records: usize, bytes: usize) -> Vec<usize> {
        (0..records)
            .map(|_| {
                let ticket = window.ticket();
                window.sent(bytes);
                ticket
            })
            .collect()
    }

    #[test]
    fn only_the_contiguous_prefix_is_acknowledged_with_the_highest_offset_per_partition() {
        let now = Instant::now();
        for (delivered, expected, then) in [
            (vec![], None, None),
            (vec![(1, 0, 11)], None, None),
            (vec![(0, 0, 10)], Some((1, vec![(0, 10)])), None),
            (vec![(1, 0, 11), (0, 0, 10)], Some((2, vec![(0, 11)])), None),
            (
                vec![(0, 0, 10), (2, 0, 12)],
                Some((1, vec![(0, 10)])),
                Some((1, 0, 11)),
            ),
            (
                vec![(0, 0, 10), (1, 3, 7), (2, 0, 9)],
                Some((3, vec![(0, 10), (3, 7)])),
                None,
            ),
            (vec![(3, 0, 1), (usize::MAX, 0, 1)], None, None),
        ] {
            let mut window = Window::new(FULL_BATCH_BYTES);
            send(&mut window, 3, 100);
            for (ticket, partition, offset) in &delivered {
                window.delivered(*ticket, *partition, *offset);
            }
            let expected = match expected {
                Some((count, offsets)) => acknowledge(count, &offsets),
                None => Next::Send(MAX_RECORDS - 3),
            };
            assert_eq!(window.next(now), expected, "{delivered:?}");
            if let Some((ticket, partition, offset)) = then {
                window.delivered(ticket, partition, offset);
                assert_eq!(window.next(now), acknowledge(2, &[(0, 12)]));
            }
        }
    }

    #[test]
    fn tickets_may_wrap_around() {
        let now = Instant::now();
        let mut window = Window::new(FULL_BATCH_BYTES);
        window.first = usize::MAX;
        let tickets = send(&mut window, 3, 1);
        assert_eq!(tickets, [usize::MAX, 0, 1]);
        for ticket in tickets {
            window.delivered(ticket, 0, 5);
        }
        assert_eq!(window.next(now), acknowledge(3, &[(0, 5)]));
    }

    #[test]
    fn what_is_under_way_is_bounded_in_records_and_bytes() {
        let now = Instant::now();
        let mut window = Window::new(FULL_BATCH_BYTES);
        assert_eq!(window.next(now), Next::Send(MAX_RECORDS));
        send(&mut window, MAX_RECORDS, 1);
        assert_eq!(window.next(now), Next::Full);
        let mut window = Window::new(FULL_BATCH_BYTES);
        send(&mut window, 1, MAX_BYTES);
        assert_eq!(window.next(now), Next::Full);
    }

    #[test]
    fn what_was_delivered_before_a_failure_is_settled_first() {
        let now = Instant::now();
        let mut window = Window::new(FULL_BATCH_BYTES);
        send(&mut window, 3, 100);
        window.delivered(0, 0, 10);
        window.failed(Failure::Broken);
        assert_eq!(window.next(now), acknowledge(1, &[(0, 10)]));
        assert_eq!(window.next(now), restart(Failure::Broken));
        window.restarted();
        assert_eq!(window.len(), 0);
    }

    #[test]
    fn pauses_grow_with_each_failure_and_start_anew_after_a_delivery() {
        for (failure, pauses_ms) in [
            (
                Failure::Broken,
                [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000],
            ),
            (
                Failure::Denied,
                [
                    1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000,
                ],
            ),
        ] {
            let now = Instant::now();
            let mut window = Window::new(FULL_BATCH_BYTES);
            for pause in pauses_ms.map(Duration::from_millis) {
                window.failed(failure);
                assert_eq!(window.next(now), restart(failure));
                window.restarted();
                assert_eq!(window.next(now), Next::Hold(now + pause), "{failure:?}");
                assert!(matches!(window.next(now + pause), Next::Send(_)));
                window.sent(1);
            }
            window.restarted();
            window.sent(1);
            window.delivered(0, 0, 1);
            assert_eq!(window.next(now), acknowledge(1, &[(0, 1)]));
            window.failed(failure);
            window.next(now);
            let first = now + Duration::from_millis(pauses_ms[0]);
            assert_eq!(window.next(now), Next::Hold(first));
        }
    }

    #[test]
    fn after_a_denial_one_record_probes_and_then_batches_return() {
        let now = Instant::now();
        let mut window = Window::new(FULL_BATCH_BYTES);
        send(&mut window, 50, 100);
        // Of several failures the gravest counts: purged records follow the one that was denied.
        window.failed(Failure::Denied);
        window.failed(Failure::Broken);
        assert_eq!(window.next(now), restart(Failure::Denied));
        window.restarted();
        let later = now + Duration::from_secs(1);
        assert_eq!(window.next(later), Next::Send(1));
        window.sent(100);
        assert_eq!(window.next(later), Next::Full);
        window.delivered(0, 0, 0);
        assert_eq!(window.next(later), acknowledge(1, &[(0, 0)]));
        assert_eq!(window.next(later), Next::Send(MAX_RECORDS));
        assert_eq!(window.batch_bytes(), FULL_BATCH_BYTES);
    }

    /// Plays a topic that refuses every batch above `batch_limit` bytes and every record above
    /// `record_limit`; returns what was delivered, what was refused, and how many producers it took.
    fn play(
        records: &[usize],
        batch_limit: usize,
        record_limit: usize,
    ) -> (usize, Vec<usize>, usize) {
        let now = Instant::now();
        let mut window = Window::new(FULL_BATCH_BYTES);
        let (mut front, mut handed_out, mut delivered, mut restarts) = (0, 0, 0, 0);
        let mut refused_records = Vec::new();
        for _ in 0..100_000 {
            if front == records.len() {
                return (delivered, refused_records, restarts);
            }
            match window.next(now) {
                Next::Acknowledge { count, .. } => {
                    delivered += count;
                    front += count;
                }
                Next::Restart { refused, .. } => {
                    restarts += 1;
                    if refused {
                        refused_records.push(front);
                        front += 1;
                    }
                    window.restarted();
                    handed_out = front;
                }
                Next::Send(room) if handed_out < records.len() => {
                    let end = records.len().min(handed_out + room);
                    for bytes in &records[handed_out..end] {
                        window.sent(*bytes);
                    }
                    handed_out = end;
                }
                Next::Hold(_) => panic!("too large is no reason to wait"),
                Next::Send(_) | Next::Full => {
                    // The broker looks at the oldest batch as librdkafka would cut it.
                    let mut batch = (0, 0);
                    for bytes in &records[front..handed_out] {
                        if batch.0 > 0 && batch.1 + bytes > window.batch_bytes() {
                            break;
                        }
                        batch = (batch.0 + 1, batch.1 + bytes);
                    }
                    let largest = records[front..front + batch.0].iter().max();
                    if batch.1 > batch_limit || largest > Some(&record_limit) {
                        window.failed(Failure::TooLarge);
                    } else {
                        for ticket in 0..batch.0 {
                            window.delivered(window.first.wrapping_add(ticket), 0, 0);
                        }
                    }
                }
            }
        }
        panic!("no end: {window:?}");
    }

    #[test]
    fn a_batch_that_is_too_large_costs_no_record_and_smaller_ones_are_learnt() {
        let (delivered, refused, restarts) = play(&[300; 20_000], 100_000, 100_000);
        assert_eq!((delivered, refused), (20_000, vec![]));
        assert!(restarts <= 4, "{restarts}");
    }

    #[test]
    fn exactly_the_records_that_are_too_large_are_lost() {
        let mut records = vec![300; 10_000];
        records[0] = 3000;
        records[4321] = 3000;
        records[9999] = 3000;
        let (delivered, refused, restarts) = play(&records, usize::MAX, 2999);
        assert_eq!(delivered, 9997);
        assert_eq!(refused, [0, 4321, 9999]);
        assert!(restarts < 40, "{restarts}");
    }

    #[test]
    fn a_topic_that_takes_nothing_loses_one_at_a_time() {
        let (delivered, refused, _) = play(&[300; 30], 200, 200);
        assert_eq!(delivered, 0);
        assert_eq!(refused.len(), 30);
    }
}
