//! `window`: the readings of one device within a stretch of time become one.
//!
//! Windows begin at multiples of their length since the process started, by the monotonic clock: a wall clock that
//! is put right neither stretches nor repeats one. The reading that comes out has time, clock and metadata of
//! the last that went in, so that it is corrected and judged as that one would be.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use protocol::{FieldName, Fields, MAX_FIELDS, Reading, Topic, Value};

use super::{MAX_DEVICES, Window};
use crate::decode::units;

/// What of the numbers in a window is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// Their arithmetic mean.
    Mean,
    /// The least.
    Min,
    /// The largest.
    Max,
    /// The last.
    Last,
}

impl Statistic {
    /// The word in configuration and names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::Last => "last",
        }
    }
}

/// By source and device.
#[derive(Debug, Default)]
pub(super) struct Windows {
    origin: Option<Instant>,
    open: HashMap<(String, String), Open>,
}

#[derive(Debug)]
struct Open {
    ends: Instant,
    lane: Topic,
    keep: Vec<Statistic>,
    last: Reading,
    numbers: HashMap<FieldName, Numbers>,
    others: HashMap<FieldName, Value>,
}

#[derive(Debug, Clone, Copy)]
struct Numbers {
    count: f64,
    mean: f64,
    min: f64,
    max: f64,
    last: f64,
}

impl Windows {
    /// Puts a reading into the window of its device; gives back the windows that are closed by that.
    pub(super) fn take(
        &mut self,
        window: &Window,
        source: &str,
        lane: &Topic,
        reading: Reading,
        now: Instant,
    ) -> Vec<(Topic, Reading)> {
        let key = (source.to_owned(), reading.device.to_string());
        let mut closed = Vec::new();
        if let Some(open) = self.open.get(&key)
            && (open.ends <= now || open.lane != *lane)
        {
            closed.extend(self.open.remove(&key).and_then(Open::close));
        }
        if self.open.len() >= MAX_DEVICES && !self.open.contains_key(&key) {
            let first = self.open.iter().min_by_key(|(_, open)| open.ends);
            if let Some(first) = first.map(|(key, _)| key.clone()) {
                closed.extend(self.open.remove(&first).and_then(Open::close));
            }
        }
        let ends = self.end(window.every, now);
        let open = self.open.entry(key).or_insert_with(|| Open {
            ends,
            lane: lane.clone(),
            keep: window.keep.clone(),
            last: reading.clone(),
            numbers: HashMap::new(),
            others: HashMap::new(),
        });
        open.take(reading);
        closed
    }

    /// The end of the window that holds `now`.
    fn end(&mut self, every: Duration, now: Instant) -> Instant {
        let origin = *self.origin.get_or_insert(now);
        let every = every.max(Duration::from_millis(1));
        let passed = now.saturating_duration_since(origin).as_nanos() / every.as_nanos();
        let windows = u32::try_from(passed + 1).unwrap_or(u32::MAX);
        origin
            .checked_add(every.saturating_mul(windows))
            .unwrap_or(now + every)
    }

    pub(super) fn due(&mut self, now: Instant) -> Vec<(Topic, Reading)> {
        self.close(|open| open.ends <= now)
    }

    pub(super) fn drain(&mut self) -> Vec<(Topic, Reading)> {
        self.close(|_| true)
    }

    fn close(&mut self, over: impl Fn(&Open) -> bool) -> Vec<(Topic, Reading)> {
        let mut closed: Vec<((String, String), Open)> =
            self.open.extract_if(|_, open| over(open)).collect();
        // By end, then by name: the same from run to run.
        closed.sort_by(|(a, one), (b, other)| (one.ends, a).cmp(&(other.ends, b)));
        closed
            .into_iter()
            .filter_map(|(_, open)| open.close())
            .collect()
    }
}

impl Open {
    fn take(&mut self, reading: Reading) {
        for (name, value) in reading.fields.iter() {
            match value {
                Value::Float(number) => {
                    let room = self.numbers.len() < MAX_FIELDS;
                    match self.numbers.get_mut(name) {
                        Some(numbers) => numbers.take(*number),
                        None if room => {
                            self.numbers.insert(name.clone(), Numbers::new(*number));
                        }
                        None => {}
                    }
                }
                other if self.others.len() < MAX_FIELDS || self.others.contains_key(name) => {
                    self.others.insert(name.clone(), other.clone());
                }
                _ => {}
            }
        }
        self.last = reading;
    }

    fn close(self) -> Option<(Topic, Reading)> {
        let mut fields: Vec<(FieldName, Value)> = self
            .others
            .into_iter()
            .filter(|(name, _)| !self.numbers.contains_key(name))
            .collect();
        for (name, numbers) in &self.numbers {
            for statistic in &self.keep {
                // One statistic needs no name of its own.
                let name = match self.keep.len() {
                    1 => Some(name.clone()),
                    _ => units::with_word(name, statistic.as_str()),
                };
                if let Some(name) = name {
                    fields.push((name, Value::Float(numbers.get(*statistic))));
                }
            }
        }
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields.dedup_by(|later, first| later.0 == first.0);
        fields.truncate(MAX_FIELDS);
        let reading = Reading {
            fields: Fields::new(fields).ok()?,
            // It is no single reading of the device any more.
            source: None,
            ..self.last
        };
        Some((self.lane, reading))
    }
}

impl Numbers {
    const fn new(number: f64) -> Self {
        Self {
            count: 1.0,
            mean: number,
            min: number,
            max: number,
            last: number,
        }
    }

    fn take(&mut self, number: f64) {
        self.count += 1.0;
        // Step by step: a sum could overflow where the mean does not.
        self.mean += (number - self.mean) / self.count;
        self.min = self.min.min(number);
        self.max = self.max.max(number);
        self.last = number;
    }

    const fn get(&self, statistic: Statistic) -> f64 {
        match statistic {
            Statistic::Mean => self.mean,
            Statistic::Min => self.min,
            Statistic::Max => self.max,
            Statistic::Last => self.last,
        }
    }
}
