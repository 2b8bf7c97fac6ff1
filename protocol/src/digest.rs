//! What a reading says, in 64 bits.

use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::{IdError, Reading, Value, ids::hex16};

/// 64 bits over device, values and source identity; not over time, metadata, hops or encoding.
///
/// Computed once, when the reading becomes durable, and carried to the document: the same `_id` with
/// the same digest is a duplicate, with another digest an incident (`id_conflict`).
///
/// XXH3-64 with seed 0 over, in this order and all integers little-endian:
///
/// ```text
/// device        u32 length, bytes
/// fields        u32 count, then for each in the order of the names:
///               u32 length, name bytes, tag byte and value:
///               0 f64 bits (-0.0 as 0.0) | 1 i64 | 2 one byte 0/1 | 3 u32 length, UTF-8 bytes
/// source        0, or 1 and u64 boot, u64 sequence
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest(pub u64);

impl Digest {
    /// Computes the digest of a reading.
    #[must_use]
    pub fn of(reading: &Reading) -> Self {
        let mut hash = Xxh3::new();
        let text = |hash: &mut Xxh3, text: &str| {
            hash.update(&length(text.len()));
            hash.update(text.as_bytes());
        };
        text(&mut hash, reading.device.as_str());
        hash.update(&length(reading.fields.len()));
        for (name, value) in reading.fields.iter() {
            text(&mut hash, name.as_str());
            match value {
                // Adding 0.0 turns -0.0 into 0.0 and leaves every other number as it is.
                Value::Float(number) => {
                    hash.update(&[0]);
                    hash.update(&(number + 0.0).to_bits().to_le_bytes());
                }
                Value::Int(number) => {
                    hash.update(&[1]);
                    hash.update(&number.to_le_bytes());
                }
                Value::Bool(state) => hash.update(&[2, u8::from(*state)]),
                Value::Text(value) => {
                    hash.update(&[3]);
                    text(&mut hash, value);
                }
            }
        }
        match reading.source {
            None => hash.update(&[0]),
            Some(source) => {
                hash.update(&[1]);
                hash.update(&source.boot.to_le_bytes());
                hash.update(&source.sequence.to_le_bytes());
            }
        }
        Self(hash.digest())
    }
}

/// Lengths here are at most 4096, so they fit.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}

/// 16 hex digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        hex16(text)
            .map(Self)
            .ok_or(IdError::Hex16 { kind: "digest" })
    }
}
