//! What the group has not read yet, against what the topic still keeps.

/// How the group stands in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// Records deleted before they were read.
    pub lost: u64,
    /// Partitions whose oldest unread record has spent half of its time.
    pub late: usize,
}

/// Judges partition by partition: what the group wants next (`None` before its first record: the
/// earliest), and the first record that is younger than half of the retention, with the earliest there is.
#[must_use]
pub fn judge(committed: &[Option<i64>], since_half: &[(i64, i64)]) -> Lag {
    let mut lag = Lag::default();
    for (next, (young, earliest)) in committed.iter().zip(since_half) {
        let next = next.unwrap_or(*earliest);
        lag.lost += u64::try_from(earliest - next).unwrap_or(0);
        if next.max(*earliest) < *young {
            lag.late += 1;
        }
    }
    lag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_and_what_will_be_is_told_apart() {
        let lag = |lost, late| Lag { lost, late };
        for (next, young, earliest, expected) in [
            // All read; nothing there.
            (Some(100), 100, 0, lag(0, 0)),
            (None, 0, 0, lag(0, 0)),
            // Unread, but young.
            (Some(90), 80, 0, lag(0, 0)),
            // Unread and old.
            (Some(70), 80, 0, lag(0, 1)),
            (None, 80, 0, lag(0, 1)),
            // Some of it is gone, the rest is young, or old as well.
            (Some(70), 80, 80, lag(10, 0)),
            (Some(70), 85, 80, lag(10, 1)),
        ] {
            assert_eq!(
                judge(&[next], &[(young, earliest)]),
                expected,
                "{next:?} {young} {earliest}"
            );
        }
    }
}
