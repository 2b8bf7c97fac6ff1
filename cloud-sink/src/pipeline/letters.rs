//! Dead letters that wait for their topic. Pure.
//!
//! **Each partition waits for itself.** A letter that is not taken may be refused for what it is, or for
//! ten seconds of silence; letters of other partitions go past it. A partition whose letters fail tries
//! again with one of them, ever more seldom, and the others follow once that one was taken. Jobs are given
//! out in turn, so a partition that always fails takes one of [`MAX_JOBS`] from the others at most.
//!
//! Records behind the letters are read on, but not without end: a partition with too many letters is
//! [stalled](Letters::stalled), and Kafka keeps the rest.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{dead_letter::DeadLetter, message::Partition};

/// Dead letters of one job.
const MAX_LETTERS: usize = 1000;
/// Jobs at once.
const MAX_JOBS: usize = 8;
/// First and longest pause of a partition whose letters are not taken.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

#[derive(Debug, Default)]
struct Queue {
    letters: VecDeque<DeadLetter>,
    bytes: usize,
    is_under_way: bool,
    /// When to try again, and how long that was waited.
    retry: Option<(Instant, Duration)>,
    served: u64,
}

impl Queue {
    fn is_ready(&self, now: Instant) -> bool {
        let waited = self.retry.is_none_or(|(at, _)| at <= now);
        !self.is_under_way && waited && !self.letters.is_empty()
    }
}

/// The letters of all partitions.
#[derive(Debug, Default)]
pub(super) struct Letters {
    queues: HashMap<Partition, Queue>,
    turn: u64,
}

impl Letters {
    /// A record is dead.
    pub fn push(&mut self, letter: DeadLetter) {
        let queue = self.queues.entry(letter.message.at.partition.clone());
        // Behind all that wait already.
        let queue = queue.or_insert_with(|| Queue {
            served: self.turn,
            ..Queue::default()
        });
        queue.bytes += letter.message.size();
        queue.letters.push_back(letter);
    }

    /// The letters of the next job, if one may start. [`Letters::finished`] says how it ended.
    pub fn next(&mut self, now: Instant) -> Option<(Partition, Vec<DeadLetter>)> {
        let under_way = self.queues.values().filter(|queue| queue.is_under_way);
        if under_way.count() >= MAX_JOBS {
            return None;
        }
        let ready = self.queues.iter_mut();
        let ready = ready.filter(|(_, queue)| queue.is_ready(now));
        let (partition, queue) = ready.min_by_key(|(_, queue)| queue.served)?;
        self.turn += 1;
        queue.served = self.turn;
        queue.is_under_way = true;
        // While they fail, one asks for all.
        let most = if queue.retry.is_some() {
            1
        } else {
            MAX_LETTERS
        };
        let count = queue.letters.len().min(most);
        let letters: Vec<_> = queue.letters.drain(..count).collect();
        let bytes: usize = letters.iter().map(|letter| letter.message.size()).sum();
        queue.bytes -= bytes;
        Some((partition.clone(), letters))
    }

    /// A job of this partition ended; `failed` were not taken, in their order.
    pub fn finished(&mut self, partition: &Partition, failed: Vec<DeadLetter>, now: Instant) {
        let Some(queue) = self.queues.get_mut(partition) else {
            return;
        };
        queue.is_under_way = false;
        queue.retry = if failed.is_empty() {
            None
        } else {
            let wait = match queue.retry {
                Some((_, wait)) => (2 * wait).min(RETRY.1),
                None => RETRY.0,
            };
            Some((now + wait, wait))
        };
        for letter in failed.into_iter().rev() {
            queue.bytes += letter.message.size();
            queue.letters.push_front(letter);
        }
        if queue.letters.is_empty() {
            self.queues.remove(partition);
        }
    }

    /// When a partition tries again, if one waits for that.
    pub fn wake(&self) -> Option<Instant> {
        let waiting = self.queues.values().filter(|queue| !queue.is_under_way);
        waiting.filter_map(|queue| Some(queue.retry?.0)).min()
    }

    /// Partitions that hold so many bytes, or so many letters that they fill a job.
    pub fn stalled(&self, bytes: usize) -> BTreeSet<Partition> {
        let stalled = self.queues.iter().filter(|(_, queue)| {
            queue.retry.is_some() && (queue.bytes > bytes || queue.letters.len() > MAX_LETTERS)
        });
        stalled.map(|(partition, _)| partition.clone()).collect()
    }

    /// Nothing waits, nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decode::{Reason, Undecodable},
        message::{Coordinates, Message},
    };

    fn partition(number: i32) -> Partition {
        Partition {
            topic: "t".into(),
            number,
        }
    }

    fn letter(number: i32, offset: i64) -> DeadLetter {
        let at = Coordinates {
            partition: partition(number),
            offset,
            timestamp_ms: None,
        };
        DeadLetter {
            message: Message::new(at, None, Some(b"x"), std::iter::empty()),
            generation: 1,
            cause: Undecodable::new(Reason::Empty, "x"),
        }
    }

    fn offsets(letters: &[DeadLetter]) -> Vec<i64> {
        letters.iter().map(|l| l.message.at.offset).collect()
    }

    #[test]
    fn a_thousand_letters_that_always_fail_stall_only_their_partition() {
        let mut letters = Letters::default();
        let mut now = Instant::now();
        for offset in 0..1500 {
            letters.push(letter(0, offset));
        }
        let (of, failing) = letters.next(now).unwrap();
        assert_eq!((of, failing.len()), (partition(0), MAX_LETTERS));
        letters.push(letter(1, 7));
        let (of, good) = letters.next(now).unwrap();
        assert_eq!((&of, offsets(&good)), (&partition(1), vec![7]));
        letters.finished(&of, Vec::new(), now);
        letters.finished(&partition(0), failing, now);
        assert!(letters.next(now).is_none(), "the partition pauses");
        let stalled = letters.stalled(usize::MAX);
        assert_eq!(stalled, BTreeSet::from([partition(0)]));

        // It asks with one letter, ever more seldom, and others are never held up by it.
        for wait in [1, 2, 4, 8, 16, 30, 30] {
            let at = letters.wake().unwrap();
            assert_eq!(at - now, Duration::from_secs(wait));
            letters.push(letter(2, 9));
            let (of, _) = letters.next(now).unwrap();
            assert_eq!(of, partition(2));
            letters.finished(&of, Vec::new(), now);
            now = at;
            let (of, one) = letters.next(now).unwrap();
            assert_eq!(offsets(&one), [0], "in order");
            letters.finished(&of, one, now);
        }

        // Once one is taken, the others follow.
        now = letters.wake().unwrap();
        let (of, one) = letters.next(now).unwrap();
        assert_eq!(one.len(), 1);
        letters.finished(&of, Vec::new(), now);
        assert!(letters.stalled(0).is_empty());
        let (of, many) = letters.next(now).unwrap();
        assert_eq!((many.len(), many[0].message.at.offset), (MAX_LETTERS, 1));
        letters.finished(&of, Vec::new(), now);
        let (of, rest) = letters.next(now).unwrap();
        assert_eq!(rest.len(), 499);
        letters.finished(&of, Vec::new(), now);
        assert!(letters.is_empty());
    }

    #[test]
    fn partitions_take_turns() {
        let mut letters = Letters::default();
        let now = Instant::now();
        let mut served = Vec::new();
        for round in 0..3 {
            for number in 0..3 {
                letters.push(letter(number, round));
            }
        }
        for _ in 0..6 {
            let (of, mut taken) = letters.next(now).unwrap();
            served.push(of.number);
            let back = taken.split_off(1);
            letters.finished(&of, Vec::new(), now);
            back.into_iter().for_each(|letter| letters.push(letter));
        }
        let (mut first, mut second) = (served[..3].to_vec(), served[3..].to_vec());
        first.sort_unstable();
        second.sort_unstable();
        assert_eq!((first, second), (vec![0, 1, 2], vec![0, 1, 2]));
    }

    #[test]
    fn a_partition_with_few_letters_reads_on_while_they_fail() {
        let mut letters = Letters::default();
        let now = Instant::now();
        letters.push(letter(0, 1));
        let (of, one) = letters.next(now).unwrap();
        let size = one[0].message.size();
        letters.finished(&of, one, now);
        assert!(letters.stalled(size).is_empty());
        assert_eq!(letters.stalled(size - 1).len(), 1, "its share is used up");
    }
}
