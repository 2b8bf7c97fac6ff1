//! Tells the members of one payload that have a role from those that are values.

use std::borrow::Cow;

use protocol::{FieldName, MAX_FIELDS, MAX_TEXT_BYTES, SourceId, Timestamp, Value};

use super::{DecodeError, Decoded, DeviceTime, Problem};
use crate::config::{Roles, TimeFormat};

/// From here on a whole number may not be exact as a float: 2^53.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;
/// Longest part of a member's name that is ever shown, in bytes.
const EXCERPT_BYTES: usize = 80;

/// A member's value as its format writes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool(bool),
    /// The digits, unread.
    Number(&'a str),
    Text(Cow<'a, str>),
}

impl<'a> Scalar<'a> {
    /// Reads a text that has no quotes to tell numbers from words.
    pub(crate) fn bare(text: &'a str) -> Self {
        match text {
            "" => Self::Null,
            _ if text.eq_ignore_ascii_case("true") => Self::Bool(true),
            _ if text.eq_ignore_ascii_case("false") => Self::Bool(false),
            // Takes `nan` and `inf` for numbers as well, so that they are rejected and the field stays one.
            _ if text.parse::<f64>().is_ok() => Self::Number(text),
            _ => Self::Text(Cow::Borrowed(text)),
        }
    }

    /// As a value.
    pub(crate) fn value(self) -> Result<Option<Value>, Problem> {
        match self {
            Self::Null => Ok(None),
            Self::Bool(state) => Ok(Some(Value::Bool(state))),
            Self::Number(digits) => number_value(digits).map(Some),
            Self::Text(text) if text.len() > MAX_TEXT_BYTES => {
                Err(Problem::TextTooLong(text.len()))
            }
            Self::Text(text) => Ok(Some(Value::Text(text.into()))),
        }
    }

    /// Checks a value that came typed, in a frame.
    pub(crate) fn framed(value: Value) -> Result<Value, Problem> {
        match &value {
            Value::Float(number) if !number.is_finite() => Err(Problem::NotFinite),
            Value::Text(text) if text.len() > MAX_TEXT_BYTES => {
                Err(Problem::TextTooLong(text.len()))
            }
            _ => Ok(value),
        }
    }

    /// Its characters, for members that name something.
    fn word(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Null => None,
            Self::Bool(state) => Some(if state { "true" } else { "false" }.into()),
            Self::Number(text) => Some(text.into()),
            Self::Text(text) => Some(text),
        }
    }
}

fn number_value(digits: &str) -> Result<Value, Problem> {
    let number: f64 = digits.parse().map_err(|_| Problem::NotFinite)?;
    if !number.is_finite() {
        Err(Problem::NotFinite)
    } else if number.abs() >= EXACT_BELOW && !digits.contains(['.', 'e', 'E']) {
        Err(Problem::TooManyDigits)
    } else {
        Ok(Value::Float(number))
    }
}

/// A member's own spelling, cut for people.
pub(crate) fn excerpt(text: &str) -> Box<str> {
    let mut end = text.len().min(EXCERPT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

/// Collects the members of one payload.
#[derive(Debug)]
pub(crate) struct Members<'r> {
    roles: &'r Roles,
    decoded: Decoded,
    sequence: Option<u64>,
    boot: Option<u64>,
    seen: [bool; 4],
}

impl<'r> Members<'r> {
    pub(crate) fn new(roles: &'r Roles) -> Self {
        Self {
            roles,
            decoded: Decoded::default(),
            sequence: None,
            boot: None,
            seen: [false; 4],
        }
    }

    /// Takes a member by its own name (for nested ones `outer_inner`).
    pub(crate) fn put(&mut self, name: &str, scalar: Scalar<'_>) -> Result<(), DecodeError> {
        let roles = self.roles;
        let is = |role: &Option<String>| role.as_deref() == Some(name);
        if is(&roles.device) {
            self.once(0, name)?;
            self.decoded.device = scalar.word().map(Cow::into_owned);
        } else if is(&roles.time) {
            self.once(1, name)?;
            match device_time(scalar, &roles.time_format) {
                Ok(time) => self.decoded.time = time.map(DeviceTime::At),
                Err(problem) => return self.reject(name, problem),
            }
        } else if is(&roles.sequence) {
            self.once(2, name)?;
            match scalar.word().map(|word| word.parse::<u64>()) {
                None => {}
                Some(Ok(sequence)) => self.sequence = Some(sequence),
                Some(Err(_)) => return self.reject(name, Problem::NotANumber),
            }
        } else if is(&roles.boot) {
            self.once(3, name)?;
            self.boot = scalar.word().map(|word| boot_number(&word));
        } else {
            return self.field(name, scalar);
        }
        Ok(())
    }

    /// Takes what names the device or describes it, and is no value.
    pub(crate) fn tag(&mut self, name: &str, text: &str) -> Result<(), DecodeError> {
        if self.roles.device.as_deref() == Some(name) {
            return self.put(name, Scalar::Text(text.into()));
        }
        match FieldName::normalise(name) {
            Ok(name) if text.len() <= MAX_TEXT_BYTES => {
                self.decoded.meta.push((name, text.into()));
                if self.decoded.meta.len() > MAX_FIELDS {
                    return Err(DecodeError::TooManyMembers);
                }
                Ok(())
            }
            Ok(_) => self.reject(name, Problem::TextTooLong(text.len())),
            Err(_) => self.reject(name, Problem::Name),
        }
    }

    /// Takes a time whose place the format itself defines.
    pub(crate) fn measured_at(&mut self, time: Timestamp) {
        self.decoded.time = Some(DeviceTime::At(time));
    }

    fn once(&mut self, role: usize, name: &str) -> Result<(), DecodeError> {
        if std::mem::replace(&mut self.seen[role], true) {
            return Err(DecodeError::RoleTwice(excerpt(name)));
        }
        Ok(())
    }

    fn field(&mut self, name: &str, scalar: Scalar<'_>) -> Result<(), DecodeError> {
        match (FieldName::normalise(name), scalar.value()) {
            (_, Ok(None)) => Ok(()),
            (Err(_), _) => self.reject(name, Problem::Name),
            (Ok(_), Err(problem)) => self.reject(name, problem),
            (Ok(canonical), Ok(Some(value))) => self.decoded.keep(canonical, value),
        }
    }

    /// Takes a value that has its canonical name already.
    pub(crate) fn keep(
        &mut self,
        name: &FieldName,
        value: Result<Option<Value>, Problem>,
    ) -> Result<(), DecodeError> {
        match value {
            Ok(None) => Ok(()),
            Ok(Some(value)) => self.decoded.keep(name.clone(), value),
            Err(problem) => self.reject(name.as_str(), problem),
        }
    }

    /// Notes a member that cannot be kept.
    pub(crate) fn reject(&mut self, name: &str, problem: Problem) -> Result<(), DecodeError> {
        self.decoded.reject(name, problem)
    }

    pub(crate) fn finish(mut self) -> Decoded {
        unique(&mut self.decoded);
        self.decoded.source = match (self.sequence, &self.roles.boot, self.boot) {
            // A boot is declared but missing: without it the number is no identity.
            (Some(_), Some(_), None) | (None, ..) => None,
            (Some(sequence), _, boot) => Some(SourceId {
                boot: boot.unwrap_or(0),
                sequence,
            }),
        };
        self.decoded
    }
}

/// Moves every field whose canonical name is not unique to the rejected ones.
pub(crate) fn unique(decoded: &mut Decoded) {
    decoded.fields.sort_by(|a, b| a.0.cmp(&b.0));
    if !decoded.fields.windows(2).any(|two| two[0].0 == two[1].0) {
        return;
    }
    let fields = std::mem::take(&mut decoded.fields);
    for group in fields.chunk_by(|a, b| a.0 == b.0) {
        if let [one] = group {
            decoded.fields.push(one.clone());
        } else if let [(name, _), ..] = group {
            decoded
                .rejected
                .push((name.as_str().into(), Problem::Twice));
        }
    }
}

/// A boot that is a number is itself; any other word is hashed, for all that counts is that it differs.
fn boot_number(word: &str) -> u64 {
    word.parse()
        .unwrap_or_else(|_| xxhash_rust::xxh3::xxh3_64(word.as_bytes()))
}

fn device_time(scalar: Scalar<'_>, format: &TimeFormat) -> Result<Option<Timestamp>, Problem> {
    let Some(word) = scalar.word() else {
        return Ok(None);
    };
    let per_unit = match format {
        TimeFormat::Rfc3339 => {
            return word.parse().map(Some).map_err(|_| Problem::NotATime);
        }
        TimeFormat::UnixSeconds => 1e6,
        TimeFormat::UnixMillis => 1e3,
        TimeFormat::UnixMicros => 1.0,
        TimeFormat::UnixNanos => 1e-3,
        TimeFormat::Pattern(pattern) => {
            return pattern.parse(&word).map(Some).ok_or(Problem::NotATime);
        }
    };
    // Today's microseconds need 51 of a float's 53 bits, so rounding gives the microsecond written.
    let micros = word.parse::<f64>().map_err(|_| Problem::NotATime)? * per_unit;
    if !micros.is_finite() || micros.abs() >= EXACT_BELOW {
        return Err(Problem::NotATime);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked against 2^53 above"
    )]
    Timestamp::from_micros(micros.round() as i64)
        .map(Some)
        .map_err(|_| Problem::NotATime)
}
