//! What the sink says of itself while it runs: a line at most every ten seconds, and the counters that
//! lines and metrics share.

mod report;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use crate::{
    checkpoint::Gap, coverage::Missing, dead_letter::DeadLetter, decode::Reason,
    kafka::DeadLetterError, latency::Latencies, message::Partition, store::readings::Entry,
    unread::Unread,
};

pub use report::{report, watch_backlog, watch_retention};

/// One "written" line, and one line of each kind of trouble, in this time.
pub const WINDOW: Duration = Duration::from_secs(10);

/// Counters beside the balance, and when each kind of trouble was last said.
#[derive(Debug)]
pub struct Telemetry {
    group: String,
    reasons: Mutex<BTreeMap<Reason, Said>>,
    conflicts: Mutex<Said>,
    held: Mutex<Said>,
    gaps: AtomicU64,
    raw_values: AtomicU64,
    ready: AtomicBool,
    /// From the gateway to MongoDB.
    pub latencies: Latencies,
    /// How near retention is.
    pub unread: Unread,
}

#[derive(Debug, Default, Clone, Copy)]
struct Said {
    count: u64,
    unsaid: u64,
    at: Option<Instant>,
}

impl Said {
    /// Counts; returns how many this line stands for when it is time for one.
    fn count(&mut self, count: u64) -> Option<u64> {
        self.count += count;
        self.unsaid += count;
        if self.at.is_some_and(|at| at.elapsed() < WINDOW) {
            return None;
        }
        self.at = Some(Instant::now());
        Some(std::mem::take(&mut self.unsaid))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Plain counters: a panic elsewhere leaves them whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Telemetry {
    /// Nothing yet; `group` is the consumer group.
    #[must_use]
    pub fn new(group: String) -> Self {
        Self {
            group,
            reasons: Mutex::default(),
            conflicts: Mutex::default(),
            held: Mutex::default(),
            gaps: AtomicU64::new(0),
            raw_values: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            latencies: Latencies::default(),
            unread: Unread::default(),
        }
    }

    /// A record is in the dead-letter topic.
    pub fn dead_letter(&self, letter: &DeadLetter) {
        let reason = letter.cause.reason;
        let said = lock(&self.reasons).entry(reason).or_default().count(1);
        let Some(n) = said else { return };
        let at = &letter.message.at;
        error!(
            reason = reason.as_str(),
            topic = %at.partition.topic,
            partition = at.partition.number,
            offset = at.offset,
            device = letter.device(),
            detail = letter.cause.detail,
            n = (n > 1).then_some(n),
            "dead letter"
        );
    }

    /// A document is in MongoDB, at that time in milliseconds since 1970.
    pub fn written(&self, entry: &Entry, now_ms: i64) {
        let misfits = entry.document.misfits() as u64;
        self.raw_values.fetch_add(misfits, Ordering::Relaxed);
        let arrived = entry.document.arrived_ms();
        if let Some(since) = arrived.or(entry.message.at.timestamp_ms) {
            self.latencies.add(now_ms.saturating_sub(since));
        }
    }

    /// Dead letters could not be written; their partitions wait.
    pub fn dead_letters_held(&self, cause: &DeadLetterError, letters: usize) {
        if lock(&self.held).count(letters as u64).is_some() {
            error!(error = %cause, letters, fix = cause.fix(), "dead letters not written, their partitions wait");
        }
    }

    /// Another reading has the id.
    pub fn conflict(&self, entry: &Entry) {
        if let Some(n) = lock(&self.conflicts).count(1) {
            let id = &entry.document.id;
            let device = entry.document.device();
            error!(
                id,
                device, n, "id conflict, second reading kept in incidents"
            );
        }
    }

    /// Records were gone before they were read, or the topic was made anew.
    pub fn gap(&self, partition: &Partition, gap: Gap) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
        let Partition { topic, number } = partition;
        let Gap { from, to } = gap;
        if gap.is_new_life() {
            error!(%topic, partition = number, expected = from, earliest = to, "topic was made anew, reading it from its start");
        } else {
            let missing = format_args!("{from}..{}", to - 1);
            error!(%topic, partition = number, %missing, n = to - from, "records gone before they were read");
        }
    }

    /// The consumer group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Values stored in `raw` since the start.
    #[must_use]
    pub fn raw_values(&self) -> u64 {
        self.raw_values.load(Ordering::Relaxed)
    }

    /// Gaps since the start.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// Dead letters by reason; all reasons, for a counter that begins at one shows no increase.
    #[must_use]
    pub fn dead_letters(&self) -> [(Reason, u64); Reason::ALL.len()] {
        let reasons = lock(&self.reasons);
        Reason::ALL.map(|reason| (reason, reasons.get(&reason).map_or(0, |said| said.count)))
    }

    /// Partitions are assigned; said once.
    pub fn ready(&self, partitions: usize, lag: Option<u64>) {
        // Also with none: a sink beyond the number of partitions stands by.
        if !self.ready.swap(true, Ordering::AcqRel) {
            info!(group = self.group, partitions, lag, "ready");
        }
    }

    /// Whether partitions were ever assigned.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}

/// Readings are not where they should be; the audit says why.
pub fn missing(missing: &Missing) {
    let Missing {
        gateway,
        epoch,
        first,
        last,
    } = missing;
    warn!(%gateway, %epoch, missing = %format_args!("{first}..{last}"), n = last - first + 1, "gap");
}

#[cfg(test)]
mod lines;
