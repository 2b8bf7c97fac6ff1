//! What a log was before sled opened it, so that it can be opened once more from the same bytes.
//!
//! While sled recovers a store, it takes a read that fails for the end of the log: it opens without an
//! error, ends there, and overwrites what comes after. One failing read would so destroy what was durable.
//! A tear that is really there is found again by the second try, a read that failed once is not: so what
//! sled overwrites is put back, and only what two tries agree on is gone.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    os::unix::fs::FileExt,
    thread,
    time::{Duration, Instant},
};

const PAGE: usize = 4096;
/// Bytes compared at a time.
const CHUNK: usize = 16 * PAGE;
/// A log that cannot be read so often cannot be read.
const READS: u32 = 3;
/// A dropped store gives its lock back a little later, and a disk may take a write a little later; this is
/// long enough to be sure.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(5);

/// The bytes of a log.
pub(super) struct Image(Vec<u8>);

/// Numbers of the pages that are not what they were.
pub(super) type Overwritten = BTreeSet<u64>;

impl Image {
    /// Reads a log of `segment_bytes` and a little more; a page that is bad once is read again.
    pub fn of(log: &File) -> io::Result<Self> {
        let mut tries = 1;
        loop {
            match Self::read(log) {
                Err(error) if tries == READS => return Err(error),
                Err(_) => tries += 1,
                image => return image,
            }
        }
    }

    fn read(log: &File) -> io::Result<Self> {
        let length = usize::try_from(log.metadata()?.len()).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        log.read_exact_at(&mut bytes, 0)?;
        Ok(Self(bytes))
    }

    /// Where the log has other bytes now. What was empty may be written to.
    pub fn overwritten(&self, log: &File) -> io::Result<Overwritten> {
        let mut overwritten = Overwritten::new();
        let mut now = vec![0; CHUNK];
        for (index, was) in self.0.chunks(CHUNK).enumerate() {
            let now = &mut now[..was.len()];
            fill(log, now, (index * CHUNK) as u64)?;
            if now == was {
                continue;
            }
            let pages = was.chunks(PAGE).zip(now.chunks(PAGE)).enumerate();
            let changed = pages.filter(|(_, (was, now))| {
                was.iter()
                    .zip(*now)
                    .any(|(was, now)| was != now && *was != 0)
            });
            let first = (index * CHUNK / PAGE) as u64;
            overwritten.extend(changed.map(|(page, _)| first + page as u64));
        }
        Ok(overwritten)
    }

    /// Makes the log what it was, once the store that overwrote it has let it go.
    pub fn put_back(&self, log: &File) -> io::Result<()> {
        let begin = Instant::now();
        while let Err(error) =
            rustix::fs::flock(log, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        {
            if begin.elapsed() > LOCK_WAIT {
                return Err(error.into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        let written = loop {
            let written = log
                .write_all_at(&self.0, 0)
                .and_then(|()| log.set_len(self.0.len() as u64))
                .and_then(|()| log.sync_all());
            // Nobody else has these bytes.
            if written.is_ok() || begin.elapsed() > LOCK_WAIT {
                break written;
            }
            thread::sleep(Duration::from_millis(10));
        };
        rustix::fs::flock(log, rustix::fs::FlockOperation::Unlock)?;
        written
    }
}

/// Reads up to the end of the file; behind it is nothing.
fn fill(log: &File, mut into: &mut [u8], mut at: u64) -> io::Result<()> {
    while !into.is_empty() {
        match log.read_at(into, at) {
            Ok(0) => {
                into.fill(0);
                return Ok(());
            }
            Ok(count) => {
                into = &mut into[count..];
                at += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
