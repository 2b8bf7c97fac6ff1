//! What a Kafka record says: a reading, ours or foreign, or why it is none. Pure.
//!
//! A record is **ours** when its event type says so, or when it has no event type of another's and
//! reads as one of our records: then key, id header and value must agree, for a record whose identity
//! is in doubt must not be stored under either name. Anything else is **foreign** and is stored under
//! its place in Kafka when it is a JSON object with a device and values. The rest are dead letters.

mod foreign;

use protocol::{
    Record, RecordId,
    control::{Fact, FactError},
    header::{Headers, READING_V1},
    record::{self, RecordError},
};

use crate::{document::Document, excerpt::excerpt, message::Message};

/// Why a record goes to the dead-letter topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// No value, or an empty one.
    Empty,
    /// A version of our records that this build does not know: update the sink, then replay.
    VersionUnknown,
    /// The value is not what its headers promise.
    DecodeFailed,
    /// Neither a content type nor a first byte that this sink reads.
    MagicUnknown,
    /// Key, id header and value name different identities.
    IdMismatch,
    /// The digest header and the value's digest differ.
    DigestMismatch,
    /// A foreign object without a device.
    DeviceMissing,
    /// A foreign object without a value that can be stored.
    FieldsMissing,
    /// MongoDB refuses exactly this document.
    Refused,
}

impl Reason {
    /// The word used in headers, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::VersionUnknown => "version_unknown",
            Self::DecodeFailed => "decode_failed",
            Self::MagicUnknown => "magic_unknown",
            Self::IdMismatch => "id_mismatch",
            Self::DigestMismatch => "digest_mismatch",
            Self::DeviceMissing => "device_missing",
            Self::FieldsMissing => "fields_missing",
            Self::Refused => "refused",
        }
    }
}

/// Why a record is no reading, with what a person needs to see; without the payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.as_str())]
pub struct Undecodable {
    /// The kind, for counting.
    pub reason: Reason,
    /// In one line, at most [`MAX_DETAIL`] bytes.
    pub detail: String,
}

/// Longest detail, in bytes: it may quote the record.
pub const MAX_DETAIL: usize = 240;

impl Undecodable {
    /// Shortens the detail to its bound.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let detail = excerpt(&detail.into(), MAX_DETAIL).to_owned();
        Self { reason, detail }
    }
}

/// Reads a record of a readings topic. `with_hops` keeps the gateway's hop times.
///
/// # Errors
/// Why it goes to the dead-letter topic.
pub fn reading(message: &Message, with_hops: bool) -> Result<Document, Undecodable> {
    let value = match message.value() {
        Some(value) if !value.is_empty() => value,
        _ => return Err(Undecodable::new(Reason::Empty, "no value")),
    };
    let headers = Headers::read(
        message
            .headers()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let form = Form::of(&headers, value)?;
    let ours = |record| Document::ours(record).passing(headers.hops, &message.at, with_hops);
    match headers.event_type.as_deref() {
        Some(READING_V1) => {
            let record = form.decode(value).map_err(refused)?;
            checked(&headers, message.key(), record).map(ours)
        }
        Some(newer) if newer.starts_with("edge.reading.") => Err(Undecodable::new(
            Reason::VersionUnknown,
            format!("event type {newer:?} is not {READING_V1}"),
        )),
        Some(_) => foreign::reading(message, value),
        // Copied by a tool that loses headers: still ours if the value and the key prove it.
        None => match form.decode(value) {
            Ok(record) => checked(&headers, message.key(), record).map(ours),
            Err(error) if form == Form::Postcard => Err(refused(error)),
            // Newer, and ours by the same proof: it must not pass for somebody else's.
            Err(error @ RecordError::UnknownVersion(_)) if is_of_key(value, message.key()) => {
                Err(refused(error))
            }
            Err(_) => foreign::reading(message, value),
        },
    }
}

/// Which reading of ours a record that may be damaged claims to be, so that an audit finds it among the
/// dead letters; `None` where it does not say so plainly.
#[must_use]
pub fn identity(message: &Message) -> Option<RecordId> {
    let headers = message.headers();
    let headers = Headers::read(headers.filter_map(|(name, value)| Some((name, value?))));
    let id = match headers.id {
        Some(id) => id,
        None => {
            let value = message.value()?;
            let form = Form::of(&headers, value).ok()?;
            form.decode(value).ok()?.id
        }
    };
    (message.key() == Some(id.gateway.as_str().as_bytes())).then_some(id)
}

/// Reads a record of the control topic.
///
/// # Errors
/// Why it goes to the dead-letter topic; [`Reason::Empty`] is a tombstone.
pub fn fact(message: &Message) -> Result<Fact, Undecodable> {
    let value = match message.value() {
        Some(value) if !value.is_empty() => value,
        _ => return Err(Undecodable::new(Reason::Empty, "tombstone")),
    };
    let fact = Fact::decode(value).map_err(|error| {
        let reason = match error {
            FactError::UnknownVersion(_) => Reason::VersionUnknown,
            FactError::Malformed(_) => Reason::DecodeFailed,
        };
        Undecodable::new(reason, error.to_string())
    })?;
    // Facts are ordered by the offsets of their key.
    if message.key() != Some(fact.key().as_bytes()) {
        let detail = format!("key is not {}", fact.key());
        return Err(Undecodable::new(Reason::IdMismatch, detail));
    }
    Ok(fact)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Postcard,
}

impl Form {
    /// By content type, else by the first byte.
    fn of(headers: &Headers, value: &[u8]) -> Result<Self, Undecodable> {
        match headers.content_type.as_deref() {
            Some(record::postcard::CONTENT_TYPE) => return Ok(Self::Postcard),
            Some(record::json::CONTENT_TYPE) => return Ok(Self::Json),
            Some(other) if !other.ends_with("+json") => {
                return Err(Undecodable::new(
                    Reason::MagicUnknown,
                    format!("content type {other:?} is not read by this sink"),
                ));
            }
            _ => {}
        }
        match value.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => Ok(Self::Json),
            first => Err(Undecodable::new(
                Reason::MagicUnknown,
                match first {
                    Some(0) => {
                        "first byte 0: a schema registry id, which this sink does not read".into()
                    }
                    Some(byte) => {
                        format!("no content type, and first byte {byte:#04x} is not '{{'")
                    }
                    None => "only white space".into(),
                },
            )),
        }
    }

    fn decode(self, value: &[u8]) -> Result<Record, RecordError> {
        match self {
            Self::Json => record::json::decode(value),
            Self::Postcard => record::postcard::decode(value),
        }
    }
}

/// Whether the gateway that a JSON value names is the key, as in every version of our records.
fn is_of_key(value: &[u8], key: Option<&[u8]>) -> bool {
    #[derive(serde::Deserialize)]
    struct Named {
        gateway: String,
    }
    let named = serde_json::from_slice::<Named>(value);
    named.is_ok_and(|named| key == Some(named.gateway.as_bytes()))
}

fn refused(error: RecordError) -> Undecodable {
    let reason = match error {
        RecordError::UnknownVersion(_) => Reason::VersionUnknown,
        RecordError::Malformed(_) => Reason::DecodeFailed,
    };
    Undecodable::new(reason, error.to_string())
}

/// Key, headers and value must speak of the same reading.
fn checked(headers: &Headers, key: Option<&[u8]>, record: Record) -> Result<Record, Undecodable> {
    let mismatch = |detail: String| Err(Undecodable::new(Reason::IdMismatch, detail));
    if key != Some(record.id.gateway.as_str().as_bytes()) {
        return mismatch(format!("key is not the gateway of {}", record.id));
    }
    if headers.event_type.is_some() && headers.id.as_ref() != Some(&record.id) {
        return mismatch(match &headers.id {
            Some(id) => format!("header names {id}, value {}", record.id),
            None => format!("no readable id header, value names {}", record.id),
        });
    }
    match headers.digest {
        Some(digest) if digest != record.digest => Err(Undecodable::new(
            Reason::DigestMismatch,
            format!("header says {digest}, value {}", record.digest),
        )),
        _ => Ok(record),
    }
}

#[cfg(test)]
mod tests;
