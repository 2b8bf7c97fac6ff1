//! The values of one piece of a device's format, under names that are canonical already.
//!
//! Devices write decimal numbers and count in thousandths; both become the float nearest to what was
//! meant. `00.244` kW are exactly `244.0` W, and `2304` tenths of a volt `230.4`: scaling by a power of ten
//! is done in the digits, or by one division, never by multiplying with a `0.1` that does not exist.

use protocol::{FieldName, MAX_TEXT_BYTES, Value};

use super::{Decoded, Problem, excerpt, unique, units};

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

    /// A quantity by its digits, in the unit that the catalogue stores; one that it does not know stays part
    /// of the name.
    pub(crate) fn measured(&mut self, quantity: &str, unit: &str, digits: &str) {
        match (units::canonical(quantity, unit), decimal(digits, 0)) {
            (Some(known), Some(number)) => {
                self.float(known.name.as_str(), known.conversion.apply(number));
            }
            _ => self.decimal(&format!("{quantity}_{unit}"), digits, 0),
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
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if let Some(number) = short(whole, fraction, exponent) {
        return Some(if digits.starts_with('-') {
            -number
        } else {
            number
        });
    }
    format!("{digits}e{exponent}").parse().ok()
}

/// What most devices write: both the digits and the power of ten are exact as floats, so one
/// multiplication or division of them rounds as reading all of it would.
fn short(whole: &str, fraction: &str, exponent: i32) -> Option<f64> {
    const EXACT: [f64; 16] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
    ];
    if whole.len() + fraction.len() > 15 {
        return None;
    }
    let mut number = 0.0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10.0 + f64::from(digit - b'0');
    }
    let exponent = exponent - i32::try_from(fraction.len()).ok()?;
    let power = EXACT.get(usize::try_from(exponent.unsigned_abs()).ok()?)?;
    Some(if exponent < 0 {
        number / power
    } else {
        number * power
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_are_scaled_as_they_are_meant() {
        for (digits, exponent, expected) in [
            ("00.244", 3, Some(244.0)),
            ("2304", -1, Some(230.4)),
            ("-7626", -3, Some(-7.626)),
            ("+5", 1, Some(50.0)),
            (".5", -1, Some(0.05)),
            ("12345678901234567.8", -3, Some(12_345_678_901_234.568)),
            ("-", 1, None),
            ("1.2.3", 1, None),
            ("1e3", 1, None),
            ("", 1, None),
        ] {
            assert_eq!(decimal(digits, exponent), expected, "{digits}e{exponent}");
        }
        assert!(decimal("-0", 3).is_some_and(|zero| zero.is_sign_negative()));
    }

    proptest! {
        #[test]
        fn the_short_way_says_what_the_long_one_does(
            digits in "[-+]?[0-9]{1,12}(\\.[0-9]{0,6})?",
            exponent in -9i32..9,
        ) {
            let long = format!("{digits}e{exponent}").parse::<f64>().ok();
            prop_assert_eq!(decimal(&digits, exponent), long);
        }
    }
}
