//! A producer that is connected, has records under way, and gets none of them through: when it is given up.
//!
//! librdkafka believes no leader of an earlier epoch than the last it has seen. A topic that is deleted and made again
//! begins with the first epoch, so a producer that sent nothing meanwhile may go on to ask the old leader, which refuses, for
//! ever. A new producer has seen no epoch. There may be other ways to stand still; records that come twice are all
//! that trying anew costs.
//!
//! A producer without a connection is left alone: waiting is all that helps there.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// What librdkafka gives one request to be sent and answered, in milliseconds, unless it is set.
const REQUEST_MS: u64 = 60_000;

/// How long nothing has got through.
#[derive(Debug)]
pub struct Stall {
    patience: Duration,
    since: Option<Instant>,
}

impl Stall {
    /// With the patience for three requests, one after the other: the slowest link gets one through meanwhile.
    pub fn new(own: &BTreeMap<String, String>) -> Self {
        let set = own.get("socket.timeout.ms");
        let request = set.and_then(|millis| millis.parse().ok());
        Self {
            patience: Duration::from_millis(request.unwrap_or(REQUEST_MS).saturating_mul(3)),
            since: None,
        }
    }

    /// Something got through, nothing is under way, there is no connection, or the producer is new.
    pub fn over(&mut self) {
        self.since = None;
    }

    /// At `now` there is a connection and something under way; for how long that has been so in vain, once it is too long.
    pub fn goes_on(&mut self, now: Instant) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        let stood = now.saturating_duration_since(since);
        (stood >= self.patience).then_some(stood)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_is_given_up_only_after_three_requests_in_vain() {
        let set = |millis: &str| BTreeMap::from([("socket.timeout.ms".into(), millis.into())]);
        for (own, patience) in [
            (BTreeMap::new(), 180),
            (set("2000"), 6),
            (set("nonsense"), 180),
        ] {
            let (mut stall, start) = (Stall::new(&own), Instant::now());
            let at = |seconds| start + Duration::from_secs(seconds);
            assert_eq!(stall.goes_on(at(0)), None);
            assert_eq!(stall.goes_on(at(patience - 1)), None);
            // One record that gets through begins it anew.
            stall.over();
            assert_eq!(stall.goes_on(at(patience)), None);
            assert_eq!(stall.goes_on(at(2 * patience - 1)), None);
            let stood = stall.goes_on(at(2 * patience));
            assert_eq!(stood, Some(Duration::from_secs(patience)));
        }
    }
}
