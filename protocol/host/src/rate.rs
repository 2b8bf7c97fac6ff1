//! Counters as rates: how fast something went over the last minute. Pure.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What a rate is taken over.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How often counters should be noted. More often is passed by.
pub const EVERY: Duration = Duration::from_secs(1);

/// `N` counters of the last [`WINDOW`].
#[derive(Debug)]
pub struct Rates<const N: usize>(VecDeque<(Instant, [u64; N])>);

impl<const N: usize> Default for Rates<N> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<const N: usize> Rates<N> {
    /// The counters at a moment.
    pub fn note(&mut self, now: Instant, counters: [u64; N]) {
        let too_soon = |(last, _): &(Instant, _)| now.saturating_duration_since(*last) < EVERY / 2;
        if self.0.back().is_some_and(too_soon) {
            return;
        }
        // One older than the window stays, as its beginning.
        while self.0.get(1).is_some_and(|(at, _)| now - *at >= WINDOW) {
            self.0.pop_front();
        }
        self.0.push_back((now, counters));
    }

    /// Each per second; `None` before two moments are known.
    #[must_use]
    pub fn per_second(&self) -> Option<[f64; N]> {
        let ((began, first), (ended, last)) = (self.0.front()?, self.0.back()?);
        let took = ended.duration_since(*began).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "of a minute, and only shown")]
        let rate = |at: usize| last[at].saturating_sub(first[at]) as f64 / took;
        (took > 0.0).then(|| std::array::from_fn(rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_minute() {
        let start = Instant::now();
        let mut rates = Rates::default();
        assert_eq!(rates.per_second(), None);
        let mut counter = 0;
        // 10 a second for two minutes, then nothing; noted twice as often as wanted at first.
        for (tenths, expected) in [(0, None), (2, None), (10, Some(10.0)), (20, Some(10.0))] {
            counter = tenths;
            rates.note(start + Duration::from_millis(100 * tenths), [counter, 7]);
            let per_second = rates.per_second().map(|[rate, still]| {
                assert!(still.abs() < f64::EPSILON);
                rate
            });
            assert_eq!(per_second, expected, "at {tenths} tenths");
        }
        for second in 3..=120 {
            counter = 10 * second;
            rates.note(start + Duration::from_secs(second), [counter, 7]);
        }
        assert!(rates.0.len() <= 62, "{}", rates.0.len());
        for second in 121..=150 {
            rates.note(start + Duration::from_secs(second), [counter, 7]);
        }
        assert_eq!(rates.per_second(), Some([5.0, 0.0]));
        for second in 151..=190 {
            rates.note(start + Duration::from_secs(second), [counter, 7]);
        }
        assert_eq!(rates.per_second(), Some([0.0, 0.0]));
    }
}
