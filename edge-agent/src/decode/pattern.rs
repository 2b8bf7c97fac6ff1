//! One line by a regular expression with named groups: `^T:(?<temperature_c>\S+) H:(?<humidity_pct>\d+)`.
//!
//! The `regex` crate matches in linear time whatever pattern and line are.

use std::str::{self, FromStr};

use regex::{Regex, RegexBuilder};

use super::{DecodeError, Decoded, Members, Scalar};
use crate::config::Roles;

/// Largest compiled pattern in bytes.
const MAX_COMPILED: usize = 1 << 20;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// Why a text is no pattern.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// Not a regular expression.
    #[error("{0}")]
    Syntax(#[from] regex::Error),
    /// Nothing would be taken.
    #[error("names no group; write (?<temperature_c>\\S+) around each value")]
    NoGroup,
}

impl FromStr for Pattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let regex = RegexBuilder::new(text).size_limit(MAX_COMPILED).build()?;
        if regex.capture_names().flatten().next().is_none() {
            return Err(PatternError::NoGroup);
        }
        Ok(Self(regex))
    }
}

impl Pattern {
    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Reads one line; a group that took no part says nothing.
    ///
    /// # Errors
    /// [`DecodeError::NoMatch`] or what the members are wrong about.
    pub fn decode(&self, line: &[u8], roles: &Roles) -> Result<Decoded, DecodeError> {
        let text =
            str::from_utf8(line).map_err(|error| DecodeError::NotUtf8(error.valid_up_to()))?;
        let captures = self.0.captures(text).ok_or(DecodeError::NoMatch)?;
        let mut members = Members::new(roles);
        for name in self.0.capture_names().flatten() {
            if let Some(found) = captures.name(name) {
                members.put(name, Scalar::bare(found.as_str().trim()))?;
            }
        }
        Ok(members.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_groups_become_fields_and_those_that_took_no_part_say_nothing() {
        let pattern: Pattern = r"^T:(?<temperature_c>\S+)(?: H:(?<humidity_pct>\d+))?$"
            .parse()
            .unwrap();
        let read = |line: &str| pattern.decode(line.as_bytes(), &Roles::default());
        assert_eq!(read("T:21.5 H:40").unwrap().fields.len(), 2);
        assert_eq!(read("T:21.5").unwrap().fields.len(), 1);
        assert_eq!(read("garbage"), Err(DecodeError::NoMatch));
        assert_eq!(read("T:NaN").unwrap().rejected.len(), 1);
        assert!(pattern.decode(b"\xff", &Roles::default()).is_err());
        for wrong in ["(", "no group", "a{1000}{1000}(?<a>b)"] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }
}
