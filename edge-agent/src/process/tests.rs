use proptest::prelude::*;
use protocol::{Clock, Timestamp};

use super::*;

fn name(text: &str) -> FieldName {
    FieldName::new(text).unwrap()
}

fn reading(device: &str, fields: &[(&str, f64)]) -> Reading {
    let fields = fields
        .iter()
        .map(|(field, number)| (name(field), Value::Float(*number)));
    Reading {
        device: DeviceId::new(device).unwrap(),
        time: Timestamp::UNIX_EPOCH,
        clock: Clock::Synced,
        fields: Fields::new(fields.collect()).unwrap(),
        source: None,
        meta: Metadata::default(),
    }
}

fn lane() -> Topic {
    Topic::new("t").unwrap()
}

fn shown(reading: &Reading) -> String {
    let fields = reading.fields.iter().map(|(name, value)| match value {
        Value::Float(number) => format!("{name}={number}"),
        other => format!("{name}={other:?}"),
    });
    fields.collect::<Vec<_>>().join(" ")
}

/// What rules make of one reading of `{ t_f: 70.7, p: 1500, x: 1 }`.
fn made(rules: Vec<Rule>) -> String {
    let mut process = Process::new(rules);
    let input = reading("d", &[("t_f", 70.7), ("p", 1500.0), ("x", 1.0)]);
    let applied = process.apply("s", &lane(), input, Instant::now());
    match (applied.kept, applied.suppressed) {
        (Some(reading), None) => shown(&reading),
        (None, Some(why)) => why.as_str().to_owned(),
        other => panic!("{other:?}"),
    }
}

fn of(field: &str) -> Rule {
    Rule {
        field: Some(name(field)),
        ..Rule::default()
    }
}

#[test]
fn each_step_does_what_it_says_in_the_documented_order() {
    let bounded = |outside| Rule {
        min: Some(0.0),
        max: Some(1000.0),
        outside,
        ..of("p")
    };
    for (rules, expected) in [
        (vec![], "p=1500 t_f=70.7 x=1"),
        (
            vec![Rule {
                rename: Some(name("temperature")),
                unit: Some("°F".into()),
                ..of("t_f")
            }],
            "p=1500 temperature_c=21.5 x=1",
        ),
        (
            // Scaled, moved, converted, then judged.
            vec![Rule {
                scale: Some(2.0),
                offset: Some(-1000.0),
                unit: Some("kW".into()),
                max: Some(2_000_000.0),
                ..of("p")
            }],
            "p_w=2000000 t_f=70.7 x=1",
        ),
        (vec![bounded(Outside::Drop)], "t_f=70.7 x=1"),
        (vec![bounded(Outside::Clamp)], "p=1000 t_f=70.7 x=1"),
        (
            vec![bounded(Outside::Flag)],
            "p=1500 p_suspect=Bool(true) t_f=70.7 x=1",
        ),
        (
            vec![Rule {
                drop: true,
                ..of("x")
            }],
            "p=1500 t_f=70.7",
        ),
        (
            vec![Rule {
                drop: true,
                ..Rule::default()
            }],
            "filter",
        ),
        (
            // A later rule sees the new name.
            vec![
                Rule {
                    rename: Some(name("power")),
                    ..of("p")
                },
                Rule {
                    scale: Some(0.001),
                    ..of("power")
                },
            ],
            "power=1.5 t_f=70.7 x=1",
        ),
        (
            // Two fields of one name: the first counts.
            vec![Rule {
                rename: Some(name("p")),
                ..of("x")
            }],
            "p=1500 t_f=70.7",
        ),
        (
            vec![Rule {
                source: Some("other".into()),
                drop: true,
                ..Rule::default()
            }],
            "p=1500 t_f=70.7 x=1",
        ),
        (
            vec![Rule {
                device: Some(DeviceId::new("other").unwrap()),
                drop: true,
                ..Rule::default()
            }],
            "p=1500 t_f=70.7 x=1",
        ),
    ] {
        assert_eq!(made(rules.clone()), expected, "{rules:?}");
    }
}

#[test]
fn what_became_of_values_is_counted_by_reason() {
    let bounded = |outside| Rule {
        max: Some(1000.0),
        outside,
        ..of("p")
    };
    let drop = |field| Rule {
        drop: true,
        ..of(field)
    };
    for (rules, suppressed, touched) in [
        (vec![], None, [0, 0, 0, 0]),
        (vec![drop("x")], None, [1, 0, 0, 0]),
        (vec![bounded(Outside::Drop)], None, [0, 1, 0, 0]),
        (vec![bounded(Outside::Clamp)], None, [0, 0, 1, 0]),
        (vec![bounded(Outside::Flag)], None, [0, 0, 0, 1]),
        (
            // Renamed to a name that is taken: the first counts.
            vec![Rule {
                rename: Some(name("p")),
                ..of("x")
            }],
            None,
            [1, 0, 0, 0],
        ),
        (
            vec![drop("x"), drop("t_f"), drop("p")],
            Some(Suppression::Filter),
            [3, 0, 0, 0],
        ),
        (
            vec![drop("x"), drop("t_f"), bounded(Outside::Drop)],
            Some(Suppression::Range),
            [2, 1, 0, 0],
        ),
    ] {
        let mut process = Process::new(rules.clone());
        let input = reading("d", &[("t_f", 70.7), ("p", 1500.0), ("x", 1.0)]);
        let applied = process.apply("s", &lane(), input, Instant::now());
        let got = (applied.suppressed, applied.touched);
        assert_eq!(got, (suppressed, touched), "{rules:?}");
    }
}

#[test]
fn a_value_passes_when_it_moved_or_its_heartbeat_is_due() {
    let mut process = Process::new(vec![Rule {
        on_change: Some(OnChange {
            dead_band: 0.5,
            heartbeat: Duration::from_secs(60),
        }),
        ..Rule::default()
    }]);
    let start = Instant::now();
    for (second, value, passes) in [
        (0, 20.0, true),
        (1, 20.4, false),
        (2, 20.5, true),
        (3, 20.2, false),
        (4, 20.0, true),
        (63, 20.1, false),
        (64, 20.1, true),
        (65, 20.5, false),
    ] {
        let now = start + Duration::from_secs(second);
        let applied = process.apply("s", &lane(), reading("d", &[("t", value)]), now);
        assert_eq!(applied.kept.is_some(), passes, "second {second}");
        assert_eq!(
            applied.suppressed,
            (!passes).then_some(Suppression::DeadBand)
        );
    }
    // Another device has a dead band of its own.
    let applied = process.apply("s", &lane(), reading("e", &[("t", 20.1)]), start);
    assert!(applied.kept.is_some());
}

#[test]
fn a_field_under_no_dead_band_lets_its_reading_pass() {
    let mut process = Process::new(vec![Rule {
        on_change: Some(OnChange {
            dead_band: 1.0,
            heartbeat: OnChange::HEARTBEAT,
        }),
        ..of("t")
    }]);
    for _ in 0..3 {
        let both = reading("d", &[("t", 1.0), ("count", 2.0)]);
        let applied = process.apply("s", &lane(), both, Instant::now());
        assert!(applied.kept.is_some());
    }
}

fn window(keep: &[Statistic]) -> Process {
    Process::new(vec![Rule {
        window: Some(Window {
            every: Duration::from_secs(10),
            keep: keep.to_vec(),
        }),
        ..Rule::default()
    }])
}

#[test]
fn a_window_becomes_one_reading_when_it_is_over() {
    use Statistic::{Last, Max, Mean, Min};
    let mut process = window(&[Mean, Min, Max, Last]);
    let start = Instant::now();
    let at = |second| start + Duration::from_secs(second);
    for (second, value) in [(0, 1.0), (5, 5.0), (9, 3.0)] {
        let applied = process.apply(
            "s",
            &lane(),
            reading("d", &[("power_l1_w", value)]),
            at(second),
        );
        assert_eq!(applied.suppressed, Some(Suppression::Aggregated));
        assert!(applied.closed.is_empty());
    }
    assert!(process.due(at(9)).is_empty());
    let [(_, closed)] = &process.due(at(10))[..] else {
        panic!("one window is over");
    };
    assert_eq!(
        shown(closed),
        "power_l1_last_w=3 power_l1_max_w=5 power_l1_mean_w=3 power_l1_min_w=1"
    );
    assert!(process.due(at(100)).is_empty(), "an empty window is none");
}

#[test]
fn the_first_reading_of_the_next_window_closes_the_one_before() {
    let mut process = window(&[Statistic::Mean]);
    let start = Instant::now();
    let at = |second| start + Duration::from_secs(second);
    let mut closed = Vec::new();
    for (second, value) in [(0, 1.0), (9, 2.0), (11, 10.0), (35, 4.0)] {
        let applied = process.apply("s", &lane(), reading("d", &[("v", value)]), at(second));
        closed.extend(applied.closed);
    }
    closed.extend(process.drain());
    let shown: Vec<String> = closed.iter().map(|(_, reading)| shown(reading)).collect();
    assert_eq!(shown, ["v=1.5", "v=10", "v=4"]);
}

#[test]
fn ten_thousand_devices_are_remembered_and_one_more_costs_nothing() {
    let mut process = window(&[Statistic::Last]);
    let now = Instant::now();
    let mut closed = 0;
    for device in 0..=MAX_DEVICES {
        let applied = process.apply(
            "s",
            &lane(),
            reading(&format!("d{device}"), &[("v", 1.0)]),
            now,
        );
        closed += applied.closed.len();
    }
    assert_eq!(closed, 1);
    assert_eq!(process.drain().len(), MAX_DEVICES);
}

proptest! {
    #[test]
    fn what_goes_in_is_kept_or_suppressed_and_windows_lose_no_device(
        inputs in prop::collection::vec((0u8..4, 0u64..100, -1e300..1e300f64), 1..100),
        rules in prop::collection::vec((prop::option::of(-10.0..10.0f64), prop::option::of(0.0..5.0f64), any::<bool>(), any::<bool>()), 0..4),
    ) {
        let rules = rules.into_iter().map(|(scale, band, clamp, window)| Rule {
            scale,
            max: clamp.then_some(1e6),
            outside: Outside::Clamp,
            on_change: band.map(|dead_band| OnChange { dead_band, heartbeat: Duration::from_secs(7) }),
            window: window.then(|| Window { every: Duration::from_secs(10), keep: vec![Statistic::Mean, Statistic::Max] }),
            ..Rule::default()
        });
        let mut process = Process::new(rules.collect());
        let start = Instant::now();
        let (mut aggregated, mut out) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        for (device, second, value) in inputs {
            let device = format!("d{device}");
            let now = start + Duration::from_secs(second);
            let applied = process.apply("s", &lane(), reading(&device, &[("v_w", value)]), now);
            prop_assert!(applied.kept.is_some() != applied.suppressed.is_some());
            if applied.suppressed == Some(Suppression::Aggregated) {
                aggregated.insert(device);
            }
            out.extend(applied.closed.into_iter().map(|(_, reading)| reading.device.to_string()));
        }
        out.extend(process.drain().into_iter().map(|(_, reading)| reading.device.to_string()));
        prop_assert_eq!(aggregated, out);
    }
}
