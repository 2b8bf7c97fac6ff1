//! Checkpoints: how far the sink is, kept beside what it wrote. Pure.
//!
//! MongoDB holds the readings, so MongoDB holds the place to go on from; the group's committed offset is
//! only a mirror of it. A checkpoint of a partition is its **coverage first, then its next offset**: after
//! a crash between the two the records are read again, and noting them again changes nothing.
//!
//! Both writes carry a **fence**, a number that whoever takes a partition increments. A sink that was
//! paused, lost its partition and wakes finds a higher one and cannot write back.
//!
//! A **mark** is the fingerprint of a record that was read. Another record at its offset means that the topic
//! was deleted and made anew, and that its offsets mean nothing any more: Kafka itself does not tell, a
//! consumer goes on at its old offset in the new topic. So the mark is looked at whenever a partition is taken,
//! and every few seconds while it is read. It **gives way to a younger one only when it was seen to be there
//! still** after that one was read; so the mark and all that was read since are of one life, also if the sink
//! was killed between reading a new life and finding out.
//!
//! ```text
//! taken ─▶ records: coverage, marks ─▶ next offset ─▶ due ─▶ take ─▶ write ─▶ finished
//!                                                              ▲                  │ held: as before
//!                                                              └──────────────────┘
//! ```
//!
//! **A gap in the offsets is part of the checkpoint** that passes it: its incident is written before the
//! next offset is, so that no crash can leave records unread and nobody told. Until then whoever takes the
//! partition finds the same gap.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use protocol::RecordId;

use crate::{
    coverage::{Coverage, Missing, Verdict},
    message::{Coordinates, Message, Partition},
};

/// Between two checkpoints, while anything happens.
pub const EVERY: Duration = Duration::from_secs(5);
/// Between two looks at the marks.
pub const LOOK: Duration = Duration::from_secs(10);
/// With so many streams to note a checkpoint is made at once: this bounds the memory.
const MAX_STREAMS: usize = 1000;

/// The fingerprint of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its offset.
    pub offset: i64,
    /// The broker's timestamp in milliseconds since 1970, -1 where it has none.
    pub timestamp_ms: i64,
    /// CRC-32 over key and value.
    pub crc: u32,
}

impl Mark {
    /// Of this record.
    #[must_use]
    pub fn of(message: &Message) -> Self {
        let at = &message.at;
        Self::new(at.offset, at.timestamp_ms, message.key(), message.value())
    }

    /// Of a record in parts.
    #[must_use]
    pub fn new(
        offset: i64,
        timestamp_ms: Option<i64>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Self {
        let mut crc = crc32fast::Hasher::new();
        crc.update(key.unwrap_or_default());
        crc.update(value.unwrap_or_default());
        Self {
            offset,
            timestamp_ms: timestamp_ms.unwrap_or(-1),
            crc: crc.finalize(),
        }
    }
}

/// What lies where a mark was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Its record.
    Same,
    /// Another record, or the topic ends before it: it was made anew.
    Another,
    /// Nothing: retention or compaction has removed the record, which proves neither.
    Gone,
}

impl Found {
    /// `record` is the first at or after the mark's offset, or the first there is if the topic ends before.
    #[must_use]
    pub fn at(mark: Mark, record: Mark) -> Self {
        if record == mark {
            Self::Same
        } else if record.offset > mark.offset {
            Self::Gone
        } else {
            Self::Another
        }
    }
}

/// A mark that is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Where.
    pub partition: Partition,
    /// Which record was there.
    pub mark: Mark,
    /// Of the assignment that asks.
    pub fence: i64,
}

/// Where to go on, as the one who takes a partition finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub partition: Partition,
    /// To be shown with each write.
    pub fence: i64,
    /// The next offset; `None` where nothing was ever checkpointed: begin with the earliest.
    pub next: Option<i64>,
    /// A record of the life that it is of.
    pub mark: Option<Mark>,
    /// Records of a time series before this offset may have been written by whoever had it before.
    pub reserved: Option<i64>,
}

/// Offsets that were gone before they were read; or, with `to` below `from`, a topic that was made anew, of
/// whose former life `from` would have been read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The next offset that should have been read.
    pub from: i64,
    /// The earliest there was.
    pub to: i64,
}

impl Gap {
    /// The topic was made anew: its offsets begin again.
    #[must_use]
    pub fn is_new_life(self) -> bool {
        self.to < self.from
    }
}

/// One checkpoint to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Which.
    pub partition: Partition,
    /// From [`Taken`].
    pub fence: i64,
    /// What became of readings since the last one.
    pub coverage: Coverage,
    /// The next offset; `None` when it is as before.
    pub next: Option<i64>,
    /// A record of the life that it is of.
    pub mark: Option<Mark>,
    /// Every record before this offset is settled, as far as this assignment knows.
    pub settled_to: Option<i64>,
    /// The partition is handed over, and nothing of it is in doubt.
    pub release: bool,
    /// What is passed over with `next`.
    pub gaps: Vec<Gap>,
    /// Readings that this checkpoint found missing; filled while it is written.
    pub missing: Vec<Missing>,
}

impl Progress {
    /// Where the life before had come to, if the topic was made anew.
    #[must_use]
    pub fn ended(&self) -> Option<i64> {
        let mut lives = self.gaps.iter().filter(|gap| gap.is_new_life());
        lives.next_back().map(|gap| gap.from)
    }
}

/// What became of a [`Progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is durable.
    Yes,
    /// Another sink has taken the partition.
    Fenced,
}

#[derive(Debug, Default)]
struct State {
    fence: i64,
    coverage: Coverage,
    next: Option<i64>,
    settled_to: Option<i64>,
    gaps: Vec<Gap>,
    mark: Option<Mark>,
    /// The first record read since the look that is under way began, or the last one.
    younger: Option<Mark>,
    /// What takes the place of `mark` once a look has found it.
    next_mark: Option<Mark>,
    under_way: bool,
    fenced: bool,
    /// Something of it was reserved.
    leased: bool,
    /// It is to be handed over.
    ending: bool,
}

impl State {
    fn is_dirty(&self) -> bool {
        !self.fenced
            && (self.next.is_some()
                || !self.coverage.is_empty()
                || !self.gaps.is_empty()
                || self.leased && self.ending)
    }
}

/// The checkpoints of the partitions this sink has.
#[derive(Debug)]
pub struct Checkpoints {
    partitions: HashMap<Partition, State>,
    next_at: Instant,
}

impl Checkpoints {
    /// None yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            partitions: HashMap::new(),
            next_at: now + EVERY,
        }
    }

    /// This sink has taken a partition.
    pub fn taken(&mut self, partition: Partition, fence: i64, mark: Option<Mark>) {
        let state = State {
            fence,
            mark,
            ..State::default()
        };
        self.partitions.insert(partition, state);
    }

    /// A partition went.
    pub fn dropped(&mut self, partition: &Partition) {
        self.partitions.remove(partition);
    }

    /// Consumption goes on behind a gap.
    pub fn gap(&mut self, partition: &Partition, gap: Gap) {
        if let Some(state) = self.partitions.get_mut(partition) {
            state.gaps.push(gap);
            if gap.is_new_life() {
                (state.mark, state.younger, state.next_mark) = (None, None, None);
                state.next = Some(gap.to);
                state.settled_to = None;
            }
        }
    }

    /// Records of a partition were written under a lease, which a handover gives back.
    pub fn leased(&mut self, partition: &Partition) {
        if let Some(state) = self.partitions.get_mut(partition) {
            state.leased = true;
        }
    }

    /// These partitions, or all, are about to go.
    pub fn ending(&mut self, partitions: Option<&[Partition]>) {
        for (partition, state) in &mut self.partitions {
            state.ending |= partitions.is_none_or(|some| some.contains(partition));
        }
    }

    /// A record was read.
    pub fn read(&mut self, message: &Message) {
        if let Some(state) = self.partitions.get_mut(&message.at.partition) {
            let place = match state.mark {
                None => &mut state.mark,
                Some(_) => &mut state.younger,
            };
            place.get_or_insert_with(|| Mark::of(message));
        }
    }

    /// The marks, to be looked at now.
    pub fn look(&mut self) -> Vec<Look> {
        let states = self.partitions.iter_mut();
        let looks = states.filter_map(|(partition, state)| {
            let mark = state.mark?;
            // Read before this look, so of the life that it finds. One that no look has answered for waits.
            if state.next_mark.is_none() {
                state.next_mark = state.younger.take();
            }
            Some(Look {
                partition: partition.clone(),
                mark,
                fence: state.fence,
            })
        });
        looks.collect()
    }

    /// What a look has found; whether the topic was made anew. Then the partition has to be taken again, and
    /// until then each look finds the same.
    #[must_use]
    pub fn looked(&mut self, look: &Look, found: Found) -> bool {
        let state = self.partitions.get_mut(&look.partition);
        let Some(state) = state.filter(|state| state.fence == look.fence) else {
            return false;
        };
        // Without its record the proof is gone: the next one has to do.
        if found != Found::Another && state.next_mark.is_some() {
            state.mark = state.next_mark.take();
            // Whoever takes the partition next is to look for this one.
            state.next = state.next.or(state.settled_to);
        }
        found == Found::Another
    }

    /// What became of a reading.
    pub fn note(&mut self, at: &Coordinates, id: &RecordId, verdict: Verdict) {
        if let Some(state) = self.partitions.get_mut(&at.partition) {
            state.coverage.note(id, verdict, at.offset);
        }
    }

    /// Everything before `next` is settled.
    pub fn advanced(&mut self, partition: &Partition, next: i64) {
        if let Some(state) = self.partitions.get_mut(partition) {
            state.next = Some(next);
            state.settled_to = Some(next);
        }
    }

    /// When the next are to be written, if there is anything to write.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let waiting = |state: &&State| state.is_dirty() && !state.under_way;
        let states = || self.partitions.values().filter(waiting);
        states().next()?;
        let streams: usize = states().map(|state| state.coverage.len()).sum();
        let any_gap = states().any(|state| !state.gaps.is_empty());
        Some(if streams >= MAX_STREAMS || any_gap {
            now
        } else {
            self.next_at
        })
    }

    /// Everything that can be written now; `is_settled` says of a partition that nothing of it is in flight.
    pub fn take(&mut self, now: Instant, is_settled: impl Fn(&Partition) -> bool) -> Vec<Progress> {
        self.next_at = now + EVERY;
        let mut work = Vec::new();
        for (partition, state) in &mut self.partitions {
            if state.is_dirty() && !state.under_way {
                state.under_way = true;
                // What cannot be judged yet comes again, even if nothing more is noted of it.
                let unsettled = state.coverage.unsettled(state.settled_to);
                let release = state.leased && state.ending && is_settled(partition);
                state.leased &= !release;
                work.push(Progress {
                    partition: partition.clone(),
                    fence: state.fence,
                    coverage: std::mem::replace(&mut state.coverage, unsettled),
                    next: state.next.take(),
                    mark: state.mark,
                    settled_to: state.settled_to,
                    release,
                    gaps: std::mem::take(&mut state.gaps),
                    missing: Vec::new(),
                });
            }
        }
        work
    }

    /// A checkpoint was written, or refused.
    pub fn finished(&mut self, progress: &Progress, written: Written) {
        // What was under way when the partition went and came back is not of this life.
        if let Some(state) = self.partitions.get_mut(&progress.partition)
            && state.fence == progress.fence
        {
            state.under_way = false;
            state.fenced |= written == Written::Fenced;
        }
    }

    /// Nothing of the partition is left to write.
    #[must_use]
    pub fn is_settled(&self, partition: &Partition) -> bool {
        self.partitions
            .get(partition)
            .is_none_or(|state| !state.is_dirty() && !state.under_way)
    }

    /// Nothing of any partition is left to write.
    #[must_use]
    pub fn all_settled(&self) -> bool {
        let mut states = self.partitions.values();
        states.all(|state| !state.is_dirty() && !state.under_way)
    }
}

#[cfg(test)]
mod tests;
