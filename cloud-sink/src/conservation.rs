//! Invariant 6, conservation: what was consumed is somewhere, exactly, in every scrape.
//!
//! ```text
//! consumed = written + duplicates + dead_letters + conflicts + control + in_flight + revoked
//! ```
//!
//! All numbers change together under one lock, by moves that keep the equation, so a snapshot can
//! never show it broken. One per process; Kafka records.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// The numbers of the equation, since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Taken from Kafka.
    pub consumed: u64,
    /// MongoDB has them, by our insert.
    pub written: u64,
    /// MongoDB had them, with the same digest.
    pub duplicates: u64,
    /// The dead-letter topic has them.
    pub dead_letters: u64,
    /// MongoDB had another reading of that id; this one is kept whole in `incidents`.
    pub conflicts: u64,
    /// Facts of the control topic, applied or older than what is known.
    pub control: u64,
    /// Taken, not settled yet.
    pub in_flight: u64,
    /// Were in flight when their partition went to another sink, which takes them again.
    pub revoked: u64,
}

impl Balance {
    /// Whether the equation holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.consumed
            == self.written
                + self.duplicates
                + self.dead_letters
                + self.conflicts
                + self.control
                + self.in_flight
                + self.revoked
    }
}

/// How a record ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settled {
    /// Inserted.
    Written,
    /// Was there already, the same.
    Duplicate,
    /// Is in the dead-letter topic.
    DeadLetter,
    /// Another reading has its id; kept as an incident.
    Conflict,
    /// A fact, applied.
    Control,
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
        *self.lock()
    }

    /// Records came from Kafka.
    pub fn consumed(&self, records: u64) {
        let mut balance = self.lock();
        balance.consumed += records;
        balance.in_flight += records;
    }

    /// Records in flight came to their end.
    pub fn settled(&self, how: Settled, records: u64) {
        let mut balance = self.lock();
        balance.in_flight -= records;
        *match how {
            Settled::Written => &mut balance.written,
            Settled::Duplicate => &mut balance.duplicates,
            Settled::DeadLetter => &mut balance.dead_letters,
            Settled::Conflict => &mut balance.conflicts,
            Settled::Control => &mut balance.control,
        } += records;
    }

    /// Records in flight went with their partition.
    pub fn revoked(&self, records: u64) {
        let mut balance = self.lock();
        balance.in_flight -= records;
        balance.revoked += records;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_move_keeps_the_equation() {
        let kept = Conservation::default();
        kept.consumed(10);
        for how in [
            Settled::Written,
            Settled::Duplicate,
            Settled::DeadLetter,
            Settled::Conflict,
            Settled::Control,
        ] {
            kept.settled(how, 1);
            assert!(kept.snapshot().holds());
        }
        kept.revoked(2);
        let balance = kept.snapshot();
        assert!(balance.holds());
        assert_eq!(balance.in_flight, 3);
    }
}
