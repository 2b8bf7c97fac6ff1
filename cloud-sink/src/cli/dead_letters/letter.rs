//! A dead letter as it is shown.

use serde_json::{Value as Json, json};

use crate::{
    dead_letter::Buried,
    message::{Message, Partition},
};

/// A dead letter and its name.
pub struct Letter {
    /// `PARTITION:OFFSET`, or the key of the incident.
    pub id: String,
    /// The record.
    pub message: Message,
    /// What its headers say.
    pub buried: Buried,
}

impl Letter {
    /// For a list.
    pub fn line(&self) -> String {
        let Buried {
            reason,
            detail,
            origin,
            replays,
            device,
        } = &self.buried;
        let Partition { topic, number } = &origin.partition;
        let device = device.as_deref().unwrap_or("-");
        let again = match replays {
            0 => String::new(),
            count => format!("  came back {count} times"),
        };
        let place = format!("{topic}/{number}/{}", origin.offset);
        format!("{}  {reason}  {device}  {place}{again}  {detail}", self.id)
    }

    /// The same for programs.
    pub fn json(&self) -> Json {
        let origin = &self.buried.origin;
        json!({
            "id": self.id,
            "reason": self.buried.reason,
            "detail": self.buried.detail,
            "device": self.buried.device,
            "topic": &*origin.partition.topic,
            "partition": origin.partition.number,
            "offset": origin.offset,
            "timestamp_ms": origin.timestamp_ms,
            "replays": self.buried.replays,
        })
    }

    /// With key, headers and value.
    pub fn whole_text(&self) -> String {
        let mut text = self.line();
        let mut line = |name: &str, bytes: Option<&[u8]>| {
            text.push_str(&format!("\n  {name:<24} {}", readable(bytes)));
        };
        line("key", self.message.key());
        self.message
            .headers()
            .for_each(|(name, value)| line(name, value));
        line("value", self.message.value());
        text
    }

    /// The same for programs.
    pub fn whole_json(&self) -> Json {
        let mut json = self.json();
        let headers = self.message.headers();
        let headers: Vec<Json> = headers
            .map(|(name, value)| json!({ "name": name, "value": readable(value) }))
            .collect();
        json["key"] = readable(self.message.key()).into();
        json["headers"] = headers.into();
        json["value"] = readable(self.message.value()).into();
        json
    }
}

/// Text as it is, anything else in hex.
fn readable(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else {
        return "(none)".into();
    };
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && !c.is_whitespace()) => text.into(),
        _ => {
            let hex = bytes.iter().map(|byte| format!("{byte:02x}"));
            hex.fold(String::from("0x"), |text, byte| text + &byte)
        }
    }
}
