//! The frame around everything the queue writes, the same in every version of what is inside:
//!
//! ```text
//! version u8 | length u32 LE | CRC-32 LE over version, length and body | body
//! ```
//!
//! The check covers the version byte, so a flipped bit is damage and never "written by a newer version".

/// Bytes around the body.
pub const OVERHEAD_BYTES: usize = 9;

/// Why bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Intact, but of a version this build does not know.
    #[error("format version {0} is newer than this program knows")]
    Newer(u8),
    /// Not what was written.
    #[error("damaged")]
    Damaged,
}

/// Wraps a body.
pub fn seal(version: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = Vec::with_capacity(OVERHEAD_BYTES + body.len());
    bytes.push(version);
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&crc(version, length, body).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The body; bytes behind it (the rest of a slot) are ignored.
pub fn open(bytes: &[u8], known: u8) -> Result<&[u8], EnvelopeError> {
    let Some((&[version, a, b, c, d, e, f, g, h], rest)) = bytes.split_first_chunk() else {
        return Err(EnvelopeError::Damaged);
    };
    let length = [a, b, c, d];
    let body = usize::try_from(u32::from_le_bytes(length))
        .ok()
        .and_then(|length| rest.get(..length))
        .ok_or(EnvelopeError::Damaged)?;
    if crc(version, length, body) != u32::from_le_bytes([e, f, g, h]) || version == 0 {
        return Err(EnvelopeError::Damaged);
    }
    if version > known {
        return Err(EnvelopeError::Newer(version));
    }
    Ok(body)
}

fn crc(version: u8, length: [u8; 4], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[version]);
    crc.update(&length);
    crc.update(body);
    crc.finalize()
}
