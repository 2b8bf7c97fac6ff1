//! The values of one piece of a device's format, under names that are canonical already.
//!
//! Devices write decimal numbers and count in thousandths; both become the float nearest to what was
//! meant. `00.244` kW are exactly `244.0` W, and `2304` tenths of a volt `230.4`: scaling by a power of ten
//! is done in the digits, or by one division, never by multiplying with a `0.1` that does not exist.

use protocol::{FieldName, MAX_TEXT_BYTES, Value};

use super::{Decoded, Problem, excerpt, unique};

/// Collects them.
#[derive(Debug, Default, Clone)]
pub(crate) struct Values(Decoded);

impl Values {
    /// A quantity.
    pub(crate) fn float(&mut self, name: &str, number: f64) {
        if number.is_finite() {
            self.put(name, Value::Float(number));
        } else {
            self.reject(name, Problem::NotFinite);
        }
    }

    /// A quantity by its digits, times ten to the `exponent`; no digits say nothing.
    pub(crate) fn decimal(&mut self, name: &str, digits: &str, exponent: i32) {
        if digits.is_empty() {
            return;
        }
        match decimal(digits, exponent) {
            Some(number) => self.float(name, number),
            None => self.reject(name, Problem::NoNumber),
        }
    }

    /// A state.
    pub(crate) fn flag(&mut self, name: &str, state: bool) {
        self.put(name, Value::Bool(state));
    }

    /// A word.
    pub(crate) fn text(&mut self, name: &str, text: &str) {
        if text.len() > MAX_TEXT_BYTES {
            self.reject(name, Problem::TextTooLong(text.len()));
        } else {
            self.put(name, Value::Text(text.into()));
        }
    }

    /// Any value, under a name that still has to be made canonical.
    pub(crate) fn put(&mut self, name: &str, value: Value) {
        match FieldName::normalise(name) {
            Ok(canonical) => self.0.fields.push((canonical, value)),
            Err(_) => self.reject(name, Problem::Name),
        }
    }

    /// What is known of the device beyond its values.
    pub(crate) fn meta(&mut self, name: &str, text: &str) {
        let known = |(have, _): &(FieldName, Box<str>)| have.as_str() == name;
        if let Ok(name) = FieldName::new(name)
            && !text.is_empty()
            && text.len() <= MAX_TEXT_BYTES
            && !self.0.meta.iter().any(known)
        {
            self.0.meta.push((name, text.into()));
        }
    }

    /// Notes a value that cannot be kept.
    pub(crate) fn reject(&mut self, name: &str, problem: Problem) {
        self.0.rejected.push((excerpt(name), problem));
    }

    /// Whether there is such a value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.fields.iter().any(|(have, _)| have.as_str() == name)
    }

    /// Whether nothing was said, not even something wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.fields.is_empty() && self.0.rejected.is_empty()
    }

    /// All of it, names unique.
    pub(crate) fn finish(mut self) -> Decoded {
        unique(&mut self.0);
        self.0
    }
}

/// `digits` times ten to the `exponent`, rounded once: sign, digits, at most one point.
pub(crate) fn decimal(digits: &str, exponent: i32) -> Option<f64> {
    let unsigned = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    let plain = unsigned.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !plain || unsigned.len() > 40 || !unsigned.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    if exponent == 0 {
        return digits.parse().ok();
    }
    format!("{digits}e{exponent}").parse().ok()
}
