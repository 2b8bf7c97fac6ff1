use super::*;

const MINUTE: i64 = 60_000;

fn partition() -> Partition {
    Partition {
        topic: "t".into(),
        number: 0,
    }
}

fn at(offset: i64, timestamp_ms: i64) -> Coordinates {
    Coordinates {
        partition: partition(),
        offset,
        timestamp_ms: Some(timestamp_ms),
    }
}

/// Of a topic that keeps an hour.
fn unread() -> Unread {
    let unread = Unread::default();
    let hour = Retention::Limited(Duration::from_secs(3600));
    unread.keep(HashMap::from([("t".into(), hour)]));
    unread.assign(&partition());
    unread
}

/// Minutes until the loss at that minute.
fn left(unread: &Unread, lag: Option<u64>, minute: i64) -> Option<u64> {
    let lags = lag.map(|lag| (partition(), lag)).into_iter().collect();
    let remaining = unread.remaining(&lags, minute * MINUTE);
    remaining.first().map(|(_, one)| one.left.as_secs() / 60)
}

#[test]
fn the_oldest_record_that_is_not_settled_counts() {
    let unread = unread();
    assert_eq!(left(&unread, Some(9), 0), None, "nothing is known yet");
    for minute in 0..30 {
        unread.taken(&at(minute, minute * MINUTE));
    }
    assert_eq!(left(&unread, Some(9), 30), Some(30), "of minute 0");
    unread.settled(&partition(), 20);
    assert_eq!(left(&unread, Some(9), 30), Some(50), "of minute 20");
    unread.settled(&partition(), 30);
    assert_eq!(left(&unread, Some(0), 40), Some(60), "nothing is unread");
    assert_eq!(
        left(&unread, Some(3), 45),
        Some(55),
        "three came after minute 40, none is taken yet"
    );
    assert_eq!(left(&unread, Some(3), 101), Some(0), "may be gone");
    unread.revoke(&partition());
    assert_eq!(left(&unread, Some(3), 101), None);
}

#[test]
fn what_came_after_the_last_settled_record_is_not_older_than_it() {
    let unread = unread();
    unread.taken(&at(5, 10 * MINUTE));
    unread.settled(&partition(), 6);
    assert_eq!(left(&unread, None, 30), Some(40));
}

#[test]
fn thousands_of_records_of_one_second_are_one_sample() {
    let mut in_flight = InFlight::default();
    for offset in 0..10_000 {
        in_flight.taken(offset, Some(offset / 10));
    }
    assert_eq!(in_flight.samples.len(), 1);
    in_flight.settled(9_000);
    assert_eq!(in_flight.age(None, 1000), Some(Duration::from_secs(1)));
}

#[test]
fn a_topic_says_how_long_it_keeps_what() {
    for (policy, ms, expected) in [
        (
            "delete",
            "604800000",
            Some(Retention::Limited(Duration::from_secs(604_800))),
        ),
        ("delete", "-1", Some(Retention::Unlimited)),
        ("compact", "604800000", Some(Retention::Unlimited)),
        (
            "compact,delete",
            "1000",
            Some(Retention::Limited(Duration::from_secs(1))),
        ),
        ("delete", "soon", None),
    ] {
        assert_eq!(Retention::of(policy, ms), expected, "{policy} {ms}");
    }
}

#[test]
fn the_alarm_speaks_at_a_change_and_hourly_and_does_not_flutter() {
    let start = Instant::now();
    let mut alarm = Alarm::default();
    let minute = Duration::from_secs(60);
    for (at, left, said) in [
        (0, 100, None),
        (1, 51, None),
        (2, 49, Some(Urgency::Behind)),
        (3, 51, None),
        (4, 49, None),
        (62, 49, Some(Urgency::Behind)),
        (63, 9, Some(Urgency::Soon)),
        (64, 11, None),
        (65, 13, Some(Urgency::Behind)),
        (66, 61, Some(Urgency::Calm)),
        (200, 99, None),
    ] {
        let remaining = Remaining {
            left: left * minute,
            retention: 100 * minute,
        };
        assert_eq!(
            alarm.judge(remaining, start + at * minute),
            said,
            "minute {at}"
        );
    }
}

#[test]
fn a_span_is_shown_in_two_units() {
    for (seconds, shown) in [
        (0, "0s"),
        (59, "59s"),
        (252, "4m12s"),
        (3600, "1h"),
        (86_400 * 7 - 1, "6d23h"),
        (86_400, "1d"),
    ] {
        assert_eq!(show(Duration::from_secs(seconds)), shown);
    }
}
