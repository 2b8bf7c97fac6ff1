//! When a batch is full: by count, by bytes, or by the age of its first record.
//!
//! Pure: the caller passes the time in and asks when to look again.

use std::time::{Duration, Instant};

/// Bounds of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most records.
    pub max_records: usize,
    /// Most bytes of Kafka records; a single larger record is a batch of its own.
    pub max_bytes: usize,
    /// Longest wait of the first record.
    pub max_wait: Duration,
}

/// Collects records of one collection.
#[derive(Debug)]
pub struct Batcher<T> {
    limits: Limits,
    records: Vec<T>,
    bytes: usize,
    first: Option<Instant>,
}

impl<T> Batcher<T> {
    /// An empty one.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            records: Vec::new(),
            bytes: 0,
            first: None,
        }
    }

    /// Adds a record; returns the batch that it completed, or that had no room for it.
    pub fn push(&mut self, record: T, bytes: usize, now: Instant) -> Option<Vec<T>> {
        let full = if self.bytes + bytes > self.limits.max_bytes {
            self.take()
        } else {
            None
        };
        self.first.get_or_insert(now);
        self.bytes += bytes;
        self.records.push(record);
        // One push returns one batch: a record too large for any company goes with the next call.
        if full.is_none() && self.records.len() >= self.limits.max_records {
            return self.take();
        }
        full
    }

    /// When the batch is due, if it holds anything.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.first.map(|first| first + self.limits.max_wait)
    }

    /// The batch, if it is due.
    pub fn take_due(&mut self, now: Instant) -> Option<Vec<T>> {
        if self.due()? <= now {
            self.take()
        } else {
            None
        }
    }

    /// The batch as it is, if it holds anything.
    pub fn take(&mut self) -> Option<Vec<T>> {
        self.first = None;
        self.bytes = 0;
        let batch = std::mem::take(&mut self.records);
        (!batch.is_empty()).then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_by_count_by_bytes_or_by_age() {
        let limits = Limits {
            max_records: 3,
            max_bytes: 100,
            max_wait: Duration::from_millis(200),
        };
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        // (time, record's bytes or a look at the clock, the batch that comes out)
        type Step<'a> = (u64, Option<usize>, Option<&'a [usize]>);
        let table: &[Step<'_>] = &[
            (0, Some(10), None),
            (1, Some(11), None),
            (2, Some(12), Some(&[10, 11, 12])),
            (10, Some(60), None),
            (20, Some(41), Some(&[60])),
            (219, None, None),
            (220, None, Some(&[41])),
            (500, None, None),
            (600, Some(500), None),
            (601, Some(1), Some(&[500])),
        ];
        let mut batcher = Batcher::new(limits);
        for &(at, push, expected) in table {
            let out = match push {
                Some(bytes) => batcher.push(bytes, bytes, ms(at)),
                None => batcher.take_due(ms(at)),
            };
            assert_eq!(out.as_deref(), expected, "at {at} ms");
        }
        assert_eq!(batcher.due(), Some(ms(801)));
    }
}
