//! Invariant 6, conservation: what came in is somewhere, exactly, in every scrape.
//!
//! ```text
//! received + recovered_at_start = acknowledged + queued + dropped{reason} + rejected
//!                               + retransmitted + suppressed{reason} + uncommitted
//! ```
//!
//! All numbers change together under one lock, by moves that keep the equation, so a snapshot can
//! never show it broken. One per process; readings, not messages.

use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::control::LossReason;

use crate::process::Suppression;

/// The numbers of the equation, since the process started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balance {
    /// Came from a source.
    pub received: u64,
    /// Were in the queue at the start.
    pub recovered_at_start: u64,
    /// Kafka has them.
    pub acknowledged: u64,
    /// Durable in the queue.
    pub queued: u64,
    /// Recorded as lost, by [`LossReason`] in the order of [`LossReason::ALL`].
    pub dropped: [u64; LossReason::ALL.len()],
    /// Could not be decoded or accepted; their bytes are in the quarantine.
    pub rejected: u64,
    /// Recognised as sent again by the source.
    pub retransmitted: u64,
    /// Left out on purpose, by [`Suppression`] in the order of [`Suppression::ALL`].
    pub suppressed: [u64; Suppression::ALL.len()],
    /// Received, not durable yet.
    pub uncommitted: u64,
}

impl Balance {
    /// Whether the equation holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        let out = self.acknowledged
            + self.queued
            + self.dropped.iter().sum::<u64>()
            + self.rejected
            + self.retransmitted
            + self.suppressed.iter().sum::<u64>()
            + self.uncommitted;
        self.received + self.recovered_at_start == out
    }
}

/// Keeps the balance of one process.
#[derive(Debug, Default)]
pub struct Conservation(Mutex<Balance>);

impl Conservation {
    fn lock(&self) -> MutexGuard<'_, Balance> {
        // A panic elsewhere cannot leave the numbers half changed: each move is plain arithmetic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All numbers at one moment.
    #[must_use]
    pub fn snapshot(&self) -> Balance {
        self.lock().clone()
    }

    /// A lane was opened with readings in it.
    pub fn recovered(&self, readings: u64) {
        let mut balance = self.lock();
        balance.recovered_at_start += readings;
        balance.queued += readings;
    }

    /// A source handed over readings.
    pub fn received(&self, readings: u64) {
        let mut balance = self.lock();
        balance.received += readings;
        balance.uncommitted += readings;
    }

    /// A source got something that is no reading.
    pub fn rejected_at_source(&self, readings: u64) {
        let mut balance = self.lock();
        balance.received += readings;
        balance.rejected += readings;
    }

    /// A source got a reading that is not passed on.
    pub fn suppressed(&self, reason: Suppression) {
        let mut balance = self.lock();
        balance.received += 1;
        balance.suppressed[reason as usize] += 1;
    }

    /// Received readings became durable.
    pub fn committed(&self, readings: u64) {
        let mut balance = self.lock();
        balance.uncommitted -= readings;
        balance.queued += readings;
    }

    /// Received readings turned out to be known already.
    pub fn retransmitted(&self, readings: u64) {
        let mut balance = self.lock();
        balance.uncommitted -= readings;
        balance.retransmitted += readings;
    }

    /// Received readings were refused by ingest.
    pub fn rejected(&self, readings: u64) {
        let mut balance = self.lock();
        balance.uncommitted -= readings;
        balance.rejected += readings;
    }

    /// Received readings were recorded as lost instead of becoming durable.
    pub fn dropped_new(&self, readings: u64, reason: LossReason) {
        let mut balance = self.lock();
        balance.uncommitted -= readings;
        balance.dropped[reason as usize] += readings;
    }

    /// Queued readings were recorded as lost.
    pub fn dropped_queued(&self, readings: u64, reason: LossReason) {
        let mut balance = self.lock();
        balance.queued -= readings;
        balance.dropped[reason as usize] += readings;
    }

    /// Kafka acknowledged queued readings.
    pub fn acknowledged(&self, readings: u64) {
        let mut balance = self.lock();
        balance.queued -= readings;
        balance.acknowledged += readings;
    }
}
