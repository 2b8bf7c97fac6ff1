//! What the memory has learned since the last commit that no block tells of: messages that were only
//! recognised, and whatever was dropped as the newest.
//!
//! The next commit notes it beside its blocks (see memory). Until there is one, what was recognised needs no
//! more. What was dropped does: a full queue may take nothing for days, and a source whose acknowledgement was
//! lost together with the process sends again what is already declared lost. Stored as new it would be there
//! under one number and declared lost under another. So it is kept in a file beside the head, made anew with
//! each drop:
//!
//! ```text
//! file "dropped"   the last two statements, the older first; each an envelope version 1 around postcard of
//!                  (number of the next block, epoch, last number dropped, entries as in memory)
//! ```
//!
//! A statement says all that was untold when it was made. It is durable before the loss that it belongs to,
//! and counts only where that is durable too: what is neither stored nor declared must be taken as new. That
//! is why there are two.

use std::{
    collections::{BTreeSet, VecDeque},
    fs, io,
    path::Path,
};

use protocol::{DeviceId, Epoch};
use serde::{Deserialize, Serialize};

use super::{
    block::MqttOrigin,
    book::Book,
    envelope::{self, EnvelopeError, OVERHEAD_BYTES},
    files,
    memory::{MESSAGES, Memory, Staged},
};

const FILE: &str = "dropped";
const VERSION: u8 = 1;

/// See the module.
#[derive(Debug, Default)]
pub struct Untold {
    messages: VecDeque<MqttOrigin>,
    devices: BTreeSet<DeviceId>,
    /// The last statement that counts, as it is on disk.
    statement: Vec<u8>,
}

/// What one drop adds, until its loss is durable.
#[derive(Debug)]
pub struct Dropping {
    statement: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Statement {
    next_block: u64,
    epoch: Epoch,
    last: u64,
    entries: Vec<Vec<u8>>,
}

impl Statement {
    /// Whether no block was stored since, and the loss is durable. An epoch the book has forgotten is settled.
    fn counts(&self, next_block: u64, book: &Book) -> bool {
        let entry = book.epoch(self.epoch);
        self.next_block == next_block
            && entry.is_none_or(|entry| entry.committed >= Some(self.last))
    }
}

impl Untold {
    /// Keeps messages until they are noted.
    pub fn keep(&mut self, messages: impl IntoIterator<Item = MqttOrigin>) {
        self.messages.extend(messages);
        let surplus = self.messages.len().saturating_sub(MESSAGES);
        self.messages.drain(..surplus);
    }

    /// The entries for a commit whose first block this is, which recognises a few messages more.
    pub fn notes(&self, memory: &Memory, first_block: u64, more: &[MqttOrigin]) -> Vec<Vec<u8>> {
        let messages = self.messages.iter().chain(more).copied();
        let noted = memory.only(messages, &self.devices, &Staged::default());
        noted.note(first_block)
    }

    /// A commit noted everything.
    pub fn told(&mut self) {
        *self = Self::default();
    }

    /// States durably what is untold once `staged` is dropped with numbers up to `last`.
    pub fn state(
        &self,
        lane: &Path,
        memory: &Memory,
        staged: &Staged,
        next_block: u64,
        (epoch, last): (Epoch, u64),
    ) -> io::Result<Dropping> {
        let messages = self.messages.iter().copied().chain(staged.messages());
        let untold = memory.only(messages, &self.devices, staged);
        let statement = Statement {
            next_block,
            epoch,
            last,
            entries: untold.carry(next_block),
        };
        let body = postcard::to_allocvec(&statement).map_err(io::Error::other)?;
        let statement = envelope::seal(VERSION, &body);
        files::replace(
            &lane.join(FILE),
            &[&self.statement, &statement[..]].concat(),
        )?;
        Ok(Dropping { statement })
    }

    /// The loss of what was stated is durable.
    pub fn dropped(&mut self, dropping: Dropping, staged: &Staged, memory: &Memory) {
        self.statement = dropping.statement;
        self.keep(staged.messages());
        let before = std::mem::take(&mut self.devices);
        let known = before.into_iter().filter(|device| memory.has(device));
        self.devices = known.chain(staged.devices().cloned()).collect();
    }

    /// Reads what was stated and still counts, and adds it to the memory.
    pub fn read(
        lane: &Path,
        memory: &mut Memory,
        next_block: u64,
        book: &Book,
    ) -> Result<io::Result<Self>, EnvelopeError> {
        let bytes = match fs::read(lane.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Ok(Self::default()));
            }
            Err(error) => return Ok(Err(error)),
        };
        let mut untold = Self::default();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let body = match envelope::open(rest, VERSION) {
                Ok(body) => body,
                Err(EnvelopeError::Damaged) => {
                    tracing::warn!(lane = %lane.display(), "what the queue remembers of dropped readings is damaged");
                    break;
                }
                Err(newer) => return Err(newer),
            };
            let (whole, behind) = rest.split_at(OVERHEAD_BYTES + body.len());
            rest = behind;
            let statement = postcard::from_bytes::<Statement>(body).ok();
            let Some(statement) = statement.filter(|one| one.counts(next_block, book)) else {
                continue;
            };
            let (said, _) = Memory::read(&statement.entries)?;
            untold = Self {
                messages: said.messages().collect(),
                devices: said.devices().cloned().collect(),
                statement: whole.to_vec(),
            };
            memory.add(said);
        }
        Ok(Ok(untold))
    }
}
