//! How long until Kafka's retention deletes a record that is not stored yet.
//!
//! ```text
//! time to loss = retention of the topic − age of the oldest unread record
//! ```
//!
//! The age of a record is that of its Kafka timestamp, as retention has it. Of a partition with records
//! in flight the oldest of them is known; of one without, but with a lag, the unread records are no
//! older than the moment it was last seen without, nor than the last one that was settled. A partition
//! that cannot be taken, since MongoDB is away, has what the brokers say of the first record that the
//! group has not read. Retention by size is not foreseen: the size of what will be written is not known.
//! Pure; times are milliseconds since 1970.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::message::{Coordinates, Partition};

/// Records of about one time are one sample.
const SAMPLE_MS: i64 = 1000;

/// How long a topic keeps a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// So long.
    Limited(Duration),
    /// For ever, or until a newer one of its key.
    Unlimited,
}

impl Retention {
    /// From the topic's `cleanup.policy` and `retention.ms`; `None` if they say nothing.
    #[must_use]
    pub fn of(policy: &str, retention_ms: &str) -> Option<Self> {
        if !policy.split(',').any(|one| one.trim() == "delete") {
            return Some(Self::Unlimited);
        }
        match retention_ms.parse::<i64>().ok()? {
            ..0 => Some(Self::Unlimited),
            ms => Some(Self::Limited(Duration::from_millis(ms.unsigned_abs()))),
        }
    }
}

/// Time to loss of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// Until the oldest unread record may be deleted; the retention, when nothing is unread.
    pub left: Duration,
    /// The topic's retention.
    pub retention: Duration,
}

/// What is unread of each assigned partition, and how long its topic keeps it.
#[derive(Debug, Default)]
pub struct Unread(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    retentions: HashMap<Arc<str>, Retention>,
    partitions: BTreeMap<Partition, InFlight>,
    /// Oldest unread record of partitions that nobody can take.
    waiting: HashMap<Partition, i64>,
}

#[derive(Debug, Default)]
struct InFlight {
    /// First offset and time of each sample; the oldest may be settled in part.
    samples: VecDeque<(i64, i64)>,
    last_taken: Option<i64>,
    /// What is unread is not older, if nothing is in flight.
    not_before: Option<i64>,
}

impl Unread {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole before the next call that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A partition came.
    pub fn assign(&self, partition: &Partition) {
        let mut state = self.lock();
        state
            .partitions
            .insert(partition.clone(), InFlight::default());
    }

    /// A partition went.
    pub fn revoke(&self, partition: &Partition) {
        self.lock().partitions.remove(partition);
    }

    /// A record was taken.
    pub fn taken(&self, at: &Coordinates) {
        if let Some(in_flight) = self.lock().partitions.get_mut(&at.partition) {
            in_flight.taken(at.offset, at.timestamp_ms);
        }
    }

    /// Everything before `next` is settled.
    pub fn settled(&self, partition: &Partition, next: i64) {
        if let Some(in_flight) = self.lock().partitions.get_mut(partition) {
            in_flight.settled(next);
        }
    }

    /// What the brokers say of the topics.
    pub fn keep(&self, retentions: HashMap<Arc<str>, Retention>) {
        self.lock().retentions = retentions;
    }

    /// Topics whose records are deleted in time.
    #[must_use]
    pub fn limited(&self) -> Vec<Arc<str>> {
        let state = self.lock();
        let limited = state.retentions.iter();
        let limited = limited.filter(|(_, keeps)| matches!(keeps, Retention::Limited(_)));
        limited.map(|(topic, _)| topic.clone()).collect()
    }

    /// The oldest unread record of each partition that cannot be taken, instead of what was said before; what
    /// is assigned here is known better.
    pub fn wait(&self, oldest_ms: HashMap<Partition, i64>) {
        self.lock().waiting = oldest_ms;
    }

    /// Time to loss of the partitions for which it is known and limited; `lags` are records per
    /// partition not stored yet.
    pub fn remaining(
        &self,
        lags: &HashMap<Partition, u64>,
        now_ms: i64,
    ) -> Vec<(Partition, Remaining)> {
        let mut state = self.lock();
        let State {
            retentions,
            partitions,
            waiting,
        } = &mut *state;
        let waiting = waiting
            .iter()
            .filter(|(partition, _)| !partitions.contains_key(partition))
            .map(|(partition, oldest)| (partition.clone(), age(*oldest, now_ms)))
            .collect::<Vec<_>>();
        let assigned = partitions.iter_mut().filter_map(|(partition, in_flight)| {
            let age = in_flight.age(lags.get(partition).copied(), now_ms)?;
            Some((partition.clone(), age))
        });
        let known = assigned.chain(waiting).filter_map(|(partition, age)| {
            let Retention::Limited(retention) = *retentions.get(&partition.topic)? else {
                return None;
            };
            let left = retention.saturating_sub(age);
            Some((partition, Remaining { left, retention }))
        });
        known.collect()
    }
}

impl InFlight {
    fn taken(&mut self, offset: i64, timestamp_ms: Option<i64>) {
        self.last_taken = Some(offset);
        let Some(time) = timestamp_ms else { return };
        let newest = self.samples.back().map(|(_, newest)| *newest);
        if newest.is_none_or(|newest| newest.abs_diff(time) >= SAMPLE_MS.unsigned_abs()) {
            self.samples.push_back((offset, time));
        }
    }

    fn settled(&mut self, next: i64) {
        if self.last_taken.is_some_and(|last| last < next) {
            let last = self.samples.back().map(|(_, time)| *time);
            self.not_before = self.not_before.max(last);
            self.samples.clear();
        }
        while self.samples.get(1).is_some_and(|(first, _)| *first <= next) {
            self.samples.pop_front();
        }
    }

    /// Age of the oldest unread record, zero where none is; `None` if it cannot be told.
    fn age(&mut self, lag: Option<u64>, now_ms: i64) -> Option<Duration> {
        let oldest = self.samples.iter().map(|(_, time)| *time).min();
        let oldest = match (oldest, lag) {
            (Some(oldest), _) => oldest,
            (None, Some(0)) => {
                self.not_before = Some(now_ms);
                now_ms
            }
            (None, _) => self.not_before?,
        };
        Some(age(oldest, now_ms))
    }
}

fn age(oldest_ms: i64, now_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(now_ms.saturating_sub(oldest_ms)).unwrap_or(0))
}

/// How near the loss is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Urgency {
    /// Most of the retention is left.
    #[default]
    Calm,
    /// Less than half is left: there is time to act.
    Behind,
    /// Less than a tenth is left.
    Soon,
}

/// While it lasts, one line in this time.
const REPEAT: Duration = Duration::from_secs(3600);

/// When to say how near it is: at a change, and hourly while it is not calm.
#[derive(Debug, Default)]
pub struct Alarm {
    urgency: Urgency,
    said_at: Option<Instant>,
}

impl Alarm {
    /// Judges the partition that is nearest to its loss; what is to be said now, if anything.
    pub fn judge(&mut self, worst: Remaining, now: Instant) -> Option<Urgency> {
        // A level is left only a fifth above where it began, or it would be said again and again.
        let below = |share: f64, level: Urgency| {
            let slack = if self.urgency >= level { 1.2 } else { 1.0 };
            worst.left < worst.retention.mul_f64(share * slack)
        };
        let urgency = if below(0.1, Urgency::Soon) {
            Urgency::Soon
        } else if below(0.5, Urgency::Behind) {
            Urgency::Behind
        } else {
            Urgency::Calm
        };
        let changed = urgency != self.urgency;
        let lasts =
            urgency != Urgency::Calm && self.said_at.is_none_or(|said| now >= said + REPEAT);
        if !changed && !lasts {
            return None;
        }
        self.urgency = urgency;
        self.said_at = Some(now);
        Some(urgency)
    }
}

/// Two units are enough to act on: `6d23h`, `4m12s`.
#[must_use]
pub fn show(left: Duration) -> String {
    let seconds = left.as_secs();
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let first = units.iter().position(|(_, size)| seconds >= *size);
    let first = first.unwrap_or(units.len() - 1);
    let mut rest = seconds;
    let mut shown = String::new();
    for (unit, size) in units.iter().skip(first).take(2) {
        let count = rest / size;
        rest %= size;
        if count > 0 || shown.is_empty() {
            shown.push_str(&format!("{count}{unit}"));
        }
    }
    shown
}

#[cfg(test)]
mod tests;
