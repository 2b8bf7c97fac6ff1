//! What librdkafka calls back: partitions come and go, statistics, log lines.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::sync_channel,
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    topic_partition_list::Offset,
    types::RDKafkaRespErr,
};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, info, warn};

use super::{Event, Gate, Quiet};
use crate::{
    link::{LinkKind, LinkState, Links},
    message::Partition,
};

/// How long records in flight may keep a partition from going; then they are discarded here, and the
/// next owner reads them again.
pub const HANDOVER: Duration = Duration::from_secs(5);
/// How long the committed offsets are asked for before the sink gives up.
const START: Duration = Duration::from_secs(60);
/// One question.
const ASK: Duration = Duration::from_secs(10);

/// Shared by the callbacks and the thread that polls; the callbacks run inside its poll.
pub struct Context {
    events: UnboundedSender<Event>,
    gate: Arc<Gate>,
    links: Links,
    generation: AtomicU64,
    started_at: Mutex<HashMap<Partition, Option<i64>>>,
    failure: Mutex<Option<KafkaError>>,
}

impl Context {
    pub(super) fn new(events: UnboundedSender<Event>, gate: Arc<Gate>, links: Links) -> Self {
        Self {
            events,
            gate,
            links,
            generation: AtomicU64::new(0),
            started_at: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn take_failure(&self) -> Option<KafkaError> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The first offset asked for, where it was a number.
    pub(super) fn started_at(&self, partition: &Partition) -> Option<i64> {
        let started = self
            .started_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        started.get(partition).copied().flatten()
    }

    /// Consumption goes on behind a gap. Forward, what was read before it is still in flight and counts:
    /// nobody can read it again. Backward, the partition begins a new life.
    pub(super) fn restarted(&self, partition: &Partition, from: i64, to: i64) {
        self.send(Event::Gap {
            partition: partition.clone(),
            from,
            to,
        });
        if to < from {
            self.announce(vec![(partition.clone(), Some(to))]);
        } else {
            self.note_starts(&[(partition.clone(), Some(to))]);
        }
    }

    fn note_starts(&self, partitions: &[(Partition, Option<i64>)]) {
        self.started_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(partitions.iter().cloned());
    }

    fn announce(&self, partitions: Vec<(Partition, Option<i64>)>) {
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        self.note_starts(&partitions);
        self.send(Event::Assigned {
            partitions,
            generation,
        });
    }

    fn send(&self, event: Event) {
        // Nobody listens only while the process ends.
        if self.events.send(event).is_err() {
            debug!("event after the end of the pipeline");
        }
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        match starts(consumer, list) {
            Ok(starts) => {
                let partitions = starts
                    .elements()
                    .iter()
                    .map(|element| (partition(element), offset(element.offset())))
                    .collect();
                self.announce(partitions);
                if let Err(error) = consumer.incremental_assign(&starts) {
                    self.fail(error);
                }
            }
            Err(error) => self.fail(error),
        }
    }

    fn fail(&self, error: KafkaError) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(super) fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let lost = consumer.assignment_lost();
        let (done, finished) = sync_channel(1);
        self.send(Event::Revoked {
            partitions: list.elements().iter().map(partition).collect(),
            lost,
            done,
        });
        // The pipeline has its own deadline; this one is for a pipeline that hangs.
        if finished.recv_timeout(2 * HANDOVER).is_ok() && !lost {
            match consumer.commit_consumer_state(CommitMode::Sync) {
                Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
                Err(error) => warn!(%error, "offsets not committed at a revocation"),
            }
        }
        if let Err(error) = consumer.incremental_unassign(list) {
            self.fail(error);
        }
    }
}

/// Where to start each partition: at the group's committed offset, else at the earliest. Never left to
/// `auto.offset.reset`.
fn starts(
    consumer: &BaseConsumer<Context>,
    list: &TopicPartitionList,
) -> Result<TopicPartitionList, KafkaError> {
    let until = Instant::now() + START;
    let starts = loop {
        let committed = consumer.committed_offsets(list.clone(), ASK);
        // An answer about one partition can be an error, which is not "nothing was committed".
        match committed.and_then(|all| {
            all.elements()
                .iter()
                .try_for_each(|e| e.error())
                .map(|()| all)
        }) {
            Ok(committed) => break committed,
            Err(error) if Instant::now() > until => return Err(error),
            Err(error) => {
                warn!(%error, "committed offsets not readable, asking again");
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    };
    for (topic, number) in list.elements().iter().map(|e| (e.topic(), e.partition())) {
        if let Some(mut element) = starts.find_partition(topic, number)
            && offset(element.offset()).is_none()
        {
            element.set_offset(Offset::Beginning)?;
        }
    }
    Ok(starts)
}

fn offset(offset: Offset) -> Option<i64> {
    match offset {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

fn partition(element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>) -> Partition {
    Partition {
        topic: element.topic().into(),
        number: element.partition(),
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let up = statistics
            .brokers
            .values()
            .any(|broker| broker.state == "UP");
        if up {
            match self.links.set(LinkKind::Kafka, LinkState::Up) {
                Some(LinkState::Down(_)) => info!("kafka back"),
                Some(_) => info!("kafka connected"),
                None => {}
            }
        } else {
            let down = LinkState::Down("no broker is connected".into());
            if self.links.set(LinkKind::Kafka, down).is_some() {
                warn!(
                    reason = "no broker is connected",
                    "kafka unreachable, waiting"
                );
            }
        }
        let lag = statistics
            .topics
            .values()
            .flat_map(|topic| topic.partitions.values())
            // Not stored means unknown only before the first record: then count from the position.
            .map(|partition| partition.consumer_lag_stored.max(partition.consumer_lag))
            .filter(|lag| *lag >= 0)
            .reduce(|sum, lag| sum + lag);
        // Nothing fetched yet is not "nothing to fetch".
        self.gate.lag.store(lag.unwrap_or(-1), Ordering::Release);
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.revoke(consumer, list),
            other => self.fail(KafkaError::Rebalance(other.into())),
        }
    }

    fn commit_callback(&self, result: Result<(), KafkaError>, _offsets: &TopicPartitionList) {
        match result {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            // Harmless: records after the last commit are read again and recognised.
            Err(error) => debug!(%error, "offsets not committed"),
        }
    }
}
