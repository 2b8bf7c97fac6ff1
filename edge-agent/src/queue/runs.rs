//! The runs of a device that numbers its readings: what tells a retransmission from a reading. Pure.
//!
//! - For its last two *runs* a window of the 64 numbers up to the newest, each with 32 bits of the digest. A
//!   run is a boot, or a stretch of numbers within one. Sent again is what has the same number and says the
//!   same; a true retransmission always does.
//! - Another content under a number of the window, or a number below the window, is new, for better twice than
//!   never, and begins a run: the device counts from the start again without a new boot.
//! - Of two windows the one heard last decides, so a frame that comes late begins a run without disturbing the
//!   one it belongs to, and a restarted device is not held against its past.
//! - So a device that restarts within 64 of its newest number and declares no boot loses a reading only where
//!   number and values are those of before. `boot` is what tells them apart.

use protocol::SourceId;
use serde::{Deserialize, Serialize};

/// Numbers remembered of a run.
const WINDOW: u64 = 64;

/// One run of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    boot: u64,
    newest: u64,
    /// Bit n: `newest - n` has been seen.
    seen: u64,
    /// Of each number seen, the newest first.
    tags: Vec<[u8; 4]>,
}

impl Window {
    fn new(source: SourceId, tag: [u8; 4]) -> Self {
        Self {
            boot: source.boot,
            newest: source.sequence,
            seen: 1,
            tags: vec![tag],
        }
    }

    fn reaches(&self, source: SourceId) -> bool {
        self.boot == source.boot && self.newest.abs_diff(source.sequence) < WINDOW
    }

    /// What the number said, if it has been seen.
    fn tag(&self, sequence: u64) -> Option<[u8; 4]> {
        let behind = self.newest.checked_sub(sequence)?;
        let seen = behind < WINDOW && self.seen & (1 << behind) != 0;
        seen.then(|| self.tags.get(self.newer(behind)).copied())?
    }

    /// Notes a number that has not been seen and is not below the window.
    fn note(&mut self, sequence: u64, tag: [u8; 4]) {
        if let Some(by) = sequence.checked_sub(self.newest) {
            self.seen = if by < WINDOW { self.seen << by } else { 0 };
            self.tags.truncate(self.seen.count_ones() as usize);
            self.newest = sequence;
        }
        let behind = self.newest - sequence;
        let at = self.newer(behind).min(self.tags.len());
        self.tags.insert(at, tag);
        self.seen |= 1 << behind;
    }

    /// How many have been seen that are newer than `newest - behind`.
    fn newer(&self, behind: u64) -> usize {
        (self.seen & ((1 << behind) - 1)).count_ones() as usize
    }

    /// Whether it is one that [`Window::note`] makes.
    fn is_sound(&self) -> bool {
        self.seen & 1 == 1 && self.tags.len() == self.seen.count_ones() as usize
    }
}

/// The last two runs, newest heard first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Not carried: entries are carried in this order.
    #[serde(skip)]
    pub heard: u64,
    runs: Vec<Window>,
}

impl Device {
    /// One of which nothing is known.
    pub fn new() -> Self {
        Self {
            heard: 0,
            runs: Vec::new(),
        }
    }

    /// Notes a number; whether it was there before and what it said.
    pub fn note(&mut self, source: SourceId, tag: [u8; 4]) -> Told {
        let ahead = |run: &Window| run.boot == source.boot && run.newest < source.sequence;
        let near = self.runs.iter().position(|run| run.reaches(source));
        match near.or_else(|| self.runs.iter().position(ahead)) {
            Some(at) => match self.runs[at].tag(source.sequence) {
                // Only an old frame coming again: the order of the runs stays.
                Some(have) if have == tag => return Told::Again,
                Some(_) => {
                    self.begin(source, tag);
                    return Told::Reused;
                }
                None => {
                    self.runs[at].note(source.sequence, tag);
                    self.runs[..=at].rotate_right(1);
                }
            },
            None => self.begin(source, tag),
        }
        Told::New
    }

    fn begin(&mut self, source: SourceId, tag: [u8; 4]) {
        self.runs.insert(0, Window::new(source, tag));
        self.runs.truncate(2);
    }

    /// Leaves out what [`Device::note`] would not have made.
    pub fn make_sound(&mut self) {
        self.runs.retain(Window::is_sound);
    }

    /// At least the bytes that it takes beside its name.
    pub fn size(&self) -> usize {
        let tags: usize = self.runs.iter().map(|run| run.tags.len()).sum();
        64 + 4 * tags
    }
}

/// What a device's number says of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Not sent before.
    New,
    /// Sent again.
    Again,
    /// Not sent before, and the number stood for something else a moment ago: two devices have one id,
    /// or one has restarted its numbers without a new boot.
    Reused,
}
