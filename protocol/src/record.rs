//! A reading with its identity, as it travels from the gateway to the document.

pub mod avro;
pub mod json;
pub mod postcard;

use alloc::{boxed::Box, format};

use crate::{Digest, Reading, RecordId, reading::excerpt};

/// A reading that has become durable at a gateway.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// Never used twice.
    pub id: RecordId,
    /// Computed at ingest, carried, never computed again.
    pub digest: Digest,
    /// What was measured.
    pub reading: Reading,
}

/// Why bytes are no record. Unknown and damaged are told apart: the first asks for an update of this
/// program, the second for a look at whoever wrote them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A version this build does not know.
    #[error("record version {0} is newer than this program knows (1)")]
    UnknownVersion(u64),
    /// Not what the version promises.
    #[error("malformed record: {0}")]
    Malformed(Box<str>),
}

/// What a JSON parser says, without the payload it may quote in full.
#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
pub(crate) fn json_reason(error: serde_json::Error) -> Box<str> {
    let said = format!("{error}");
    if said.len() <= 160 {
        return said.into();
    }
    format!(
        "{}… at line {} column {}",
        excerpt(&said),
        error.line(),
        error.column()
    )
    .into()
}
