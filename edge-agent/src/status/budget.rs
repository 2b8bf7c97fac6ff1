//! How long the uplink may be away. Pure.

use std::time::Duration;

use crate::queue::Stat;

/// Below so many readings what a lane has on disk is mostly what an empty one has.
const ENOUGH: u64 = 100;

/// From now until `max_bytes` is reached or the oldest reading is older than `max_age`, if readings come at
/// `per_second` and nothing is sent. `None` while nothing comes, or nothing is known of what a reading takes.
///
/// What a reading takes is what those on disk take; of too few, what the commits since the start wrote for
/// each, which is more than stays.
#[expect(
    clippy::cast_precision_loss,
    reason = "an estimate, of numbers far below 2^52"
)]
pub fn offline(
    stat: &Stat,
    per_second: Option<f64>,
    oldest: Option<Duration>,
    max_age: Duration,
) -> Option<Duration> {
    let (bytes, readings) = match stat.stored {
        ENOUGH.. => (stat.bytes, stat.stored),
        _ => (stat.written_bytes, stat.committed),
    };
    let per_second = per_second.filter(|rate| *rate > 0.0)?;
    if readings == 0 || bytes == 0 {
        return None;
    }
    let growth = per_second * bytes as f64 / readings as f64;
    let room = stat.max_bytes.saturating_sub(stat.bytes) as f64 / growth;
    let room = Duration::try_from_secs_f64(room).unwrap_or(Duration::MAX);
    Some(room.min(max_age.saturating_sub(oldest.unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_what_is_reached_first() {
        let day = Duration::from_secs(86_400);
        let stat = |stored, bytes| Stat {
            stored,
            bytes,
            max_bytes: 10_000_000,
            written_bytes: 40_000,
            committed: 100,
            ..Stat::default()
        };
        let seconds = Duration::from_secs;
        for (what, stat, rate, oldest, expected) in [
            (
                "nothing comes",
                stat(5000, 1_000_000),
                Some(0.0),
                None,
                None,
            ),
            ("not known yet", stat(5000, 1_000_000), None, None, None),
            // 200 bytes each.
            (
                "room",
                stat(5000, 1_000_000),
                Some(10.0),
                None,
                Some(seconds(4500)),
            ),
            (
                "full",
                stat(50_000, 11_000_000),
                Some(10.0),
                None,
                Some(seconds(0)),
            ),
            // 400 bytes each, as written since the start.
            (
                "few wait",
                stat(3, 6_000_000),
                Some(10.0),
                None,
                Some(seconds(1000)),
            ),
            (
                "age",
                stat(5000, 1_000_000),
                Some(0.001),
                Some(seconds(400)),
                Some(day - seconds(400)),
            ),
            (
                "too old",
                stat(5000, 1_000_000),
                Some(0.001),
                Some(2 * day),
                Some(seconds(0)),
            ),
        ] {
            assert_eq!(offline(&stat, rate, oldest, day), expected, "{what}");
        }
        let fresh = Stat {
            max_bytes: 1,
            ..Stat::default()
        };
        assert_eq!(
            offline(&fresh, Some(1.0), None, day),
            None,
            "nothing was written yet"
        );
    }
}
