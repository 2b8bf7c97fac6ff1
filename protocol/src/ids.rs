//! Who and which: gateway, device, topic, epoch, record.
//!
//! Every id is checked when it is made and when it is read back, so code that holds one never checks again.

use alloc::{boxed::Box, format, string::String};
use core::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::as_text;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty or longer than the kind allows.
    #[error("{kind} must have 1 to {max} bytes, not {got}")]
    Length {
        /// What the text should have been.
        kind: &'static str,
        /// Longest allowed, in bytes.
        max: usize,
        /// Length found, in bytes.
        got: usize,
    },
    /// A character outside the allowed set.
    #[error("{kind} may hold {allowed}, not {found:?} at byte {at}")]
    Character {
        /// What the text should have been.
        kind: &'static str,
        /// The allowed set, for people.
        allowed: &'static str,
        /// The first character that is not allowed.
        found: char,
        /// Where it stands, in bytes from the start.
        at: usize,
    },
    /// Not of the form `gateway:eeeeeeeeeeee:ssssssssssss`, or a number out of 48 bits.
    #[error("record id must be gateway:epoch:sequence with 12 hex digits each")]
    RecordId,
    /// A digest or a boot id that is not written as this crate writes it.
    #[error("{kind} must be 16 digits of 0-9 a-f")]
    Hex16 {
        /// What the text should have been.
        kind: &'static str,
    },
}

/// Which bytes a kind of text may hold: a table, since each name that is read is checked byte by byte.
pub(crate) struct ByteSet([bool; 256]);

impl ByteSet {
    pub(crate) const fn of(allowed: &[u8]) -> Self {
        let mut set = [false; 256];
        let mut at = 0;
        while at < allowed.len() {
            set[allowed[at] as usize] = true;
            at += 1;
        }
        Self(set)
    }

    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte)]
    }

    /// Whether all of a text is allowed.
    pub(crate) fn covers(&self, text: &str) -> bool {
        text.bytes().all(|byte| self.has(byte))
    }
}

fn check(
    text: &str,
    kind: &'static str,
    max: usize,
    allowed: &'static str,
    set: &ByteSet,
) -> Result<(), IdError> {
    if text.is_empty() || text.len() > max {
        return Err(IdError::Length {
            kind,
            max,
            got: text.len(),
        });
    }
    // All that is allowed is ASCII: the first byte that is not begins a character.
    let at = text.bytes().position(|byte| !set.has(byte));
    match at.and_then(|at| Some((at, text.get(at..)?.chars().next()?))) {
        Some((at, found)) => Err(IdError::Character {
            kind,
            allowed,
            found,
            at,
        }),
        None => Ok(()),
    }
}

/// A text type that holds only what its check lets through.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal, $allowed:literal, $bytes:literal) => {
        $(#[$doc])*
        // Written as what is inside: `into` would clone it first.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(Box<str>);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                as_text::deserialize(from)
            }
        }

        impl $name {
            /// Longest allowed, in bytes.
            pub const MAX_BYTES: usize = $max;

            /// Takes the text if it keeps the rule.
            ///
            /// # Errors
            /// The length or the first character that breaks it.
            pub fn new(text: impl Into<Box<str>>) -> Result<Self, IdError> {
                let text = text.into();
                static SET: ByteSet = ByteSet::of($bytes);
                check(&text, $kind, $max, $allowed, &SET)?;
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<Box<str>> for $name {
            type Error = IdError;
            fn try_from(text: Box<str>) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

text_id!(
    /// The box that runs the agent; also the Kafka key of all its records.
    GatewayId, "gateway id", 64, "a-z 0-9 . _ -",
    b"abcdefghijklmnopqrstuvwxyz0123456789._-"
);

text_id!(
    /// The device that measured, unique within its gateway.
    DeviceId, "device id", 128, "A-Z a-z 0-9 . _ ~ / + % -",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~/+%-"
);

text_id!(
    /// A Kafka topic, and the lane of the queue that feeds it.
    Topic, "topic", 249, "A-Z a-z 0-9 . _ -",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
);

impl DeviceId {
    /// Makes an id of whatever a source calls its device. Bytes outside the set (and `%` itself) are
    /// percent-encoded, so two names never become one id.
    ///
    /// # Errors
    /// [`IdError::Length`] when the name is empty or too long once encoded.
    pub fn encode(name: &str) -> Result<Self, IdError> {
        let stays = |b: u8| {
            b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'/' | b'+' | b'-')
        };
        // Measured before it is built: a name may be a whole message of somebody's.
        let got = name.bytes().map(|b| if stays(b) { 1 } else { 3 }).sum();
        if got > Self::MAX_BYTES {
            return Err(IdError::Length {
                kind: "device id",
                max: Self::MAX_BYTES,
                got,
            });
        }
        let mut encoded = String::with_capacity(got);
        for byte in name.bytes() {
            if stays(byte) {
                encoded.push(char::from(byte));
            } else {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
        Self::new(encoded)
    }
}

/// One uninterrupted run of one lane's writer: 48 random bits, chosen at the first commit after a start.
///
/// A lost tail, a restored disk image or a cloned card starts a new epoch and can so never reuse a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Epoch(u64);

impl Epoch {
    /// Keeps the low 48 bits of what a random source gave.
    #[must_use]
    pub const fn from_random(bits: u64) -> Self {
        Self(bits & RecordId::MAX_48)
    }

    /// The number, below 2^48.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Epoch {
    type Error = IdError;
    fn try_from(bits: u64) -> Result<Self, IdError> {
        if bits > RecordId::MAX_48 {
            Err(IdError::RecordId)
        } else {
            Ok(Self(bits))
        }
    }
}

impl From<Epoch> for u64 {
    fn from(epoch: Epoch) -> Self {
        epoch.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Epoch {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        hex12(text).map(Self)
    }
}

/// One boot of a machine: half of the kernel's random boot id, enough to tell the boots of one box apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct BootId(pub u64);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for BootId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        hex16(text)
            .map(Self)
            .ok_or(IdError::Hex16 { kind: "boot id" })
    }
}

/// The identity of a reading, and of its document: `gateway:eeeeeeeeeeee:ssssssssssss`.
///
/// Fixed width, so that ids sort and range-scan in the order of the queue.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RecordId {
    /// The box that gave the number.
    pub gateway: GatewayId,
    /// The run of the lane's writer that gave it.
    pub epoch: Epoch,
    /// Counts from 0 within the epoch, without gaps; below 2^48.
    #[serde(deserialize_with = "sequence")]
    pub sequence: u64,
}

impl RecordId {
    /// Largest epoch and largest sequence.
    pub const MAX_48: u64 = (1 << 48) - 1;
}

fn sequence<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    match u64::deserialize(from)? {
        sequence if sequence > RecordId::MAX_48 => Err(de::Error::custom(IdError::RecordId)),
        sequence => Ok(sequence),
    }
}

/// One text for one number: fixed width, lower case, no sign.
fn hex(text: &str, digits: usize) -> Option<u64> {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() != digits || !text.bytes().all(digit) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

fn hex12(text: &str) -> Result<u64, IdError> {
    hex(text, 12).ok_or(IdError::RecordId)
}

/// What digests and boot ids are written in.
pub(crate) fn hex16(text: &str) -> Option<u64> {
    hex(text, 16)
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{:012x}", self.gateway, self.epoch, self.sequence)
    }
}

impl FromStr for RecordId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut parts = text.splitn(3, ':');
        let (Some(gateway), Some(epoch), Some(sequence)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(IdError::RecordId);
        };
        Ok(Self {
            gateway: gateway.parse()?,
            epoch: epoch.parse()?,
            sequence: hex12(sequence)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn record_id_is_fixed_width_and_reads_back() {
        let text = "gw7:1f3a9c04d2be:00000001584d";
        let id: RecordId = text.parse().unwrap();
        assert_eq!(id.sequence, 88_141);
        assert_eq!(id.to_string(), text);
    }

    #[test]
    fn malformed_record_ids_are_refused() {
        for text in [
            "",
            "gw7",
            "gw7:1:2",
            "gw7:1F3A9C04D2BE:00000001584d",
            "GW:1f3a9c04d2be:00000001584d",
            "gw7:1f3a9c04d2be:00000001584d:x",
        ] {
            assert!(text.parse::<RecordId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_sequence_beyond_48_bits_is_no_record_id_in_any_form() {
        let json = |sequence: u64| {
            serde_json::from_str::<RecordId>(&format!(
                "{{\"gateway\":\"gw7\",\"epoch\":1,\"sequence\":{sequence}}}"
            ))
        };
        assert!(json(RecordId::MAX_48).is_ok());
        assert!(json(RecordId::MAX_48 + 1).is_err());
        assert!(
            "gw7:000000000001:1000000000000"
                .parse::<RecordId>()
                .is_err()
        );
    }

    #[test]
    fn boot_ids_have_one_spelling() {
        let boot: BootId = "00000000000000ff".parse().unwrap();
        assert_eq!(boot, BootId(255));
        for text in ["ff", "+0000000000000ff", "00000000000000FF", ""] {
            assert!(text.parse::<BootId>().is_err(), "{text}");
        }
    }

    #[test]
    fn device_names_are_encoded_byte_by_byte_and_measured_before() {
        let id = DeviceId::encode("Küche 1%").unwrap();
        assert_eq!(id.as_str(), "K%C3%BCche%201%25");
        assert!(DeviceId::encode("").is_err());
        assert_eq!(
            DeviceId::encode(&"ü".repeat(50)),
            Err(IdError::Length {
                kind: "device id",
                max: 128,
                got: 300
            })
        );
    }

    #[test]
    fn the_error_names_the_character_and_its_place() {
        let error = GatewayId::new("gw 7").unwrap_err();
        assert_eq!(
            error.to_string(),
            "gateway id may hold a-z 0-9 . _ -, not ' ' at byte 2"
        );
    }

    proptest! {
        #[test]
        fn two_device_names_never_share_an_id(a in ".{1,20}", b in ".{1,20}") {
            let (x, y) = (DeviceId::encode(&a), DeviceId::encode(&b));
            if let (Ok(x), Ok(y)) = (x, y) {
                prop_assert_eq!(a == b, x == y);
            }
        }
    }
}
