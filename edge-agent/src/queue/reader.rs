//! The forwarding half: hands out in order, forgets in order.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::{Epoch, Record, RecordId, control::LossReason};

use super::{
    Entry, Now,
    block::{self, Header, Item},
    book::Book,
    envelope::EnvelopeError,
    files,
    lane::{Lane, Life, State},
    segment::{Segment, SegmentError},
    summary::{Run, Summary},
    writer::age_limit,
};
use crate::config;

/// Blocks read at a time: at most 96 KiB.
const READ_BLOCKS: usize = 16;
/// Longest wait for a segment that is being sealed, within one call.
const SEAL_WAIT: Duration = Duration::from_secs(1);

/// The forwarding half; owned by the forwarder's thread.
///
/// Entries are handed out in order and forgotten in order: `acknowledge` and `lose_front` speak of the
/// oldest ones handed out and not yet forgotten.
#[derive(Debug)]
pub struct Reader {
    pub(super) lane: Arc<Lane>,
    pub(super) settings: config::Queue,
    /// Handed out and not forgotten.
    handed: VecDeque<Handed>,
    /// Read and not handed out.
    buffer: VecDeque<Pending>,
    at: Option<At>,
    /// The last identity read. What comes again below it is passed over.
    passed: Option<(Epoch, u64)>,
    open: Option<(u32, Segment)>,
    /// Segments up to this one may have been sent before.
    resent_until: u32,
}

#[derive(Debug, Clone, Copy)]
struct At {
    number: u32,
    next_block: u64,
}

#[derive(Debug, Clone, Copy)]
struct Handed {
    segment: u32,
    epoch: Epoch,
    sequence: u64,
}

#[derive(Debug)]
enum Pending {
    Entry {
        at: Handed,
        entry: Entry,
        synced: bool,
    },
    /// Readings that should be here and are not.
    Lost { segment: u32, run: Run },
}

/// Where to read on.
enum Step {
    /// Everything has been read.
    End,
    /// The segment is being sealed.
    Wait,
    /// From this segment, its blocks before `end`.
    Read {
        at: At,
        end: u64,
        shared: Option<Arc<Segment>>,
    },
    /// The segment has been read, and these readings were not in it.
    Lost { number: u32, runs: Vec<Run> },
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
            resent_until,
        }
    }

    /// Hands out up to `max` further entries; empty when the end is reached. Damage is recorded as a
    /// loss and passed. Entries older than `max_age` are recorded as a loss and passed, both as soon as
    /// everything handed out before them is forgotten.
    ///
    /// # Errors
    /// The file system fails persistently.
    pub fn next(&mut self, max: usize, now: Now) -> Result<Vec<Entry>, io::Error> {
        let mut out = Vec::new();
        while out.len() < max {
            match self.buffer.front() {
                None => {
                    if !self.fill()? {
                        break;
                    }
                }
                Some(front) if self.is_lost(front, now) => {
                    // A loss moves the cursor, which must not pass what may still be sent again.
                    if !self.handed.is_empty() || !out.is_empty() {
                        break;
                    }
                    self.lose_pending(now);
                    self.reclaim()?;
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
        tracing::error!(lane = %self.lane.topic, epoch = %run.epoch, first = run.first, last = run.last,
            reason = reason.as_str(), "queue lost readings");
    }

    /// Reads on; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let patience = Instant::now();
        loop {
            match self.step() {
                Step::End => return Ok(!self.buffer.is_empty()),
                Step::Wait => {
                    let Some(left) = SEAL_WAIT.checked_sub(patience.elapsed()) else {
                        return Ok(false);
                    };
                    let state = self.lane.state();
                    drop(self.lane.changed.wait_timeout(state, left));
                }
                Step::Lost { number, runs } => {
                    for run in runs {
                        self.passed = Some((run.epoch, run.last));
                        let segment = number;
                        self.buffer.push_back(Pending::Lost { segment, run });
                    }
                    return Ok(true);
                }
                Step::Read { at, end, shared } => {
                    self.read(at, end, shared.as_deref())?;
                    if !self.buffer.is_empty() {
                        return Ok(true);
                    }
                }
            }
        }
    }

    fn step(&mut self) -> Step {
        let lane = Arc::clone(&self.lane);
        let mut state = lane.state();
        loop {
            let here = self.at.filter(|at| state.segments.contains_key(&at.number));
            let Some(at) = here.or_else(|| self.next_segment(&state)) else {
                return Step::End;
            };
            self.at = Some(at);
            let from = self.handed.front().map_or(at.number, |front| front.segment);
            state.held = Some((from, at.number));
            let Some(info) = state.segments.get(&at.number) else {
                return Step::End;
            };
            let end = info.summary.next_block;
            if at.next_block < end {
                let shared = match &info.life {
                    Life::Sealing => return Step::Wait,
                    Life::Sealed => None,
                    Life::Active(segment) | Life::Sick(segment) => Some(Arc::clone(segment)),
                };
                return Step::Read { at, end, shared };
            }
            if matches!(info.life, Life::Active(_)) {
                return Step::End;
            }
            let runs = rest(&state.book, &info.summary, self.passed);
            if !runs.is_empty() {
                return Step::Lost {
                    number: at.number,
                    runs,
                };
            }
            let Some(next) = self.next_segment(&state) else {
                return Step::End;
            };
            self.open = None;
            self.at = Some(next);
        }
    }

    /// Where the next segment with something to read begins.
    fn next_segment(&self, state: &State) -> Option<At> {
        let after = self.at.map_or(0, |at| at.number + 1);
        state
            .segments
            .range(after..)
            .find(|(_, info)| !rest(&state.book, &info.summary, self.passed).is_empty())
            .map(|(&number, info)| At {
                number,
                next_block: info.summary.first_block,
            })
    }

    fn read(&mut self, at: At, end: u64, shared: Option<&Segment>) -> io::Result<()> {
        let announce = {
            let mut state = self.lane.state();
            let fresh = at.number > state.book.handed;
            if fresh {
                state.book.handed = at.number;
            }
            fresh
        };
        if announce {
            // Before anything of it is handed out: it tells "possibly delivered" from "never sent".
            self.lane.sync_head()?;
        }
        let found = match shared {
            Some(segment) => segment.blocks(at.next_block, end, READ_BLOCKS)?,
            None => match self.read_sealed(at, end) {
                Ok(found) => found,
                Err(SegmentError::Io(error)) => return Err(error),
                Err(SegmentError::Damaged(reason)) => {
                    self.quarantine(at.number, &reason);
                    Vec::new()
                }
            },
        };
        let mut next_block = end;
        if found.len() == READ_BLOCKS
            && let Some((last, _)) = found.last()
        {
            next_block = last + 1;
        }
        for (number, bytes) in found {
            match block::decode(&bytes) {
                Ok((header, items)) => self.accept(at.number, &header, items),
                Err(EnvelopeError::Damaged) => {
                    tracing::warn!(lane = %self.lane.topic, segment = at.number, block = number,
                        "queue block is damaged");
                }
                Err(newer @ EnvelopeError::Newer(_)) => {
                    return Err(io::Error::new(io::ErrorKind::Unsupported, newer));
                }
            }
        }
        self.at = Some(At { next_block, ..at });
        Ok(())
    }

    fn read_sealed(&mut self, at: At, end: u64) -> Result<Vec<(u64, Vec<u8>)>, SegmentError> {
        let dir = self.lane.segment_dir(at.number);
        let mut fresh = false;
        if self
            .open
            .as_ref()
            .is_none_or(|(number, _)| *number != at.number)
        {
            self.open = None;
            self.open = Some((at.number, Segment::open(&dir)?));
            fresh = true;
        }
        let whole = |found: &Vec<(u64, Vec<u8>)>| {
            let contiguous = (at.next_block..)
                .zip(found)
                .all(|(n, (have, _))| n == *have);
            let due = usize::try_from(end - at.next_block).unwrap_or(usize::MAX);
            contiguous && found.len() == due.min(READ_BLOCKS)
        };
        let Some((_, segment)) = &self.open else {
            return Ok(Vec::new());
        };
        match segment.blocks(at.next_block, end, READ_BLOCKS) {
            Ok(found) if whole(&found) || !fresh => Ok(found),
            // The snapshot may be at fault: the log by itself may know more.
            other => {
                self.open = None;
                let segment = Segment::open_from_log(&dir)?;
                let again = segment.blocks(at.next_block, end, READ_BLOCKS);
                self.open = Some((at.number, segment));
                match (again, other) {
                    (Err(_), Ok(found)) => Ok(found),
                    (again, _) => again,
                }
            }
        }
    }

    /// Sets a segment aside for a human; its readings will be missing and so declared.
    fn quarantine(&mut self, number: u32, reason: &str) {
        self.open = None;
        tracing::error!(lane = %self.lane.topic, segment = number, reason, "queue segment quarantined");
        if let Err(error) = files::quarantine_dir(&self.lane.segment_dir(number)) {
            tracing::warn!(segment = number, %error, "queue segment not renamed");
        }
    }

    /// Takes what of a block is due, and notes what should have come before it.
    fn accept(&mut self, segment: u32, header: &Header, items: Vec<Item>) {
        let due = {
            let state = self.lane.state();
            state
                .segments
                .get(&segment)
                .map(|info| rest(&state.book, &info.summary, self.passed))
                .unwrap_or_default()
        };
        let Some(run_at) = due.iter().position(|run| {
            run.epoch == header.epoch && run.last >= header.first && run.first <= header.last()
        }) else {
            return;
        };
        let (before, run) = (&due[..run_at], due[run_at]);
        let mut lost = before.to_vec();
        if run.first < header.first {
            lost.push(Run {
                last: header.first - 1,
                ..run
            });
        }
        self.buffer
            .extend(lost.into_iter().map(|run| Pending::Lost { segment, run }));
        for (sequence, item) in (header.first..).zip(items) {
            if sequence < run.first || sequence > run.last {
                continue;
            }
            self.buffer.push_back(Pending::Entry {
                at: Handed {
                    segment,
                    epoch: header.epoch,
                    sequence,
                },
                entry: Entry {
                    record: Record {
                        id: RecordId {
                            gateway: self.lane.gateway.clone(),
                            epoch: header.epoch,
                            sequence,
                        },
                        digest: item.digest,
                        reading: item.reading,
                    },
                    received: item.received,
                    committed: header.committed,
                },
                synced: header.synced,
            });
        }
        self.passed = Some((header.epoch, header.last().min(run.last)));
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
        if any { self.lane.sync_head() } else { Ok(()) }
    }

    /// Tells the writer which segments it must not drop.
    fn hold(&self) {
        let to = self.at.map(|at| at.number);
        let from = self.handed.front().map(|front| front.segment).or(to);
        self.lane.state().held = from.zip(to);
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

/// The runs of a segment that are neither settled nor read.
fn rest(book: &Book, summary: &Summary, passed: Option<(Epoch, u64)>) -> Vec<Run> {
    let runs = &summary.runs;
    let read = passed.and_then(|(epoch, sequence)| {
        let at = runs
            .iter()
            .rposition(|run| run.epoch == epoch && run.first <= sequence)?;
        Some((at, sequence + 1))
    });
    let (from, next) = read.unwrap_or((0, 0));
    runs[from..]
        .iter()
        .enumerate()
        .map(|(index, run)| {
            let floor = if index == 0 { next } else { 0 };
            let first = run.first.max(floor).max(book.unsettled(run.epoch));
            Run {
                first: first.min(run.last + 1),
                ..*run
            }
        })
        .filter(|run| run.len() > 0)
        .collect()
}
