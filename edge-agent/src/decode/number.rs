//! One bare number, boolean or text, whose name comes from the topic or the configuration.
//!
//! `ON` and `OFF` are states, as in every preset; quotes around the whole are those of a sender that writes JSON.

use std::str;

use protocol::FieldName;

use super::{DecodeError, Decoded, Scalar};

/// Reads the payload as the value of `field`; an empty payload says nothing.
///
/// # Errors
/// [`DecodeError::NotUtf8`]; an object or a list, which is no bare value.
pub fn decode(payload: &[u8], field: &FieldName) -> Result<Decoded, DecodeError> {
    let text =
        str::from_utf8(payload).map_err(|error| DecodeError::NotUtf8(error.valid_up_to()))?;
    let mut decoded = Decoded::default();
    let text = text.trim();
    if text.starts_with(['{', '[']) {
        return Err(DecodeError::NotAsPreset(
            "an object or a list is no bare value; preset = \"json\" reads it",
        ));
    }
    let quoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    let text = quoted.unwrap_or(text);
    let state = ["off", "on"]
        .iter()
        .position(|word| text.eq_ignore_ascii_case(word));
    let scalar = state.map_or_else(|| Scalar::bare(text), |on| Scalar::Bool(on == 1));
    match scalar.value() {
        Ok(None) => {}
        Ok(Some(value)) => decoded.fields.push((field.clone(), value)),
        Err(problem) => decoded.rejected.push((field.as_str().into(), problem)),
    }
    Ok(decoded)
}
