//! ESPHome.
//!
//! Sources: esphome.io, "MQTT Client Component" (`<TOPIC_PREFIX>/<COMPONENT_TYPE>/<COMPONENT_NAME>/state`,
//! birth and will `<TOPIC_PREFIX>/status`); for the component types and payloads the firmware itself,
//! `esphome/components/mqtt/mqtt_*.cpp`.
//!
//! | topic | payload | here |
//! |---|---|---|
//! | `X/sensor/NAME/state` | a bare number; of a text sensor a word, for both have this topic | `name` or, by the catalogue, `name_unit`; a text |
//! | the same, where there is no value | `nan`; with `publish_nan_as_none` `None` | rejected by name; nothing |
//! | `X/binary_sensor/NAME/state`, `switch` | `ON`, `OFF` | `name`, a state |
//! | `X/light/NAME/state` | `{"state":"ON","brightness":255,"color":{…}}` | `name`, `name_brightness` … |
//! | `X/select/NAME/state`, `text` | a word | `name`, always a text |
//! | `X/climate/NAME/current_temperature/state` and the like | a bare value | `name_current_temperature_c` |
//! | `X/status` | `online`, `offline` | link |
//! | `X/debug`, `…/command`, discovery | | nothing |
//!
//! `X` is the device and may hold `/`. The unit is set in the device's YAML and never sent, so it is taken from the name (`…_temperature` is
//! °C); a number whose name says no quantity has none. A text sensor that says digits is read as a number,
//! for nothing tells it from one.

use protocol::{MAX_TEXT_BYTES, Value};

use super::{
    Message, NEITHER, Outcome, availability,
    gather::{Gather, Unit},
    tree::{self, Node},
};
use crate::decode::{DecodeError, Problem, Scalar};

const COMPONENTS: [&str; 20] = [
    "sensor",
    "text_sensor",
    "binary_sensor",
    "switch",
    "light",
    "fan",
    "cover",
    "climate",
    "number",
    "select",
    "text",
    "lock",
    "valve",
    "button",
    "event",
    "date",
    "time",
    "datetime",
    "alarm_control_panel",
    "update",
];

/// Reads one message.
///
/// # Errors
/// A payload that is no text, or not what its component sends.
pub fn decode(message: &Message<'_>) -> Result<Outcome, DecodeError> {
    let levels: Vec<&str> = message.topic.split('/').collect();
    if let [.., "status"] = levels.as_slice() {
        let above = message.topic.strip_suffix("/status");
        return match availability(message.payload) {
            Some(online) => Ok(Outcome::link(message.device.or(above), online)),
            None => Err(NEITHER),
        };
    }
    let [.., "state"] = levels.as_slice() else {
        return Ok(Outcome::default());
    };
    // From the right, for a prefix may hold the same words: component, object and at most two more.
    let last = levels.len() - 1;
    let Some(at) = (last.saturating_sub(4)..last.saturating_sub(1))
        .rev()
        .find(|at| *at > 0 && COMPONENTS.contains(&levels[*at]))
    else {
        return Ok(Outcome::default());
    };
    let prefix = levels[..at].join("/");
    let device = message.device.unwrap_or(&prefix);
    let name = levels[at + 1..last].join("_");
    let text = std::str::from_utf8(message.payload)
        .map_err(|error| DecodeError::NotUtf8(error.valid_up_to()))?
        .trim();
    let mut gather = Gather::of(Some(device));
    match levels[at] {
        _ if text.starts_with('{') => {
            return tree::read_object(message.payload, |members| object(gather, &name, members));
        }
        "select" | "text" | "event" | "date" | "time" | "datetime" => {
            gather.put(&name, word(text))?;
        }
        "climate" if name.ends_with("_temperature_low") || name.ends_with("_temperature_high") => {
            gather.leaf(&name, Unit::Is("°C"), &Scalar::bare(text))?;
        }
        component @ ("sensor" | "text_sensor" | "number") => match Scalar::bare(text) {
            number @ Scalar::Number(_) => gather.leaf(&name, Unit::Usual, &number)?,
            Scalar::Null => {}
            _ if component == "number" => gather.reject(&name, Problem::Word)?,
            _ if text == "None" => {}
            _ => gather.put(&name, word(text))?,
        },
        _ => gather.leaf(&name, Unit::Usual, &Scalar::bare(text))?,
    }
    Ok(Outcome::reading(gather.finish()))
}

fn word(text: &str) -> Result<Value, Problem> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(Problem::TextTooLong(text.len()));
    }
    Ok(Value::Text(text.into()))
}

fn object(
    mut gather: Gather,
    name: &str,
    members: &[(std::borrow::Cow<'_, str>, Node<'_>)],
) -> Result<Outcome, DecodeError> {
    for (key, node) in members {
        if key == "state" {
            gather.node(name, Unit::Usual, node)?;
        } else {
            gather.node(&format!("{name}_{key}"), Unit::Usual, node)?;
        }
    }
    Ok(Outcome::reading(gather.finish()))
}
