//! NMEA 0183: GGA, RMC, VTG, GSA, GSV, GLL and ZDA of any talker, joined to one reading per epoch.
//!
//! Source: NMEA 0183 V4.11 as described in u-blox "M8 receiver description incl. protocol specification"
//! (UBX-13003221, chapter 31) and gpsd's "NMEA revealed" (gpsd.gitlab.io/gpsd/NMEA.html).
//!
//! ```text
//! $ talker(2) type(3) , field , … * checksum(2 hex, XOR of everything between $ and *) CR LF
//! ```
//!
//! # One epoch, one reading
//! A receiver says what it knows of one moment in several sentences. GGA, RMC, GLL and ZDA carry the
//! time of day; the others belong to the epoch they stand in. A new epoch begins with another time of
//! day, or with a sentence of a kind that the epoch already has (GSA and GSV, of which there is one per
//! constellation, apart). So the last epoch is complete when the next begins, or the line falls silent.
//! Where two sentences say the same, the first counts.
//!
//! # What is kept
//! The date comes from RMC or ZDA and is carried over midnight; without one there is no time. Degrees have
//! 7 decimals (1 cm). `fix_valid` is false as soon as one sentence says so (status V, quality 0, mode N or
//! "no fix"); coordinates are kept then if the receiver sends any, marked by it, and left out if they are none
//! (`8960.0000,N` of a receiver that knows nothing). A sentence without its
//! checksum is rejected; another kind of sentence, proprietary ones included, is none of ours.
//!
//! Written by hand: the `nmea` crate (0.8) takes chrono, nom and heapless along, holds 32-bit floats for
//! height, speed and course, joins by sentence kinds that have to be announced, and has no place in the stream.

use jiff::{Timestamp as Instant, civil};
use protocol::Timestamp;

use super::{
    Decoded, DeviceTime,
    stream::{Cut, Fault, Step},
    values::{Values, decimal},
};

/// Longest sentence kept; NMEA allows 82, some receivers send more.
const MAX_SENTENCE: usize = 256;
/// Most sentences of an epoch by talker and kind; there are a handful of each.
const MAX_SEEN: usize = 64;
const NANOS_PER_SECOND: i64 = 1_000_000_000;
/// What two ways of rounding the same moment differ by at most: `120824.758` in one sentence, `120824.76`
/// in another. No receiver has two epochs that near.
const ROUNDING: i64 = 5_000_000;
const HALF_A_DAY: i64 = 12 * 3600 * NANOS_PER_SECOND;

/// The format.
#[derive(Debug, Default)]
pub(crate) struct Nmea {
    epoch: Epoch,
    /// The last date said, and the time of day it was said with, in nanoseconds.
    dated: Option<(civil::Date, i64)>,
}

/// What one moment's sentences said so far.
#[derive(Debug, Default)]
struct Epoch {
    values: Values,
    /// Time of day in nanoseconds.
    time: Option<i64>,
    date: Option<civil::Date>,
    valid: Option<bool>,
    /// Whose sentences were seen that end the epoch when they come again.
    seen: Vec<([u8; 2], Kind)>,
    in_view: Vec<([u8; 2], f64)>,
    strongest: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gga,
    Rmc,
    Vtg,
    Gsa,
    Gsv,
    Gll,
    Zda,
}

impl Cut for Nmea {
    fn next(&mut self, held: &[u8], end: bool, out: &mut Vec<Decoded>) -> Step {
        match held.iter().position(|b| matches!(b, b'$' | b'!')) {
            Some(0) => {}
            Some(at) => return quiet(&held[..at]),
            None => return quiet(held),
        }
        let bound = held.len().min(MAX_SENTENCE);
        let stop = |b: &u8| matches!(b, b'\r' | b'\n' | b'$' | b'!');
        let Some(len) = held[1..bound].iter().position(stop).map(|at| at + 1) else {
            return if held.len() >= MAX_SENTENCE {
                Step::Reject(bound, Fault::TooLong)
            } else if end && checked(held).is_ok() {
                self.take(held, out);
                Step::Take(held.len())
            } else if end {
                Step::Reject(held.len(), Fault::Truncated)
            } else {
                Step::Wait
            };
        };
        let sentence = &held[..len];
        match checked(sentence) {
            Ok(_) => {
                self.take(sentence, out);
                Step::Take(len)
            }
            Err(fault) => Step::Reject(len, fault),
        }
    }

    fn flush(&mut self, out: &mut Vec<Decoded>) {
        let epoch = std::mem::take(&mut self.epoch);
        out.extend(epoch.finish(&mut self.dated));
    }
}

/// Bytes between sentences: line ends mean nothing.
fn quiet(between: &[u8]) -> Step {
    let line_end = |b: &u8| matches!(b, b'\r' | b'\n');
    match between.iter().take_while(|b| line_end(b)).count() {
        0 => {
            let noise = between.iter().take_while(|b| !line_end(b)).count();
            Step::Noise(noise)
        }
        ends => Step::Blank(ends),
    }
}

/// What stands between `$` and `*`, if the checksum agrees.
fn checked(sentence: &[u8]) -> Result<&[u8], Fault> {
    let star = sentence
        .iter()
        .rposition(|&b| b == b'*')
        .ok_or(Fault::NoChecksum)?;
    let digits = std::str::from_utf8(&sentence[star + 1..]).unwrap_or("");
    let digits = digits.trim_end();
    if digits.len() != 2 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Fault::Malformed("checksum is not two hex digits"));
    }
    let got = u16::from_str_radix(digits, 16).unwrap_or(u16::MAX);
    let body = &sentence[1..star];
    let expected = u16::from(body.iter().fold(0, |sum, b| sum ^ b));
    if got == expected {
        Ok(body)
    } else {
        Err(Fault::Checksum { got, expected })
    }
}

impl Nmea {
    fn take(&mut self, sentence: &[u8], out: &mut Vec<Decoded>) {
        let Ok(body) = checked(sentence) else { return };
        let Ok(body) = std::str::from_utf8(body) else {
            return;
        };
        let fields: Vec<&str> = body.split(',').collect();
        let Some((talker, kind)) = Kind::of(fields[0]) else {
            return;
        };
        let time = kind.time(&fields).and_then(time_of_day);
        if self.epoch.ends_before(kind, talker, time, &fields) {
            self.flush(out);
        }
        if kind.comes_once() && self.epoch.seen.len() < MAX_SEEN {
            self.epoch.seen.push((talker, kind));
        }
        self.epoch.time = self.epoch.time.or(time);
        self.epoch.take(kind, talker, &fields);
    }
}

impl Kind {
    fn of(address: &str) -> Option<([u8; 2], Self)> {
        let &[t0, t1, a, b, c] = address.as_bytes() else {
            return None;
        };
        // `P` begins a maker's own sentence, whose letters mean what he likes.
        if t0 == b'P' {
            return None;
        }
        let kind = match &[a, b, c] {
            b"GGA" => Self::Gga,
            b"RMC" => Self::Rmc,
            b"VTG" => Self::Vtg,
            b"GSA" => Self::Gsa,
            b"GSV" => Self::Gsv,
            b"GLL" => Self::Gll,
            b"ZDA" => Self::Zda,
            _ => return None,
        };
        Some(([t0, t1], kind))
    }

    /// Whether a talker says it once an epoch.
    fn comes_once(self) -> bool {
        !matches!(self, Self::Gsa | Self::Gsv)
    }

    /// Whether the sentence says that there is a fix.
    fn has_fix(self, fields: &[&str]) -> bool {
        let f = |index: usize| fields.get(index).map_or("", |field| field.trim());
        match self {
            Self::Gga => !matches!(f(6), "" | "0"),
            Self::Rmc => f(2) == "A",
            Self::Gll => f(6) == "A",
            Self::Vtg | Self::Gsa | Self::Gsv | Self::Zda => false,
        }
    }

    fn time<'a>(self, fields: &[&'a str]) -> Option<&'a str> {
        match self {
            Self::Gga | Self::Rmc | Self::Zda => fields.get(1).copied(),
            Self::Gll => fields.get(5).copied(),
            Self::Vtg | Self::Gsa | Self::Gsv => None,
        }
    }
}

impl Epoch {
    /// Whether a sentence belongs to the next moment: another time, a second of its kind by the same talker
    /// (each constellation may have its own), or the first fix of a receiver that had neither fix nor time.
    fn ends_before(&self, kind: Kind, talker: [u8; 2], time: Option<i64>, fields: &[&str]) -> bool {
        let again = self.seen.contains(&(talker, kind));
        match (self.time, time) {
            (Some(was), Some(is)) if (was - is).abs() > ROUNDING => true,
            (None, Some(_)) if self.valid == Some(false) && kind.has_fix(fields) => true,
            _ => again,
        }
    }

    fn take(&mut self, kind: Kind, talker: [u8; 2], fields: &[&str]) {
        let f = |index: usize| fields.get(index).map_or("", |field| field.trim());
        match kind {
            Kind::Gga => {
                self.valid_if(f(6), f(6) != "0");
                self.position(f(2), f(3), f(4), f(5));
                self.number("fix_quality", f(6));
                self.number("satellites_used", f(7));
                self.number("hdop", f(8));
                self.number("altitude_m", f(9));
                self.number("geoid_separation_m", f(11));
                self.number("correction_age_s", f(13));
            }
            Kind::Rmc => {
                self.valid_if(f(2), f(2) == "A");
                self.position(f(3), f(4), f(5), f(6));
                self.speed(f(7), 1852.0);
                self.number("course_deg", f(8));
                self.date = self.date.or_else(|| date(f(9)));
                // 999.9 is what some send who do not know it.
                if let Some(east) = decimal(f(10), 0).filter(|east| east.abs() <= 180.0) {
                    let west = f(11) == "W" && east != 0.0;
                    self.once("magnetic_variation_deg", if west { -east } else { east });
                }
                self.valid_if(f(12), f(12) != "N");
            }
            // Before NMEA 2 there were no letters between the numbers.
            Kind::Vtg if f(2) == "T" || f(4) == "M" || fields.len() > 5 => {
                self.number("course_deg", f(1));
                self.number("course_magnetic_deg", f(3));
                self.speed(f(5), 1852.0);
                self.speed(f(7), 1000.0);
                self.valid_if(f(9), f(9) != "N");
            }
            Kind::Vtg => {
                self.number("course_deg", f(1));
                self.number("course_magnetic_deg", f(2));
                self.speed(f(3), 1852.0);
                self.speed(f(4), 1000.0);
            }
            Kind::Gsa => {
                self.number("fix_mode", f(2));
                self.valid_if(f(2), f(2) != "1");
                self.number("pdop", f(15));
                self.number("hdop", f(16));
                self.number("vdop", f(17));
            }
            Kind::Gsv => self.in_view(talker, fields),
            Kind::Gll => {
                self.valid_if(f(6), f(6) == "A");
                self.valid_if(f(7), f(7) != "N");
                self.position(f(1), f(2), f(3), f(4));
            }
            Kind::Zda => {
                let part = |index| f(index).parse::<i16>().ok();
                if let (Some(day), Some(month), Some(year)) = (part(2), part(3), part(4))
                    && let (Ok(day), Ok(month)) = (i8::try_from(day), i8::try_from(month))
                {
                    self.date = self
                        .date
                        .or_else(|| civil::Date::new(year, month, day).ok());
                }
            }
        }
    }

    fn once(&mut self, name: &str, number: f64) {
        if !self.values.has(name) {
            self.values.float(name, number);
        }
    }

    fn number(&mut self, name: &str, digits: &str) {
        if !self.values.has(name) {
            self.values.decimal(name, digits, 0);
        }
    }

    /// Metres per second from a number of `metres` per hour.
    fn speed(&mut self, digits: &str, metres: f64) {
        if let Some(number) = decimal(digits, 0) {
            // A millimetre per second is finer than any receiver.
            let speed = (number * metres / 3600.0 * 1000.0).round() / 1000.0;
            self.once("speed_m_s", speed);
        }
    }

    fn valid_if(&mut self, said: &str, valid: bool) {
        if !said.is_empty() {
            self.valid = Some(self.valid.unwrap_or(true) && valid);
        }
    }

    fn position(&mut self, lat: &str, ns: &str, lon: &str, ew: &str) {
        if lat.is_empty() && lon.is_empty() {
            return;
        }
        let lat = degrees(lat, ns, ("N", "S"), 90.0);
        let lon = degrees(lon, ew, ("E", "W"), 180.0);
        match (lat, lon) {
            (Some(lat), Some(lon)) => {
                self.once("latitude_deg", lat);
                self.once("longitude_deg", lon);
            }
            _ if self.valid == Some(false) => {}
            // Half a position is none.
            _ => self.values.reject("latitude_deg", super::Problem::NoNumber),
        }
    }

    /// Every talker counts the satellites of its own constellation, and says so in each of its
    /// sentences, once per signal.
    fn in_view(&mut self, talker: [u8; 2], fields: &[&str]) {
        if let Some(count) = fields.get(3).and_then(|digits| decimal(digits, 0)) {
            // There are a handful of talkers for satellites.
            let room = self.in_view.len() < 16;
            match self.in_view.iter_mut().find(|(of, _)| *of == talker) {
                Some((_, most)) => *most = most.max(count),
                None if room => self.in_view.push((talker, count)),
                None => {}
            }
        }
        for satellite in fields.get(4..).unwrap_or_default().chunks_exact(4) {
            if let Some(strength) = decimal(satellite[3], 0) {
                self.strongest = Some(self.strongest.map_or(strength, |most| most.max(strength)));
            }
        }
    }

    fn finish(mut self, dated: &mut Option<(civil::Date, i64)>) -> Option<Decoded> {
        if !self.in_view.is_empty() {
            let sum = self.in_view.iter().map(|(_, count)| count).sum();
            self.values.float("satellites_in_view", sum);
        }
        if let Some(strongest) = self.strongest {
            self.values.float("snr_max_db", strongest);
        }
        if let Some(valid) = self.valid {
            self.values.flag("fix_valid", valid);
        }
        if let (Some(date), time) = (self.date, self.time) {
            *dated = Some((date, time.unwrap_or(0)));
        } else if let (Some((date, then)), Some(now)) = (*dated, self.time)
            && then - now > HALF_A_DAY
        {
            *dated = date.tomorrow().ok().map(|date| (date, now));
        }
        if self.values.is_empty() {
            return None;
        }
        let mut decoded = self.values.finish();
        decoded.time = dated
            .zip(self.time)
            .and_then(|((date, _), time)| instant(date, time))
            .map(DeviceTime::At);
        Some(decoded)
    }
}

fn instant(date: civil::Date, nanos: i64) -> Option<Timestamp> {
    let midnight = date.at(0, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    let midnight: Instant = midnight.timestamp();
    // A leap second, hhmm60, is the first of the next minute.
    Timestamp::from_micros(midnight.as_microsecond() + nanos / 1000).ok()
}

/// `hhmmss.sss` as nanoseconds.
fn time_of_day(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.len() != 6 || fraction.len() > 9 {
        return None;
    }
    let two = |at: usize| whole.get(at..at + 2)?.parse::<i64>().ok();
    let (hours, minutes, seconds) = (two(0)?, two(2)?, two(4)?);
    if !(0..24).contains(&hours) || !(0..60).contains(&minutes) || !(0..=60).contains(&seconds) {
        return None;
    }
    let fraction = if fraction.is_empty() {
        0
    } else {
        format!("{fraction:0<9}").parse().ok()?
    };
    Some((hours * 3600 + minutes * 60 + seconds) * NANOS_PER_SECOND + fraction)
}

/// `ddmmyy`; receivers are younger than 1980.
fn date(text: &str) -> Option<civil::Date> {
    if text.len() != 6 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let two = |at: usize| text.get(at..at + 2)?.parse::<i8>().ok();
    let year = i16::from(two(4)?);
    let year = if year < 80 { 2000 + year } else { 1900 + year };
    civil::Date::new(year, two(2)?, two(0)?).ok()
}

/// `dddmm.mmmm` and the half of the globe, as degrees with 7 decimals.
fn degrees(text: &str, half: &str, (plus, minus): (&str, &str), most: f64) -> Option<f64> {
    let sign = match half {
        _ if half == plus => 1.0,
        _ if half == minus => -1.0,
        _ => return None,
    };
    let point = text.find('.').unwrap_or(text.len());
    let (whole, minutes) = text.split_at_checked(point.checked_sub(2)?)?;
    if text.starts_with(['-', '+']) || minutes.starts_with(['-', '+']) {
        return None;
    }
    let whole = if whole.is_empty() {
        0.0
    } else {
        decimal(whole, 0)?
    };
    let minutes = decimal(minutes, 0)?;
    let degrees = whole + minutes / 60.0;
    if minutes >= 60.0 || degrees > most {
        return None;
    }
    Some(sign * (degrees * 1e7).round() / 1e7)
}

#[cfg(test)]
mod tests;
