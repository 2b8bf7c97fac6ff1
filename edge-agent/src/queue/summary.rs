//! What a segment holds, known without opening it: a small file `seal` beside sled's, written when the
//! segment is sealed. It makes a start with a thousand segments cheap, and the loss of one exact.

use std::{fs, io, path::Path};

use protocol::Epoch;
use serde::{Deserialize, Serialize};

use super::{
    envelope::{self, EnvelopeError},
    files,
};

const VERSION: u8 = 1;
const FILE: &str = "seal";

/// Readings with contiguous sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Of which run of the writer.
    pub epoch: Epoch,
    /// The first sequence.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

impl Run {
    /// How many readings; 0 when it has been clipped to nothing.
    pub(super) fn len(&self) -> u64 {
        (self.last + 1).saturating_sub(self.first)
    }
}

/// What a segment holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Blocks of the segment before that this number or higher do not exist: they were never
    /// acknowledged, and what they held was written again.
    pub first_block: u64,
    /// One above the last block.
    pub next_block: u64,
    /// In the order of the queue.
    pub runs: Vec<Run>,
    /// When the oldest block was committed, in microseconds since 1970.
    pub oldest_us: i64,
    /// When the newest block was committed.
    pub newest_us: i64,
    /// Whether all of them were committed with a synchronised clock.
    pub synced: bool,
}

impl Summary {
    /// Of a segment whose first block will be `first_block`.
    pub fn new(first_block: u64) -> Self {
        Self {
            first_block,
            next_block: first_block,
            synced: true,
            ..Self::default()
        }
    }

    /// Adds a block with the given header.
    pub fn add(&mut self, number: u64, header: &super::block::Header) {
        let committed = header.committed.as_micros();
        if self.runs.is_empty() {
            self.oldest_us = committed;
        }
        self.newest_us = committed;
        self.synced &= header.synced;
        self.next_block = number + 1;
        match self.runs.last_mut() {
            Some(run) if run.epoch == header.epoch && run.last + 1 >= header.first => {
                run.last = run.last.max(header.last());
            }
            _ => self.runs.push(Run {
                epoch: header.epoch,
                first: header.first,
                last: header.last(),
            }),
        }
    }

    /// Writes it into the segment's directory.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let body = postcard::to_allocvec(self).map_err(io::Error::other)?;
        files::replace(&dir.join(FILE), &envelope::seal(VERSION, &body))
    }

    /// Reads it; `None` when the segment is not sealed or the file is damaged.
    pub fn read(dir: &Path) -> Result<Option<Self>, EnvelopeError> {
        let Ok(bytes) = fs::read(dir.join(FILE)) else {
            return Ok(None);
        };
        match envelope::open(&bytes, VERSION) {
            Ok(body) => Ok(postcard::from_bytes(body).ok()),
            Err(EnvelopeError::Damaged) => Ok(None),
            Err(newer) => Err(newer),
        }
    }

    /// Forgets it, before the segment is written again.
    pub fn remove(dir: &Path) -> io::Result<()> {
        match fs::remove_file(dir.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => files::sync_dir(dir),
        }
    }
}
