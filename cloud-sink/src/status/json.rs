//! `/status.json`.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use protocol_host::{
    log::{self, Incident},
    rate::{self, Rates},
};
use serde::Serialize;

use super::Watched;
use crate::{clock::now_ms, conservation::Balance, latency, link::Link};

/// Partitions shown, those nearest to a loss.
pub const MAX_PARTITIONS: usize = 64;
/// Latencies are those of the last half minute to minute.
const TURN: Duration = Duration::from_secs(30);

/// Everything at one moment.
#[derive(Debug, Serialize)]
pub struct Status {
    version: &'static str,
    group: String,
    uptime_s: u64,
    ready: bool,
    links: Vec<Link>,
    balance: Balance,
    lag: Option<u64>,
    /// The least of the partitions'; absent while unknown and where topics keep everything.
    time_to_loss_s: Option<u64>,
    partitions: Vec<Partition>,
    more_partitions: bool,
    paused_partitions: usize,
    in_flight_bytes: usize,
    max_in_flight_bytes: usize,
    rates: Option<PerSecond>,
    latency: Latency,
    dead_letters: BTreeMap<&'static str, u64>,
    gaps: u64,
    raw_values: u64,
    incidents: Vec<Incident>,
}

/// Of the last minute.
#[derive(Debug, Serialize)]
struct PerSecond {
    consumed: f64,
    written: f64,
}

/// From the gateway to MongoDB, lately; absent when nothing was written.
#[derive(Debug, Serialize)]
struct Latency {
    p50_ms: Option<u64>,
    p99_ms: Option<u64>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Partition {
    topic: String,
    partition: i32,
    lag: Option<u64>,
    time_to_loss_s: Option<u64>,
}

impl Status {
    pub fn of(watched: &Watched, recent: &Recent) -> Self {
        let Watched {
            kept,
            links,
            gate,
            telemetry,
            pulses: _,
        } = watched;
        let (mut partitions, time_to_loss_s) = partitions(watched);
        let more_partitions = partitions.len() > MAX_PARTITIONS;
        partitions.truncate(MAX_PARTITIONS);
        let recent = recent.lock();
        let latencies = telemetry.latencies.snapshot().since(&recent.older);
        let reasons = telemetry.dead_letters().into_iter();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            group: telemetry.group().to_owned(),
            uptime_s: recent.started.elapsed().as_secs(),
            ready: watched.ready(),
            links: links.snapshot(),
            balance: kept.snapshot(),
            lag: gate.lag(),
            time_to_loss_s,
            partitions,
            more_partitions,
            paused_partitions: gate.paused_partitions(),
            in_flight_bytes: gate.used(),
            max_in_flight_bytes: gate.limit(),
            rates: recent
                .rates
                .per_second()
                .map(|[consumed, written]| PerSecond { consumed, written }),
            latency: Latency {
                p50_ms: latencies.p50_ms(),
                p99_ms: latencies.p99_ms(),
            },
            dead_letters: reasons.map(|(why, count)| (why.as_str(), count)).collect(),
            gaps: telemetry.gaps(),
            raw_values: telemetry.raw_values(),
            incidents: log::recent(),
        }
    }
}

/// All of them, those nearest to a loss first, then by what waits; and how near the first is.
fn partitions(watched: &Watched) -> (Vec<Partition>, Option<u64>) {
    let lags = watched.gate.lags();
    let remaining = watched.telemetry.unread.remaining(&lags, now_ms());
    let mut found: BTreeMap<_, (Option<u64>, Option<u64>)> = lags
        .into_iter()
        .map(|(partition, lag)| (partition, (Some(lag), None)))
        .collect();
    for (partition, remaining) in remaining {
        found.entry(partition).or_default().1 = Some(remaining.left.as_secs());
    }
    let mut shown: Vec<Partition> = found
        .into_iter()
        .map(|(at, (lag, time_to_loss_s))| Partition {
            topic: at.topic.to_string(),
            partition: at.number,
            lag,
            time_to_loss_s,
        })
        .collect();
    let urgency = |one: &Partition| {
        let left = one.time_to_loss_s.unwrap_or(u64::MAX);
        (left, std::cmp::Reverse(one.lag.unwrap_or(0)))
    };
    shown.sort_by_key(urgency);
    let least = shown.first().and_then(|first| first.time_to_loss_s);
    (shown, least)
}

/// What is shown of the last minute.
#[derive(Debug)]
pub struct Recent(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    started: Instant,
    /// Records consumed, documents written.
    rates: Rates<2>,
    older: latency::Snapshot,
    newer: latency::Snapshot,
    turned: Instant,
}

impl Default for Recent {
    fn default() -> Self {
        let now = Instant::now();
        Self(Mutex::new(Kept {
            started: now,
            rates: Rates::default(),
            older: latency::Snapshot::default(),
            newer: latency::Snapshot::default(),
            turned: now,
        }))
    }
}

impl Recent {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Only shown, and never half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what there is, each second. Never ends.
    pub async fn keep(&self, watched: &Watched) {
        let mut tick = tokio::time::interval(rate::EVERY);
        loop {
            tick.tick().await;
            let balance = watched.kept.snapshot();
            let latencies = watched.telemetry.latencies.snapshot();
            let mut kept = self.lock();
            let now = Instant::now();
            kept.rates.note(now, [balance.consumed, balance.written]);
            if now - kept.turned >= TURN {
                (kept.older, kept.newer, kept.turned) = (kept.newer, latencies, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_tells_lag_time_to_loss_and_latency() {
        let watched = super::super::tests::watched();
        let status = Status::of(&watched, &Recent::default());
        let json = serde_json::to_value(status).unwrap();
        assert_eq!(json["group"], "sinks");
        assert_eq!(json["ready"], false);
        assert_eq!(json["links"][0]["kind"], "kafka");
        assert_eq!(json["links"][0]["since_s"], 0);
        let partition = &json["partitions"][0];
        assert_eq!(partition["topic"], "readings");
        assert_eq!(partition["partition"], 3);
        let left = partition["time_to_loss_s"].as_u64().unwrap();
        assert!((3590..=3600).contains(&left), "{left}");
        assert_eq!(json["time_to_loss_s"], partition["time_to_loss_s"]);
        assert_eq!(json["latency"]["p50_ms"], 40);
        assert_eq!(json["rates"], serde_json::Value::Null);
    }
}
