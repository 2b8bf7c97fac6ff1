//! Opening a lane: finds out what exists, compares it with what must exist, declares the difference.
//!
//! Segments are visited from the newest to the oldest, because each one says where the one before it
//! ends. Sealed ones are not opened: their summary is enough. Whatever cannot be read is set aside; a
//! start never fails for damage.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    sync::{Arc, Condvar, Mutex},
    time::Instant,
};

use protocol::{Epoch, GatewayId, Topic, control::LossReason};

use super::{
    Now, OpenError, Opened,
    active::Active,
    block,
    book::{Book, EpochEntry, LossEntry},
    directory::{clear_dead, lock, newer, other_bytes, segment_numbers},
    envelope::EnvelopeError,
    files,
    head::{self, Found, Head},
    lane::{Info, Lane, Life, State, segment_dir},
    memory::Memory,
    reader::Reader,
    segment::{Segment, SegmentError},
    summary::{Run, Summary},
    writer::Writer,
};
use crate::{config, conservation::Conservation};

/// Blocks scanned at a time.
const SCAN_BLOCKS: usize = 64;

/// What the directory holds.
#[derive(Default)]
struct Survey {
    segments: BTreeMap<u32, Summary>,
    /// The newest segment, when it is open and takes more.
    active: Option<(u32, Segment)>,
    memory: Option<Memory>,
    /// Runs that sealed segments had and that are gone.
    gone: Vec<Run>,
    /// The newest segment cannot be read, so nobody knows where the last epoch ends.
    end_unknown: bool,
    next_segment: u32,
}

pub(super) fn open(
    dir: &Path,
    gateway: &GatewayId,
    topic: &Topic,
    settings: &config::Queue,
    conservation: Arc<Conservation>,
    now: Now,
) -> Result<Opened, OpenError> {
    let path = dir.join(topic.as_str());
    let io = |source| OpenError::Io {
        path: path.clone(),
        source,
    };
    fs::create_dir_all(dir).map_err(io)?;
    files::create_dir(&path).map_err(io)?;
    files::create_dir(&path.join("segments")).map_err(io)?;
    let lock = lock(&path, gateway, topic)?;
    // Before anything is touched: a newer program may have written it.
    let found = read_head(&path)?;
    clear_dead(&path).map_err(io)?;
    let mut survey = survey(&path, settings)?;
    let book = recover_book(found, &path, &survey, now);
    let mut state = State {
        book,
        dirty: true,
        segments: BTreeMap::new(),
        doomed: BTreeMap::new(),
        other_bytes: other_bytes(&path),
        held: None,
        written_bytes: 0,
        stated_epochs: BTreeMap::new(),
        stated_losses: Vec::new(),
    };
    let active = survey.active.take().map(|(number, segment)| Active {
        number,
        segment: Arc::new(segment),
        since: Instant::now(),
        fresh: false,
    });
    let ends = survey.segments.values().map(|summary| summary.next_block);
    let next_block = ends.max().unwrap_or(1);
    let recovered = fill(&mut state, survey.segments, active.as_ref(), &path);
    conservation.recovered(recovered);
    let lane = Arc::new(Lane {
        gateway: gateway.clone(),
        topic: topic.clone(),
        max_bytes: settings.max_bytes,
        conservation,
        state: Mutex::new(state),
        changed: Condvar::new(),
        head: Mutex::new(Head::open(&path).map_err(io)?),
        _lock: lock,
        dir: path.clone(),
    });
    lane.sync_head().map_err(io)?;
    tracing::info!(lane = %topic, readings = recovered, "queue opened");
    let writer = Writer {
        lane: Arc::clone(&lane),
        settings: settings.clone(),
        memory: survey.memory.unwrap_or_default(),
        epoch: None,
        epoch_durable: false,
        next_block,
        next_segment: survey.next_segment,
        active,
        reserved: std::collections::VecDeque::new(),
        leaked: 0,
        head_synced: Instant::now(),
        sealer: None,
    };
    Ok(Opened {
        writer,
        reader: Reader::new(Arc::clone(&lane), settings.clone()),
        lane,
    })
}

fn survey(path: &Path, settings: &config::Queue) -> Result<Survey, OpenError> {
    let io = |source| OpenError::Io {
        path: path.join("segments"),
        source,
    };
    let (numbers, next_segment) = segment_numbers(path).map_err(io)?;
    let newest = numbers.last().copied();
    let mut survey = Survey {
        next_segment,
        ..Survey::default()
    };
    let mut limit = u64::MAX;
    for number in numbers.into_iter().rev() {
        let dir = segment_dir(path, number);
        let sealed = Summary::read(&dir).map_err(|error| newer(&dir, error))?;
        // The newest readable one is always opened, for what it remembers of the sources.
        if let Some(summary) = sealed.clone().filter(|_| survey.memory.is_some()) {
            limit = summary.first_block;
            survey.segments.insert(number, summary);
            continue;
        }
        match scan(&dir, limit, survey.memory.is_none()) {
            Err(SegmentError::Io(error)) => return Err(io(error)),
            Err(SegmentError::Damaged(reason)) => {
                // A disk that takes nothing makes every store look damaged: opening one writes.
                files::probe(path).map_err(io)?;
                tracing::error!(segment = %dir.display(), reason, "queue segment quarantined");
                survey.end_unknown |= Some(number) == newest && sealed.is_none();
                survey.gone.extend(sealed.into_iter().flat_map(|s| s.runs));
                files::quarantine_dir(&dir).map_err(io)?;
            }
            Ok(scanned) if scanned.summary.runs.is_empty() => {
                drop(scanned);
                survey.gone.extend(sealed.into_iter().flat_map(|s| s.runs));
                files::remove_dir(&dir).map_err(io)?;
            }
            Ok(scanned) => {
                limit = scanned.summary.first_block;
                survey.gone.extend(sealed.into_iter().flat_map(|s| s.runs));
                let takes_more = survey.memory.is_none()
                    && scanned.whole
                    && scanned.segment.bytes() < settings.segment_bytes / 4 * 3;
                survey.memory.get_or_insert(scanned.memory);
                if takes_more {
                    Summary::remove(&dir).map_err(io)?;
                    survey.active = Some((number, scanned.segment));
                } else {
                    // Opening it wrote its snapshot.
                    drop(scanned.segment);
                    scanned.summary.write(&dir).map_err(io)?;
                }
                survey.segments.insert(number, scanned.summary);
            }
        }
    }
    Ok(survey)
}

struct Scanned {
    segment: Segment,
    summary: Summary,
    memory: Memory,
    /// No block is damaged.
    whole: bool,
}

fn scan(dir: &Path, limit: u64, replay: bool) -> Result<Scanned, SegmentError> {
    let segment = Segment::open(dir)?;
    match scan_open(segment, limit, replay) {
        Err(SegmentError::Damaged(_)) => scan_open(Segment::open_from_log(dir)?, limit, replay),
        other => other,
    }
}

fn scan_open(segment: Segment, limit: u64, replay: bool) -> Result<Scanned, SegmentError> {
    let unknown =
        |error: EnvelopeError| SegmentError::Io(io::Error::new(io::ErrorKind::Unsupported, error));
    let (mut memory, first_block) = Memory::read(&segment.carry()?).map_err(unknown)?;
    let mut from = 0;
    let mut summary: Option<Summary> = None;
    let mut whole = true;
    loop {
        let blocks = segment.blocks(from, limit, SCAN_BLOCKS)?;
        let Some((last, _)) = blocks.last() else {
            break;
        };
        from = last + 1;
        for (number, bytes) in blocks {
            let summary =
                summary.get_or_insert_with(|| Summary::new(first_block.unwrap_or(number)));
            match block::decode(&bytes) {
                Ok((header, items)) => {
                    summary.add(number, &header);
                    if replay {
                        memory.replay(&items);
                    }
                }
                Err(EnvelopeError::Damaged) => {
                    tracing::warn!(segment = %segment.dir().display(), block = number,
                        "queue block is damaged");
                    summary.next_block = number + 1;
                    whole = false;
                }
                Err(newer) => return Err(unknown(newer)),
            }
        }
    }
    Ok(Scanned {
        segment,
        summary: summary.unwrap_or_else(|| Summary::new(first_block.unwrap_or(1))),
        memory,
        whole,
    })
}

fn read_head(path: &Path) -> Result<Found, OpenError> {
    let name = path.join("head");
    head::read(path)
        .map_err(|error| newer(&name, error))?
        .map_err(|source| OpenError::Io { path: name, source })
}

/// The book as the head has it, put right by what the segments hold.
fn recover_book(found: Found, path: &Path, survey: &Survey, now: Now) -> Book {
    let (mut book, trusted) = match found {
        Found::Book { book, newest } => (book, newest),
        Found::Nothing => (Book::default(), false),
        Found::Damaged => {
            tracing::warn!(lane = %path.display(), "queue head is damaged, recovering from the segments");
            (Book::default(), false)
        }
    };
    if !trusted {
        adopt(&mut book, survey);
    }
    reconcile(&mut book, survey, now);
    book
}

/// Takes epochs into the book that the segments hold and the book does not know: the newest slot of the
/// head is lost. Some of their readings may be sent again, which is harmless.
fn adopt(book: &mut Book, survey: &Survey) {
    let mut order: Vec<(Epoch, u64)> = Vec::new();
    for run in survey.segments.values().flat_map(|summary| &summary.runs) {
        if order.iter().all(|(epoch, _)| *epoch != run.epoch) {
            order.push((run.epoch, run.first));
        }
    }
    let known = |book: &Book, epoch| book.epochs.iter().position(|entry| entry.epoch == epoch);
    let mut at = order
        .iter()
        .find_map(|(epoch, _)| known(book, *epoch))
        .unwrap_or(book.epochs.len());
    for (epoch, first) in order {
        match known(book, epoch) {
            Some(index) => at = index + 1,
            None => {
                let previous = at.checked_sub(1).map(|before| &book.epochs[before]);
                let previous = previous.map(|before| (before.epoch, before.committed));
                let entry = EpochEntry {
                    epoch,
                    previous,
                    committed: None,
                    acknowledged: first.checked_sub(1),
                    offsets: BTreeMap::new(),
                    closed: true,
                };
                book.epochs.insert(at, entry);
                at += 1;
            }
        }
    }
}

/// Declares what must exist and does not.
fn reconcile(book: &mut Book, survey: &Survey, now: Now) {
    let present: Vec<Run> = survey
        .segments
        .values()
        .flat_map(|summary| summary.runs.iter().copied())
        .collect();
    for run in present.iter().chain(&survey.gone) {
        book.commit(run.epoch, run.last);
    }
    let last_epoch = book.epochs.last().map(|entry| entry.epoch);
    let mut losses = Vec::new();
    for entry in &mut book.epochs {
        entry.closed = true;
        let mut next = entry.unsettled();
        let mut lose = |first, last| {
            losses.push(LossEntry {
                epoch: entry.epoch,
                first,
                last,
                reason: LossReason::Unreadable,
                merged: false,
                // It may have been sent before the cursor was made durable.
                possibly_delivered: true,
                at: now.wall,
            });
        };
        for run in present.iter().filter(|run| run.epoch == entry.epoch) {
            if run.first > next {
                lose(next, Some(run.first - 1));
            }
            next = next.max(run.last + 1);
        }
        if Some(entry.epoch) == last_epoch && survey.end_unknown {
            lose(next, None);
        } else if let Some(committed) = entry.committed.filter(|last| *last >= next) {
            lose(next, Some(committed));
        }
    }
    for loss in losses {
        let before = book.losses.clone();
        let (epoch, first, last) = (loss.epoch, loss.first, loss.last);
        book.lose(loss);
        if before != book.losses {
            tracing::error!(%epoch, first, last, "queue lost readings");
        }
    }
}

/// Enters the segments; returns how many readings wait.
fn fill(
    state: &mut State,
    segments: BTreeMap<u32, Summary>,
    active: Option<&Active>,
    path: &Path,
) -> u64 {
    let newest = segments.keys().next_back().copied();
    let mut recovered = 0;
    let mut front = None;
    for (number, mut summary) in segments {
        let life = match active {
            Some(active) if active.number == number => Life::Active(Arc::clone(&active.segment)),
            _ => Life::Sealed,
        };
        let bytes = files::dir_bytes(&segment_dir(path, number));
        // A commit that failed may be here and, written again, in the next one: once is enough.
        summary.runs = without(&summary.runs, state);
        let runs = state.unsettled(&summary);
        let lost = !runs.is_empty() && runs.iter().all(|run| state.book.declares(run));
        if (runs.is_empty() || lost) && Some(number) != newest {
            // Settled, or declared lost just before a crash.
            state.doomed.insert(number, bytes);
            continue;
        }
        front = front.or(runs.first().map(|run| (run.epoch, run.first)));
        let remaining = runs.iter().map(Run::len).sum();
        recovered += remaining;
        let info = Info {
            summary,
            remaining,
            bytes,
            life,
        };
        state.segments.insert(number, info);
    }
    state.book.settle_before(front);
    recovered
}

/// The runs without what earlier segments hold.
fn without(runs: &[Run], state: &State) -> Vec<Run> {
    let earlier = state
        .segments
        .values()
        .next_back()
        .and_then(|info| info.summary.runs.last().copied());
    runs.iter()
        .map(|run| match earlier {
            Some(earlier) if earlier.epoch == run.epoch => Run {
                first: run.first.max((earlier.last + 1).min(run.last + 1)),
                ..*run
            },
            _ => *run,
        })
        .filter(|run| run.len() > 0)
        .collect()
}
