//! The compact form: one version byte, then postcard.
//!
//! ```text
//! version 1   01 | gateway str | epoch varint | sequence varint | digest varint | reading
//! reading     device str | time zigzag varint (us) | clock variant | fields seq | source option | metadata seq
//! ```
//!
//! postcard describes nothing and forgives nothing, so version 1 is frozen by `tests/v1`; a change is
//! a version 2 beside it.

use alloc::{format, vec::Vec};

use serde::{Deserialize, Serialize};

use super::{Record, RecordError};
use crate::{Digest, Epoch, GatewayId, Reading, RecordId};

/// `content-type` of this form.
pub const CONTENT_TYPE: &str = "application/vnd.edge.reading+postcard";
const VERSION: u8 = 1;

#[derive(Serialize)]
struct Writing<'a> {
    gateway: &'a GatewayId,
    epoch: Epoch,
    sequence: u64,
    digest: Digest,
    reading: &'a Reading,
}

#[derive(Deserialize)]
struct Read {
    gateway: GatewayId,
    epoch: Epoch,
    sequence: u64,
    digest: Digest,
    reading: Reading,
}

/// Appends the record to `out`.
///
/// # Errors
/// Never for a record made by this crate's constructors.
pub fn encode(record: &Record, out: &mut Vec<u8>) -> Result<(), RecordError> {
    out.push(VERSION);
    let Record {
        id,
        digest,
        reading,
    } = record;
    let writing = Writing {
        gateway: &id.gateway,
        epoch: id.epoch,
        sequence: id.sequence,
        digest: *digest,
        reading,
    };
    let taken = core::mem::take(out);
    *out = ::postcard::to_extend(&writing, taken).map_err(malformed)?;
    Ok(())
}

/// Reads one record; bytes left over are an error.
///
/// # Errors
/// [`RecordError`].
pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
    let body = match bytes.split_first() {
        Some((&VERSION, body)) => body,
        Some((&0, _)) => return Err(RecordError::Malformed("there is no version 0".into())),
        Some((&version, _)) => return Err(RecordError::UnknownVersion(version.into())),
        None => return Err(RecordError::Malformed("no bytes".into())),
    };
    let (read, rest) = ::postcard::take_from_bytes::<Read>(body).map_err(malformed)?;
    if !rest.is_empty() {
        return Err(RecordError::Malformed(
            format!("{} bytes left over", rest.len()).into(),
        ));
    }
    if read.sequence > RecordId::MAX_48 {
        return Err(RecordError::Malformed("sequence beyond 48 bits".into()));
    }
    Ok(Record {
        id: RecordId {
            gateway: read.gateway,
            epoch: read.epoch,
            sequence: read.sequence,
        },
        digest: read.digest,
        reading: read.reading,
    })
}

/// Appends a bare reading, as the queue's blocks hold it, to `out`; its length must be kept elsewhere.
///
/// # Errors
/// Never for a reading made by this crate's constructors.
pub fn encode_reading(reading: &Reading, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let taken = core::mem::take(out);
    *out = ::postcard::to_extend(reading, taken).map_err(malformed)?;
    Ok(())
}

/// Reads a bare reading of version 1 and returns the bytes behind it.
///
/// # Errors
/// [`RecordError::Malformed`].
pub fn decode_reading(bytes: &[u8]) -> Result<(Reading, &[u8]), RecordError> {
    ::postcard::take_from_bytes(bytes).map_err(malformed)
}

fn malformed(error: ::postcard::Error) -> RecordError {
    RecordError::Malformed(format!("{error}").into())
}
