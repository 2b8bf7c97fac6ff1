//! The bytes of a Sparkplug B payload: `sparkplug_b.proto` of the specification, as far as readings go.
//!
//! Metrics stay bytes until each is looked at: one that is damaged takes no other along, and a megabyte
//! of empty ones does not become a hundred megabytes of structs. Data sets and files are recognised and
//! not opened.
//!
//! A payload whose `uuid` says so holds another one, compressed, in its `body` (Eclipse Tahu,
//! `PayloadUtil`; the metric `algorithm` says `DEFLATE`, which is also what silence means, or `GZIP`). It is
//! unpacked up to the size any payload may have, and once.

use std::io::{self, Read};

use flate2::read::{GzDecoder, ZlibDecoder};
use prost::{Message, Oneof, bytes::Bytes};
use protocol::{MAX_TEXT_BYTES, Value};

use crate::decode::{DecodeError, Problem, excerpt};

/// Most metrics of one payload.
pub(super) const MAX_METRICS: usize = 10_000;
/// Most bytes of a payload that was compressed, as of any message.
const MAX_EXPANDED: u64 = 1 << 20;
const COMPRESSED: &str = "SPBV1.0_COMPRESSED";
/// Deepest template in a template.
pub(super) const MAX_TEMPLATES: usize = 4;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Payload {
    #[prost(uint64, optional, tag = "1")]
    pub timestamp: Option<u64>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub metrics: Vec<Bytes>,
    #[prost(uint64, optional, tag = "3")]
    pub seq: Option<u64>,
    #[prost(string, optional, tag = "4")]
    pub uuid: Option<String>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub body: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(uint64, optional, tag = "2")]
    pub alias: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "4")]
    pub datatype: Option<u32>,
    #[prost(bool, optional, tag = "6")]
    pub is_transient: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub is_null: Option<bool>,
    #[prost(message, optional, tag = "9")]
    pub properties: Option<PropertySet>,
    #[prost(oneof = "Raw", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18")]
    pub value: Option<Raw>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Raw {
    #[prost(uint32, tag = "10")]
    Int(u32),
    #[prost(uint64, tag = "11")]
    Long(u64),
    #[prost(float, tag = "12")]
    Float(f32),
    #[prost(double, tag = "13")]
    Double(f64),
    #[prost(bool, tag = "14")]
    Bool(bool),
    #[prost(string, tag = "15")]
    Text(String),
    #[prost(bytes = "vec", tag = "16")]
    Bytes(Vec<u8>),
    #[prost(bytes = "vec", tag = "17")]
    DataSet(Vec<u8>),
    #[prost(message, tag = "18")]
    Template(Template),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Template {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub metrics: Vec<Bytes>,
    #[prost(bool, optional, tag = "5")]
    pub is_definition: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PropertySet {
    #[prost(string, repeated, tag = "1")]
    pub keys: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    pub values: Vec<PropertyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PropertyValue {
    #[prost(string, optional, tag = "8")]
    pub string_value: Option<String>,
}

/// Reads the frame of a payload, its metrics unopened.
pub(super) fn read(bytes: &[u8]) -> Result<Payload, DecodeError> {
    let outer = frame(Bytes::copy_from_slice(bytes))?;
    if outer.uuid.as_deref() != Some(COMPRESSED) {
        return Ok(outer);
    }
    let mut inner = frame(expand(&outer)?.into())?;
    if inner.uuid.as_deref() == Some(COMPRESSED) {
        return Err(DecodeError::NotAsPreset(
            "a Sparkplug payload that was compressed twice",
        ));
    }
    inner.seq = inner.seq.or(outer.seq);
    Ok(inner)
}

fn frame(bytes: Bytes) -> Result<Payload, DecodeError> {
    let payload = Payload::decode(bytes)
        .map_err(|error| DecodeError::NotProtobuf(excerpt(&error.to_string())))?;
    if payload.metrics.len() > MAX_METRICS {
        return Err(DecodeError::TooManyMembers);
    }
    Ok(payload)
}

/// The bytes of the payload in a compressed one.
fn expand(outer: &Payload) -> Result<Vec<u8>, DecodeError> {
    let algorithm = outer
        .metrics
        .iter()
        .filter_map(|bytes| Metric::decode(bytes.clone()).ok())
        .find(|metric| metric.name.as_deref() == Some("algorithm"))
        .and_then(|metric| match metric.value {
            Some(Raw::Text(word)) => Some(word.to_ascii_uppercase()),
            _ => None,
        });
    let body = outer.body.as_deref().unwrap_or_default();
    match algorithm.as_deref() {
        None | Some("DEFLATE") => all(ZlibDecoder::new(body)),
        Some("GZIP") => all(GzDecoder::new(body)),
        Some(_) => Err(DecodeError::NotAsPreset(
            "a Sparkplug payload compressed by neither DEFLATE nor GZIP",
        )),
    }
}

fn all(compressed: impl Read) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = Vec::new();
    let read: io::Result<usize> = compressed.take(MAX_EXPANDED + 1).read_to_end(&mut bytes);
    match read {
        Ok(len) if len as u64 <= MAX_EXPANDED => Ok(bytes),
        Ok(_) => Err(DecodeError::NotAsPreset(
            "a compressed Sparkplug payload of more than 1 MiB",
        )),
        Err(_) => Err(DecodeError::NotAsPreset(
            "a compressed Sparkplug payload that is damaged",
        )),
    }
}

impl Metric {
    /// The unit in the property `engUnit`, as Ignition and others call it.
    pub(super) fn unit(&self) -> Option<&str> {
        let set = self.properties.as_ref()?;
        let at = set.keys.iter().position(|key| {
            ["engunit", "engunits", "unit", "units"]
                .iter()
                .any(|name| key.eq_ignore_ascii_case(name))
        })?;
        let unit = set.values.get(at)?.string_value.as_deref()?;
        (!unit.is_empty() && unit.len() <= 32).then_some(unit)
    }
}

/// A value by its declared type; `None` where there is none.
///
/// Integers of 64 bits are counters and stay integers; all other numbers are quantities.
pub(super) fn value(raw: &Raw, datatype: Option<u32>) -> Result<Option<Value>, Problem> {
    let bits = match raw {
        Raw::Int(bits) => u64::from(*bits),
        Raw::Long(bits) => *bits,
        Raw::Float(number) => return decimal(*number).map(Some),
        Raw::Double(number) if number.is_finite() => return Ok(Some(Value::Float(*number))),
        Raw::Double(_) => return Err(Problem::NotFinite),
        Raw::Bool(state) => return Ok(Some(Value::Bool(*state))),
        Raw::Text(text) if text.len() > MAX_TEXT_BYTES => {
            return Err(Problem::TextTooLong(text.len()));
        }
        Raw::Text(text) => return Ok(Some(Value::Text(text.as_str().into()))),
        Raw::Bytes(_) => return Err(Problem::NotKept("an array, a file or bytes")),
        Raw::DataSet(_) => return Err(Problem::NotKept("a data set")),
        // How instances look, which a birth has to tell.
        Raw::Template(_) => return Ok(None),
    };
    // Signed ones are in two's complement, some senders extend the sign and some do not.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "the low bits are the number"
    )]
    Ok(Some(match datatype {
        Some(1) => Value::Float(f64::from(bits as u8 as i8)),
        Some(2) => Value::Float(f64::from(bits as u16 as i16)),
        Some(3) => Value::Float(f64::from(bits as u32 as i32)),
        Some(4 | 13) => Value::Int(bits as i64),
        Some(5..=7) if bits <= u64::from(u32::MAX) => Value::Float(f64::from(bits as u32)),
        Some(8) => Value::Int(i64::try_from(bits).map_err(|_| Problem::TooManyDigits)?),
        Some(11) => Value::Bool(bits != 0),
        // Without a type a number with its highest bit set has two readings.
        None | Some(0) if bits < 1 << 31 => Value::Float(f64::from(bits as u32)),
        None | Some(0) => return Err(Problem::Unborn),
        Some(_) => return Err(Problem::NotKept("an integer declared as something else")),
    }))
}

/// The shortest decimal that is this float: 21.4, not 21.399999618530273.
fn decimal(number: f32) -> Result<Value, Problem> {
    if !number.is_finite() {
        return Err(Problem::NotFinite);
    }
    let near = number.to_string().parse().unwrap_or(f64::from(number));
    Ok(Value::Float(near))
}
