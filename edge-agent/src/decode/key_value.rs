//! `temperature_c=21.5 humidity_pct=40`, separated by spaces, commas or semicolons.
//!
//! Written by hand because no standard says what it is: a value is everything up to the next separator,
//! or, in double quotes, everything up to the next double quote. There are no escapes.

use std::str;

use super::{DecodeError, Decoded, Members, Scalar};
use crate::config::Roles;

const SEPARATORS: [char; 4] = [' ', '\t', ',', ';'];

/// Reads one line.
///
/// # Errors
/// [`DecodeError`]; one piece that is no pair spoils the line, for it may be the rest of a damaged one.
pub fn decode(line: &[u8], roles: &Roles) -> Result<Decoded, DecodeError> {
    let text = str::from_utf8(line).map_err(|error| DecodeError::NotUtf8(error.valid_up_to()))?;
    let mut members = Members::new(roles);
    let mut rest = text.trim_start_matches(SEPARATORS);
    while !rest.is_empty() {
        let at = text.len() - rest.len();
        let (name, after) = rest.split_once('=').ok_or(DecodeError::NoPair(at))?;
        if name.is_empty() || name.contains(SEPARATORS) || name.contains('"') {
            return Err(DecodeError::NoPair(at));
        }
        let scalar;
        if let Some(quoted) = after.strip_prefix('"') {
            let (value, after) = quoted.split_once('"').ok_or(DecodeError::NoPair(at))?;
            scalar = Scalar::Text(value.into());
            rest = after;
            if !rest.is_empty() && !rest.starts_with(SEPARATORS) {
                return Err(DecodeError::NoPair(at));
            }
        } else {
            let end = after.find(SEPARATORS).unwrap_or(after.len());
            scalar = Scalar::bare(&after[..end]);
            rest = &after[end..];
        }
        members.put(name, scalar)?;
        rest = rest.trim_start_matches(SEPARATORS);
    }
    Ok(members.finish())
}
