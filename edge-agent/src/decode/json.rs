//! One JSON object to the members of a reading.
//!
//! Nested objects become `outer_inner`, lists `name_0`, `name_1` …. serde_json splits each level into
//! names and raw values; numbers are then judged by their digits, because serde_json refuses a whole
//! document for one `1e400` and would round an integer beyond 64 bits. Every level re-reads its part,
//! so the work is bounded by [`MAX_DEPTH`] times the payload.
//!
//! `NaN` and `Infinity` are not JSON, but Python and some firmware write them. A payload that is no JSON
//! because of them is read once more with an overflowing number in their place, so that only that
//! member is rejected, and by its name.

use std::{borrow::Cow, fmt, str};

use protocol::MAX_FIELDS;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{DecodeError, Decoded, Members, Problem, Scalar};
use crate::config::Roles;

/// Deepest nesting kept; deeper members are rejected by name.
pub const MAX_DEPTH: usize = 8;
/// Longest path of a member in bytes; far above what a field's name may have.
const MAX_PATH: usize = 256;
/// Most members of one object, or elements of one list, that are looked at, nulls included.
pub(super) const MAX_MEMBERS: usize = 4 * MAX_FIELDS;

/// Reads one object.
///
/// # Errors
/// [`DecodeError`] when nothing of it can be read.
pub fn decode(payload: &[u8], roles: &Roles) -> Result<Decoded, DecodeError> {
    let text =
        str::from_utf8(payload).map_err(|error| DecodeError::NotUtf8(error.valid_up_to()))?;
    match read(text, roles) {
        Err(DecodeError::NotJson { .. }) if text.contains("NaN") || text.contains("Infinity") => {
            read(&overflow_for_non_finite(text), roles)
        }
        result => result,
    }
}

fn read(text: &str, roles: &Roles) -> Result<Decoded, DecodeError> {
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => {}
        Some(b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
            return Err(DecodeError::NotAnObject);
        }
        _ => return Err(DecodeError::NotJson { line: 1, column: 1 }),
    }
    let mut members = Members::new(roles);
    object(text, "", 1, &mut members)?;
    Ok(members.finish())
}

fn object(
    text: &str,
    path: &str,
    depth: usize,
    members: &mut Members<'_>,
) -> Result<(), DecodeError> {
    let Object(entries) = serde_json::from_str(text).map_err(|error| not_json(&error))?;
    if entries.len() > MAX_MEMBERS {
        return Err(DecodeError::TooManyMembers);
    }
    for (Key(key), raw) in entries {
        let name = if path.is_empty() {
            key
        } else {
            Cow::Owned(format!("{path}_{key}"))
        };
        value(raw.get(), &name, depth, members)?;
    }
    Ok(())
}

fn value(
    raw: &str,
    name: &str,
    depth: usize,
    members: &mut Members<'_>,
) -> Result<(), DecodeError> {
    let first = raw.as_bytes().first().copied().unwrap_or(b'n');
    if name.len() > MAX_PATH {
        return members.reject(name, Problem::Name);
    }
    match first {
        b'{' | b'[' if depth >= MAX_DEPTH => members.reject(name, Problem::TooDeep),
        b'{' => object(raw, name, depth + 1, members),
        b'[' => {
            let List(elements) = serde_json::from_str(raw).map_err(|error| not_json(&error))?;
            if elements.len() > MAX_FIELDS {
                return members.reject(name, Problem::TooLong);
            }
            for (index, element) in elements.into_iter().enumerate() {
                value(
                    element.get(),
                    &format!("{name}_{index}"),
                    depth + 1,
                    members,
                )?;
            }
            Ok(())
        }
        b'"' => {
            let Key(text) = serde_json::from_str(raw).map_err(|error| not_json(&error))?;
            members.put(name, Scalar::Text(text))
        }
        b't' => members.put(name, Scalar::Bool(true)),
        b'f' => members.put(name, Scalar::Bool(false)),
        b'n' => members.put(name, Scalar::Null),
        _ => members.put(name, Scalar::Number(raw)),
    }
}

/// Only the place: serde_json's own text may quote the payload.
pub(super) fn not_json(error: &serde_json::Error) -> DecodeError {
    DecodeError::NotJson {
        line: error.line(),
        column: error.column(),
    }
}

/// Puts `1e999` where `NaN` or `Infinity` stand outside of texts.
pub(super) fn overflow_for_non_finite(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut quoted = false;
    let mut escaped = false;
    while let Some(c) = rest.chars().next() {
        let word = ["NaN", "Infinity"]
            .into_iter()
            .find(|word| !quoted && rest.starts_with(word));
        if let Some(word) = word {
            out.push_str("1e999");
            rest = &rest[word.len()..];
            continue;
        }
        (quoted, escaped) = match c {
            '"' if !escaped => (!quoted, false),
            '\\' if quoted => (quoted, !escaped),
            _ => (quoted, false),
        };
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Key<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// The members of an object, a few too many at most.
pub(super) struct Object<'a>(pub(super) Vec<(Key<'a>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<Key<'de>>()? {
                    let raw = map.next_value::<&RawValue>()?;
                    // Read on to the end, so that what follows is still judged, but keep no more.
                    if entries.len() <= MAX_MEMBERS {
                        entries.push((key, raw));
                    }
                }
                Ok(Object(entries))
            }
        }
        from.deserialize_map(Entries)
    }
}

/// The elements of a list, one too many at most.
pub(super) struct List<'a>(pub(super) Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for List<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = List<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element::<&RawValue>()? {
                    if elements.len() <= MAX_MEMBERS {
                        elements.push(element);
                    }
                }
                Ok(List(elements))
            }
        }
        from.deserialize_seq(Elements)
    }
}
