//! CloudEvents in structured mode: the attributes and the data in one JSON object.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use protocol::header::{Headers, TIME};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Reason, Undecodable, foreign::Attributes};
use crate::message::Message;

/// `content-type` of an event in structured mode.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

#[derive(Deserialize)]
struct Envelope<'a> {
    specversion: String,
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    subject: Option<String>,
    time: Option<String>,
    datacontenttype: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
}

/// An event as if it had come in binary mode.
pub struct Event<'a> {
    pub headers: Headers,
    pub attributes: Attributes,
    pub data: Cow<'a, [u8]>,
}

/// Opens the envelope.
///
/// # Errors
/// [`Reason::DecodeFailed`], [`Reason::VersionUnknown`], [`Reason::Empty`] without data.
pub fn open<'a>(value: &'a [u8], outer: &Headers) -> Result<Event<'a>, Undecodable> {
    let failed = |detail: String| Undecodable::new(Reason::DecodeFailed, detail);
    let envelope: Envelope<'_> = serde_json::from_slice(value)
        .map_err(|error| failed(format!("no structured CloudEvent: {error}")))?;
    if envelope.specversion != "1.0" {
        let detail = format!("CloudEvents {:?} is not 1.0", envelope.specversion);
        return Err(Undecodable::new(Reason::VersionUnknown, detail));
    }
    let data = match (envelope.data, envelope.data_base64) {
        (Some(data), None) => Cow::Borrowed(data.get().as_bytes()),
        (None, Some(text)) => match BASE64_STANDARD.decode(text) {
            Ok(bytes) => Cow::Owned(bytes),
            Err(error) => return Err(failed(format!("data_base64: {error}"))),
        },
        (Some(_), Some(_)) => return Err(failed("both data and data_base64".into())),
        (None, None) => return Err(Undecodable::new(Reason::Empty, "an event without data")),
    };
    // JSON where nothing else is said.
    let form = envelope
        .datacontenttype
        .as_deref()
        .unwrap_or("application/json");
    let form = form.split(';').next().unwrap_or_default();
    Ok(Event {
        headers: Headers {
            id: envelope.id.and_then(|id| id.parse().ok()),
            digest: outer.digest,
            content_type: Some(form.trim().to_ascii_lowercase()),
            event_type: Some(envelope.kind),
            hops: outer.hops,
        },
        attributes: Attributes {
            subject: envelope.subject,
            time: envelope.time.and_then(|time| time.parse().ok()),
        },
        data,
    })
}

/// What the headers of an event in binary mode say beside its data.
pub fn attributes(message: &Message, headers: &Headers) -> Attributes {
    match headers.event_type {
        None => Attributes::default(),
        Some(_) => Attributes {
            subject: message.header(protocol::header::SUBJECT).map(str::to_owned),
            time: message.header(TIME).and_then(|time| time.parse().ok()),
        },
    }
}
