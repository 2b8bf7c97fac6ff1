//! Recognises what a source sends again. Pure.
//!
//! - A device that numbers its readings: for its last two *runs* a window of the 64 numbers up to the
//!   newest, each with 32 bits of the digest. A run is a boot, or a stretch of numbers within one.
//!   Sent again is what has the same number and says the same; a true retransmission always does.
//!   - Another content under a number of the window, or a number below the window, is new, for better
//!     twice than never, and begins a run: the device counts from the start again without a new boot.
//!   - Of two windows the one heard last decides, so a frame that comes late begins a run without
//!     disturbing the one it belongs to, and a restarted device is not held against its past.
//!   - So a device that restarts within 64 of its newest number and declares no boot loses a reading
//!     only where number and values are those of before. `boot` is what tells them apart.
//! - MQTT without numbers: packet id, topic and content of the last [`MESSAGES`] messages. Only where the
//!   broker may be repeating itself, and each remembered message matches once.
//!
//! At most [`DEVICES`] devices are remembered; above, the one unheard for longest is forgotten, and a
//! retransmission of it is taken as new.
//!
//! A message that is only recognised stores nothing, and is remembered all the same: it is acknowledged, and
//! where that is lost the broker repeats it, when its device may be far ahead. So it is *noted*, in an entry
//! beside the blocks of the next commit. Until there is one, what recognised it is as it was.
//!
//! What is remembered is carried into each new segment, in entries of their own; notes look the same:
//!
//! ```text
//! envelope version 1 around postcard of (first block of this segment, devices, messages)
//! envelope version 1 around postcard of (first block of this commit, no device, messages)
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::{DeviceId, Digest, SourceId};
use serde::{Deserialize, Serialize};

use super::{
    block::{Item, MAX_BLOCK_BYTES, MqttOrigin},
    envelope::{self, EnvelopeError},
};

/// Most devices remembered.
pub const DEVICES: usize = 1024;
/// Most MQTT messages remembered: more than a receive window.
pub const MESSAGES: usize = 2048;
const VERSION: u8 = 1;

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
struct Device {
    /// Not carried: entries are carried in this order.
    #[serde(skip)]
    heard: u64,
    runs: Vec<Window>,
}

impl Device {
    /// Notes a number; whether it was there before and what it said.
    fn note(&mut self, source: SourceId, tag: [u8; 4]) -> Told {
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

/// Everything remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    devices: BTreeMap<DeviceId, Device>,
    messages: VecDeque<MqttOrigin>,
    clock: u64,
}

/// One entry of what is carried.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Carried {
    first_block: u64,
    devices: Vec<(DeviceId, Device)>,
    messages: Vec<MqttOrigin>,
}

/// What one batch would change, until it is durable.
#[derive(Debug, Default)]
pub struct Staged {
    devices: BTreeMap<DeviceId, Device>,
    messages: Vec<MqttOrigin>,
    /// Of these, the ones that no block tells of.
    noted: Vec<MqttOrigin>,
    matched: BTreeSet<usize>,
    /// The same for messages of this very batch.
    matched_staged: BTreeSet<usize>,
}

impl Memory {
    /// Whether the device has sent this before; notes it in `staged`.
    pub fn seen(
        &self,
        staged: &mut Staged,
        device: &DeviceId,
        source: SourceId,
        digest: Digest,
    ) -> Told {
        let [a, b, c, d, ..] = digest.0.to_le_bytes();
        if !staged.devices.contains_key(device) {
            let known = self.devices.get(device).cloned().unwrap_or(Device {
                heard: 0,
                runs: Vec::new(),
            });
            staged.devices.insert(device.clone(), known);
        }
        let device = staged.devices.get_mut(device);
        device.map_or(Told::New, |device| device.note(source, [a, b, c, d]))
    }

    /// Whether the broker has delivered this message before.
    pub fn repeats(&self, staged: &mut Staged, origin: &MqttOrigin) -> bool {
        let remembered = self
            .messages
            .iter()
            .enumerate()
            .find(|(at, have)| *have == origin && !staged.matched.contains(at));
        if let Some((at, _)) = remembered {
            return staged.matched.insert(at);
        }
        let now = staged
            .messages
            .iter()
            .enumerate()
            .find(|(at, have)| *have == origin && !staged.matched_staged.contains(at));
        match now {
            Some((at, _)) => staged.matched_staged.insert(at),
            None => false,
        }
    }

    /// The same, for a message whose readings their device has numbered: no other message has its digest, so
    /// it stays remembered, for its acknowledgement may be lost more than once.
    pub fn knows(&self, staged: &Staged, origin: &MqttOrigin) -> bool {
        self.messages.contains(origin) || staged.messages.contains(origin)
    }

    /// The batch is durable.
    pub fn apply(&mut self, staged: Staged) {
        for (device, mut state) in staged.devices {
            self.clock += 1;
            state.heard = self.clock;
            self.devices.insert(device, state);
        }
        while self.devices.len() > DEVICES {
            let silent = self.devices.iter().min_by_key(|(_, state)| state.heard);
            let Some(device) = silent.map(|(device, _)| device.clone()) else {
                break;
            };
            self.devices.remove(&device);
        }
        for at in staged.matched.into_iter().rev() {
            self.messages.remove(at);
        }
        let fresh = staged.messages.into_iter().enumerate();
        self.messages.extend(
            fresh.filter_map(|(at, m)| (!staged.matched_staged.contains(&at)).then_some(m)),
        );
        self.trim();
    }

    fn trim(&mut self) {
        let surplus = self.messages.len().saturating_sub(MESSAGES);
        self.messages.drain(..surplus);
    }

    /// Notes what a block read back from disk holds.
    pub fn replay(&mut self, items: &[Item]) {
        let mut staged = Staged::default();
        for item in items {
            if let Some(source) = item.reading.source {
                self.seen(&mut staged, &item.reading.device, source, item.digest);
            }
            if let Some(origin) = item.origin {
                staged.remember(origin);
            }
        }
        self.apply(staged);
    }

    /// The entries that note messages beside the commit whose first block this is.
    pub fn note(first_block: u64, messages: impl IntoIterator<Item = MqttOrigin>) -> Vec<Vec<u8>> {
        let noted = Self {
            messages: messages.into_iter().collect(),
            ..Self::default()
        };
        match noted.messages.is_empty() {
            true => Vec::new(),
            false => noted.carry(first_block),
        }
    }

    /// Reads a note; a damaged one tells nothing.
    pub fn recall(&mut self, note: &[u8]) -> Result<(), EnvelopeError> {
        let (noted, _) = Self::read(&[note.to_vec()])?;
        self.messages.extend(noted.messages);
        self.trim();
        Ok(())
    }

    /// The entries to carry into a segment whose first block is `first_block`; at least one.
    pub fn carry(&self, first_block: u64) -> Vec<Vec<u8>> {
        // An entry of a device is at most 710 bytes, of a message 19: a third of a block each time.
        const CHUNK: usize = MAX_BLOCK_BYTES / 3;
        let mut devices: Vec<_> = self.devices.iter().collect();
        devices.sort_by_key(|(_, state)| state.heard);
        let mut devices = devices.into_iter().peekable();
        let mut messages = self.messages.iter().peekable();
        let mut entries = Vec::new();
        loop {
            let mut entry = Carried {
                first_block,
                ..Carried::default()
            };
            let mut bytes = 0;
            while let Some((device, state)) = devices.next_if(|_| bytes < CHUNK) {
                let tags: usize = state.runs.iter().map(|run| run.tags.len()).sum();
                bytes += device.as_str().len() + 64 + 4 * tags;
                entry.devices.push((device.clone(), state.clone()));
            }
            while let Some(message) = messages.next_if(|_| bytes < 2 * CHUNK) {
                bytes += 19;
                entry.messages.push(*message);
            }
            let body = postcard::to_allocvec(&entry).unwrap_or_default();
            entries.push(envelope::seal(VERSION, &body));
            if devices.peek().is_none() && messages.peek().is_none() {
                return entries;
            }
        }
    }

    /// Reads what was carried; the first block of the segment, unless an entry is damaged.
    pub fn read(entries: &[Vec<u8>]) -> Result<(Self, Option<u64>), EnvelopeError> {
        let mut memory = Self::default();
        let mut first_block = None;
        for bytes in entries {
            let entry = match envelope::open(bytes, VERSION) {
                Ok(body) => postcard::from_bytes::<Carried>(body).unwrap_or_default(),
                Err(EnvelopeError::Damaged) => continue,
                Err(newer) => return Err(newer),
            };
            first_block = Some(entry.first_block);
            for (device, mut state) in entry.devices {
                state.runs.retain(Window::is_sound);
                memory.clock += 1;
                state.heard = memory.clock;
                memory.devices.insert(device, state);
            }
            memory.messages.extend(entry.messages);
        }
        Ok((memory, first_block))
    }
}

impl Staged {
    /// Remembers a message that is being stored.
    pub fn remember(&mut self, origin: MqttOrigin) {
        self.messages.push(origin);
    }

    /// Remembers a message of which nothing is stored, for everything it says is.
    pub fn note(&mut self, origin: MqttOrigin) {
        self.remember(origin);
        self.noted.push(origin);
    }

    /// The messages that no block tells of.
    pub fn noted(&self) -> &[MqttOrigin] {
        &self.noted
    }
}
