//! Payload bytes to readings; pure, the same code in `run`, `probe` and `decode`.
//!
//! A format ([`json`], [`key_value`], [`csv`], [`number`]) hands each member of a payload to
//! `Members`, which knows the declared roles (device, time, sequence, boot) and keeps the rest as
//! fields. [`Decoded::into_reading`] then adds what the payload does not say. One bad member never
//! takes the others with it: it is named in [`Decoded::rejected`].
//!
//! # A field never changes its type
//!
//! A text does not say whether `21` is a whole quantity or a counter, and the next message may say
//! `21.5`. So **every number is a [`Value::Float`]**, whole or not. A whole number of 2^53 or more
//! would lose digits that way: it is rejected by name, not rounded. Devices that count so far send
//! frames, which carry integers as such.

mod crc16;
pub mod csv;
mod dsmr;
pub mod influx;
pub mod json;
pub mod key_value;
pub mod lines;
mod members;
pub mod mhz19;
pub mod modbus;
pub mod mqtt;
mod nmea;
pub mod number;
pub mod pattern;
mod pms;
pub mod preset;
#[doc(hidden)]
pub mod properties;
mod sds011;
pub mod stream;
pub mod template;
mod text;
pub mod time;
pub mod units;
mod values;
mod ve_direct;

use std::time::Duration;

use protocol::{
    Clock, DeviceId, FieldError, FieldName, Fields, MAX_FIELDS, MAX_TEXT_BYTES, Metadata, Reading,
    SourceId, Timestamp, Value,
};

use crate::{
    clock::Moment,
    config::{LineFormat, Roles},
    ingest::Rejection,
};
pub(crate) use members::{Members, Scalar, excerpt, unique};

/// A device's clock may be this much ahead of a synchronised one.
const AHEAD_US: i64 = 5 * 60 * 1_000_000;
/// No reading is older than the first agents: 2020-01-01. Guards against clocks that start in 1970.
const EARLIEST_US: i64 = 1_577_836_800_000_000;
/// While our own clock is not synchronised there is no "ahead"; then this, 2038-01-01, is the bound:
/// one document beyond it would stop the expiry of a whole time-series collection.
const LATEST_UNSYNCED_US: i64 = 2_145_916_800_000_000;

/// What a payload says, before the agent adds what it does not say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decoded {
    /// The device as the payload names it.
    pub device: Option<String>,
    /// When it was measured, by the device.
    pub time: Option<DeviceTime>,
    /// Values, each name once, each value checked.
    pub fields: Vec<(FieldName, Value)>,
    /// The device's own number.
    pub source: Option<SourceId>,
    /// What the source knows of the device beyond its values.
    pub meta: Vec<(FieldName, Box<str>)>,
    /// Members that could not be kept: name (at most 80 bytes of it) and why.
    pub rejected: Vec<(Box<str>, Problem)>,
}

/// When the device says it measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceTime {
    /// By its own clock.
    At(Timestamp),
    /// This long before it arrived.
    Age(Duration),
}

/// Why one member of a payload is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// NaN, an infinity, or beyond 64-bit floating point.
    #[error("is not a finite number")]
    NotFinite,
    /// A whole number of 2^53 or more.
    #[error("has more digits than a float keeps, send it as text")]
    TooManyDigits,
    /// Ought to be a number, and is none.
    #[error("is not a number")]
    NoNumber,
    /// Declared as a count and is none.
    #[error("is not a number from 0 to 2^64-1")]
    NotANumber,
    /// Longer than [`MAX_TEXT_BYTES`].
    #[error("has {0} bytes of text, {MAX_TEXT_BYTES} are allowed")]
    TextTooLong(usize),
    /// No canonical form.
    #[error(
        "has a name that is empty or longer than {} bytes",
        FieldName::MAX_BYTES
    )]
    Name,
    /// The same name, in its canonical form, more than once: none of them is kept.
    #[error("appears more than once under the same canonical name")]
    Twice,
    /// Nested deeper than [`json::MAX_DEPTH`].
    #[error("is nested deeper than {} levels", json::MAX_DEPTH)]
    TooDeep,
    /// A list longer than a reading may be.
    #[error("is a list of more than {MAX_FIELDS} elements")]
    TooLong,
    /// Declared as the time and not written as declared.
    #[error("is not a time in the declared format")]
    NotATime,
    /// A word where its format has numbers only.
    #[error("is a word, a number is expected")]
    Word,
    /// Of a kind no reading holds.
    #[error("is {0}, which is not kept")]
    NotKept(&'static str),
    /// A number whose name or type no birth certificate has told.
    #[error("has no name or type yet: no birth certificate told it")]
    Unborn,
}

/// Why a payload is no reading at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Bytes that are no text.
    #[error("not UTF-8 at byte {0}")]
    NotUtf8(usize),
    /// Text that is not JSON; places count from 1.
    #[error("not JSON at line {line} column {column}")]
    NotJson {
        /// Line.
        line: usize,
        /// Column in bytes.
        column: usize,
    },
    /// JSON, but not an object.
    #[error("not a JSON object; a bare value needs preset = \"number\"")]
    NotAnObject,
    /// Not CBOR, or not of what SenML is made of.
    #[error("not CBOR at byte {0}")]
    NotCbor(usize),
    /// Not `name=value`.
    #[error("no name=value at byte {0}")]
    NoPair(usize),
    /// Not influx line protocol.
    #[error("not line protocol at byte {0}")]
    NotInflux(usize),
    /// The configured pattern is about other lines.
    #[error("pattern does not match")]
    NoMatch,
    /// As many values as columns are needed.
    #[error("{got} values for {expected} columns")]
    Columns {
        /// In the line.
        got: usize,
        /// Configured.
        expected: usize,
    },
    /// A member with a role appears twice, so it says nothing.
    #[error("member {0:?}, which has a role, appears twice")]
    RoleTwice(Box<str>),
    /// More members than a reading may have.
    #[error("more than {MAX_FIELDS} members")]
    TooManyMembers,
    /// Nothing that can be kept.
    #[error("no value that can be kept ({0} rejected)")]
    NoFields(usize),
    /// The only value, or each of them, cannot be kept; this is the first.
    #[error("no value that can be kept: {name:?} {problem}")]
    Nothing {
        /// What it is called, cut for people.
        name: Box<str>,
        /// What is wrong with it.
        problem: Problem,
    },
    /// Neither topic, payload nor configuration names the device.
    #[error("no device is named; set device, {{device}} in the topic, or a device member")]
    NoDevice,
    /// A name that is no id.
    #[error("device name cannot be used: {0}")]
    Device(protocol::IdError),
    /// The topic names the field, by a name that has no canonical form.
    #[error("field name in the topic has no canonical form")]
    FieldName,
    /// More or longer metadata than allowed.
    #[error("metadata cannot be used: {0}")]
    Metadata(FieldError),
    /// Not what the preset's devices send.
    #[error("{0}")]
    NotAsPreset(&'static str),
    /// Not the bytes of protocol buffers, or not those of this message.
    #[error("not a Sparkplug B payload: {0}")]
    NotProtobuf(Box<str>),
}

impl DecodeError {
    /// The label it is counted under.
    #[must_use]
    pub fn rejection(&self) -> Rejection {
        match self {
            Self::NotUtf8(_)
            | Self::NotJson { .. }
            | Self::NotAnObject
            | Self::NoPair(_)
            | Self::NotAsPreset(_)
            | Self::NotProtobuf(_)
            | Self::NotCbor(_)
            | Self::NotInflux(_)
            | Self::NoMatch
            | Self::Columns { .. } => Rejection::Malformed,
            Self::RoleTwice(_) | Self::FieldName | Self::Metadata(_) => Rejection::BadValue,
            Self::TooManyMembers => Rejection::TooLarge,
            Self::NoFields(_) | Self::Nothing { .. } => Rejection::NoFields,
            Self::NoDevice | Self::Device(_) => Rejection::NoDevice,
        }
    }
}

/// What the agent knows where the payload is silent.
#[derive(Debug, Clone, Copy)]
pub struct Defaults<'a> {
    /// The device, unless the payload names it.
    pub device: Option<&'a DeviceId>,
    /// Metadata, overridden by what the source says.
    pub meta: &'a Metadata,
    /// A device's time older than this is not believed.
    pub max_age: Duration,
}

impl Decoded {
    /// Adds a field.
    pub(crate) fn keep(&mut self, name: FieldName, value: Value) -> Result<(), DecodeError> {
        self.fields.push((name, value));
        self.bounded()
    }

    /// Notes a member that cannot be kept.
    pub(crate) fn reject(&mut self, name: &str, problem: Problem) -> Result<(), DecodeError> {
        self.rejected.push((excerpt(name), problem));
        self.bounded()
    }

    fn bounded(&self) -> Result<(), DecodeError> {
        if self.fields.len() + self.rejected.len() > MAX_FIELDS {
            return Err(DecodeError::TooManyMembers);
        }
        Ok(())
    }

    /// Why it is no reading, for it has no field.
    pub(crate) fn nothing(&self) -> DecodeError {
        match self.rejected.first() {
            Some((name, problem)) => DecodeError::Nothing {
                name: name.clone(),
                problem: problem.clone(),
            },
            None => DecodeError::NoFields(0),
        }
    }

    /// Makes the reading that arrived at `at`.
    ///
    /// # Errors
    /// No device, no field, or metadata beyond the bounds.
    pub fn into_reading(
        self,
        defaults: &Defaults<'_>,
        at: &Moment,
    ) -> Result<Reading, DecodeError> {
        let device = match (self.device, defaults.device) {
            (Some(name), _) => DeviceId::encode(&name).map_err(DecodeError::Device)?,
            (None, Some(device)) => device.clone(),
            (None, None) => return Err(DecodeError::NoDevice),
        };
        let (time, clock) = judge(self.time, at, defaults.max_age);
        let rejected = self.rejected.len();
        let fields = Fields::new(self.fields).map_err(|error| match error {
            FieldError::Count(0) => DecodeError::NoFields(rejected),
            // Names are unique and values checked by `Members`, so only the count is left.
            _ => DecodeError::TooManyMembers,
        })?;
        Ok(Reading {
            device,
            time,
            clock,
            fields,
            source: self.source,
            meta: merge(defaults.meta, self.meta)?,
        })
    }
}

/// Adds entries to metadata; the added ones win.
///
/// # Errors
/// [`DecodeError::Metadata`].
pub fn merge(base: &Metadata, added: Vec<(FieldName, Box<str>)>) -> Result<Metadata, DecodeError> {
    if added.is_empty() {
        return Ok(base.clone());
    }
    let mut entries: Vec<(FieldName, Box<str>)> = base
        .iter()
        .filter(|(name, _)| !added.iter().any(|(other, _)| other == *name))
        .map(|(name, text)| (name.clone(), text.into()))
        .collect();
    entries.extend(added);
    Metadata::new(entries).map_err(DecodeError::Metadata)
}

/// The time that counts, and what it is worth.
fn judge(time: Option<DeviceTime>, at: &Moment, max_age: Duration) -> (Timestamp, Clock) {
    let now = at.wall.as_micros();
    let max_age = i64::try_from(max_age.as_micros()).unwrap_or(i64::MAX);
    if let Some(DeviceTime::At(time)) = time {
        let micros = time.as_micros();
        let latest = if at.synced {
            now.saturating_add(AHEAD_US)
        } else {
            LATEST_UNSYNCED_US
        };
        // A clock that is not synchronised is behind, not ahead (it resumes where it stopped), so the
        // lower bound holds in either case.
        let earliest = now.saturating_sub(max_age).max(EARLIEST_US);
        if (earliest..=latest).contains(&micros) {
            return (time, Clock::Device);
        }
    }
    let age = match time {
        Some(DeviceTime::Age(age)) => i64::try_from(age.as_micros()).unwrap_or(i64::MAX),
        _ => 0,
    };
    let age = if age > max_age { 0 } else { age };
    let clock = if at.synced {
        Clock::Synced
    } else {
        Clock::Unsynced {
            boot: at.boot,
            monotonic_us: at.monotonic_us.saturating_sub(age.unsigned_abs()),
        }
    };
    let time = Timestamp::from_micros(now.saturating_sub(age)).unwrap_or(at.wall);
    (time, clock)
}

/// Reads one line of text.
///
/// # Errors
/// [`DecodeError`].
pub fn line(bytes: &[u8], format: &LineFormat, roles: &Roles) -> Result<Decoded, DecodeError> {
    match format {
        LineFormat::Json => json::decode(bytes, roles),
        LineFormat::KeyValue => key_value::decode(bytes, roles),
        LineFormat::Csv { separator, columns } => csv::decode(bytes, *separator, columns, roles),
        LineFormat::Influx => influx::decode(bytes, roles),
        LineFormat::Regex(pattern) => pattern.decode(bytes, roles),
    }
}

#[cfg(test)]
mod tests;
