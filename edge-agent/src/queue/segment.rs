//! One segment: a small sled database in a directory of its own. Nothing else names sled.
//!
//! What sled 0.34.7 does not do, this does:
//! - `flush` does not reach the disk, so each append ends with an fdatasync of a handle of our own on
//!   sled's `db`; `conf` and the directories are synced once, at creation;
//! - a read that fails while a store is opened passes for the end of its log, and what comes after is
//!   overwritten: it is put back and opened once more (see image);
//! - a flush may sleep for ever after a failed write, or because all of sled's threads do: it is watched, and has a
//!   thread of ours (see flush);
//! - an I/O error stays until the store is reopened, and the destructor of such a store may abort the
//!   process: a sick handle is never dropped;
//! - damage may panic instead of failing: every call is caught (see caught);
//! - a damaged snapshot or `conf` blocks a log that is whole: both are dropped and made anew.
//!
//! ```text
//! key 8 bytes BE       block number -> block, or nothing: a place that is laid out for one
//! key 2^56 BE + u8     nothing: a wall between blocks and what follows
//! key "carry" + u16 BE what the segment inherits (see memory), written with its first commit
//! key "noted" + 8 bytes BE + u16 BE   what is noted beside the commit whose first block this is
//! ```
//!
//! **A block is written once.** sled splits a leaf of more than 16 values and writes both halves whole, and
//! joins a leaf with its tenth change: each block went to the disk three times. So leaves are made before their
//! blocks come, of empty values, which weigh nothing. In order they become leaves of nine; then each gets
//! nine blocks, one change fewer than sled joins. Only the last leaf is ever split: places are laid out so far
//! ahead that it has no block yet, and the wall keeps it apart from what is inherited.
//!
//! **A block by itself is inserted.** That is one message of sled's log, which is whole or not there. A batch begins with
//! a message of its own, which sled writes and waits for before anything else of it: another write to the disk.

use std::{
    fs::{self, File},
    io,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    caught::{caught, quietly},
    fault::step,
    files,
    flush::{elsewhere, insisted},
    image::{Image, LOCK_WAIT, Overwritten},
};

/// Page cache of one store; two are open at most.
const CACHE_BYTES: u64 = 2 * 1024 * 1024;
/// Times a log is opened until two agree, once more than two disagreements can be by chance.
const TRIES: u32 = 4;
/// Extension of a directory whose store is being created.
pub const UNFINISHED: &str = "new";
const CARRY: &[u8] = b"carry";
const NOTED: &[u8] = b"noted";
/// Above every block number: they stay below 2^56.
const BLOCKS_END: [u8; 8] = [1, 0, 0, 0, 0, 0, 0, 0];
/// What is in a place until its block comes.
const NOTHING: &[u8] = &[];
/// Values of a leaf that is split, and places that are there ahead at least.
const LEAF: u8 = 17;
/// Places laid out at a time, beside those for blocks that are there.
const PLACES: u64 = 64;

/// Why a segment cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The machine refuses (no handles, no memory, no permission): the segment may be whole.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The store is damaged.
    #[error("damaged: {0}")]
    Damaged(String),
    /// One of sled's threads has ended, and sled with it, in this process: nothing is known of the
    /// segment.
    #[error("the store's threads have ended, a new process is needed")]
    Broken,
}

impl From<SegmentError> for io::Error {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Io(error) => error,
            SegmentError::Damaged(text) => io::Error::new(io::ErrorKind::InvalidData, text),
            SegmentError::Broken => io::Error::other(error),
        }
    }
}

/// An open segment.
#[derive(Debug)]
pub struct Segment {
    /// `None` only while it is dropped.
    db: Option<sled::Db>,
    file: File,
    dir: PathBuf,
    sick: AtomicBool,
    /// The first block number without a place; 0 before the first commit. Only the writer needs it.
    laid: AtomicU64,
}

impl Segment {
    /// Creates an empty segment whose directory survives a power cut. It gets its name when it is whole:
    /// a name without a store behind it would look like a store that was lost.
    pub fn create(dir: &Path) -> io::Result<Self> {
        let unfinished = dir.with_extension(UNFINISHED);
        Self::create_as(&unfinished, dir).inspect_err(|_| {
            // What is left of it is empty; a start would clear it as well.
            for left in [&unfinished, dir] {
                if let Err(error) = files::remove_dir(left)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::warn!(segment = %left.display(), %error, "empty queue segment not removed");
                }
            }
        })
    }

    fn create_as(unfinished: &Path, dir: &Path) -> io::Result<Self> {
        step("segment: create")?;
        files::create_dir(unfinished)?;
        let mut segment = Self::connect(unfinished)?;
        File::open(unfinished.join("conf"))?.sync_all()?;
        segment.file.sync_data()?;
        files::sync_dir(unfinished)?;
        step("segment: before its name")?;
        // sled needs its path only to open, and for blobs, for which blocks are too small.
        fs::rename(unfinished, dir)?;
        dir.clone_into(&mut segment.dir);
        dir.parent().map_or(Ok(()), files::sync_dir)?;
        step("segment: created")?;
        Ok(segment)
    }

    /// Opens a segment, without its snapshot if that is in the way. What it read is durable afterwards.
    pub fn open(dir: &Path) -> Result<Self, SegmentError> {
        Self::recover(dir, false)
    }

    /// Opens a segment by its log alone.
    pub fn open_from_log(dir: &Path) -> Result<Self, SegmentError> {
        Self::recover(dir, true)
    }

    /// Tries until nothing of the log was overwritten, or two tries overwrote the same: a tear, or what a place
    /// that sled used again still held of its former use. A log that does not open twice by itself is damaged,
    /// and stays as it was.
    fn recover(dir: &Path, mut by_log: bool) -> Result<Self, SegmentError> {
        let log = present(dir)?;
        let Ok(image) = Image::of(&log) else {
            // The card cannot read all of it: what it can, sled finds.
            return Self::attempt(dir, by_log).or_else(|_| Self::attempt(dir, true));
        };
        let mut before: Vec<Overwritten> = Vec::new();
        let mut failed = false;
        for _ in 0..TRIES {
            let attempt = Self::attempt(dir, by_log);
            let gone = image.overwritten(&log)?;
            let error = match attempt {
                Ok(segment) if gone.is_empty() || before.last() == Some(&gone) => {
                    let astray = astray(&before, &gone);
                    if astray > 0 {
                        tracing::warn!(segment = %dir.display(), pages = astray,
                            "queue segment put back and opened once more");
                    }
                    return Ok(segment);
                }
                Ok(segment) => {
                    drop(segment);
                    None
                }
                Err(error) => Some(error),
            };
            if !gone.is_empty() {
                image.put_back(&log)?;
            }
            if error.is_some() {
                // A disk that takes nothing makes every store look damaged, for opening one writes; and
                // each try costs memory for good.
                files::probe(dir)?;
            }
            match error {
                Some(SegmentError::Damaged(reason)) if !by_log => {
                    tracing::warn!(segment = %dir.display(), reason, "queue segment opened without its snapshot");
                }
                Some(SegmentError::Damaged(_)) if !failed => failed = true,
                Some(error) => return Err(error),
                None => {}
            }
            before.push(gone);
            by_log = true;
        }
        Err(SegmentError::Damaged(
            "its log reads differently each time".into(),
        ))
    }

    fn attempt(dir: &Path, by_log: bool) -> Result<Self, SegmentError> {
        if by_log {
            drop_derived(dir)?;
        }
        let segment = Self::connect(dir)?;
        // What sled means to write, it writes before its log is compared.
        caught(|| flush(segment.db()?))?;
        segment.file.sync_data()?;
        files::sync_dir(dir)?;
        Ok(segment)
    }

    fn connect(dir: &Path) -> Result<Self, SegmentError> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None);
        let start = Instant::now();
        let db = loop {
            match caught(|| config.open()) {
                Err(SegmentError::Io(error))
                    if error.to_string().contains("could not acquire lock")
                        && start.elapsed() < LOCK_WAIT =>
                {
                    thread::sleep(Duration::from_millis(1));
                }
                other => break other?,
            }
        };
        Ok(Self {
            db: Some(db),
            file: File::options().write(true).open(dir.join("db"))?,
            dir: dir.to_owned(),
            sick: AtomicBool::new(false),
            laid: AtomicU64::new(0),
        })
    }

    /// Makes blocks durable with what goes beside them, all or none. After an error the segment takes
    /// nothing any more.
    pub fn append(
        &self,
        carry: &[Vec<u8>],
        notes: &[Vec<u8>],
        blocks: &[(u64, Vec<u8>)],
    ) -> io::Result<()> {
        if self.is_sick() {
            return Err(io::Error::other("the segment failed before"));
        }
        let result = self.try_append(carry, notes, blocks);
        if result.is_err() {
            self.sick.store(true, Ordering::Release);
        }
        Ok(result?)
    }

    fn try_append(
        &self,
        carry: &[Vec<u8>],
        notes: &[Vec<u8>],
        blocks: &[(u64, Vec<u8>)],
    ) -> Result<(), SegmentError> {
        step("append: before batch")?;
        if let (Some((first, _)), Some((last, _))) = (blocks.first(), blocks.last()) {
            caught(|| self.lay_out(*first, last + 1))?;
        }
        if let ([(number, block)], [], []) = (blocks, carry, notes) {
            caught(|| self.db()?.insert(number.to_be_bytes(), block.as_slice()))?;
        } else {
            caught(|| self.db()?.apply_batch(batch(carry, notes, blocks)))?;
        }
        step("append: before flush")?;
        caught(|| flush(self.db()?))?;
        step("append: before fdatasync")?;
        self.file.sync_data()?;
        step("append: durable")?;
        Ok(())
    }

    /// Makes places for the blocks from `first` to before `end`, if they have none, and for some to come.
    fn lay_out(&self, first: u64, end: u64) -> sled::Result<()> {
        let laid = self.laid.load(Ordering::Relaxed);
        if laid >= end + u64::from(LEAF) {
            return Ok(());
        }
        let db = self.db()?;
        if laid == 0 {
            for index in 0..LEAF {
                db.insert([&BLOCKS_END[..], &[index]].concat(), NOTHING)?;
            }
        }
        for number in laid.max(first)..end + PLACES {
            db.insert(number.to_be_bytes(), NOTHING)?;
        }
        self.laid.store(end + PLACES, Ordering::Relaxed);
        Ok(())
    }

    /// Up to `max` blocks numbered from `from` to before `end`, in order.
    pub fn blocks(
        &self,
        from: u64,
        end: u64,
        max: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, SegmentError> {
        let end = end.to_be_bytes().min(BLOCKS_END);
        let from = from.to_be_bytes();
        if from >= end {
            return Ok(Vec::new());
        }
        caught(|| {
            self.db()?
                .range(from..end)
                .filter(|entry| !matches!(entry, Ok((_, place)) if place.is_empty()))
                .take(max)
                .map(|entry| {
                    let (key, value) = entry?;
                    let key = key.as_ref().try_into().map_err(|_| {
                        sled::Error::ReportableBug("a block number has 8 bytes".into())
                    })?;
                    Ok((u64::from_be_bytes(key), value.to_vec()))
                })
                .collect()
        })
    }

    /// What was carried into this segment.
    pub fn carry(&self) -> Result<Vec<Vec<u8>>, SegmentError> {
        caught(|| {
            self.db()?
                .scan_prefix(CARRY)
                .map(|entry| Ok(entry?.1.to_vec()))
                .collect()
        })
    }

    /// What was noted, in order, each with the first block of its commit.
    pub fn notes(&self) -> Result<Vec<(u64, Vec<u8>)>, SegmentError> {
        caught(|| {
            self.db()?
                .scan_prefix(NOTED)
                .map(|entry| {
                    let (key, value) = entry?;
                    let number = key.get(NOTED.len()..).and_then(<[u8]>::first_chunk);
                    Ok((
                        number.map_or(0, |bytes| u64::from_be_bytes(*bytes)),
                        value.to_vec(),
                    ))
                })
                .collect()
        })
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len())
    }

    /// Whether an append failed: no more appends, and its handle is never given back.
    pub fn is_sick(&self) -> bool {
        self.sick.load(Ordering::Acquire)
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn db(&self) -> sled::Result<&sled::Db> {
        self.db
            .as_ref()
            .ok_or_else(|| sled::Error::ReportableBug("segment is closed".into()))
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let db = self.db.take();
        if *self.sick.get_mut() {
            std::mem::forget(db);
        } else if let Err(error) = caught(move || {
            drop(db);
            Ok(())
        }) {
            tracing::warn!(segment = %self.dir.display(), %error, "queue segment closed with a panic");
        }
    }
}

/// What has to be there as a whole or not at all.
fn batch(carry: &[Vec<u8>], notes: &[Vec<u8>], blocks: &[(u64, Vec<u8>)]) -> sled::Batch {
    let mut batch = sled::Batch::default();
    for (index, entry) in (0_u16..).zip(carry) {
        batch.insert([CARRY, &index.to_be_bytes()].concat(), entry.as_slice());
    }
    let first_block = blocks
        .first()
        .map_or(0, |(number, _)| *number)
        .to_be_bytes();
    for (index, entry) in (0_u16..).zip(notes) {
        let key = [NOTED, &first_block, &index.to_be_bytes()].concat();
        batch.insert(key, entry.as_slice());
    }
    for (number, block) in blocks {
        batch.insert(&number.to_be_bytes(), block.as_slice());
    }
    batch
}

/// How many pages a former try overwrote that the one which counts did not: something was read wrongly then.
pub(super) fn astray(before: &[Overwritten], gone: &Overwritten) -> usize {
    let pages: Overwritten = before.iter().flatten().copied().collect();
    pages.difference(gone).count()
}

/// sled would make an empty store where there is none.
fn present(dir: &Path) -> Result<File, SegmentError> {
    let log = File::options().read(true).write(true).open(dir.join("db"));
    log.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::IsADirectory => {
            SegmentError::Damaged("its log is missing".into())
        }
        _ => SegmentError::Io(error),
    })
}

/// sled's flush, which may sleep for ever: a write that fails on one of its threads is noted there, and
/// nobody is woken. Another flush sees the note and wakes them all.
fn flush(db: &sled::Db) -> sled::Result<()> {
    let done = insisted(|| {
        let db = db.clone();
        elsewhere(move || {
            let done = quietly(|| db.flush());
            // It may be the last that has the store, which panics where its file cannot be synced.
            drop(quietly(move || drop(db)));
            done
        })
    });
    match done.map_err(sled::Error::Io)? {
        Ok(flushed) => flushed.map(drop),
        Err(panic) => resume_unwind(panic),
    }
}

/// Removes what sled can make anew from its log.
fn drop_derived(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("snap.") || name == "conf" {
            fs::remove_file(entry.path())?;
        }
    }
    files::sync_dir(dir)
}
