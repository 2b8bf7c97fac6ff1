//! The thread that polls.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use protocol_host::supervisor::Pulse;
use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedHeaders, BorrowedMessage, Headers as _},
    topic_partition_list::Offset,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::{
    Delivered, Event, Gate, Settings, consumer_config, rebalance::Context, watermarks::watermarks,
};
use crate::{
    checkpoint::Gap,
    link::{LinkKind, LinkState, Links},
    message::{Coordinates, Message, Partition},
};

/// How long one poll may last; also how soon the gate is looked at.
const POLL: Duration = Duration::from_millis(50);
/// A full gate is looked at again so soon.
const NAP: Duration = Duration::from_millis(1);
/// A gate that is full for longer pauses the partitions. Not at once: what was fetched ahead is thrown away
/// with that, and at full rate the gate is full all the time.
const FULL: Duration = Duration::from_millis(500);
/// How long a client may take to leave its group; longer than a handover.
const LEAVE: Duration = Duration::from_secs(30);
/// Between two tries to find out where a partition that was refused goes on.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the brokers may take to say whether a topic is there.
const ASK_TOPICS: Duration = Duration::from_secs(2);
/// Between two looks whether a topic that was missing is there: readiness comes back within seconds.
const TOPICS_AGAIN: Duration = Duration::from_secs(2);

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
    #[error("there is no topic {0}: cloud-sink topics apply makes it")]
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

/// Stores offsets for the next commit, with the client there is now.
#[derive(Clone)]
pub struct Offsets(Arc<Mutex<Arc<BaseConsumer<Context>>>>);

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
        let consumer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = consumer.store_offsets(&list) {
            debug!(%error, "offsets not stored");
        }
    }

    fn go_to(&self, consumer: Arc<BaseConsumer<Context>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = consumer;
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
        let consumer = client(context)?;
        subscribe(&consumer)?;
        let offsets = Offsets(Arc::new(Mutex::new(consumer.clone())));
        let stop = Arc::new(AtomicBool::new(false));
        let has_ended = ended.clone();
        let mut poller = Poller {
            consumer,
            offsets: offsets.clone(),
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
            full_since: None,
            refused_at: None,
            topics_at: None,
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
        E::SSL => ": a certificate was refused, cloud-sink check --online says whose and why",
        _ => "",
    };
    format!("{code}{remedy}")
}

/// A member of no group yet.
fn client(context: Context) -> Result<Arc<BaseConsumer<Context>>, ConsumerError> {
    let settings = context.settings();
    consumer_config(&settings.properties, &settings.group)
        .create_with_context(context)
        .map(Arc::new)
        .map_err(ConsumerError::Settings)
}

fn subscribe(consumer: &BaseConsumer<Context>) -> Result<(), ConsumerError> {
    let topics = &consumer.context().settings().topics;
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics).map_err(ConsumerError::Settings)
}

struct Poller {
    consumer: Arc<BaseConsumer<Context>>,
    offsets: Offsets,
    gate: Arc<Gate>,
    links: Links,
    pulse: Pulse,
    messages: mpsc::UnboundedSender<Delivered>,
    stop: Arc<AtomicBool>,
    topics: Vec<Arc<str>>,
    paused: bool,
    /// The generation, and the stalls, that the partitions were last paused for.
    paused_at: (u64, u64),
    full_since: Option<Instant>,
    /// Some partition was refused its offset and is not known to go on yet; when to look.
    refused_at: Option<Instant>,
    /// When to look again whether all topics are there.
    topics_at: Option<Instant>,
}

impl Poller {
    fn run(&mut self) -> Result<(), ConsumerError> {
        while !self.stop.load(Ordering::Acquire) {
            self.pulse.beat();
            if self.waits_for_room() {
                thread::sleep(NAP);
                continue;
            }
            self.pause_or_resume();
            if self.gate.must_begin_again() {
                self.begin_again()?;
            }
            if self.refused_at.is_some_and(|at| at <= Instant::now()) {
                self.skip_gaps()?;
            }
            self.look_for_topics();
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(record)) => {
                    let message = self.copy(&record);
                    self.gate.add(message.size());
                    let generation = self.consumer.context().generation();
                    let delivered = Delivered::Record {
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
                // A pipeline that is ending answers no more, and says itself why it ends.
                let is_alone = matches!(error, ConsumerError::Pipeline);
                if is_alone || self.stop.load(Ordering::Acquire) {
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

    /// Whether a gate that has just become full is likely to have room soon.
    fn waits_for_room(&mut self) -> bool {
        if self.paused || !self.gate.is_only_full() {
            self.full_since = None;
            return false;
        }
        self.full_since.get_or_insert_with(Instant::now).elapsed() < FULL
    }

    fn pause_or_resume(&mut self) {
        let pause = self.gate.should_pause(self.paused);
        let generation = self.consumer.context().generation();
        let stalls = self.gate.stalls.load(Ordering::Acquire);
        let at = (generation, stalls);
        // Partitions that came are as librdkafka left them: running where others are paused, or still paused
        // from before they went.
        if pause == self.paused && at == self.paused_at {
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

    /// A member that was given partitions of one topic reads them, though another topic is missing or denied:
    /// librdkafka says that once. It is asked for until all are there.
    fn look_for_topics(&mut self) {
        let context = self.consumer.context();
        let is_early = self.topics_at.is_some_and(|at| at > Instant::now());
        if is_early || context.generation() == 0 || !context.waits_for_people() {
            return;
        }
        let is_there = |topic: &Arc<str>| {
            self.pulse.beat();
            let answer = self.consumer.fetch_metadata(Some(topic), ASK_TOPICS);
            answer.is_ok_and(|found| found.topics().iter().all(|topic| topic.error().is_none()))
        };
        if self.topics.iter().all(is_there) {
            context.accepted();
        }
        self.topics_at = Some(Instant::now() + TOPICS_AGAIN);
    }

    fn copy(&self, record: &BorrowedMessage<'_>) -> Message {
        let topic = record.topic();
        let known = self.topics.iter().find(|known| &***known == topic);
        copy(record, known.cloned().unwrap_or_else(|| topic.into()))
    }

    fn failed(&mut self, error: KafkaError) -> Result<(), ConsumerError> {
        match &error {
            KafkaError::MessageConsumptionFatal(_) => return Err(ConsumerError::Fatal(error)),
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset,
            ) => self.skip_gaps()?,
            KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SSL),
            ) => self.down(told(*code)),
            // Follows each of the others, and says nothing.
            KafkaError::MessageConsumption(code @ RDKafkaErrorCode::AllBrokersDown) => {
                self.consumer.context().lost(&told(*code));
            }
            _ => debug!(%error, "kafka"),
        }
        Ok(())
    }

    fn down(&self, reason: String) {
        self.consumer.context().refused();
        if self
            .links
            .set(LinkKind::Kafka, LinkState::Down(reason.clone()))
            .is_some()
        {
            warn!(reason, "kafka unreachable, waiting");
        }
    }

    /// A partition was refused its offset, which one is not said, and stands still until it is told where to go
    /// on. Records expired before they were read: it goes on at the earliest, and the pipeline hears of it. Or
    /// its topic ends before what was read: that is another one. Or a new leader was behind for a moment: it
    /// goes on where it is.
    fn skip_gaps(&mut self) -> Result<(), ConsumerError> {
        let mut is_remade = false;
        self.refused_at = Some(Instant::now() + AGAIN);
        let (Ok(assigned), Ok(positions)) = (self.consumer.assignment(), self.consumer.position())
        else {
            return Ok(());
        };
        self.refused_at = None;
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
            match watermarks(&*self.consumer, &partition.topic, partition.number) {
                Ok((_, high)) if from > high => is_remade = true,
                Ok((low, _)) => self
                    .restart(&partition, from, from.max(low))
                    .map_err(ConsumerError::Start)?,
                Err(error) => {
                    debug!(%error, "watermarks not read");
                    self.refused_at = Some(Instant::now() + AGAIN);
                }
            }
        }
        if is_remade {
            self.begin_again()?;
        }
        Ok(())
    }

    /// A topic was made anew. All partitions are given back in order, and a new client takes them: where each
    /// begins is found as at a start. librdkafka goes on in the new topic as if it were the old one, and keeps
    /// the epochs of the old one's leaders; where those were higher the brokers refuse each fetch, for ever.
    fn begin_again(&mut self) -> Result<(), ConsumerError> {
        self.consumer.unsubscribe();
        let until = Instant::now() + LEAVE;
        let has_any = || {
            self.consumer
                .assignment()
                .is_ok_and(|list| list.count() > 0)
        };
        while has_any() && Instant::now() < until {
            self.pulse.beat();
            // Calls back when they go. Records that come meanwhile are read again.
            drop(self.consumer.poll(POLL));
        }
        let successor = client(self.consumer.context().succeeded())?;
        self.offsets.go_to(Arc::clone(&successor));
        self.consumer = successor;
        (self.paused, self.paused_at) = (false, (0, 0));
        self.refused_at = None;
        self.pulse.beat();
        subscribe(&self.consumer)
    }

    fn restart(&self, partition: &Partition, from: i64, to: i64) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(to))?;
        self.consumer.incremental_unassign(&list)?;
        if from < to {
            // After what was read before the gap, and before the first record behind it. Without a pipeline
            // whoever takes the partition next finds the same gap.
            let gap = Delivered::Gap {
                generation: self.consumer.context().generation(),
                partition: partition.clone(),
                gap: Gap { from, to },
            };
            drop(self.messages.send(gap));
        }
        self.consumer.context().restarted(partition, to);
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
    let headers = record.headers();
    let headers = (0..headers.map_or(0, BorrowedHeaders::count)).filter_map(|at| {
        let header = headers?.get(at);
        Some((header.key, header.value))
    });
    Message::new(at, record.key(), record.payload(), headers)
}
