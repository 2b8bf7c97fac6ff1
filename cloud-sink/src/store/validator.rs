//! What is declared of a topic's readings, made known to MongoDB: the types of the columns, and, where a
//! route asks for it, a validator of the collection.
//!
//! A column's type is fixed by whoever writes it first; a declaration is there before any reading. Where
//! a collection has another type already, that stays, and the validator leaves the column out: what the
//! sink stores must never fail its own validator, so it keeps out only what others write. (A value that
//! does not fit its column goes to `raw`, whatever is declared.) Fields that nobody declares are let in.
//! A time series cannot have a validator; the configuration refuses that.

use std::collections::BTreeMap;

use mongodb::bson::{Bson, Document as Fields, doc};
use protocol::{FieldName, schema::Kind, unit};

use super::{Outage, Store};
use crate::{catalogue::FirstSight, config::Config, document::column};

/// What is declared of one collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// Where.
    pub collection: String,
    /// The fields of the topics whose readings go there.
    pub fields: BTreeMap<FieldName, Kind>,
    /// Whether MongoDB is to hold every document to it.
    pub validate: bool,
}

/// A declared type that is not the column's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlike {
    /// The field.
    pub field: FieldName,
    /// As declared.
    pub declared: Kind,
    /// Of the column.
    pub stored: Kind,
}

/// What the configuration declares, by collection. Of a field that two topics of one collection declare
/// differently the first counts.
#[must_use]
pub fn plan(config: &Config) -> Vec<Declared> {
    let mut plan: BTreeMap<&str, Declared> = BTreeMap::new();
    for route in &config.routes {
        let topic = config.topics.iter().find(|topic| topic.name == route.topic);
        let Some(fields) = topic.and_then(|topic| topic.fields.as_ref()) else {
            continue;
        };
        let declared = plan.entry(&route.collection).or_insert_with(|| Declared {
            collection: route.collection.clone(),
            fields: BTreeMap::new(),
            validate: false,
        });
        declared.validate |= route.validator;
        for (name, kind) in fields.iter() {
            declared.fields.entry(name.clone()).or_insert(kind);
        }
    }
    plan.into_values().collect()
}

/// The validator of documents with such columns; [`crate::document`] says what the members are.
#[must_use]
pub fn validator<'a>(columns: impl Iterator<Item = (&'a FieldName, Kind)>) -> Fields {
    let typed = |kind: &str| doc! { "bsonType": kind };
    let mut properties = doc! {
        "_id": typed("string"),
        "ts": typed("date"),
        "meta": {
            "bsonType": "object",
            "required": ["device"],
            "properties": { "gateway": typed("string"), "device": typed("string") },
        },
        "seq": typed("long"),
        "clock": { "enum": ["device", "synced", "unsynced", "corrected", "broker"] },
        "digest": typed("long"),
        "raw": typed("object"),
        "expires_at": typed("date"),
    };
    for (name, kind) in columns {
        let mut property = typed(kind.as_str());
        if let Some(unit) = unit(name.as_str()) {
            property.insert("description", unit);
        }
        properties.insert(column(name), property);
    }
    doc! { "$jsonSchema": {
        "bsonType": "object",
        "required": ["_id", "ts", "meta", "clock", "digest"],
        "properties": properties,
    } }
}

impl Store {
    /// Fixes the types of declared columns, and sets the validator of the collection if there is to be
    /// one; it must be there. Returns the fields whose column has another type.
    ///
    /// # Errors
    /// [`Outage`]; again is harmless.
    pub async fn declare(&self, declared: &Declared) -> Result<Vec<Unlike>, Outage> {
        let Declared {
            collection,
            fields,
            validate,
        } = declared;
        let first: Vec<FirstSight> = fields
            .iter()
            .map(|(name, kind)| FirstSight {
                name: name.clone(),
                kind: *kind,
                device: "declared".to_owned(),
            })
            .collect();
        let stored = self.fix_types(collection, &first).await?;
        let of = |name: &FieldName, kind: Kind| stored.get(name).copied().unwrap_or(kind);
        let (alike, unlike): (Vec<_>, Vec<_>) = fields
            .iter()
            .map(|(name, kind)| (name, *kind))
            .partition(|(name, kind)| of(name, *kind) == *kind);
        if *validate {
            let validator = validator(alike.into_iter());
            let command = doc! {
                "collMod": collection,
                "validator": Bson::from(validator),
                // What is stored already may still be put right.
                "validationLevel": "moderate",
                "validationAction": "error",
            };
            self.within(async { self.database.run_command(command).await })
                .await?;
        }
        let unlike = unlike.into_iter().map(|(name, declared)| Unlike {
            field: name.clone(),
            declared,
            stored: of(name, declared),
        });
        Ok(unlike.collect())
    }
}

#[cfg(test)]
mod tests {
    use protocol::schema::Declaration;

    use super::*;

    fn declaration(fields: &[(&str, Kind)]) -> Declaration {
        let fields = fields
            .iter()
            .map(|(name, kind)| (name.parse().unwrap(), *kind));
        Declaration::new(fields).unwrap()
    }

    #[test]
    fn a_validator_has_the_document_and_the_declared_columns_and_lets_others_in() {
        let declared = declaration(&[
            ("voltage_v", Kind::Double),
            ("relay_on", Kind::Bool),
            ("digest", Kind::String),
        ]);
        let validator = validator(declared.iter());
        let schema = validator.get_document("$jsonSchema").unwrap();
        let properties = schema.get_document("properties").unwrap();
        assert_eq!(
            properties.get_document("voltage_v").unwrap(),
            &doc! { "bsonType": "double", "description": "V" }
        );
        assert_eq!(
            properties.get_document("relay_on").unwrap(),
            &doc! { "bsonType": "bool" }
        );
        // A field named like a member of the document has its place beside it.
        assert_eq!(
            properties.get_document("digest_").unwrap(),
            &doc! { "bsonType": "string" }
        );
        assert_eq!(
            properties.get_document("digest").unwrap(),
            &doc! { "bsonType": "long" }
        );
        assert!(!schema.contains_key("additionalProperties"));
        let required = schema.get_array("required").unwrap();
        assert!(
            !required.contains(&Bson::from("seq")),
            "foreign ones have none"
        );
    }
}
