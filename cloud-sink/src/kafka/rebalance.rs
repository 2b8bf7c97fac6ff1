//! What librdkafka calls back: partitions come and go, statistics, log lines.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, sync_channel},
    },
    time::{Duration, Instant},
};

use protocol_host::supervisor::Pulse;
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

use super::{ConsumerError, Event, Gate, Quiet, Settings, marks};
use crate::{
    checkpoint::Taken,
    link::{LinkKind, LinkState, Links},
    message::Partition,
};

/// How long records in flight may keep a partition from going; then they are discarded here, and the
/// next owner reads them again.
pub const HANDOVER: Duration = Duration::from_secs(5);
/// How long the brokers are asked where to start before the sink gives up.
const START: Duration = Duration::from_secs(60);
/// How long MongoDB is waited for. Below `max.poll.interval.ms`, after which the group would give the
/// partitions away behind our back; a sink that starts anew waits outside of the group.
const CHECKPOINTS: Duration = Duration::from_secs(180);
/// Between two signs of life during a wait.
const LOOK: Duration = Duration::from_secs(1);
/// One question.
const ASK: Duration = Duration::from_secs(10);

/// Shared by the callbacks and the thread that polls; the callbacks run inside its poll.
pub struct Context {
    events: UnboundedSender<Event>,
    gate: Arc<Gate>,
    links: Links,
    pulse: Pulse,
    /// Goes on growing from one client to the next.
    generation: Arc<AtomicU64>,
    started_at: Mutex<HashMap<Partition, Option<i64>>>,
    failure: Mutex<Option<ConsumerError>>,
    /// The brokers answer, and refuse what is asked: a topic that is missing, a right.
    is_refused: AtomicBool,
    settings: Settings,
}

impl Context {
    pub(super) fn new(
        settings: Settings,
        events: UnboundedSender<Event>,
        gate: Arc<Gate>,
        links: Links,
        pulse: Pulse,
    ) -> Self {
        Self {
            settings,
            events,
            gate,
            links,
            pulse,
            generation: Arc::default(),
            started_at: Mutex::default(),
            failure: Mutex::default(),
            is_refused: AtomicBool::new(false),
        }
    }

    /// For the client that takes the place of this one's.
    pub(super) fn succeeded(&self) -> Self {
        let (events, gate, links) = (self.events.clone(), self.gate.clone(), self.links.clone());
        let successor = Self::new(
            self.settings.clone(),
            events,
            gate,
            links,
            self.pulse.clone(),
        );
        Self {
            generation: Arc::clone(&self.generation),
            ..successor
        }
    }

    /// No broker is there, for a reason that says no more than that.
    pub(super) fn lost(&self, reason: &str) {
        if self.links.lost(LinkKind::Kafka, reason).is_some() {
            warn!(reason, "kafka unreachable, waiting");
        }
    }

    /// What is wrong is said by the brokers themselves, once: their being there does not mend it.
    pub(super) fn refused(&self) {
        self.is_refused.store(true, Ordering::Release);
    }

    /// Nothing is refused any more.
    pub(super) fn accepted(&self) {
        self.is_refused.store(false, Ordering::Release);
    }

    /// Whether the brokers refuse something, and are not known to give it by now.
    pub(super) fn waits_for_people(&self) -> bool {
        self.is_refused.load(Ordering::Acquire)
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn take_failure(&self) -> Option<ConsumerError> {
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

    /// Consumption of a partition begins again, at `to`. What was read before is still in flight and counts:
    /// behind a gap nobody can read it again.
    pub(super) fn restarted(&self, partition: &Partition, to: i64) {
        // Offsets go on growing, so what is in flight still counts. The new generation only says that the
        // partition has to be paused again if it was.
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.started(&[(partition.clone(), Some(to))]);
    }

    fn started(&self, partitions: &[(Partition, Option<i64>)]) {
        self.started_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(partitions.iter().cloned());
    }

    fn announce(&self, partitions: Vec<(Partition, Option<i64>)>) {
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        self.started(&partitions);
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
        let begun = self.starts(consumer, list).and_then(|starts| {
            let mut list = TopicPartitionList::new();
            for (partition, first) in &starts {
                let first = first.map_or(Offset::Beginning, Offset::Offset);
                list.add_partition_offset(&partition.topic, partition.number, first)
                    .map_err(ConsumerError::Start)?;
            }
            self.announce(starts);
            consumer
                .incremental_assign(&list)
                .map_err(ConsumerError::Start)
        });
        if let Err(error) = begun {
            self.fail(error);
        }
    }

    fn fail(&self, error: ConsumerError) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Where to start each partition: at its checkpoint in MongoDB, else at the earliest. Neither the
    /// group's committed offset nor `auto.offset.reset` has a say.
    fn starts(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> Result<Vec<(Partition, Option<i64>)>, ConsumerError> {
        let partitions: Vec<Partition> = list.elements().iter().map(partition).collect();
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let cluster = patiently(&self.pulse, "the cluster has no id", || {
            let id = consumer.client().fetch_cluster_id(ASK);
            id.ok_or_else(|| "no answer".into())
        })?;
        let taken = self.take(cluster.into(), partitions)?;
        let remade = patiently(
            &self.pulse,
            "records before the checkpoints are not readable",
            || marks::remade(&self.settings, &taken).map_err(|error| error.to_string()),
        )?;
        let starts = taken.into_iter().map(|taken| {
            let Taken {
                partition, next, ..
            } = taken;
            match remade.get(&partition) {
                Some(&gap) => {
                    let remade = Event::Remade {
                        partition: partition.clone(),
                        gap,
                    };
                    self.send(remade);
                    (partition, Some(gap.to))
                }
                None => (partition, next),
            }
        });
        Ok(starts.collect())
    }

    /// Asks the pipeline to take partitions.
    fn take(
        &self,
        cluster: Arc<str>,
        partitions: Vec<Partition>,
    ) -> Result<Vec<Taken>, ConsumerError> {
        let (answer, answered) = sync_channel(1);
        self.send(Event::Taking {
            cluster,
            partitions,
            answer,
        });
        let until = Instant::now() + CHECKPOINTS;
        loop {
            // The wait for a MongoDB that is away is no standstill.
            self.pulse.beat();
            match answered.recv_timeout(LOOK) {
                Ok(taken) => return Ok(taken),
                Err(RecvTimeoutError::Disconnected) => return Err(ConsumerError::Pipeline),
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => {
                    return Err(ConsumerError::NoStart("mongodb is away"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
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
            self.fail(ConsumerError::Start(error));
        }
    }
}

/// Asks again and again, for [`START`].
fn patiently<T>(
    pulse: &Pulse,
    what: &'static str,
    mut ask: impl FnMut() -> Result<T, String>,
) -> Result<T, ConsumerError> {
    let until = Instant::now() + START;
    loop {
        pulse.beat();
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(_) if Instant::now() > until => return Err(ConsumerError::NoStart(what)),
            Err(error) => {
                warn!(%error, what, "kafka does not say where to start, asking again");
                std::thread::sleep(Duration::from_millis(500));
            }
        }
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
        if up && self.waits_for_people() {
            debug!("brokers are up and refuse");
        } else if up {
            match self.links.set(LinkKind::Kafka, LinkState::Up) {
                Some(LinkState::Down(_)) => info!("kafka back"),
                Some(_) => info!("kafka connected"),
                None => {}
            }
        } else {
            self.lost("no broker is connected");
        }
        let lags = statistics.topics.iter().flat_map(|(name, topic)| {
            let name: Arc<str> = name.as_str().into();
            topic.partitions.iter().filter_map(move |(number, known)| {
                // Not stored means unknown only before the first record: then count from the position.
                let lag = known.consumer_lag_stored.max(known.consumer_lag);
                let partition = Partition {
                    topic: name.clone(),
                    number: *number,
                };
                // Nothing fetched yet is not "nothing to fetch".
                Some((partition, u64::try_from(lag).ok()?))
            })
        });
        self.gate.set_lags(lags.collect());
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
            other => self.fail(ConsumerError::Start(KafkaError::Rebalance(other.into()))),
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
