//! A block: the readings of one group commit, or a part of them, as one value of the store.
//!
//! ```text
//! envelope version 1 around
//!   epoch varint | first sequence varint | count varint | committed zigzag (us) | synced 0/1
//!   then for each reading
//!   committed - received zigzag (us) | digest 8 bytes LE | MQTT origin option | length varint | reading
//!   MQTT origin = packet id varint | topic hash 8 bytes LE | digest of the whole message 8 bytes LE
//! ```
//!
//! Only the first stored reading of an MQTT message carries its origin. A block is at most
//! [`MAX_BLOCK_BYTES`]: what is larger goes to files that our fdatasync does not cover.

use protocol::{
    Digest, Epoch, Reading, RecordId, Timestamp,
    record::postcard::{decode_reading, encode_reading},
};
use serde::{Deserialize, Serialize};

use super::envelope::{self, EnvelopeError};

/// Largest block, in bytes.
pub const MAX_BLOCK_BYTES: usize = 6 * 1024;
/// Room that is always enough for the header: five integers and the envelope.
const HEADER_BYTES: usize = 64;
const VERSION: u8 = 1;

/// What a block says of all its readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The run of the writer.
    pub epoch: Epoch,
    /// Sequence of the first reading.
    pub first: u64,
    /// How many, at least 1.
    pub count: u32,
    /// When the commit was made.
    pub committed: Timestamp,
    /// Whether the clock was synchronised then.
    pub synced: bool,
}

impl Header {
    /// Sequence of the last reading.
    pub fn last(&self) -> u64 {
        self.first + u64::from(self.count) - 1
    }
}

/// How a redelivered MQTT message is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MqttOrigin {
    pub packet_id: u16,
    pub topic_hash: [u8; 8],
    /// Over all readings of the message.
    pub digest: [u8; 8],
}

/// One reading of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub received: Timestamp,
    pub digest: Digest,
    pub origin: Option<MqttOrigin>,
    pub reading: Reading,
}

#[derive(Serialize, Deserialize)]
struct ItemHead {
    age_us: i64,
    digest: [u8; 8],
    origin: Option<MqttOrigin>,
    length: u32,
}

/// A reading that has been encoded, before it has a number.
#[derive(Debug)]
pub struct Packed {
    pub received: Timestamp,
    pub digest: Digest,
    pub origin: Option<MqttOrigin>,
    pub reading: Vec<u8>,
}

/// Encodes one reading, or `None` when it is larger than a reading may be.
pub fn pack(reading: &Reading) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(128);
    encode_reading(reading, &mut bytes).ok()?;
    (bytes.len() <= protocol::MAX_READING_BYTES).then_some(bytes)
}

/// Encodes readings with contiguous sequences from `first` as blocks, in order.
pub fn encode(
    epoch: Epoch,
    first: u64,
    committed: Timestamp,
    synced: bool,
    readings: &[Packed],
) -> Vec<(Header, Vec<u8>)> {
    let mut blocks = Vec::new();
    let mut header = Header {
        epoch,
        first,
        count: 0,
        committed,
        synced,
    };
    let mut items = Vec::new();
    for packed in readings {
        let start = items.len();
        let head = ItemHead {
            age_us: committed.as_micros() - packed.received.as_micros(),
            digest: packed.digest.0.to_le_bytes(),
            origin: packed.origin,
            length: u32::try_from(packed.reading.len()).unwrap_or(u32::MAX),
        };
        items = append(items, &head);
        items.extend_from_slice(&packed.reading);
        if items.len() + HEADER_BYTES > MAX_BLOCK_BYTES && header.count > 0 {
            let item = items.split_off(start);
            blocks.push((header, finish(&header, &items)));
            items = item;
            header.first += u64::from(header.count);
            header.count = 0;
        }
        header.count += 1;
    }
    if header.count > 0 {
        blocks.push((header, finish(&header, &items)));
    }
    blocks
}

fn append(out: Vec<u8>, value: &impl Serialize) -> Vec<u8> {
    // Into memory, of types that postcard always takes.
    postcard::to_extend(value, out).unwrap_or_default()
}

fn finish(header: &Header, items: &[u8]) -> Vec<u8> {
    let mut body = append(Vec::with_capacity(HEADER_BYTES + items.len()), header);
    body.extend_from_slice(items);
    envelope::seal(VERSION, &body)
}

/// Reads a block, all of it or nothing.
pub fn decode(bytes: &[u8]) -> Result<(Header, Vec<Item>), EnvelopeError> {
    let damaged = |_| EnvelopeError::Damaged;
    let body = envelope::open(bytes, VERSION)?;
    let (header, mut rest) = postcard::take_from_bytes::<Header>(body).map_err(damaged)?;
    if header.count == 0
        || header.first > RecordId::MAX_48
        || usize::try_from(header.count).unwrap_or(usize::MAX) > rest.len()
    {
        return Err(EnvelopeError::Damaged);
    }
    let mut items = Vec::with_capacity(header.count as usize);
    for _ in 0..header.count {
        let (head, behind) = postcard::take_from_bytes::<ItemHead>(rest).map_err(damaged)?;
        let length = head.length as usize;
        let (packed, behind) = behind
            .split_at_checked(length)
            .ok_or(EnvelopeError::Damaged)?;
        rest = behind;
        let (reading, left) = decode_reading(packed).map_err(|_| EnvelopeError::Damaged)?;
        let received = header.committed.as_micros().checked_sub(head.age_us);
        items.push(Item {
            received: received
                .and_then(|time| Timestamp::from_micros(time).ok())
                .filter(|_| left.is_empty())
                .ok_or(EnvelopeError::Damaged)?,
            digest: Digest(u64::from_le_bytes(head.digest)),
            origin: head.origin,
            reading,
        });
    }
    if rest.is_empty() {
        Ok((header, items))
    } else {
        Err(EnvelopeError::Damaged)
    }
}
