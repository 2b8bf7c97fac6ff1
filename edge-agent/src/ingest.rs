//! Where sources hand over and are answered: the gate to the queue, and the group commit behind it.

use protocol::{Reading, Timestamp, Topic};

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
        /// DUP was set, and this is the first connection after a break.
        may_repeat: bool,
    },
}

/// Whom to tell what became of a message.
#[derive(Debug)]
pub struct Answer {
    /// The source's own number for the message.
    pub token: u64,
    /// The source's mailbox. Unbounded, but each receipt answers a message that the gate's byte budget
    /// has let in, so it holds at most that many.
    pub to: tokio::sync::mpsc::UnboundedSender<Receipt>,
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
#[derive(Debug, Clone)]
pub struct Gate {}

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

impl Gate {
    /// Hands over a message; waits while the budget is used up or the queue is full.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn send(&self, _message: Message) -> Result<(), Closed> {
        todo!()
    }

    /// The same for a thread.
    ///
    /// # Errors
    /// [`Closed`].
    pub fn blocking_send(&self, _message: Message) -> Result<(), Closed> {
        todo!()
    }

    /// Counts `readings` rejected ones (at least 1), keeps the bytes in the bounded quarantine and logs,
    /// rate-limited. `detail` names the place and the remedy, never the payload.
    pub fn reject(
        &self,
        _source: &str,
        _reason: Rejection,
        _readings: u64,
        _detail: &dyn std::fmt::Display,
        _bytes: &[u8],
    ) {
        todo!()
    }
}
