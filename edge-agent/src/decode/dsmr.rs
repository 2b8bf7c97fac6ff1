//! DSMR P1: the telegrams of smart meters, v2.2 to v5, with the Belgian, Luxembourg and Swedish dialects.
//!
//! Source: Netbeheer Nederland, "P1 Companion Standard" V2.2 (2008), 3.0, 4.0 (2011), 5.0.2 (2016); Fluvius,
//! "e-MUCS_H" Ed 1.7; Creos, "P1 specification" (Luxembourg); Energiföretagen, "Branschrekommendation för lokalt
//! kundgränssnitt" (Sweden); line syntax of EN 62056-21, codes of EN 62056-61 (OBIS).
//!
//! ```text
//! /XXX5 identification CR LF CR LF
//! A-B:C.D.E(value*unit)(value) … CR LF              one object a line
//! !CRC CR LF              CRC-16/ARC in hex over everything from / to !; v2.2 and v3 have none
//! ```
//!
//! # What is kept
//! One reading for the electricity meter, at the telegram's time, from the equipment identifier's device (or what else names the meter);
//! and one for each M-Bus slot (gas, water, heat …) that holds a value, with its own identifier and its
//! own time, for a gas meter reports once an hour. Power becomes W, energy kWh. A numeric object
//! with a unit that is in no table is kept as `obis_C_D_E_unit`. Logs, messages and switch states of
//! M-Bus valves are passed over.
//!
//! Times are local with S (summer) or W (winter). Without that letter (v2.2) Central European rules say
//! which; the hour that comes twice is taken as summer.
//!
//! # Damage
//! A telegram is taken only whole. If its CRC is wrong, or it breaks off, the next `/` at the beginning of
//! a line begins the next one. A telegram that names a version has to have a CRC. Without one
//! every line has to make sense by itself; a line that does not is rejected by name. A capture stored with
//! LF instead of CR LF is checked as it was sent.
//!
//! Written by hand: `dsmr5` (0.4, 2021) reads whole telegrams of fixed versions only, without CRC checks for the
//! old ones, four fixed slots and no places.

use jiff::{civil, tz::TimeZone};
use protocol::Timestamp;

use super::{
    Decoded, DeviceTime, Problem,
    crc16::crc16,
    stream::{Cut, Fault, MAX_HELD, Step},
    values::Values,
};

/// Most M-Bus slots; the standard has four.
const MAX_SLOTS: usize = 8;
/// Central European Time by its rule, so that no time zone database is needed.
const CET: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

mod object;

use object::{Object, objects};

/// The format; remembers how far it has looked for the end.
#[derive(Debug, Default)]
pub(crate) struct Dsmr {
    looked: usize,
}

impl Cut for Dsmr {
    fn next(&mut self, held: &[u8], end: bool, out: &mut Vec<Decoded>) -> Step {
        match held.iter().position(|&b| b == b'/') {
            Some(0) => {}
            Some(at) => return between(&held[..at]),
            None => return between(held),
        }
        let from = std::mem::take(&mut self.looked).clamp(1, held.len());
        for at in from..held.len() {
            if held[at - 1] != b'\n' {
                continue;
            }
            match held[at] {
                b'/' => return Step::Reject(at, Fault::Truncated),
                b'!' => {
                    return match tail(&held[at + 1..], end) {
                        Some((crc, len)) => finish(held, at, crc, at + 1 + len, out),
                        None if end => Step::Reject(held.len(), Fault::Truncated),
                        None => {
                            self.looked = at;
                            Step::Wait
                        }
                    };
                }
                _ => {}
            }
        }
        if held.len() >= MAX_HELD {
            return Step::Reject(1, Fault::TooLong);
        }
        self.looked = held.len();
        Step::Wait
    }
}

/// Line ends between telegrams mean nothing.
fn between(bytes: &[u8]) -> Step {
    let blank = |b: &u8| b.is_ascii_whitespace();
    match bytes.iter().take_while(|b| blank(b)).count() {
        0 => Step::Noise(bytes.iter().take_while(|b| !blank(b)).count()),
        blanks => Step::Blank(blanks),
    }
}

/// What follows the `!`: the CRC's digits, and how long they are with the line end.
fn tail(after: &[u8], end: bool) -> Option<(&[u8], usize)> {
    let digits = after.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    match after.get(digits) {
        Some(b'\r') if after.get(digits + 1) == Some(&b'\n') => {
            Some((&after[..digits], digits + 2))
        }
        Some(b'\r') if after.len() == digits + 1 && !end => None,
        Some(_) => Some((&after[..digits], digits)),
        None if end => Some((after, digits)),
        None => None,
    }
}

fn finish(held: &[u8], mark: usize, crc: &[u8], len: usize, out: &mut Vec<Decoded>) -> Step {
    let telegram = &held[..=mark];
    let text = String::from_utf8_lossy(telegram);
    let digits = std::str::from_utf8(crc).unwrap_or("");
    if digits.is_empty() {
        let versioned = text.contains("\n1-3:0.2.8(") || text.contains("\n0-0:96.1.4(");
        if versioned {
            return Step::Reject(len, Fault::NoChecksum);
        }
    } else {
        let got = u16::from_str_radix(digits, 16).unwrap_or(0);
        let expected = crc16(0, telegram.iter().copied());
        let as_sent = || {
            let crs = telegram.iter().flat_map(|&b| {
                let cr = (b == b'\n').then_some(b'\r');
                cr.into_iter().chain([b])
            });
            !telegram.contains(&b'\r') && got == crc16(0, crs)
        };
        if digits.len() > 4 || (got != expected && !as_sent()) {
            return Step::Reject(len, Fault::Checksum { got, expected });
        }
    }
    read(&text, out);
    Step::Take(len)
}

/// The electricity meter's own name: the best of the objects that give one.
#[derive(Debug, Default)]
struct Identifier<'t> {
    text: &'t str,
    rank: u8,
}

impl<'t> Identifier<'t> {
    fn take(&mut self, object: &Object<'t>) {
        let rank = match object.code {
            // The Netherlands, Belgium.
            (0, 0, 96, 1, 1) => 4,
            // Sweden, Hungary, Ireland: the same under E = 0.
            (_, _, 96, ..) => 3,
            // The logical device, and the identity number of EN 62056-61.
            (0, _, 42, ..) => 2,
            _ => 1,
        };
        let text = object.first();
        let named = text.bytes().any(|b| b != b'0');
        if named && rank > self.rank {
            *self = Self { text, rank };
        }
    }
}

/// What one M-Bus slot said.
#[derive(Debug, Default)]
struct Slot<'t> {
    channel: u8,
    kind: u8,
    identifier: &'t str,
    time: Option<&'t str>,
    value: Option<(&'t str, &'t str)>,
}

fn read(text: &str, out: &mut Vec<Decoded>) {
    let mut values = Values::default();
    let mut slots: Vec<Slot<'_>> = Vec::new();
    let (mut identifier, mut time) = (Identifier::default(), None);
    let mut lines = text.lines();
    if let Some(header) = lines.next() {
        values.meta("model", header.trim_start_matches('/').trim());
    }
    for object in objects(lines) {
        let object = match object {
            Ok(object) => object,
            Err(line) => {
                values.reject(line, Problem::NoNumber);
                continue;
            }
        };
        match object.code {
            (0, 0, 1, 0, 0) => time = Some(object.first()),
            (0 | 1, 0, 96, 1, 0 | 1) | (0, 0, 42, 0, 0) | (1, 0, 0, 0, 0) => {
                identifier.take(&object)
            }
            (0, channel @ 1..=15, ..) => mbus(&object, channel, &mut slots),
            _ => object.electricity(&mut values),
        }
    }
    if !values.is_empty() {
        let mut decoded = values.finish();
        decoded.device = identifier_text(identifier.text);
        decoded.time = time.and_then(instant).map(DeviceTime::At);
        out.push(decoded);
    }
    out.extend(slots.into_iter().filter_map(Slot::reading));
}

fn mbus<'t>(object: &Object<'t>, channel: u8, slots: &mut Vec<Slot<'t>>) {
    let at = match slots.iter().position(|slot| slot.channel == channel) {
        Some(at) => at,
        None if slots.len() < MAX_SLOTS => {
            slots.push(Slot {
                channel,
                ..Slot::default()
            });
            slots.len() - 1
        }
        None => return,
    };
    let slot = &mut slots[at];
    let (_, _, c, d, e) = object.code;
    match (c, d, e) {
        (24, 1, 0) => slot.kind = object.first().parse().unwrap_or(0),
        (96, 1, 0 | 1) if !object.first().is_empty() => slot.identifier = object.first(),
        // (time)(value*unit)
        (24, 2, _) => {
            if let [time, value, ..] = object.values[..]
                && let Some((digits, unit)) = value.split_once('*')
            {
                slot.time = Some(time);
                slot.value = Some((digits, unit));
            }
        }
        // v2.2, v3: (time)(status)(interval)(count)(code)(unit) CR LF (value)
        (24, 3, _) => {
            if let [time, _, _, _, _, unit, value, ..] = object.values[..] {
                slot.time = Some(time);
                slot.value = Some((value.split('*').next().unwrap_or(value), unit));
            }
        }
        _ => {}
    }
}

impl Slot<'_> {
    fn reading(self) -> Option<Decoded> {
        let (digits, unit) = self.value?;
        let quantity = match self.kind {
            // EN 13757-3, medium.
            2 => "energy",
            3 => "gas",
            4 | 12 => "heat",
            6 | 21 => "hot_water",
            7 | 22 => "water",
            10 | 11 => "cooling",
            _ => "meter",
        };
        let mut values = Values::default();
        match unit {
            "dm3" | "l" | "L" => values.decimal(&format!("{quantity}_m3"), digits, -3),
            // Energy by the catalogue, heat counted in GJ as well.
            _ => values.measured(quantity, unit, digits),
        }
        let mut decoded = values.finish();
        decoded.device =
            identifier_text(self.identifier).or_else(|| Some(format!("mbus-{}", self.channel)));
        decoded.time = self.time.and_then(instant).map(DeviceTime::At);
        Some(decoded)
    }
}

/// Identifiers are texts written as hex; one that is no text stays as it is.
fn identifier_text(hex: &str) -> Option<String> {
    if hex.bytes().all(|b| b == b'0') {
        return None;
    }
    let pairs = hex.as_bytes().chunks(2);
    let text: Option<String> = pairs
        .map(|pair| {
            let byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
            byte.is_ascii_graphic().then(|| char::from(byte))
        })
        .collect();
    Some(
        text.filter(|_| hex.len().is_multiple_of(2))
            .unwrap_or_else(|| hex.to_owned()),
    )
}

/// `YYMMDDhhmmss` and S, W or nothing.
fn instant(text: &str) -> Option<Timestamp> {
    let (digits, season) = text.split_at_checked(12)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let two = |at: usize| digits.get(at..at + 2)?.parse::<i8>().ok();
    let local = civil::DateTime::new(
        2000 + i16::from(two(0)?),
        two(2)?,
        two(4)?,
        two(6)?,
        two(8)?,
        two(10)?,
        0,
    )
    .ok()?;
    let zone = match season {
        "S" => TimeZone::fixed(jiff::tz::offset(2)),
        "W" => TimeZone::fixed(jiff::tz::offset(1)),
        "" => TimeZone::posix(CET).ok()?,
        _ => return None,
    };
    let instant = local.to_zoned(zone).ok()?.timestamp();
    Timestamp::from_micros(instant.as_microsecond()).ok()
}

#[cfg(test)]
mod tests;
