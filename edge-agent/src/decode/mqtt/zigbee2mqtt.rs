//! Zigbee2MQTT.
//!
//! Sources: zigbee2mqtt.io, "MQTT Topics and Messages", "Exposes", "Device availability", "MQTT
//! configuration" (`output`, `last_seen`, `include_device_information`).
//!
//! | topic behind the base | payload | here |
//! |---|---|---|
//! | `NAME` (may hold `/`) | `{"temperature":21.5,"linkquality":87,…}` | a reading |
//! | `NAME/ATTRIBUTE` (`output = attribute`) | `21.5` | a reading of one field |
//! | `NAME/availability` | `online`, `{"state":"offline"}` | link of the device |
//! | `bridge/state` | `online`, `{"state":"online"}` | link of the bridge |
//! | `bridge/…`, `NAME/set…`, `NAME/get…` | | nothing |
//!
//! Units are those the exposes declare: °C, %, hPa, W, A, kWh, lx. `voltage` is millivolts where a
//! battery is meant and volts at a plug, and only the value tells: from 1000 on it is millivolts (no plug
//! has so much, no battery so little). Both become `voltage_v`. Beside `illuminance_lux` (versions before
//! 2.0), `illuminance` is a raw number without unit.
//!
//! A number written as a text is a number where the catalogue knows the quantity. `color`, `update` and
//! other objects are flattened (`color_x`, `update_state`). `device` is metadata. `last_seen` is the time:
//! ISO 8601 with `Z` or an offset, or milliseconds since 1970.

use protocol::Value;

use super::{
    Message, NEITHER, Options, Outcome, availability,
    gather::{Gather, Unit, snake},
    time,
    tree::{self, Node},
};
use crate::decode::{DecodeError, Scalar};

/// Reads one message.
///
/// # Errors
/// A payload that should be JSON and is not, or holds too much.
pub fn decode(message: &Message<'_>, options: &Options) -> Result<Outcome, DecodeError> {
    let behind = message.device.or_else(|| {
        let (_, behind) = message.topic.split_once('/')?;
        Some(behind)
    });
    let Some(path) = behind else {
        return Err(DecodeError::NoDevice);
    };
    if let Some(of_bridge) = path.strip_prefix("bridge/") {
        return match of_bridge {
            "state" => availability(message.payload)
                .map(|online| Outcome::link(None, online))
                .ok_or(NEITHER),
            _ => Ok(Outcome::default()),
        };
    }
    if let Some(device) = path.strip_suffix("/availability") {
        return match availability(message.payload) {
            Some(online) => Ok(Outcome::link(Some(device), online)),
            None => Err(NEITHER),
        };
    }
    let commands = path.ends_with("/set") || path.ends_with("/get");
    if commands || path.contains("/set/") || path.contains("/get/") {
        return Ok(Outcome::default());
    }
    if message.payload.trim_ascii_start().first() != Some(&b'{') {
        return attribute(path, message);
    }
    tree::read_object(message.payload, |members| {
        let mut gather = Gather::of(Some(path));
        let raw_illuminance = tree::get(members, "illuminance_lux").is_some();
        for (key, node) in members {
            match &**key {
                "last_seen" => {
                    let zone = options.timezone.as_ref();
                    let time = node
                        .word()
                        .and_then(|text| time::written(text, zone, message.at));
                    gather.at(time);
                }
                "elapsed" => gather.node("elapsed", Unit::Is("ms"), node)?,
                "device" => about(&mut gather, node)?,
                "illuminance" if raw_illuminance => {
                    gather.node("illuminance_raw", Unit::Unknown, node)?;
                }
                "illuminance_lux" => gather.node("illuminance", Unit::Is("lx"), node)?,
                _ => value(&mut gather, key, node)?,
            }
        }
        Ok(Outcome::reading(gather.finish()))
    })
}

fn value(gather: &mut Gather, key: &str, node: &Node<'_>) -> Result<(), DecodeError> {
    let name = snake(key);
    // `power_phase_b` of meters with three phases, as the catalogue has them.
    let phase = [
        ("_phase_a", "_l1"),
        ("_phase_b", "_l2"),
        ("_phase_c", "_l3"),
    ];
    let phase = phase.iter().find_map(|(end, which)| {
        let what = name.strip_suffix(end)?;
        Some(format!("{what}{which}"))
    });
    let name = phase.unwrap_or(name);
    let millivolts = (name == "voltage" || name == "battery_voltage")
        && node
            .word()
            .and_then(|word| word.trim().parse::<f64>().ok())
            .is_some_and(|number| number >= 1000.0);
    if millivolts {
        return gather.node(&name, Unit::Is("mV"), node);
    }
    gather.node(&name, Unit::Usual, node)
}

/// `include_device_information`: what the device is, not what it measures.
fn about(gather: &mut Gather, node: &Node<'_>) -> Result<(), DecodeError> {
    let Some(members) = node.members() else {
        return gather.node("device", Unit::Unknown, node);
    };
    let said = |name| tree::get(members, name).and_then(Node::word);
    gather.meta("model", said("model").or(said("modelID")));
    gather.meta("vendor", said("manufacturerName").or(said("vendor")));
    gather.meta("ieee_address", said("ieeeAddr").or(said("ieee_address")));
    Ok(())
}

/// `output = "attribute"`: a topic for each value. A name may hold `/` as well, so only what is no JSON
/// object is read as a value of the device above.
fn attribute(path: &str, message: &Message<'_>) -> Result<Outcome, DecodeError> {
    let Some((device, key)) = path.rsplit_once('/') else {
        return Err(DecodeError::NotAnObject);
    };
    let text = std::str::from_utf8(message.payload)
        .map_err(|error| DecodeError::NotUtf8(error.valid_up_to()))?
        .trim();
    if key == "last_seen" || text.starts_with('[') {
        return Ok(Outcome::default());
    }
    let mut gather = Gather::of(Some(device));
    let scalar = match Scalar::bare(text.trim_matches('"')) {
        Scalar::Text(word) if word == "null" => Scalar::Null,
        other => other,
    };
    match &scalar {
        Scalar::Bool(state) => gather.put(key, Ok(Value::Bool(*state)))?,
        _ => value(&mut gather, key, &Node::Leaf(scalar))?,
    }
    Ok(Outcome::reading(gather.finish()))
}
