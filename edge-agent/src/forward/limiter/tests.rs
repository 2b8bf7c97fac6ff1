use super::*;
use crate::clock::Clock;

fn limiter(name: &str, limits: &Limits, dir: &Path, precedence: &Precedence) -> Limiter {
    let (now, counters) = (Clock::new().now(), Arc::default());
    Limiter::new(name, limits, dir, precedence.clone(), counters, &now)
}

fn of_priority(priority: u8) -> Limits {
    Limits {
        priority,
        ..Limits::default()
    }
}

#[test]
fn a_lane_makes_way_for_higher_ones_that_get_through_and_for_alarms_before_all() {
    let (dir, all) = (tempfile::tempdir().unwrap(), Precedence::default());
    let lane = |name, limits: &Limits| limiter(name, limits, dir.path(), &all);
    let (mut low, mut high) = (lane("low", &of_priority(0)), lane("high", &of_priority(3)));
    let alarm = Limits {
        alarm: true,
        ..Limits::default()
    };
    let mut alarm = lane("alarm", &alarm);
    let now = Clock::new().now();
    let sends = |lane: &mut Limiter| lane.room(&now, 4000).ok();

    low.press(true);
    assert_eq!(sends(&mut low), Some(4000));
    assert_eq!(sends(&mut high), Some(4000));
    high.press(true);
    assert_eq!(sends(&mut low), Some(10), "a trickle goes on");
    assert_eq!(sends(&mut high), Some(4000));
    alarm.press(true);
    assert_eq!(sends(&mut high), Some(10));
    assert_eq!(sends(&mut alarm), Some(4000));
    drop(alarm);
    assert_eq!(sends(&mut high), Some(4000));

    // Nothing of it got through for so long that nobody waits any more; then something does.
    high.moved = Instant::now().checked_sub(STUCK).unwrap();
    high.press(true);
    assert_eq!(sends(&mut low), Some(4000));
    high.settled(100);
    high.press(true);
    assert_eq!(sends(&mut low), Some(10));
    high.press(false);
    assert_eq!(sends(&mut low), Some(4000));
}

#[test]
fn what_was_spent_is_there_again_after_a_restart_whether_it_ended_in_order_or_not() {
    let (dir, all) = (tempfile::tempdir().unwrap(), Precedence::default());
    let limits = Limits {
        budget_per_day: Some(64 << 10),
        ..Limits::default()
    };
    let budgets = dir.path().join("budgets");
    let spent = |lane: &Limiter| lane.counters.budget_spent_bytes.load(Ordering::Relaxed);
    let now = Clock::new().now();
    let mut lane = limiter("t", &limits, &budgets, &all);
    assert_eq!(lane.room(&now, 1), Ok(1));
    lane.sent(&now, 700);
    // As a process that is killed leaves it.
    let killed = fs::read(budgets.join("t.json")).unwrap();
    drop(lane);
    assert_eq!(spent(&limiter("t", &limits, &budgets, &all)), 700);
    fs::write(budgets.join("t.json"), killed).unwrap();
    let again = spent(&limiter("t", &limits, &budgets, &all));
    assert!((700..=1024 + (64 << 10) / 64).contains(&again), "{again}");

    for damaged in ["", "{}", r#"{"version":1,"day":"today","bytes":1}"#] {
        fs::write(budgets.join("t.json"), damaged).unwrap();
        assert!(read(&budgets.join("t.json")).is_err(), "{damaged}");
        assert_eq!(spent(&limiter("t", &limits, &budgets, &all)), 0);
    }
}

#[test]
fn a_budget_that_cannot_be_made_durable_sends_nothing() {
    let (dir, all) = (tempfile::tempdir().unwrap(), Precedence::default());
    let limits = Limits {
        budget_per_day: Some(64 << 10),
        ..Limits::default()
    };
    // A file where the directory should be.
    let budgets = dir.path().join("budgets");
    let mut lane = limiter("t", &limits, &budgets, &all);
    fs::write(&budgets, "").unwrap();
    let now = Clock::new().now();
    assert_eq!(lane.room(&now, 1), Err((By::Budget, DISK_RETRY)));
    fs::remove_file(&budgets).unwrap();
    assert_eq!(lane.room(&now, 1), Ok(1));
}

#[test]
fn what_holds_a_lane_back_is_shown_and_no_longer_once_it_sends() {
    let (dir, all) = (tempfile::tempdir().unwrap(), Precedence::default());
    let limits = Limits {
        max_rate: Some(1.0),
        ..Limits::default()
    };
    let mut lane = limiter("t", &limits, dir.path(), &all);
    let shown = |lane: &Limiter| lane.counters.held.lock().unwrap().clone();
    let now = Clock::new().now();
    assert_eq!(lane.room(&now, 5), Ok(1));
    lane.sent(&now, 100);
    assert!(matches!(lane.room(&now, 5), Err((By::Rate, _))));
    let by_rate = Held {
        by: "rate",
        until: None,
    };
    assert_eq!(shown(&lane), Some(by_rate));
    let mut later = now;
    later.monotonic_us += 1_000_000;
    assert_eq!(lane.room(&later, 5), Ok(1));
    assert_eq!(shown(&lane), None);
}
