//! What is declared of a topic's readings, and the schemas a registry keeps of them.
//!
//! ```text
//! Declaration ─▶ avro::AvroSchema ─▶ record::avro::encode     00 | id | Avro
//!             └▶ json::text                                   00 | id | JSON of record::json
//! ```
//!
//! A registered value begins with five bytes, as Confluent's serialisers write them: the byte 0, then the
//! schema's id, 32 bits, big-endian. A [`Declaration`] is the one source of the schemas and of MongoDB's
//! validator, and a schema is a function of it alone, so whoever declares the same asks the registry for
//! the same text.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};
use core::{fmt, str::FromStr};

use crate::{FieldName, Value};

pub mod avro;
pub mod json;

/// Full name of the record, for subjects that are named after it; the version is part of it.
pub const RECORD_NAME: &str = "edge.reading.v1.Reading";

/// Most fields a topic may declare: in Avro each costs a byte in every reading without it.
pub const MAX_DECLARED: usize = 1000;

/// The type of a declared field, named as MongoDB does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// 64-bit float.
    Double,
    /// 64-bit integer.
    Long,
    /// Truth value.
    Bool,
    /// Text.
    String,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Double, Self::Long, Self::Bool, Self::String];

    /// Of a value.
    #[must_use]
    pub const fn of(value: &Value) -> Self {
        match value {
            Value::Float(_) => Self::Double,
            Value::Int(_) => Self::Long,
            Value::Bool(_) => Self::Bool,
            Value::Text(_) => Self::String,
        }
    }

    /// MongoDB's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Double => "double",
            Self::Long => "long",
            Self::Bool => "bool",
            Self::String => "string",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = SchemaError;
    fn from_str(text: &str) -> Result<Self, SchemaError> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == text)
            .ok_or(SchemaError::Kind)
    }
}

/// Why there is no declaration or no schema of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// No word for a type.
    #[error("the type of a field is double, long, bool or string")]
    Kind,
    /// The same name twice.
    #[error("field {0} is declared twice")]
    Twice(FieldName),
    /// Too many.
    #[error("a topic declares at most {MAX_DECLARED} fields, not {0}")]
    Count(usize),
    /// A schema of readings, of a version this program does not know.
    #[error("the schema is of {0}, this program writes {RECORD_NAME}")]
    UnknownVersion(Box<str>),
    /// Not a schema this program can write by.
    #[error("not a schema of readings: {0}")]
    Foreign(Box<str>),
}

/// The fields that readings of a topic are expected to have, sorted by name. Others are still sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Declaration(BTreeMap<FieldName, Kind>);

impl Declaration {
    /// Takes names and types in any order.
    ///
    /// # Errors
    /// [`SchemaError::Twice`], [`SchemaError::Count`].
    pub fn new(fields: impl IntoIterator<Item = (FieldName, Kind)>) -> Result<Self, SchemaError> {
        let mut declared = BTreeMap::new();
        for (name, kind) in fields {
            if declared.contains_key(&name) {
                return Err(SchemaError::Twice(name));
            }
            declared.insert(name, kind);
        }
        if declared.len() > MAX_DECLARED {
            return Err(SchemaError::Count(declared.len()));
        }
        Ok(Self(declared))
    }

    /// In the order of the names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&FieldName, Kind)> {
        self.0.iter().map(|(name, kind)| (name, *kind))
    }

    /// The type of a field, where it is declared.
    #[must_use]
    pub fn get(&self, name: &FieldName) -> Option<Kind> {
        self.0.get(name).copied()
    }

    /// Nothing is declared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The number a registry gave a schema; it names the same schema for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaId(pub u32);

impl SchemaId {
    /// First byte of a value with a schema id.
    pub const MAGIC: u8 = 0;
    /// Bytes before the body.
    pub const PREFIX_BYTES: usize = 5;

    /// Appends the five bytes to `out`.
    pub fn write(self, out: &mut Vec<u8>) {
        out.push(Self::MAGIC);
        out.extend_from_slice(&self.0.to_be_bytes());
    }

    /// The id and the body of a value that begins with one.
    #[must_use]
    pub fn read(value: &[u8]) -> Option<(Self, &[u8])> {
        match value {
            [Self::MAGIC, a, b, c, d, body @ ..] => {
                Some((Self(u32::from_be_bytes([*a, *b, *c, *d])), body))
            }
            _ => None,
        }
    }
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
