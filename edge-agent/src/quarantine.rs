//! The bytes of what could not be kept as a reading, for people to look at.
//!
//! A directory of append-only files, one JSON object a line, the oldest file deleted when all together
//! pass the bound:
//!
//! ```json
//! {"time":"2026-11-23T21:04:07.113Z","source":"house","reason":"malformed","detail":"…","text":"{\"t\":"}
//! {"time":"2026-11-23T21:04:08.002Z","source":"meter","reason":"damaged","detail":"…","hex":"00ff13"}
//! ```
//!
//! It serves curiosity, not the guarantees: the count of what was rejected is elsewhere and exact. So it
//! never holds up the pipeline: a thread of its own writes, entries that come faster than the disk takes
//! them, or that the disk refuses, are only counted.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use protocol::Timestamp;
use serde::Serialize;
use tracing::warn;

/// Most bytes of all files together, unless the operator says otherwise.
pub const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Most bytes kept of one entry; the rest is cut.
const MAX_ENTRY_BYTES: usize = 1024 * 1024;
/// Most bytes on the way to the disk.
const MAX_WAITING_BYTES: usize = 2 * MAX_ENTRY_BYTES;
/// The bound is kept by deleting whole files; this many make a full quarantine.
const FILES: u64 = 8;
const SUFFIX: &str = ".jsonl";

/// Hands entries to the quarantine; cheap to clone. The last clone ends the thread.
#[derive(Debug, Clone)]
pub struct Quarantine {
    to: mpsc::Sender<Entry>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<usize>,
    written: Condvar,
    lost: AtomicU64,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, usize> {
        // A plain number: a panic elsewhere leaves it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Entry {
    time: Timestamp,
    source: String,
    reason: &'static str,
    detail: String,
    bytes: Vec<u8>,
}

impl Entry {
    fn weight(&self) -> usize {
        self.source.len() + self.detail.len() + self.bytes.len()
    }
}

impl Quarantine {
    /// Opens (or creates) the directory and starts the thread.
    ///
    /// # Errors
    /// The directory cannot be made or read, or there is no thread.
    pub fn open(dir: &Path, max_bytes: u64) -> io::Result<Self> {
        let mut files = Files::open(dir, max_bytes)?;
        let (to, entries) = mpsc::channel::<Entry>();
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        thread::Builder::new()
            .name("quarantine".into())
            .spawn(move || {
                let mut complained = false;
                for entry in entries {
                    let weight = entry.weight();
                    if let Err(error) = files.append(&entry) {
                        seen.lost.fetch_add(1, Ordering::Relaxed);
                        if !std::mem::replace(&mut complained, true) {
                            let dir = files.dir.display();
                            warn!(%dir, %error, "quarantine cannot be written, only counting");
                        }
                    } else {
                        complained = false;
                    }
                    *seen.waiting() -= weight;
                    seen.written.notify_all();
                }
            })?;
        Ok(Self { to, shared })
    }

    /// Keeps the bytes, as far as there is room for them now; never blocks on the disk.
    pub fn keep(
        &self,
        time: Timestamp,
        source: &str,
        reason: &'static str,
        detail: String,
        bytes: &[u8],
    ) {
        let entry = Entry {
            time,
            source: source.into(),
            reason,
            detail,
            bytes: bytes[..bytes.len().min(MAX_ENTRY_BYTES)].to_vec(),
        };
        let weight = entry.weight();
        let mut waiting = self.shared.waiting();
        // The thread is gone only if it panicked; the count says so.
        if *waiting + weight > MAX_WAITING_BYTES || self.to.send(entry).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        } else {
            *waiting += weight;
        }
    }

    /// Entries that were not kept: too many at once, or the disk refused.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything handed over is written, at most until `deadline`; says whether it is.
    pub fn drain(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let waiting = self.shared.waiting();
        let (waiting, _) = self
            .shared
            .written
            .wait_timeout_while(waiting, left.max(Duration::from_millis(1)), |n| *n > 0)
            .unwrap_or_else(PoisonError::into_inner);
        *waiting == 0
    }
}

/// The files, oldest first; the last one is appended to.
struct Files {
    dir: PathBuf,
    max_bytes: u64,
    sealed: VecDeque<(u64, u64)>,
    current: Option<(File, u64)>,
    next: u64,
    line: String,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    source: &'a str,
    reason: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

impl Files {
    fn open(dir: &Path, max_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut sealed = Vec::new();
        for file in fs::read_dir(dir)? {
            let file = file?;
            let name = file.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                sealed.push((number, file.metadata()?.len()));
            }
        }
        sealed.sort_unstable();
        Ok(Self {
            dir: dir.into(),
            max_bytes,
            next: sealed.last().map_or(0, |(number, _)| number + 1),
            sealed: sealed.into(),
            current: None,
            line: String::new(),
        })
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:010}{SUFFIX}"))
    }

    fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let text = std::str::from_utf8(&entry.bytes).ok();
        let line = Line {
            time: entry.time.to_string(),
            source: &entry.source,
            reason: entry.reason,
            detail: &entry.detail,
            text,
            hex: text.is_none().then(|| hex(&entry.bytes)),
        };
        self.line = serde_json::to_string(&line)?;
        self.line.push('\n');
        let len = self.line.len() as u64;
        self.make_room(len)?;
        let number = self.next;
        let path = self.path(number);
        let (file, size) = match &mut self.current {
            Some(current) => current,
            none => {
                let file = File::options().create(true).append(true).open(path)?;
                none.insert((file, 0))
            }
        };
        // A line that was cut short by a full disk must not swallow the next one: its file is left.
        if let Err(error) = file.write_all(self.line.as_bytes()) {
            let written = file.metadata().map_or(*size, |data| data.len());
            self.seal(written);
            return Err(error);
        }
        *size += len;
        if *size >= self.max_bytes / FILES {
            let size = *size;
            self.seal(size);
        }
        Ok(())
    }

    fn seal(&mut self, size: u64) {
        self.current = None;
        self.sealed.push_back((self.next, size));
        self.next += 1;
    }

    fn make_room(&mut self, len: u64) -> io::Result<()> {
        let current = self.current.as_ref().map_or(0, |(_, size)| *size);
        let mut total: u64 = current + len + self.sealed.iter().map(|(_, size)| size).sum::<u64>();
        while total > self.max_bytes {
            let Some((number, size)) = self.sealed.pop_front() else {
                break;
            };
            match fs::remove_file(self.path(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.sealed.push_front((number, size));
                    return Err(error);
                }
                _ => total -= size,
            }
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").ok();
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn now() -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000).unwrap()
    }

    fn lines(dir: &Path) -> Vec<serde_json::Value> {
        let mut files: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|f| f.unwrap().path())
            .collect();
        files.sort();
        files
            .iter()
            .flat_map(|file| {
                let text = fs::read_to_string(file).unwrap();
                let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
                lines.collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn quarantine_keeps_text_readable_and_other_bytes_as_hex() {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::open(dir.path(), MAX_BYTES).unwrap();
        quarantine.keep(now(), "house", "malformed", "x".into(), b"{\"t\":");
        quarantine.keep(now(), "meter", "damaged", "y".into(), &[0, 255]);
        assert!(quarantine.drain(soon()));
        let kept = lines(dir.path());
        assert_eq!(kept[0]["text"], "{\"t\":");
        assert_eq!(kept[0]["time"], "2023-11-14T22:13:20Z");
        assert_eq!(kept[1]["hex"], "00ff");
        assert_eq!(quarantine.lost(), 0);
    }

    #[test]
    fn quarantine_is_bounded_and_lets_the_oldest_go_also_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let max_bytes = 8 * 1024;
        for restart in 0..4 {
            let quarantine = Quarantine::open(dir.path(), max_bytes).unwrap();
            for entry in 0..50 {
                let detail = format!("{restart}/{entry}");
                quarantine.keep(now(), "house", "malformed", detail, &[b'x'; 200]);
            }
            assert!(quarantine.drain(soon()));
            assert_eq!(quarantine.lost(), 0);
        }
        let total: u64 = fs::read_dir(dir.path())
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum();
        assert!(total <= max_bytes, "{total}");
        let kept = lines(dir.path());
        assert!(kept.len() > 15, "{}", kept.len());
        assert_eq!(kept.last().unwrap()["detail"], "3/49");
    }

    #[test]
    fn quarantine_that_cannot_be_written_only_counts() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("quarantine");
        let quarantine = Quarantine::open(&inside, MAX_BYTES).unwrap();
        fs::remove_dir(&inside).unwrap();
        quarantine.keep(now(), "house", "malformed", String::new(), b"x");
        assert!(quarantine.drain(soon()));
        assert_eq!(quarantine.lost(), 1);
    }
}
