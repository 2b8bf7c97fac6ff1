//! Looking at a lane from outside, beside an agent that may be running. Changes nothing.

use std::{fs, io, path::Path};

use protocol::{GatewayId, Topic};

use super::{
    Entry, Stat,
    book::Book,
    directory::{lane_of, segment_numbers},
    files,
    head::{self, Found},
    lane::segment_dir,
    segment::SegmentError,
    summary::{Run, Summary},
    walk::{Sight, each_reading, other, walk_segment},
};

/// What a lane's directory says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Whose it is.
    pub gateway: GatewayId,
    /// Its topic.
    pub topic: Topic,
    /// How full it is; what counts since a start, and the bound, are not known here and 0.
    pub stat: Stat,
}

/// The names of the lanes below `dir`: a topic, or `<topic>@<gateway>` where a lane only drains.
///
/// # Errors
/// The directory cannot be read.
pub fn lanes(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && (entry.path().join("lane").try_exists()?
                || entry.path().join("segments").try_exists()?)
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Bytes of everything below a directory.
#[must_use]
pub fn bytes(dir: &Path) -> u64 {
    files::dir_bytes(dir)
}

/// How full a lane is, as of the head's last write (a second ago at most).
///
/// # Errors
/// The directory cannot be read, or was written by a newer version.
pub fn stat(dir: &Path, name: &str) -> io::Result<Seen> {
    let path = dir.join(name);
    let (gateway, topic) = lane_of(&fs::read(path.join("lane"))?).map_err(other)?;
    let book = book(&path)?;
    let (numbers, _) = segment_numbers(&path)?;
    let mut stat = Stat {
        bytes: files::dir_bytes(&path),
        segments: numbers.len() as u64,
        losses_pending: book.losses.len() as u64,
        ..Stat::default()
    };
    for number in numbers {
        let summary = summary(&path, number)?;
        stat.stored += summary.runs.iter().map(Run::len).sum::<u64>();
        let waiting: u64 = waiting(&book, &summary).iter().map(Run::len).sum();
        stat.readings += waiting;
        if waiting > 0 && stat.oldest_committed.is_none() {
            stat.oldest_committed = Some(summary.oldest_us);
        }
    }
    // Of a segment of which some has been sent, only the reading itself tells when it was committed.
    if let Some(first) = peek(dir, name, 1)
        .ok()
        .and_then(|first| first.into_iter().next())
    {
        stat.oldest_committed = Some(first.committed.as_micros());
    }
    Ok(Seen {
        gateway,
        topic,
        stat,
    })
}

/// The oldest `max` readings that wait, in order. Damaged blocks are passed over.
///
/// # Errors
/// The directory cannot be read, or was written by a newer version.
pub fn peek(dir: &Path, name: &str, max: usize) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    export(dir, name, false, |entry| {
        entries.push(entry);
        Ok(entries.len() < max)
    })?;
    entries.truncate(max);
    Ok(entries)
}

/// Shows the readings that wait, in order, or everything that is still on the disk, until told to stop.
///
/// # Errors
/// As [`peek`]; what `see` says.
pub fn export(
    dir: &Path,
    name: &str,
    all: bool,
    mut see: impl FnMut(Entry) -> io::Result<bool>,
) -> io::Result<()> {
    let path = dir.join(name);
    let (gateway, _) = lane_of(&fs::read(path.join("lane"))?).map_err(other)?;
    let book = book(&path)?;
    let wanted = |summary: &Summary| all || !waiting(&book, summary).is_empty();
    each_reading(&path, &gateway, wanted, |entry| {
        let id = &entry.record.id;
        if !all && id.sequence < book.unsettled(id.epoch) {
            return Ok(true);
        }
        see(entry)
    })
}

fn book(path: &Path) -> io::Result<Book> {
    Ok(match head::read(path).map_err(other)?? {
        Found::Book { book, .. } => book,
        Found::Nothing | Found::Damaged => Book::default(),
    })
}

fn waiting(book: &Book, summary: &Summary) -> Vec<Run> {
    let clip = |run: &Run| Run {
        first: run.first.max(book.unsettled(run.epoch).min(run.last + 1)),
        ..*run
    };
    let runs = summary.runs.iter().map(clip);
    runs.filter(|run| run.len() > 0).collect()
}

fn summary(path: &Path, number: u32) -> io::Result<Summary> {
    if let Some(summary) = Summary::read(&segment_dir(path, number)).map_err(other)? {
        return Ok(summary);
    }
    let mut summary = Summary::new(0);
    let dir = segment_dir(path, number);
    let seen = walk_segment(&dir, u64::MAX, None, |sight| {
        if let Sight::Block { header, .. } = sight {
            summary.add(0, &header);
        }
        Ok(true)
    });
    match seen {
        // Forwarded and deleted while we look.
        Err(_) if !dir.exists() => Ok(summary),
        Err(SegmentError::Io(error)) => Err(error),
        Err(error @ SegmentError::Broken) => Err(error.into()),
        Err(SegmentError::Damaged(reason)) => {
            tracing::warn!(segment = number, reason, "queue segment cannot be read");
            Ok(summary)
        }
        Ok(_) => Ok(summary),
    }
}
