//! One MQTT payload in a file.

use std::{
    fs,
    io::{self, Read, Write},
};

use anyhow::{Context, anyhow};
use protocol::{FieldName, Timestamp};

use super::{Arguments, MAX_PAYLOAD, Report, place::Places};
use crate::{
    cli::Exit,
    config::{self, MessageKeys},
    decode::{
        self, DecodeError,
        mqtt::{self, Decoder, Options, Outcome, Preset},
        template::Template,
    },
};

/// How the payload is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Devices(Preset),
    Number,
    Json,
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

/// Whether the file of `--config` is about a message, not about lines.
pub(super) fn is_about_a_message(text: &str) -> bool {
    let table: Result<toml::Table, _> = text.parse();
    table.is_ok_and(|table| {
        ["topic", "fields"]
            .iter()
            .any(|key| table.contains_key(*key))
    })
}

/// A payload that is still to be read, and all that is known of it.
pub(super) struct Message {
    kind: Kind,
    topic: String,
    device: Option<String>,
    field: Option<String>,
    keys: MessageKeys,
    at: Timestamp,
}

impl Message {
    /// # Errors
    /// A file of `--config` that cannot be used, a topic that is missing or not of its template.
    pub(super) fn new(arguments: &Arguments, kind: Kind) -> Result<Self, Exit> {
        let keys = keys(arguments)?;
        let topic = topic(arguments, kind)?;
        let template = keys.topic.as_deref().map(Template::parse).transpose();
        let template = template.context("topic of --config")?;
        let usual = match kind {
            Kind::Devices(preset) => preset.default_topic(),
            Kind::Number | Kind::Json => None,
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
        let captures = captures.unwrap_or_default();
        Ok(Self {
            kind,
            topic: topic.to_owned(),
            device: captures
                .device
                .map(Into::into)
                .or_else(|| keys.device.as_ref().map(ToString::to_string)),
            field: captures
                .field
                .map(Into::into)
                .or_else(|| keys.field.as_ref().map(ToString::to_string)),
            keys,
            at: arguments.received_at.unwrap_or_else(now),
        })
    }

    /// Tells the readings of the payload, and what was rejected.
    pub(super) fn tell<O: Write, P: Write>(
        self,
        report: &mut Report<O, P>,
        input: &mut dyn Read,
    ) -> io::Result<()> {
        let mut payload = Vec::new();
        input.take(MAX_PAYLOAD + 1).read_to_end(&mut payload)?;
        if payload.len() as u64 > MAX_PAYLOAD {
            report.rejected += 1;
            return writeln!(
                report.problems,
                "byte 0: is longer than {MAX_PAYLOAD} bytes"
            );
        }
        let outcome = match self.read(&payload) {
            Ok(outcome) => outcome,
            Err(error) => {
                report.rejected += 1;
                let at = place(&error, &payload);
                return writeln!(report.problems, "byte {at}: {error}");
            }
        };
        if outcome.held {
            report.rejected += 1;
            let why = "data that only its birth certificate could name";
            writeln!(report.problems, "byte 0: {why}")?;
        }
        let mut places = Places::of(&payload);
        for (what, error) in &outcome.rejected {
            report.rejected += 1;
            let at = places.named(what);
            writeln!(report.problems, "byte {at}: {what}: {error}")?;
        }
        for link in &outcome.links {
            let state = if link.online { "online" } else { "offline" };
            let device = link.device.as_deref().unwrap_or("bridge");
            writeln!(report.problems, "{device} is {state}")?;
        }
        for mut decoded in outcome.readings {
            let device = || self.device.as_deref().or(above(&self.topic, self.kind));
            decoded.device = decoded.device.or_else(|| device().map(Into::into));
            report.of_payload(&mut places, &decoded)?;
        }
        Ok(())
    }

    fn read(&self, payload: &[u8]) -> Result<Outcome, DecodeError> {
        let preset = match self.kind {
            Kind::Number => return number(&self.topic, self.field.as_deref(), payload),
            Kind::Json => {
                let (roles, fields) = (&self.keys.roles, &self.keys.fields);
                let decoded = match fields.is_empty() {
                    true => decode::json::decode(payload, roles)?,
                    false => mqtt::paths::decode(payload, roles, fields)?,
                };
                return Ok(Outcome::reading(Some(decoded)));
            }
            Kind::Devices(preset) => preset,
        };
        let options = Options {
            timezone: self.keys.timezone.clone(),
        };
        Decoder::new(preset, options).read(&mqtt::Message {
            topic: &self.topic,
            device: self.device.as_deref(),
            payload,
            at: self.at,
            again: false,
        })
    }
}

fn keys(arguments: &Arguments) -> Result<MessageKeys, Exit> {
    let Some(path) = &arguments.config else {
        return Ok(MessageKeys::default());
    };
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    config::message(path, &text).map_err(Exit::Config)
}

/// The topic; what stands for it where the payload says everything.
fn topic(arguments: &Arguments, kind: Kind) -> Result<&str, Exit> {
    if let Some(topic) = &arguments.topic {
        return Ok(topic);
    }
    match kind {
        Kind::Devices(Preset::Tasmota) => Ok("SENSOR"),
        Kind::Devices(Preset::Shelly) => Ok("events/rpc"),
        Kind::Number => Ok("value"),
        Kind::Json => Ok(""),
        Kind::Devices(Preset::Rtl433 | Preset::Senml | Preset::ThinEdge) => Ok(""),
        _ => Err(anyhow!("--topic is needed: it says whose message this is").into()),
    }
}

/// The device of a bare number without a template: the levels above.
fn above(topic: &str, kind: Kind) -> Option<&str> {
    match kind {
        Kind::Number => topic.rsplit_once('/').map(|(above, _)| above),
        Kind::Devices(_) | Kind::Json => None,
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
        DecodeError::NotUtf8(at) | DecodeError::NoPair(at) | DecodeError::NotCbor(at) => *at,
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
