//! What one device measured at one time.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor},
};

use crate::{BootId, DeviceId, as_text, ids::ByteSet};

/// Most fields a reading may have.
pub const MAX_FIELDS: usize = 256;
/// Longest text value, in bytes.
pub const MAX_TEXT_BYTES: usize = 256;
/// Largest reading in its packed form ([`record::postcard`](crate::record::postcard)), in bytes.
pub const MAX_READING_BYTES: usize = 4096;

/// Microseconds since 1970-01-01 UTC, from year −9999 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Timestamp(i64);

/// A time outside the years that can be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a time: {0}")]
pub struct TimeError(String);

impl Timestamp {
    /// 1970-01-01 UTC.
    pub const UNIX_EPOCH: Self = Self(0);

    /// Takes microseconds since 1970.
    ///
    /// # Errors
    /// When the calendar cannot show them.
    pub fn from_micros(micros: i64) -> Result<Self, TimeError> {
        jiff::Timestamp::from_microsecond(micros)
            .map(|_| Self(micros))
            .map_err(|_| TimeError(format!("{micros} us is outside years -9999 to 9999")))
    }

    /// Microseconds since 1970.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since 1970, rounded down: what a MongoDB date holds.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl TryFrom<i64> for Timestamp {
    type Error = TimeError;
    fn try_from(micros: i64) -> Result<Self, TimeError> {
        Self::from_micros(micros)
    }
}

impl From<Timestamp> for i64 {
    fn from(time: Timestamp) -> Self {
        time.0
    }
}

/// RFC 3339 in UTC, with as many decimals as needed.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => fmt::Display::fmt(&time, f),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// RFC 3339 with any offset; finer than a microsecond is cut off.
impl FromStr for Timestamp {
    type Err = TimeError;
    fn from_str(text: &str) -> Result<Self, TimeError> {
        text.parse::<jiff::Timestamp>()
            .map(|time| Self(time.as_microsecond()))
            .map_err(|error| TimeError(format!("{error}")))
    }
}

/// Where a reading's time comes from, and how far it can be trusted.
///
/// Variants are only ever appended: their numbers are on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[repr(u64)] // moved in whole words: behind a tag of one byte each move would wait for the one before
pub enum Clock {
    /// The device's own time.
    Device,
    /// Arrival at the agent, whose clock was synchronised.
    Synced,
    /// Arrival at the agent, whose clock was not synchronised: right only relative to its own boot.
    Unsynced {
        /// The boot within which `monotonic_us` counts.
        boot: BootId,
        /// Time since that boot, in microseconds.
        monotonic_us: u64,
    },
    /// Arrival without a synchronised clock, put right later by the same boot.
    Corrected,
}

impl Clock {
    /// The word used in records and documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Synced => "synced",
            Self::Unsynced { .. } => "unsynced",
            Self::Corrected => "corrected",
        }
    }
}

/// A number the device itself gave the reading, by which a retransmission is recognised.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SourceId {
    /// Differs from one start of the device to the next; 0 where the device does not say.
    pub boot: u64,
    /// Grows by one with each reading of a boot.
    pub sequence: u64,
}

/// A measured value. Physical quantities are always `Float`, also when they happen to be whole.
///
/// Variants are only ever appended: their numbers are on the wire and on disk.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[repr(u64)] // as `Clock`
pub enum Value {
    /// A physical quantity; always finite.
    Float(f64),
    /// A counter that needs all its digits.
    Int(i64),
    /// A state.
    Bool(bool),
    /// A short text, at most [`MAX_TEXT_BYTES`].
    Text(Box<str>),
}

/// Why a name, a value or a set of them was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Not `[a-z0-9_]{1,64}`.
    #[error("field name must be 1 to 64 of a-z 0-9 _, not {0:?}")]
    Name(Box<str>),
    /// NaN or an infinity.
    #[error("field {0} is not a finite number")]
    NotFinite(FieldName),
    /// Text over [`MAX_TEXT_BYTES`].
    #[error("field {name} has {got} bytes of text, {MAX_TEXT_BYTES} are allowed")]
    TextTooLong {
        /// The field.
        name: FieldName,
        /// Its length in bytes.
        got: usize,
    },
    /// The same name twice in one reading.
    #[error("field {0} appears twice")]
    Duplicate(FieldName),
    /// No field, or more than [`MAX_FIELDS`].
    #[error("a reading has 1 to {MAX_FIELDS} fields, not {0}")]
    Count(usize),
}

/// A field's name: `quantity_unit`, `[a-z0-9_]{1,64}`, reachable by every MongoDB query.
// Written as what is inside: `into` would clone it first. So also below, and the ids.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FieldName(Box<str>);

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        as_text::deserialize(from)
    }
}

impl FieldName {
    /// Longest name, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Takes a name that is already canonical.
    ///
    /// # Errors
    /// [`FieldError::Name`] with what was given, cut to 80 bytes.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, FieldError> {
        let text = text.into();
        static SET: ByteSet = ByteSet::of(b"abcdefghijklmnopqrstuvwxyz0123456789_");
        if text.is_empty() || text.len() > Self::MAX_BYTES || !SET.covers(&text) {
            return Err(FieldError::Name(excerpt(&text)));
        }
        Ok(Self(text))
    }

    /// Makes a canonical name of any other, by a rule that never changes (so it asks no Unicode table,
    /// which each Rust release renews): ASCII letters become lower case, `µ` is `u`, `°` is `deg`, `℃` is
    /// `degc`, super- and subscript digits are digits; ASCII signs, the signs of Latin-1, U+2000 to U+206F
    /// and the byte order mark separate, a run of them is one `_`; any other character is `u` and its code in
    /// hex. `PM2.5` is `pm2_5`, `CO₂` is `co2`.
    ///
    /// # Errors
    /// [`FieldError::Name`] when nothing is left or too much.
    pub fn normalise(text: &str) -> Result<Self, FieldError> {
        let mut name = String::with_capacity(text.len());
        let mut gap = false;
        for c in text.chars() {
            let separates = matches!(c,
                '\0'..='\u{bf}' | '×' | '÷' | '\u{2000}'..='\u{206f}' | '\u{feff}');
            let piece: Option<String> = match c {
                'µ' | 'μ' => Some("u".into()),
                '°' => Some("deg".into()),
                '℃' => Some("degc".into()),
                '¹' => Some("1".into()),
                '²' => Some("2".into()),
                '³' => Some("3".into()),
                '⁰' | '⁴'..='⁹' => Some((u32::from(c) - 0x2070).to_string()),
                '₀'..='₉' => Some((u32::from(c) - 0x2080).to_string()),
                c if c.is_ascii_alphanumeric() => Some(c.to_ascii_lowercase().into()),
                _ if separates => None,
                c => Some(format!("u{:04x}", u32::from(c))),
            };
            match piece {
                Some(piece) => {
                    if gap && !name.is_empty() {
                        name.push('_');
                    }
                    gap = false;
                    name.push_str(&piece);
                }
                None => gap = true,
            }
            if name.len() > Self::MAX_BYTES {
                return Err(FieldError::Name(excerpt(text)));
            }
        }
        Self::new(name).map_err(|_| FieldError::Name(excerpt(text)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The first 80 bytes or a little less: what of a payload may appear in an error.
pub(crate) fn excerpt(text: &str) -> Box<str> {
    text.char_indices()
        .take_while(|(at, c)| at + c.len_utf8() <= 80)
        .map(|(_, c)| c)
        .collect::<String>()
        .into()
}

impl TryFrom<Box<str>> for FieldName {
    type Error = FieldError;
    fn try_from(text: Box<str>) -> Result<Self, FieldError> {
        Self::new(text)
    }
}

impl FromStr for FieldName {
    type Err = FieldError;
    fn from_str(text: &str) -> Result<Self, FieldError> {
        Self::new(text)
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Reads named entries into what a check makes of them, where they lie: `try_from` would hand the list from
/// result to result first.
struct Entries<V, T>(Check<V, T>);
type Check<V, T> = fn(Vec<(FieldName, V)>) -> Result<T, FieldError>;

impl<'de, V: Deserialize<'de>, T> Visitor<'de> for Entries<V, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names with values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
        // What is declared is not believed.
        let mut entries = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(MAX_FIELDS));
        while let Some(entry) = seq.next_element()? {
            entries.push(entry);
        }
        (self.0)(entries).map_err(de::Error::custom)
    }
}

/// The measured values of one reading: sorted by name, each name once, each number finite.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Fields(Vec<(FieldName, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Entries(Self::new))
    }
}

impl Fields {
    /// Sorts and checks.
    ///
    /// # Errors
    /// The first rule that is broken; the caller may drop that field and try the rest.
    pub fn new(mut fields: Vec<(FieldName, Value)>) -> Result<Self, FieldError> {
        if fields.is_empty() || fields.len() > MAX_FIELDS {
            return Err(FieldError::Count(fields.len()));
        }
        // What was written by this crate already is.
        if !fields.is_sorted_by(|a, b| a.0 < b.0) {
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            if let Some(twice) = fields.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                return Err(FieldError::Duplicate(twice[0].0.clone()));
            }
        }
        for (name, value) in &fields {
            Self::check(name, value)?;
        }
        Ok(Self(fields))
    }

    /// Checks one value by itself.
    ///
    /// # Errors
    /// [`FieldError::NotFinite`] or [`FieldError::TextTooLong`].
    pub fn check(name: &FieldName, value: &Value) -> Result<(), FieldError> {
        match value {
            Value::Float(number) if !number.is_finite() => Err(FieldError::NotFinite(name.clone())),
            Value::Text(text) if text.len() > MAX_TEXT_BYTES => Err(FieldError::TextTooLong {
                name: name.clone(),
                got: text.len(),
            }),
            _ => Ok(()),
        }
    }

    /// In the order of the names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&FieldName, &Value)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let at = self
            .0
            .binary_search_by(|(have, _)| have.as_str().cmp(name))
            .ok()?;
        Some(&self.0[at].1)
    }

    /// How many, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a reading is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl TryFrom<Vec<(FieldName, Value)>> for Fields {
    type Error = FieldError;
    fn try_from(fields: Vec<(FieldName, Value)>) -> Result<Self, FieldError> {
        Self::new(fields)
    }
}

impl From<Fields> for Vec<(FieldName, Value)> {
    fn from(fields: Fields) -> Self {
        fields.0
    }
}

/// What is known of a device beyond its values: model, site, room. Sorted by name, may be empty.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Metadata(Vec<(FieldName, Box<str>)>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Entries(Self::new))
    }
}

impl Metadata {
    /// Sorts and checks.
    ///
    /// # Errors
    /// A name twice, a text over [`MAX_TEXT_BYTES`], more than [`MAX_FIELDS`] entries.
    pub fn new(mut entries: Vec<(FieldName, Box<str>)>) -> Result<Self, FieldError> {
        if entries.len() > MAX_FIELDS {
            return Err(FieldError::Count(entries.len()));
        }
        entries.sort();
        if let Some(twice) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(FieldError::Duplicate(twice[0].0.clone()));
        }
        if let Some((name, text)) = entries.iter().find(|(_, text)| text.len() > MAX_TEXT_BYTES) {
            return Err(FieldError::TextTooLong {
                name: name.clone(),
                got: text.len(),
            });
        }
        Ok(Self(entries))
    }

    /// In the order of the names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&FieldName, &str)> {
        self.0.iter().map(|(name, text)| (name, &**text))
    }

    /// Nothing known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<(FieldName, Box<str>)>> for Metadata {
    type Error = FieldError;
    fn try_from(entries: Vec<(FieldName, Box<str>)>) -> Result<Self, FieldError> {
        Self::new(entries)
    }
}

/// What one device measured at one time.
///
/// The order of the members is their order on disk and on the wire.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reading {
    /// Who measured.
    pub device: DeviceId,
    /// When: the device's own time if it declares a plausible one, else the arrival at the agent.
    pub time: Timestamp,
    /// What that time is worth.
    pub clock: Clock,
    /// The values.
    pub fields: Fields,
    /// The device's own number of this reading, where it has one.
    pub source: Option<SourceId>,
    /// Model, site and the like.
    pub meta: Metadata,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn name(text: &str) -> FieldName {
        FieldName::new(text).unwrap()
    }

    #[test]
    fn names_become_canonical_by_a_rule_that_never_changes() {
        for (given, canonical) in [
            ("PM2.5", "pm2_5"),
            ("Temperature (°C)", "temperature_degc"),
            ("  µg/m³ ", "ug_m3"),
            ("$where", "where"),
            ("a..b", "a_b"),
            ("tür", "tu00fcr"),
            ("CO₂ [ppm]", "co2_ppm"),
            ("Q⁴·s⁻¹", "q4_su207b1"),
            ("\u{feff}temp ℃", "temp_degc"),
            ("a\u{2013}b\u{a0}c", "a_b_c"),
            ("a\0b×c", "a_b_c"),
            ("Ω", "u03a9"),
            ("😀", "u1f600"),
            ("1.8.0", "1_8_0"),
        ] {
            assert_eq!(FieldName::normalise(given).unwrap().as_str(), canonical);
        }
        assert!(FieldName::normalise("...").is_err());
        assert!(FieldName::normalise(&"x".repeat(65)).is_err());
        assert!(FieldName::normalise(&"é".repeat(100_000)).is_err());
    }

    #[test]
    fn fields_are_sorted_unique_and_finite() {
        let fields = Fields::new(vec![
            (name("b"), Value::Int(1)),
            (name("a"), Value::Bool(true)),
        ])
        .unwrap();
        assert_eq!(fields.iter().next().unwrap().0.as_str(), "a");
        assert_eq!(fields.get("b"), Some(&Value::Int(1)));
        assert_eq!(Fields::new(vec![]), Err(FieldError::Count(0)));
        let twice = vec![(name("a"), Value::Int(1)), (name("a"), Value::Int(2))];
        assert_eq!(Fields::new(twice), Err(FieldError::Duplicate(name("a"))));
        let infinite = vec![(name("a"), Value::Float(f64::INFINITY))];
        assert_eq!(Fields::new(infinite), Err(FieldError::NotFinite(name("a"))));
    }

    #[test]
    fn time_is_written_in_utc_and_read_with_any_offset() {
        let time: Timestamp = "2026-11-23T22:04:07.113+01:00".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-23T21:04:07.113Z");
        assert_eq!(Timestamp::from_micros(-1).unwrap().as_millis(), -1);
        assert!(Timestamp::from_micros(i64::MAX).is_err());
        assert!("2026-11-23T22:04:07".parse::<Timestamp>().is_err());
    }
}
