//! Payloads made after the documentation, the same damaged, and what must hold for any bytes.

mod bad_input;
mod damaged;
mod esphome;
mod mbmd;
mod rtl_433;
mod senml;
mod shelly;
mod tasmota;
mod thin_edge;
mod zigbee2mqtt;

use protocol::Value;

use super::*;
use crate::decode::{DeviceTime, template::Template};

/// Arrival of every message here.
pub(super) const AT: &str = "2026-11-23T12:00:00Z";

/// One line for each thing a message says, as a person would note it.
pub(super) fn lines(outcome: &Outcome) -> Vec<String> {
    let links = outcome.links.iter().map(|link| {
        let device = link.device.as_deref().unwrap_or("bridge");
        format!("{device} {}", if link.online { "up" } else { "down" })
    });
    let readings = outcome.readings.iter().map(|reading| {
        let mut line = reading.device.clone().unwrap_or("-".into());
        match reading.time {
            Some(DeviceTime::At(time)) => line += &format!(" @{time}"),
            Some(DeviceTime::Age(age)) => line += &format!(" -{}s", age.as_secs_f64()),
            None => {}
        }
        for (name, value) in &reading.fields {
            line += &match value {
                Value::Float(number) => format!(" {name}={number}"),
                Value::Int(number) => format!(" {name}={number}i"),
                Value::Bool(state) => format!(" {name}={state}"),
                Value::Text(text) => format!(" {name}={text:?}"),
            };
        }
        for (name, problem) in &reading.rejected {
            line += &format!(" !{name}: {problem}");
        }
        line
    });
    let rejected = outcome
        .rejected
        .iter()
        .map(|(place, error)| format!("!{place}: {error}"));
    links.chain(readings).chain(rejected).collect()
}

/// Reads as a subscription to `template` with a time zone would.
pub(super) fn read_as(
    preset: Preset,
    template: Option<&str>,
    topic: &str,
    payload: &[u8],
) -> Result<Vec<String>, DecodeError> {
    let options = Options {
        timezone: Some(TimeZone::get("Europe/Berlin").unwrap()),
    };
    let template = template.map(|text| Template::parse(text).unwrap());
    let captures = template.as_ref().map(|template| {
        template
            .matches(topic)
            .unwrap_or_else(|| panic!("{topic} is not of the template"))
    });
    let message = Message {
        topic,
        device: captures.and_then(|captures| captures.device),
        payload,
        at: AT.parse().unwrap(),
        again: false,
    };
    let read = Decoder::new(preset, options).read(&message)?;
    Ok(lines(&read))
}

/// Checks topics and payloads against what they say under the default template.
pub(super) fn check(preset: Preset, table: &[(&str, &str, &[&str])]) {
    for (topic, payload, expected) in table {
        let got = read_as(preset, preset.default_topic(), topic, payload.as_bytes());
        match got {
            Ok(got) => assert_eq!(got, *expected, "{topic} {payload}"),
            Err(error) => assert_eq!(
                [format!("error: {error}")].as_slice(),
                *expected,
                "{topic} {payload}"
            ),
        }
    }
}
