//! `edge-agent probe`: a live source, read by the code of `run`, with nothing sent on.

use std::{
    fmt::Write as _,
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use protocol::{Fields, Reading, Value};
use protocol_host::config::document;
use serde_json::{Map, json};

use super::{ConfigFile, Exit, print};
use crate::{
    config::{Config, Secrets},
    link::LinkState,
    source::look::{self, Probed},
};

/// How often the link is looked at while nothing comes.
const TICK: Duration = Duration::from_millis(200);
/// How long to wait for readings, in seconds, when nothing is said.
const PATIENCE: u64 = 60;
/// How many raw bytes are shown.
const SHOWN: usize = 96;

/// Arguments of `probe`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name of the source; may be left out where there is one only
    #[arg(value_name = "SOURCE")]
    source: Option<String>,
    /// End after this many readings
    #[arg(short = 'n', default_value_t = 5, value_name = "COUNT")]
    count: usize,
    /// End after this many seconds, whatever came, and wait that long for a link that is down; without it
    /// after 60 s, or at once when the link is down
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    config: ConfigFile,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Prints what a source reads, before and after processing.
///
/// # Errors
/// 69 when nothing came at all; 78 for a configuration that is wrong.
pub fn probe(arguments: &Arguments) -> Result<(), Exit> {
    let config = arguments.config.load(Secrets::Read)?;
    let name = name(&config, arguments.source.as_deref())?;
    let probe = look::probe(&config, &name).map_err(|error| anyhow!(error))?;
    let probe = probe.ok_or_else(|| anyhow!("no source is called {name:?}"))?;
    let seconds = arguments.seconds.unwrap_or(PATIENCE);
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut readings, mut pieces, mut told) = (0, 0, None);
    while readings < arguments.count {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match probe.seen.recv_timeout(left.min(TICK)) {
            Ok(probed) => {
                pieces += 1;
                readings += usize::from(matches!(probed, Probed::Reading { .. }));
                print(&match arguments.format {
                    Format::Text => text(&probed),
                    Format::Json => line(&probed),
                })?;
            }
            Err(RecvTimeoutError::Timeout) => {
                for (_, _, state) in probe.links.snapshot() {
                    if let LinkState::Down(why) = state
                        && told.as_ref() != Some(&why)
                    {
                        eprintln!("{name}: link down: {why}");
                        told = Some(why);
                    }
                }
                if told.is_some() && pieces == 0 && arguments.seconds.is_none() {
                    return Err(Exit::Unavailable(1));
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    probe.shutdown.cancel();
    if pieces == 0 {
        match probe.counters.seen().bytes {
            0 => eprintln!("{name}: nothing came within {seconds} s"),
            bytes => eprintln!(
                "{name}: {bytes} bytes came within {seconds} s and no reading: are baud, framing and mode those of the \
                 device? edge-agent scan serial tries the usual ones"
            ),
        }
        return Err(Exit::Unavailable(1));
    }
    Ok(())
}

fn name(config: &Config, given: Option<&str>) -> Result<String, Exit> {
    let serial = config.serial.iter().map(|one| &one.name);
    let modbus = config.modbus.iter().map(|one| &one.name);
    let mqtt = config.mqtt.iter().map(|one| &one.name);
    let names: Vec<&String> = serial.chain(modbus).chain(mqtt).collect();
    let list = || {
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        names.join(", ")
    };
    match (given, &names[..]) {
        (Some(name), names) if names.iter().any(|have| *have == name) => Ok(name.to_owned()),
        (Some(name), _) => {
            let meant = document::nearest(name, names.iter().map(|name| name.as_str()));
            let meant = meant.map(|meant| format!(", did you mean {meant}?"));
            let meant = meant.unwrap_or_default();
            Err(anyhow!("no source is called {name:?}{meant}; there are: {}", list()).into())
        }
        (None, [only]) => Ok((*only).clone()),
        (None, []) => Err(anyhow!("no source is configured").into()),
        (None, _) => Err(anyhow!("name one of the sources: {}", list()).into()),
    }
}

fn text(probed: &Probed) -> String {
    let mut out = String::new();
    let written = match probed {
        Probed::Rejected {
            reason,
            detail,
            bytes,
        } => writeln!(
            out,
            "rejected   {}: {detail}\n  raw      {}",
            reason.as_str(),
            raw(bytes)
        ),
        Probed::Reading {
            raw: bytes,
            before,
            after,
        } => {
            let what = match (&after.kept, after.suppressed) {
                (Some(kept), _) => fields(&kept.fields),
                (None, Some(why)) => format!("suppressed: {}", why.as_str()),
                (None, None) => String::new(),
            };
            let (device, time, clock) = (&before.device, before.time, before.clock.as_str());
            writeln!(
                out,
                "{device}  {time}  clock: {clock}\n  raw      {}\n  decoded  {}\n  sent     {what}",
                raw(bytes),
                fields(&before.fields),
            )
        }
    };
    // Writing to a text cannot fail.
    written.unwrap_or_default();
    out
}

fn line(probed: &Probed) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let object = match probed {
        Probed::Rejected {
            reason,
            detail,
            bytes,
        } => json!({ "rejected": reason.as_str(), "detail": detail, "raw": hex(bytes) }),
        Probed::Reading { raw, before, after } => json!({
            "device": before.device.as_str(),
            "time": before.time.to_string(),
            "clock": before.clock.as_str(),
            "raw": hex(raw),
            "decoded": values(before),
            "sent": after.kept.as_ref().map(values),
            "suppressed": after.suppressed.map(|why| why.as_str()),
        }),
    };
    format!("{object}\n")
}

fn values(reading: &Reading) -> Map<String, serde_json::Value> {
    let fields = reading.fields.iter();
    fields
        .map(|(name, value)| (name.to_string(), super::decode::json(value)))
        .collect()
}

fn fields(fields: &Fields) -> String {
    let shown = fields.iter().map(|(name, value)| match value {
        Value::Float(number) => format!("{name}={number}"),
        Value::Int(number) => format!("{name}={number}"),
        Value::Bool(state) => format!("{name}={state}"),
        Value::Text(text) => format!("{name}={text:?}"),
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn raw(bytes: &[u8]) -> String {
    let shown = super::decode::excerpt_of(bytes, SHOWN);
    format!("{} bytes: {shown}", bytes.len())
}
