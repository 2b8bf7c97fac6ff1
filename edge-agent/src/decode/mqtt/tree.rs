//! A JSON payload as a tree whose leaves are unread.
//!
//! The presets look at members by name and place, so the flat walk of [`json`](crate::decode::json)
//! does not fit them. What it learned does: numbers are judged by their digits, one `1e400` or `NaN`
//! never takes its neighbours along, a name that appears twice is seen twice, and the work is bounded:
//! [`MAX_DEPTH`](json::MAX_DEPTH) levels (what is deeper is a leaf of its own), `MAX_MEMBERS` members of
//! one object or list, [`MAX_NODES`] altogether.

use std::{borrow::Cow, str};

use crate::decode::{
    DecodeError, Scalar,
    json::{self, Key, List, MAX_MEMBERS, Object},
};

/// Most members and elements of one payload.
const MAX_NODES: usize = 16_384;

/// One value of a payload.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node<'a> {
    Leaf(Scalar<'a>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
    List(Vec<Node<'a>>),
    /// An object or list below the deepest level.
    TooDeep,
}

/// Reads a payload.
///
/// # Errors
/// No text, no JSON, or more of it than a reading may hold.
pub(super) fn read<T>(
    payload: &[u8],
    then: impl FnOnce(Node<'_>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let text =
        str::from_utf8(payload).map_err(|error| DecodeError::NotUtf8(error.valid_up_to()))?;
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0');
    match parse(text) {
        Err(DecodeError::NotJson { .. })
            if ["NaN", "nan", "Infinity", "inf"]
                .iter()
                .any(|word| text.contains(word)) =>
        {
            then(parse(&json::overflow_for_non_finite(text))?)
        }
        result => then(result?),
    }
}

/// [`read`] for payloads that are one object.
pub(super) fn read_object<T>(
    payload: &[u8],
    then: impl FnOnce(&[(Cow<'_, str>, Node<'_>)]) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    read(payload, |node| match &node {
        Node::Object(members) => then(members),
        _ => Err(DecodeError::NotAnObject),
    })
}

fn parse(text: &str) -> Result<Node<'_>, DecodeError> {
    if text.is_empty() {
        return Err(DecodeError::NotJson { line: 1, column: 1 });
    }
    // Judges the whole text once, so that a raw value below is well-formed.
    let raw: &serde_json::value::RawValue =
        serde_json::from_str(text).map_err(|error| json::not_json(&error))?;
    let mut left = MAX_NODES;
    node(raw.get(), 0, &mut left)
}

fn node<'a>(raw: &'a str, depth: usize, left: &mut usize) -> Result<Node<'a>, DecodeError> {
    *left = left.checked_sub(1).ok_or(DecodeError::TooManyMembers)?;
    let from = |error: serde_json::Error| json::not_json(&error);
    Ok(match raw.as_bytes().first() {
        Some(b'{' | b'[') if depth >= json::MAX_DEPTH => Node::TooDeep,
        Some(b'{') => {
            let Object(entries) = serde_json::from_str(raw).map_err(from)?;
            if entries.len() > MAX_MEMBERS {
                return Err(DecodeError::TooManyMembers);
            }
            let members = entries
                .into_iter()
                .map(|(Key(key), raw)| Ok((key, node(raw.get(), depth + 1, left)?)));
            Node::Object(members.collect::<Result<_, _>>()?)
        }
        Some(b'[') => {
            let List(elements) = serde_json::from_str(raw).map_err(from)?;
            if elements.len() > MAX_MEMBERS {
                return Err(DecodeError::TooManyMembers);
            }
            let elements = elements
                .into_iter()
                .map(|raw| node(raw.get(), depth + 1, left));
            Node::List(elements.collect::<Result<_, _>>()?)
        }
        Some(b'"') => {
            let Key(text) = serde_json::from_str(raw).map_err(from)?;
            Node::Leaf(Scalar::Text(text))
        }
        Some(b't') => Node::Leaf(Scalar::Bool(true)),
        Some(b'f') => Node::Leaf(Scalar::Bool(false)),
        None | Some(b'n') => Node::Leaf(Scalar::Null),
        Some(_) => Node::Leaf(Scalar::Number(raw)),
    })
}

/// The first member of this name.
pub(super) fn get<'t, 'a>(
    members: &'t [(Cow<'a, str>, Node<'a>)],
    name: &str,
) -> Option<&'t Node<'a>> {
    members
        .iter()
        .find_map(|(key, node)| (key == name).then_some(node))
}

impl<'a> Node<'a> {
    /// A leaf's characters, of numbers and texts.
    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Self::Leaf(Scalar::Number(text)) => Some(text),
            Self::Leaf(Scalar::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A text.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Leaf(Scalar::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A finite number.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Leaf(Scalar::Number(text)) => text.parse().ok().filter(|n: &f64| n.is_finite()),
            _ => None,
        }
    }

    /// An object's members.
    pub(super) fn members(&self) -> Option<&[(Cow<'a, str>, Node<'a>)]> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }
}
