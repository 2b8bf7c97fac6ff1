//! A walk through a lane from outside, in the order of the queue. Changes nothing in the lane.
//!
//! Segments are copied before they are opened: opening writes, and a running agent has its own locked.
//! A copy of the segment that is being written may be torn; it shows what a kill would have left.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use protocol::{GatewayId, Record, RecordId};

use super::{
    Entry,
    block::{self, Header, Item},
    directory::segment_numbers,
    envelope::EnvelopeError,
    lane::segment_dir,
    memory::Memory,
    segment::{Segment, SegmentError},
    summary::Summary,
};

/// Blocks read at a time.
const READ_BLOCKS: usize = 16;

/// What is met on the way.
pub(super) enum Sight {
    /// A block that is whole.
    Block {
        number: u64,
        header: Header,
        items: Vec<Item>,
    },
    /// A block that is not.
    DamagedBlock { number: u64 },
    /// A segment that cannot be opened.
    DamagedSegment { reason: String },
    /// The end of a segment that could be read, and what it was sealed with, if it was before it was read.
    End { sealed: Option<Summary> },
}

/// Shows everything that exists, with the number of its segment, until told to stop. Segments of which
/// the summary is not wanted are passed over, those that a running agent removes meanwhile as well.
pub(super) fn walk(
    path: &Path,
    wanted: impl Fn(&Summary) -> bool,
    mut see: impl FnMut(u32, Sight) -> io::Result<bool>,
) -> io::Result<()> {
    let (numbers, _) = segment_numbers(path)?;
    for (at, &number) in numbers.iter().enumerate() {
        let dir = segment_dir(path, number);
        // Read first: a segment that is sealed while it is copied may have more than the copy.
        let sealed = Summary::read(&dir).map_err(other)?;
        if sealed.as_ref().is_some_and(|summary| !wanted(summary)) {
            continue;
        }
        let limit = match numbers.get(at + 1) {
            Some(next) => first_block(&segment_dir(path, *next))?,
            None => None,
        };
        let limit = limit.unwrap_or(u64::MAX);
        match walk_segment(&dir, limit, sealed, |sight| see(number, sight)) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            // Forwarded and deleted while we look.
            Err(_) if !dir.exists() => {}
            Err(SegmentError::Io(error)) => return Err(error),
            Err(error @ SegmentError::Broken) => return Err(error.into()),
            Err(SegmentError::Damaged(reason)) => {
                if !see(number, Sight::DamagedSegment { reason })? {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// The same for one segment and its blocks before `limit`; whether to go on.
pub(super) fn walk_segment(
    dir: &Path,
    limit: u64,
    sealed: Option<Summary>,
    mut see: impl FnMut(Sight) -> io::Result<bool>,
) -> Result<bool, SegmentError> {
    let copy = Copy::of(dir)?;
    let segment = Segment::open(&copy.0)?;
    let mut from = 0;
    loop {
        let blocks = segment.blocks(from, limit, READ_BLOCKS)?;
        let Some((last, _)) = blocks.last() else {
            return Ok(see(Sight::End { sealed })?);
        };
        from = last + 1;
        for (number, bytes) in blocks {
            let sight = match block::decode(&bytes) {
                Ok((header, items)) => Sight::Block {
                    number,
                    header,
                    items,
                },
                Err(EnvelopeError::Damaged) => Sight::DamagedBlock { number },
                Err(newer) => return Err(other(newer).into()),
            };
            if !see(sight)? {
                return Ok(false);
            }
        }
    }
}

/// Where a segment begins, which is where the one before it ends.
fn first_block(dir: &Path) -> io::Result<Option<u64>> {
    if let Some(summary) = Summary::read(dir).map_err(other)? {
        return Ok(Some(summary.first_block));
    }
    let begin = || {
        let copy = Copy::of(dir)?;
        let segment = Segment::open(&copy.0)?;
        let (_, carried) = Memory::read(&segment.carry()?).map_err(other)?;
        let first = segment.blocks(0, u64::MAX, 1)?;
        Ok(carried.or(first.first().map(|(number, _)| *number)))
    };
    match begin() {
        Err(_) if !dir.exists() => Ok(None),
        Err(SegmentError::Damaged(_)) => Ok(None),
        other => Ok(other?),
    }
}

/// Shows every reading, once, until told to stop. Damage is passed over.
pub(super) fn each_reading(
    path: &Path,
    gateway: &GatewayId,
    wanted: impl Fn(&Summary) -> bool,
    mut see: impl FnMut(Entry) -> io::Result<bool>,
) -> io::Result<()> {
    // A commit that failed may be in one segment and, written again, in the next.
    let mut passed = BTreeMap::new();
    walk(path, wanted, |_, sight| {
        let Sight::Block { header, items, .. } = sight else {
            return Ok(true);
        };
        let next = passed.entry(header.epoch).or_insert(0);
        for (sequence, item) in (header.first..).zip(items).filter(|(s, _)| *s >= *next) {
            let entry = Entry {
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
            };
            if !see(entry)? {
                return Ok(false);
            }
        }
        *next = header.last() + 1;
        Ok(true)
    })
}

pub(super) fn other(error: EnvelopeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
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
