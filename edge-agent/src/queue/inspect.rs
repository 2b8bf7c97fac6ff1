//! Looking at a lane from outside, beside an agent that may be running. Changes nothing.
//!
//! Segments are copied before they are opened: opening writes, and a running agent has its own locked.
//! A copy of the segment that is being written may be torn; it shows what a kill would have left.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use protocol::{GatewayId, Record, RecordId, Topic};

use super::{
    Entry, Stat, block,
    book::Book,
    directory::{lane_of, segment_numbers},
    envelope::EnvelopeError,
    files,
    head::{self, Found},
    lane::segment_dir,
    segment::Segment,
    summary::{Run, Summary},
};

/// Blocks read at a time.
const READ_BLOCKS: usize = 16;

/// What a lane's directory says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Whose it is.
    pub gateway: GatewayId,
    /// Its topic.
    pub topic: Topic,
    /// How full it is; `max_bytes` and `written_bytes` are not known here and 0.
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
        if entry.path().join("lane").is_file()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
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
        let waiting: u64 = waiting(&book, &summary).iter().map(Run::len).sum();
        stat.readings += waiting;
        if waiting > 0 && stat.oldest_committed.is_none() {
            stat.oldest_committed = Some(summary.oldest_us);
        }
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
    let path = dir.join(name);
    let (gateway, _) = lane_of(&fs::read(path.join("lane"))?).map_err(other)?;
    let book = book(&path)?;
    let mut entries = Vec::new();
    for number in segment_numbers(&path)?.0 {
        if entries.len() >= max {
            break;
        }
        if let Some(summary) = Summary::read(&segment_dir(&path, number)).map_err(other)?
            && waiting(&book, &summary).is_empty()
        {
            continue;
        }
        each_block(&path, number, |bytes| {
            let (header, items) = match block::decode(bytes) {
                Ok(decoded) => decoded,
                Err(EnvelopeError::Damaged) => return Ok(true),
                Err(newer) => return Err(other(newer)),
            };
            let due = (header.first..).zip(items);
            for (sequence, item) in due.skip_while(|(s, _)| *s < book.unsettled(header.epoch)) {
                entries.push(Entry {
                    record: Record {
                        id: RecordId {
                            gateway: gateway.clone(),
                            epoch: header.epoch,
                            sequence,
                        },
                        digest: item.digest,
                        reading: item.reading,
                    },
                    received: item.received,
                    committed: header.committed,
                });
            }
            Ok(entries.len() < max)
        })?;
    }
    entries.truncate(max);
    Ok(entries)
}

fn other(error: EnvelopeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
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
    each_block(path, number, |bytes| {
        if let Ok((header, _)) = block::decode(bytes) {
            summary.add(0, &header);
        }
        Ok(true)
    })?;
    Ok(summary)
}

/// Shows each block of a copy of the segment, until told to stop.
fn each_block(
    path: &Path,
    number: u32,
    mut look: impl FnMut(&[u8]) -> io::Result<bool>,
) -> io::Result<()> {
    let copy = Copy::of(&segment_dir(path, number))?;
    let Ok(segment) = Segment::open(&copy.0) else {
        tracing::warn!(segment = number, "queue segment cannot be read");
        return Ok(());
    };
    let mut from = 0;
    loop {
        let blocks = segment.blocks(from, u64::MAX, READ_BLOCKS)?;
        let Some((last, _)) = blocks.last() else {
            return Ok(());
        };
        from = last + 1;
        for (_, bytes) in blocks {
            if !look(&bytes)? {
                return Ok(());
            }
        }
    }
}

/// A copy of a segment in a directory of its own, removed at the end.
struct Copy(PathBuf);

impl Copy {
    fn of(segment: &Path) -> io::Result<Self> {
        static COPIES: AtomicU32 = AtomicU32::new(0);
        let unique = COPIES.fetch_add(1, Ordering::Relaxed);
        let name = format!("edge-agent-peek-{}-{unique}", std::process::id());
        let copy = Self(std::env::temp_dir().join(name));
        fs::create_dir(&copy.0)?;
        for entry in fs::read_dir(segment)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                match fs::copy(entry.path(), copy.0.join(entry.file_name())) {
                    // A snapshot may be replaced while we look.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => drop(other?),
                }
            }
        }
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(dir = %self.0.display(), %error, "copy not removed");
        }
    }
}
