//! `edge-agent decode`: what the agent would read from bytes in a file, by the very code of `run`.

use std::{
    fs,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use protocol::{Timestamp, Value};
use serde_json::{Map, Number};

use super::Exit;
use crate::{
    config::{self, LineFormat},
    decode::{
        Decoded, DeviceTime,
        preset::{self, Preset, PresetError},
        stream::{Piece, Rejected, Stream},
    },
};

/// How much is read at once.
const CHUNK: usize = 64 * 1024;
/// How many bytes of a rejected piece are shown.
const SHOWN: usize = 40;

/// Arguments of `decode`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What the bytes are: nmea, dsmr, ve-direct, pms5003, sds011, mh-z19, modbus:PROFILE, json, csv …
    #[arg(long = "as", value_name = "PRESET")]
    preset: String,
    /// The MQTT topic the payload came with
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// When it arrived; needed for times that count back from then
    #[arg(long, value_name = "RFC3339")]
    received_at: Option<Timestamp>,
    /// Columns, pattern, time and the like, as in [[serial]]; for `--as modbus` a profile
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Bytes as they come from the device; `-` is the standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// One JSON object a reading and line.
    #[default]
    Json,
}

/// Prints each reading on stdout, and each rejected piece with reason and place on stderr.
///
/// # Errors
/// [`Exit::Logged`] when anything was rejected; else what made reading impossible.
pub fn decode(arguments: &Arguments) -> Result<(), Exit> {
    let mut stream = stream(arguments)?;
    let mut input: Box<dyn Read> = if arguments.file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = fs::File::open(&arguments.file);
        Box::new(file.with_context(|| format!("cannot open {}", arguments.file.display()))?)
    };
    let mut report = Report {
        out: BufWriter::new(io::stdout().lock()),
        received_at: arguments.received_at,
        rejected: 0,
    };
    let mut buffer = vec![0; CHUNK];
    let mut pieces = Vec::new();
    loop {
        let read = match input.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let place = arguments.file.display();
                return Err(anyhow::Error::new(error)
                    .context(format!("cannot read {place}"))
                    .into());
            }
        };
        stream.push(&buffer[..read], &mut pieces);
        if read == 0 {
            stream.finish(&mut pieces);
        }
        match pieces.drain(..).try_for_each(|piece| report.piece(piece)) {
            Ok(()) if read > 0 => {}
            Ok(()) => break,
            // A reader that has seen enough is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(Exit::Failed(error.into())),
        }
    }
    match report.out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Exit::Failed(error.into())),
        _ if report.rejected > 0 => Err(Exit::Logged),
        _ => Ok(()),
    }
}

fn stream(arguments: &Arguments) -> Result<Stream, Exit> {
    let wrong = |error: PresetError| Exit::Failed(error.into());
    let Some(path) = &arguments.config else {
        return Ok(arguments.preset.parse::<Preset>().map_err(wrong)?.stream());
    };
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    match arguments.preset.parse::<Preset>() {
        Ok(Preset::Lines(format)) => configured(path, &text, word(&format)),
        Err(PresetError::NoPattern) => configured(path, &text, "regex"),
        Err(PresetError::NoProfile) => {
            let name = path.file_stem().map(|stem| stem.to_string_lossy());
            let map = preset::profile(&name.unwrap_or_default(), &text).map_err(wrong)?;
            let tcp = arguments.preset.to_ascii_lowercase().contains("tcp");
            Ok(if tcp {
                Preset::ModbusTcp(map).stream()
            } else {
                Preset::Modbus(map).stream()
            })
        }
        Ok(preset) => Ok(preset.stream()),
        Err(error) => Err(wrong(error)),
    }
}

fn configured(path: &Path, text: &str, format: &'static str) -> Result<Stream, Exit> {
    let lines = config::lines(path, text, format).map_err(Exit::Config)?;
    Ok(preset::lines(
        lines.format,
        lines.roles,
        lines.max_line_bytes,
    ))
}

fn word(format: &LineFormat) -> &'static str {
    match format {
        LineFormat::Json => "json",
        LineFormat::KeyValue => "key-value",
        LineFormat::Csv { .. } => "csv",
        LineFormat::Influx => "influx",
        LineFormat::Regex(_) => "regex",
    }
}

/// Where the pieces go.
struct Report<W> {
    out: W,
    received_at: Option<Timestamp>,
    rejected: u64,
}

impl<W: Write> Report<W> {
    fn piece(&mut self, piece: Piece) -> io::Result<()> {
        match piece {
            Piece::Reading(at, decoded) => {
                for (name, problem) in &decoded.rejected {
                    self.rejected += 1;
                    eprintln!("byte {at}: {name:?} {problem}");
                }
                self.reading(&decoded)
            }
            Piece::Rejected(rejected) => {
                self.rejected += 1;
                let Rejected { at, len, fault, .. } = &rejected;
                let excerpt = excerpt(&rejected.bytes);
                eprintln!("byte {at}: {fault} ({len} bytes: {excerpt})");
                Ok(())
            }
        }
    }

    fn reading(&mut self, decoded: &Decoded) -> io::Result<()> {
        if decoded.fields.is_empty() {
            return Ok(());
        }
        let fields: Map<String, serde_json::Value> = decoded
            .fields
            .iter()
            .map(|(name, value)| (name.to_string(), json(value)))
            .collect();
        let time = match decoded.time {
            Some(DeviceTime::At(time)) => Some(time),
            Some(DeviceTime::Age(age)) => self.received_at.and_then(|at| {
                let age = i64::try_from(age.as_micros()).ok()?;
                Timestamp::from_micros(at.as_micros().checked_sub(age)?).ok()
            }),
            None => None,
        };
        let device = serde_json::Value::from(decoded.device.as_deref());
        let time = serde_json::Value::from(time.map(|time| time.to_string()));
        let fields = serde_json::Value::Object(fields);
        writeln!(
            self.out,
            r#"{{"device":{device},"time":{time},"fields":{fields}}}"#
        )
    }
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Float(number) => Number::from_f64(*number).map_or(
            // Values are finite when they come here.
            serde_json::Value::Null,
            serde_json::Value::Number,
        ),
        Value::Int(number) => (*number).into(),
        Value::Bool(state) => (*state).into(),
        Value::Text(text) => text.as_ref().into(),
    }
}

/// Text as text, anything else as hex.
fn excerpt(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN)];
    let more = if bytes.len() > SHOWN { "…" } else { "" };
    match std::str::from_utf8(shown) {
        Ok(text) if !text.chars().any(|c| c.is_control() && !c.is_whitespace()) => {
            format!("{text:?}{more}")
        }
        _ => {
            let hex: Vec<String> = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{}{more}", hex.join(" "))
        }
    }
}
