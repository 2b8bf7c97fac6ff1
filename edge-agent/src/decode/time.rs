//! Times as people write them: strftime's letters and a time zone.
//!
//! A local hour that comes twice is the first of the two, one that never comes is moved as the clocks were;
//! a text with an offset of its own needs no zone.

use jiff::{fmt::strtime, tz::TimeZone};
use protocol::Timestamp;

/// How.
#[derive(Debug, Clone, PartialEq)]
pub struct TimePattern {
    pattern: String,
    zone_name: String,
    zone: TimeZone,
}

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum TimePatternError {
    /// No such zone.
    #[error("zone {0:?} is not known here; is the package tzdata installed?")]
    Zone(String),
    /// The pattern means nothing.
    #[error("pattern {0:?} cannot be used: {1}")]
    Pattern(String, jiff::Error),
}

impl TimePattern {
    /// Checks both.
    ///
    /// # Errors
    /// The one that is wrong.
    pub fn new(pattern: &str, zone: &str) -> Result<Self, TimePatternError> {
        let known = TimeZone::get(zone).map_err(|_| TimePatternError::Zone(zone.to_owned()))?;
        // Writing a time shows a letter that means nothing without a text to read.
        let sample = jiff::Timestamp::UNIX_EPOCH.to_zoned(known.clone());
        strtime::format(pattern, &sample)
            .map_err(|error| TimePatternError::Pattern(pattern.to_owned(), error))?;
        Ok(Self {
            pattern: pattern.to_owned(),
            zone_name: zone.to_owned(),
            zone: known,
        })
    }

    /// The pattern as written.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The zone's name as written.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.zone_name
    }

    /// Reads a time.
    #[must_use]
    pub fn parse(&self, text: &str) -> Option<Timestamp> {
        let parts = strtime::parse(&self.pattern, text.trim()).ok()?;
        let instant = match parts.to_timestamp() {
            Ok(instant) => instant,
            Err(_) => parts
                .to_datetime()
                .ok()?
                .to_zoned(self.zone.clone())
                .ok()?
                .timestamp(),
        };
        Timestamp::from_micros(instant.as_microsecond()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_reads_local_time_in_its_zone_and_offsets_as_they_are() {
        let read = |pattern: &str, zone: &str, text: &str| {
            let pattern = TimePattern::new(pattern, zone).unwrap();
            pattern.parse(text).map(|time| time.to_string())
        };
        let german = "%d.%m.%Y %H:%M:%S";
        let at = read(german, "UTC", "23.11.2026 22:04:07");
        assert_eq!(at.as_deref(), Some("2026-11-23T22:04:07Z"));
        let at = read("%Y-%m-%dT%H:%M:%S%z", "UTC", "2026-07-01T12:00:00+0200");
        assert_eq!(at.as_deref(), Some("2026-07-01T10:00:00Z"));
        let at = read("%Y%m%d %H%M%S%.f", "UTC", "20261123 220407.25");
        assert_eq!(at.as_deref(), Some("2026-11-23T22:04:07.25Z"));
        assert_eq!(read(german, "UTC", "31.02.2026 00:00:00"), None);
        assert!(TimePattern::new(german, "Atlantis/Poseidonis").is_err());
        assert!(TimePattern::new("%!", "UTC").is_err());
    }
}
