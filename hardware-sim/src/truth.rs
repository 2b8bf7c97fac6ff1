//! What was really sent: the file that `verify` holds against MongoDB.
//!
//! JSON Lines. The first line is the [`Head`], then one line a reading as soon as nothing more can
//! happen to it at the device ([`Line`]), and a last line ([`End`]) when the simulator ended in order.
//! A file without it was cut off: readings that were on their way then are in MongoDB, but not here.
//!
//! ```text
//! {"truth":1,"seed":7,"started":"2026-…"}
//! {"device":"meter-1","boot":1795384,"seq":0,"state":"acknowledged","sends":1,"time":…,"sent":…,"settled":…,"values":{"power_w":{"float":1.5}}}
//! {"end":true,"readings":1}
//! ```

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use protocol::Value;
use serde::{Deserialize, Serialize};

/// The version this build writes.
pub const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Version of the file.
    pub truth: u32,
    /// Seed of the run.
    pub seed: u64,
    /// When it began; RFC 3339.
    pub started: String,
}

/// The last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Always true.
    pub end: bool,
    /// Readings in the file.
    pub readings: u64,
}

/// What became of a reading at the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The agent (frames) or the broker (MQTT) confirmed it: it must be in MongoDB.
    Acknowledged,
    /// It went out whole, but nobody confirmed it: it may be in MongoDB, and if so, exactly.
    Sent,
    /// A fault took or damaged its only transmission: it may be in MongoDB in any form, or not.
    Damaged,
    /// The agent refused it for good, though it was sound.
    Rejected,
}

/// One reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Who measured.
    pub device: String,
    /// Which start of the device.
    pub boot: u32,
    /// Counts from 0 within it.
    pub seq: u32,
    /// What became of it.
    pub state: State,
    /// How often it went out; more than once is a retransmission.
    pub sends: u32,
    /// A fault put a later reading before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reordered: bool,
    /// The time it tells, by the device's clock, in microseconds since 1970.
    #[serde(default)]
    pub time: Option<u64>,
    /// When it first went out, in microseconds since 1970.
    pub sent: Option<u64>,
    /// When its state was settled, in microseconds since 1970.
    pub settled: u64,
    /// The exact values, as they arrive (numbers that travel as text are floats).
    pub values: BTreeMap<String, Exact>,
}

/// A value that says its type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exact {
    /// A physical quantity.
    Float(f64),
    /// A counter.
    Int(i64),
    /// A state.
    Bool(bool),
    /// A short text.
    Text(String),
}

impl From<Value> for Exact {
    fn from(value: Value) -> Self {
        match value {
            Value::Float(number) => Self::Float(number),
            Value::Int(number) => Self::Int(number),
            Value::Bool(state) => Self::Bool(state),
            Value::Text(text) => Self::Text(text.into()),
        }
    }
}

/// Why a truth file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TruthError {
    /// The file system.
    #[error("truth file cannot be read or written")]
    Io(#[from] io::Error),
    /// A truth is never overwritten.
    #[error("truth file {0} is there already; name another or remove it")]
    Exists(String),
    /// A line is not what it should be.
    #[error("truth file line {line}: {reason}")]
    Malformed {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// Written by a newer program.
    #[error("truth file version {0} is newer than this program knows ({VERSION})")]
    UnknownVersion(u32),
}

/// Writes a truth file. Holds one buffer, whatever the length of the run.
#[derive(Debug)]
pub struct Writer {
    file: BufWriter<File>,
    readings: u64,
}

impl Writer {
    /// Begins a new file.
    ///
    /// # Errors
    /// When it cannot be created, or is there already: a truth is never overwritten.
    pub fn create(path: &Path, seed: u64, started: String) -> Result<Self, TruthError> {
        let file = File::create_new(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => TruthError::Exists(path.display().to_string()),
            _ => TruthError::Io(error),
        })?;
        let mut writer = Self {
            file: BufWriter::new(file),
            readings: 0,
        };
        let truth = VERSION;
        writer.line(&Head {
            truth,
            seed,
            started,
        })?;
        writer.flush()?;
        Ok(writer)
    }

    /// Adds a reading.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, line: &Line) -> Result<(), TruthError> {
        self.line(line)?;
        self.readings += 1;
        Ok(())
    }

    /// Hands what is buffered to the system, where a kill of this process does not reach it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> Result<(), TruthError> {
        Ok(self.file.flush()?)
    }

    /// Writes the last line and waits for the disk.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> Result<(), TruthError> {
        let end = End {
            end: true,
            readings: self.readings,
        };
        self.line(&end)?;
        self.flush()?;
        Ok(self.file.get_ref().sync_all()?)
    }

    fn line(&mut self, line: &impl Serialize) -> Result<(), TruthError> {
        serde_json::to_writer(&mut self.file, line).map_err(io::Error::from)?;
        Ok(self.file.write_all(b"\n")?)
    }
}

/// A truth file, read line by line.
pub struct Reader {
    lines: io::Lines<BufReader<File>>,
    number: u64,
    readings: u64,
    /// The first line.
    pub head: Head,
    /// Whether the last line was there, once all are read.
    pub complete: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AnyLine {
    Reading(Box<Line>),
    End(End),
}

impl Reader {
    /// Opens a truth file.
    ///
    /// # Errors
    /// When it cannot be read or is none.
    pub fn open(path: &Path) -> Result<Self, TruthError> {
        let mut lines = BufReader::new(File::open(path)?).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        let head: Head = serde_json::from_str(&first).map_err(|error| malformed(1, &error))?;
        if head.truth > VERSION {
            return Err(TruthError::UnknownVersion(head.truth));
        }
        Ok(Self {
            lines,
            number: 1,
            readings: 0,
            head,
            complete: false,
        })
    }

    /// The next reading. A last line that was cut off by a kill is passed by.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is malformed.
    pub fn next_line(&mut self) -> Result<Option<Line>, TruthError> {
        let Some(text) = self.lines.next().transpose()? else {
            return Ok(None);
        };
        self.number += 1;
        match serde_json::from_str(&text) {
            Ok(AnyLine::Reading(line)) => {
                self.readings += 1;
                Ok(Some(*line))
            }
            Ok(AnyLine::End(end)) if end.readings == self.readings => {
                self.complete = true;
                Ok(None)
            }
            Ok(AnyLine::End(end)) => Err(TruthError::Malformed {
                line: self.number,
                reason: format!(
                    "{} readings expected, {} found",
                    end.readings, self.readings
                ),
            }),
            Err(error) => match self.lines.next() {
                None => Ok(None),
                Some(_) => Err(malformed(self.number, &error)),
            },
        }
    }
}

fn malformed(line: u64, error: &serde_json::Error) -> TruthError {
    TruthError::Malformed {
        line,
        reason: error.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn line(device: &str, seq: u32, state: State, power: f64) -> Line {
        Line {
            device: device.into(),
            boot: 9,
            seq,
            state,
            sends: 1,
            reordered: false,
            time: None,
            sent: Some(1),
            settled: 2,
            values: BTreeMap::from([("power_w".into(), Exact::Float(power))]),
        }
    }

    fn read(path: &Path) -> (Vec<Line>, bool) {
        let mut reader = Reader::open(path).unwrap();
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line().unwrap() {
            lines.push(line);
        }
        (lines, reader.complete)
    }

    #[test]
    fn what_was_written_is_read_back_bit_by_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("truth.jsonl");
        let mut written = line("d", 0, State::Acknowledged, 0.1 + 0.2);
        for (name, value) in [
            ("a", Exact::Float(5e-324)),
            ("b", Exact::Float(-0.0)),
            ("c", Exact::Int(i64::MIN)),
            ("d", Exact::Bool(true)),
            ("e", Exact::Text("ü \"".into())),
        ] {
            written.values.insert(name.into(), value);
        }
        let mut writer = Writer::create(&path, 7, "now".into()).unwrap();
        writer.add(&written).unwrap();
        writer.finish().unwrap();
        let (lines, complete) = read(&path);
        assert!(complete);
        assert_eq!(format!("{lines:?}"), format!("{:?}", [written]));
    }

    #[test]
    fn a_file_cut_off_by_a_kill_is_read_as_far_as_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("truth.jsonl");
        let mut writer = Writer::create(&path, 7, "now".into()).unwrap();
        for seq in 0..2 {
            writer.add(&line("d", seq, State::Sent, 1.0)).unwrap();
        }
        writer.flush().unwrap();
        assert_eq!(read(&path).0.len(), 2);
        assert!(!read(&path).1);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        assert_eq!(read(&path).0.len(), 1);
    }

    #[test]
    fn a_newer_version_is_not_taken_for_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("truth.jsonl");
        std::fs::write(&path, "{\"truth\":2,\"seed\":0,\"started\":\"\"}\n").unwrap();
        assert!(matches!(
            Reader::open(&path),
            Err(TruthError::UnknownVersion(2))
        ));
        assert!(
            Writer::create(&path, 7, "now".into()).is_err(),
            "never overwritten"
        );
    }
}
