//! The book of a lane: what must exist, how far Kafka has it, and what is lost. Pure; the head file keeps it.
//!
//! `acknowledged` of an epoch means: everything up to there is in Kafka or declared lost. So the cursor of
//! the queue *is* these numbers, and there is no second one that could disagree.

use std::collections::BTreeMap;

use protocol::{Epoch, Timestamp, control::LossReason};
use serde::{Deserialize, Serialize};

use super::summary::Run;

/// Losses kept apart; above, neighbours of one epoch merge into a marked superset.
pub const MAX_LOSSES: usize = 256;
/// Epochs kept. Each start that commits opens one, and it stays until it is drained; beyond this many
/// starts without an uplink the lane refuses to commit rather than forget what it promised.
pub const MAX_EPOCHS: usize = 16_384;
/// Partitions whose offsets are kept; a gateway's records go to one.
const MAX_OFFSETS: usize = 16;

/// Everything the head file keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Book {
    /// Grows with each write of the head; the higher of two slots is the truth.
    pub generation: u64,
    /// Number of the newest segment of which anything was handed out for sending.
    pub handed: u32,
    /// In the order of the queue. The last one stays, as predecessor of the next.
    pub epochs: Vec<EpochEntry>,
    /// Grouped by epoch in the order of the queue, each group sorted and without overlaps.
    pub losses: Vec<LossEntry>,
}

/// One run of the writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochEntry {
    pub epoch: Epoch,
    /// The run before, and the last sequence that is known of it.
    pub previous: Option<(Epoch, Option<u64>)>,
    /// Highest sequence made durable or declared lost.
    pub committed: Option<u64>,
    /// Highest sequence up to which everything is in Kafka or declared lost.
    pub acknowledged: Option<u64>,
    pub offsets: BTreeMap<i32, i64>,
    pub closed: bool,
}

impl EpochEntry {
    /// The next sequence to be settled.
    pub fn unsettled(&self) -> u64 {
        self.acknowledged.map_or(0, |last| last + 1)
    }

    /// The next sequence to be given.
    pub fn next(&self) -> u64 {
        self.committed.map_or(0, |last| last + 1)
    }

    /// Nothing of it is left to do.
    pub fn drained(&self) -> bool {
        self.closed && self.acknowledged == self.committed
    }
}

/// Readings that will never come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossEntry {
    pub epoch: Epoch,
    pub first: u64,
    /// `None`: to an end that is not known.
    pub last: Option<u64>,
    pub reason: LossReason,
    pub merged: bool,
    pub possibly_delivered: bool,
    pub at: Timestamp,
}

impl LossEntry {
    fn end(&self) -> u64 {
        self.last.unwrap_or(u64::MAX)
    }

    fn alike(&self, other: &Self) -> bool {
        self.epoch == other.epoch
            && self.reason == other.reason
            && self.merged == other.merged
            && self.possibly_delivered == other.possibly_delivered
    }
}

impl Book {
    pub fn epoch(&self, epoch: Epoch) -> Option<&EpochEntry> {
        self.epochs.iter().rev().find(|entry| entry.epoch == epoch)
    }

    pub fn epoch_mut(&mut self, epoch: Epoch) -> Option<&mut EpochEntry> {
        self.epochs
            .iter_mut()
            .rev()
            .find(|entry| entry.epoch == epoch)
    }

    /// The first sequence of the epoch that is not settled; an epoch that is no longer kept is settled.
    pub fn unsettled(&self, epoch: Epoch) -> u64 {
        self.epoch(epoch).map_or(u64::MAX, EpochEntry::unsettled)
    }

    /// Opens the next epoch, chained to the last.
    pub fn begin(&mut self, epoch: Epoch) {
        let previous = self.epochs.last_mut().map(|last| {
            last.closed = true;
            (last.epoch, last.committed)
        });
        self.epochs.push(EpochEntry {
            epoch,
            previous,
            committed: None,
            acknowledged: None,
            offsets: BTreeMap::new(),
            closed: false,
        });
    }

    /// Readings up to `last` are durable or declared.
    pub fn commit(&mut self, epoch: Epoch, last: u64) {
        if let Some(entry) = self.epoch_mut(epoch) {
            entry.committed = entry.committed.max(Some(last));
        }
    }

    /// Everything before the front of the queue is settled; without a front, everything.
    pub fn settle_before(&mut self, front: Option<(Epoch, u64)>) {
        let at = front.and_then(|(epoch, _)| self.epochs.iter().position(|e| e.epoch == epoch));
        for (index, entry) in self.epochs.iter_mut().enumerate() {
            match (at, front) {
                (Some(at), Some((_, sequence))) if index == at => {
                    entry.acknowledged = entry.acknowledged.max(sequence.checked_sub(1));
                }
                (Some(at), _) if index > at => {}
                // A front whose epoch is unknown settles nothing.
                (None, Some(_)) => {}
                _ => entry.acknowledged = entry.acknowledged.max(entry.committed),
            }
        }
    }

    /// Kafka has records of the epoch at these offsets.
    pub fn offsets(&mut self, epoch: Epoch, offsets: &BTreeMap<i32, i64>) {
        if let Some(entry) = self.epoch_mut(epoch) {
            for (&partition, &offset) in offsets {
                let full = entry.offsets.len() >= MAX_OFFSETS;
                let known = entry.offsets.get(&partition).copied();
                if known.is_some() || !full {
                    entry
                        .offsets
                        .insert(partition, known.map_or(offset, |old| old.max(offset)));
                }
            }
        }
    }

    /// Declares a loss. What is declared already stays as it is; the rest is added, and coalesces.
    pub fn lose(&mut self, loss: LossEntry) {
        for (first, last) in self.undeclared(loss.epoch, loss.first, loss.last) {
            let mut part = LossEntry {
                first,
                last,
                ..loss.clone()
            };
            let order = |epoch: Epoch| self.epochs.iter().position(|e| e.epoch == epoch);
            let key = (order(part.epoch), part.first);
            let mut at = self
                .losses
                .partition_point(|have| (order(have.epoch), have.first) < key);
            if let Some(before) = at.checked_sub(1).map(|at| &self.losses[at])
                && before.alike(&part)
                && before.end().checked_add(1) == Some(part.first)
            {
                part.first = before.first;
                at -= 1;
                self.losses.remove(at);
            }
            if let Some(after) = self.losses.get(at)
                && after.alike(&part)
                && part.end().checked_add(1) == Some(after.first)
            {
                part.last = after.last;
                self.losses.remove(at);
            }
            self.losses.insert(at, part);
        }
        while self.losses.len() > MAX_LOSSES && self.merge_closest() {}
    }

    /// The parts of a range that no loss declares.
    pub fn undeclared(
        &self,
        epoch: Epoch,
        mut first: u64,
        last: Option<u64>,
    ) -> Vec<(u64, Option<u64>)> {
        let end = last.unwrap_or(u64::MAX);
        let mut parts = Vec::new();
        for have in self.losses.iter().filter(|have| have.epoch == epoch) {
            if have.end() < first || have.first > end {
                continue;
            }
            if have.first > first {
                parts.push((first, Some(have.first - 1)));
            }
            match have.end().checked_add(1) {
                Some(next) => first = next,
                None => return parts,
            }
        }
        if first <= end {
            parts.push((first, last));
        }
        parts
    }

    /// Merges the two neighbours of one epoch with the fewest readings between them.
    fn merge_closest(&mut self) -> bool {
        let gap = |pair: &[LossEntry]| pair[1].first - pair[0].end();
        let closest = self
            .losses
            .windows(2)
            .enumerate()
            .filter(|(_, pair)| pair[0].epoch == pair[1].epoch)
            .min_by_key(|(_, pair)| gap(pair))
            .map(|(at, _)| at);
        let Some(at) = closest else { return false };
        let after = self.losses.remove(at + 1);
        let before = &mut self.losses[at];
        before.last = after.last;
        before.merged = true;
        before.possibly_delivered |= after.possibly_delivered;
        before.at = after.at;
        true
    }

    /// Whether every reading of the run is declared lost, exactly.
    pub fn declares(&self, run: &Run) -> bool {
        let mut first = run.first;
        for loss in self.losses.iter().filter(|loss| loss.epoch == run.epoch) {
            if !loss.merged && loss.first <= first && loss.end() >= first {
                match loss.last {
                    Some(last) if last < run.last => first = last + 1,
                    _ => return true,
                }
            }
        }
        false
    }

    /// Removes epochs that are drained and whose last word has been heard; `heard` says of which.
    pub fn forget_epochs(&mut self, heard: impl Fn(&EpochEntry) -> bool) -> bool {
        let before = self.epochs.len();
        let last = self.epochs.last().map(|entry| entry.epoch);
        let losses = &self.losses;
        self.epochs.retain(|entry| {
            let declared = losses.iter().any(|loss| loss.epoch == entry.epoch);
            !(entry.drained() && heard(entry)) || Some(entry.epoch) == last || declared
        });
        self.epochs.len() != before
    }
}
