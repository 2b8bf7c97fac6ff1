//! The time, and what it is worth: wall clock, whether it is synchronised, boot id, monotonic time.
//!
//! A gateway without a battery-backed clock starts somewhere in the past and jumps once the network is
//! there. So order, timeouts and ages never use the wall clock alone: each reading carries boot id and
//! monotonic time while the wall clock is not known to be synchronised, and is put right later.
//!
//! Whether it is synchronised is what the time service says by a **marker file**: systemd-timesyncd
//! makes `/run/systemd/timesync/synchronized` (what systemd itself waits for); chrony and others make
//! none of their own, so [`PACKAGED_MARKER`] stands for a unit ordered after `time-sync.target`, and
//! `EDGE_AGENT_CLOCK_MARKER` names one more, for containers (whose clock is the host's) and tests. The
//! kernel's own word, `adjtimex`, has no safe wrapper that is kept for our minimum Rust; a marker also
//! does not go back to "unsynchronised" when the network is away for a day, which a clock that was set
//! is not. Without a marker readings are marked unsynchronised: that costs precision, never a reading.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use protocol::{BootId, Timestamp};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// systemd-timesyncd makes this file at the first synchronisation of a boot.
pub const TIMESYNCD_MARKER: &str = "/run/systemd/timesync/synchronized";
/// For every other time service: made by a unit that runs after `time-sync.target`.
pub const PACKAGED_MARKER: &str = "/run/edge-agent-clock/synchronized";
/// Names one more marker file.
pub const MARKER_VARIABLE: &str = "EDGE_AGENT_CLOCK_MARKER";

/// How long the answer "synchronised or not" is believed, in microseconds.
const BELIEVED_US: u64 = 1_000_000;
const NEVER_ASKED: u64 = u64::MAX;

/// The time at one moment, with what is needed to put it right later.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The wall clock.
    pub wall: Timestamp,
    /// Whether the wall clock is synchronised.
    pub synced: bool,
    /// This boot of the machine.
    pub boot: BootId,
    /// Since that boot, suspended time included.
    pub monotonic_us: u64,
}

impl Moment {
    /// What the queue needs of it.
    #[must_use]
    pub fn queue(&self) -> crate::queue::Now {
        crate::queue::Now {
            wall: self.wall,
            synced: self.synced,
        }
    }

    /// The clock of a reading whose time is its arrival at this moment.
    #[must_use]
    pub fn of_arrival(&self) -> protocol::Clock {
        if self.synced {
            protocol::Clock::Synced
        } else {
            protocol::Clock::Unsynced {
                boot: self.boot,
                monotonic_us: self.monotonic_us,
            }
        }
    }
}

/// Reads the machine's clocks; cheap to clone, cheap to ask.
#[derive(Debug, Clone)]
pub struct Clock {
    boot: BootId,
    markers: Arc<[PathBuf]>,
    sync: Arc<Answer>,
}

/// The last answer, shared by all clones. Two racing readers at worst both look at the files.
#[derive(Debug)]
struct Answer {
    asked_us: AtomicU64,
    synced: AtomicBool,
}

impl Clock {
    /// The clock of this machine.
    #[must_use]
    pub fn new() -> Self {
        let mut markers = vec![TIMESYNCD_MARKER.into(), PACKAGED_MARKER.into()];
        markers.extend(std::env::var_os(MARKER_VARIABLE).map(PathBuf::from));
        Self::with_markers(markers)
    }

    fn with_markers(markers: Vec<PathBuf>) -> Self {
        Self {
            boot: boot_id(Path::new("/proc/sys/kernel/random/boot_id")),
            markers: markers.into(),
            sync: Arc::new(Answer {
                asked_us: AtomicU64::new(NEVER_ASKED),
                synced: AtomicBool::new(false),
            }),
        }
    }

    /// The time now. The answer on synchronisation is at most a second old.
    #[must_use]
    pub fn now(&self) -> Moment {
        let monotonic_us = micros(clock_gettime(ClockId::Boottime)).unsigned_abs();
        Moment {
            wall: wall(),
            synced: self.synced(monotonic_us),
            boot: self.boot,
            monotonic_us,
        }
    }

    fn synced(&self, now_us: u64) -> bool {
        let asked = self.sync.asked_us.load(Ordering::Relaxed);
        if asked != NEVER_ASKED && now_us.saturating_sub(asked) < BELIEVED_US {
            return self.sync.synced.load(Ordering::Relaxed);
        }
        let synced = self.markers.iter().any(|marker| marker.exists());
        self.sync.synced.store(synced, Ordering::Relaxed);
        self.sync.asked_us.store(now_us, Ordering::Relaxed);
        synced
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// The time of day, asked of libc as everybody else in the process does, so that a test can set it.
fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let micros = since.and_then(|since| i64::try_from(since.as_micros()).ok());
    // A clock set before 1970 or beyond the year 9999 is no better than one at 1970.
    micros
        .and_then(|micros| Timestamp::from_micros(micros).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn micros(time: Timespec) -> i64 {
    time.tv_sec
        .saturating_mul(1_000_000)
        .saturating_add(time.tv_nsec / 1000)
}

/// The first half of the kernel's boot id. Where a sandbox hides it, this process counts as a boot of
/// its own: its readings can then be corrected only while it lives.
fn boot_id(file: &Path) -> BootId {
    fs::read_to_string(file)
        .ok()
        .and_then(|text| first_64_bits(&text))
        .unwrap_or_else(|| BootId(RandomState::new().hash_one(std::process::id())))
}

fn first_64_bits(uuid: &str) -> Option<BootId> {
    let digits: String = uuid.chars().filter(|c| *c != '-').take(16).collect();
    (digits.len() == 16).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_is_the_first_half_of_the_kernels() {
        assert_eq!(
            first_64_bits("561c9a4a-661e-4ac1-9bd8-24297578e09d\n"),
            Some(BootId(0x561c_9a4a_661e_4ac1))
        );
        assert_eq!(first_64_bits("561c9a4a"), None);
    }

    #[test]
    fn a_hidden_boot_id_is_replaced_by_one_of_the_process() {
        let missing = Path::new("/nonexistent/boot_id");
        assert_ne!(boot_id(missing), boot_id(missing));
    }

    #[test]
    fn monotonic_time_goes_forward() {
        let clock = Clock::new();
        let (a, b) = (clock.now(), clock.now());
        assert!(a.monotonic_us <= b.monotonic_us);
        assert_eq!(a.boot, b.boot);
    }

    #[test]
    fn the_clock_is_synchronised_once_a_marker_is_there_and_the_answer_is_kept_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let marker = dir.path().join("synchronized");
        let clock = Clock::with_markers(vec![marker.clone()]);
        assert!(!clock.synced(0));
        fs::write(&marker, "").unwrap();
        assert!(!clock.synced(BELIEVED_US - 1));
        assert!(clock.synced(BELIEVED_US));
    }

    #[test]
    fn an_unsynchronised_arrival_carries_what_corrects_it_later() {
        let clock = Clock::with_markers(vec![]);
        let now = clock.now();
        assert_eq!(
            now.of_arrival(),
            protocol::Clock::Unsynced {
                boot: now.boot,
                monotonic_us: now.monotonic_us
            }
        );
    }
}
