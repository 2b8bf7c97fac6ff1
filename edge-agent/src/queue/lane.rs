//! What the halves of a lane share: the book, the segments there are, and who may look.
//!
//! Two locks. `state` is held for arithmetic only; `head` is held while the head is written, so that
//! books reach the disk in the order of their generations. `head` is taken first.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use protocol::{
    Epoch, GatewayId, Timestamp, Topic,
    control::{EpochFact, Fact, Loss, LossReason, Predecessor},
};

use super::{
    Now, Stat,
    book::{Book, EpochEntry, LossEntry},
    directory::Place,
    files,
    head::Head,
    segment::Segment,
    summary::{Run, Summary},
};
use crate::conservation::Conservation;

/// What everybody may look at.
#[derive(Debug)]
pub struct Lane {
    /// Locked as long as this process has the lane.
    pub(super) place: Place,
    pub(super) max_bytes: u64,
    pub(super) conservation: Arc<Conservation>,
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
    pub(super) head: Mutex<Head>,
}

/// How far a segment is in its life.
#[derive(Debug)]
pub(super) enum Life {
    /// Takes commits.
    Active(Arc<Segment>),
    /// Full; its snapshot is being written.
    Sealing,
    /// Closed; whoever reads it opens it.
    Sealed,
    /// A commit to it failed; what was durable before is read through the old handle.
    Sick(Arc<Segment>),
}

/// One segment.
#[derive(Debug)]
pub(super) struct Info {
    pub summary: Summary,
    /// Readings not settled yet.
    pub remaining: u64,
    /// When the newest reading that is settled was committed: those that remain are not older.
    pub waits_since: Option<Timestamp>,
    pub bytes: u64,
    pub life: Life,
}

#[derive(Debug)]
pub(super) struct State {
    pub book: Book,
    /// The book has changed since it was last made durable.
    pub dirty: bool,
    pub segments: BTreeMap<u32, Info>,
    /// Removed from the queue, on disk until the loss of it is durable: number and bytes.
    pub doomed: BTreeMap<u32, u64>,
    /// Bytes of the head and of what is in quarantine.
    pub other_bytes: u64,
    /// Numbers of the oldest segment handed out and not forgotten, and of the one being read.
    pub held: Option<(u32, u32)>,
    pub written_bytes: u64,
    pub committed: u64,
    pub reused_numbers: u64,
    pub stated_epochs: BTreeMap<Epoch, EpochEntry>,
    pub stated_losses: Vec<LossEntry>,
}

impl State {
    pub fn new(book: Book, other_bytes: u64) -> Self {
        Self {
            book,
            dirty: true,
            segments: BTreeMap::new(),
            doomed: BTreeMap::new(),
            other_bytes,
            held: None,
            written_bytes: 0,
            committed: 0,
            reused_numbers: 0,
            stated_epochs: BTreeMap::new(),
            stated_losses: Vec::new(),
        }
    }

    pub fn bytes(&self) -> u64 {
        let segments: u64 = self.segments.values().map(|info| info.bytes).sum();
        segments + self.doomed.values().sum::<u64>() + self.other_bytes
    }

    /// The parts of a segment's runs that are not settled.
    pub fn unsettled(&self, summary: &Summary) -> Vec<Run> {
        let clip = |run: &Run| Run {
            first: run
                .first
                .max(self.book.unsettled(run.epoch).min(run.last + 1)),
            ..*run
        };
        summary
            .runs
            .iter()
            .map(clip)
            .filter(|run| run.len() > 0)
            .collect()
    }

    pub fn lose(&mut self, run: &Run, reason: LossReason, possibly_delivered: bool, at: Timestamp) {
        self.book.lose(LossEntry {
            epoch: run.epoch,
            first: run.first,
            last: Some(run.last),
            reason,
            merged: false,
            possibly_delivered,
            at,
        });
        self.dirty = true;
    }

    /// Takes a segment out of the queue; its directory goes once the book is durable.
    pub fn doom(&mut self, number: u32) {
        if let Some(info) = self.segments.remove(&number) {
            self.doomed.insert(number, info.bytes);
            self.dirty = true;
        }
    }

    /// Segments that are settled and passed. The newest stays: it carries what the sources sent.
    pub fn settled(&self, reading: Option<u32>) -> Vec<u32> {
        let newest = self.segments.keys().next_back().copied();
        self.segments
            .iter()
            .filter(|&(&number, info)| {
                info.remaining == 0
                    && Some(number) != newest
                    && Some(number) != reading
                    && matches!(info.life, Life::Sealed | Life::Sick(_))
            })
            .map(|(&number, _)| number)
            .collect()
    }

    /// Drops statements that were heard and are behind the cursor.
    pub fn forget(&mut self) {
        let stated = &self.stated_losses;
        let book = &self.book;
        let passed = |loss: &LossEntry| {
            let entry = book.epoch(loss.epoch);
            match loss.last {
                Some(last) => entry.is_none_or(|entry| last < entry.unsettled()),
                None => entry.is_none_or(EpochEntry::drained),
            }
        };
        let kept: Vec<LossEntry> = book
            .losses
            .iter()
            .filter(|loss| !(stated.contains(loss) && passed(loss)))
            .cloned()
            .collect();
        if kept.len() != book.losses.len() {
            self.book.losses = kept;
            self.dirty = true;
        }
        let losses = &self.book.losses;
        self.stated_losses.retain(|loss| losses.contains(loss));
        let heard = &self.stated_epochs;
        if self
            .book
            .forget_epochs(|entry| heard.get(&entry.epoch) == Some(entry))
        {
            self.dirty = true;
            let book = &self.book;
            self.stated_epochs
                .retain(|epoch, _| book.epochs.iter().any(|entry| entry.epoch == *epoch));
        }
    }
}

impl Lane {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; and if it did, the disk is the truth.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn segment_dir(&self, number: u32) -> PathBuf {
        segment_dir(&self.place.path, number)
    }

    /// Makes the book durable, then deletes what it no longer needs.
    pub(super) fn sync_head(&self) -> io::Result<()> {
        self.sync_head_with(|_| {})
    }

    /// The same with a change that is nobody's to see before it is durable.
    pub(super) fn sync_head_with(&self, change: impl Fn(&mut Book)) -> io::Result<()> {
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let (book, doomed) = {
            let mut state = self.state();
            state.book.generation += 1;
            state.dirty = false;
            let doomed: Vec<u32> = state.doomed.keys().copied().collect();
            let mut book = state.book.clone();
            change(&mut book);
            (book, doomed)
        };
        match head.write(&book) {
            Ok(bytes) => {
                let mut state = self.state();
                state.written_bytes += bytes;
                change(&mut state.book);
            }
            Err(error) => {
                let mut state = self.state();
                state.dirty = true;
                // The same slot again: the other one is whole.
                state.book.generation -= 1;
                return Err(error);
            }
        }
        for number in doomed {
            match files::remove_dir(&self.segment_dir(number)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // It stays doomed, and counts, until it is gone.
                Err(error) => return Err(error),
            }
            self.state().doomed.remove(&number);
        }
        Ok(())
    }

    /// The topic its readings go to.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.place.topic
    }

    /// The gateway that its readings are of.
    #[must_use]
    pub fn gateway(&self) -> &GatewayId {
        &self.place.gateway
    }

    /// The name of its directory: its topic, or more where the lane only drains.
    #[must_use]
    pub fn name(&self) -> &str {
        self.place.name()
    }

    /// How full it is.
    #[must_use]
    pub fn stat(&self) -> Stat {
        let state = self.state();
        Stat {
            readings: state.segments.values().map(|info| info.remaining).sum(),
            stored: state
                .segments
                .values()
                .flat_map(|info| info.summary.runs.iter().map(Run::len))
                .sum(),
            bytes: state.bytes(),
            max_bytes: self.max_bytes,
            segments: state.segments.len() as u64,
            oldest_committed: state
                .segments
                .values()
                .find(|info| info.remaining > 0)
                .map(|info| {
                    let since = info.waits_since.map(Timestamp::as_micros);
                    since.unwrap_or(info.summary.oldest_us)
                }),
            losses_pending: state
                .book
                .losses
                .iter()
                .filter(|loss| !state.stated_losses.contains(loss))
                .count() as u64,
            written_bytes: state.written_bytes,
            committed: state.committed,
            reused_numbers: state.reused_numbers,
        }
    }

    /// What has to be stated of this lane and has not been acknowledged as stated: epochs and losses.
    #[must_use]
    pub fn facts(&self, now: Now) -> Vec<Fact> {
        let state = self.state();
        let epochs = state
            .book
            .epochs
            .iter()
            .filter(|entry| state.stated_epochs.get(&entry.epoch) != Some(entry))
            .map(|entry| Fact::Epoch(self.epoch_fact(entry, now.wall)));
        let losses = state
            .book
            .losses
            .iter()
            .filter(|loss| !state.stated_losses.contains(loss))
            .map(|loss| Fact::Loss(self.loss_fact(loss)));
        epochs.chain(losses).collect()
    }

    /// Kafka has these statements. A loss is forgotten once the queue is past it, an epoch once it is
    /// closed and drained.
    ///
    /// # Errors
    /// The head could not be made durable; the facts will be stated again, harmlessly.
    pub fn stated<'f>(&self, facts: impl IntoIterator<Item = &'f Fact>) -> Result<(), io::Error> {
        let forgot = {
            let mut state = self.state();
            for fact in facts {
                self.hear(&mut state, fact);
            }
            let (epochs, losses) = (state.book.epochs.len(), state.book.losses.len());
            state.forget();
            (epochs, losses) != (state.book.epochs.len(), state.book.losses.len())
        };
        if forgot { self.sync_head() } else { Ok(()) }
    }

    fn hear(&self, state: &mut State, fact: &Fact) {
        match fact {
            Fact::Epoch(fact) => {
                let entry = state.book.epoch(fact.epoch).cloned();
                if let Some(entry) = entry.filter(|e| self.epoch_fact(e, fact.at) == *fact) {
                    state.stated_epochs.insert(entry.epoch, entry);
                }
            }
            Fact::Loss(fact) => {
                let mut losses = state.book.losses.iter();
                let entry = losses.find(|loss| self.loss_fact(loss) == *fact).cloned();
                state.stated_losses.extend(entry);
            }
            Fact::ClockCorrection(_) | Fact::Heartbeat(_) => {}
        }
    }

    /// The book as after so many starts that were killed before anything was committed; how many runs it has.
    #[cfg(test)]
    pub fn started_in_vain(&self, times: u64) -> usize {
        let mut state = self.state();
        for n in 1..=times {
            state.book.begin(Epoch::from_random(n));
        }
        state.book.epochs.len()
    }

    fn epoch_fact(&self, entry: &EpochEntry, at: Timestamp) -> EpochFact {
        EpochFact {
            gateway: self.gateway().clone(),
            lane: self.topic().clone(),
            epoch: entry.epoch,
            previous: entry
                .previous
                .map(|(epoch, last)| Predecessor { epoch, last }),
            committed: entry.committed,
            acknowledged: entry.acknowledged,
            offsets: entry.offsets.clone(),
            closed: entry.closed,
            at,
        }
    }

    fn loss_fact(&self, loss: &LossEntry) -> Loss {
        loss_fact(self.gateway(), self.topic(), loss)
    }
}

/// A loss as it is stated.
pub(super) fn loss_fact(gateway: &GatewayId, topic: &Topic, loss: &LossEntry) -> Loss {
    Loss {
        gateway: gateway.clone(),
        lane: topic.clone(),
        epoch: loss.epoch,
        first: loss.first,
        last: loss.last,
        reason: loss.reason,
        merged: loss.merged,
        possibly_delivered: loss.possibly_delivered,
        at: loss.at,
    }
}

/// `segments/00000001`.
pub(super) fn segment_dir(lane: &std::path::Path, number: u32) -> PathBuf {
    lane.join("segments").join(format!("{number:08}"))
}
