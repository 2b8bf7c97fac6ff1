//! What exists: visits the segments of a lane from the newest to the oldest, because each one says where
//! the one before it ends. Sealed ones are not opened: their summary is enough. Whatever cannot be read
//! is set aside.

use std::{collections::BTreeMap, io, path::Path};

use super::{
    OpenError, block,
    directory::{newer, segment_numbers},
    envelope::EnvelopeError,
    files,
    lane::segment_dir,
    memory::Memory,
    recover::Trust,
    segment::{Segment, SegmentError},
    summary::{Run, Summary},
};
use crate::config;

/// Blocks scanned at a time.
const SCAN_BLOCKS: usize = 64;
/// Times a segment is read until two agree.
const TRIES: u32 = 4;

/// What the directory holds.
#[derive(Default)]
pub(super) struct Survey {
    pub segments: BTreeMap<u32, Summary>,
    /// The newest segment, when it is open and takes more.
    pub active: Option<(u32, Segment)>,
    pub memory: Option<Memory>,
    /// Runs that sealed segments had and that are gone.
    pub gone: Vec<Run>,
    /// The newest segment cannot be read, so nobody knows where the last epoch ends.
    pub end_unknown: bool,
    pub next_segment: u32,
}

pub(super) fn survey(
    path: &Path,
    settings: &config::Queue,
    trust: Trust,
) -> Result<Survey, OpenError> {
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
        if let Some(summary) = sealed
            .clone()
            .filter(|_| survey.memory.is_some() && trust == Trust::Seals)
        {
            limit = summary.first_block;
            survey.segments.insert(number, summary);
            continue;
        }
        let replay = survey.memory.is_none();
        let mut scanned = scan(&dir, limit, replay, sealed.as_ref());
        if let Err(SegmentError::Damaged(_)) = scanned {
            // A disk that takes nothing makes every store look damaged, for opening one writes: damage is
            // what is found again while it works.
            files::probe(path).map_err(io)?;
            scanned = scan(&dir, limit, replay, sealed.as_ref());
        }
        match scanned {
            Err(error @ SegmentError::Broken) => return Err(io(error.into())),
            Err(SegmentError::Io(error)) => return Err(io(error)),
            Err(SegmentError::Damaged(reason)) => {
                files::probe(path).map_err(io)?;
                tracing::error!(segment = %dir.display(), reason, "queue segment quarantined");
                survey.end_unknown |= Some(number) == newest && sealed.is_none();
                // It is gone, but where the one before it ends is still known.
                limit = sealed.as_ref().map_or(limit, |sealed| sealed.first_block);
                survey.gone.extend(sealed.into_iter().flat_map(|s| s.runs));
                files::quarantine_dir(&dir).map_err(io)?;
            }
            Ok(scanned) if scanned.summary.runs.is_empty() => {
                drop(scanned);
                limit = sealed.as_ref().map_or(limit, |sealed| sealed.first_block);
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

/// Reads a segment until it says what it said when it was sealed, or twice the same: a read that fails
/// while sled opens a store may leave out a part of it, without an error.
fn scan(
    dir: &Path,
    limit: u64,
    replay: bool,
    sealed: Option<&Summary>,
) -> Result<Scanned, SegmentError> {
    let mut before = None;
    let mut failed = false;
    for _ in 0..TRIES {
        let segment = match (&before, failed) {
            (None, false) => Segment::open(dir)?,
            _ => Segment::open_from_log(dir)?,
        };
        match scan_open(segment, limit, replay) {
            Ok(scanned) => {
                let summary = Some(&scanned.summary);
                if summary == sealed || summary == before.as_ref() {
                    return Ok(scanned);
                }
                before = Some(scanned.summary);
            }
            Err(SegmentError::Damaged(_)) if !failed => failed = true,
            Err(error) => return Err(error),
        }
    }
    let reason = "it reads differently each time";
    Err(SegmentError::Damaged(reason.into()))
}

fn scan_open(segment: Segment, limit: u64, replay: bool) -> Result<Scanned, SegmentError> {
    let unknown =
        |error: EnvelopeError| SegmentError::Io(io::Error::new(io::ErrorKind::Unsupported, error));
    let (mut memory, first_block) = Memory::read(&segment.carry()?).map_err(unknown)?;
    let mut notes = match replay {
        true => segment.notes()?,
        false => Vec::new(),
    }
    .into_iter()
    .peekable();
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
            while let Some((_, note)) = notes.next_if(|(beside, _)| *beside <= number) {
                memory.recall(&note).map_err(unknown)?;
            }
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
