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
fn a_partition_that_nobody_can_take_has_the_age_that_the_brokers_tell() {
    let unread = unread();
    unread.revoke(&partition());
    assert_eq!(left(&unread, None, 40), None, "nobody asked");
    unread.wait(HashMap::from([(partition(), 10 * MINUTE)]));
    assert_eq!(left(&unread, None, 40), Some(30), "of minute 10");
    unread.assign(&partition());
    unread.taken(&at(7, 30 * MINUTE));
    assert_eq!(left(&unread, Some(9), 40), Some(50), "it knows better");
    unread.revoke(&partition());
    unread.wait(HashMap::new());
    assert_eq!(left(&unread, None, 40), None);
    assert_eq!(unread.limited(), [Arc::from("t")]);
}

/// A record a minute comes; the sink takes what the brokers have at once and settles some of it. The loss comes nearer
/// only where the lag grows, and long before the topic is that old.
#[test]
fn the_time_to_loss_follows_the_lag() {
    for (what, settled_after, expected, behind_at) in [
        // Minutes a record waits, at each minute; time to loss at minutes 20, 40, 55; when less than half is left.
        ("steady", (|_| 5) as fn(i64) -> i64, [55, 55, 55], None),
        ("growing", |minute| minute + 1, [40, 20, 5], Some(31)),
        ("shrinking", |minute| 40 - minute / 2, [40, 40, 47], None),
        ("none", |_| 0, [60, 60, 60], None),
    ] {
        let unread = unread();
        let mut seen = [None; 60];
        for minute in 0..60 {
            unread.taken(&at(minute, minute * MINUTE));
            let waits = settled_after(minute);
            // The record of `minute - waits` is the oldest that waits; with none waiting, that of now is settled too.
            let next = if waits == 0 {
                minute + 1
            } else {
                minute - waits
            };
            unread.settled(&partition(), next.max(0));
            let lag = (minute + 1 - next.max(0)).unsigned_abs();
            seen[usize::try_from(minute).unwrap()] = left(&unread, Some(lag), minute);
        }
        assert_eq!([seen[20], seen[40], seen[55]], expected.map(Some), "{what}");
        let behind = seen.iter().position(|left| *left < Some(30));
        assert_eq!(behind, behind_at, "{what}");
    }
}

#[test]
fn an_idle_partition_never_comes_near_its_loss_and_one_that_is_kept_for_ever_has_none() {
    let unread = unread();
    unread.taken(&at(0, 0));
    unread.settled(&partition(), 1);
    for minute in [0, 59, 61, 10_000] {
        assert_eq!(left(&unread, Some(0), minute), Some(60), "at {minute}");
    }
    unread.taken(&at(1, 10_001 * MINUTE));
    assert_eq!(left(&unread, Some(1), 10_031), Some(30), "it wakes");
    for retention in [
        Retention::of("compact", "3600000"),
        Retention::of("delete", "-1"),
    ] {
        unread.keep(HashMap::from([("t".into(), retention.unwrap())]));
        assert_eq!(left(&unread, Some(1), 20_000), None);
    }
}

#[test]
fn each_partition_has_its_own_time_to_loss() {
    let unread = unread();
    let other = Partition {
        number: 1,
        ..partition()
    };
    unread.assign(&other);
    unread.taken(&at(0, 0));
    unread.taken(&Coordinates {
        partition: other.clone(),
        ..at(0, 20 * MINUTE)
    });
    let lags = HashMap::from([(partition(), 1), (other, 1)]);
    let told: Vec<_> = unread
        .remaining(&lags, 40 * MINUTE)
        .iter()
        .map(|(partition, one)| (partition.number, one.left.as_secs() / 60))
        .collect();
    assert_eq!(told, [(0, 20), (1, 40)]);
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
