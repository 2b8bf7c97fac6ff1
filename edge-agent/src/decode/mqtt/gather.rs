//! Collects the fields of one reading under canonical names.
//!
//! A value decides by its kind what its name says: a number in a known unit is converted and gets the
//! unit in its name; a word or a state under the same name keeps the bare name. So `battery_pct` is
//! always a number and `battery` never one, whichever of them a firmware sends.

use protocol::{FieldName, Value};

use super::tree::Node;
use crate::decode::{
    DecodeError, Decoded, DeviceTime, Problem, Scalar, unique,
    units::{self, Canonical},
};

/// How the unit of a number is known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unit<'u> {
    /// The format says it.
    Is(&'u str),
    /// By the catalogue of quantities.
    Usual,
    /// The name ends with it.
    InName,
    /// Not at all.
    Unknown,
}

/// The reading so far.
#[derive(Debug, Default)]
pub(super) struct Gather {
    decoded: Decoded,
}

impl Gather {
    pub(super) fn of(device: Option<&str>) -> Self {
        Self {
            decoded: Decoded {
                device: device.map(Into::into),
                ..Decoded::default()
            },
        }
    }

    pub(super) fn at(&mut self, time: Option<DeviceTime>) {
        self.decoded.time = time;
    }

    /// Metadata; a word without a canonical name or too long is left out, it is not a value.
    pub(super) fn meta(&mut self, name: &str, word: Option<&str>) {
        if let (Ok(name), Some(word)) = (FieldName::normalise(name), word)
            && !word.is_empty()
            && word.len() <= protocol::MAX_TEXT_BYTES
            && !self.decoded.meta.iter().any(|(have, _)| *have == name)
        {
            self.decoded.meta.push((name, word.into()));
        }
    }

    /// A leaf, or everything below as `name_inner`.
    pub(super) fn node(
        &mut self,
        name: &str,
        unit: Unit<'_>,
        node: &Node<'_>,
    ) -> Result<(), DecodeError> {
        match node {
            Node::Leaf(scalar) => self.leaf(name, unit, scalar),
            Node::TooDeep => self.reject(name, Problem::TooDeep),
            Node::Object(members) => members.iter().try_for_each(|(key, node)| {
                self.node(&format!("{name}_{}", snake(key)), unit, node)
            }),
            Node::List(elements) => elements
                .iter()
                .enumerate()
                .try_for_each(|(index, node)| self.node(&format!("{name}_{index}"), unit, node)),
        }
    }

    /// One value; nothing where nothing is said.
    pub(super) fn leaf(
        &mut self,
        name: &str,
        unit: Unit<'_>,
        scalar: &Scalar<'_>,
    ) -> Result<(), DecodeError> {
        let canonical = match unit {
            Unit::Is(unit) => units::canonical(name, unit),
            Unit::Usual => FieldName::normalise(name).ok().and_then(|name| {
                units::canonical(name.as_str(), units::usual_unit(name.as_str())?)
            }),
            Unit::InName => units::split(name),
            Unit::Unknown => None,
        };
        // A number may be written as a text where numbers are expected.
        let number = match scalar {
            Scalar::Text(text) if canonical.is_some() => match Scalar::bare(text.trim()) {
                Scalar::Number(digits) => Some(Scalar::Number(digits)),
                _ => None,
            },
            _ => None,
        };
        let scalar = number.as_ref().unwrap_or(scalar);
        match (scalar, canonical) {
            (Scalar::Null, _) => Ok(()),
            (Scalar::Number(_), Some(canonical)) => self.quantity(name, canonical, scalar),
            (Scalar::Text(text), _) if text.is_empty() => Ok(()),
            (Scalar::Text(text), _) if text.eq_ignore_ascii_case("on") => {
                self.put(name, Ok(Value::Bool(true)))
            }
            (Scalar::Text(text), _) if text.eq_ignore_ascii_case("off") => {
                self.put(name, Ok(Value::Bool(false)))
            }
            (scalar, _) => match scalar.clone().value() {
                Ok(None) => Ok(()),
                Ok(Some(value)) => self.put(name, Ok(value)),
                Err(problem) => self.put(name, Err(problem)),
            },
        }
    }

    fn quantity(
        &mut self,
        name: &str,
        canonical: Canonical,
        scalar: &Scalar<'_>,
    ) -> Result<(), DecodeError> {
        match scalar.clone().value() {
            Ok(Some(Value::Float(number))) => {
                let number = canonical.conversion.apply(number);
                if number.is_finite() {
                    self.field(canonical.name, Value::Float(number))
                } else {
                    self.reject(name, Problem::NotFinite)
                }
            }
            Ok(_) => Ok(()),
            Err(problem) => self.reject(name, problem),
        }
    }

    /// A value under a name of its own spelling.
    pub(super) fn put(
        &mut self,
        name: &str,
        value: Result<Value, Problem>,
    ) -> Result<(), DecodeError> {
        match (FieldName::normalise(name), value) {
            (Err(_), _) => self.reject(name, Problem::Name),
            (Ok(_), Err(problem)) => self.reject(name, problem),
            (Ok(canonical), Ok(value)) => self.field(canonical, value),
        }
    }

    /// A number already measured in the unit.
    pub(super) fn float(
        &mut self,
        name: &str,
        unit: Unit<'_>,
        number: f64,
    ) -> Result<(), DecodeError> {
        let canonical = match unit {
            Unit::Is(unit) => units::canonical(name, unit),
            _ => None,
        };
        match canonical {
            _ if !number.is_finite() => self.reject(name, Problem::NotFinite),
            None => self.put(name, Ok(Value::Float(number))),
            Some(canonical) => self.field(
                canonical.name,
                Value::Float(canonical.conversion.apply(number)),
            ),
        }
    }

    fn field(&mut self, name: FieldName, value: Value) -> Result<(), DecodeError> {
        self.decoded.keep(name, value)
    }

    pub(super) fn reject(&mut self, name: &str, problem: Problem) -> Result<(), DecodeError> {
        self.decoded.reject(name, problem)
    }

    /// The reading, unless nothing at all was said.
    pub(super) fn finish(mut self) -> Option<Decoded> {
        unique(&mut self.decoded);
        let empty = self.decoded.fields.is_empty() && self.decoded.rejected.is_empty();
        (!empty).then_some(self.decoded)
    }
}

/// `DewPoint` to `Dew_Point`, `VoltageL1` to `Voltage_L1`, `DCCurrent` to `DC_Current`; `eCO2`,
/// `DS18B20` and what has no capitals stay as they are. The rule is part of the names: it never changes.
pub(super) fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut before = ' ';
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        let next = rest.peek().copied().unwrap_or(' ');
        if c.is_ascii_uppercase() {
            let word = next.is_ascii_lowercase();
            let starts = match before {
                'a'..='z' => word || next.is_ascii_digit(),
                'A'..='Z' | '0'..='9' => word,
                _ => false,
            };
            if starts {
                out.push('_');
            }
        }
        out.push(c);
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals_separate_words_but_not_symbols() {
        for (name, expected) in [
            ("DewPoint", "Dew_Point"),
            ("VoltageL1", "Voltage_L1"),
            ("DCCurrent", "DC_Current"),
            ("String1Current", "String1_Current"),
            ("eCO2", "eCO2"),
            ("DS18B20-1", "DS18B20-1"),
            ("AM2301", "AM2301"),
            ("PM2.5", "PM2.5"),
            ("temperature", "temperature"),
        ] {
            assert_eq!(snake(name), expected);
        }
    }
}
