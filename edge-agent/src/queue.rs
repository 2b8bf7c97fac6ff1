//! The durable queue of one lane.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use protocol::{
    GatewayId, Record, Timestamp, Topic,
    control::{Fact, LossReason},
};

use crate::{
    config,
    conservation::Conservation,
    ingest::{Message, Outcome},
};

/// What the queue needs to know of the time at a call.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The wall clock.
    pub wall: Timestamp,
    /// Whether the wall clock is synchronised; ages count only between such times.
    pub synced: bool,
}

/// A lane that has been opened: one half for the commit thread, one for the forwarder, one for everybody.
pub struct Opened {
    /// Appends and commits.
    pub writer: Writer,
    /// Hands out and forgets.
    pub reader: Reader,
    /// Looks.
    pub lane: Arc<Lane>,
}

/// Why a lane cannot be opened. Damage is no reason: it is quarantined and recorded.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("queue {0} is in use by another process")]
    InUse(std::path::PathBuf),
    /// The file system refuses.
    #[error("queue {path}: {source}")]
    Io {
        /// Where.
        path: std::path::PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// Written by a newer version.
    #[error("queue {path} has format {found}, this program knows up to {known}")]
    Newer {
        /// Where.
        path: std::path::PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
}

/// Why a commit did not happen. Nothing of it is acknowledged; the same batch may be given again.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The lane is at its bound and `when_full = "block"`, or the file system has less than
    /// `min_free_bytes`: wait for the forwarder or for space.
    #[error("queue is full: {0}")]
    Full(&'static str),
    /// The file system failed; the next call writes the batch again, with the same identities, into a
    /// new segment.
    #[error("queue write failed: {0}")]
    Io(#[source] std::io::Error),
}

/// Opens (or creates) the lane `dir/<topic>` and repairs what a crash left.
///
/// # Errors
/// [`OpenError`].
pub fn open(
    _dir: &Path,
    _gateway: &GatewayId,
    _topic: &Topic,
    _settings: &config::Queue,
    _conservation: Arc<Conservation>,
    _now: Now,
) -> Result<Opened, OpenError> {
    todo!()
}

/// The appending half; owned by the lane's commit thread, for its calls block on the disk.
pub struct Writer {}

impl Writer {
    /// Makes all messages durable and returns what became of each, in order.
    ///
    /// # Errors
    /// [`CommitError`]; then none of them was acknowledged.
    pub fn commit(&mut self, _batch: &[Message], _now: Now) -> Result<Vec<Outcome>, CommitError> {
        todo!()
    }

    /// Does what time asks for: seals an old segment, syncs the head, applies `max_age`.
    ///
    /// # Errors
    /// [`CommitError::Io`].
    pub fn tick(&mut self, _now: Now) -> Result<(), CommitError> {
        todo!()
    }

    /// Seals, syncs the head and closes the epoch: the orderly end.
    ///
    /// # Errors
    /// [`CommitError::Io`].
    pub fn close(self, _now: Now) -> Result<(), CommitError> {
        todo!()
    }
}

/// A record handed out for sending.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The reading with its identity and digest.
    pub record: Record,
    /// When the agent got it.
    pub received: Timestamp,
    /// When it became durable.
    pub committed: Timestamp,
}

/// The forwarding half; owned by the forwarder's thread.
///
/// Entries are handed out in order and forgotten in order: `acknowledge` and `lose_front` speak of the
/// oldest ones handed out and not yet forgotten.
pub struct Reader {}

impl Reader {
    /// Hands out up to `max` further entries; empty when the end is reached. Damage is recorded as a
    /// loss and passed. Entries older than `max_age` are recorded as a loss and passed.
    ///
    /// # Errors
    /// The file system fails persistently.
    pub fn next(&mut self, _max: usize, _now: Now) -> Result<Vec<Entry>, std::io::Error> {
        todo!()
    }

    /// Blocks until there may be more, or the time is over.
    pub fn wait(&self, _timeout: Duration) {
        todo!()
    }

    /// The oldest `count` entries handed out are in Kafka, the newest of them per partition at these
    /// offsets. Moves the cursor and reclaims segments that are done.
    ///
    /// # Errors
    /// The cursor could not be made durable; the entries may be sent again after a crash, harmlessly.
    pub fn acknowledge(
        &mut self,
        _count: usize,
        _offsets: &BTreeMap<i32, i64>,
        _now: Now,
    ) -> Result<(), std::io::Error> {
        todo!()
    }

    /// The oldest entry handed out will never be taken: records the loss durably, then forgets it.
    ///
    /// # Errors
    /// The loss could not be made durable; the entry is still the oldest.
    pub fn lose_front(&mut self, _reason: LossReason, _now: Now) -> Result<(), std::io::Error> {
        todo!()
    }

    /// Hands out again everything that is not forgotten: after a fatal producer error.
    pub fn rewind(&mut self) {
        todo!()
    }
}

/// What everybody may look at.
pub struct Lane {}

impl Lane {
    /// Its topic.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        todo!()
    }

    /// How full it is.
    #[must_use]
    pub fn stat(&self) -> Stat {
        todo!()
    }

    /// What has to be stated of this lane and has not been acknowledged as stated: epochs and losses.
    #[must_use]
    pub fn facts(&self, _now: Now) -> Vec<Fact> {
        todo!()
    }

    /// Kafka has this statement. A loss is forgotten, and an epoch once it is closed and drained.
    ///
    /// # Errors
    /// The head could not be made durable; the fact will be stated again, harmlessly.
    pub fn stated(&self, _fact: &Fact) -> Result<(), std::io::Error> {
        todo!()
    }
}

/// How full a lane is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stat {
    /// Readings waiting.
    pub readings: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// The bound.
    pub max_bytes: u64,
    /// Segments on disk.
    pub segments: u64,
    /// When the oldest waiting reading was committed.
    pub oldest_committed: Option<i64>,
    /// Losses recorded and not yet stated to the sink.
    pub losses_pending: u64,
    /// Bytes written to the disk since the start, for the wear of SD cards.
    pub written_bytes: u64,
}
