//! Winsen MH-Z19, 19B, 19C, 19D, 14A, 16: CO₂, polled.
//!
//! Source: Winsen user manuals MH-Z19 V1.0 (2015), MH-Z19B V1.0 (2016), MH-Z19C, MH-Z14A V2.4,
//! "communication protocol"; what the reserved bytes hold: revspace.nl/MHZ19 and revspace.nl/MH-Z19B, which
//! read it out of the firmware. 9600 baud 8N1.
//!
//! ```text
//! request  ff 01 86 00 00 00 00 00 79
//! reply    ff 86  CO₂ (u16 big-endian, ppm)  temperature + 40  status  u (u16)  check
//! check    0 minus the sum of the seven bytes between first and last
//! ```
//!
//! # Warming up
//! Until it has warmed up (1 to 3 minutes) the sensor answers with a number that is no measurement:
//! `u` is 15 000 right after power-on, the status of an MH-Z19 is neither 0 nor 64, and an MH-Z19B keeps
//! saying 410 (older ones 400 or 5 000). The first two are known from one reply. The third is taken for
//! warming up only as long as nothing else has been said, for air may well have 410 ppm. Such
//! readings are kept and say `warming_up: true`.
//!
//! Written by hand: nine bytes.

use super::{
    Decoded,
    stream::{Cut, Fault, Step},
    values::Values,
};

/// Asks sensor 1 for its concentration.
pub const REQUEST: [u8; LEN] = [0xff, 0x01, 0x86, 0, 0, 0, 0, 0, 0x79];
/// Length of request and reply.
pub const LEN: usize = 9;

const HEAD: u8 = 0xff;
const READ: u8 = 0x86;
/// Said before anything was measured.
const PLACEHOLDERS: [u16; 3] = [400, 410, 5000];
const POWERED_ON: u16 = 15_000;

/// The format; remembers whether the sensor has said anything but a placeholder.
#[derive(Debug, Default)]
pub(crate) struct MhZ19 {
    measured: bool,
}

impl Cut for MhZ19 {
    fn next(&mut self, held: &[u8], end: bool, out: &mut Vec<Decoded>) -> Step {
        match held.iter().position(|&b| b == HEAD) {
            Some(0) => {}
            Some(at) => return Step::Noise(at),
            None => return Step::Noise(held.len()),
        }
        // Replies repeat the command, requests begin with the sensor's number.
        let known = |&b: &u8| matches!(b, 0x01 | 0x79 | 0x78 | 0x85..=0x88 | 0x99..=0xa2);
        if held.get(1).is_some_and(|b| !known(b)) {
            return Step::Noise(1);
        }
        let Some(frame) = held.get(..LEN) else {
            return if end {
                Step::Reject(1, Fault::Truncated)
            } else {
                Step::Wait
            };
        };
        let sum = frame[1..8].iter().fold(0u8, |sum, &b| sum.wrapping_add(b));
        let (got, expected) = (u16::from(frame[8]), u16::from(sum.wrapping_neg()));
        if got != expected {
            return Step::Reject(1, Fault::Checksum { got, expected });
        }
        if frame[1] == READ {
            out.push(self.reading(frame));
        }
        Step::Take(LEN)
    }
}

impl MhZ19 {
    fn reading(&mut self, frame: &[u8]) -> Decoded {
        let co2 = u16::from_be_bytes([frame[2], frame[3]]);
        let (temperature, status) = (frame[4], frame[5]);
        let powered_on = u16::from_be_bytes([frame[6], frame[7]]) == POWERED_ON;
        if powered_on {
            self.measured = false;
        } else if !PLACEHOLDERS.contains(&co2) {
            self.measured = true;
        }
        let warming_up = powered_on || !matches!(status, 0 | 64) || !self.measured;
        let mut values = Values::default();
        values.float("co2_ppm", f64::from(co2));
        // The manual calls the byte reserved; where it is unused it is 0, and no sensor works at −40 °C.
        if temperature != 0 {
            values.float("temperature_c", f64::from(temperature) - 40.0);
        }
        values.flag("warming_up", warming_up);
        values.finish()
    }
}

#[cfg(test)]
mod tests;
