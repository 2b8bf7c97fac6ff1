//! Modbus: what requests and replies on the wire say, by a [`Map`] of registers.
//!
//! Source: Modbus Organization, "MODBUS Application Protocol Specification V1.1b3" (functions, exceptions),
//! "MODBUS over Serial Line V1.02" (RTU frames, CRC), "MODBUS Messaging on TCP/IP Implementation Guide V1.0b".
//!
//! ```text
//! RTU      unit  function  data …  CRC (u16 little-endian)
//! TCP      transaction (u16)  0 (u16)  length (u16)  unit  function  data …
//! request  function 1 to 4  first address (u16)  count (u16)
//! reply    function  bytes that follow (u8)  registers (u16 each) or bits (lowest first)
//! no       function + 0x80  exception code
//! ```
//!
//! # Frames without gaps
//! On the line a silence ends a frame; in a capture there is none, so the beginning of a frame is where a
//! length that fits and a CRC that agrees say so. A reply does not say which registers it holds:
//! it is read by the request before it, and rejected without one. What is not a frame is passed
//! over byte by byte until the next one begins, so a damaged reply costs itself, a damaged request itself
//! and its reply. One reading per reply, none where the map has no field for what was asked; the device is `PROFILE-UNIT`.
//!
//! Written by hand after reading `modbus-core` 0.2 and `rmodbus` 0.13. The former takes the length of a
//! write request from the wrong byte, and its client panics on 256 bytes of noise (`unreachable!` behind a
//! decoder that does give up); the latter reads a reply only with the request object that made it, and
//! neither says where in the stream a frame stood. The four functions used here are 60 lines.

pub mod map;
pub mod profile;
mod tcp;

use std::sync::Arc;

use super::{
    Decoded,
    crc16::crc16,
    stream::{Cut, Fault, Step},
    values::Values,
};
pub use map::{Map, Request, Space};
pub use profile::{Profile, ProfileError};
pub(crate) use tcp::Tcp;

/// Longest RTU frame.
pub const MAX_FRAME: usize = 256;
/// Highest address; 248 is what a PZEM answers to whatever its own.
const MAX_UNIT: u8 = 248;
/// Added to the function of a request by a reply that says no.
const EXCEPTION: u8 = 0x80;

/// The name of an exception code.
#[must_use]
pub fn exception_name(code: u8) -> &'static str {
    match code {
        1 => "illegal function",
        2 => "illegal data address",
        3 => "illegal data value",
        4 => "server device failure",
        5 => "acknowledge",
        6 => "server device busy",
        7 => "negative acknowledge",
        8 => "memory parity error",
        10 => "gateway path unavailable",
        11 => "gateway target device failed to respond",
        _ => "unknown exception",
    }
}

/// The CRC of an RTU frame without its last two bytes.
#[must_use]
pub fn crc(frame: &[u8]) -> u16 {
    crc16(0xffff, frame.iter().copied())
}

/// A request that waits for its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The slave.
    pub unit: u8,
    /// What it was asked.
    pub request: Request,
}

impl Asked {
    /// The frame to send on a serial line.
    #[must_use]
    pub fn frame(&self) -> [u8; 8] {
        let [a, b, c, d, e] = self.request.pdu();
        let [low, high] = crc(&[self.unit, a, b, c, d, e]).to_le_bytes();
        [self.unit, a, b, c, d, e, low, high]
    }

    /// The frame to send over TCP.
    #[must_use]
    pub fn tcp_frame(&self, transaction: u16) -> [u8; 12] {
        let [t0, t1] = transaction.to_be_bytes();
        let [a, b, c, d, e] = self.request.pdu();
        [t0, t1, 0, 0, 0, 6, self.unit, a, b, c, d, e]
    }

    /// Reads the reply, unit and function included, checksum excluded.
    ///
    /// # Errors
    /// An exception, or a reply to something else.
    pub fn reply(&self, body: &[u8], map: &Map) -> Result<Decoded, Fault> {
        let &[unit, function, ref rest @ ..] = body else {
            return Err(Fault::Truncated);
        };
        if let Some(&code) = rest.first()
            && function == self.request.function() | EXCEPTION
        {
            return Err(Fault::Exception {
                unit,
                function: function & !EXCEPTION,
                code,
                name: exception_name(code),
            });
        }
        if unit != self.unit || function != self.request.function() {
            return Err(Fault::NoRequest { unit, function });
        }
        let data = rest.get(1..).unwrap_or_default();
        let declared = rest.first().map(|&count| usize::from(count));
        if declared != Some(data.len()) || data.len() != self.request.reply_bytes() {
            return Err(Fault::Malformed(
                "reply is not as long as its request asked for",
            ));
        }
        let mut values = Values::default();
        map.read(self.request, data, &mut values);
        let mut decoded = values.finish();
        // Registers that no field is about, and values that are absent, are an answer without a reading.
        if decoded.fields.is_empty() && !decoded.rejected.is_empty() {
            return Err(decoded.nothing().into());
        }
        decoded.device = Some(format!("{}-{}", map.name, self.unit));
        Ok(decoded)
    }
}

/// RTU frames of masters and slaves, back to back.
#[derive(Debug)]
pub(crate) struct Rtu {
    map: Arc<Map>,
    asked: Option<Asked>,
}

/// What a frame that begins at a certain byte would be.
enum Found {
    Not,
    /// It may be one, with more bytes.
    Short,
    Frame(usize),
}

impl Rtu {
    pub(crate) fn new(map: Arc<Map>) -> Self {
        Self { map, asked: None }
    }

    /// The length of a reply to the request at hand, if its first bytes look like one.
    fn reply_len(&self, held: &[u8]) -> Option<usize> {
        let asked = self.asked?;
        let function = asked.request.function();
        match *held {
            [unit, f, ..] if unit == asked.unit && f == function | EXCEPTION => Some(5),
            [unit, f, bytes, ..] if unit == asked.unit && f == function => {
                // A slave may be wrong about the length; the frame is read, the reply refused.
                Some(5 + usize::from(bytes))
            }
            _ => None,
        }
    }
}

fn frame(held: &[u8], len: usize) -> Found {
    match held.get(..len) {
        None => Found::Short,
        Some(frame) => {
            let (body, sum) = frame.split_at(len - 2);
            if crc(body).to_le_bytes() == sum {
                Found::Frame(len)
            } else {
                Found::Not
            }
        }
    }
}

impl Cut for Rtu {
    fn next(&mut self, held: &[u8], end: bool, out: &mut Vec<Decoded>) -> Step {
        // With the first 8 bytes every length is known.
        if held.len() < 8 && !end {
            return Step::Wait;
        }
        let &[unit, function, ..] = held else {
            return Step::Noise(1);
        };
        let mut short = false;
        let mut is = |len: Option<usize>| match len.map(|len| frame(held, len)) {
            Some(Found::Frame(len)) => Some(len),
            Some(Found::Short) => {
                short = true;
                None
            }
            Some(Found::Not) | None => None,
        };
        if let Some(len) = is(self.reply_len(held)) {
            let asked = self.asked.take();
            let reply = asked.map(|asked| asked.reply(&held[..len - 2], &self.map));
            return match reply {
                Some(Ok(decoded)) => {
                    out.push(decoded);
                    Step::Take(len)
                }
                Some(Err(fault)) => Step::Reject(len, fault),
                None => Step::Noise(len),
            };
        }
        if let Some(len) = is(request_len(held)) {
            self.asked = Request::parse(&held[1..len - 2]).map(|request| Asked { unit, request });
            return Step::Take(len);
        }
        if let Some(len) = is(stray_len(held)) {
            return Step::Reject(len, stray(unit, function, held[2]));
        }
        // No frame of another kind was longer, so with more bytes it may still be one.
        if short && !end {
            return Step::Wait;
        }
        if known(function) && unit <= MAX_UNIT && self.expected(held) {
            let fault = if short {
                Fault::Truncated
            } else {
                self.damage(held)
            };
            self.asked = None;
            return Step::Reject(1, fault);
        }
        Step::Noise(1)
    }
}

impl Rtu {
    /// Whether this is where the reply ought to be.
    fn expected(&self, held: &[u8]) -> bool {
        self.asked.is_some_and(|asked| held[0] == asked.unit)
    }

    fn damage(&self, held: &[u8]) -> Fault {
        let len = self.reply_len(held).or_else(|| request_len(held));
        match len.and_then(|len| held.get(..len)) {
            Some(frame) => {
                let (body, sum) = frame.split_at(frame.len() - 2);
                Fault::Checksum {
                    got: u16::from_le_bytes([sum[0], sum[1]]),
                    expected: crc(body),
                }
            }
            None => Fault::Noise,
        }
    }
}

fn known(function: u8) -> bool {
    matches!(function & !EXCEPTION, 1..=8 | 11 | 12 | 15..=17 | 20..=24 | 43 | 0x41 | 0x42)
}

/// The length of what a master may say with these first bytes; also of the answers to writes, which
/// repeat them.
fn request_len(held: &[u8]) -> Option<usize> {
    let (&unit, &function) = (held.first()?, held.get(1)?);
    if unit > MAX_UNIT {
        return None;
    }
    match function {
        1..=4 => {
            let request = Request::parse(held.get(1..6)?)?;
            (1..=2000).contains(&request.count).then_some(8)
        }
        5 | 6 | 8 => Some(8),
        // Its answer has the length of a read request, and the request a count of bytes behind that.
        15 | 16 => {
            let long = 9 + held.get(6).map_or(0, |&bytes| usize::from(bytes));
            let answer = matches!(frame(held, 8), Found::Frame(_));
            Some(if answer { 8 } else { long })
        }
        // PZEM: reset of the energy counter.
        7 | 11 | 12 | 17 | 0x42 => Some(4),
        _ => None,
    }
}

/// The length of a reply nobody asked for.
fn stray_len(held: &[u8]) -> Option<usize> {
    match *held {
        [1..=MAX_UNIT, function, bytes, ..] => match function {
            1..=4 if bytes > 0 => Some(5 + usize::from(bytes)),
            _ if function & EXCEPTION != 0 && known(function) => Some(5),
            _ => None,
        },
        _ => None,
    }
}

fn stray(unit: u8, function: u8, code: u8) -> Fault {
    if function & EXCEPTION == 0 {
        return Fault::NoRequest { unit, function };
    }
    Fault::Exception {
        unit,
        function: function & !EXCEPTION,
        code,
        name: exception_name(code),
    }
}

#[cfg(test)]
mod tests;
