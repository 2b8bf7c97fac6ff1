//! Where sources hand over and are answered: the gate to the queue, and the group commit behind it.
//!
//! ```text
//! source ─┐                        ┌─ budget in bytes ─┐  ┌─ one thread per lane ─┐
//! source ─┼─ Gate::send (waits) ──▶│  messages of lane │─▶│ group ─▶ Writer::commit │─▶ Receipt to the source
//! source ─┘                        └───────────────────┘  └─ full or broken: again ─┘
//! ```
//!
//! Each lane has a budget of its own, so a lane that holds (`when_full = "block"`) does not hold the
//! others. A message keeps its share of the budget until it has been answered: what a source may have
//! on the way, memory included, is bounded, and a source that is faster than the disk waits in
//! [`Gate::send`] and so reads no more from its link.
//!
//! Invariant 2 on this side: a [`Receipt`] is sent after [`Writer::commit`](crate::queue::Writer::commit)
//! returned, nowhere else. A commit that fails is tried again with the very same messages for as long as
//! the process lives; nothing of it is answered.

mod batch;
mod commit;
mod rejections;

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use protocol::{Reading, Timestamp, Topic, Value};
use protocol_host::supervisor::Pulses;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc::UnboundedSender},
};

use crate::{
    clock::Clock, conservation::Conservation, link::Links, process::Suppression,
    quarantine::Quarantine, queue::Writer, stage::Stage,
};
use batch::Weight;
use rejections::Rejections;

/// Most readings of one message.
pub const MAX_MESSAGE_READINGS: usize = 1000;
/// What each lane may have on the way to the disk, in bytes of memory.
pub const BUDGET_BYTES: u32 = 4 * 1024 * 1024;

/// One message of a source. All of its readings commit together or not at all.
#[derive(Debug)]
pub struct Message {
    /// The lane, named by its topic.
    pub lane: Topic,
    /// 1 to 1 000.
    pub readings: Vec<Reading>,
    /// How a redelivery of the same message would be recognised.
    pub origin: Origin,
    /// When it arrived.
    pub received: Timestamp,
    /// Whom to tell; `None` for sources that cannot be told, which wait for `commit_every`.
    pub answer: Option<Answer>,
}

/// How a redelivery is recognised, beyond the source identity a reading may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Not at all.
    Unknown,
    /// MQTT QoS 1: by packet id and topic, when the broker may be repeating itself.
    Mqtt {
        /// The PUBLISH packet's id.
        packet_id: u16,
        /// A hash of the topic, the same in every process.
        topic_hash: u64,
        /// What it came on.
        connection: Connection,
        /// Whether the broker says that it may have come before.
        delivery: Delivery,
    },
}

/// One connection to one broker; no two of a process are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The client: its packet ids are its own.
    pub client: u32,
    /// Its connections, counted.
    pub number: u32,
}

/// What an MQTT packet says of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Without DUP: whatever had its id before is acknowledged, or the id would not be free.
    First,
    /// Another part of the packet of the message before: more readings than one message may have.
    Further,
    /// With DUP, which a broker sets only after a break: it may have come on an earlier connection.
    Again,
}

/// Whom to tell what became of a message.
#[derive(Debug)]
pub struct Answer {
    /// The source's own number for the message.
    pub token: u64,
    /// The source's mailbox. Unbounded, but each receipt answers a message that the gate's byte budget
    /// has let in, so it holds at most that many.
    pub to: UnboundedSender<Receipt>,
}

/// What became of a message. Every message that asked gets exactly one, unless the process ends first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The number from [`Answer`].
    pub token: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Durable, or known to have been durable before: acknowledge.
    Stored,
    /// Recorded as an exact loss (`when_full = "drop-newest"`): acknowledge.
    Dropped,
    /// Can never be accepted (too large once encoded); counted and in the quarantine: acknowledge.
    Rejected,
}

/// The gate: bounded in bytes, so a source that is faster than the disk waits here. Cheap to clone.
#[derive(Clone)]
pub struct Gate(Arc<Shared>);

struct Shared {
    lanes: BTreeMap<Topic, LaneDoor>,
    runtime: Handle,
    clock: Clock,
    conservation: Arc<Conservation>,
    quarantine: Quarantine,
    rejections: Arc<Rejections>,
}

struct LaneDoor {
    budget: Arc<Semaphore>,
    /// Unbounded, but what is in it holds permits of the budget.
    inbox: mpsc::Sender<Inbox>,
}

/// What a lane's thread is sent.
enum Inbox {
    Message(Admitted),
    /// Nothing follows.
    Close,
}

/// A message with its share of the budget.
struct Admitted {
    message: Message,
    weight: Weight,
    permit: OwnedSemaphorePermit,
}

/// The ingest stage has ended; the process is going down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ingest has ended")]
pub struct Closed;

/// Why a piece of input is no reading; a label of metrics, so the set is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rejection {
    /// Damaged on the way: CRC, COBS, checksum.
    Damaged,
    /// Longer than allowed.
    TooLarge,
    /// Not UTF-8, not JSON, not what the format promises.
    Malformed,
    /// A version this build does not know.
    UnknownVersion,
    /// Decoded, but without a single value.
    NoFields,
    /// No device could be named.
    NoDevice,
    /// A value or name that cannot be kept: NaN, beyond 64 bits, a name twice.
    BadValue,
}

impl Rejection {
    /// The word used in logs, metrics and the quarantine.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::UnknownVersion => "unknown_version",
            Self::NoFields => "no_fields",
            Self::NoDevice => "no_device",
            Self::BadValue => "bad_value",
        }
    }
}

/// What the stage shares with the rest of the process.
pub struct Surroundings {
    /// For threads that wait at the gate.
    pub runtime: Handle,
    /// The time.
    pub clock: Clock,
    /// Where readings are counted.
    pub conservation: Arc<Conservation>,
    /// Where rejected bytes go.
    pub quarantine: Quarantine,
    /// Where a disk that fails is reported, by the lane's topic.
    pub links: Links,
    /// Where the commit threads show that they go on.
    pub pulses: Pulses,
}

/// The running stage.
pub struct Ingest {
    /// For the sources.
    pub gate: Gate,
    /// One per lane; each must be watched.
    pub stages: Vec<Stage>,
}

/// Starts a commit thread per lane.
///
/// `commit_every` is how long a message without [`Answer`] may wait for company.
///
/// # Errors
/// The system gives no thread.
pub fn start(
    lanes: Vec<(Topic, Writer)>,
    commit_every: Duration,
    around: Surroundings,
) -> io::Result<Ingest> {
    let rejections = Arc::new(Rejections::default());
    let mut doors = BTreeMap::new();
    let mut stages = Vec::new();
    for (topic, writer) in lanes {
        let (inbox, messages) = mpsc::channel();
        let lane = commit::Lane {
            topic: topic.clone(),
            writer,
            inbox: messages,
            commit_every,
            clock: around.clock.clone(),
            quarantine: around.quarantine.clone(),
            links: around.links.clone(),
            rejections: Arc::clone(&rejections),
            pulse: around.pulses.watch(format!("commit {topic}")),
        };
        stages.push(Stage::spawn(&format!("commit {topic}"), |stop| {
            lane.run(&stop)
        })?);
        let budget = Arc::new(Semaphore::new(BUDGET_BYTES as usize));
        doors.insert(topic, LaneDoor { budget, inbox });
    }
    let gate = Gate(Arc::new(Shared {
        lanes: doors,
        runtime: around.runtime,
        clock: around.clock,
        conservation: around.conservation,
        quarantine: around.quarantine,
        rejections,
    }));
    Ok(Ingest { gate, stages })
}

impl Ingest {
    /// Closes the gate and lets the threads commit what was sent before, until `deadline`; then
    /// [`Stage::ended`] resolves.
    pub fn stop(&self, deadline: Instant) {
        for stage in &self.stages {
            stage.stop(deadline);
        }
        for lane in self.gate.0.lanes.values() {
            lane.budget.close();
            // The thread may be gone already.
            drop(lane.inbox.send(Inbox::Close));
        }
    }
}

impl Gate {
    /// Hands over a message; waits while the budget is used up or the queue is full.
    ///
    /// A message for a lane that does not exist, or not of 1 to [`MAX_MESSAGE_READINGS`] readings, is
    /// rejected and answered so.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn send(&self, message: Message) -> Result<(), Closed> {
        let Some((lane, message)) = self.lane(message) else {
            return Ok(());
        };
        let weight = weigh(&message);
        let permit = Arc::clone(&lane.budget)
            .acquire_many_owned(share(weight.bytes))
            .await
            .map_err(|_| Closed)?;
        let readings = weight.readings as u64;
        // Counted before it is sent: the lane's thread may commit it at any moment from then on.
        self.0.conservation.received(readings);
        let admitted = Admitted {
            message,
            weight,
            permit,
        };
        lane.inbox
            .send(Inbox::Message(admitted))
            .map_err(|_| Closed)
    }

    /// The same for a thread.
    ///
    /// # Errors
    /// [`Closed`].
    pub fn blocking_send(&self, message: Message) -> Result<(), Closed> {
        self.0.runtime.block_on(self.send(message))
    }

    /// Counts `readings` rejected ones (at least 1), keeps the bytes in the bounded quarantine and logs,
    /// rate-limited. `detail` names the place and the remedy, never the payload.
    pub fn reject(
        &self,
        source: &str,
        reason: Rejection,
        readings: u64,
        detail: &dyn fmt::Display,
        bytes: &[u8],
    ) {
        let readings = readings.max(1);
        self.0.conservation.rejected_at_source(readings);
        self.0
            .rejections
            .note(Instant::now(), source, reason, readings, detail);
        let time = self.0.clock.now().wall;
        self.0
            .quarantine
            .keep(time, source, reason.as_str(), detail.to_string(), bytes);
    }

    /// Counts a reading that a source got and `[[process]]` does not pass on.
    pub fn suppressed(&self, reason: Suppression) {
        self.0.conservation.suppressed(reason);
    }

    /// How many readings were rejected, by source and reason, since the start.
    #[must_use]
    pub fn rejections(&self) -> Vec<(String, Rejection, u64)> {
        self.0.rejections.totals()
    }

    /// The door for the message, unless it can never pass.
    fn lane(&self, message: Message) -> Option<(&LaneDoor, Message)> {
        let readings = message.readings.len();
        let lane = self.0.lanes.get(&message.lane);
        let (reason, detail) = match lane {
            Some(lane) if (1..=MAX_MESSAGE_READINGS).contains(&readings) => {
                return Some((lane, message));
            }
            Some(_) => (
                Rejection::TooLarge,
                format!("a message has 1 to {MAX_MESSAGE_READINGS} readings, not {readings}"),
            ),
            None => (Rejection::Malformed, format!("no lane {}", message.lane)),
        };
        let bytes = as_json(&message.readings);
        self.reject(
            message.lane.as_str(),
            reason,
            readings as u64,
            &detail,
            &bytes,
        );
        if let Some(answer) = message.answer {
            answer.give(Outcome::Rejected);
        }
        None
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.lanes.keys()).finish()
    }
}

impl Answer {
    /// Tells the source. One that is gone has no use for it.
    pub(crate) fn give(self, outcome: Outcome) {
        let Self { token, to } = self;
        to.send(Receipt { token, outcome }).ok();
    }
}

/// What is left of a message that has no bytes any more, for the quarantine.
fn as_json(readings: &[Reading]) -> Vec<u8> {
    serde_json::to_vec(readings).unwrap_or_default()
}

/// The share of the budget, at most all of it: the largest message passes alone.
fn share(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).min(BUDGET_BYTES)
}

/// The memory a message holds, estimated from above for what sources send.
fn weigh(message: &Message) -> Weight {
    let bytes = message.readings.iter().map(|reading| {
        let fields = reading.fields.iter().map(|(name, value)| {
            let text = match value {
                Value::Text(text) => text.len(),
                _ => 0,
            };
            FIELD_BYTES + name.as_str().len() + text
        });
        let meta = reading.meta.iter();
        let meta = meta.map(|(name, text)| FIELD_BYTES + name.as_str().len() + text.len());
        size_of::<Reading>() + reading.device.as_str().len() + fields.chain(meta).sum::<usize>()
    });
    Weight {
        readings: message.readings.len(),
        bytes: size_of::<Admitted>() + bytes.sum::<usize>(),
        asks: message.answer.is_some(),
    }
}

/// A field without its texts, with what the allocator adds to them.
const FIELD_BYTES: usize = 64;

#[cfg(test)]
mod tests;
