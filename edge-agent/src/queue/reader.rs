//! The forwarding half: hands out in order, forgets in order.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::{Epoch, Timestamp, control::LossReason};

use super::{
    Entry, Now,
    lane::{Lane, Life, State},
    scan::rest,
    segment::Segment,
    summary::Run,
    writer::{HEAD_EVERY, age_limit},
};
use crate::config;

/// The forwarding half; owned by the forwarder's thread.
///
/// Entries are handed out in order and forgotten in order: `acknowledge` and `lose_front` speak of the
/// oldest ones handed out and not yet forgotten.
#[derive(Debug)]
pub struct Reader {
    pub(super) lane: Arc<Lane>,
    pub(super) settings: config::Queue,
    /// Handed out and not forgotten.
    pub(super) handed: VecDeque<Handed>,
    /// Read and not handed out.
    pub(super) buffer: VecDeque<Pending>,
    pub(super) at: Option<At>,
    /// The last identity read. What comes again below it is passed over.
    pub(super) passed: Option<(Epoch, u64)>,
    pub(super) open: Option<Opened>,
    /// The last segment could not be opened: the disk is asked before the next try.
    pub(super) in_doubt: bool,
    /// Segments up to this one may have been sent before.
    pub(super) resent_until: u32,
    /// No writer makes the head durable now and then; when this half did, last.
    pub(super) alone: Option<Instant>,
}

/// The sealed segment that is read.
#[derive(Debug)]
pub(super) struct Opened {
    pub number: u32,
    pub segment: Segment,
    /// By its log alone: there is nothing else to ask.
    pub by_log: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub number: u32,
    pub next_block: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Handed {
    pub segment: u32,
    pub epoch: Epoch,
    pub sequence: u64,
    /// When it became durable.
    pub committed: Timestamp,
}

#[derive(Debug)]
pub(super) enum Pending {
    Entry {
        at: Handed,
        entry: Entry,
        synced: bool,
    },
    /// Readings that should be here and are not.
    Lost { segment: u32, run: Run },
}

/// Why nothing is handed out.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk takes nothing, or refuses a store that may be whole: nothing is judged and nothing lost.
    /// Try again.
    #[error("the disk refuses: {0}")]
    Disk(#[source] io::Error),
    /// A store that this process cannot read any more, on a disk that works. A new process can, or finds
    /// out what is lost.
    #[error("{0}")]
    Segment(#[source] io::Error),
}

impl Reader {
    pub(super) fn new(lane: Arc<Lane>, settings: config::Queue) -> Self {
        let resent_until = lane.state().book.handed;
        Self {
            lane,
            settings,
            handed: VecDeque::new(),
            buffer: VecDeque::new(),
            at: None,
            passed: None,
            open: None,
            in_doubt: false,
            resent_until,
            alone: None,
        }
    }

    /// The lane it reads.
    #[must_use]
    pub fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// Hands out up to `max` further entries; empty when the end is reached. Damage is recorded as a
    /// loss and passed. Entries older than `max_age` are recorded as a loss and passed, both as soon as
    /// everything handed out before them is forgotten.
    ///
    /// # Errors
    /// [`ReadError`]; nothing was handed out then.
    pub fn next(&mut self, max: usize, now: Now) -> Result<Vec<Entry>, ReadError> {
        let mut out = Vec::new();
        while out.len() < max {
            match self.buffer.front() {
                None => match self.fill() {
                    Ok(true) => {}
                    // What is handed out must be returned; the next call fails again, with nothing.
                    Err(error) if out.is_empty() => return Err(error),
                    Ok(false) | Err(_) => break,
                },
                Some(front) if self.is_lost(front, now) => {
                    // A loss moves the cursor, which must not pass what may still be sent again.
                    if !self.handed.is_empty() || !out.is_empty() {
                        break;
                    }
                    self.lose_pending(now);
                    self.reclaim().map_err(ReadError::Disk)?;
                }
                Some(_) => {
                    if let Some(Pending::Entry { at, entry, .. }) = self.buffer.pop_front() {
                        self.handed.push_back(at);
                        out.push(entry);
                    }
                }
            }
        }
        self.hold();
        Ok(out)
    }

    fn is_lost(&self, pending: &Pending, now: Now) -> bool {
        match pending {
            Pending::Lost { .. } => true,
            Pending::Entry { entry, synced, .. } => {
                now.synced
                    && *synced
                    && entry.committed.as_micros() < age_limit(&self.settings, now)
            }
        }
    }

    /// Declares what is lost at the front of the buffer.
    fn lose_pending(&mut self, now: Now) {
        let mut lost = Vec::new();
        while let Some(front) = self.buffer.front() {
            if !self.is_lost(front, now) {
                break;
            }
            match self.buffer.pop_front() {
                Some(Pending::Entry { at, .. }) => {
                    let run = Run {
                        epoch: at.epoch,
                        first: at.sequence,
                        last: at.sequence,
                    };
                    lost.push((at.segment, run, LossReason::TooOld));
                }
                Some(Pending::Lost { segment, run }) => {
                    lost.push((segment, run, LossReason::Unreadable));
                }
                None => {}
            }
        }
        let lane = Arc::clone(&self.lane);
        let mut state = lane.state();
        for (segment, run, reason) in lost {
            self.declare(&mut state, segment, &run, reason, now);
        }
        self.settle(&mut state);
    }

    fn declare(&self, state: &mut State, segment: u32, run: &Run, reason: LossReason, now: Now) {
        state.lose(run, reason, segment <= self.resent_until, now.wall);
        if let Some(info) = state.segments.get_mut(&segment) {
            let lost = run.len().min(info.remaining);
            info.remaining -= lost;
            self.lane.conservation.dropped_queued(lost, reason);
        }
        tracing::error!(lane = self.lane.name(), epoch = %run.epoch, first = run.first, last = run.last,
            reason = reason.as_str(), "queue lost readings");
    }

    /// Blocks until there may be more, or the time is over.
    pub fn wait(&self, timeout: Duration) {
        let start = Instant::now();
        let mut state = self.lane.state();
        while !self.more(&state) {
            let Some(left) = timeout.checked_sub(start.elapsed()) else {
                return;
            };
            state = match self.lane.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn more(&self, state: &State) -> bool {
        if !self.buffer.is_empty() {
            // What waits in the buffer waits for acknowledgements.
            return self.handed.is_empty();
        }
        let from = self.at.map_or(0, |at| at.number);
        state.segments.range(from..).any(|(number, info)| {
            let next = self.at.filter(|at| at.number == *number);
            match (next, &info.life) {
                (_, Life::Sealing) => false,
                (Some(at), Life::Active(_)) => at.next_block < info.summary.next_block,
                _ => !rest(&state.book, &info.summary, self.passed).is_empty(),
            }
        })
    }

    /// The oldest `count` entries handed out are in Kafka, the newest of them per partition at these
    /// offsets. Moves the cursor and reclaims segments that are done.
    ///
    /// # Errors
    /// The cursor could not be made durable; the entries may be sent again after a crash, harmlessly.
    pub fn acknowledge(
        &mut self,
        count: usize,
        offsets: &BTreeMap<i32, i64>,
        _now: Now,
    ) -> Result<(), io::Error> {
        if count > self.handed.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "more entries acknowledged than handed out",
            ));
        }
        let lane = Arc::clone(&self.lane);
        let mut state = lane.state();
        let mut newest = None;
        for done in self.handed.drain(..count) {
            newest = Some(done.epoch);
            if let Some(info) = state.segments.get_mut(&done.segment) {
                info.remaining -= 1;
                // What waits behind it is not older.
                info.waits_since = Some(done.committed);
            }
        }
        lane.conservation.acknowledged(count as u64);
        if let Some(epoch) = newest {
            state.book.offsets(epoch, offsets);
        }
        self.settle(&mut state);
        drop(state);
        self.reclaim()
    }

    /// The oldest entry handed out will never be taken: records the loss durably, then forgets it.
    ///
    /// # Errors
    /// The loss could not be made durable; the entry is still the oldest.
    pub fn lose_front(&mut self, reason: LossReason, now: Now) -> Result<(), io::Error> {
        let Some(&front) = self.handed.front() else {
            return Ok(());
        };
        let run = Run {
            epoch: front.epoch,
            first: front.sequence,
            last: front.sequence,
        };
        let lane = Arc::clone(&self.lane);
        let possibly_delivered = front.segment <= self.resent_until;
        lane.state()
            .lose(&run, reason, possibly_delivered, now.wall);
        lane.sync_head()?;
        self.handed.pop_front();
        {
            let mut state = lane.state();
            if let Some(info) = state.segments.get_mut(&front.segment) {
                info.remaining -= 1;
            }
            lane.conservation.dropped_queued(1, reason);
            self.settle(&mut state);
        }
        self.reclaim()
    }

    /// Moves the cursor up to the oldest reading that is neither forgotten nor lost.
    fn settle(&self, state: &mut State) {
        let front = self.front(state);
        state.book.settle_before(front);
        state.dirty = true;
        state.forget();
    }

    fn front(&self, state: &State) -> Option<(Epoch, u64)> {
        if let Some(front) = self.handed.front() {
            return Some((front.epoch, front.sequence));
        }
        match self.buffer.front() {
            Some(Pending::Entry { at, .. }) => return Some((at.epoch, at.sequence)),
            Some(Pending::Lost { run, .. }) => return Some((run.epoch, run.first)),
            None => {}
        }
        let from = self.at.map_or(0, |at| at.number);
        state
            .segments
            .range(from..)
            .find_map(|(_, info)| {
                rest(&state.book, &info.summary, self.passed)
                    .first()
                    .copied()
            })
            .map(|run| (run.epoch, run.first))
    }

    /// Deletes segments that are settled and passed: cursor durable, rename, sync, delete.
    fn reclaim(&mut self) -> io::Result<()> {
        self.hold();
        let any = {
            let mut state = self.lane.state();
            let settled = state.settled(self.at.map(|at| at.number));
            for number in &settled {
                state.doom(*number);
            }
            !settled.is_empty()
        };
        if any || self.is_head_due() {
            self.lane.sync_head()?;
            self.alone = self.alone.map(|_| Instant::now());
        }
        Ok(())
    }

    fn is_head_due(&self) -> bool {
        let Some(synced) = self.alone else {
            return false;
        };
        let state = self.lane.state();
        let is_drained = || state.segments.values().all(|info| info.remaining == 0);
        state.dirty && (synced.elapsed() >= HEAD_EVERY || is_drained())
    }

    /// Tells the writer which segments it must not drop.
    fn hold(&self) {
        let to = self.at.map(|at| at.number);
        let from = self.handed.front().map(|front| front.segment).or(to);
        self.lane.state().held = from.zip(to);
    }

    /// Closes the sealed segment that is read. Nothing is lost by it: the next [`Reader::next`] opens it again.
    /// Open, it costs as much memory as it has bytes; so this is for an uplink that stands still.
    pub fn rest(&mut self) {
        self.open = None;
    }

    /// Hands out again everything that is not forgotten: after a fatal producer error.
    pub fn rewind(&mut self) {
        self.handed.clear();
        self.buffer.clear();
        self.at = None;
        self.passed = None;
        self.open = None;
        let mut state = self.lane.state();
        self.resent_until = state.book.handed;
        state.held = None;
        drop(state);
        self.lane.changed.notify_all();
    }
}
