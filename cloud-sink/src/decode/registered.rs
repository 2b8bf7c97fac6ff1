//! What a registry holds under an id, made ready to read by.

use protocol::schema::SchemaId;
use protocol_host::registry::{self, Language};

use super::{Reason, Undecodable, avro::Plan};

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
    pub fn new(registered: &registry::Schema) -> Self {
        let unknown = |why: String| Self::Unknown(Undecodable::new(Reason::SchemaUnknown, why));
        match &registered.language {
            Language::Avro => match Plan::new(&registered.text, &registered.references) {
                Ok(plan) => Self::Avro(plan),
                Err(error) => unknown(error),
            },
            Language::Json => Self::Json,
            Language::Other(other) => {
                unknown(format!("schemas in {other} are not read by this sink"))
            }
        }
    }

    /// The registry has no such id, or not all that it refers to, or more than is read.
    #[must_use]
    pub fn missing(id: SchemaId) -> Self {
        let detail = format!(
            "the registry has no schema with id {id}, or not all that it refers to, or more than is read"
        );
        Self::Unknown(Undecodable::new(Reason::SchemaUnknown, detail))
    }
}
