//! Recognises what a source sends again. Pure.
//!
//! - A device that numbers its readings: for its last two boots the newest number and a window of the 64
//!   numbers up to it. A number below the window is taken as new: better twice than never. A sequence
//!   that starts again without a new boot therefore is new as soon as it is 64 behind.
//! - MQTT without numbers: packet id, topic and content of the last [`MESSAGES`] messages. Only where the
//!   broker may be repeating itself, and each remembered message matches once.
//!
//! At most [`DEVICES`] devices are remembered; above, the one unheard for longest is forgotten, and a
//! retransmission of it is taken as new.
//!
//! What is remembered is carried into each new segment, in entries of their own:
//!
//! ```text
//! envelope version 1 around postcard of (first block of this segment, devices, messages)
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::{DeviceId, SourceId};
use serde::{Deserialize, Serialize};

use super::{
    block::{Item, MAX_BLOCK_BYTES, MqttOrigin},
    envelope::{self, EnvelopeError},
};

/// Most devices remembered.
pub const DEVICES: usize = 2048;
/// Most MQTT messages remembered: more than a receive window.
pub const MESSAGES: usize = 2048;
const VERSION: u8 = 1;

/// One boot of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    boot: u64,
    newest: u64,
    /// Bit n: `newest - n` has been seen.
    seen: u64,
}

impl Window {
    fn new(source: SourceId) -> Self {
        Self {
            boot: source.boot,
            newest: source.sequence,
            seen: 1,
        }
    }

    /// Notes a number; whether it was there before.
    fn note(&mut self, sequence: u64) -> bool {
        if sequence > self.newest {
            let by = sequence - self.newest;
            self.seen = if by < 64 { self.seen << by } else { 0 } | 1;
            self.newest = sequence;
            return false;
        }
        let behind = self.newest - sequence;
        if behind >= 64 {
            // Far behind: the device counts from the start again, so the window follows it.
            *self = Self::new(SourceId {
                boot: self.boot,
                sequence,
            });
            return false;
        }
        let known = self.seen & (1 << behind) != 0;
        self.seen |= 1 << behind;
        known
    }
}

/// The last two boots, newest heard first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Device {
    heard: u64,
    boots: Vec<Window>,
}

impl Device {
    fn note(&mut self, source: SourceId) -> bool {
        if let Some(at) = self.boots.iter().position(|w| w.boot == source.boot) {
            let known = self.boots[at].note(source.sequence);
            // The newest heard stays in front, unless this is only an old frame coming again.
            if !known {
                self.boots[..=at].rotate_right(1);
            }
            return known;
        }
        self.boots.insert(0, Window::new(source));
        self.boots.truncate(2);
        false
    }
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
    matched: BTreeSet<usize>,
    /// The same for messages of this very batch.
    matched_staged: BTreeSet<usize>,
}

impl Memory {
    /// Whether the device has sent this before; notes it in `staged`.
    pub fn seen(&self, staged: &mut Staged, device: &DeviceId, source: SourceId) -> bool {
        if !staged.devices.contains_key(device) {
            let known = self.devices.get(device).cloned().unwrap_or(Device {
                heard: 0,
                boots: Vec::new(),
            });
            staged.devices.insert(device.clone(), known);
        }
        staged
            .devices
            .get_mut(device)
            .is_some_and(|device| device.note(source))
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
        let surplus = self.messages.len().saturating_sub(MESSAGES);
        self.messages.drain(..surplus);
    }

    /// Notes what a block read back from disk holds.
    pub fn replay(&mut self, items: &[Item]) {
        let mut staged = Staged::default();
        for item in items {
            if let Some(source) = item.reading.source {
                self.seen(&mut staged, &item.reading.device, source);
            }
            if let Some(origin) = item.origin {
                staged.remember(origin);
            }
        }
        self.apply(staged);
    }

    /// The entries to carry into a segment whose first block is `first_block`; at least one.
    pub fn carry(&self, first_block: u64) -> Vec<Vec<u8>> {
        // An entry of a device is at most 180 bytes, of a message 19: a third of a block each time.
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
                bytes += device.as_str().len() + 64;
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
}
