//! What all links share: the device behind the plug, its clock, its faults, and the books.

pub(crate) mod mqtt;
pub(crate) mod native;
pub(crate) mod pty;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use crate::{
    device::{Reading, outbox::Entry, text},
    fault::{Action, Faults, Occasion},
    scenario::{Device, Link, Pty},
    signal::Moment,
    truth::{Line, State, TruthError, Writer},
};

/// How far the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Devices measure, faults strike.
    Playing,
    /// Nothing new; what is on its way is delivered.
    Settling,
    /// Stop now.
    Ended,
}

/// Counters of the whole run; each only grows.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub sent: AtomicU64,
    pub resent: AtomicU64,
    pub acknowledged: AtomicU64,
    pub rejected: AtomicU64,
    pub ring_full: AtomicU64,
    pub unheard: AtomicU64,
    pub faults: AtomicU64,
}

/// Why a run ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A truth that cannot be written makes the run worthless.
    #[error(transparent)]
    Truth(#[from] TruthError),
    /// A pseudo terminal failed.
    #[error("serial line of {device}")]
    Line {
        /// Whose.
        device: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A bug.
    #[error("thread {0} panicked")]
    Panicked(String),
}

/// What every device of a run sees.
#[derive(Debug)]
pub(crate) struct Shared {
    started: Instant,
    started_us: u64,
    phase: AtomicU8,
    pub faults_on: AtomicBool,
    pub books: Books,
    truth: Mutex<Option<Writer>>,
    failure: Mutex<Option<RunError>>,
}

impl Shared {
    pub fn new(truth: Option<Writer>) -> Self {
        let since_1970 = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            started: Instant::now(),
            started_us: u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX),
            phase: AtomicU8::new(0),
            faults_on: AtomicBool::new(true),
            books: Books::default(),
            truth: Mutex::new(truth),
            failure: Mutex::new(None),
        }
    }

    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The true time, whatever a device's clock says.
    pub fn wall_us(&self, now: Duration) -> u64 {
        let passed = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.started_us.saturating_add(passed)
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Playing,
            1 => Phase::Settling,
            _ => Phase::Ended,
        }
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// The run is over, and this is why; the first reason counts.
    pub fn fail(&self, error: RunError) {
        tracing::error!(%error, "run failed, ending");
        lock(&self.failure).get_or_insert(error);
        self.enter(Phase::Ended);
    }

    pub fn flush_truth(&self) {
        self.with_truth(Writer::flush);
    }

    /// The last line, unless the run failed. Nothing is written after it.
    pub fn finish(&self) -> Result<(), RunError> {
        let writer = lock(&self.truth).take();
        if let Some(failure) = lock(&self.failure).take() {
            return Err(failure);
        }
        Ok(writer.map_or(Ok(()), Writer::finish)?)
    }

    fn with_truth(&self, act: impl FnOnce(&mut Writer) -> Result<(), TruthError>) {
        let done = lock(&self.truth).as_mut().map(act);
        if let Some(Err(error)) = done {
            self.fail(error.into());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Occasions that a test or a demo orders, beside those of the scenario.
pub(crate) type Orders = Arc<Mutex<VecDeque<Occasion>>>;

/// One device behind its plug.
#[derive(Debug)]
pub(crate) struct Station {
    pub plan: Device,
    pub shared: Arc<Shared>,
    pub boot: u32,
    pub faults: Faults,
    orders: Orders,
    seed: u64,
    next_sequence: u32,
    next_at: Duration,
    clock_offset_s: i64,
    stalled_until: Duration,
}

impl Station {
    pub fn new(plan: Device, seed: u64, faults: Faults, shared: Arc<Shared>) -> (Self, Orders) {
        let orders = Orders::default();
        let boot = boot_at(shared.wall_us(shared.now()));
        let station = Self {
            next_at: plan.every,
            plan,
            shared,
            boot,
            faults,
            orders: Arc::clone(&orders),
            seed,
            next_sequence: 0,
            clock_offset_s: 0,
            stalled_until: Duration::ZERO,
        };
        (station, orders)
    }

    fn faulty(&self) -> bool {
        self.shared.phase() == Phase::Playing && self.shared.faults_on.load(Ordering::Relaxed)
    }

    /// The next occasion: clock and stall are the station's own affair, the link does the rest.
    pub fn occasion(&mut self, now: Duration) -> Option<Occasion> {
        let ordered = lock(&self.orders).pop_front();
        let occasion = match ordered {
            Some(occasion) => occasion,
            None if self.faulty() => self.faults.occasion(now)?,
            None => return None,
        };
        count(&self.shared.books.faults);
        tracing::info!(device = %self.plan.id, ?occasion, "fault");
        match occasion {
            Occasion::Stall(lasts) => self.stalled_until = now + lasts,
            Occasion::ClockJump(seconds) => self.clock_offset_s += seconds,
            Occasion::Reboot => {
                // Two reboots within a second still differ.
                self.boot = boot_at(self.shared.wall_us(now)).max(self.boot + 1);
                self.next_sequence = 0;
            }
            Occasion::Unplug(_) => {}
        }
        Some(occasion)
    }

    /// What becomes of the next transmission.
    pub fn action(&mut self, now: Duration) -> Action {
        if !self.faulty() {
            return Action::Pass;
        }
        let action = self.faults.transmission(now);
        if action != Action::Pass {
            count(&self.shared.books.faults);
        }
        action
    }

    pub fn loses_ack(&mut self, now: Duration) -> bool {
        let lost = self.faulty() && self.faults.loses_ack(now);
        if lost {
            count(&self.shared.books.faults);
        }
        lost
    }

    pub fn stalled(&self, now: Duration) -> bool {
        now < self.stalled_until && self.shared.phase() == Phase::Playing
    }

    /// When the next reading is to be taken.
    pub fn next_at(&self) -> Duration {
        match self.shared.phase() {
            Phase::Playing => self.next_at,
            Phase::Settling | Phase::Ended => Duration::MAX,
        }
    }

    /// What the device's own clock says, in microseconds since 1970.
    pub fn clock_us(&self, now: Duration) -> u64 {
        let offset_us = self.clock_offset_s.saturating_mul(1_000_000);
        self.shared.wall_us(now).saturating_add_signed(offset_us)
    }

    /// A reading, when it is time for one. A device whose ring is full does not measure.
    pub fn measure(&mut self, now: Duration, ring_is_full: bool) -> Option<Reading> {
        if self.shared.phase() != Phase::Playing || now < self.next_at {
            return None;
        }
        self.next_at += self.plan.every;
        if self.next_at + Duration::from_secs(2) < now {
            // A machine that was asleep does not make up for it.
            self.next_at = now;
        }
        if ring_is_full {
            count(&self.shared.books.ring_full);
            return None;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let period_ms = u64::try_from(self.plan.every.as_millis()).unwrap_or(u64::MAX);
        let moment = Moment::new(self.seed, &self.plan.id, self.boot, sequence, period_ms);
        Some(Reading {
            boot: self.boot,
            sequence,
            time_us: self.clock_us(now),
            values: self.plan.kind.measure(&moment),
        })
    }

    /// Nothing more can happen to this reading here: into the truth.
    pub fn settle(&self, entry: Entry, state: State, now: Duration) {
        let books = &self.shared.books;
        match state {
            State::Acknowledged => count(&books.acknowledged),
            State::Rejected => count(&books.rejected),
            State::Sent | State::Damaged => {}
        }
        let as_text = !matches!(self.plan.link, Link::Pty(Pty::Frames {}));
        let arrived = |value| {
            if as_text {
                text::after_text(&value)
            } else {
                value
            }
        };
        let line = Line {
            device: self.plan.id.clone(),
            boot: entry.reading.boot,
            seq: entry.reading.sequence,
            state,
            sends: entry.sends,
            reordered: entry.reordered,
            time: Some(entry.reading.time_us),
            sent: entry.first_sent.map(|at| self.shared.wall_us(at)),
            settled: self.shared.wall_us(now),
            values: (entry.reading.values.into_iter())
                .map(|(name, value)| (name.to_owned(), arrived(value).into()))
                .collect(),
        };
        self.shared.with_truth(|truth| truth.add(&line));
    }

    /// Notes a transmission in the books.
    pub fn count_sent(&self, again: bool) {
        let books = &self.shared.books;
        count(if again { &books.resent } else { &books.sent });
    }
}

/// A boot number as a counter of seconds since 1970: grows over restarts of the simulator, too, so that
/// no run repeats the identities of one before.
fn boot_at(wall_us: u64) -> u32 {
    u32::try_from(wall_us / 1_000_000).unwrap_or(u32::MAX)
}
