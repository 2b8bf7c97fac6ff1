//! `edge-agent monitor`: our serial frames, byte by byte, for who writes the firmware.
//!
//! Of each frame: where it began, the bytes on the line with a bar before each code of COBS, and under them the frame
//! before COBS, member by member. Of a rejected one the same, up to what is wrong. Everything fits 80 columns.

mod explain;

use std::{
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
    frame::{Decoder, Frame, FrameError, FrameTime, MAX_FRAME_BYTES, Verdict},
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
    /// One line a frame, without its bytes
    #[arg(long)]
    brief: bool,
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
    let mut monitor = Monitor {
        brief: arguments.brief,
        ..Monitor::default()
    };
    let mut buffer = [0; 4096];
    let mut text = String::new();
    let mut heard = Instant::now();
    loop {
        if until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        let read = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if is_patience(&error) => {
                if heard.elapsed() > SILENCE {
                    monitor.waits(&mut text);
                    print(&std::mem::take(&mut text))?;
                }
                continue;
            }
            Err(error) => {
                return Err(anyhow::Error::new(error).context(place).into());
            }
        };
        heard = Instant::now();
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

/// A time on the line, for people.
fn time(micros: u64) -> String {
    let time = i64::try_from(micros)
        .ok()
        .and_then(|micros| Timestamp::from_micros(micros).ok());
    time.map_or_else(|| format!("{micros} us"), |time| time.to_string())
}

/// A text in quotation marks, and no more of it than tells which it is: its bytes stand beside it.
fn excerpt(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

/// A frame in the words of `docs/protocol.md`.
pub(super) fn said(frame: &Frame) -> String {
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

/// A line that is quiet for so long in the middle of a frame is asked after.
const SILENCE: Duration = Duration::from_secs(2);
/// No frame is longer on the line, its zeros aside.
const LONGEST: usize = MAX_FRAME_BYTES + 1 + MAX_FRAME_BYTES / 254;
/// Bytes shown of what is no frame.
const SHOWN: usize = 72;
/// Columns of a line.
const COLUMNS: usize = 80;

/// What was heard so far.
#[derive(Debug, Default)]
struct Monitor {
    decoder: Decoder,
    brief: bool,
    /// Bytes of the frame at hand, no more than the longest has.
    held: Vec<u8>,
    /// How many it has by now.
    len: u64,
    /// Position of the next byte.
    at: u64,
    /// It was said of the bytes at hand that a zero is missing.
    is_told: bool,
    frames: usize,
    rejected: usize,
}

impl Monitor {
    fn push(&mut self, byte: u8, out: &mut String) {
        let judged = self.decoder.push(byte);
        self.at += 1;
        if byte != 0 {
            self.len += 1;
            if self.held.len() < LONGEST {
                self.held.push(byte);
            } else if self.len == LONGEST as u64 + 1 {
                self.too_long(out);
            }
            return;
        }
        if self.len > LONGEST as u64 {
            let text = format!(
                "a zero at last, {} bytes behind the one before; in step again",
                self.len
            );
            entry(out, self.at - 1, 1, &text);
        } else if let Some(judged) = judged {
            self.tell(&judged, out);
        }
        self.held.clear();
        self.len = 0;
        self.is_told = false;
    }

    fn from(&self, end: u64) -> u64 {
        end - self.len
    }

    /// Said before the zero comes, for it may never come.
    fn too_long(&mut self, out: &mut String) {
        self.frames += 1;
        self.rejected += 1;
        let error = FrameError::TooLong;
        let text = format!("REJECTED {error}{}", remedy(&error));
        entry(out, self.from(self.at), self.len, &text);
        self.raw(out);
    }

    fn tell(&mut self, judged: &Result<Frame, FrameError>, out: &mut String) {
        self.frames += 1;
        let from = self.from(self.at - 1);
        let what = match judged {
            Ok(frame) if self.brief => said(frame),
            Ok(frame) => said(frame).split(' ').next().unwrap_or_default().to_owned(),
            Err(error) => {
                self.rejected += 1;
                format!("REJECTED {error}{}", remedy(error))
            }
        };
        if self.brief {
            line(
                out,
                &format!("byte {from:<8} {:>4} bytes  {what}", self.len),
            );
            return;
        }
        entry(out, from, self.len, &what);
        let explained = explain::explain(&self.held);
        let mut rest = &explained.codes[..];
        let mut marked = String::new();
        for (at, byte) in self.held.iter().enumerate() {
            let is_code = rest.split_first().is_some_and(|(code, _)| *code == at);
            if is_code {
                rest = &rest[1..];
            }
            if at > 0 && at % 24 == 0 {
                line(out, &format!("      {marked}"));
                marked.clear();
            }
            marked += if is_code { "|" } else { " " };
            marked += &format!("{byte:02x}");
        }
        line(out, &format!("      {marked}"));
        let mut at = 0;
        for part in &explained.parts {
            rows(out, at, &explained.plain[at..at + part.len], &part.meaning);
            at += part.len;
        }
    }

    /// The first of the bytes at hand, and as text if they are that.
    fn raw(&self, out: &mut String) {
        if self.brief {
            return;
        }
        let shown = &self.held[..self.held.len().min(SHOWN)];
        for chunk in shown.chunks(24) {
            line(out, &format!("       {}", hex(chunk)));
        }
        let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        if shown.iter().all(is_text) {
            let text = excerpt(&String::from_utf8_lossy(shown));
            for text in wrapped(&format!("text: {text}"), COLUMNS - 7) {
                line(out, &format!("       {text}"));
            }
        }
    }

    /// Nothing more comes, and a frame is not over.
    fn waits(&mut self, out: &mut String) {
        if self.held.is_empty() || self.is_told || self.len > LONGEST as u64 {
            return;
        }
        self.is_told = true;
        let text = "no zero byte behind them: a frame is not over yet";
        entry(out, self.from(self.at), self.len, text);
        self.raw(out);
    }

    /// The end of what was heard, in the middle of a frame or not.
    fn finish(&mut self, out: &mut String) {
        self.waits(out);
    }

    fn end(&self) -> Result<(), Exit> {
        if self.rejected == 0 {
            return Ok(());
        }
        eprintln!("{} of {} frames rejected", self.rejected, self.frames);
        Err(Exit::Logged)
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}

/// Where something began, how long it is, and what it is.
fn entry(out: &mut String, from: u64, len: u64, what: &str) {
    let head = format!("byte {from:<8} {len:>4} bytes  ");
    let margin = head.chars().count();
    for (n, text) in wrapped(what, COLUMNS - margin).iter().enumerate() {
        let before = if n == 0 {
            head.clone()
        } else {
            " ".repeat(margin)
        };
        line(out, &format!("{before}{text}"));
    }
}

/// Bytes of a frame from `at` on, eight a row, and beside them what they mean.
fn rows(out: &mut String, at: usize, bytes: &[u8], meaning: &str) {
    const MARGIN: usize = 33;
    let meaning = wrapped(meaning, COLUMNS - MARGIN);
    let bytes: Vec<String> = bytes.chunks(8).map(hex).collect();
    for n in 0..bytes.len().max(meaning.len()) {
        let place = if n < bytes.len() {
            (at + 8 * n).to_string()
        } else {
            String::new()
        };
        let bytes = bytes.get(n).map_or("", String::as_str);
        let meaning = meaning.get(n).map_or("", String::as_str);
        line(out, &format!("{place:>6}  {bytes:<23}  {meaning}"));
    }
}

/// Broken between words where that is possible.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut room = 0;
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        if let Some(last) = lines.last_mut().filter(|_| word.len() < room) {
            last.push(' ');
            last.extend(&word);
            room -= word.len() + 1;
            continue;
        }
        while word.len() > width {
            lines.push(word.drain(..width).collect());
        }
        room = width - word.len();
        lines.push(word.into_iter().collect());
    }
    lines
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
mod tests;
