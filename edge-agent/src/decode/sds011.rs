//! Nova Fitness SDS011, SDS018, SDS021: PM2.5 and PM10; SDS198: PM100.
//!
//! Source: Nova Fitness, "Laser PM2.5 Sensor specification, SDS011 V1.3" and "Laser Dust Sensor Control
//! Protocol V1.3"; the frames of the SDS198 as in avaldebe.github.io/PyPMS, "NovaFitness sensors". 9600 baud 8N1.
//!
//! ```text
//! aa c0  PM2.5 (u16 little-endian, 0.1 µg/m³)  PM10 (the same)  id (2)  sum of the 6 bytes  ab
//! aa cf  0 (u16)  PM100 (u16 little-endian, µg/m³)  id (2)  sum  ab                               SDS198
//! aa c5  the same shape: answer to a command, no reading
//! aa b4  19 bytes: a command, seen where the line is tapped, no reading
//! ```
//!
//! The id is the sensor's own and becomes the device: `sds011-a160`, `sds198-e905`. Written by hand: eight bytes.

use super::{
    Decoded,
    stream::{Cut, Fault, Step},
    values::Values,
};

const HEAD: u8 = 0xaa;
const TAIL: u8 = 0xab;

/// The format.
#[derive(Debug)]
pub(crate) struct Sds011;

impl Cut for Sds011 {
    fn next(&mut self, held: &[u8], end: bool, out: &mut Vec<Decoded>) -> Step {
        match held.iter().position(|&b| b == HEAD) {
            Some(0) => {}
            Some(at) => return Step::Noise(at),
            None => return Step::Noise(held.len()),
        }
        let len = match held.get(1) {
            Some(0xc0 | 0xc5 | 0xcf) => 10,
            Some(0xb4) => 19,
            Some(_) => return Step::Noise(1),
            None => 2,
        };
        let Some(frame) = held.get(..len) else {
            return if end {
                Step::Reject(1, Fault::Truncated)
            } else {
                Step::Wait
            };
        };
        let body = &frame[2..len - 2];
        let expected = u16::from(body.iter().fold(0u8, |sum, &b| sum.wrapping_add(b)));
        let got = u16::from(frame[len - 2]);
        if got != expected {
            return Step::Reject(1, Fault::Checksum { got, expected });
        }
        if frame[len - 1] != TAIL {
            return Step::Reject(1, Fault::Malformed("frame does not end with 0xab"));
        }
        let word = |at: usize| f64::from(u16::from_le_bytes([body[at], body[at + 1]]));
        let mut values = Values::default();
        let family = match frame[1] {
            0xc0 => {
                values.float("pm2_5_ug_m3", word(0) / 10.0);
                values.float("pm10_ug_m3", word(2) / 10.0);
                "sds011"
            }
            0xcf => {
                values.float("pm100_ug_m3", word(2));
                "sds198"
            }
            _ => return Step::Take(len),
        };
        let mut decoded = values.finish();
        decoded.device = Some(format!("{family}-{:02x}{:02x}", body[4], body[5]));
        out.push(decoded);
        Step::Take(len)
    }
}

#[cfg(test)]
mod tests;
