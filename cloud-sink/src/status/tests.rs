//! Names and forms of the metrics, as promtool would lint them.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::{
    message::{Coordinates, Partition},
    unread::Retention,
};

pub(super) fn watched() -> Watched {
    let telemetry = Telemetry::new("sinks".into());
    telemetry.latencies.add(38);
    let partition = Partition {
        topic: "readings".into(),
        number: 3,
    };
    let hour = Retention::Limited(std::time::Duration::from_secs(3600));
    telemetry
        .unread
        .keep(HashMap::from([("readings".into(), hour)]));
    telemetry.unread.assign(&partition);
    telemetry.unread.taken(&Coordinates {
        partition,
        offset: 5,
        timestamp_ms: Some(now_ms()),
    });
    Watched {
        kept: Arc::new(Conservation::default()),
        links: Links::new(String::new(), String::new(), None),
        gate: Arc::new(Gate::new(1)),
        telemetry: Arc::new(telemetry),
        pulses: Pulses::new(std::time::Duration::ZERO),
    }
}

#[tokio::test]
async fn life_follows_the_loops() {
    let watched = watched();
    let ask = async || {
        let served = State((watched.clone(), Arc::new(Recent::default())));
        livez(served).await.into_response().status()
    };
    assert_eq!(ask().await, StatusCode::OK);
    let frozen = watched.pulses.watch("kafka");
    while watched.pulses.silent(Instant::now()).is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask().await, StatusCode::SERVICE_UNAVAILABLE);
    drop(frozen);
    assert_eq!(ask().await, StatusCode::OK);
}

fn scrape() -> String {
    let mut out = String::new();
    text::encode(&mut out, &registry(watched())).unwrap();
    out
}

#[test]
fn every_metric_has_help_a_base_unit_and_the_suffix_of_its_kind() {
    let text = scrape();
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let of = |start: &str| -> BTreeMap<String, String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(start));
        lines
            .map(|line| {
                let words = words(line);
                (words[0].clone(), words[1..].join(" "))
            })
            .collect()
    };
    let (help, kinds) = (of("# HELP "), of("# TYPE "));
    assert!(kinds.len() > 12, "{text}");
    assert_eq!(
        help.keys().collect::<Vec<_>>(),
        kinds.keys().collect::<Vec<_>>()
    );
    for (name, kind) in &kinds {
        assert!(name.starts_with("sink_"), "{name}");
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.chars().all(plain), "{name}");
        for unit in [
            "_ms",
            "_millis",
            "_minutes",
            "_hours",
            "_kb",
            "_mb",
            "_kilobytes",
        ] {
            assert!(!name.ends_with(unit), "{name} is not in a base unit");
        }
        assert!(!name.ends_with("_total"), "{name}: the exposition adds it");
        if kind == "histogram" {
            assert!(name.ends_with("_seconds"), "{name}");
        }
        assert!(!help[name].is_empty(), "{name}");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let kind = kinds
            .iter()
            .find(|(known, _)| name.starts_with(known.as_str()));
        let (known, kind) = kind.unwrap_or_else(|| panic!("{line} has no type"));
        let suffix = &name[known.len()..];
        let right = match kind.as_str() {
            "counter" => suffix == "_total",
            "histogram" => ["_sum", "_count", "_bucket"].contains(&suffix),
            _ => suffix.is_empty(),
        };
        assert!(right, "{line}");
        // Whatever grows with devices would grow without a bound.
        assert!(
            !line.contains("device=") && !line.contains("gateway="),
            "{line}"
        );
    }
}

#[test]
fn time_to_loss_and_latency_are_scraped() {
    let text = scrape();
    let left = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("sink_time_to_loss_seconds{topic=\"readings\",partition=\"3\"} ")
        })
        .unwrap_or_else(|| panic!("{text}"));
    let left: f64 = left.parse().unwrap();
    assert!((3590.0..=3600.0).contains(&left), "{left}");
    assert!(
        text.contains("sink_end_to_end_latency_seconds_count 1"),
        "{text}"
    );
    assert!(
        text.contains("sink_end_to_end_latency_seconds_bucket{le=\"0.064\"} 1"),
        "{text}"
    );
    assert!(
        text.contains("sink_end_to_end_latency_seconds_bucket{le=\"+Inf\"} 1"),
        "{text}"
    );
}
