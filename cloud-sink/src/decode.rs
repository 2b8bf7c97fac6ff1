//! What a Kafka record says: a reading, ours or foreign, or why it is none. Pure.
//!
//! A record is **ours** when its event type says so, or when it has no event type of another's and
//! reads as one of our records: then key, id header and value must agree, for a record whose identity
//! is in doubt must not be stored under either name. Anything else is **foreign** and is stored under
//! its place in Kafka when it is an object with a device and values. The rest are dead letters.
//!
//! | value | read as |
//! |---|---|
//! | byte 0 and a schema id | Avro or JSON, as the registry says ([`Schema`]) |
//! | `application/cloudevents+json` | a CloudEvent in structured mode, its data by its own content type |
//! | postcard by its content type | ours |
//! | JSON by its content type or its `{` | ours or foreign |

mod avro;
mod event;
mod foreign;
mod form;
mod member;
mod ours;
#[doc(hidden)]
pub mod properties;
mod registered;

use protocol::{
    Record, RecordId,
    control::{Fact, FactError},
    header::{Headers, READING_V1},
    schema::SchemaId,
};

pub use registered::Schema;

use self::form::Form;
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
    /// The value names a schema that the registry does not have, or that this sink cannot read by.
    SchemaUnknown,
    /// Key, id header and value name different identities.
    IdMismatch,
    /// The digest header and the value's digest differ.
    DigestMismatch,
    /// A foreign object that names no device.
    DeviceMissing,
    /// A foreign object without a value that can be stored.
    FieldsMissing,
    /// MongoDB refuses exactly this document.
    Refused,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::Empty,
        Self::VersionUnknown,
        Self::DecodeFailed,
        Self::MagicUnknown,
        Self::SchemaUnknown,
        Self::IdMismatch,
        Self::DigestMismatch,
        Self::DeviceMissing,
        Self::FieldsMissing,
        Self::Refused,
    ];

    /// The word used in headers, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::VersionUnknown => "version_unknown",
            Self::DecodeFailed => "decode_failed",
            Self::MagicUnknown => "magic_unknown",
            Self::SchemaUnknown => "schema_unknown",
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

/// The schema a record is to be read by, where it names one: to be had before [`reading`].
#[must_use]
pub fn schema_id(message: &Message) -> Option<SchemaId> {
    let (id, _) = SchemaId::read(message.value()?)?;
    (!form::is_postcard(message)).then_some(id)
}

/// Reads a record of a readings topic. `schema` is that of [`schema_id`], where there is a registry;
/// `with_hops` keeps the gateway's hop times.
///
/// # Errors
/// Why it goes to the dead-letter topic.
pub fn reading(
    message: &Message,
    schema: Option<&Schema>,
    with_hops: bool,
) -> Result<Document, Undecodable> {
    let value = match message.value() {
        Some(value) if !value.is_empty() => value,
        _ => return Err(Undecodable::new(Reason::Empty, "no value")),
    };
    let headers = headers(message);
    if headers.content_type.as_deref() == Some(event::CONTENT_TYPE) {
        let event = event::open(value, &headers)?;
        let form = Form::of(&event.headers, &event.data, None)?;
        return document(
            message,
            &event.headers,
            &form,
            || event.attributes,
            with_hops,
        );
    }
    let form = Form::of(&headers, value, schema)?;
    let attributes = || event::attributes(message, &headers);
    document(message, &headers, &form, attributes, with_hops)
}

fn headers(message: &Message) -> Headers {
    let headers = message.headers();
    Headers::read(headers.filter_map(|(name, value)| Some((name, value?))))
}

fn document(
    message: &Message,
    headers: &Headers,
    form: &Form<'_>,
    attributes: impl FnOnce() -> foreign::Attributes,
    with_hops: bool,
) -> Result<Document, Undecodable> {
    let ours = |record| Document::ours(record).passing(headers.hops, &message.at, with_hops);
    // Only these are looked for in the headers, and only here: most records are ours.
    let foreign = || foreign::reading(message, form.object()?, attributes());
    match headers.event_type.as_deref() {
        Some(READING_V1) => checked(headers, message.key(), form.record()?).map(ours),
        Some(newer) if newer.starts_with("edge.reading.") => Err(Undecodable::new(
            Reason::VersionUnknown,
            format!("event type {newer:?} is not {READING_V1}"),
        )),
        Some(_) => foreign(),
        // Copied by a tool that loses headers: still ours if the value and the key prove it.
        None => match form.record() {
            Ok(record) => checked(headers, message.key(), record).map(ours),
            Err(error) if form.is_ours() => Err(error),
            // Newer, and ours by the same proof: it must not pass for somebody else's.
            Err(error)
                if error.reason == Reason::VersionUnknown && form.is_of_key(message.key()) =>
            {
                Err(error)
            }
            Err(_) => foreign(),
        },
    }
}

/// Which reading of ours a record that may be damaged claims to be, so that an audit finds it among the
/// dead letters; `None` where it does not say so plainly.
#[must_use]
pub fn identity(message: &Message) -> Option<RecordId> {
    let headers = headers(message);
    let id = match headers.id {
        Some(id) => id,
        None => {
            let form = Form::of(&headers, message.value()?, None).ok()?;
            form.record().ok()?.id
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
