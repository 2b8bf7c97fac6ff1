//! The only module that names rdkafka: the consumer thread, the dead-letter producer, and what the
//! command line asks.
//!
//! librdkafka calls back synchronously when partitions come and go, so one plain thread polls and
//! turns everything into events; nothing asynchronous happens inside a callback. What is in flight is
//! bounded in bytes by a [`Gate`] that the pipeline opens and closes; while it is closed for longer than a
//! moment the partitions are paused and the thread keeps polling, or the group would think the sink dead.

pub mod admin;
mod backlog;
mod consumer;
mod marks;
mod producer;
mod rebalance;
mod scan;
mod topics;
mod watermarks;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::SyncSender,
    },
};

use protocol_host::config::kafka::SettingError;
use rdkafka::{
    ClientConfig, ClientContext, config::RDKafkaLogLevel, consumer::ConsumerContext,
    error::KafkaError,
};
use tracing::debug;

pub use backlog::{Waiting, backlog};
pub use consumer::{Consumer, ConsumerError, Offsets, Started};
pub use marks::Witness;
pub use producer::{DeadLetterError, Producer};
pub use scan::scan;
pub use topics::{Retentions, Topics};

use crate::{
    checkpoint::{Gap, Taken},
    message::{Message, Partition},
};

/// What the consumer thread tells the pipeline, beside records.
#[derive(Debug)]
pub enum Event {
    /// Partitions are about to come. The thread waits for the answer: without MongoDB nobody knows where
    /// to begin.
    Taking {
        /// The cluster's own id.
        cluster: Arc<str>,
        /// Which.
        partitions: Vec<Partition>,
        /// Where each goes on.
        answer: SyncSender<Vec<Taken>>,
    },
    /// Partitions came; records of them carry this generation or a later one.
    Assigned {
        /// Which, with the first offset to be consumed; `None` is the earliest there is.
        partitions: Vec<(Partition, Option<i64>)>,
        /// Stamp of the assignment; grows with each.
        generation: u64,
    },
    /// Partitions go. The thread waits for `done` (or its deadline) before it lets them go, so that
    /// offsets of what was finished can still be committed.
    Revoked {
        /// Which.
        partitions: Vec<Partition>,
        /// They are gone already: nothing can be committed any more.
        lost: bool,
        /// Dropped or sent to when everything of them is finished or discarded.
        done: SyncSender<()>,
    },
    /// The topic was made anew; an assignment that begins at the gap's `to` follows.
    Remade {
        /// Where.
        partition: Partition,
        /// From the old life to the new one.
        gap: Gap,
    },
}

/// What was read of a partition, in the order of its offsets, with the stamp of the assignment it was read in:
/// compared with [`Event::Assigned`], older than its partition's is stale.
#[derive(Debug)]
pub enum Delivered {
    /// A record.
    Record {
        /// The stamp.
        generation: u64,
        /// The record.
        message: Message,
    },
    /// Offsets that were gone before they were read. No [`Event`], for the loop looks for those first: ahead of
    /// the records before it, a gap would make them look as if they had been read already.
    Gap {
        /// The stamp.
        generation: u64,
        /// Where.
        partition: Partition,
        /// What is passed over.
        gap: Gap,
    },
}

/// Bounds what is in memory between Kafka and MongoDB, in bytes, and holds Kafka back on demand.
#[derive(Debug)]
pub struct Gate {
    limit: usize,
    used: AtomicUsize,
    held: AtomicBool,
    paused_partitions: AtomicUsize,
    lags: Mutex<HashMap<Partition, u64>>,
    /// Of partitions that are not assigned here.
    waiting: Mutex<HashMap<Partition, u64>>,
    stalled: Mutex<BTreeSet<Partition>>,
    /// Grows with each change of `stalled`.
    stalls: AtomicU64,
    begin_again: AtomicBool,
}

impl Gate {
    /// A gate that closes at `limit` bytes in flight and opens again at half.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            held: AtomicBool::new(false),
            paused_partitions: AtomicUsize::new(0),
            lags: Mutex::default(),
            waiting: Mutex::default(),
            stalled: Mutex::default(),
            stalls: AtomicU64::new(0),
            begin_again: AtomicBool::new(false),
        }
    }

    /// A topic was made anew: the consumer thread gives all partitions back and takes them again.
    pub fn begin_again(&self) {
        self.begin_again.store(true, Ordering::Release);
    }

    fn must_begin_again(&self) -> bool {
        self.begin_again.swap(false, Ordering::AcqRel)
    }

    /// Bytes in flight at which it closes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Holds back these partitions, and no others, whatever is in flight.
    pub fn stall(&self, partitions: BTreeSet<Partition>) {
        let mut stalled = self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        if *stalled != partitions {
            *stalled = partitions;
            self.stalls.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub(crate) fn stalled(&self) -> BTreeSet<Partition> {
        let stalled = self.stalled.lock();
        stalled.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes room for a record.
    pub fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Gives the room of a record back.
    pub fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Bytes in flight.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Closes or opens the gate whatever is in flight.
    pub fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Release);
    }

    /// Partitions that are paused now.
    #[must_use]
    pub fn paused_partitions(&self) -> usize {
        self.paused_partitions.load(Ordering::Acquire)
    }

    /// Records in the assigned partitions that are not stored yet, and, without MongoDB, in those that cannot be
    /// assigned; `None` before the first statistics.
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        self.lags().into_values().reduce(|sum, lag| sum + lag)
    }

    /// The same of each partition, as far as known.
    #[must_use]
    pub fn lags(&self) -> HashMap<Partition, u64> {
        let waiting = self.waiting.lock();
        let mut lags = waiting.unwrap_or_else(PoisonError::into_inner).clone();
        let assigned = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.extend(assigned.iter().map(|(at, lag)| (at.clone(), *lag)));
        lags
    }

    /// What waits in partitions that nobody can take.
    pub fn set_waiting(&self, lags: HashMap<Partition, u64>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = lags;
    }

    fn set_lags(&self, lags: HashMap<Partition, u64>) {
        *self.lags.lock().unwrap_or_else(PoisonError::into_inner) = lags;
    }

    /// Full, and nobody holds it.
    fn is_only_full(&self) -> bool {
        !self.held.load(Ordering::Acquire) && self.used() >= self.limit
    }

    fn should_pause(&self, paused: bool) -> bool {
        let limit = if paused { self.limit / 2 } else { self.limit };
        self.held.load(Ordering::Acquire) || self.used() >= limit
    }
}

/// Where Kafka is and how to speak with it. Holds secrets, hence no `Debug`.
#[derive(Clone)]
pub struct Settings {
    /// librdkafka's own names; secrets included.
    pub properties: BTreeMap<String, String>,
    /// Consumer group.
    pub group: String,
    /// What to consume.
    pub topics: Vec<String>,
    /// Where dead letters go.
    pub dead_letter_topic: String,
}

/// Largest record that a dead letter may be; brokers allow less, topics may allow more.
const MAX_MESSAGE_BYTES: &str = "16777216";

/// Properties that carry the sink's promises: setting them otherwise is refused by the configuration.
/// The second member is the reason, for people.
pub const FIXED_CONSUMER: [(&str, &str, &str); 8] = [
    (
        "enable.auto.offset.store",
        "false",
        "an offset is stored only after MongoDB has the record",
    ),
    (
        "enable.auto.commit",
        "true",
        "stored offsets are committed in the background",
    ),
    (
        "auto.offset.reset",
        "error",
        "a jump over unread records must never be silent",
    ),
    (
        "partition.assignment.strategy",
        "cooperative-sticky",
        "all sinks of a group must use the same",
    ),
    (
        "group.protocol",
        "classic",
        "partitions are handed over one by one, by that protocol",
    ),
    (
        "enable.partition.eof",
        "false",
        "the end of a partition is no event here",
    ),
    (
        "isolation.level",
        "read_committed",
        "a record of an aborted transaction was never written",
    ),
    (
        "check.crcs",
        "true",
        "a record damaged on the way must not become a document",
    ),
];

/// Readers outside of the group need its name as well: librdkafka assigns no partition without one.
fn consumer_config(properties: &BTreeMap<String, String>, group: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    // Defaults that the user may override.
    config
        .set("client.id", "cloud-sink")
        .set("auto.commit.interval.ms", "1000")
        // A sink that was killed holds its partitions for so long.
        .set("session.timeout.ms", "10000")
        // A rebalance is noticed at the next heartbeat, and waits for the last to notice it.
        .set("heartbeat.interval.ms", "1000")
        // What is fetched ahead, and what one answer may add to it: memory, beside the gate's. An answer
        // counts as it was sent: with zstd it becomes ten times as large here.
        .set("queued.max.messages.kbytes", "1024")
        .set("fetch.message.max.bytes", "65536")
        // Not less: librdkafka refuses a `message.max.bytes` of the user's above it.
        .set("fetch.max.bytes", "4194304")
        // With enough fetched ahead a partition waits for so long, a second by default: at full rate that is
        // all there is for it to do.
        .set("fetch.queue.backoff.ms", "5")
        // Also how soon a topic that is made, or made again, is read.
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("reconnect.backoff.max.ms", "3000")
        .set("statistics.interval.ms", "1000");
    for (name, value) in properties {
        config.set(name, value);
    }
    for (name, value, _) in FIXED_CONSUMER {
        config.set(name, value);
    }
    config.set("group.id", group);
    trust_the_system(&mut config);
    config
}

fn producer_config(properties: &BTreeMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("client.id", "cloud-sink-dead-letters")
        .set("reconnect.backoff.max.ms", "3000")
        .set("queue.buffering.max.kbytes", "16384")
        // Below the time after which a message is given up, so that a missing topic is told as one.
        .set("topic.metadata.propagation.max.ms", "5000")
        .set("partitioner", "murmur2_random");
    for (name, value) in properties {
        // One set of properties serves both clients; these only a consumer knows.
        let consumer_only = [
            "session.timeout.ms",
            "group.",
            "fetch.",
            "max.poll.",
            "queued.",
            "heartbeat.",
        ];
        if !consumer_only.iter().any(|start| name.starts_with(start)) {
            config.set(name, value);
        }
    }
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.max.bytes", MAX_MESSAGE_BYTES)
        // The pipeline tries again, and needs to hear why it does not work.
        .set("message.timeout.ms", "10000");
    trust_the_system(&mut config);
    config
}

/// For questions: nothing that only a producer or only a consumer knows is needed.
fn plain_config(properties: &BTreeMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("client.id", "cloud-sink-admin");
    for (name, value) in properties {
        config.set(name, value);
    }
    trust_the_system(&mut config);
    config
}

/// The OpenSSL built in has no path of its own to the system's authorities.
fn trust_the_system(config: &mut ClientConfig) {
    let is_tls = config
        .get("security.protocol")
        .is_some_and(|protocol| protocol.to_ascii_lowercase().contains("ssl"));
    if is_tls && config.get("ssl.ca.location").is_none() && config.get("ssl.ca.pem").is_none() {
        config.set("ssl.ca.location", "probe");
    }
}

/// librdkafka's own lines, for `RUST_LOG=debug`: it repeats itself at every reconnect, and the links say
/// what an operator needs.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Quiet {}

/// Whether librdkafka takes every property with its value, without connecting.
///
/// # Errors
/// The first it refuses.
pub fn verify(properties: &BTreeMap<String, String>) -> Result<(), SettingError> {
    for config in [consumer_config(properties, ""), producer_config(properties)] {
        config.create_native_config().map_err(|error| match error {
            KafkaError::ClientConfig(_, reason, key, _) => SettingError { key, reason },
            error => SettingError {
                key: "?".into(),
                reason: error.to_string(),
            },
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
