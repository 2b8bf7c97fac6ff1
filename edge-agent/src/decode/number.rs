//! One bare number, boolean or text, whose name comes from the topic or the configuration.

use std::str;

use protocol::FieldName;

use super::{DecodeError, Decoded, Scalar};

/// Reads the payload as the value of `field`; an empty payload says nothing.
///
/// # Errors
/// [`DecodeError::NotUtf8`].
pub fn decode(payload: &[u8], field: &FieldName) -> Result<Decoded, DecodeError> {
    let text =
        str::from_utf8(payload).map_err(|error| DecodeError::NotUtf8(error.valid_up_to()))?;
    let mut decoded = Decoded::default();
    match Scalar::bare(text.trim()).value() {
        Ok(None) => {}
        Ok(Some(value)) => decoded.fields.push((field.clone(), value)),
        Err(problem) => decoded.rejected.push((field.as_str().into(), problem)),
    }
    Ok(decoded)
}
