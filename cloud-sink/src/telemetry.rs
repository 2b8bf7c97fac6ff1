//! What the sink says of itself while it runs: a line at most every ten seconds, and the counters that
//! lines and metrics share.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use protocol::GatewayId;
use tracing::{error, info};

use crate::{
    conservation::{Balance, Conservation},
    dead_letter::DeadLetter,
    decode::Reason,
    kafka::{DeadLetterError, Gate},
    store::readings::Entry,
};

/// One "written" line, and one line of each kind of trouble, in this time.
pub const WINDOW: Duration = Duration::from_secs(10);

/// Counters beside the balance, and when each kind of trouble was last said.
#[derive(Debug, Default)]
pub struct Telemetry {
    reasons: Mutex<BTreeMap<Reason, Said>>,
    conflicts: Mutex<Said>,
    held: Mutex<Said>,
    gaps: AtomicU64,
    ready: AtomicBool,
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
    /// A record is in the dead-letter topic.
    pub fn dead_letter(&self, letter: &DeadLetter) {
        let reason = letter.cause.reason;
        let said = lock(&self.reasons).entry(reason).or_default().count(1);
        let Some(n) = said else { return };
        let at = &letter.message.at;
        let gateway = letter.message.gateway();
        error!(
            reason = reason.as_str(),
            gateway = gateway.as_ref().map(GatewayId::as_str),
            topic = %at.partition.topic,
            partition = at.partition.number,
            offset = at.offset,
            detail = letter.cause.detail,
            n,
            "dead letter"
        );
    }

    /// Dead letters could not be written; their partitions wait.
    pub fn dead_letters_held(&self, cause: &DeadLetterError, letters: usize) {
        if lock(&self.held).count(letters as u64).is_some() {
            error!(error = %cause, letters, "dead letters not written, their partitions wait");
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

    /// Records were gone before they were read.
    pub fn gap(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }

    /// Gaps since the start.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// Dead letters by reason.
    #[must_use]
    pub fn dead_letters(&self) -> BTreeMap<Reason, u64> {
        let reasons = lock(&self.reasons);
        reasons
            .iter()
            .map(|(reason, said)| (*reason, said.count))
            .collect()
    }

    /// Partitions are assigned; said once.
    pub fn ready(&self, partitions: usize, lag: Option<u64>) {
        // Also with none: a sink beyond the number of partitions stands by.
        if !self.ready.swap(true, Ordering::AcqRel) {
            info!(partitions, lag, "ready");
        }
    }

    /// Whether partitions were ever assigned.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}

/// Says every [`WINDOW`] what was done in it, if anything was.
pub async fn report(kept: &Conservation, gate: &Gate) {
    let mut before = Balance::default();
    let mut tick = tokio::time::interval(WINDOW);
    loop {
        tick.tick().await;
        let now = kept.snapshot();
        if (now.written, now.duplicates, now.dead_letters, now.conflicts)
            != (
                before.written,
                before.duplicates,
                before.dead_letters,
                before.conflicts,
            )
        {
            info!(
                docs = now.written - before.written,
                duplicates = now.duplicates - before.duplicates,
                dead_letters = now.dead_letters - before.dead_letters,
                conflicts = now.conflicts - before.conflicts,
                lag = gate.lag().unwrap_or(0),
                window = "10s",
                "written"
            );
        }
        before = now;
    }
}
