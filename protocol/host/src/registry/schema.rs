//! Schemas as a registry has them, and how it stands to them.

use std::{fmt, sync::Arc};

use protocol::schema::{self, Declaration, avro::AvroSchema};

/// What a schema is written in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    /// Avro.
    Avro,
    /// JSON Schema.
    Json,
    /// A language nobody here reads, by the registry's word.
    Other(Box<str>),
}

impl Language {
    /// The registry's word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Avro => "AVRO",
            Self::Json => "JSON",
            Self::Other(word) => word,
        }
    }

    /// From the registry's word.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        match word {
            "AVRO" => Self::Avro,
            "JSON" => Self::Json,
            other => Self::Other(other.into()),
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A schema as it is registered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Schema {
    /// What it is written in.
    pub language: Language,
    /// The schema.
    pub text: String,
    /// The texts of the schemas it refers to, each after those that it refers to itself.
    pub references: Vec<String>,
}

impl Schema {
    /// One that stands by itself.
    #[must_use]
    pub fn new(language: Language, text: impl Into<String>) -> Self {
        Self {
            language,
            text: text.into(),
            references: Vec::new(),
        }
    }
}

/// A schema's place in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its number, for ever.
    pub id: u32,
    /// Its number within the subject, from 1; `None` where the registry did not say.
    pub version: Option<u32>,
    /// The schema, which may be written otherwise than it was asked for.
    pub schema: Arc<Schema>,
}

/// The schema of a declaration, in one of the languages that readings are written in.
#[must_use]
pub fn declared(language: &Language, declaration: &Declaration) -> Schema {
    let text = match language {
        Language::Json => schema::json::text(declaration),
        _ => AvroSchema::of(declaration).text().to_owned(),
    };
    Schema::new(language.clone(), text)
}

/// How a subject stands to a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has it.
    Registered(Registered),
    /// It would take it; whether the subject is new.
    Taken {
        /// No schema is in it yet.
        is_new: bool,
    },
    /// It would not; what the registry says.
    Refused(String),
}

/// Whether a subject would take a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It would.
    Compatible,
    /// It would not; what the registry says about it, as far as it does.
    Incompatible(String),
    /// The subject is new, and takes whatever is valid.
    NewSubject,
}
