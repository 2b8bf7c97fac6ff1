//! A stream of bytes from a device, cut into pieces: readings and rejections, each with its place.
//!
//! A format says what the bytes at hand begin with ([`Step`]); the stream keeps the bytes, their
//! position, and what is wrong so far. So resynchronising is one rule for every format: what is not the
//! beginning of a piece is passed over byte by byte, and a damaged piece gives up no more than its own
//! header, so that a whole piece behind it, or inside of what it claimed to be, is still found. Bytes
//! passed over in one go are one rejection, not one each.
//!
//! ```text
//! push ──▶ held ──▶ Cut::next ──▶ Take    readings
//!            ▲          │    ├──▶ Reject  a piece that is wrong: a rejection begins
//!            └── Wait ──┘    ├──▶ Noise   no piece begins here: the rejection goes on
//!                            └──▶ Blank   line ends and the like
//! ```
//!
//! Where a piece ends depends on the bytes alone, never on how they were delivered. What is held is
//! bounded by [`Cut::bound`], whatever comes in.

use super::{DecodeError, Decoded};
use crate::ingest::Rejection;

/// Most bytes held back while a piece is not complete; larger than a piece of any format.
pub const MAX_HELD: usize = 16 * 1024;
/// How much is taken in before the pieces in it are cut out.
const CHUNK: usize = 4096;
/// First bytes of a rejection that are kept for people and the quarantine.
const KEPT: usize = 512;

/// What a format makes of the bytes at hand.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// More bytes are needed to tell.
    Wait,
    /// The first `0` bytes are a piece; its readings, if any, are in the output.
    Take(usize),
    /// The first `0` bytes belong to a piece that is wrong.
    Reject(usize, Fault),
    /// The first `0` bytes belong to no piece.
    Noise(usize),
    /// The first `0` bytes stand between pieces and mean nothing.
    Blank(usize),
}

/// A format: cuts pieces from the front of the bytes at hand.
pub(crate) trait Cut: std::fmt::Debug + Send {
    /// Judges `held`, which is never empty. `end` says that nothing will follow, so waiting is in vain.
    /// Must not ask for zero bytes to be passed over.
    fn next(&mut self, held: &[u8], end: bool, out: &mut Vec<Decoded>) -> Step;

    /// The line fell silent: readings that were kept to be joined with more.
    fn flush(&mut self, _out: &mut Vec<Decoded>) {}

    /// Most bytes to hold back for one piece.
    fn bound(&self) -> usize {
        MAX_HELD
    }
}

/// Why bytes of a stream are no reading.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The stream was joined in the middle of a piece.
    #[error("starts in the middle of a piece")]
    Lead,
    /// No piece begins here.
    #[error("no piece begins here")]
    Noise,
    /// The stream ends before the piece does.
    #[error("ends in the middle of a piece")]
    Truncated,
    /// A piece that goes on and on.
    #[error("is longer than any piece of this format")]
    TooLong,
    /// Damaged on the way.
    #[error("checksum is {got:#x}, the bytes add up to {expected:#x}")]
    Checksum {
        /// As received.
        got: u16,
        /// As computed.
        expected: u16,
    },
    /// It ought to have one.
    #[error("has no checksum")]
    NoChecksum,
    /// Whole, but not what the format promises.
    #[error("{0}")]
    Malformed(&'static str),
    /// Modbus: a reply that says no.
    #[error("unit {unit} answers function {function} with exception {code} ({name})")]
    Exception {
        /// The slave.
        unit: u8,
        /// What it was asked.
        function: u8,
        /// Its answer.
        code: u8,
        /// In words.
        name: &'static str,
    },
    /// Modbus: nobody knows which registers these are.
    #[error("reply of unit {unit} to function {function} has no request before it")]
    NoRequest {
        /// The slave.
        unit: u8,
        /// What it was asked.
        function: u8,
    },
    /// Whole, but no reading.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Fault {
    /// The label it is counted under.
    #[must_use]
    pub fn rejection(&self) -> Rejection {
        match self {
            Self::Lead
            | Self::Noise
            | Self::Truncated
            | Self::Checksum { .. }
            | Self::NoChecksum
            | Self::NoRequest { .. } => Rejection::Damaged,
            Self::TooLong => Rejection::TooLarge,
            Self::Malformed(_) => Rejection::Malformed,
            Self::Exception { .. } => Rejection::NoFields,
            Self::Decode(error) => error.rejection(),
        }
    }
}

/// One piece of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// A reading, and where the piece that completed it begins: bytes from the start of the stream.
    Reading(u64, Decoded),
    /// Bytes that are none.
    Rejected(Rejected),
}

impl Piece {
    /// Whether whoever asked can stop listening: a reading, or a whole frame that is none. Noise, damage and what
    /// somebody else was asked, or the same device earlier, may still be followed by the answer.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        match self {
            Self::Reading(..) => true,
            Self::Rejected(rejected) => !matches!(
                rejected.fault,
                Fault::Lead
                    | Fault::Noise
                    | Fault::Truncated
                    | Fault::Checksum { .. }
                    | Fault::NoRequest { .. }
            ),
        }
    }
}

/// Bytes that are no reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where they begin: bytes from the start of the stream.
    pub at: u64,
    /// How many they are.
    pub len: u64,
    /// Why.
    pub fault: Fault,
    /// The first of them.
    pub bytes: Vec<u8>,
}

/// A stream of one format.
#[derive(Debug)]
pub struct Stream {
    cut: Box<dyn Cut>,
    held: Vec<u8>,
    /// Where in `held` the next piece begins.
    start: usize,
    /// Position of that byte in the stream.
    at: u64,
    /// Whether a piece has been seen, whole or not.
    in_step: bool,
    trouble: Option<Rejected>,
    ready: Vec<Decoded>,
}

impl Stream {
    /// Starts at position 0.
    pub(crate) fn new(cut: impl Cut + 'static) -> Self {
        Self {
            cut: Box::new(cut),
            held: Vec::new(),
            start: 0,
            at: 0,
            in_step: false,
            trouble: None,
            ready: Vec::new(),
        }
    }

    /// Takes bytes and appends what they complete.
    pub fn push(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>) {
        for chunk in bytes.chunks(CHUNK) {
            self.held.extend_from_slice(chunk);
            self.cut(false, pieces);
        }
    }

    /// Whether a piece has begun and is not complete.
    #[must_use]
    pub fn is_within(&self) -> bool {
        !self.held.is_empty()
    }

    /// Nothing follows, or not for long: appends all there is left. The stream can go on afterwards.
    pub fn finish(&mut self, pieces: &mut Vec<Piece>) {
        self.cut(true, pieces);
        self.report(pieces);
        self.cut.flush(&mut self.ready);
        self.hand_out(pieces);
    }

    /// The line is silent, but may go on in the middle of a piece: appends what was kept to be joined.
    pub fn idle(&mut self, pieces: &mut Vec<Piece>) {
        self.report(pieces);
        self.cut.flush(&mut self.ready);
        self.hand_out(pieces);
    }

    fn cut(&mut self, end: bool, pieces: &mut Vec<Piece>) {
        while self.start < self.held.len() {
            let rest = &self.held[self.start..];
            let step = match self.cut.next(rest, end, &mut self.ready) {
                Step::Wait if end => Step::Reject(rest.len(), Fault::Truncated),
                Step::Wait if rest.len() >= self.cut.bound() => {
                    Step::Reject(rest.len(), Fault::TooLong)
                }
                step => step,
            };
            match step {
                Step::Wait => break,
                Step::Take(len) => {
                    self.report(pieces);
                    self.hand_out(pieces);
                    self.in_step = true;
                    self.advance(len);
                }
                Step::Reject(len, fault) => {
                    self.report(pieces);
                    self.hand_out(pieces);
                    self.in_step = true;
                    self.pass_over(len, fault);
                }
                // Within a rejection they are part of it.
                Step::Blank(len) if self.trouble.is_some() => self.pass_over(len, Fault::Noise),
                Step::Blank(len) => self.advance(len),
                Step::Noise(len) => {
                    let fault = if self.in_step {
                        Fault::Noise
                    } else {
                        Fault::Lead
                    };
                    self.pass_over(len, fault);
                }
            }
        }
        self.held.drain(..self.start);
        self.start = 0;
    }

    fn advance(&mut self, len: usize) {
        let len = len.clamp(1, self.held.len() - self.start);
        self.start += len;
        self.at += len as u64;
    }

    fn pass_over(&mut self, len: usize, fault: Fault) {
        let (start, at) = (self.start, self.at);
        self.advance(len);
        let bytes = &self.held[start..self.start];
        let trouble = self.trouble.get_or_insert_with(|| Rejected {
            at,
            len: 0,
            fault,
            bytes: Vec::new(),
        });
        trouble.len += bytes.len() as u64;
        let room = KEPT.saturating_sub(trouble.bytes.len()).min(bytes.len());
        trouble.bytes.extend_from_slice(&bytes[..room]);
    }

    fn report(&mut self, pieces: &mut Vec<Piece>) {
        pieces.extend(self.trouble.take().map(Piece::Rejected));
    }

    fn hand_out(&mut self, pieces: &mut Vec<Piece>) {
        let at = self.at;
        pieces.extend(
            self.ready
                .drain(..)
                .map(|decoded| Piece::Reading(at, decoded)),
        );
    }
}

#[cfg(test)]
pub(crate) mod tests;
