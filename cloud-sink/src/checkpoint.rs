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

    /// What a look has found. If the topic was made anew, the offset up to which its former life was read at
    /// least; the partition has to begin again, and until then each look finds the same.
    pub fn looked(&mut self, look: &Look, found: Found) -> Option<i64> {
        let state = self.partitions.get_mut(&look.partition);
        let state = state.filter(|state| state.fence == look.fence)?;
        match found {
            Found::Another => return Some(look.mark.offset + 1),
            // With the record the proof is gone: the next one has to do.
            Found::Same | Found::Gone => {
                if state.next_mark.is_some() {
                    state.mark = state.next_mark.take();
                }
            }
        }
        None
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
mod tests {
    use super::*;

    fn partition() -> Partition {
        Partition {
            topic: "t".into(),
            number: 0,
        }
    }

    fn message(offset: i64) -> Message {
        let at = Coordinates {
            partition: partition(),
            offset,
            timestamp_ms: Some(7),
        };
        let value = offset.to_string();
        Message::new(at, Some(b"gw7"), Some(value.as_bytes()), std::iter::empty())
    }

    fn note(checkpoints: &mut Checkpoints, offset: i64) {
        let id = format!("gw7:000000000001:{offset:012x}");
        let message = message(offset);
        checkpoints.note(&message.at, &id.parse().unwrap(), Verdict::Present(None));
    }

    fn only(mut work: Vec<Progress>) -> Progress {
        assert_eq!(work.len(), 1);
        work.pop().unwrap()
    }

    #[test]
    fn a_checkpoint_carries_what_came_since_the_last_and_a_mark_of_its_life() {
        let start = Instant::now();
        let mut checkpoints = Checkpoints::new(start);
        checkpoints.taken(partition(), 3, None);
        assert_eq!(checkpoints.due(start), None);
        for offset in 0..3 {
            checkpoints.read(&message(offset));
            note(&mut checkpoints, offset);
        }
        checkpoints.advanced(&partition(), 2);
        assert_eq!(checkpoints.due(start), Some(start + EVERY));
        let first = only(checkpoints.take(start, |_| true));
        assert_eq!((first.fence, first.next), (3, Some(2)));
        assert_eq!(first.mark, Some(Mark::of(&message(0))));
        assert_eq!(first.coverage.len(), 1);
        assert!(!checkpoints.is_settled(&partition()), "under way");

        // One at a time for a partition.
        checkpoints.advanced(&partition(), 3);
        assert_eq!(checkpoints.due(start), None);
        assert!(checkpoints.take(start, |_| true).is_empty());
        checkpoints.finished(&first, Written::Yes);
        let second = only(checkpoints.take(start, |_| true));
        // Nothing new of the stream, but whether it has a gap could not be told before.
        assert_eq!((second.next, second.coverage.len()), (Some(3), 1));
        checkpoints.finished(&second, Written::Yes);
        assert!(checkpoints.all_settled());
    }

    #[test]
    fn a_fenced_partition_is_not_written_any_more() {
        let mut checkpoints = Checkpoints::new(Instant::now());
        checkpoints.taken(partition(), 3, None);
        checkpoints.advanced(&partition(), 5);
        let old = only(checkpoints.take(Instant::now(), |_| true));
        checkpoints.finished(&old, Written::Fenced);
        checkpoints.advanced(&partition(), 6);
        assert!(checkpoints.take(Instant::now(), |_| true).is_empty());
        assert!(checkpoints.all_settled());

        // Taken again, it has a higher fence; the end of the former life changes nothing.
        checkpoints.taken(partition(), 8, None);
        checkpoints.advanced(&partition(), 6);
        let new = only(checkpoints.take(Instant::now(), |_| true));
        checkpoints.finished(&old, Written::Fenced);
        assert!(!checkpoints.is_settled(&partition()));
        checkpoints.finished(&new, Written::Yes);
        assert!(checkpoints.all_settled());
    }

    #[test]
    fn a_topic_made_anew_ends_a_life_and_goes_back() {
        let mut checkpoints = Checkpoints::new(Instant::now());
        checkpoints.taken(partition(), 1, None);
        checkpoints.read(&message(4));
        checkpoints.advanced(&partition(), 5);
        checkpoints.gap(&partition(), Gap { from: 5, to: 0 });
        let progress = only(checkpoints.take(Instant::now(), |_| true));
        let found = (progress.next, progress.mark, progress.ended());
        assert_eq!(found, (Some(0), None, Some(5)));
    }

    #[test]
    fn a_mark_gives_way_only_to_a_record_that_was_read_before_it_was_seen_again() {
        let mark = |offset| Mark::of(&message(offset));
        let mut checkpoints = Checkpoints::new(Instant::now());
        checkpoints.taken(partition(), 4, Some(mark(7)));
        let look = |checkpoints: &mut Checkpoints| {
            let mut looks = checkpoints.look();
            assert_eq!(looks.len(), 1);
            looks.remove(0)
        };
        checkpoints.read(&message(8));
        checkpoints.read(&message(9));
        let first = look(&mut checkpoints);
        assert_eq!((first.mark, first.fence), (mark(7), 4));
        // Read while the look is under way: it may be of a life that the look did not see.
        checkpoints.read(&message(10));
        // No answer, another try.
        assert_eq!(look(&mut checkpoints), first);
        assert_eq!(checkpoints.looked(&first, Found::Same), None);
        let second = look(&mut checkpoints);
        assert_eq!(second.mark, mark(8));
        // The proof is gone with the record.
        assert_eq!(checkpoints.looked(&second, Found::Gone), None);
        let third = look(&mut checkpoints);
        assert_eq!(third.mark, mark(10));
        assert_eq!(checkpoints.looked(&third, Found::Same), None);
        assert_eq!(look(&mut checkpoints), third, "nothing was read since");

        // What was asked for by an assignment that went says nothing of the one that came.
        let stale = Look {
            fence: 3,
            ..third.clone()
        };
        assert_eq!(checkpoints.looked(&stale, Found::Another), None);
        for _ in 0..2 {
            assert_eq!(checkpoints.looked(&third, Found::Another), Some(11));
            checkpoints.read(&message(90));
            assert_eq!(look(&mut checkpoints), third, "until it begins again");
        }
    }

    #[test]
    fn another_record_at_its_offset_or_none_so_far_is_a_new_life_and_a_later_one_says_nothing() {
        let mark = Mark::new(5, Some(7), None, Some(b"v"));
        for (record, found) in [
            (mark, Found::Same),
            (Mark::new(5, Some(8), None, Some(b"v")), Found::Another),
            (Mark::new(5, Some(7), None, Some(b"w")), Found::Another),
            (Mark::new(0, Some(9), None, Some(b"v")), Found::Another),
            (Mark::new(6, Some(7), None, Some(b"v")), Found::Gone),
        ] {
            assert_eq!(Found::at(mark, record), found, "{record:?}");
        }
    }

    #[test]
    fn a_lease_is_given_back_with_the_last_checkpoint_and_only_when_nothing_is_in_flight() {
        let now = Instant::now();
        let mut checkpoints = Checkpoints::new(now);
        checkpoints.taken(partition(), 1, None);
        checkpoints.leased(&partition());
        checkpoints.advanced(&partition(), 5);
        let usual = only(checkpoints.take(now, |_| true));
        assert!(!usual.release);
        checkpoints.finished(&usual, Written::Yes);
        assert!(checkpoints.all_settled());

        checkpoints.ending(None);
        assert!(!checkpoints.is_settled(&partition()), "the lease");
        let early = only(checkpoints.take(now, |_| false));
        assert!(!early.release, "a record is in flight");
        checkpoints.finished(&early, Written::Yes);
        let last = only(checkpoints.take(now, |_| true));
        assert!(last.release);
        checkpoints.finished(&last, Written::Yes);
        assert!(checkpoints.all_settled());
    }

    #[test]
    fn a_gap_travels_with_the_checkpoint_that_passes_it() {
        let start = Instant::now();
        let mut checkpoints = Checkpoints::new(start);
        checkpoints.taken(partition(), 1, None);
        let gap = Gap { from: 5, to: 90 };
        checkpoints.gap(&partition(), gap);
        assert_eq!(checkpoints.due(start), Some(start), "a person should know");
        checkpoints.advanced(&partition(), 90);
        let progress = only(checkpoints.take(start, |_| true));
        assert_eq!((progress.next, progress.ended()), (Some(90), None));
        assert_eq!(progress.gaps, [gap]);
        assert!(!checkpoints.is_settled(&partition()), "not durable yet");
        checkpoints.finished(&progress, Written::Yes);
        assert!(checkpoints.take(start, |_| true).is_empty(), "once");
    }

    #[test]
    fn many_streams_are_written_at_once() {
        let mut checkpoints = Checkpoints::new(Instant::now());
        checkpoints.taken(partition(), 1, None);
        for epoch in 0..MAX_STREAMS {
            let id = format!("gw7:{epoch:012x}:000000000000");
            let verdict = Verdict::Present(None);
            checkpoints.note(&message(0).at, &id.parse().unwrap(), verdict);
        }
        let now = Instant::now();
        assert_eq!(checkpoints.due(now), Some(now));
    }
}
