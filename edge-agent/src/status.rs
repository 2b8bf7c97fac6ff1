//! What the process says of itself over HTTP: a page for people at `/`, `/livez`, `/readyz`, `/status.json`,
//! `/metrics`.
//!
//! Each answer is made of one [`Snapshot`], and the numbers of the conservation equation in it are of
//! one moment, so the equation holds in every scrape. The page is [`protocol_host::page`]'s frame around what an
//! agent shows; all it shows is in `/status.json`. Everything in there is bounded: devices by
//! [`crate::devices`], incidents by [`protocol_host::log::recent`], the rest by the configuration.

mod budget;
mod metrics;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::{Html, IntoResponse},
    routing::get,
};
use protocol::{GatewayId, Timestamp, control::LossReason};
use protocol_host::{
    log::{self, Incident},
    page::{Page, Parts},
    rate::{self, Rates},
    scrape,
    supervisor::Pulses,
};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    conservation::{Balance, Conservation},
    devices::{self, Devices},
    forward,
    ingest::Gate,
    link::{LinkKind, LinkState, Links},
    process::Suppression,
    queue, source,
};

const PAGE: Parts = Parts {
    title: "edge-agent",
    body: include_str!("status/page.html"),
    script: include_str!("status/page.js"),
    script_sha256: "Po0r5HIRY5n6aJ6TevyThSJhK5EcQMIg1LZO9W2sYFo=",
};

/// A lane, as far as it is shown.
#[derive(Clone)]
pub struct Lane {
    /// Its queue.
    pub queue: Arc<queue::Lane>,
    /// Its forwarder.
    pub forward: Arc<forward::Counters>,
    /// Readings committed, per second.
    committed: Arc<Mutex<Rates<1>>>,
    /// The oldest reading that it keeps.
    pub max_age: Duration,
    /// Bytes it may send a day.
    pub budget_per_day: Option<u64>,
}

impl Lane {
    /// Of a lane whose forwarder has done nothing yet.
    #[must_use]
    pub fn new(queue: Arc<queue::Lane>, max_age: Duration, budget_per_day: Option<u64>) -> Self {
        Self {
            queue,
            max_age,
            forward: Arc::default(),
            committed: Arc::default(),
            budget_per_day,
        }
    }
}

/// Where the answers come from.
pub struct Watched {
    /// Whose.
    pub gateway: GatewayId,
    /// Since when.
    pub started: Instant,
    /// The equation.
    pub conservation: Arc<Conservation>,
    /// Every link.
    pub links: Links,
    /// Every lane.
    pub lanes: Vec<Lane>,
    /// What each source has seen.
    pub sources: source::Roster,
    /// For what was rejected.
    pub gate: Gate,
    /// Their last values.
    pub devices: Devices,
    /// How old readings are.
    pub clock: Clock,
    /// Readings received and acknowledged, per second.
    pub rates: Mutex<Rates<2>>,
    /// Whether its loops go round.
    pub pulses: Pulses,
}

/// Everything at one moment.
#[derive(Debug, Serialize)]
struct Snapshot {
    gateway: GatewayId,
    version: &'static str,
    uptime_s: u64,
    ready: bool,
    links: Vec<Link>,
    #[serde(serialize_with = "balance")]
    balance: Balance,
    rates: Option<PerSecond>,
    lanes: Vec<LaneStat>,
    sources: Vec<Source>,
    #[serde(flatten)]
    devices: devices::Snapshot,
    incidents: Vec<Incident>,
    #[serde(skip)]
    rejections: Vec<(String, &'static str, u64)>,
}

#[derive(Debug, Serialize)]
struct Link {
    kind: LinkKind,
    name: String,
    state: &'static str,
    detail: Option<String>,
    /// For how long it has been so.
    since_s: u64,
}

/// Of the last minute.
#[derive(Debug, Serialize)]
struct PerSecond {
    received: f64,
    acknowledged: f64,
}

#[derive(Debug, Serialize)]
struct LaneStat {
    /// The lane's name: its topic, and the gateway where it only drains.
    topic: String,
    #[serde(flatten)]
    stat: queue::Stat,
    oldest_age_s: Option<u64>,
    committed_per_s: Option<f64>,
    /// How long Kafka may be away until readings are lost, if readings come as in the last minute.
    offline_budget_s: Option<u64>,
    sent_bytes: u64,
    resent: u64,
    restarts: u64,
    /// What holds it back in front of Kafka now.
    held: Option<forward::Held>,
    /// Where it has one.
    budget: Option<BudgetStat>,
}

#[derive(Debug, Serialize)]
struct BudgetStat {
    bytes_per_day: u64,
    /// Of this day, as far as it is known; not less than what was sent.
    spent_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Source {
    kind: LinkKind,
    name: String,
    #[serde(flatten)]
    seen: source::Seen,
}

/// The equation's terms by name, drops by their reason.
fn balance<S: serde::Serializer>(balance: &Balance, out: S) -> Result<S::Ok, S::Error> {
    let dropped: Map<String, Value> = dropped(balance)
        .map(|(reason, count)| (reason.to_owned(), count.into()))
        .collect();
    let mut fields = Map::new();
    for (name, value) in [
        ("received", balance.received),
        ("recovered_at_start", balance.recovered_at_start),
        ("acknowledged", balance.acknowledged),
        ("queued", balance.queued),
        ("rejected", balance.rejected),
        ("retransmitted", balance.retransmitted),
        ("suppressed", balance.suppressed.iter().sum()),
        ("uncommitted", balance.uncommitted),
    ] {
        fields.insert(name.to_owned(), value.into());
    }
    fields.insert("dropped".to_owned(), dropped.into());
    let suppressed: Map<String, Value> = suppressed(balance)
        .map(|(reason, count)| (reason.to_owned(), count.into()))
        .collect();
    fields.insert("suppressed_by".to_owned(), suppressed.into());
    fields.serialize(out)
}

fn suppressed(balance: &Balance) -> impl Iterator<Item = (&'static str, u64)> {
    let reasons = Suppression::ALL.iter().map(|reason| reason.as_str());
    reasons.zip(balance.suppressed)
}

fn dropped(balance: &Balance) -> impl Iterator<Item = (&'static str, u64)> {
    let reasons = LossReason::ALL.iter().map(|reason| reason.as_str());
    reasons.zip(balance.dropped)
}

impl Link {
    fn new((kind, name, state, since): (LinkKind, String, LinkState, Duration)) -> Self {
        Self {
            since_s: since.as_secs(),
            kind,
            name,
            state: state.as_str(),
            detail: match state {
                LinkState::Down(reason) => Some(reason),
                LinkState::Up | LinkState::Connecting => None,
            },
        }
    }

    fn is_up(&self) -> bool {
        self.state == LinkState::Up.as_str()
    }
}

impl Watched {
    fn snapshot(&self) -> Snapshot {
        use std::sync::atomic::Ordering::Relaxed;
        let now = Instant::now();
        let links: Vec<Link> = self.links.shown(now).into_iter().map(Link::new).collect();
        let wall = self.clock.now().wall;
        let lane = |lane: &Lane| {
            let stat = lane.queue.stat();
            let age = age(&stat, wall);
            let committed_per_s = unpoisoned(&lane.committed).per_second().map(|[rate]| rate);
            let budget = budget::offline(&stat, committed_per_s, age, lane.max_age);
            LaneStat {
                topic: lane.queue.name().to_owned(),
                stat,
                oldest_age_s: age.map(|age| age.as_secs()),
                committed_per_s,
                offline_budget_s: budget.map(|budget| budget.as_secs()),
                sent_bytes: lane.forward.sent_bytes.load(Relaxed),
                resent: lane.forward.resent.load(Relaxed),
                restarts: lane.forward.restarts.load(Relaxed),
                held: lane.forward.held(),
                budget: lane.budget_per_day.map(|bytes_per_day| BudgetStat {
                    bytes_per_day,
                    spent_bytes: lane.forward.budget_spent_bytes.load(Relaxed),
                }),
            }
        };
        let source = |counters: &Arc<source::Counters>| Source {
            kind: counters.kind,
            name: counters.name.clone(),
            seen: counters.seen(),
        };
        let rejections = self.gate.rejections().into_iter();
        Snapshot {
            gateway: self.gateway.clone(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: self.started.elapsed().as_secs(),
            ready: links.iter().all(Link::is_up),
            links,
            balance: self.conservation.snapshot(),
            rates: unpoisoned(&self.rates)
                .per_second()
                .map(|[received, acknowledged]| PerSecond {
                    received,
                    acknowledged,
                }),
            devices: self.devices.snapshot(now),
            incidents: log::recent(),
            lanes: self.lanes.iter().map(lane).collect(),
            sources: self.sources.counters().iter().map(source).collect(),
            rejections: rejections
                .map(|(source, reason, count)| (source, reason.as_str(), count))
                .collect(),
        }
    }
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Only shown, and never half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Since the oldest waiting reading was committed; nothing of a clock that was set back.
fn age(stat: &queue::Stat, wall: Timestamp) -> Option<Duration> {
    let micros = wall.as_micros().saturating_sub(stat.oldest_committed?);
    Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

/// Notes for the rates what there is. Never ends.
async fn note_rates(watched: &Watched) -> io::Result<()> {
    let mut tick = tokio::time::interval(rate::EVERY);
    loop {
        tick.tick().await;
        let now = Instant::now();
        let balance = watched.conservation.snapshot();
        let counters = [balance.received, balance.acknowledged];
        unpoisoned(&watched.rates).note(now, counters);
        for lane in &watched.lanes {
            let committed = lane.queue.stat().committed;
            unpoisoned(&lane.committed).note(now, [committed]);
        }
    }
}

/// Answers on `listen` until `shutdown`; returns where, and what it ended with.
///
/// # Errors
/// The address is in use or not ours.
pub async fn serve(
    listen: SocketAddr,
    watched: Watched,
    shutdown: CancellationToken,
) -> io::Result<(SocketAddr, impl Future<Output = io::Result<()>>)> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let watched = Arc::new(watched);
    let page = Arc::new(Page::new(&PAGE));
    let router = Router::new()
        .route("/", get(async move || show(&page)))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status.json", get(status))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(&watched));
    let server = axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.cancelled().await });
    let both = async move {
        tokio::select! {
            end = server => end,
            end = note_rates(&watched) => end,
        }
    };
    Ok((address, both))
}

fn show(page: &Page) -> impl IntoResponse + use<> {
    let headers = page.headers().map(|(name, value)| (name, value.to_owned()));
    (headers, Html(page.html.clone()))
}

/// Not whether the process answers, which it does here, but whether readings get on in it.
async fn livez(State(watched): State<Arc<Watched>>) -> impl IntoResponse {
    match watched.pulses.silent(Instant::now()) {
        None => (StatusCode::OK, "alive\n".to_owned()),
        Some(silent) => (StatusCode::SERVICE_UNAVAILABLE, format!("{silent}\n")),
    }
}

async fn readyz(State(watched): State<Arc<Watched>>) -> impl IntoResponse {
    let snapshot = watched.snapshot();
    if snapshot.ready {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let line = |link: &Link| {
        let detail = link.detail.as_deref().unwrap_or_default();
        format!(
            "{} {} {} {detail}\n",
            link.kind.as_str(),
            link.name,
            link.state
        )
    };
    let away = snapshot.links.iter().filter(|link| !link.is_up());
    (StatusCode::SERVICE_UNAVAILABLE, away.map(line).collect())
}

async fn status(State(watched): State<Arc<Watched>>) -> impl IntoResponse {
    Json(watched.snapshot())
}

async fn metrics(State(watched): State<Arc<Watched>>, headers: HeaderMap) -> impl IntoResponse {
    match metrics::encode(watched.snapshot()) {
        Ok(text) => {
            let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
            let (form, text) = scrape::answer(accept, text);
            Ok(([(CONTENT_TYPE, form)], text))
        }
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

#[cfg(test)]
mod tests;
