//! What to do while MongoDB is away: hold, try with one batch, try less often, resume alone. Pure.

use std::time::{Duration, Instant};

const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// While it lasts, one line in this time.
const REPEAT: Duration = Duration::from_secs(60);

/// An outage from its first failure to its first success.
#[derive(Debug)]
pub struct Outage {
    since: Instant,
    retry_in: Duration,
    retry_at: Instant,
    said_at: Option<Instant>,
}

impl Outage {
    /// The first failure.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            retry_in: FIRST_RETRY,
            retry_at: now + FIRST_RETRY,
            said_at: None,
        }
    }

    /// Another failure: wait twice as long.
    pub fn failed(&mut self, now: Instant) {
        self.retry_in = (2 * self.retry_in).min(LONGEST_RETRY);
        self.retry_at = now + self.retry_in;
    }

    /// When to try next.
    #[must_use]
    pub fn retry_at(&self) -> Instant {
        self.retry_at
    }

    /// How long until then, as it was decided.
    #[must_use]
    pub fn retry_in(&self) -> Duration {
        self.retry_in
    }

    /// Since the first failure.
    #[must_use]
    pub fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Whether it is time for a line in the log.
    pub fn should_say(&mut self, now: Instant) -> bool {
        if self.said_at.is_some_and(|said| now < said + REPEAT) {
            return false;
        }
        self.said_at = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_become_rarer_and_lines_stay_few() {
        let start = Instant::now();
        let mut outage = Outage::new(start);
        let mut lines = u32::from(outage.should_say(start));
        let mut now = start;
        let mut waits = Vec::new();
        while now < start + Duration::from_secs(600) {
            now = outage.retry_at();
            outage.failed(now);
            waits.push(outage.retry_in().as_millis());
            lines += u32::from(outage.should_say(now));
        }
        assert_eq!(&waits[..6], [500, 1000, 2000, 4000, 5000, 5000]);
        assert!(lines <= 11, "{lines} lines in ten minutes");
    }
}
