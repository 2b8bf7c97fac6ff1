use jiff::tz::TimeZone;
use protocol::BootId;

use super::*;

/// At a time of 23 November 2026, and so many seconds since boot.
fn at(time: &str, since_boot_s: f64) -> Moment {
    on(&format!("2026-11-23T{time}Z"), since_boot_s, true)
}

fn on(time: &str, since_boot_s: f64, synced: bool) -> Moment {
    let wall: jiff::Timestamp = time.parse().unwrap();
    Moment {
        wall: Timestamp::from_micros(wall.as_microsecond()).unwrap(),
        synced,
        boot: BootId(7),
        monotonic_us: u64::try_from(Duration::from_secs_f64(since_boot_s).as_micros()).unwrap(),
    }
}

fn time(text: &str) -> Option<Timestamp> {
    Some(on(text, 0.0, true).wall)
}

fn window(opens: &str, lasts_s: u64, zone: &str) -> Window {
    Window::parse(opens, zone, Duration::from_secs(lasts_s)).unwrap()
}

fn allowance(limits: &Limits) -> Allowance {
    Allowance::new(limits, Spent::default(), &at("00:00:00", 0.0))
}

#[test]
fn a_lane_without_limits_sends_whatever_there_is_room_for() {
    let mut free = allowance(&Limits::default());
    for second in 0..10 {
        let now = at("12:00:00", f64::from(second));
        assert_eq!(free.next(&now, false, 4000), Decision::Send(4000));
        (0..4000).for_each(|_| free.sent(&now, 5000));
    }
}

#[test]
fn a_lane_sends_while_one_of_its_windows_is_open_and_knows_when_the_next_one_opens() {
    let night = window("0 1 * * *", 4 * 3600, "UTC");
    let noon = window("30 12 * * 1-5", 60, "UTC");
    let berlin = window("0 1 * * *", 3600, "Europe/Berlin");
    let over_midnight = window("0 23 * * *", 2 * 3600, "UTC");
    for (windows, now, open, next) in [
        (
            vec![night.clone()],
            "2026-11-23T00:59:59Z",
            false,
            "2026-11-23T01:00:00Z",
        ),
        (vec![night.clone()], "2026-11-23T01:00:00Z", true, ""),
        (vec![night.clone()], "2026-11-23T04:59:59Z", true, ""),
        (
            vec![night.clone()],
            "2026-11-23T05:00:00Z",
            false,
            "2026-11-24T01:00:00Z",
        ),
        (
            vec![night.clone(), noon.clone()],
            "2026-11-23T05:00:00Z",
            false,
            "2026-11-23T12:30:00Z",
        ),
        (
            vec![night.clone(), noon.clone()],
            "2026-11-23T12:30:30Z",
            true,
            "",
        ),
        // A Saturday.
        (
            vec![noon],
            "2026-11-28T12:30:30Z",
            false,
            "2026-11-30T12:30:00Z",
        ),
        (vec![berlin.clone()], "2026-11-23T00:30:00Z", true, ""),
        (
            vec![berlin],
            "2026-07-23T00:30:00Z",
            false,
            "2026-07-23T23:00:00Z",
        ),
        (
            vec![over_midnight.clone()],
            "2026-11-23T00:30:00Z",
            true,
            "",
        ),
        (
            vec![over_midnight],
            "2026-11-23T01:00:00Z",
            false,
            "2026-11-23T23:00:00Z",
        ),
    ] {
        let mut lane = allowance(&Limits {
            windows,
            ..Limits::default()
        });
        // Whether the clock is synchronised or not.
        for synced in [true, false] {
            lane.looked = None;
            let expected = match open {
                true => Decision::Send(10),
                false => Decision::Hold(Hold {
                    by: By::Window,
                    until: time(next),
                    wait: LONG,
                }),
            };
            assert_eq!(
                lane.next(&on(now, 5.0, synced), false, 10),
                expected,
                "{now}"
            );
        }
    }
}

#[test]
fn a_window_that_opens_or_closes_is_noticed_within_a_quarter_of_a_second() {
    let mut lane = allowance(&Limits {
        windows: vec![window("0 1 * * *", 60, "UTC")],
        ..Limits::default()
    });
    let sends = |lane: &mut Allowance, now: &str, boot_s| {
        matches!(lane.next(&at(now, boot_s), false, 1), Decision::Send(1))
    };
    assert!(!sends(&mut lane, "00:59:59.9", 10.0));
    assert!(sends(&mut lane, "01:00:00.15", 10.25));
    assert!(sends(&mut lane, "01:00:59.9", 70.0));
    assert!(!sends(&mut lane, "01:01:00.15", 70.25));
}

#[test]
fn readings_go_at_their_rate_after_a_second_of_them_at_once() {
    // Rate; then seconds since boot, and what may be sent in one go; all of it is.
    let cases: [(f64, &[(f64, usize)]); 4] = [
        (
            10.0,
            &[
                (100.0, 10),
                (100.05, 0),
                (100.1, 1),
                (100.5, 4),
                (200.0, 10),
            ],
        ),
        (2.5, &[(1.0, 2), (1.4, 1), (1.6, 1), (1.8, 0), (9.0, 2)]),
        // Slower than one a second: one at once.
        (
            0.1,
            &[(50.0, 1), (59.9, 0), (60.0, 1), (69.0, 0), (70.0, 1)],
        ),
        (100_000.0, &[(3.0, 100_000), (3.1, 10_000)]),
    ];
    for (rate, steps) in cases {
        let mut lane = allowance(&Limits {
            max_rate: Some(rate),
            ..Limits::default()
        });
        for &(second, expected) in steps {
            let now = at("12:00:00", second);
            let sent = match lane.next(&now, false, usize::MAX) {
                Decision::Send(n) => n,
                Decision::Hold(hold) => {
                    assert_eq!((hold.by, hold.until), (By::Rate, None));
                    assert!(hold.wait <= LONG && hold.wait > Duration::ZERO, "{hold:?}");
                    0
                }
                Decision::Save(_) => panic!("there is no budget"),
            };
            assert_eq!(sent, expected, "{rate}/s at {second}");
            (0..sent).for_each(|_| lane.sent(&now, 300));
        }
    }
}

#[test]
fn a_lane_that_makes_way_still_sends_a_trickle() {
    let mut lane = allowance(&Limits::default());
    let mut sent = 0;
    for tenth in 0..100 {
        let now = at("12:00:00", f64::from(tenth) / 10.0);
        while let Decision::Send(n) = lane.next(&now, true, 100) {
            (0..n).for_each(|_| lane.sent(&now, 300));
            sent += n;
        }
    }
    // Ten seconds, and one second's worth at once.
    assert!((100..=110).contains(&sent), "{sent}");
    assert_eq!(
        lane.next(&at("12:00:00", 10.0), false, 100),
        Decision::Send(100)
    );
}

const MIB: u64 = 1 << 20;

fn metered(spent: Spent, now: &Moment) -> Allowance {
    let limits = Limits {
        budget_per_day: Some(MIB),
        timezone: TimeZone::get("Europe/Berlin").unwrap(),
        ..Limits::default()
    };
    Allowance::new(&limits, spent, now)
}

/// Sends records of 1 KiB until none may go; what was made durable meanwhile, and how many went.
fn exhaust(lane: &mut Allowance, now: &Moment) -> (Vec<Spent>, u64) {
    let (mut saved, mut sent) = (Vec::new(), 0);
    loop {
        match lane.next(now, false, 1000) {
            Decision::Send(n) => {
                sent += n as u64;
                for _ in 0..n {
                    lane.sent(now, 1024);
                }
            }
            Decision::Save(spent) => {
                lane.saved(&spent);
                saved.push(spent);
            }
            Decision::Hold(hold) => {
                assert_eq!(hold.by, By::Budget);
                return (saved, sent);
            }
        }
    }
}

#[test]
fn a_budget_is_never_exceeded_and_every_slice_is_durable_before_it_is_used() {
    let now = at("12:00:00", 5.0);
    let mut lane = metered(Spent::default(), &now);
    let mut durable = 0;
    loop {
        match lane.next(&now, false, 1000) {
            Decision::Send(n) => (0..n).for_each(|_| lane.sent(&now, 1024)),
            Decision::Save(spent) => {
                assert_eq!(
                    spent.day.map(|day| day.to_string()).as_deref(),
                    Some("2026-11-23")
                );
                assert!(spent.bytes > durable, "{spent:?}");
                durable = spent.bytes;
                lane.saved(&spent);
            }
            Decision::Hold(hold) => {
                // Midnight in Berlin.
                assert_eq!(hold.until, time("2026-11-23T23:00:00Z"));
                break;
            }
        }
        assert!(lane.budget().unwrap().spent() <= durable);
    }
    assert_eq!(durable, MIB);
    assert_eq!(lane.budget().unwrap().spent(), MIB);
    let (saved, _) = exhaust(&mut metered(Spent::default(), &now), &now);
    assert!(
        (60..=66).contains(&saved.len()),
        "{} writes a day",
        saved.len()
    );
}

#[test]
fn what_the_wire_really_took_gives_the_rest_back() {
    let now = at("12:00:00", 5.0);
    let mut lane = metered(Spent::default(), &now);
    let (_, sent) = exhaust(&mut lane, &now);
    assert_eq!(sent, 1024);
    let budget = lane.budget().unwrap();
    // A quarter of that is acknowledged, and the wire has seen a tenth of it: the rest is still under way.
    budget.settled(MIB / 4);
    budget.measured(MIB / 10);
    assert_eq!(budget.spent(), MIB / 10 + MIB * 3 / 4);
    budget.settled(MIB * 3 / 4);
    budget.measured(MIB / 5);
    assert_eq!(budget.spent(), MIB / 5);
    // An idle connection costs too.
    budget.measured(MIB / 5 + 500);
    assert_eq!(budget.spent(), MIB / 5 + 500);
    // A producer that is thrown away may have sent what it had.
    budget.sent(10_000);
    budget.restarted();
    assert_eq!(budget.spent(), MIB / 5 + 10_500);
    budget.measured(300);
    assert_eq!(budget.spent(), MIB / 5 + 10_800);
    // The file knows it too, before anything more is sent.
    let Decision::Save(given_back) = lane.next(&now, false, 10) else {
        panic!("the file still says that all is spent");
    };
    assert!(given_back.bytes <= MIB / 5 + 10_800 + 10_000 + MIB / 64);
    lane.saved(&given_back);
    assert!(matches!(lane.next(&now, false, 10), Decision::Send(_)));
}

#[test]
fn a_restart_gives_nothing_back_that_may_have_been_sent_and_costs_a_slice_at_most() {
    let now = at("12:00:00", 5.0);
    let mut lane = metered(Spent::default(), &now);
    let mut durable = Spent::default();
    for _ in 0..300 {
        loop {
            match lane.next(&now, false, 1) {
                Decision::Send(_) => break lane.sent(&now, 1024),
                Decision::Save(spent) => {
                    lane.saved(&spent);
                    durable = spent;
                }
                Decision::Hold(hold) => panic!("{hold:?}"),
            }
        }
    }
    let spent = lane.budget().unwrap().spent();
    assert_eq!(spent, 300 * 1024);
    assert!(
        durable.bytes >= spent && durable.bytes - spent <= MIB / 64,
        "{durable:?}"
    );
    // Killed: the next process goes on where the file says.
    let mut next = metered(durable.clone(), &now);
    assert_eq!(next.budget().unwrap().spent(), durable.bytes);
    // Ended in order: by what was sent.
    let word = lane.budget().unwrap().last_word();
    assert_eq!(word.bytes, spent);
    let mut next = metered(word, &now);
    assert_eq!(exhaust(&mut next, &now).1, 1024 - 300);
}

#[test]
fn a_day_ends_by_a_clock_that_is_right_and_by_nothing_else() {
    let day = |text: &str| Some(text.parse().unwrap());
    // Recorded day and the time of a start with a spent budget; then: time, seconds since boot, synchronised,
    // and whether there is a new budget.
    type Step = (&'static str, f64, bool, bool);
    let cases: [(&str, Option<jiff::civil::Date>, &[Step]); 6] = [
        (
            "midnight of the zone",
            day("2026-11-23"),
            &[
                ("2026-11-23T22:59:59Z", 10.0, true, false),
                ("2026-11-23T23:00:01Z", 12.0, true, true),
            ],
        ),
        (
            "a clock that starts in 1970 and is set",
            day("2026-11-23"),
            &[
                ("1970-01-01T00:00:10Z", 10.0, false, false),
                ("2026-11-23T12:00:00Z", 20.0, true, false),
                ("2026-11-24T12:00:00Z", 86_420.0, true, true),
            ],
        ),
        (
            "a clock that was years ahead",
            day("2040-01-01"),
            &[
                ("2026-11-23T12:00:00Z", 10.0, true, false),
                ("2026-11-24T12:00:00Z", 86_410.0, true, true),
            ],
        ),
        (
            "a clock that jumps without being synchronised",
            day("2026-11-23"),
            &[
                ("2030-01-01T00:00:00Z", 10.0, false, false),
                ("2031-01-01T00:00:00Z", 20.0, false, false),
            ],
        ),
        (
            "no clock at all: 24 hours of running",
            None,
            &[
                ("1970-01-01T00:00:10Z", 10.0, false, false),
                ("1970-01-01T23:59:50Z", 86_395.0, false, false),
                ("1970-01-02T00:00:10Z", 86_410.0, false, true),
            ],
        ),
        (
            "a clock that is heard of for the first time",
            None,
            &[
                ("2026-11-23T12:00:00Z", 10.0, true, false),
                ("2026-11-23T23:30:00Z", 20.0, true, true),
            ],
        ),
    ];
    for (what, recorded, steps) in cases {
        let spent = Spent {
            day: recorded,
            bytes: MIB,
        };
        let mut lane = metered(spent, &on(steps[0].0, 5.0, steps[0].2));
        for &(now, boot_s, synced, is_new) in steps {
            let decision = lane.next(&on(now, boot_s, synced), false, 1);
            assert_eq!(
                !matches!(decision, Decision::Hold(_)),
                is_new,
                "{what}, at {now}"
            );
        }
    }
}
