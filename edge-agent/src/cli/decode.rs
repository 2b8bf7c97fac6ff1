//! `edge-agent decode`: what the agent would read from bytes in a file, by the very code of `run`.

mod message;
mod place;

use std::{
    fs,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use protocol::{Timestamp, Value};
use serde_json::{Map, Number};

use place::Places;

use super::Exit;
use crate::{
    config::{self, LineFormat, Roles},
    decode::{
        self, Decoded, DeviceTime,
        preset::{self, Preset, PresetError},
        stream::{Piece, Rejected, Stream},
    },
};

/// How much is read at once.
const CHUNK: usize = 64 * 1024;
/// Largest MQTT payload.
const MAX_PAYLOAD: u64 = 1 << 20;
/// How many bytes of a rejected piece are shown.
const SHOWN: usize = 40;

/// Arguments of `decode`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What the bytes are: nmea, dsmr, ve-direct, pms5003, sds011, mh-z19, modbus:PROFILE, json, csv …;
    /// number, tasmota, zigbee2mqtt, esphome, rtl_433, mbmd, thin-edge, shelly, senml, sparkplug-b for
    /// one MQTT payload
    #[arg(long = "as", value_name = "PRESET")]
    preset: String,
    /// The MQTT topic the payload came with: for `number`, the last level names the value
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// When it arrived; needed for times that count back from then
    #[arg(long, value_name = "RFC3339")]
    received_at: Option<Timestamp>,
    /// Columns, pattern, time and the like, as in [[serial]]; for `--as modbus` a profile; for an MQTT
    /// payload topic and timezone, as in [[mqtt.subscribe]]
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
    let what = what(arguments)?;
    let place = arguments.file.display();
    let mut input: Box<dyn Read> = if arguments.file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = fs::File::open(&arguments.file);
        Box::new(file.with_context(|| format!("cannot open {place}"))?)
    };
    let mut report = Report {
        out: BufWriter::new(io::stdout().lock()),
        problems: io::stderr().lock(),
        received_at: arguments.received_at,
        rejected: 0,
    };
    let done = match what {
        What::Stream(stream) => report.stream(stream, &mut input),
        What::Json => report.json(&mut input),
        What::Message(message) => message.tell(&mut report, &mut input),
    };
    match done.and_then(|()| report.out.flush()) {
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            let error = anyhow::Error::new(error).context(format!("cannot decode {place}"));
            Err(error.into())
        }
        Ok(()) if report.rejected > 0 => Err(Exit::Logged),
        Ok(()) => Ok(()),
    }
}

/// How the bytes are taken.
enum What {
    Stream(Stream),
    /// One object; if it is none, a line each.
    Json,
    /// All of them as one message, as MQTT delivers it.
    Message(message::Message),
}

fn what(arguments: &Arguments) -> Result<What, Exit> {
    if let Some(kind) = message::kind(&arguments.preset) {
        return message::Message::new(arguments, kind).map(What::Message);
    }
    if arguments.preset.eq_ignore_ascii_case("json") {
        let text = arguments.config.as_deref().map(fs::read_to_string);
        let about = |text: String| message::is_about_a_message(&text);
        if arguments.topic.is_some() || text.is_some_and(|text| text.is_ok_and(about)) {
            let message = message::Message::new(arguments, message::Kind::Json);
            return message.map(What::Message);
        }
        if arguments.config.is_none() {
            return Ok(What::Json);
        }
    }
    stream(arguments).map(What::Stream)
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
struct Report<O, P> {
    out: O,
    problems: P,
    received_at: Option<Timestamp>,
    rejected: u64,
}

impl<O: Write, P: Write> Report<O, P> {
    fn stream(&mut self, mut stream: Stream, input: &mut dyn Read) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut pieces = Vec::new();
        loop {
            let read = match input.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            stream.push(&buffer[..read], &mut pieces);
            if read == 0 {
                stream.finish(&mut pieces);
            }
            for piece in pieces.drain(..) {
                self.piece(piece)?;
            }
            if read == 0 {
                return Ok(());
            }
        }
    }

    fn json(&mut self, input: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        input.take(MAX_PAYLOAD + 1).read_to_end(&mut bytes)?;
        match decode::json::decode(&bytes, &Roles::default()) {
            Ok(decoded) if bytes.len() as u64 <= MAX_PAYLOAD => {
                self.of_payload(&mut Places::of(&bytes), &decoded)
            }
            // One object a line; what was read goes first.
            _ => {
                let lines = Preset::Lines(LineFormat::Json).stream();
                self.stream(lines, &mut bytes.as_slice().chain(input))
            }
        }
    }

    /// A reading of a payload, in which the rejected members have their places.
    fn of_payload(&mut self, places: &mut Places<'_>, decoded: &Decoded) -> io::Result<()> {
        self.rejected_members(decoded, |name, problem| {
            places.of_member(name, problem) as u64
        })?;
        self.reading(decoded)
    }

    fn rejected_members(
        &mut self,
        decoded: &Decoded,
        mut place: impl FnMut(&str, &decode::Problem) -> u64,
    ) -> io::Result<()> {
        for (name, problem) in &decoded.rejected {
            self.rejected += 1;
            let at = place(name, problem);
            writeln!(self.problems, "byte {at}: {name:?} {problem}")?;
        }
        Ok(())
    }

    fn piece(&mut self, piece: Piece) -> io::Result<()> {
        match piece {
            Piece::Reading(at, decoded) => {
                self.rejected_members(&decoded, |_, _| at)?;
                self.reading(&decoded)
            }
            Piece::Rejected(rejected) => {
                self.rejected += 1;
                let Rejected { at, len, fault, .. } = &rejected;
                let excerpt = excerpt(&rejected.bytes);
                writeln!(self.problems, "byte {at}: {fault} ({len} bytes: {excerpt})")
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

/// A value as JSON.
pub(super) fn json(value: &Value) -> serde_json::Value {
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

fn excerpt(bytes: &[u8]) -> String {
    excerpt_of(bytes, SHOWN)
}

/// The first bytes: text as text, anything else as hex.
pub(super) fn excerpt_of(bytes: &[u8], most: usize) -> String {
    let shown = &bytes[..bytes.len().min(most)];
    let more = if bytes.len() > most { "…" } else { "" };
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

#[cfg(test)]
mod tests;
