//! Counts what was rejected and keeps a noisy source from filling the log.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::warn;

use super::Rejection;

/// One line for the same source and reason in this time; the rest is a count.
const QUIET: Duration = Duration::from_secs(60);

/// By source, which configuration bounds, and reason.
#[derive(Debug, Default)]
pub struct Rejections(Mutex<BTreeMap<(String, Rejection), Seen>>);

#[derive(Debug, Default)]
struct Seen {
    total: u64,
    unreported: u64,
    reported: Option<Instant>,
}

impl Seen {
    /// Whether this is the first in a while, and worth a line of its own.
    fn note(&mut self, now: Instant, readings: u64) -> bool {
        self.total += readings;
        let quiet = self.reported.is_some_and(|at| now < at + QUIET);
        if quiet || self.unreported > 0 {
            self.unreported += readings;
            return false;
        }
        self.reported = Some(now);
        true
    }

    /// How many came since the last line, once a line is due.
    fn due(&mut self, now: Instant) -> Option<u64> {
        let quiet = self.reported.is_some_and(|at| now < at + QUIET);
        if quiet || self.unreported == 0 {
            return None;
        }
        self.reported = Some(now);
        Some(std::mem::take(&mut self.unreported))
    }
}

impl Rejections {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, Rejection), Seen>> {
        // Only counts: a panic elsewhere leaves them whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts, and logs the first.
    pub fn note(
        &self,
        now: Instant,
        source: &str,
        reason: Rejection,
        readings: u64,
        detail: &dyn Display,
    ) {
        let first = self
            .lock()
            .entry((source.to_owned(), reason))
            .or_default()
            .note(now, readings);
        if first {
            let reason = reason.as_str();
            warn!(source, reason, n = readings, %detail, "rejected");
        }
    }

    /// Logs the counts that are due.
    pub fn report(&self, now: Instant) {
        for ((source, reason), seen) in self.lock().iter_mut() {
            if let Some(n) = seen.due(now) {
                let (reason, total) = (reason.as_str(), seen.total);
                warn!(source, reason, n, total, "rejected more");
            }
        }
    }

    /// Everything since the start.
    pub fn totals(&self) -> Vec<(String, Rejection, u64)> {
        self.lock()
            .iter()
            .map(|((source, reason), seen)| (source.clone(), *reason, seen.total))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rejection_is_told_and_the_rest_collapse_to_a_count_a_minute() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut seen = Seen::default();
        assert!(seen.note(at(0), 1));
        assert_eq!(seen.due(at(59)), None);
        assert!(!seen.note(at(1), 2));
        assert!(!seen.note(at(30), 3));
        assert_eq!(seen.due(at(59)), None);
        assert_eq!(seen.due(at(60)), Some(5));
        assert_eq!(seen.due(at(61)), None);
        assert!(!seen.note(at(100), 1));
        assert_eq!(seen.due(at(120)), Some(1));
        assert!(
            seen.note(at(200), 1),
            "after a quiet minute it is news again"
        );
        assert_eq!(seen.total, 8);
    }
}
