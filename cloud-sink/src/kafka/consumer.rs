//! The thread that polls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use protocol_host::supervisor::Pulse;
use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers as _},
    topic_partition_list::Offset,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::{Delivered, Event, Gate, Settings, consumer_config, rebalance::Context};
use crate::{
    link::{LinkKind, LinkState, Links},
    message::{Coordinates, Message, Partition},
};

/// How long one poll may last; also how soon the gate is looked at.
const POLL: Duration = Duration::from_millis(50);
/// Questions to the broker outside of a callback.
const ASK: Duration = Duration::from_secs(10);

/// Why the consumer ended.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// The settings are refused by librdkafka.
    #[error("kafka settings refused: {0}")]
    Settings(KafkaError),
    /// An error that librdkafka calls fatal: only a new client helps.
    #[error("kafka consumer failed: {0}")]
    Fatal(KafkaError),
    /// Partitions could not be taken or given back.
    #[error("partitions not taken: {0}")]
    Start(KafkaError),
    /// No broker answered.
    #[error("kafka does not answer: {0}")]
    Unreachable(KafkaError),
    /// Nothing can be read that is not there.
    #[error("there is no topic {0}")]
    NoTopic(String),
    /// No safe place to start is known.
    #[error("partitions not taken: {0}")]
    NoStart(&'static str),
    /// The pipeline is gone.
    #[error("the pipeline ended before the consumer")]
    Pipeline,
    /// The thread panicked; the message is on stderr.
    #[error("the kafka consumer panicked")]
    Panicked,
    /// No thread could be started.
    #[error("no thread for the consumer: {0}")]
    Thread(std::io::Error),
}

/// The consumer thread. Dropping it does not end it: [`Consumer::close`] does.
pub struct Consumer {
    thread: JoinHandle<Result<(), ConsumerError>>,
    stop: Arc<AtomicBool>,
    ended: CancellationToken,
}

/// Stores offsets for the next commit.
#[derive(Clone)]
pub struct Offsets(Arc<BaseConsumer<Context>>);

impl Offsets {
    /// Stores **next** offsets (exclusive: one more than the last settled record).
    pub fn store<'a>(&self, next: impl Iterator<Item = (&'a Partition, i64)>) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in next {
            let mut element = list.add_partition(&partition.topic, partition.number);
            if let Err(error) = element.set_offset(Offset::Offset(offset)) {
                error!(%error, offset, "offset not stored");
            }
        }
        if list.count() == 0 {
            return;
        }
        // Fails for a partition that has just gone: its next owner reads those records again.
        if let Err(error) = self.0.store_offsets(&list) {
            debug!(%error, "offsets not stored");
        }
    }
}

/// What the pipeline gets of a consumer.
pub struct Started {
    /// The thread.
    pub consumer: Consumer,
    /// Where offsets go.
    pub offsets: Offsets,
    /// Bounded by the gate, in bytes.
    pub messages: mpsc::UnboundedReceiver<Delivered>,
    /// Rare, and each revocation waits for its answer.
    pub events: mpsc::UnboundedReceiver<Event>,
}

impl Consumer {
    /// Joins the group and starts the thread. `ended` is notified when the thread ends by itself, `pulse`
    /// beats while it goes on.
    ///
    /// # Errors
    /// [`ConsumerError::Settings`] or [`ConsumerError::Thread`]; an unreachable broker is none.
    pub fn start(
        settings: &Settings,
        gate: Arc<Gate>,
        links: Links,
        ended: CancellationToken,
        pulse: Pulse,
    ) -> Result<Started, ConsumerError> {
        let (events_in, events) = mpsc::unbounded_channel();
        let (messages_in, messages) = mpsc::unbounded_channel();
        let context = Context::new(
            settings.clone(),
            events_in,
            gate.clone(),
            links.clone(),
            pulse.clone(),
        );
        let consumer: BaseConsumer<Context> =
            consumer_config(&settings.properties, &settings.group)
                .create_with_context(context)
                .map_err(ConsumerError::Settings)?;
        let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
        consumer
            .subscribe(&topics)
            .map_err(ConsumerError::Settings)?;
        let consumer = Arc::new(consumer);
        let offsets = Offsets(consumer.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let has_ended = ended.clone();
        let mut poller = Poller {
            consumer,
            gate,
            links,
            pulse,
            messages: messages_in,
            stop: stop.clone(),
            topics: settings
                .topics
                .iter()
                .map(|topic| Arc::from(&**topic))
                .collect(),
            paused: false,
            paused_at: (0, 0),
        };
        let thread = thread::Builder::new()
            .name("kafka".into())
            .spawn(move || {
                let result = poller.run();
                // Leaves the group; only then the thread has ended.
                drop(poller);
                ended.cancel();
                result
            })
            .map_err(ConsumerError::Thread)?;
        Ok(Started {
            consumer: Self {
                thread,
                stop,
                ended: has_ended,
            },
            offsets,
            messages,
            events,
        })
    }

    /// Commits what is stored, leaves the group and waits for the thread, but no longer than `within`:
    /// without a broker neither can be done, and the next start reads again what was not committed.
    ///
    /// # Errors
    /// Why the thread had ended by itself.
    pub async fn close(self, within: Duration) -> Result<(), ConsumerError> {
        self.stop.store(true, Ordering::Release);
        if timeout(within, self.ended.cancelled()).await.is_err() {
            warn!("kafka does not answer, offsets perhaps not committed");
            return Ok(());
        }
        self.thread.join().unwrap_or(Err(ConsumerError::Panicked))
    }
}

/// The error for people, with the remedy where it is theirs.
fn told(code: RDKafkaErrorCode) -> String {
    use RDKafkaErrorCode as E;
    let remedy = match code {
        E::UnknownTopicOrPartition | E::UnknownTopic => {
            ": cloud-sink topics plan says which is missing, apply makes it"
        }
        E::TopicAuthorizationFailed | E::GroupAuthorizationFailed => {
            ": cloud-sink check --online names the permission that is missing"
        }
        E::SaslAuthenticationFailed | E::Authentication => ": check the key and its secret",
        _ => "",
    };
    format!("{code}{remedy}")
}

struct Poller {
    consumer: Arc<BaseConsumer<Context>>,
    gate: Arc<Gate>,
    links: Links,
    pulse: Pulse,
    messages: mpsc::UnboundedSender<Delivered>,
    stop: Arc<AtomicBool>,
    topics: Vec<Arc<str>>,
    paused: bool,
    /// The generation, and the stalls, that the partitions were last paused for.
    paused_at: (u64, u64),
}

impl Poller {
    fn run(&mut self) -> Result<(), ConsumerError> {
        while !self.stop.load(Ordering::Acquire) {
            self.pulse.beat();
            self.pause_or_resume();
            self.begin_again();
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(record)) => {
                    let message = self.copy(&record);
                    self.gate.add(message.size());
                    let generation = self.consumer.context().generation();
                    let delivered = Delivered {
                        generation,
                        message,
                    };
                    if self.messages.send(delivered).is_err() {
                        // The pipeline has ended, and says itself why: this record is read again.
                        break;
                    }
                }
                Some(Err(error)) => self.failed(error)?,
            }
            if let Some(error) = self.consumer.context().take_failure() {
                // A pipeline that is ending answers no more.
                if self.stop.load(Ordering::Acquire) {
                    break;
                }
                return Err(error);
            }
        }
        self.commit();
        Ok(())
    }

    fn commit(&self) {
        match self.consumer.commit_consumer_state(CommitMode::Sync) {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            // Harmless: the records after the last commit are read again and recognised.
            Err(error) => warn!(%error, "offsets not committed at the end"),
        }
    }

    fn pause_or_resume(&mut self) {
        let pause = self.gate.should_pause(self.paused);
        let generation = self.consumer.context().generation();
        let stalls = self.gate.stalls.load(Ordering::Acquire);
        let at = (generation, stalls);
        // Partitions that came while others are paused are running: pause them as well.
        let may_run = !pause && self.paused_at.1 == stalls && stalls == 0;
        if pause == self.paused && (may_run || at == self.paused_at) {
            return;
        }
        match self.pause_some(pause) {
            Ok(count) => {
                self.paused = pause;
                self.paused_at = at;
                self.gate.paused_partitions.store(count, Ordering::Release);
            }
            // Tried again at the next poll.
            Err(error) => debug!(%error, pause, "partitions not paused or resumed"),
        }
    }

    /// Pauses all partitions, or only those that stall; the others run. Returns how many are paused.
    fn pause_some(&self, all: bool) -> Result<usize, KafkaError> {
        let stalled = self.gate.stalled();
        let (mut held, mut free) = (TopicPartitionList::new(), TopicPartitionList::new());
        for element in self.consumer.assignment()?.elements() {
            let partition = Partition {
                topic: element.topic().into(),
                number: element.partition(),
            };
            let list = if all || stalled.contains(&partition) {
                &mut held
            } else {
                &mut free
            };
            list.add_partition(&partition.topic, partition.number);
        }
        // Neither changes anything where it is so already.
        self.consumer.pause(&held)?;
        self.consumer.resume(&free)?;
        Ok(held.count())
    }

    fn copy(&self, record: &BorrowedMessage<'_>) -> Message {
        let topic = record.topic();
        let known = self.topics.iter().find(|known| &***known == topic);
        copy(record, known.cloned().unwrap_or_else(|| topic.into()))
    }

    fn failed(&self, error: KafkaError) -> Result<(), ConsumerError> {
        match &error {
            KafkaError::MessageConsumptionFatal(_) => return Err(ConsumerError::Fatal(error)),
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset,
            ) => self.skip_gaps(),
            KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::AllBrokersDown),
            ) => self.down(told(*code)),
            _ => debug!(%error, "kafka"),
        }
        Ok(())
    }

    fn down(&self, reason: String) {
        if self
            .links
            .set(LinkKind::Kafka, LinkState::Down(reason.clone()))
            .is_some()
        {
            warn!(reason, "kafka unreachable, waiting");
        }
    }

    /// Records expired before they were read, or the topic is another one: every partition that stands
    /// outside of what there is goes on at the earliest, and the pipeline hears of it.
    fn skip_gaps(&self) {
        let (Ok(assigned), Ok(positions)) = (self.consumer.assignment(), self.consumer.position())
        else {
            return;
        };
        for element in assigned.elements() {
            self.pulse.beat();
            let partition = Partition {
                topic: element.topic().into(),
                number: element.partition(),
            };
            let position = positions
                .find_partition(&partition.topic, partition.number)
                .map(|at| at.offset());
            let Some(from) = (match position {
                Some(Offset::Offset(position)) => Some(position),
                _ => self.consumer.context().started_at(&partition),
            }) else {
                continue;
            };
            let watermarks =
                self.consumer
                    .fetch_watermarks(&partition.topic, partition.number, ASK);
            match watermarks {
                Ok((low, high)) if from < low || from > high => {
                    if let Err(error) = self.restart(&partition, from, low) {
                        error!(%error, topic = %partition.topic, partition = partition.number, "partition not restarted after a gap");
                    }
                }
                Ok(_) => {}
                Err(error) => debug!(%error, "watermarks not read"),
            }
        }
    }

    /// Partitions of which the marks have shown that their topic is another one, though this offset exists in
    /// it as well.
    fn begin_again(&self) {
        for (partition, from) in self.gate.take_remade() {
            self.pulse.beat();
            let Partition { topic, number } = &partition;
            let assigned = self.consumer.assignment();
            if !assigned.is_ok_and(|list| list.find_partition(topic, *number).is_some()) {
                continue;
            }
            let restarted = self.consumer.fetch_watermarks(topic, *number, ASK);
            // Whatever retention has left of the new life.
            let restarted =
                restarted.and_then(|(low, _)| self.restart(&partition, from.max(low + 1), low));
            if let Err(error) = restarted {
                // The next look at the marks finds it again.
                debug!(%error, %topic, number, "partition not begun again yet");
            }
        }
    }

    fn restart(&self, partition: &Partition, from: i64, to: i64) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(to))?;
        let context = self.consumer.context();
        if to < from {
            // A topic made anew: its offsets begin again, so what is in flight of the former one is
            // finished first, as when the partition goes.
            context.revoke(&self.consumer, &list);
        } else {
            self.consumer.incremental_unassign(&list)?;
        }
        // Before the first record of the new place, so that its offset is not taken for an old one.
        context.restarted(partition, from, to);
        self.consumer.incremental_assign(&list)?;
        if self.paused {
            self.consumer.pause(&list)?;
        }
        Ok(())
    }
}

pub(super) fn copy(record: &BorrowedMessage<'_>, topic: Arc<str>) -> Message {
    let at = Coordinates {
        partition: Partition {
            topic,
            number: record.partition(),
        },
        offset: record.offset(),
        timestamp_ms: record.timestamp().to_millis(),
    };
    let headers = record
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter())
        .map(|header| (header.key, header.value));
    Message::new(at, record.key(), record.payload(), headers)
}
