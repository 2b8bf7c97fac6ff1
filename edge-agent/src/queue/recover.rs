//! Opening a lane: finds out what exists, compares it with what must exist, declares the difference.
//!
//! Segments are visited from the newest to the oldest, because each one says where the one before it
//! ends. Sealed ones are not opened: their summary is enough. Whatever cannot be read is set aside; a
//! start never fails for damage.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Condvar, Mutex},
    time::Instant,
};

use protocol::{Epoch, GatewayId, Topic, control::LossReason};

use super::{
    Now, OpenError, Opened, block,
    book::{Book, EpochEntry, LossEntry},
    envelope::{self, EnvelopeError},
    files,
    head::{self, Found, Head},
    lane::{Info, Lane, Life, State, segment_dir},
    memory::Memory,
    reader::Reader,
    segment::{Segment, SegmentError, UNFINISHED},
    summary::{Run, Summary},
    writer::{Active, Writer},
};
use crate::{config, conservation::Conservation};

/// Quarantined segments kept for a human, per lane.
const MAX_BAD: usize = 4;
/// Blocks scanned at a time.
const SCAN_BLOCKS: usize = 64;
const LANE_VERSION: u8 = 1;

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
    clear_dead(&path).map_err(io)?;
    let found = head::read(&path)
        .map_err(|error| newer(&path.join("head"), error))?
        .map_err(io)?;
    let mut survey = survey(&path, settings)?;
    let (mut book, trusted) = match found {
        Found::Book { book, newest } => (book, newest),
        Found::Nothing => (Book::default(), false),
        Found::Damaged => {
            tracing::warn!(lane = %topic, "queue head is damaged, recovering from the segments");
            (Book::default(), false)
        }
    };
    if !trusted {
        adopt(&mut book, &survey);
    }
    reconcile(&mut book, &survey, now);

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
    let next_block = survey
        .segments
        .values()
        .map(|summary| summary.next_block)
        .max();
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
        next_block: next_block.unwrap_or(1),
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

fn newer(path: &Path, error: EnvelopeError) -> OpenError {
    match error {
        EnvelopeError::Newer(found) => OpenError::Newer {
            path: path.to_owned(),
            found: found.into(),
            known: 1,
        },
        EnvelopeError::Damaged => OpenError::Io {
            path: path.to_owned(),
            source: io::ErrorKind::InvalidData.into(),
        },
    }
}

/// The file `lane`: envelope around postcard of (gateway, topic). Locked while a process has the lane.
fn lock(path: &Path, gateway: &GatewayId, topic: &Topic) -> Result<File, OpenError> {
    let name = path.join("lane");
    let io = |source| OpenError::Io {
        path: name.clone(),
        source,
    };
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&name)
        .map_err(io)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(OpenError::InUse(path.to_owned())),
        Err(error) => return Err(io(error.into())),
    }
    let bytes = fs::read(&name).map_err(io)?;
    match lane_of(&bytes) {
        Ok((owner, _)) if owner != *gateway => Err(OpenError::Foreign {
            path: path.to_owned(),
            owner,
        }),
        Ok(_) => Ok(file),
        Err(error @ EnvelopeError::Newer(_)) => Err(newer(&name, error)),
        Err(EnvelopeError::Damaged) => {
            let body = lane_body(gateway, topic);
            file.set_len(0)
                .and_then(|()| file.write_all_at(&body, 0))
                .and_then(|()| file.sync_all())
                .and_then(|()| files::sync_dir(path))
                .map_err(io)?;
            Ok(file)
        }
    }
}

/// The bytes of the file `lane`.
pub(super) fn lane_body(gateway: &GatewayId, topic: &Topic) -> Vec<u8> {
    let body = postcard::to_allocvec(&(gateway, topic)).unwrap_or_default();
    envelope::seal(LANE_VERSION, &body)
}

/// Whose lane it is, and of which topic.
pub(super) fn lane_of(bytes: &[u8]) -> Result<(GatewayId, Topic), EnvelopeError> {
    let body = envelope::open(bytes, LANE_VERSION)?;
    postcard::from_bytes(body).map_err(|_| EnvelopeError::Damaged)
}

/// Deletes what a crash left half deleted or half created, and the oldest of what is in quarantine.
fn clear_dead(path: &Path) -> io::Result<()> {
    let mut bad = Vec::new();
    for entry in fs::read_dir(path.join("segments"))? {
        let entry = entry?.path();
        match entry.extension().and_then(|extension| extension.to_str()) {
            Some("dead" | UNFINISHED) => fs::remove_dir_all(&entry)?,
            Some("bad") => bad.push(entry),
            _ => {}
        }
    }
    bad.sort();
    let surplus = bad.len().saturating_sub(MAX_BAD);
    for entry in &bad[..surplus] {
        fs::remove_dir_all(entry)?;
    }
    Ok(())
}

fn other_bytes(path: &Path) -> u64 {
    let segments = path.join("segments");
    let bad: u64 = fs::read_dir(&segments)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|entry| {
            entry
                .extension()
                .is_some_and(|extension| extension == "bad")
        })
        .map(|entry| files::dir_bytes(&entry))
        .sum();
    bad + fs::metadata(path.join("head")).map_or(0, |meta| meta.len())
}

/// Numbers of the segments, and the next free one.
pub(super) fn segment_numbers(path: &Path) -> io::Result<(Vec<u32>, u32)> {
    let (mut numbers, mut next) = (Vec::new(), 1);
    for entry in fs::read_dir(path.join("segments"))? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let digits = name.split('.').next().unwrap_or_default();
        if let Ok(number) = digits.parse::<u32>() {
            next = next.max(number + 1);
            if digits.len() == name.len() {
                numbers.push(number);
            }
        }
    }
    numbers.sort_unstable();
    Ok((numbers, next))
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
                }
                Err(newer) => return Err(unknown(newer)),
            }
        }
    }
    Ok(Scanned {
        segment,
        summary: summary.unwrap_or_else(|| Summary::new(first_block.unwrap_or(1))),
        memory,
    })
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
