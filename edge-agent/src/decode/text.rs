//! Lines of text as a stream.
//!
//! A byte order mark in front of the first line is none of it. A table of comma-separated values may name
//! its columns in its first line; a line that repeats the names of its columns is passed by, for loggers write
//! it anew after each start.

use super::{
    DecodeError, Decoded, csv, line,
    stream::{Cut, Fault, Step},
};
use crate::config::{LineFormat, Roles};

/// What editors of another system put in front of a text.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// A text format.
#[derive(Debug)]
pub(crate) struct Text {
    format: LineFormat,
    roles: Roles,
    max_line_bytes: usize,
    /// How much of the line at hand has been looked at for its end.
    looked: usize,
    /// In a line that was reported as too long.
    too_long: bool,
    /// A line was seen.
    begun: bool,
}

impl Text {
    pub(crate) fn new(format: LineFormat, roles: Roles, max_line_bytes: usize) -> Self {
        Self {
            format,
            roles,
            max_line_bytes,
            looked: 0,
            too_long: false,
            begun: false,
        }
    }

    fn line(&mut self, bytes: &[u8], out: &mut Vec<Decoded>) -> Result<(), DecodeError> {
        if let LineFormat::Csv { separator, columns } = &mut self.format {
            // The first line of a table without columns names them.
            if columns.is_empty() {
                *columns = csv::names(bytes, *separator)?;
                return Ok(());
            }
            if csv::is_header(bytes, *separator, columns) {
                return Ok(());
            }
        }
        if matches!(self.format, LineFormat::Influx) && bytes.starts_with(b"#") {
            return Ok(());
        }
        let decoded = line(bytes, &self.format, &self.roles)?;
        if decoded.fields.is_empty() {
            return Err(decoded.nothing());
        }
        out.push(decoded);
        Ok(())
    }
}

impl Cut for Text {
    fn next(&mut self, held: &[u8], end: bool, out: &mut Vec<Decoded>) -> Step {
        let ends = |b: &u8| matches!(b, b'\r' | b'\n');
        if !self.begun {
            if BOM.starts_with(&held[..held.len().min(BOM.len())]) {
                if held.len() >= BOM.len() {
                    self.begun = true;
                    return Step::Blank(BOM.len());
                }
                if !end {
                    return Step::Wait;
                }
            }
            self.begun = true;
        }
        let blank = held.iter().take_while(|b| ends(b)).count();
        if blank > 0 {
            self.too_long = false;
            return Step::Blank(blank);
        }
        let from = std::mem::take(&mut self.looked).min(held.len());
        let len = match held[from..].iter().position(ends) {
            Some(at) => from + at,
            None if end || held.len() > self.max_line_bytes => held.len(),
            None => {
                self.looked = held.len();
                return Step::Wait;
            }
        };
        if self.too_long {
            return Step::Noise(len);
        }
        if len > self.max_line_bytes {
            self.too_long = true;
            return Step::Reject(len, Fault::TooLong);
        }
        match self.line(&held[..len], out) {
            Ok(()) => Step::Take(len),
            Err(error) => Step::Reject(len, error.into()),
        }
    }

    fn bound(&self) -> usize {
        usize::MAX
    }
}
