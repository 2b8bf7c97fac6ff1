//! `edge-agent scan`: what hangs on this box. Ports are listed and listened to; Modbus lines are asked.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use protocol::Value;

use super::{
    Exit,
    monitor::{plain, said},
    print,
};
use crate::{
    config::Framing,
    decode::{
        Decoded,
        modbus::profile::BUILT_IN,
        preset::{Preset, built_in},
        stream::{Fault, Piece, Stream},
    },
    source::look::{self, Asking, Place},
};

/// What is looked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List serial ports; with PORT, listen to it and name what speaks there
    Serial(Serial),
    /// Ask each unit of a line (a port or host:port) and name the profiles that fit
    Modbus(Modbus),
}

/// Arguments of `scan serial`.
#[derive(Debug, Args)]
pub struct Serial {
    /// Listen to these
    #[arg(value_name = "PORT")]
    ports: Vec<PathBuf>,
    /// How long to listen at each speed, in seconds
    #[arg(long = "for", default_value_t = 4, value_name = "SECONDS")]
    seconds: u64,
}

/// Arguments of `scan modbus`.
#[derive(Debug, Args)]
pub struct Modbus {
    /// A serial port, or host:port
    #[arg(value_name = "PORT")]
    port: String,
    /// Speed of the port
    #[arg(long, default_value_t = 9600)]
    baud: u32,
    /// Data bits, parity and stop bits of the port
    #[arg(long, default_value = "8N1")]
    framing: Framing,
    /// The units to ask: one, or the first and the last
    #[arg(long, default_value = "1-247", value_parser = units)]
    units: (u8, u8),
    /// How long a unit may take to answer, in milliseconds
    #[arg(long, default_value_t = 200, value_name = "MILLISECONDS")]
    timeout: u64,
}

fn units(text: &str) -> Result<(u8, u8), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let wrong = || format!("{text} is not a unit, or two as in 1-32");
    let first: u8 = first.parse().map_err(|_| wrong())?;
    let last: u8 = last.parse().map_err(|_| wrong())?;
    if first > last {
        return Err(wrong());
    }
    Ok((first, last))
}

/// Looks.
///
/// # Errors
/// 69 when nothing was found.
pub fn scan(command: &Command) -> Result<(), Exit> {
    match command {
        Command::Serial(arguments) => serial(arguments),
        Command::Modbus(arguments) => modbus(arguments),
    }
}

/// Silence in the middle of an answer that ends it.
const GAP: Duration = Duration::from_millis(50);

/// What a line is most likely to be, in the order of trial.
const LINES: [(u32, &str, &[&str]); 6] = [
    (115_200, "8N1", &["dsmr", "nmea"]),
    (9600, "8N1", &["pms5003", "sds011", "nmea"]),
    (19_200, "8N1", &["ve-direct"]),
    (4800, "8N1", &["nmea"]),
    (38_400, "8N1", &["nmea"]),
    (9600, "7E1", &["dsmr"]),
];

fn serial(arguments: &Serial) -> Result<(), Exit> {
    if arguments.ports.is_empty() {
        let ports = look::ports().map_err(|error| anyhow!(error))?;
        for (path, what) in &ports {
            print(&format!("{path}  {what}\n"))?;
        }
        return match ports.is_empty() {
            true => Err(nothing("no serial port is there")),
            false => Ok(()),
        };
    }
    let mut found = 0;
    for port in &arguments.ports {
        let place = port.display();
        match listen(port, Duration::from_secs(arguments.seconds)) {
            Ok(Some(text)) => {
                found += 1;
                print(&format!("{place}  {text}\n"))?;
            }
            Ok(None) => print(&format!("{place}  nothing that is known\n"))?,
            Err(error) => print(&format!("{place}  cannot be listened to: {error}\n"))?,
        }
    }
    match found {
        0 => Err(nothing("no port speaks what is known")),
        _ => Ok(()),
    }
}

fn nothing(why: &str) -> Exit {
    eprintln!("{why}");
    Exit::Unavailable(1)
}

/// Every format hears everything, whatever speed it usually has; the first that reads something is named.
fn listen(port: &Path, each: Duration) -> std::io::Result<Option<String>> {
    for (baud, framing, _) in LINES {
        let parsed = framing.parse().unwrap_or_default();
        let mut input = look::listen(port, baud, parsed)?;
        let mut streams: Vec<(&str, Stream)> = LINES
            .iter()
            .flat_map(|(_, _, names)| *names)
            .copied()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .filter_map(|name| Some((name, name.parse::<Preset>().ok()?.stream())))
            .collect();
        let mut frames = protocol::frame::Decoder::new();
        let until = Instant::now() + each;
        let mut buffer = [0; 1024];
        while Instant::now() < until {
            // A timeout is a chance for formats that wait for silence.
            let read = input.read(&mut buffer).unwrap_or(0);
            for &byte in &buffer[..read] {
                if let Some(Ok(frame)) = frames.push(byte) {
                    return Ok(Some(format!(
                        "frames at {baud} {framing}: {}",
                        said(&frame)
                    )));
                }
            }
            for (name, stream) in &mut streams {
                let mut pieces = Vec::new();
                stream.push(&buffer[..read], &mut pieces);
                if read == 0 {
                    stream.idle(&mut pieces);
                }
                let reading = pieces.into_iter().find_map(|piece| match piece {
                    Piece::Reading(_, decoded) if !decoded.fields.is_empty() => Some(decoded),
                    _ => None,
                });
                if let Some(decoded) = reading {
                    let said = shown(&decoded);
                    return Ok(Some(format!("mode = {name:?} at {baud} {framing}: {said}")));
                }
            }
        }
    }
    Ok(None)
}

fn shown(decoded: &Decoded) -> String {
    let fields = decoded
        .fields
        .iter()
        .take(4)
        .map(|(name, value)| format!("{name}={}", plain(value)));
    let more = if decoded.fields.len() > 4 { " …" } else { "" };
    format!("{}{more}", fields.collect::<Vec<_>>().join(" "))
}

fn modbus(arguments: &Modbus) -> Result<(), Exit> {
    let place = match arguments.port.rsplit_once(':') {
        Some((host, port)) if !arguments.port.starts_with('/') => {
            let port = port
                .parse()
                .map_err(|_| anyhow!("{}: not a port number", arguments.port))?;
            Place::Server(host.to_owned(), port)
        }
        _ => Place::Port(
            PathBuf::from(&arguments.port),
            arguments.baud,
            arguments.framing,
        ),
    };
    let tcp = matches!(place, Place::Server(..));
    let mut line = Asking::open(&place).map_err(|why| {
        eprintln!("{why}");
        Exit::Unavailable(1)
    })?;
    let timeout = Duration::from_millis(arguments.timeout.max(1));
    let mut found = 0;
    for unit in arguments.units.0..=arguments.units.1 {
        let Some(said) = present(&mut line, unit, tcp, timeout)? else {
            continue;
        };
        found += 1;
        let profiles = profiles(&mut line, unit, tcp, timeout)?;
        let what = match profiles.is_empty() {
            true => format!("{said}; no profile fits"),
            false => profiles.join("\n         "),
        };
        print(&format!("unit {unit:<3} {what}\n"))?;
    }
    match found {
        0 => Err(nothing("no unit answers; see speed, framing, A and B")),
        _ => Ok(()),
    }
}

fn lost(why: String) -> Exit {
    Exit::Failed(anyhow!(why))
}

/// Whether somebody answers, be it with "no": input registers first, then holding registers.
fn present(
    line: &mut Asking,
    unit: u8,
    tcp: bool,
    timeout: Duration,
) -> Result<Option<String>, Exit> {
    let preset = |name: &str| {
        let map = built_in(name).ok()?;
        Some(if tcp {
            Preset::ModbusTcp(map)
        } else {
            Preset::Modbus(map)
        })
    };
    for (name, space) in [("xy-md02", "input"), ("iem3155", "holding")] {
        let Some(preset) = preset(name) else { continue };
        match ask(line, &preset, unit, 0, timeout)? {
            Answer::Nobody => {}
            Answer::Says(_) => return Ok(Some(format!("answers for {space} registers"))),
            Answer::Refuses(why) => return Ok(Some(why)),
        }
    }
    Ok(None)
}

/// Profiles whose every question is answered, with numbers that can be; the one with most values first.
fn profiles(
    line: &mut Asking,
    unit: u8,
    tcp: bool,
    timeout: Duration,
) -> Result<Vec<String>, Exit> {
    let mut fits: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (name, _) in BUILT_IN {
        let Ok(map) = built_in(name) else { continue };
        let preset = match tcp {
            true => Preset::ModbusTcp(map),
            false => Preset::Modbus(map),
        };
        let mut all = Decoded::default();
        let mut answered = true;
        for question in 0..preset.questions(unit).len() {
            match ask(line, &preset, unit, question, timeout)? {
                Answer::Says(decoded) => all.fields.extend(decoded.fields),
                _ => {
                    answered = false;
                    break;
                }
            }
        }
        if answered && plausible(&all) {
            let values = all.fields.len();
            let text = format!("profile = {name:?}: {}", shown(&all));
            fits.entry(values).or_default().push(text);
        }
    }
    Ok(fits.into_values().rev().flatten().collect())
}

/// Registers read by another device's table rarely give a mains voltage, a frequency, or room climate. A table
/// without any of them fits when several numbers are all of a size that power and energy have.
fn plausible(decoded: &Decoded) -> bool {
    let (mut telling, mut sized, mut zero, mut others) = (0, 0, 0, 0);
    for (name, value) in &decoded.fields {
        let Value::Float(number) = value else {
            continue;
        };
        let name = name.as_str();
        let bounds = if name.starts_with("frequency") {
            45.0..=65.0
        } else if name.starts_with("voltage") && name.ends_with("_v") {
            5.0..=700.0
        } else if name == "temperature_c" {
            -60.0..=120.0
        } else if name == "humidity_pct" {
            0.5..=100.0
        } else {
            match number.abs() {
                0.0 => zero += 1,
                1e-3..1e9 => sized += 1,
                _ => others += 1,
            }
            continue;
        };
        if !bounds.contains(number) {
            return false;
        }
        telling += 1;
    }
    telling > 0 || (sized >= 2 && sized + zero >= 5 && others == 0)
}

enum Answer {
    Nobody,
    Says(Decoded),
    Refuses(String),
}

fn ask(
    line: &mut Asking,
    preset: &Preset,
    unit: u8,
    question: usize,
    timeout: Duration,
) -> Result<Answer, Exit> {
    let questions = preset.questions(unit);
    let Some(frame) = questions.get(question) else {
        return Ok(Answer::Nobody);
    };
    let mut stream = preset.stream();
    let mut pieces = Vec::new();
    let sent = line.ask(frame).map_err(lost)?;
    stream.push(&sent, &mut pieces);
    let until = Instant::now() + timeout;
    let mut buffer = [0; 512];
    while !pieces.iter().any(Piece::is_answer) {
        // Once the answer has begun, silence ends it.
        let within = stream.is_within();
        let left = until.saturating_duration_since(Instant::now());
        let patience = if within { GAP } else { left };
        if patience.is_zero() {
            break;
        }
        let read = line.hear(&mut buffer, patience).map_err(lost)?;
        if read == 0 && within {
            break;
        }
        stream.push(&buffer[..read], &mut pieces);
        if read > 0 && !stream.is_within() {
            // A "no" is kept back to be joined with what is wrong behind it, and here nothing is.
            stream.idle(&mut pieces);
        }
    }
    stream.finish(&mut pieces);
    Ok(pieces
        .into_iter()
        .find_map(|piece| match piece {
            Piece::Reading(_, decoded) => Some(Answer::Says(decoded)),
            Piece::Rejected(rejected) => match rejected.fault {
                // 10, 11: the gateway says that nobody is behind it.
                Fault::Exception { code: 10 | 11, .. } => None,
                fault @ Fault::Exception { .. } => Some(Answer::Refuses(fault.to_string())),
                _ => None,
            },
        })
        .unwrap_or(Answer::Nobody))
}

#[cfg(test)]
mod tests;
