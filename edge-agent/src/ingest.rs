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
