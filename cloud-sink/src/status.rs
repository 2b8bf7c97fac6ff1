//! What the sink says of itself over HTTP, on loopback unless told otherwise: a page for people at `/`, `/livez`,
//! `/readyz`, `/status.json`, `/metrics`.
//!
//! The page is [`protocol_host::page`]'s frame around what a sink shows; all it shows is in `/status.json`,
//! which is bounded: [`MAX_PARTITIONS`], the reasons of dead letters, [`protocol_host::log::recent`].

mod json;

use std::{net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse},
    routing::get,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use protocol_host::{
    page::{Page, Parts},
    scrape,
    supervisor::Pulses,
};
use tokio::net::TcpListener;

use crate::{
    clock::now_ms,
    conservation::Conservation,
    kafka::Gate,
    link::{Link, LinkState, Links},
    telemetry::Telemetry,
};
pub use json::MAX_PARTITIONS;
use json::{Recent, Status};

const PAGE: Parts = Parts {
    title: "cloud-sink",
    body: include_str!("status/page.html"),
    script: include_str!("status/page.js"),
    script_sha256: "NSbql6KEdENoA/q9FnnvkM9nb/ZCWPHBgU05qa8boPM=",
};

/// What is served.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The balance.
    pub kept: Arc<Conservation>,
    /// The links.
    pub links: Links,
    /// Lag and bytes in flight.
    pub gate: Arc<Gate>,
    /// The rest.
    pub telemetry: Arc<Telemetry>,
    /// Whether its loops go round.
    pub pulses: Pulses,
}

impl Watched {
    fn ready(&self) -> bool {
        self.telemetry.is_ready() && self.links.ready()
    }
}

/// Serves until the process ends.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(listen: SocketAddr, watched: Watched) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| anyhow::anyhow!("status.listen {listen}: {error}"))?;
    let registry = Arc::new(registry(watched.clone()));
    let recent = Arc::new(Recent::default());
    let page = Arc::new(Page::new(&PAGE));
    let app = Router::new()
        .route("/", get(async move || show(&page)))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status.json", get(status))
        .with_state((watched.clone(), Arc::clone(&recent)))
        .route(
            "/metrics",
            get(move |headers| metrics(registry.clone(), headers)),
        );
    tokio::select! {
        end = axum::serve(listener, app) => end?,
        () = recent.keep(&watched) => {}
    }
    Ok(())
}

fn show(page: &Page) -> impl IntoResponse + use<> {
    let headers = page.headers().map(|(name, value)| (name, value.to_owned()));
    (headers, Html(page.html.clone()))
}

/// Not whether the process answers, which it does here, but whether records get on in it.
async fn livez(State((watched, _)): State<Served>) -> impl IntoResponse {
    match watched.pulses.silent(Instant::now()) {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(silent) => (StatusCode::SERVICE_UNAVAILABLE, format!("{silent}\n")),
    }
}

async fn readyz(State((watched, _)): State<Served>) -> impl IntoResponse {
    if watched.ready() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        let down: Vec<String> = watched
            .links
            .snapshot()
            .iter()
            .filter_map(trouble)
            .collect();
        let why = match down.as_slice() {
            [] => "no partitions assigned yet\n".to_owned(),
            down => format!("{}\n", down.join("\n")),
        };
        (StatusCode::SERVICE_UNAVAILABLE, why)
    }
}

fn trouble(link: &Link) -> Option<String> {
    match &link.state {
        LinkState::Up => None,
        LinkState::Connecting => Some(format!("{:?}: connecting", link.kind).to_lowercase()),
        LinkState::Down(why) => Some(format!("{:?}: {why}", link.kind).to_lowercase()),
    }
}

type Served = (Watched, Arc<Recent>);

async fn status(State((watched, recent)): State<Served>) -> Json<Status> {
    Json(Status::of(&watched, &recent))
}

async fn metrics(registry: Arc<Registry>, headers: HeaderMap) -> impl IntoResponse {
    let mut out = String::new();
    match text::encode(&mut out, &registry) {
        Ok(()) => {
            let accept = headers.get(header::ACCEPT);
            let accept = accept.and_then(|accept| accept.to_str().ok());
            let (form, out) = scrape::answer(accept, out);
            (StatusCode::OK, [(header::CONTENT_TYPE, form)], out)
        }
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain")],
            "metrics could not be written\n".into(),
        ),
    }
}

fn registry(watched: Watched) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics(watched)));
    registry
}

/// Reads everything at the moment of the scrape, the balance in one piece.
#[derive(Debug)]
struct Metrics(Watched);

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let balance = self.0.kept.snapshot();
        let counters = [
            (
                "sink_records_consumed",
                "Kafka records taken",
                balance.consumed,
            ),
            (
                "sink_documents_written",
                "Documents inserted",
                balance.written,
            ),
            (
                "sink_duplicates",
                "Records that were stored already, the same",
                balance.duplicates,
            ),
            (
                "sink_id_conflicts",
                "Records whose id another reading had",
                balance.conflicts,
            ),
            (
                "sink_control_facts",
                "Facts taken from the control topic",
                balance.control,
            ),
            (
                "sink_records_revoked",
                "Records in flight when their partition went",
                balance.revoked,
            ),
            (
                "sink_gaps",
                "Ranges of records that were gone before they were read",
                self.0.telemetry.gaps(),
            ),
            (
                "sink_raw_values",
                "Values of another type than their field, stored in raw",
                self.0.telemetry.raw_values(),
            ),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        let gauges = [
            (
                "sink_records_in_flight",
                "Records taken and not settled",
                balance.in_flight,
            ),
            (
                "sink_in_flight_bytes",
                "Bytes of records in memory",
                self.0.gate.used() as u64,
            ),
            (
                "sink_consumer_lag_records",
                "Records in Kafka that are not stored yet",
                self.0.gate.lag().unwrap_or(0),
            ),
            (
                "sink_paused_partitions",
                "Partitions held back, for MongoDB or the registry is away or memory is full",
                self.0.gate.paused_partitions() as u64,
            ),
            (
                "sink_ready",
                "1 when all links work and partitions are assigned",
                u64::from(self.0.ready()),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        self.time_to_loss(&mut encoder)?;
        self.latency(&mut encoder)?;
        self.dead_letters(&mut encoder, balance.dead_letters)
    }
}

impl Metrics {
    /// Of partitions whose topic has a retention by time, once it is known.
    fn time_to_loss(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let lags = self.0.gate.lags();
        let remaining = self.0.telemetry.unread.remaining(&lags, now_ms());
        let name = "sink_time_to_loss_seconds";
        let help = "Seconds until retention may delete the oldest unread record";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (partition, remaining) in remaining {
            let number = partition.number.to_string();
            let labels = [("topic", &*partition.topic), ("partition", &number)];
            ConstGauge::new(remaining.left.as_secs_f64()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn latency(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let counts = self.0.telemetry.latencies.snapshot();
        let name = "sink_end_to_end_latency_seconds";
        let help =
            "Seconds from the arrival at the gateway (else the record's timestamp) to MongoDB";
        let mut histogram = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let sum = counts.sum().as_secs_f64();
        histogram.encode_histogram::<NoLabelSet>(sum, counts.count(), &counts.coarse(), None)
    }

    /// By reason. Reasons are counted beside the balance, so their sum may be ahead of it by the records
    /// of one moment.
    fn dead_letters(&self, encoder: &mut DescriptorEncoder<'_>, total: u64) -> std::fmt::Result {
        let reasons = self.0.telemetry.dead_letters();
        let counter = ConstCounter::new(total);
        let help = "Records in the dead-letter topic";
        let mut family =
            encoder.encode_descriptor("sink_dead_letters", help, None, counter.metric_type())?;
        for (reason, count) in reasons {
            let labels = [("reason", reason.as_str())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
