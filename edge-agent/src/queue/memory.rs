//! Recognises what a source sends again. Pure.
//!
//! - A device that numbers its readings: what its last runs said (see runs).
//! - MQTT without numbers: packet id, topic and content of the last [`MESSAGES`] messages. Only where the
//!   broker may be repeating itself, and each remembered message matches once on a connection: the
//!   acknowledgement that its repetition gets may be lost with that connection as well. A message whose
//!   packet id the broker has since given to another is acknowledged, and matches no more.
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
//! envelope version 1 around postcard of (first block of this commit, devices, messages)
//! ```
//!
//! A note names a device only where readings of it were dropped as the newest since the last commit (see
//! untold): no block tells of those either.

use std::collections::{BTreeMap, VecDeque};

use protocol::{DeviceId, Digest, SourceId};
use serde::{Deserialize, Serialize};

use super::{
    block::{Item, MAX_BLOCK_BYTES, MqttOrigin},
    envelope::{self, EnvelopeError},
    runs::{Device, Told},
};
use crate::ingest::{Connection, Delivery};

/// Most devices remembered.
pub const DEVICES: usize = 1024;
/// Most MQTT messages remembered: more than the largest receive window, [`MAX_INFLIGHT`](crate::config::MAX_INFLIGHT).
pub const MESSAGES: usize = 4096;
const VERSION: u8 = 1;

/// Everything remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    devices: BTreeMap<DeviceId, Device>,
    messages: VecDeque<Heard>,
    clock: u64,
}

/// A message that was stored or recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    origin: MqttOrigin,
    /// Whose packet id it began to use; not known of what was read back from disk.
    opened_by: Option<u32>,
    /// The connection on which its last repetition was recognised.
    repeated_on: Option<Connection>,
}

impl Heard {
    fn read(origin: MqttOrigin) -> Self {
        Self {
            origin,
            opened_by: None,
            repeated_on: None,
        }
    }

    /// Whether this one, which came later, has taken over the packet id of `before`.
    fn succeeds(&self, before: &Self, client: u32) -> bool {
        self.opened_by == Some(client)
            && self.origin.packet_id == before.origin.packet_id
            // One read back from disk may be of another broker, with ids of its own.
            && (before.opened_by.is_some() || self.origin.topic_hash == before.origin.topic_hash)
    }
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
    messages: Vec<Heard>,
    /// Of these, the ones that no block tells of.
    noted: Vec<MqttOrigin>,
    /// Where a repetition was recognised, and on what; the batch's own messages are behind those remembered.
    repeated: BTreeMap<usize, Connection>,
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
            let known = self.devices.get(device).cloned();
            let known = known.unwrap_or_else(Device::new);
            staged.devices.insert(device.clone(), known);
        }
        let device = staged.devices.get_mut(device);
        device.map_or(Told::New, |device| device.note(source, [a, b, c, d]))
    }

    /// Whether the broker delivered this message on an earlier connection already.
    pub fn repeats(
        &self,
        staged: &mut Staged,
        origin: &MqttOrigin,
        connection: Connection,
    ) -> bool {
        let all = || self.messages.iter().chain(&staged.messages);
        let is_candidate = |(at, have): &(usize, &Heard)| {
            let repeated_on = staged.repeated.get(at).copied().or(have.repeated_on);
            have.origin == *origin && repeated_on != Some(connection)
        };
        let is_acknowledged = |at: usize, have: &Heard| {
            let mut later = all().skip(at + 1);
            later.any(|later| later.succeeds(have, connection.client))
        };
        let found = all()
            .enumerate()
            .filter(is_candidate)
            .find(|(at, have)| !is_acknowledged(*at, have))
            .map(|(at, _)| at);
        if let Some(at) = found {
            staged.repeated.insert(at, connection);
        }
        found.is_some()
    }

    /// The same, for a message whose readings their device has numbered: no other message has its digest, so
    /// it stays remembered, for its acknowledgement may be lost more than once.
    pub fn knows(&self, staged: &Staged, origin: &MqttOrigin) -> bool {
        let mut all = self.messages.iter().chain(&staged.messages);
        all.any(|have| have.origin == *origin)
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
        self.messages.extend(staged.messages);
        for (at, connection) in staged.repeated {
            if let Some(heard) = self.messages.get_mut(at) {
                heard.repeated_on = Some(connection);
            }
        }
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
                staged.messages.push(Heard::read(origin));
            }
        }
        self.apply(staged);
    }

    /// Only these messages, and these devices with those of `staged` as they are after it.
    pub fn only<'d>(
        &'d self,
        messages: impl IntoIterator<Item = MqttOrigin>,
        devices: impl IntoIterator<Item = &'d DeviceId>,
        staged: &'d Staged,
    ) -> Self {
        let known = |device: &'d DeviceId| Some((device, self.devices.get(device)?));
        let before = devices.into_iter().filter_map(known);
        Self {
            devices: before
                .chain(&staged.devices)
                .map(|(device, state)| (device.clone(), state.clone()))
                .collect(),
            messages: messages.into_iter().map(Heard::read).collect(),
            clock: 0,
        }
    }

    /// The entries that note this beside the commit whose first block it is; none where there is nothing.
    pub fn note(&self, first_block: u64) -> Vec<Vec<u8>> {
        match self.devices.is_empty() && self.messages.is_empty() {
            true => Vec::new(),
            false => self.carry(first_block),
        }
    }

    /// Reads a note; a damaged one tells nothing.
    pub fn recall(&mut self, note: &[u8]) -> Result<(), EnvelopeError> {
        let (noted, _) = Self::read(&[note.to_vec()])?;
        self.add(noted);
        Ok(())
    }

    /// Takes over what was noted: of a device, all that was known of it then.
    pub fn add(&mut self, noted: Self) {
        self.apply(Staged {
            devices: noted.devices,
            messages: noted.messages.into_iter().collect(),
            ..Staged::default()
        });
    }

    /// Whether it knows the device.
    pub fn has(&self, device: &DeviceId) -> bool {
        self.devices.contains_key(device)
    }

    /// The devices it knows.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.devices.keys()
    }

    /// The messages it knows.
    pub fn messages(&self) -> impl Iterator<Item = MqttOrigin> {
        self.messages.iter().map(|heard| heard.origin)
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
                bytes += device.as_str().len() + state.size();
                entry.devices.push((device.clone(), state.clone()));
            }
            while let Some(message) = messages.next_if(|_| bytes < 2 * CHUNK) {
                bytes += 19;
                entry.messages.push(message.origin);
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
                state.make_sound();
                memory.clock += 1;
                state.heard = memory.clock;
                memory.devices.insert(device, state);
            }
            let heard = entry.messages.into_iter().map(Heard::read);
            memory.messages.extend(heard);
        }
        Ok((memory, first_block))
    }
}

impl Staged {
    /// Remembers a message that is being stored, and how it came.
    pub fn remember(&mut self, origin: MqttOrigin, connection: Connection, delivery: Delivery) {
        self.messages.push(Heard {
            opened_by: (delivery == Delivery::First).then_some(connection.client),
            ..Heard::read(origin)
        });
    }

    /// Remembers a message of which nothing is stored, for everything it says is.
    pub fn note(&mut self, origin: MqttOrigin, connection: Connection, delivery: Delivery) {
        self.remember(origin, connection, delivery);
        self.noted.push(origin);
    }

    /// The messages that no block tells of.
    pub fn noted(&self) -> &[MqttOrigin] {
        &self.noted
    }

    /// All its messages.
    pub fn messages(&self) -> impl Iterator<Item = MqttOrigin> {
        self.messages.iter().map(|heard| heard.origin)
    }

    /// All its devices.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.devices.keys()
    }
}
