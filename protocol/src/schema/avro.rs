//! The Avro schema of a topic: one record, the declared fields behind what every reading has.
//!
//! A declared field is a column `["null", type]` with the default `null`, so a schema with one more and
//! a schema with one fewer read each other's records (BACKWARD and FORWARD). What is not declared, and a
//! value whose type is not the declared one, is in the map `undeclared`: nothing a reading says is lost.
//! Version 1 is the record's name and the members of [`FIXED`]; every member behind them is a column.
//!
//! A column has the name of its field, with two exceptions, each of which can be undone: a field named
//! like a fixed member (or like one with underscores behind it) gets one underscore more behind it, and
//! one that begins with a digit (or with underscores and a digit) one more before it, for Avro's names
//! begin with a letter or an underscore.

use alloc::{borrow::Cow, boxed::Box, format, string::String, vec::Vec};

use serde_json::Value as Json;

use super::{Declaration, Kind, RECORD_NAME, SchemaError};
use crate::{FieldName, reading::excerpt, record::json_reason, unit};

/// Members of every reading, in their order.
pub const FIXED: [&str; 12] = [
    "gateway",
    "device",
    "epoch",
    "sequence",
    "digest",
    "time",
    "clock",
    "boot",
    "uptime_us",
    "src",
    "meta",
    "undeclared",
];

/// The schema of a topic that declares nothing, without its end. Texts here are part of the schema.
const HEAD: &str = concat!(
    r#"{"type":"record","name":"Reading","namespace":"edge.reading.v1","doc":"What one device measured at one time","fields":["#,
    r#"{"name":"gateway","type":"string","doc":"Box that runs the agent; also the key"},"#,
    r#"{"name":"device","type":"string","doc":"Who measured"},"#,
    r#"{"name":"epoch","type":"string","doc":"Run of the gateway's queue, 12 hex digits"},"#,
    r#"{"name":"sequence","type":"long","doc":"Counts from 0 within the epoch, without gaps"},"#,
    r#"{"name":"digest","type":"long","doc":"64 bits over device, values and source, with a sign"},"#,
    r#"{"name":"time","type":{"type":"long","logicalType":"timestamp-micros"},"doc":"When it was measured"},"#,
    r#"{"name":"clock","type":{"type":"enum","name":"Clock","symbols":["device","synced","unsynced","corrected"]},"doc":"What that time is worth"},"#,
    r#"{"name":"boot","type":["null","string"],"doc":"With clock unsynced: boot of the gateway, 16 hex digits","default":null},"#,
    r#"{"name":"uptime_us","type":["null","long"],"doc":"With clock unsynced: microseconds since that boot","default":null},"#,
    r#"{"name":"src","type":["null",{"type":"record","name":"Source","fields":[{"name":"boot","type":"long"},{"name":"seq","type":"long"}]}],"doc":"The device's own number of the reading, 64 bits with a sign each","default":null},"#,
    r#"{"name":"meta","type":{"type":"map","values":"string"},"doc":"Model, site and the like","default":{}},"#,
    r#"{"name":"undeclared","type":{"type":"map","values":["double","long","boolean","string"]},"doc":"Values without a column of their type","default":{}}"#,
);
const TAIL: &str = "]}";

/// A schema of ours, and the columns it has room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvroSchema {
    text: Box<str>,
    /// In the order of the schema.
    columns: Vec<(FieldName, Kind)>,
    /// Places in `columns`, by the order of the names.
    by_name: Vec<usize>,
}

impl AvroSchema {
    /// The schema of a declaration.
    #[must_use]
    pub fn of(declaration: &Declaration) -> Self {
        let mut text = String::from(HEAD);
        for (name, kind) in declaration.iter() {
            let doc = match unit(name.as_str()) {
                Some(unit) => format!(r#""doc":"{unit}","#),
                None => String::new(),
            };
            let (column, kind) = (column(name), word(kind));
            text.push_str(&format!(
                r#",{{"name":"{column}","type":["null","{kind}"],{doc}"default":null}}"#
            ));
        }
        text.push_str(TAIL);
        let columns = declaration.iter().map(|(name, kind)| (name.clone(), kind));
        Self::new(text.into(), columns.collect())
    }

    /// Reads a schema back from a registry: one of ours, whatever it declares. Documentation and the
    /// order of the columns are as they are found.
    ///
    /// # Errors
    /// [`SchemaError::UnknownVersion`], [`SchemaError::Foreign`].
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let schema: Json =
            serde_json::from_str(text).map_err(|error| SchemaError::Foreign(json_reason(error)))?;
        match full_name(&schema).as_deref() {
            Some(RECORD_NAME) => {}
            Some(name) if name.starts_with("edge.reading.") => {
                return Err(SchemaError::UnknownVersion(excerpt(name)));
            }
            Some(name) => return Err(foreign(format!("a record {:?}", excerpt(name)))),
            None => return Err(foreign("no record with a name")),
        }
        let ours: Json = serde_json::from_str(&format!("{HEAD}{TAIL}"))
            .map_err(|error| SchemaError::Foreign(json_reason(error)))?;
        let mut found = members(&schema).iter();
        for expected in members(&ours) {
            if found.next().map(bare) != Some(bare(expected)) {
                let name = expected["name"].as_str().unwrap_or_default();
                let what = format!("member {name} is not that of {RECORD_NAME}");
                return Err(foreign(what));
            }
        }
        let columns: Vec<_> = found.map(declared).collect::<Result<_, _>>()?;
        // Each name once, and not too many.
        Declaration::new(columns.iter().cloned())?;
        Ok(Self::new(text.into(), columns))
    }

    fn new(text: Box<str>, columns: Vec<(FieldName, Kind)>) -> Self {
        let mut by_name: Vec<usize> = (0..columns.len()).collect();
        by_name.sort_by(|a, b| columns[*a].0.cmp(&columns[*b].0));
        Self {
            text,
            columns,
            by_name,
        }
    }

    /// The schema, as it is to be registered.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its columns, in its order.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = (&FieldName, Kind)> {
        self.columns.iter().map(|(name, kind)| (name, *kind))
    }

    /// The type of a field's column, where it has one.
    #[must_use]
    pub fn column(&self, name: &FieldName) -> Option<Kind> {
        let found = self
            .by_name
            .binary_search_by(|at| self.columns[*at].0.cmp(name));
        Some(self.columns[self.by_name[found.ok()?]].1)
    }
}

fn foreign(what: impl Into<Box<str>>) -> SchemaError {
    SchemaError::Foreign(what.into())
}

fn members(schema: &Json) -> &[Json] {
    schema["fields"].as_array().map_or(&[], Vec::as_slice)
}

fn full_name(schema: &Json) -> Option<Cow<'_, str>> {
    let name = schema["name"].as_str()?;
    Some(match schema["namespace"].as_str() {
        Some(namespace) if !name.contains('.') => format!("{namespace}.{name}").into(),
        _ => name.into(),
    })
}

/// Without what says nothing about the bytes.
fn bare(member: &Json) -> Json {
    match member {
        Json::Object(object) => {
            let kept = object.iter().filter(|(key, _)| *key != "doc");
            kept.map(|(key, value)| (key.clone(), bare(value)))
                .collect()
        }
        Json::Array(list) => list.iter().map(bare).collect(),
        other => other.clone(),
    }
}

fn declared(member: &Json) -> Result<(FieldName, Kind), SchemaError> {
    let name = member["name"].as_str().unwrap_or_default();
    let field = field(name).ok_or_else(|| foreign(format!("member {:?}", excerpt(name))))?;
    let kind = match member["type"].as_array().map(Vec::as_slice) {
        Some([null, kind]) if *null == "null" => {
            Kind::ALL.into_iter().find(|known| *kind == word(*known))
        }
        _ => None,
    };
    match kind {
        Some(kind) => Ok((field, kind)),
        None => Err(foreign(format!(
            "member {field} is not null or one of double, long, boolean and string"
        ))),
    }
}

/// Avro's word.
const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "boolean",
        other => other.as_str(),
    }
}

/// The member that holds a field.
#[must_use]
pub fn column(field: &FieldName) -> Cow<'_, str> {
    let name = field.as_str();
    if FIXED.contains(&name.trim_end_matches('_')) {
        format!("{name}_").into()
    } else if begins_with_digit(name) {
        format!("_{name}").into()
    } else {
        name.into()
    }
}

/// The field that a member holds, `None` for a fixed one and for what is no field's.
#[must_use]
pub fn field(member: &str) -> Option<FieldName> {
    let name = if FIXED.contains(&member.trim_end_matches('_')) {
        member.strip_suffix('_')?
    } else if begins_with_digit(member) {
        member.strip_prefix('_')?
    } else {
        member
    };
    FieldName::new(name).ok()
}

fn begins_with_digit(name: &str) -> bool {
    let rest = name.trim_start_matches('_');
    rest.starts_with(|first: char| first.is_ascii_digit())
}
