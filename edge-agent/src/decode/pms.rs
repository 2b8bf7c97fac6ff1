//! Plantower particulate sensors: PMS1003, 3003, 5003, 6003, 7003, A003 and the T, S and ST variants.
//!
//! Source: Plantower data manuals, appendix "transport protocol, active mode": PMS3003 V2.5 (2014),
//! PMS5003 V2.3 (2016), PMS5003S/5003T V2.3, PMS5003ST V2.6 (2017). 9600 baud 8N1.
//!
//! ```text
//! 42 4d  length (u16)  data words (u16 big-endian) …  sum of all bytes before it (u16)
//! length 20: 9 words   PM1, PM2.5, PM10 "CF=1", the same "atmospheric", 3 reserved        PMS3003
//! length 28: 13 words  the six, then counts above 0.3 0.5 1.0 2.5 5.0 10 µm per 0.1 L, then
//!                      version and error code; PMS5003S has formaldehyde in the last word,
//!                      PMS5003T temperature and humidity in words 11 and 12              PMS5003
//! length 36: 17 words  the twelve, then formaldehyde, temperature, humidity, reserved,
//!                      version and error code                                          PMS5003ST
//! length 4:  answer to a command, no reading
//! ```
//!
//! Lengths 20 and 36 name their sensor; length 28 does not, so S and T are named by the preset.
//! The header may appear inside of data, and a byte may be lost on the way (then the checksum of one
//! frame is the header of the next): a frame that does not add up gives up its first byte only.
//!
//! Written by hand: the crates for these sensors own the serial port, and decode a frame from its start.

use super::{
    Decoded,
    stream::{Cut, Fault, Step},
    values::Values,
};

const HEADER: [u8; 2] = [0x42, 0x4d];

/// What a frame of 28 bytes has in its last words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Counts up to 10 µm.
    Plain,
    /// PMS5003S: formaldehyde instead of version and error.
    Formaldehyde,
    /// PMS5003T: temperature and humidity instead of the two largest counts.
    Climate,
}

/// The format.
#[derive(Debug)]
pub(crate) struct Pms(pub(crate) Variant);

impl Cut for Pms {
    fn next(&mut self, held: &[u8], end: bool, out: &mut Vec<Decoded>) -> Step {
        let begins = |&at: &usize| HEADER.starts_with(&held[at..held.len().min(at + 2)]);
        match (0..held.len()).find(begins) {
            Some(0) => {}
            Some(at) => return Step::Noise(at),
            None => return Step::Noise(held.len()),
        }
        let short = || {
            if end {
                Step::Reject(held.len().min(2), Fault::Truncated)
            } else {
                Step::Wait
            }
        };
        let Some(&[high, low]) = held.get(2..4) else {
            return short();
        };
        let length = u16::from_be_bytes([high, low]);
        if !matches!(length, 4 | 20 | 28 | 36) {
            return Step::Reject(1, Fault::Malformed("frame length is not 20, 28 or 36"));
        }
        let len = 4 + usize::from(length);
        let Some(frame) = held.get(..len) else {
            return short();
        };
        let (body, sum) = frame.split_at(len - 2);
        let expected = body.iter().fold(0u16, |sum, &b| sum.wrapping_add(b.into()));
        let got = u16::from_be_bytes([sum[0], sum[1]]);
        if got != expected {
            return Step::Reject(1, Fault::Checksum { got, expected });
        }
        if length > 4 {
            out.push(self.reading(&body[4..]));
        }
        Step::Take(len)
    }
}

impl Pms {
    fn reading(&self, data: &[u8]) -> Decoded {
        let words: Vec<u16> = data
            .chunks_exact(2)
            .map(|two| u16::from_be_bytes([two[0], two[1]]))
            .collect();
        let mut values = Values::default();
        let mut put = |index: usize, name: &str, per_unit: f64| {
            if let Some(&word) = words.get(index) {
                values.float(name, f64::from(word) / per_unit);
            }
        };
        put(0, "pm1_0_cf1_ug_m3", 1.0);
        put(1, "pm2_5_cf1_ug_m3", 1.0);
        put(2, "pm10_cf1_ug_m3", 1.0);
        put(3, "pm1_0_ug_m3", 1.0);
        put(4, "pm2_5_ug_m3", 1.0);
        put(5, "pm10_ug_m3", 1.0);
        if words.len() >= 13 {
            put(6, "particles_0_3um_per_dl", 1.0);
            put(7, "particles_0_5um_per_dl", 1.0);
            put(8, "particles_1_0um_per_dl", 1.0);
            put(9, "particles_2_5um_per_dl", 1.0);
        }
        let climate = words.len() == 13 && self.0 == Variant::Climate;
        if words.len() >= 13 && !climate {
            put(10, "particles_5_0um_per_dl", 1.0);
            put(11, "particles_10um_per_dl", 1.0);
        }
        // (temperature, formaldehyde, version and error)
        let (temperature, formaldehyde, last) = match (words.len(), self.0) {
            (13, Variant::Plain) => (None, None, Some(12)),
            (13, Variant::Formaldehyde) => (None, Some(12), None),
            (13, Variant::Climate) => (Some(10), None, Some(12)),
            (17, _) => (Some(13), Some(12), Some(16)),
            _ => (None, None, None),
        };
        if let Some(at) = formaldehyde {
            put(at, "formaldehyde_mg_m3", 1000.0);
        }
        if let Some(at) = temperature {
            put(at + 1, "humidity_pct", 10.0);
            // The only signed word.
            let signed = i16::from_be_bytes(words[at].to_be_bytes());
            values.float("temperature_c", f64::from(signed) / 10.0);
        }
        if let Some(at) = last {
            let [_version, error] = words[at].to_be_bytes();
            values.float("error_code", f64::from(error));
        }
        values.finish()
    }
}

#[cfg(test)]
mod tests;
