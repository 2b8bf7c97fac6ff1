//! `edge-agent monitor`: our serial frames, byte by byte, for who writes the firmware.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileTypeExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use protocol::{
    Timestamp, Value,
    frame::{Decoder, Frame, FrameError, FrameTime, Verdict},
};

use super::{Exit, print};
use crate::{config::Framing, source::look};

/// Arguments of `monitor`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A serial port, a file with what was heard of one, or `-` for the standard input
    #[arg(value_name = "PORT")]
    port: PathBuf,
    /// Speed of the port
    #[arg(long, default_value_t = 115_200)]
    baud: u32,
    /// Data bits, parity and stop bits of the port
    #[arg(long, default_value = "8N1")]
    framing: Framing,
    /// End after this many frames, whole or not; never, when left out
    #[arg(short = 'n', value_name = "COUNT")]
    count: Option<usize>,
    /// End after this many seconds; never, when left out
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// Prints each frame with its place, or why it is none.
///
/// # Errors
/// The port cannot be read; 1 when a frame was rejected.
pub fn monitor(arguments: &Arguments) -> Result<(), Exit> {
    let place = arguments.port.display().to_string();
    let mut input = open(arguments).with_context(|| place.clone())?;
    let until = arguments.seconds.map(Duration::from_secs);
    let until = until.map(|seconds| Instant::now() + seconds);
    let mut monitor = Monitor::default();
    let mut buffer = [0; 4096];
    let mut text = String::new();
    loop {
        if until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        let read = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if is_patience(&error) => continue,
            Err(error) => {
                return Err(anyhow::Error::new(error).context(place).into());
            }
        };
        for &byte in &buffer[..read] {
            monitor.push(byte, &mut text);
            if arguments.count.is_some_and(|count| monitor.frames >= count) {
                print(&text)?;
                return monitor.end();
            }
        }
        print(&std::mem::take(&mut text))?;
    }
    monitor.finish(&mut text);
    print(&text)?;
    monitor.end()
}

fn open(arguments: &Arguments) -> io::Result<Box<dyn Read>> {
    let path = &arguments.port;
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    if path.metadata()?.file_type().is_char_device() {
        return Ok(Box::new(look::listen(
            path,
            arguments.baud,
            arguments.framing,
        )?));
    }
    Ok(Box::new(File::open(path)?))
}

fn is_patience(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// A frame in the words of `docs/protocol.md`.
pub(super) fn said(frame: &Frame) -> String {
    let time = |micros: u64| {
        let time = i64::try_from(micros)
            .ok()
            .and_then(|micros| Timestamp::from_micros(micros).ok());
        time.map_or_else(|| format!("{micros} us"), |time| time.to_string())
    };
    match frame {
        Frame::Hello(hello) => {
            let clock = hello.time_us.map_or_else(|| "no clock".to_owned(), time);
            let reply = if hello.reply { "  wants an answer" } else { "" };
            format!(
                "hello    {:?}  model {:?}  firmware {:?}  boot {}  {clock}{reply}",
                hello.device, hello.model, hello.firmware, hello.boot
            )
        }
        Frame::Reading(reading) => {
            let when = match reading.time {
                FrameTime::Arrival => "at arrival".to_owned(),
                FrameTime::Unix(micros) => time(micros),
                FrameTime::Age(ms) => format!("{ms} ms before it was sent"),
            };
            let fields = reading.fields.iter();
            let fields = fields.map(|(name, value)| format!(" {name}={}", plain(value)));
            format!(
                "reading  boot {}  sequence {}  {when} {}",
                reading.boot,
                reading.sequence,
                fields.collect::<String>()
            )
        }
        Frame::Ack(ack) => {
            let verdict = match ack.verdict {
                Verdict::Stored => "stored",
                Verdict::Rejected => "rejected",
            };
            format!(
                "ack      boot {}  sequence {}  {verdict}",
                ack.boot, ack.sequence
            )
        }
        Frame::Status(status) => format!(
            "status   boot {}  up {} ms  dropped {}  {:?}",
            status.boot, status.uptime_ms, status.dropped, status.text
        ),
    }
}

/// A value without its type.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Float(number) => number.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Bool(state) => state.to_string(),
        Value::Text(text) => format!("{text:?}"),
    }
}

/// What was heard so far.
#[derive(Debug, Default)]
struct Monitor {
    decoder: Decoder,
    /// Bytes of the frame at hand.
    held: Vec<u8>,
    /// Position of the next byte.
    at: u64,
    frames: usize,
    rejected: usize,
}

/// Most bytes of a frame that are shown.
const SHOWN: usize = 48;

impl Monitor {
    fn push(&mut self, byte: u8, out: &mut String) {
        let judged = self.decoder.push(byte);
        self.at += 1;
        if byte != 0 {
            if self.held.len() < 4096 {
                self.held.push(byte);
            }
            return;
        }
        if let Some(judged) = judged {
            let from = self.at - 1 - self.held.len() as u64;
            self.tell(from, &judged, out);
        }
        self.held.clear();
    }

    fn tell(&mut self, from: u64, judged: &Result<Frame, FrameError>, out: &mut String) {
        self.frames += 1;
        let bytes = self.held.len();
        let what = match judged {
            Ok(frame) => said(frame),
            Err(error) => {
                self.rejected += 1;
                format!("REJECTED {error}{}", remedy(error))
            }
        };
        let hex: Vec<String> = self
            .held
            .iter()
            .take(SHOWN)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let more = if bytes > SHOWN { " …" } else { "" };
        // Writing to a text cannot fail.
        writeln!(
            out,
            "byte {from:<8} {bytes:>4} bytes  {what}\n               {}{more}",
            hex.join(" ")
        )
        .unwrap_or_default();
    }

    /// The end of what was heard, in the middle of a frame or not.
    fn finish(&mut self, out: &mut String) {
        if !self.held.is_empty() {
            let from = self.at - self.held.len() as u64;
            let bytes = self.held.len();
            writeln!(
                out,
                "byte {from:<8} {bytes:>4} bytes  no zero byte behind them: a frame is not over yet"
            )
            .unwrap_or_default();
        }
    }

    fn end(&self) -> Result<(), Exit> {
        if self.rejected == 0 {
            return Ok(());
        }
        eprintln!("{} of {} frames rejected", self.rejected, self.frames);
        Err(Exit::Logged)
    }
}

/// Where to look in the firmware.
fn remedy(error: &FrameError) -> &'static str {
    match error {
        FrameError::Crc { .. } => {
            "; CRC-32 IEEE (reflected, start and end inverted), little-endian, over version, kind and body"
        }
        FrameError::Cobs => {
            "; no byte may be 0 inside of a frame, and each code must lead to the next"
        }
        FrameError::TooShort(_) => "; a frame is version, kind, body and 4 bytes of CRC",
        FrameError::TooLong => {
            "; is there a zero byte behind each frame, and is the baud rate right?"
        }
        FrameError::UnknownVersion(_) => "; the first byte is the version",
        FrameError::UnknownKind(_) => "; 1 hello, 2 reading, 3 ack, 4 status",
        FrameError::Body { .. } => "; postcard: see docs/protocol.md, body by body",
        FrameError::CannotSend(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(bytes: &[u8]) -> (String, usize) {
        let mut monitor = Monitor::default();
        let mut out = String::new();
        bytes.iter().for_each(|&b| monitor.push(b, &mut out));
        monitor.finish(&mut out);
        (out, monitor.rejected)
    }

    fn frame() -> Vec<u8> {
        let mut out = Vec::new();
        let ack = protocol::frame::Ack {
            boot: 7,
            sequence: 3,
            verdict: protocol::frame::Verdict::Stored,
        };
        Frame::Ack(ack).encode(&mut out).unwrap();
        out
    }

    #[test]
    fn each_frame_is_told_with_its_place_and_a_bad_one_with_the_reason() {
        let good = frame();
        let mut bad = good.clone();
        let last = bad.len() - 2;
        bad[last] ^= 1;
        let (out, rejected) = heard(&[&good[..], &bad, &[0, 2, 5, 0], &good[..4]].concat());
        assert_eq!(rejected, 2, "{out}");
        let lines: Vec<&str> = out.lines().step_by(2).collect();
        assert!(lines[0].starts_with("byte 1 "), "{out}");
        assert!(lines[0].contains("ack  "), "{out}");
        assert!(lines[1].contains("REJECTED frame crc is "), "{out}");
        assert!(lines[1].contains("was computed; CRC-32 IEEE"), "{out}");
        assert!(lines[2].contains("at least 6 are needed"), "{out}");
        assert!(out.contains("a frame is not over yet"), "{out}");
    }
}
