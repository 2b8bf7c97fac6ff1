//! What a registry holds under an id, made ready to read by.

use super::{Reason, Undecodable, avro::Plan};

/// A schema as a registry hands it out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registered {
    /// `AVRO`, `JSON`, `PROTOBUF`; registries that leave it out mean `AVRO`.
    pub kind: String,
    /// The schema itself.
    pub text: String,
    /// The texts of the schemas it refers to.
    pub references: Vec<String>,
}

/// How values with its id are read.
#[derive(Debug)]
pub enum Schema {
    /// As Avro.
    Avro(Plan),
    /// As JSON; what the schema says of it is the writer's affair.
    Json,
    /// Not at all, and why.
    Unknown(Undecodable),
}

impl Schema {
    /// Made once, read by often.
    #[must_use]
    pub fn new(registered: &Registered) -> Self {
        let unknown = |why: String| Self::Unknown(Undecodable::new(Reason::SchemaUnknown, why));
        match registered.kind.as_str() {
            "" | "AVRO" => match Plan::new(&registered.text, &registered.references) {
                Ok(plan) => Self::Avro(plan),
                Err(error) => unknown(error),
            },
            "JSON" => Self::Json,
            other => unknown(format!(
                "schemas of type {other:?} are not read by this sink"
            )),
        }
    }

    /// The registry has no such id.
    #[must_use]
    pub fn missing(id: protocol::schema::SchemaId) -> Self {
        let detail = format!("the schema registry knows no schema {id}");
        Self::Unknown(Undecodable::new(Reason::SchemaUnknown, detail))
    }
}
