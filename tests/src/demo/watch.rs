//! What can be seen from outside, gathered beside the play: a peer that hangs must not stop the show.

use std::{
    io::{BufRead, BufReader},
    process::ChildStdout,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use serde::Deserialize;

use super::plant::Places;
use crate::{
    daemon::{AgentStatus, Link, SinkStatus, is_subscribed, status_of},
    rig::documents::Documents,
};

/// A moment; what does not answer keeps its last number.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Readings the devices sent.
    pub sent: u64,
    /// Readings in the agent's queue.
    pub queued: u64,
    /// Records in the topic, also those sent twice.
    pub in_kafka: u64,
    /// Documents.
    pub stored: u64,
    /// Since when that number stands.
    pub stored_since: Option<Instant>,
    /// Links of the agent; none when it does not answer.
    pub agent: Option<Vec<Link>>,
    /// Links of the sink; none when it does not answer.
    pub sink: Option<Vec<Link>>,
    /// Whether agent and sink have anything in hand.
    busy: bool,
}

impl Seen {
    /// Whether the agent listens to the broker.
    pub fn mqtt_is_up(&self) -> bool {
        self.agent.as_deref().is_some_and(is_subscribed)
    }

    /// Whether all that was on its way has arrived, as far as can be seen from here.
    pub fn drained(&self) -> bool {
        let still = |since: Instant| since.elapsed() > Duration::from_secs(2);
        let answers = self.agent.is_some() && self.sink.is_some();
        answers && !self.busy && self.queued == 0 && self.stored_since.is_some_and(still)
    }
}

#[derive(Deserialize)]
struct Counters {
    sent: u64,
}

/// Looks on until it is dropped.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
}

impl Watch {
    pub fn start(places: Places) -> Result<Self> {
        let watch = Self {
            seen: Arc::default(),
        };
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &places.kafka)
            .create()?;
        let topic = places.topic;
        watch.repeat("watch-kafka", move |seen| {
            if let Some(count) = records(&consumer, topic) {
                lock(seen).in_kafka = count;
            }
        })?;
        let documents = Documents::new(&places.mongodb, &places.database)?;
        watch.repeat("watch-mongodb", move |seen| {
            if let Ok(count) = documents.count() {
                let mut seen = lock(seen);
                if seen.stored != count || seen.stored_since.is_none() {
                    seen.stored = count;
                    seen.stored_since = Some(Instant::now());
                }
            }
        })?;
        watch.repeat("watch-daemons", move |seen| {
            let agent: Option<AgentStatus> = status_of(&places.agent).ok();
            let sink: Option<SinkStatus> = status_of(&places.sink).ok();
            let mut seen = lock(seen);
            let idle_agent = |agent: &AgentStatus| agent.balance.uncommitted == 0;
            let idle_sink = |sink: &SinkStatus| {
                sink.ready && sink.balance.in_flight == 0 && sink.lag.is_none_or(|lag| lag == 0)
            };
            seen.busy =
                !(agent.as_ref().is_some_and(idle_agent) && sink.as_ref().is_some_and(idle_sink));
            if let Some(agent) = &agent {
                seen.queued = agent.balance.queued;
            }
            seen.agent = agent.map(|status| status.links);
            seen.sink = sink.map(|status| status.links);
        })?;
        Ok(watch)
    }

    /// Follows the counters that the simulator prints.
    pub fn read_counters(&self, counters: ChildStdout) -> Result<()> {
        let seen = Arc::clone(&self.seen);
        std::thread::Builder::new()
            .name("watch-devices".to_owned())
            .spawn(move || {
                for line in BufReader::new(counters).lines().map_while(Result::ok) {
                    if let Ok(counters) = serde_json::from_str::<Counters>(&line) {
                        lock(&seen).sent = counters.sent;
                    }
                }
            })?;
        Ok(())
    }

    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    fn repeat(&self, name: &str, look: impl Fn(&Mutex<Seen>) + Send + 'static) -> Result<()> {
        let seen = Arc::downgrade(&self.seen);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while let Some(seen) = seen.upgrade() {
                    look(&seen);
                    drop(seen);
                    std::thread::sleep(Duration::from_millis(250));
                }
            })?;
        Ok(())
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    // Plain numbers: a panic elsewhere leaves nothing half done.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn records(consumer: &BaseConsumer, topic: &str) -> Option<u64> {
    let patience = Duration::from_millis(500);
    let metadata = consumer.fetch_metadata(Some(topic), patience).ok()?;
    let mut count = 0;
    for partition in metadata.topics().first()?.partitions() {
        let watermarks = consumer.fetch_watermarks(topic, partition.id(), patience);
        count += u64::try_from(watermarks.ok()?.1).ok()?;
    }
    Some(count)
}
