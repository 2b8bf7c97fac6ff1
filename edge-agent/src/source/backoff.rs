//! How long to wait before the next attempt.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

const FIRST: Duration = Duration::from_millis(250);

/// Doubles from 250 ms up to a bound, each wait shortened by up to half at random, so that many agents
/// do not come back to one broker at the same moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Never waits longer than `longest`.
    #[must_use]
    pub fn new(longest: Duration) -> Self {
        Self {
            longest,
            next: FIRST.min(longest),
        }
    }

    /// The next wait; `random` is any number.
    pub fn wait(&mut self, random: u64) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        let half = wait / 2;
        let share = u32::try_from(random % 1001).unwrap_or(0);
        half + half * share / 1000
    }

    /// The link worked: begin anew.
    pub fn reset(&mut self) {
        self.next = FIRST.min(self.longest);
    }
}

/// A number from the operating system's randomness, by way of the hasher that the standard library seeds.
#[must_use]
pub fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_begin_anew_after_success() {
        let mut backoff = Backoff::new(Duration::from_secs(2));
        let longest: Vec<u128> = (0..5).map(|_| backoff.wait(1000).as_millis()).collect();
        assert_eq!(longest, [250, 500, 1000, 2000, 2000]);
        backoff.reset();
        assert_eq!(backoff.wait(0), Duration::from_millis(125));
        assert_eq!(backoff.wait(500), Duration::from_millis(375));
    }
}
