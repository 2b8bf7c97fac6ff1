//! In what form a value is, by its content type, else by its first bytes.

use protocol::{
    Record,
    header::{CONTENT_TYPE, Headers},
    record::{self, RecordError},
    schema::{RECORD_NAME, SchemaId},
};
use serde_json::{Map, Value as Json};

use super::{
    Reason, Schema, Undecodable,
    avro::{self, Plan},
    member::{Member, Members},
    ours,
};
use crate::message::Message;

/// A value and how to read it.
#[derive(Debug)]
pub enum Form<'a> {
    Json(&'a [u8]),
    Postcard(&'a [u8]),
    Avro(&'a Plan, &'a [u8]),
}

/// Whether the headers say that the value is our own compact form, which has no schema.
pub fn is_postcard(message: &Message) -> bool {
    message.header(CONTENT_TYPE) == Some(record::postcard::CONTENT_TYPE)
}

impl<'a> Form<'a> {
    /// Decides.
    pub fn of(
        headers: &Headers,
        value: &'a [u8],
        schema: Option<&'a Schema>,
    ) -> Result<Self, Undecodable> {
        let content_type = headers.content_type.as_deref();
        if content_type == Some(record::postcard::CONTENT_TYPE) {
            return Ok(Self::Postcard(value));
        }
        // Neither a JSON text nor anything else that is read here begins with a zero.
        if let Some((id, body)) = SchemaId::read(value) {
            return match schema {
                Some(Schema::Avro(plan)) => Ok(Self::Avro(plan, body)),
                Some(Schema::Json) => Ok(Self::Json(body)),
                Some(Schema::Unknown(cause)) => Err(cause.clone()),
                None => Err(Undecodable::new(
                    Reason::SchemaUnknown,
                    format!("schema {id}, and no registry is configured: schema.registry.url"),
                )),
            };
        }
        match content_type {
            Some(record::json::CONTENT_TYPE) => return Ok(Self::Json(value)),
            Some(other) if !other.ends_with("+json") => {
                return Err(Undecodable::new(
                    Reason::MagicUnknown,
                    format!("content type {other:?} is not read by this sink"),
                ));
            }
            _ => {}
        }
        match value.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => Ok(Self::Json(value)),
            first => Err(Undecodable::new(
                Reason::MagicUnknown,
                match first {
                    Some(0) => "first byte 0, and no schema id behind it".into(),
                    Some(byte) => {
                        let form = content_type.unwrap_or("none");
                        format!("content type {form}, and first byte {byte:#04x} is not '{{'")
                    }
                    None => "only white space".into(),
                },
            )),
        }
    }

    /// Whether it can be nobody's but ours.
    pub fn is_ours(&self) -> bool {
        match self {
            Self::Json(_) => false,
            Self::Postcard(_) => true,
            Self::Avro(plan, _) => family(plan).is_some(),
        }
    }

    /// Whether the gateway that a JSON value names is the key, as in every version of our records.
    pub fn is_of_key(&self, key: Option<&[u8]>) -> bool {
        #[derive(serde::Deserialize)]
        struct Named {
            gateway: String,
        }
        let Self::Json(value) = self else {
            return false;
        };
        let named = serde_json::from_slice::<Named>(value);
        named.is_ok_and(|named| key == Some(named.gateway.as_bytes()))
    }

    /// Reads one of our records.
    pub fn record(&self) -> Result<Record, Undecodable> {
        match self {
            Self::Json(value) => record::json::decode(value).map_err(refused),
            Self::Postcard(value) => record::postcard::decode(value).map_err(refused),
            Self::Avro(plan, body) => match family(plan) {
                Some(RECORD_NAME) => avro::read(plan, body)
                    .and_then(ours::record)
                    .map_err(|error| Undecodable::new(Reason::DecodeFailed, error)),
                Some(newer) => Err(Undecodable::new(
                    Reason::VersionUnknown,
                    format!("a record {newer:?} is not {RECORD_NAME}"),
                )),
                None => Err(Undecodable::new(
                    Reason::DecodeFailed,
                    format!("the schema is not that of {RECORD_NAME}"),
                )),
            },
        }
    }

    /// Reads an object of anybody's.
    pub fn object(&self) -> Result<Members<'a>, Undecodable> {
        let failed = |detail: String| Undecodable::new(Reason::DecodeFailed, detail);
        match self {
            Self::Json(value) => {
                let object: Map<String, Json> = serde_json::from_slice(value)
                    .map_err(|error| failed(format!("no JSON object: {error}")))?;
                let members = object.into_iter();
                Ok(members
                    .map(|(name, value)| (name.into(), Member::from(value)))
                    .collect())
            }
            Self::Postcard(_) => Err(failed("not a CloudEvent of ours, in a form of ours".into())),
            Self::Avro(plan, body) => avro::read(plan, body).map_err(failed),
        }
    }
}

/// The record's name, where it is a reading of ours of whatever version.
fn family(plan: &Plan) -> Option<&str> {
    plan.name
        .as_deref()
        .filter(|name| name.starts_with("edge.reading."))
}

fn refused(error: RecordError) -> Undecodable {
    let reason = match error {
        RecordError::UnknownVersion(_) => Reason::VersionUnknown,
        RecordError::Malformed(_) => Reason::DecodeFailed,
    };
    Undecodable::new(reason, error.to_string())
}
