//! What the process says of itself over HTTP: `/livez`, `/readyz`, `/status.json`, `/metrics`.
//!
//! Each answer is made of one [`Snapshot`], and the numbers of the conservation equation in it are of
//! one moment, so the equation holds in every scrape.

mod metrics;

use std::{io, net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use protocol::{GatewayId, control::LossReason};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    conservation::{Balance, Conservation},
    forward,
    ingest::Gate,
    link::{LinkKind, LinkState, Links},
    process::Suppression,
    queue, source,
};

/// A lane, as far as it is shown.
#[derive(Clone)]
pub struct Lane {
    /// Its queue.
    pub queue: Arc<queue::Lane>,
    /// Its forwarder.
    pub forward: Arc<forward::Counters>,
    /// Bytes it may send a day.
    pub budget_per_day: Option<u64>,
}

impl Lane {
    /// Of a lane whose forwarder has done nothing yet.
    #[must_use]
    pub fn new(queue: Arc<queue::Lane>, budget_per_day: Option<u64>) -> Self {
        Self {
            queue,
            forward: Arc::default(),
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
    pub sources: Vec<Arc<source::Counters>>,
    /// For what was rejected.
    pub gate: Gate,
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
    lanes: Vec<LaneStat>,
    sources: Vec<Source>,
    #[serde(skip)]
    rejections: Vec<(String, &'static str, u64)>,
}

#[derive(Debug, Serialize)]
struct Link {
    kind: LinkKind,
    name: String,
    state: &'static str,
    detail: Option<String>,
}

#[derive(Debug, Serialize)]
struct LaneStat {
    /// The lane's name: its topic, and the gateway where it only drains.
    topic: String,
    #[serde(flatten)]
    stat: queue::Stat,
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
    fn new((kind, name, state): (LinkKind, String, LinkState)) -> Self {
        Self {
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
        let links: Vec<Link> = self.links.snapshot().into_iter().map(Link::new).collect();
        let lane = |lane: &Lane| LaneStat {
            topic: lane.queue.name().to_owned(),
            stat: lane.queue.stat(),
            sent_bytes: lane.forward.sent_bytes.load(Relaxed),
            resent: lane.forward.resent.load(Relaxed),
            restarts: lane.forward.restarts.load(Relaxed),
            held: lane.forward.held(),
            budget: lane.budget_per_day.map(|bytes_per_day| BudgetStat {
                bytes_per_day,
                spent_bytes: lane.forward.budget_spent_bytes.load(Relaxed),
            }),
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
            lanes: self.lanes.iter().map(lane).collect(),
            sources: self.sources.iter().map(source).collect(),
            rejections: rejections
                .map(|(source, reason, count)| (source, reason.as_str(), count))
                .collect(),
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
    let router = Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/status.json", get(status))
        .route("/metrics", get(scrape))
        .with_state(Arc::new(watched));
    let server = axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.cancelled().await });
    Ok((address, server.into_future()))
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

async fn scrape(State(watched): State<Arc<Watched>>) -> impl IntoResponse {
    match metrics::encode(watched.snapshot()) {
        Ok(text) => Ok(([(CONTENT_TYPE, metrics::FORM)], text)),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

#[cfg(test)]
mod tests;
