//! The serial protocol between a device and the agent, version 1.
//!
//! ```text
//! on the line   00 | COBS( version 01 | kind | body | CRC-32 little-endian ) | 00
//! kind          1 hello   2 reading   3 ack   4 status
//! body          postcard: integers are LEB128 varints, signed ones zigzag, f64 little-endian,
//!               texts and lists carry their count first, an option is 00 or 01 and the value
//! CRC-32        IEEE 802.3 (reflected, 0xEDB88320) over version, kind and body
//! ```
//!
//! A zero byte occurs nowhere inside a frame, so a receiver that meets one is in step again: a damaged
//! frame never takes the next one with it. Frames both begin and end with a zero, so that one damaged
//! delimiter does not join two frames either; an empty frame between two zeros means nothing.
//!
//! A conversation:
//!
//! ```text
//! device                                    agent
//! Hello{device, boot, reply: true}   ──▶
//!                                    ◀──    Hello{device: gateway, time, reply: false}
//! Reading{boot, sequence 0}          ──▶    … commits, fdatasync …
//!                                    ◀──    Ack{boot, sequence 0, Stored}
//! Reading{boot, sequence 1}          ──▶    (frame damaged, or ack lost)
//! Reading{boot, sequence 1}          ──▶    the device sends again what is not acknowledged
//! ```
//!
//! Whoever gets a hello with `reply` answers with one without. An agent that meets a boot it does not
//! know sends a hello with `reply`; the device answers and sends the reading again. `boot` must differ
//! from start to start (random, or a counter in flash); `sequence` counts from 0 within it.
//! Between the newest reading sent and the oldest not acknowledged lie fewer than 64: so far back a reading
//! sent again is recognised.
//!
//! For firmware authors: `docs/protocol.md`, `c/edge_frame.h`, `vectors/v1.json`.

use alloc::{boxed::Box, format, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{FieldName, Value};

/// The version this build speaks.
pub const VERSION: u8 = 1;
/// Largest frame before COBS, in bytes; what is longer is skipped up to the next zero.
pub const MAX_FRAME_BYTES: usize = 1024;
/// The same stuffed: COBS adds one byte at the front and one for each 254.
const MAX_STUFFED_BYTES: usize = MAX_FRAME_BYTES + 1 + MAX_FRAME_BYTES / 254;
/// Bytes around the body: version, kind, CRC-32.
pub const OVERHEAD_BYTES: usize = 6;

const HELLO: u8 = 1;
const READING: u8 = 2;
const ACK: u8 = 3;
const STATUS: u8 = 4;

/// One message on the line.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// Who is there.
    Hello(Hello),
    /// Measured values; device to agent.
    Reading(FrameReading),
    /// What became of a reading; agent to device.
    Ack(Ack),
    /// How the device is; device to agent.
    Status(Status),
}

/// Who is there, in both directions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The device's id, or the gateway's when the agent speaks.
    pub device: String,
    /// What kind of thing it is, such as `sdm120`; may be empty.
    pub model: String,
    /// Version of its software; may be empty.
    pub firmware: String,
    /// Differs from start to start.
    pub boot: u32,
    /// Unix time in microseconds, by whoever has a clock that is right.
    pub time_us: Option<u64>,
    /// Please answer with your own hello.
    pub reply: bool,
}

/// When a framed reading was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u64)] // as `Clock`
pub enum FrameTime {
    /// Now; the agent's arrival time counts.
    Arrival,
    /// The device has a clock: Unix time in microseconds.
    Unix(u64),
    /// The device has no clock, but the reading waited this many milliseconds before this transmission.
    Age(u32),
}

/// Measured values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameReading {
    /// The boot told in the hello.
    pub boot: u32,
    /// Counts from 0 within the boot.
    pub sequence: u32,
    /// When.
    pub time: FrameTime,
    /// Names with units and values, in any order; see [`Value`].
    pub fields: Vec<(String, Value)>,
}

/// What became of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The reading's boot.
    pub boot: u32,
    /// The reading's sequence; acks are single, not cumulative.
    pub sequence: u32,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a reading. In either case the device may forget it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is durable.
    Stored,
    /// It can never be accepted as it is (a value that is no number, a bad name); it is in the
    /// agent's quarantine.
    Rejected,
}

/// How the device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The boot told in the hello.
    pub boot: u32,
    /// Since that boot.
    pub uptime_ms: u64,
    /// Readings the device itself had to drop since then.
    pub dropped: u32,
    /// Anything else worth saying; may be empty.
    pub text: String,
}

/// Why the bytes between two zeros are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// More than [`MAX_FRAME_BYTES`] without a zero.
    #[error("frame is longer than {MAX_FRAME_BYTES} bytes")]
    TooLong,
    /// The bytes are not COBS, or end in the middle of it.
    #[error("frame is not valid COBS")]
    Cobs,
    /// Too short to hold version, kind and CRC.
    #[error("frame has {0} bytes, at least {OVERHEAD_BYTES} are needed")]
    TooShort(usize),
    /// Bytes were damaged on the line.
    #[error("frame crc is {got:08x}, {expected:08x} was computed")]
    Crc {
        /// Over the bytes received.
        expected: u32,
        /// In the frame.
        got: u32,
    },
    /// An intact frame of a version this build does not know.
    #[error("frame version {0} is unknown, this program speaks {VERSION}")]
    UnknownVersion(u8),
    /// An intact frame of a kind this build does not know.
    #[error("frame kind {0} is unknown")]
    UnknownKind(u8),
    /// An intact frame whose body is not what its kind promises.
    #[error("frame body of kind {kind} is malformed: {reason}")]
    Body {
        /// The kind byte.
        kind: u8,
        /// What postcard says.
        reason: Box<str>,
    },
    /// To be sent, but larger than [`MAX_FRAME_BYTES`].
    #[error("frame would have {0} bytes, {MAX_FRAME_BYTES} are allowed")]
    CannotSend(usize),
}

impl Frame {
    /// Appends the frame as it goes over the line, with a zero before and behind.
    ///
    /// # Errors
    /// [`FrameError::CannotSend`]; `out` is then as before.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let kind = match self {
            Self::Hello(_) => HELLO,
            Self::Reading(_) => READING,
            Self::Ack(_) => ACK,
            Self::Status(_) => STATUS,
        };
        let mut buffer = [0; MAX_FRAME_BYTES];
        buffer[..2].copy_from_slice(&[VERSION, kind]);
        let room = &mut buffer[2..MAX_FRAME_BYTES - 4];
        let body = match self {
            Self::Hello(hello) => write_body(kind, hello, room),
            Self::Reading(reading) => write_body(kind, reading, room),
            Self::Ack(ack) => write_body(kind, ack, room),
            Self::Status(status) => write_body(kind, status, room),
        }?;
        let checked = 2 + body;
        let crc = crc32fast::hash(&buffer[..checked]);
        buffer[checked..checked + 4].copy_from_slice(&crc.to_le_bytes());
        let plain = &buffer[..checked + 4];
        out.push(0);
        let start = out.len();
        out.resize(start + cobs::max_encoding_length(plain.len()), 0);
        let stuffed = cobs::encode(plain, &mut out[start..]);
        out.truncate(start + stuffed);
        out.push(0);
        Ok(())
    }

    /// Reads what stood between two zeros.
    ///
    /// # Errors
    /// Why it is no frame. The CRC is judged before the version, so "unknown version" never means damage.
    pub fn decode(stuffed: &[u8]) -> Result<Self, FrameError> {
        if stuffed.len() > MAX_STUFFED_BYTES {
            return Err(FrameError::TooLong);
        }
        // What is taken apart is never longer than what it was.
        let mut buffer = [0; MAX_STUFFED_BYTES];
        let length = cobs::decode(stuffed, &mut buffer).map_err(|_| FrameError::Cobs)?;
        // The stuffed form of a longer frame with many zeros can be as short as that of an allowed one.
        let plain = match &buffer[..length] {
            plain if length <= MAX_FRAME_BYTES => plain,
            _ => return Err(FrameError::TooLong),
        };
        let Some((checked, crc)) = plain.split_last_chunk::<4>() else {
            return Err(FrameError::TooShort(plain.len()));
        };
        let [version, kind, body @ ..] = checked else {
            return Err(FrameError::TooShort(plain.len()));
        };
        let (expected, got) = (crc32fast::hash(checked), u32::from_le_bytes(*crc));
        if expected != got {
            return Err(FrameError::Crc { expected, got });
        }
        if *version != VERSION {
            return Err(FrameError::UnknownVersion(*version));
        }
        match *kind {
            HELLO => read_body(HELLO, body).map(Self::Hello),
            READING => read_body(READING, body).map(Self::Reading),
            ACK => read_body(ACK, body).map(Self::Ack),
            STATUS => read_body(STATUS, body).map(Self::Status),
            kind => Err(FrameError::UnknownKind(kind)),
        }
    }
}

impl FrameReading {
    /// The fields under canonical names, unchecked otherwise.
    ///
    /// # Errors
    /// The first name that has no canonical form.
    pub fn named_fields(&self) -> Result<Vec<(FieldName, Value)>, crate::FieldError> {
        self.fields
            .iter()
            .map(|(name, value)| Ok((FieldName::normalise(name)?, value.clone())))
            .collect()
    }
}

/// Writes a body into `room` and returns its length.
fn write_body(kind: u8, body: &impl Serialize, room: &mut [u8]) -> Result<usize, FrameError> {
    let error = match postcard::to_slice(body, room) {
        Ok(written) => return Ok(written.len()),
        Err(error) => error,
    };
    Err(match postcard::experimental::serialized_size(body) {
        Ok(bytes) if bytes > room.len() => FrameError::CannotSend(bytes + OVERHEAD_BYTES),
        _ => malformed_body(kind, error),
    })
}

fn read_body<'a, T: Deserialize<'a>>(kind: u8, body: &'a [u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((read, [])) => Ok(read),
        Ok((_, rest)) => Err(FrameError::Body {
            kind,
            reason: format!("{} bytes left over", rest.len()).into(),
        }),
        Err(error) => Err(malformed_body(kind, error)),
    }
}

fn malformed_body(kind: u8, error: postcard::Error) -> FrameError {
    use postcard::Error as E;
    let reason = match error {
        E::DeserializeUnexpectedEnd => "it ends before its last member does",
        E::DeserializeBadVarint => "an integer is longer or larger than its type",
        E::DeserializeBadUtf8 => "a text is not UTF-8",
        E::DeserializeBadBool => "a bool is neither 00 nor 01",
        E::DeserializeBadOption => "an option is neither 00 nor 01",
        // An enum's number is all that serde itself has to judge here.
        E::SerdeDeCustom => "the number of a time, a value's type or a verdict is unknown",
        other => {
            let reason = format!("{other}").into();
            return FrameError::Body { kind, reason };
        }
    };
    FrameError::Body {
        kind,
        reason: reason.into(),
    }
}

/// Cuts a stream of bytes into frames. Holds at most one frame.
#[derive(Debug, Default)]
pub struct Decoder {
    held: Vec<u8>,
    skipping: bool,
}

impl Decoder {
    /// In step with nothing yet: bytes up to the first zero count as a damaged frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one byte; returns what a zero completes.
    pub fn push(&mut self, byte: u8) -> Option<Result<Frame, FrameError>> {
        if byte != 0 {
            if self.held.len() < MAX_STUFFED_BYTES {
                self.held.push(byte);
            } else {
                self.skipping = true;
            }
            return None;
        }
        let skipped = core::mem::take(&mut self.skipping);
        let result = match self.held.as_slice() {
            [] => None,
            _ if skipped => Some(Err(FrameError::TooLong)),
            stuffed => Some(Frame::decode(stuffed)),
        };
        self.held.clear();
        result
    }

    /// The bytes held since the last zero, undecided yet.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.held
    }
}
