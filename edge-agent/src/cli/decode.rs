//! `edge-agent decode`: what the agent would read from bytes in a file, by the very code of `run`.

use std::{
    fs,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use protocol::{FieldName, Timestamp, Value};
use serde_json::{Map, Number};

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
    /// What the bytes are: nmea, dsmr, ve-direct, pms5003, sds011, mh-z19, modbus:PROFILE, json, number, csv …
    #[arg(long = "as", value_name = "PRESET")]
    preset: String,
    /// The MQTT topic the payload came with: for `number`, the last level names the value
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
        What::Payload(payload) => report.payload(&payload, &mut input),
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
    Payload(Payload),
}

/// All of them as one message, as MQTT delivers it.
enum Payload {
    /// One object; if it is none, a line each.
    Json,
    /// A bare value.
    Number {
        device: Option<String>,
        field: FieldName,
    },
}

fn what(arguments: &Arguments) -> Result<What, Exit> {
    let topic = arguments.topic.as_deref();
    if arguments.preset.eq_ignore_ascii_case("number") {
        let mut levels = topic.unwrap_or("value").rsplit('/');
        let field = levels.next().unwrap_or("value");
        let field =
            FieldName::normalise(field).context("the last level of --topic names no field")?;
        let device = levels.next().map(str::to_owned);
        return Ok(What::Payload(Payload::Number { device, field }));
    }
    if arguments.preset.eq_ignore_ascii_case("json") && arguments.config.is_none() {
        return Ok(What::Payload(Payload::Json));
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

    fn payload(&mut self, payload: &Payload, input: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        input.take(MAX_PAYLOAD + 1).read_to_end(&mut bytes)?;
        let whole = match payload {
            Payload::Json => decode::json::decode(&bytes, &Roles::default()),
            Payload::Number { device, field } => {
                decode::number::decode(&bytes, field).map(|mut decoded| {
                    decoded.device.clone_from(device);
                    decoded
                })
            }
        };
        match (whole, payload) {
            (Ok(decoded), _) if bytes.len() as u64 <= MAX_PAYLOAD => {
                self.piece(Piece::Reading(0, decoded))
            }
            (Err(error), Payload::Number { .. }) => {
                self.rejected += 1;
                writeln!(self.problems, "byte 0: {error}")
            }
            (_, Payload::Number { .. }) => {
                self.rejected += 1;
                writeln!(self.problems, "byte 0: is longer than {MAX_PAYLOAD} bytes")
            }
            // One object a line; what was read goes first.
            (_, Payload::Json) => {
                let lines = Preset::Lines(LineFormat::Json).stream();
                self.stream(lines, &mut bytes.as_slice().chain(input))
            }
        }
    }

    fn piece(&mut self, piece: Piece) -> io::Result<()> {
        match piece {
            Piece::Reading(at, decoded) => {
                for (name, problem) in &decoded.rejected {
                    self.rejected += 1;
                    writeln!(self.problems, "byte {at}: {name:?} {problem}")?;
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn told(what: What, input: &[u8], received_at: Option<&str>) -> (String, String, u64) {
        let mut report = Report {
            out: Vec::new(),
            problems: Vec::new(),
            received_at: received_at.map(|at| at.parse().unwrap()),
            rejected: 0,
        };
        match what {
            What::Stream(stream) => report.stream(stream, &mut &*input).unwrap(),
            What::Payload(payload) => report.payload(&payload, &mut &*input).unwrap(),
        }
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(report.out), text(report.problems), report.rejected)
    }

    fn stream(preset: &str) -> What {
        What::Stream(preset.parse::<Preset>().unwrap().stream())
    }

    #[test]
    fn readings_are_json_lines_and_rejections_have_their_place() {
        let capture = b"\xaa\xc0\xd4\x04\x3a\x0a\xa1\x60\x1d\xab\x00\x01";
        let (out, problems, rejected) = told(stream("sds011"), capture, None);
        assert_eq!(
            out,
            "{\"device\":\"sds011-a160\",\"time\":null,\
             \"fields\":{\"pm10_ug_m3\":261.8,\"pm2_5_ug_m3\":123.6}}\n"
        );
        assert_eq!(problems, "byte 10: no piece begins here (2 bytes: 00 01)\n");
        assert_eq!(rejected, 1);
    }

    #[test]
    fn a_value_that_is_left_out_is_told_and_counted() {
        let (out, problems, rejected) = told(stream("influx"), b"m a=1,b=x 1465839830\n", None);
        let expected = r#"{"device":null,"time":"2016-06-13T17:43:50Z","fields":{"a":1.0}}"#;
        assert_eq!(out.trim_end(), expected);
        assert_eq!(problems, "byte 0: \"b\" is not a number\n");
        assert_eq!(rejected, 1);
    }

    #[test]
    fn json_may_be_one_payload_or_a_line_each() {
        let one = told(What::Payload(Payload::Json), b"{\n \"a\": 1\n}\n", None);
        assert_eq!(
            one.0,
            "{\"device\":null,\"time\":null,\"fields\":{\"a\":1.0}}\n"
        );
        let lines = told(
            What::Payload(Payload::Json),
            b"{\"a\":1}\nx\n{\"a\":2}\n",
            None,
        );
        assert_eq!((lines.0.lines().count(), lines.2), (2, 1));
        assert!(lines.1.starts_with("byte 8: not JSON"), "{}", lines.1);
    }

    #[test]
    fn the_topic_names_device_and_value_of_a_bare_number() {
        let number = Payload::Number {
            device: Some("kitchen".into()),
            field: FieldName::new("temperature_c").unwrap(),
        };
        let (out, _, rejected) = told(What::Payload(number), b"21.5", Some("2026-01-01T00:00:00Z"));
        let expected = r#"{"device":"kitchen","time":null,"fields":{"temperature_c":21.5}}"#;
        assert_eq!((out.trim_end(), rejected), (expected, 0));
    }
}
