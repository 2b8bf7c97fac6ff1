//! One line of numbers per interval.

use std::time::{Duration, Instant};

use tracing::info;

use crate::conservation::Balance;

/// How often the numbers are logged, when they changed.
pub const SUMMARY_EVERY: Duration = Duration::from_secs(10);

/// Says what happened in an interval, if anything did.
#[derive(Debug)]
pub struct Summary {
    last: Balance,
    at: Instant,
}

/// The numbers of one interval.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Interval {
    received: u64,
    committed: u64,
    acknowledged: u64,
    rejected: u64,
    retransmitted: u64,
    dropped: u64,
    queued: u64,
    received_per_s: f64,
    acknowledged_per_s: f64,
}

impl Summary {
    /// Counts from here.
    #[must_use]
    pub fn new(balance: Balance, now: Instant) -> Self {
        Self {
            last: balance,
            at: now,
        }
    }

    /// Logs the interval that ends now.
    pub fn log(&mut self, balance: Balance, now: Instant) {
        if let Some(interval) = self.next(balance, now) {
            info!(
                received = interval.received,
                committed = interval.committed,
                acknowledged = interval.acknowledged,
                queued = interval.queued,
                rejected = interval.rejected,
                retransmitted = interval.retransmitted,
                dropped = interval.dropped,
                received_per_s = interval.received_per_s,
                acknowledged_per_s = interval.acknowledged_per_s,
                "readings"
            );
        }
    }

    fn next(&mut self, balance: Balance, now: Instant) -> Option<Interval> {
        let seconds = now.duration_since(self.at).as_secs_f64();
        self.at = now;
        if balance == self.last {
            return None;
        }
        let last = std::mem::replace(&mut self.last, balance);
        let this = &self.last;
        let rate = |count: u64| {
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = count as f64 / seconds.max(f64::MIN_POSITIVE);
            (rate * 10.0).round() / 10.0
        };
        let received = this.received - last.received;
        let acknowledged = this.acknowledged - last.acknowledged;
        Some(Interval {
            received,
            committed: committed(this) - committed(&last),
            acknowledged,
            rejected: this.rejected - last.rejected,
            retransmitted: this.retransmitted - last.retransmitted,
            dropped: dropped(this) - dropped(&last),
            queued: this.queued,
            received_per_s: rate(received),
            acknowledged_per_s: rate(acknowledged),
        })
    }
}

fn dropped(balance: &Balance) -> u64 {
    balance.dropped.iter().sum()
}

/// Readings that have an identity, or were recorded as lost instead of getting one.
fn committed(balance: &Balance) -> u64 {
    let open = balance.uncommitted + balance.rejected + balance.retransmitted;
    let open = open + balance.suppressed.iter().sum::<u64>();
    balance.received.saturating_sub(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_without_change_says_nothing() {
        let start = Instant::now();
        let mut summary = Summary::new(Balance::default(), start);
        assert_eq!(
            summary.next(Balance::default(), start + SUMMARY_EVERY),
            None
        );
    }

    #[test]
    fn an_interval_counts_what_happened_in_it() {
        let start = Instant::now();
        let before = Balance {
            received: 10,
            acknowledged: 5,
            queued: 5,
            ..Balance::default()
        };
        let after = Balance {
            received: 110,
            acknowledged: 55,
            queued: 40,
            rejected: 3,
            retransmitted: 2,
            dropped: [7, 0, 0, 0, 0, 0],
            uncommitted: 3,
            ..Balance::default()
        };
        assert!(before.holds() && after.holds());
        let mut summary = Summary::new(before, start);
        assert_eq!(
            summary.next(after, start + SUMMARY_EVERY),
            Some(Interval {
                received: 100,
                committed: 92,
                acknowledged: 50,
                rejected: 3,
                retransmitted: 2,
                dropped: 7,
                queued: 40,
                received_per_s: 10.0,
                acknowledged_per_s: 5.0,
            })
        );
    }
}
