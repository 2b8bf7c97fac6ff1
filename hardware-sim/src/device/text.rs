//! Readings as text: what devices without our protocol write on a line or publish.
//!
//! JSON goes through `serde_json`; key=value and CSV have no standard to keep, and no device here has
//! a text with a separator in it.

use std::fmt::Write as _;

use protocol::{Timestamp, Value};
use serde::Deserialize;

use super::Reading;

/// How a reading is written. All forms carry boot, sequence and time under `boot`, `seq`, `time`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `{"boot":1,"seq":0,"time":"2026-…","temperature_c":21.5}`
    #[default]
    Json,
    /// `boot=1 seq=0 time=2026-… temperature_c=21.5`
    KeyValue,
    /// `1,0,2026-…,21.5`: boot, seq, time, then the values in the order of `hardware-sim devices`.
    Csv,
}

impl Format {
    /// Writes a reading, without an end of line.
    #[must_use]
    pub fn write(self, reading: &Reading) -> String {
        let members = members(reading);
        match self {
            Self::Json => {
                let object: serde_json::Map<_, _> = members
                    .into_iter()
                    .map(|(name, member)| (name.to_owned(), member))
                    .collect();
                serde_json::Value::Object(object).to_string()
            }
            Self::KeyValue => joined(members.iter().map(|(n, m)| format!("{n}={}", bare(m))), ' '),
            Self::Csv => joined(members.iter().map(|(_, m)| bare(m)), ','),
        }
    }
}

/// What arrives of a value that travelled as text: there are only numbers, and they are f64.
#[must_use]
pub fn after_text(value: &Value) -> Value {
    match value {
        Value::Int(number) => Value::Float(*number as f64),
        other => other.clone(),
    }
}

fn members(reading: &Reading) -> Vec<(&'static str, serde_json::Value)> {
    let time = i64::try_from(reading.time_us)
        .ok()
        .and_then(|us| Timestamp::from_micros(us).ok());
    let mut members = vec![
        ("boot", reading.boot.into()),
        ("seq", reading.sequence.into()),
        ("time", time.map(|time| time.to_string()).into()),
    ];
    members.extend(reading.values.iter().map(|(name, value)| {
        let member = match value {
            Value::Float(number) => (*number).into(),
            Value::Int(number) => (*number).into(),
            Value::Bool(state) => (*state).into(),
            Value::Text(text) => text.to_string().into(),
        };
        (*name, member)
    }));
    members
}

fn bare(member: &serde_json::Value) -> String {
    member
        .as_str()
        .map_or_else(|| member.to_string(), str::to_owned)
}

fn joined(parts: impl Iterator<Item = String>, separator: char) -> String {
    let mut line = String::new();
    for part in parts {
        let gap = if line.is_empty() {
            ""
        } else {
            &separator.to_string()
        };
        // Writing to a String cannot fail.
        write!(line, "{gap}{part}").unwrap_or_default();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_carries_identity_time_and_exact_values() {
        let reading = Reading {
            boot: 7,
            sequence: 3,
            time_us: 1_700_000_000_250_000,
            values: vec![
                ("temperature_c", Value::Float(21.0)),
                ("running", Value::Bool(true)),
                ("state", Value::Text("idle".into())),
            ],
        };
        for (format, line) in [
            (
                Format::KeyValue,
                "boot=7 seq=3 time=2023-11-14T22:13:20.25Z temperature_c=21.0 running=true state=idle",
            ),
            (Format::Csv, "7,3,2023-11-14T22:13:20.25Z,21.0,true,idle"),
        ] {
            assert_eq!(format.write(&reading), line);
        }
        let json: serde_json::Value = serde_json::from_str(&Format::Json.write(&reading)).unwrap();
        assert_eq!(json["seq"], 3);
        assert_eq!(json["temperature_c"], 21.0);
        assert_eq!(json["state"], "idle");
    }
}
