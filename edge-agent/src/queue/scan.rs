//! How the reader finds the next readings: segment by segment, block by block, noticing what is missing.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::{Epoch, Record, RecordId};

use super::{
    Entry,
    block::{self, Header, Item},
    book::Book,
    directory,
    envelope::EnvelopeError,
    files,
    lane::{Life, State},
    reader::{At, Handed, Opened, Pending, ReadError, Reader},
    segment::{Segment, SegmentError},
    summary::{Run, Summary},
};

/// Blocks read at a time: at most 96 KiB.
const READ_BLOCKS: usize = 16;
/// Longest wait for a segment that is being sealed, within one call.
const SEAL_WAIT: Duration = Duration::from_secs(1);

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

/// Blocks by their number.
type Blocks = Vec<(u64, Vec<u8>)>;

impl Reader {
    /// Reads on; `false` at the end.
    pub(super) fn fill(&mut self) -> Result<bool, ReadError> {
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

    fn read(&mut self, at: At, end: u64, shared: Option<&Segment>) -> Result<(), ReadError> {
        self.announce(at.number).map_err(ReadError::Disk)?;
        let found = match shared {
            Some(segment) => match segment.blocks(at.next_block, end, READ_BLOCKS) {
                Ok(found) => found,
                Err(error) => {
                    files::probe(&self.lane.place.path).map_err(ReadError::Disk)?;
                    return Err(ReadError::Segment(error.into()));
                }
            },
            None => match self.read_while_disk_works(at, end)? {
                Ok(found) => found,
                Err(reason) => {
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
                    tracing::warn!(
                        lane = self.lane.name(),
                        segment = at.number,
                        block = number,
                        "queue block is damaged"
                    );
                }
                Err(newer @ EnvelopeError::Newer(_)) => {
                    let error = io::Error::new(io::ErrorKind::Unsupported, newer);
                    return Err(ReadError::Segment(error));
                }
            }
        }
        self.at = Some(At { next_block, ..at });
        Ok(())
    }

    /// The blocks of a sealed segment, or why it is damaged. A disk that takes nothing makes every store
    /// look damaged, for opening one writes: damage is what is found again after the disk was seen to
    /// work, and before it is seen to work once more.
    fn read_while_disk_works(
        &mut self,
        at: At,
        end: u64,
    ) -> Result<Result<Blocks, String>, ReadError> {
        if self.in_doubt {
            // A store that cannot be opened costs memory for good.
            files::probe(&self.lane.place.path).map_err(ReadError::Disk)?;
        }
        let mut last_try = self.in_doubt;
        loop {
            let error = match self.read_sealed(at, end) {
                Ok(found) => {
                    self.in_doubt = false;
                    return Ok(Ok(found));
                }
                Err(error) => error,
            };
            self.open = None;
            self.in_doubt = true;
            files::probe(&self.lane.place.path).map_err(ReadError::Disk)?;
            match error {
                SegmentError::Damaged(reason) if last_try => {
                    self.in_doubt = false;
                    return Ok(Err(reason));
                }
                SegmentError::Damaged(_) => last_try = true,
                // It is opened anew by the next try.
                SegmentError::Io(error) => return Err(ReadError::Disk(error)),
                error @ SegmentError::Broken => return Err(ReadError::Segment(error.into())),
            }
        }
    }

    fn read_sealed(&mut self, at: At, end: u64) -> Result<Blocks, SegmentError> {
        let dir = self.lane.segment_dir(at.number);
        if self
            .open
            .as_ref()
            .is_none_or(|open| open.number != at.number)
        {
            self.open = None;
            self.open = Some(Opened {
                number: at.number,
                segment: Segment::open(&dir)?,
                by_log: false,
            });
        }
        let whole = |found: &Vec<(u64, Vec<u8>)>| {
            let contiguous = (at.next_block..)
                .zip(found)
                .all(|(n, (have, _))| n == *have);
            let due = usize::try_from(end - at.next_block).unwrap_or(usize::MAX);
            contiguous && found.len() == due.min(READ_BLOCKS)
        };
        let Some(open) = &self.open else {
            return Ok(Vec::new());
        };
        match open.segment.blocks(at.next_block, end, READ_BLOCKS) {
            Ok(found) if whole(&found) || open.by_log => Ok(found),
            // The snapshot may be at fault, or a read that failed: the log by itself may know more.
            other => {
                self.open = None;
                let segment = Segment::open_from_log(&dir)?;
                let again = segment.blocks(at.next_block, end, READ_BLOCKS);
                self.open = Some(Opened {
                    number: at.number,
                    segment,
                    by_log: true,
                });
                match (again, other) {
                    (Err(_), Ok(found)) => Ok(found),
                    (Ok(again), Ok(found)) if again.len() < found.len() => Ok(found),
                    (again, _) => again,
                }
            }
        }
    }

    /// Sets a segment aside for a human; its readings will be missing and so declared.
    fn quarantine(&mut self, number: u32, reason: &str) {
        self.open = None;
        tracing::error!(
            lane = self.lane.name(),
            segment = number,
            reason,
            "queue segment quarantined"
        );
        if let Err(error) = files::quarantine_dir(&self.lane.segment_dir(number)) {
            tracing::warn!(segment = number, %error, "queue segment not renamed");
        }
        if let Err(error) = directory::clear_bad(&self.lane.place.path) {
            tracing::warn!(lane = self.lane.name(), %error, "queue quarantine not trimmed");
        }
        self.lane.state().other_bytes = directory::other_bytes(&self.lane.place.path);
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
                    committed: header.committed,
                },
                entry: Entry {
                    record: Record {
                        id: RecordId {
                            gateway: self.lane.gateway().clone(),
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

    /// Makes durable that something of the segment is about to be handed out: it tells "possibly
    /// delivered" from "never sent".
    fn announce(&self, number: u32) -> io::Result<()> {
        let before = {
            let mut state = self.lane.state();
            if number <= state.book.handed {
                return Ok(());
            }
            std::mem::replace(&mut state.book.handed, number)
        };
        self.lane
            .sync_head()
            .inspect_err(|_| self.lane.state().book.handed = before)
    }
}

/// The runs of a segment that are neither settled nor read.
pub(super) fn rest(book: &Book, summary: &Summary, passed: Option<(Epoch, u64)>) -> Vec<Run> {
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
