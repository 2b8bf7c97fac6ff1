//! One MQTT payload in a file.

use std::{
    fs,
    io::{self, BufWriter, Read},
};

use anyhow::{Context, anyhow};
use protocol::{FieldName, Timestamp};

use super::{Arguments, Report, open};
use crate::{
    cli::Exit,
    decode::{
        self, DecodeError,
        mqtt::{Decoder, Message, Options, Outcome, Preset},
        stream::Piece,
        template::Template,
    },
};

/// Largest payload of MQTT.
const MAX_PAYLOAD: u64 = 256 << 20;

/// How the payload is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Devices(Preset),
    Number,
}

/// By the word of the configuration; dashes, underscores and case do not matter.
pub(super) fn kind(name: &str) -> Option<Kind> {
    let plain = |text: &str| -> String {
        let kept = text.chars().filter(char::is_ascii_alphanumeric);
        kept.map(|c| c.to_ascii_lowercase()).collect()
    };
    let name = plain(name);
    let preset = Preset::ALL.into_iter().find(|preset| {
        plain(preset.as_str()) == name || name == "sparkplug" && *preset == Preset::SparkplugB
    });
    preset
        .map(Kind::Devices)
        .or((name == "number").then_some(Kind::Number))
}

/// What `--config` may say.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    topic: Option<String>,
    timezone: Option<String>,
}

/// Prints the readings of the payload on stdout, and what was rejected on stderr.
///
/// # Errors
/// As [`super::decode`].
pub(super) fn decode(arguments: &Arguments, kind: Kind) -> Result<(), Exit> {
    let settings = settings(arguments)?;
    let mut payload = Vec::new();
    open(arguments)?
        .take(MAX_PAYLOAD)
        .read_to_end(&mut payload)
        .with_context(|| format!("cannot read {}", arguments.file.display()))?;
    let topic = topic(arguments, kind)?;
    let template = settings.topic.as_deref().map(Template::parse).transpose();
    let template = template.context("topic of --config")?;
    let usual = match kind {
        Kind::Devices(preset) => preset.default_topic(),
        Kind::Number => None,
    };
    // A template of the user's must fit; the usual one may not, and then the decoder looks for itself.
    let captures = match &template {
        Some(template) => {
            let captures = template.matches(topic);
            let wrong = || anyhow!("--topic {topic} is not one of the topic in --config");
            Some(captures.ok_or_else(wrong)?)
        }
        None => usual
            .and_then(|usual| Template::parse(usual).ok())
            .and_then(|usual| usual.matches(topic)),
    };
    let device = captures.as_ref().and_then(|captures| captures.device);
    let at = arguments.received_at.unwrap_or_else(now);
    let read = match kind {
        Kind::Number => number(topic, captures.as_ref().and_then(|c| c.field), &payload),
        Kind::Devices(preset) => {
            let options = Options {
                timezone: zone(settings.timezone.as_deref())?,
            };
            Decoder::new(preset, options).read(&Message {
                topic,
                device,
                payload: &payload,
                at,
                again: false,
            })
        }
    };
    let mut report = Report {
        out: BufWriter::new(io::stdout().lock()),
        received_at: Some(at),
        rejected: 0,
    };
    tell(read, device.or(above(topic, kind)), &payload, &mut report)?;
    report.end()
}

fn tell<W: io::Write>(
    read: Result<Outcome, DecodeError>,
    device: Option<&str>,
    payload: &[u8],
    report: &mut Report<W>,
) -> Result<(), Exit> {
    let outcome = match read {
        Ok(outcome) => outcome,
        Err(error) => {
            report.rejected += 1;
            eprintln!("byte {}: {error}", place(&error, payload));
            return Ok(());
        }
    };
    if outcome.held {
        report.rejected += 1;
        eprintln!("byte 0: data that only its birth certificate could name");
    }
    for (place, error) in &outcome.rejected {
        report.rejected += 1;
        eprintln!("byte 0: {place}: {error}");
    }
    for link in &outcome.links {
        let state = if link.online { "online" } else { "offline" };
        eprintln!("{} is {state}", link.device.as_deref().unwrap_or("bridge"));
    }
    for mut decoded in outcome.readings {
        decoded.device = decoded.device.or_else(|| device.map(Into::into));
        match report.piece(Piece::Reading(0, decoded)) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(Exit::Failed(error.into()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn settings(arguments: &Arguments) -> Result<Settings, Exit> {
    let Some(path) = &arguments.config else {
        return Ok(Settings::default());
    };
    let place = || format!("cannot read {}", path.display());
    let text = fs::read_to_string(path).with_context(place)?;
    Ok(toml::from_str(&text).with_context(place)?)
}

fn zone(name: Option<&str>) -> Result<Option<jiff::tz::TimeZone>, Exit> {
    let zone = name.map(jiff::tz::TimeZone::get).transpose();
    Ok(zone.context("timezone of --config")?)
}

/// The topic; what stands for it where the payload says everything.
fn topic(arguments: &Arguments, kind: Kind) -> Result<&str, Exit> {
    if let Some(topic) = &arguments.topic {
        return Ok(topic);
    }
    match kind {
        Kind::Devices(Preset::Tasmota) => Ok("SENSOR"),
        Kind::Devices(Preset::Shelly) => Ok("events/rpc"),
        Kind::Devices(Preset::Rtl433 | Preset::Senml | Preset::ThinEdge) => Ok(""),
        _ => Err(anyhow!("--topic is needed: it says whose message this is").into()),
    }
}

/// The device of a bare number without a template: the levels above.
fn above(topic: &str, kind: Kind) -> Option<&str> {
    match kind {
        Kind::Number => topic.rsplit_once('/').map(|(above, _)| above),
        Kind::Devices(_) => None,
    }
}

/// A bare number is named by `{field}`, else by the last level of its topic.
fn number(topic: &str, field: Option<&str>, payload: &[u8]) -> Result<Outcome, DecodeError> {
    let last = topic.rsplit('/').next().unwrap_or(topic);
    let field = FieldName::normalise(field.unwrap_or(last)).map_err(|_| DecodeError::FieldName)?;
    let decoded = decode::number::decode(payload, &field)?;
    Ok(Outcome::reading(Some(decoded)))
}

/// Where in the payload.
fn place(error: &DecodeError, payload: &[u8]) -> usize {
    match error {
        DecodeError::NotUtf8(at) | DecodeError::NoPair(at) => *at,
        DecodeError::NotJson { line, column } => {
            let lines = payload.split(|byte| *byte == b'\n');
            let before: usize = lines
                .take(line.saturating_sub(1))
                .map(|l| l.len() + 1)
                .sum();
            before + column.saturating_sub(1)
        }
        _ => 0,
    }
}

fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond()).unwrap_or(Timestamp::UNIX_EPOCH)
}
