//! What devices say on a serial line by themselves, and the MH-Z19 when it is asked.
//!
//! Formats as in the agent's decoders, written from the same specifications and not from the decoders: a
//! mistake made twice would not be seen.

use std::fmt::Write as _;

use serde::Deserialize;

use super::plausible;
use crate::signal::Moment;

/// What a line speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speech {
    /// A satellite receiver: GGA and RMC.
    Nmea,
    /// A smart meter, version 5, with a gas meter behind it.
    Dsmr,
    /// A solar charger.
    VeDirect,
    /// Particles, 32 bytes.
    Pms5003,
    /// Particles, 10 bytes.
    Sds011,
    /// CO₂, when it is asked.
    MhZ19,
}

impl Speech {
    /// Whether it speaks only when it is asked.
    #[must_use]
    pub const fn is_asked(self) -> bool {
        matches!(self, Self::MhZ19)
    }

    /// One telegram, block, frame or second of sentences.
    #[must_use]
    pub fn say(self, at: &Moment, wall_us: u64) -> Vec<u8> {
        match self {
            Self::Nmea => nmea(at, wall_us),
            Self::Dsmr => dsmr(at, wall_us),
            Self::VeDirect => ve_direct(at),
            Self::Pms5003 => pms5003(at),
            Self::Sds011 => sds011(at),
            Self::MhZ19 => mh_z19(at),
        }
    }

    /// How many bytes of what was heard are a question, if the first of them are one.
    #[must_use]
    pub fn question(self, heard: &[u8]) -> Option<usize> {
        const ASK: [u8; 9] = [0xff, 0x01, 0x86, 0, 0, 0, 0, 0, 0x79];
        (self.is_asked() && heard.starts_with(&ASK)).then_some(ASK.len())
    }
}

/// Year, month, day, hour, minute, second of UTC.
fn civil(wall_us: u64) -> jiff::civil::DateTime {
    let micros = i64::try_from(wall_us).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.to_zoned(jiff::tz::TimeZone::UTC).datetime()
}

fn nmea(at: &Moment, wall_us: u64) -> Vec<u8> {
    let time = civil(wall_us);
    let hms = time.strftime("%H%M%S.00");
    let (lat, lon) = (
        3100.0 + 30.0 * at.curve(1, 600_000),
        2400.0 + 30.0 * at.curve(2, 600_000),
    );
    let position = format!("52{:07.4},N,013{:07.4},E", lat / 100.0, lon / 100.0);
    let mut out = String::new();
    for sentence in [
        format!("GPGGA,{hms},{position},1,08,0.9,45.4,M,46.9,M,,"),
        format!(
            "GPRMC,{hms},A,{position},{:.2},084.4,{},,,A",
            2.0 + at.curve(3, 60_000),
            time.strftime("%d%m%y")
        ),
    ] {
        let sum = sentence.bytes().fold(0, |sum, byte| sum ^ byte);
        // Writing to a text cannot fail.
        write!(out, "${sentence}*{sum:02X}\r\n").unwrap_or_default();
    }
    out.into_bytes()
}

fn dsmr(at: &Moment, wall_us: u64) -> Vec<u8> {
    // Meters say local time and its season; here it is always winter.
    let time = civil(wall_us.saturating_add(3_600_000_000));
    let value = |field| plausible(field, at);
    let mut telegram = format!(
        "/SIM5\\2MT382-1000\r\n\r\n1-3:0.2.8(50)\r\n0-0:1.0.0({}W)\r\n\
         0-0:96.1.1(4B384547303034303436333935353037)\r\n1-0:1.8.1({:010.3}*kWh)\r\n\
         0-0:96.14.0(0002)\r\n1-0:1.7.0({:06.3}*kW)\r\n1-0:32.7.0({:05.1}*V)\r\n\
         0-1:24.1.0(003)\r\n0-1:96.1.0(3232323241424344313233343536373839)\r\n\
         0-1:24.2.1({}W)({:09.3}*m3)\r\n!",
        time.strftime("%y%m%d%H%M%S"),
        value("energy_import"),
        value("power_import") / 1000.0,
        value("voltage_l1"),
        time.strftime("%y%m%d%H0000"),
        value("energy_gas") / 10.0,
    );
    let crc = crc16(0, telegram.as_bytes());
    write!(telegram, "{crc:04X}\r\n").unwrap_or_default();
    telegram.into_bytes()
}

/// CRC-16 with the polynomial 0xA001, reflected: ARC from 0, Modbus from 0xffff.
#[must_use]
pub fn crc16(start: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(start, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte), |crc, _| {
            let carry = crc & 1 == 1;
            (crc >> 1) ^ if carry { 0xa001 } else { 0 }
        })
    })
}

fn ve_direct(at: &Moment) -> Vec<u8> {
    let volts = 13.2 + 0.6 * at.curve(1, 60_000);
    let amps = 4.0 * at.curve(2, 60_000);
    let mut block = format!(
        "\r\nPID\t0xA043\r\nFW\t159\r\nSER#\tHQ2105SIM01\r\nV\t{:.0}\r\nI\t{:.0}\r\nVPV\t{:.0}\r\nPPV\t{:.0}\r\n\
         CS\t3\r\nERR\t0\r\nLOAD\tON\r\nH19\t{:.0}\r\nChecksum\t",
        volts * 1000.0,
        amps * 1000.0,
        (volts + 5.0) * 1000.0,
        (volts * amps).max(0.0),
        plausible("energy", at),
    )
    .into_bytes();
    let sum = block.iter().fold(0u8, |sum, &b| sum.wrapping_add(b));
    block.push(sum.wrapping_neg());
    block
}

/// A number that fits the word, whatever the curve says.
fn word(number: f64) -> u16 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped"
    )]
    let word = number.round().clamp(0.0, 65_535.0) as u16;
    word
}

fn pms5003(at: &Moment) -> Vec<u8> {
    let dust = 12.0 + 8.0 * at.curve(1, 60_000);
    let mut frame = vec![0x42, 0x4d, 0, 28];
    for factor in [
        0.6, 1.0, 1.3, 0.6, 1.0, 1.3, 150.0, 45.0, 9.0, 1.0, 0.3, 0.1,
    ] {
        frame.extend(word(dust * factor).to_be_bytes());
    }
    frame.extend([0x97, 0]);
    let sum = frame
        .iter()
        .fold(0u16, |sum, &b| sum.wrapping_add(b.into()));
    frame.extend(sum.to_be_bytes());
    frame
}

fn sds011(at: &Moment) -> Vec<u8> {
    let dust = 120.0 + 80.0 * at.curve(1, 60_000);
    let [a, b] = word(dust).to_le_bytes();
    let [c, d] = word(dust * 1.6).to_le_bytes();
    let body = [a, b, c, d, 0xa1, 0x60];
    let sum = body.iter().fold(0u8, |sum, &b| sum.wrapping_add(b));
    [&[0xaa, 0xc0][..], &body, &[sum, 0xab]].concat()
}

fn mh_z19(at: &Moment) -> Vec<u8> {
    let [high, low] = word(700.0 + 250.0 * at.curve(1, 60_000)).to_be_bytes();
    let mut frame = vec![0xff, 0x86, high, low, 62, 0, 0, 0];
    let sum = frame[1..].iter().fold(0u8, |sum, &b| sum.wrapping_add(b));
    frame.push(sum.wrapping_neg());
    frame
}
