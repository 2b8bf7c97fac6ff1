//! Times as devices write them.

use jiff::{civil::DateTime, tz::TimeZone};
use protocol::Timestamp;

use crate::decode::DeviceTime;

/// Reads ISO 8601 with an offset, without one in `zone` (nothing where that is not known), or seconds,
/// milliseconds, microseconds or nanoseconds since 1970.
///
/// The hour that a zone has twice in autumn is the one nearer to `at`, the arrival.
pub(super) fn written(text: &str, zone: Option<&TimeZone>, at: Timestamp) -> Option<DeviceTime> {
    let text = text.trim();
    if let Some(unix) = number(text) {
        return unix;
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(DeviceTime::At(time));
    }
    if let Ok(zoned) = text.parse::<jiff::Zoned>() {
        return micros(zoned.timestamp());
    }
    let civil: DateTime = match text.parse() {
        Ok(civil) => civil,
        // `2018.02.01 21:29:40`, as Tasmota wrote before version 6.
        Err(_) => text.replacen('.', "-", 2).parse().ok()?,
    };
    let ambiguous = zone?.to_ambiguous_timestamp(civil);
    let near = |time: &jiff::Timestamp| (time.as_microsecond() - at.as_micros()).abs();
    let (earlier, later) = (ambiguous.earlier().ok()?, ambiguous.later().ok()?);
    micros(if near(&earlier) <= near(&later) {
        earlier
    } else {
        later
    })
}

fn number(text: &str) -> Option<Option<DeviceTime>> {
    let first = text.as_bytes().first()?;
    if !(first.is_ascii_digit() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')) {
        return None;
    }
    text.parse().ok().map(unix)
}

/// Since 1970, in the unit that puts it nearest to our days: seconds up to the year 5138, then
/// milliseconds, microseconds, nanoseconds.
pub(super) fn unix(number: f64) -> Option<DeviceTime> {
    if !number.is_finite() || number <= 0.0 {
        return None;
    }
    let micros = match number {
        n if n < 1e11 => n * 1e6,
        n if n < 1e14 => n * 1e3,
        n if n < 1e17 => n,
        n if n < 1e19 => n / 1e3,
        _ => return None,
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "below 1e17, and from_micros judges"
    )]
    Timestamp::from_micros(micros.round() as i64)
        .ok()
        .map(DeviceTime::At)
}

fn micros(time: jiff::Timestamp) -> Option<DeviceTime> {
    Timestamp::from_micros(time.as_microsecond())
        .ok()
        .map(DeviceTime::At)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, zone: Option<&str>, at: &str) -> Option<String> {
        let zone = zone.map(|name| TimeZone::get(name).unwrap());
        match written(text, zone.as_ref(), at.parse().unwrap())? {
            DeviceTime::At(time) => Some(time.to_string()),
            DeviceTime::Age(_) => None,
        }
    }

    #[test]
    fn times_are_read_as_devices_write_them() {
        let at = "2026-11-23T12:00:00Z";
        for (text, zone, expected) in [
            (
                "2026-11-23T21:04:07.113Z",
                None,
                Some("2026-11-23T21:04:07.113Z"),
            ),
            (
                "2026-11-23T21:04:07+01:00",
                None,
                Some("2026-11-23T20:04:07Z"),
            ),
            (
                "2026-11-23T21:04:07+0100",
                None,
                Some("2026-11-23T20:04:07Z"),
            ),
            (
                "2026-11-23T21:04:07",
                Some("Europe/Berlin"),
                Some("2026-11-23T20:04:07Z"),
            ),
            (
                "2026-11-23 21:04:07.25",
                Some("Europe/Berlin"),
                Some("2026-11-23T20:04:07.25Z"),
            ),
            ("2026-11-23T21:04:07", None, None),
            ("1795460647", None, Some("2026-11-23T19:04:07Z")),
            ("1795460647.25", None, Some("2026-11-23T19:04:07.25Z")),
            ("1795460647250", None, Some("2026-11-23T19:04:07.25Z")),
            ("@0.123s", Some("UTC"), None),
            ("99999999999999999999999", None, None),
            ("", None, None),
            ("tomorrow", Some("UTC"), None),
        ] {
            assert_eq!(read(text, zone, at).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_hour_that_comes_twice_is_the_one_that_arrived() {
        let text = "2026-10-25T02:30:00";
        for (at, expected) in [
            ("2026-10-25T00:30:02Z", "2026-10-25T00:30:00Z"),
            ("2026-10-25T01:30:02Z", "2026-10-25T01:30:00Z"),
        ] {
            assert_eq!(
                read(text, Some("Europe/Berlin"), at).as_deref(),
                Some(expected)
            );
        }
    }
}
