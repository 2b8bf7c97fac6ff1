//! Cuts a stream of bytes into lines; holds at most one.
//!
//! CR, LF and CR LF end a line; empty lines mean nothing. A line that is too long is reported once and
//! skipped up to its end, so the next one is whole again.

/// The stream.
#[derive(Debug)]
pub struct Splitter {
    held: Vec<u8>,
    max_bytes: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Line,
    /// Behind the bound of a line that was reported.
    TooLong,
    /// In the middle of a line whose beginning was not seen.
    Tail,
}

/// What stood between two line ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A whole line, without its end.
    Whole(Vec<u8>),
    /// The first bytes of one that is too long.
    TooLong(Vec<u8>),
    /// The end of one whose beginning was not seen; its length in bytes.
    Tail(usize),
}

impl Splitter {
    /// `in_step` says that the first byte begins a line. If not, everything up to the first line end is a
    /// [`Line::Tail`]: `1.5,40` may be what is left of `21.5,40`.
    #[must_use]
    pub fn new(max_bytes: usize, in_step: bool) -> Self {
        Self {
            held: Vec::new(),
            max_bytes,
            state: if in_step { State::Line } else { State::Tail },
        }
    }

    /// The line is silent: what comes next begins a line, unless one is already under way.
    pub fn silence(&mut self) {
        if self.state == State::Tail && self.held.is_empty() {
            self.state = State::Line;
        }
    }

    /// Takes one byte; returns what it completes.
    pub fn push(&mut self, byte: u8) -> Option<Line> {
        if !matches!(byte, b'\n' | b'\r') {
            if self.held.len() < self.max_bytes {
                self.held.push(byte);
            } else if self.state == State::Line {
                self.state = State::TooLong;
                return Some(Line::TooLong(self.held.clone()));
            }
            return None;
        }
        let held = std::mem::take(&mut self.held);
        match std::mem::replace(&mut self.state, State::Line) {
            State::Line if held.is_empty() => None,
            State::Line => Some(Line::Whole(held)),
            State::TooLong => None,
            State::Tail if held.is_empty() => None,
            State::Tail => Some(Line::Tail(held.len())),
        }
    }
}
