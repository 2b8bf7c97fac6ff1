//! The bytes of a day: what of them is spent, and what may be sent before more is known.
//!
//! **What counts.** librdkafka says every two seconds what it wrote to its sockets and read from them: compressed,
//! with Kafka's own headers, requests, answers and whatever was sent again. That is the truth as far as a
//! process can know it. What was handed to the producer since then counts in full, uncompressed, until the next
//! number replaces it, so the estimate errs on the safe side. Not counted is what lies below the socket: TLS
//! records, TCP and IP headers.
//!
//! **Restart.** Before a slice of the budget, a 64th, is used it is made durable as spent; what turns out not to be
//! spent after all is given back in slices as well. A process that is killed so spends at most two slices, and what
//! was not measured yet, more than it sent, and never a byte less. One that ends in order writes what it really spent.
//!
//! **The day** ends at midnight of the zone, but only by a synchronised clock: a gateway that boots in 1970 and
//! hears of the time later would otherwise have a new budget with each boot. A clock that is set back takes the
//! day with it, spent as it is. While the clock is not synchronised, a day is 24 hours of running.

use jiff::{civil::Date, tz::TimeZone};
use protocol::Timestamp;

use crate::clock::Moment;

/// Parts of a budget that are made durable one by one.
const SLICES: u64 = 64;
/// What a record is taken for until a larger one was seen.
const RECORD: u64 = 1024;
const DAY_US: u64 = 86_400_000_000;

/// What has to survive a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spent {
    /// The day, where a synchronised clock has told it.
    pub day: Option<Date>,
    /// Bytes of that day.
    pub bytes: u64,
}

/// What may be done.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// Send so many records, at least one.
    Room(usize),
    /// Make this durable first.
    Save(Spent),
    /// Nothing before this moment, where the clock can tell it.
    Spent(Option<Timestamp>),
}

/// One lane's.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    zone: TimeZone,
    day: Option<Date>,
    /// Since boot, when the day began or the process did.
    began_us: u64,
    /// Known to be spent on this day.
    measured: u64,
    /// Handed to producers since the start, before compression.
    handed: u64,
    /// Of these: acknowledged, or given up with their producer.
    settled: u64,
    /// What was settled when the wire was measured last; that is within `measured`.
    known: u64,
    /// What the producer of now had sent and received then.
    session: u64,
    /// Durable as spent.
    granted: u64,
    /// The largest record seen.
    largest: u64,
}

impl Budget {
    /// `limit` bytes a day; `spent` is what was saved last.
    pub fn new(limit: u64, zone: TimeZone, spent: Spent, now: &Moment) -> Self {
        Self {
            limit,
            zone,
            day: spent.day,
            began_us: now.monotonic_us,
            measured: spent.bytes,
            handed: 0,
            settled: 0,
            known: 0,
            session: 0,
            granted: spent.bytes,
            largest: RECORD,
        }
    }

    /// Spent on this day, as far as it is known; not less than what was sent.
    pub fn spent(&self) -> u64 {
        self.measured + (self.handed - self.known)
    }

    /// What may be done at `now`.
    pub fn next(&mut self, now: &Moment) -> Next {
        self.turn(now);
        let spent = self.spent();
        let with_one = spent.saturating_add(self.largest);
        if with_one > self.limit {
            return Next::Spent(self.midnight(now));
        }
        let slice = self.limit / SLICES;
        let is_too_much = self.granted.saturating_sub(with_one) > 2 * slice;
        if with_one > self.granted || is_too_much {
            return Next::Save(Spent {
                day: self.day,
                bytes: (with_one + slice).min(self.limit),
            });
        }
        let records = (self.granted - spent) / self.largest;
        Next::Room(usize::try_from(records).unwrap_or(usize::MAX))
    }

    /// This is durable.
    pub fn saved(&mut self, spent: &Spent) {
        if spent.day == self.day {
            self.granted = spent.bytes;
        }
    }

    /// What to make durable at an orderly end.
    pub fn last_word(&self) -> Spent {
        Spent {
            day: self.day,
            bytes: self.spent(),
        }
    }

    /// A record of so many bytes was handed over.
    pub fn sent(&mut self, bytes: u64) {
        self.handed += bytes;
        self.largest = self.largest.max(bytes);
    }

    /// Records of so many bytes are in Kafka.
    pub fn settled(&mut self, bytes: u64) {
        self.settled = (self.settled + bytes).min(self.handed);
    }

    /// The producer has sent and received so much since it was made.
    pub fn measured(&mut self, total: u64) {
        self.measured += total.saturating_sub(self.session);
        self.session = total;
        self.known = self.settled;
    }

    /// The producer is gone. What it had and was not measured may have been sent.
    pub fn restarted(&mut self) {
        self.measured = self.spent();
        self.settled = self.handed;
        self.known = self.handed;
        self.session = 0;
    }

    /// Ends the day when it is over.
    fn turn(&mut self, now: &Moment) {
        let ran_us = now.monotonic_us.saturating_sub(self.began_us);
        let today = now.synced.then(|| self.date(now)).flatten();
        let is_over = match (self.day, today) {
            (Some(day), Some(today)) => today > day,
            (None, Some(_)) => false,
            (_, None) => ran_us >= DAY_US,
        };
        self.day = today.or(self.day);
        if is_over {
            self.measured = 0;
            self.granted = 0;
            self.began_us = now.monotonic_us;
        }
    }

    fn date(&self, now: &Moment) -> Option<Date> {
        let wall = jiff::Timestamp::from_microsecond(now.wall.as_micros()).ok()?;
        Some(wall.to_zoned(self.zone.clone()).date())
    }

    fn midnight(&self, now: &Moment) -> Option<Timestamp> {
        let today = now.synced.then(|| self.date(now)).flatten()?;
        let next = today.tomorrow().ok()?.to_zoned(self.zone.clone()).ok()?;
        Timestamp::from_micros(next.timestamp().as_microsecond()).ok()
    }
}
