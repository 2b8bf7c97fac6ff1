//! The durable queue of one lane.
//!
//! ```text
//! dir/<topic>/
//!   lane                  whose it is; locked while a process has it
//!   head                  what must exist: epochs, cursor, losses (two slots)
//!   segments/00000001/    what exists: one small sled store each; `seal` sums up a closed one
//!   segments/….dead       being deleted      segments/….bad   set aside for a human
//! dir/<topic>@<gateway>/  the same, of another gateway or brought from elsewhere; it only drains
//! ```
//!
//! A **commit** writes the readings as packed blocks into the active segment: one batch, flush, fdatasync
//! of our own handle. Then, and not before, the sources are told. The head is not written per commit,
//! which would double the wear: the segments are the truth for what exists, the head for what must
//! exist, and the head lags by a second at most.
//!
//! A **failed commit** is written again by the next call, with the same identities, into a new segment.
//! The new segment says where the failed one ends, so what may have reached the disk there does not
//! exist. If other readings come instead, a new epoch begins: no identity ever means two readings.
//!
//! A **segment** is sealed by size or age on a thread of its own, deleted when Kafka has all of it, and
//! set aside when it is damaged; what is missing is declared as an exact loss, and the queue goes on.
//!
//! One file a matter: `block` and `envelope` are the bytes of readings, `book` and `head` what must
//! exist, `segment` (with `caught`, `image` and `flush`) and `summary` what exists, `memory` what sources send again,
//! `directory`, `survey` and `recover` the start, `writer` (with `active` and `room`) and `reader` (with
//! `scan`) the two halves, `lane` what they share. From outside: `walk` reads, `inspect` and `verify`
//! look, `rescue` brings a store elsewhere.

mod active;
mod block;
mod book;
mod caught;
mod directory;
mod envelope;
mod fault;
mod files;
mod flush;
mod head;
mod image;
pub mod inspect;
mod lane;
mod memory;
#[doc(hidden)]
pub mod properties;
mod reader;
mod recover;
pub mod rescue;
mod room;
mod runs;
mod scan;
mod seal;
mod segment;
mod summary;
mod survey;
#[cfg(test)]
mod tests;
mod untold;
pub mod verify;
mod walk;
mod writer;

use std::{path::Path, sync::Arc, time::Instant};

use protocol::{GatewayId, Record, Timestamp, Topic};

use self::{directory::Place, recover::Trust};
use crate::{config, conservation::Conservation};

pub use self::{
    active::Leaked,
    lane::Lane,
    reader::{ReadError, Reader},
    summary::Run,
    writer::Writer,
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
#[derive(Debug)]
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
    /// Neither its record nor its name tells whose readings it holds.
    #[error("queue {0} does not say whose it is; salvage it with --gateway, then import it")]
    Nobody(std::path::PathBuf),
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
    /// Stores failed so often, on a disk that works, that only a new process helps.
    #[error("the store failed too often for one process")]
    Exhausted,
}

/// Opens (or creates) the lane `dir/<topic>` and repairs what a crash left. A lane there that is recorded
/// for another gateway is set aside as `<topic>@<gateway>`, for [`open_to_drain`].
///
/// # Errors
/// [`OpenError`].
pub fn open(
    dir: &Path,
    gateway: &GatewayId,
    topic: &Topic,
    settings: &config::Queue,
    conservation: Arc<Conservation>,
    now: Now,
) -> Result<Opened, OpenError> {
    let place = Place::claim(dir, gateway, topic)?;
    recover::open(place, settings, conservation, now, Trust::Seals)
}

/// Opens the lane in the directory `dir/<name>` to drain it as it is recorded: with the gateway and the
/// topic it was written for, without new readings. A lane that does not say whose it is, is `gateway`'s.
///
/// # Errors
/// [`OpenError`].
pub fn open_to_drain(
    dir: &Path,
    name: &str,
    gateway: &GatewayId,
    settings: impl FnOnce(&Topic) -> config::Queue,
    conservation: Arc<Conservation>,
    now: Now,
) -> Result<(Reader, Arc<Lane>), OpenError> {
    let place = Place::recorded(dir, name, gateway)?;
    let settings = settings(&place.topic);
    let mut opened = recover::open(place, &settings, conservation, now, Trust::Seals)?;
    opened.reader.alone = Some(Instant::now());
    if let Err(error) = opened.writer.close(now) {
        // It stays open and is read all the same.
        tracing::warn!(lane = name, %error, "queue lane not sealed");
    }
    Ok((opened.reader, opened.lane))
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

/// How full a lane is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stat {
    /// Readings waiting.
    pub readings: u64,
    /// Readings on disk: those that wait, and those that go with the segment they are in.
    pub stored: u64,
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
    /// Readings committed since the start.
    pub committed: u64,
    /// Times since the start that a device used a number again for another reading.
    pub reused_numbers: u64,
}
