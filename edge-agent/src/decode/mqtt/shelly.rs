//! Shelly, both generations.
//!
//! Sources: shelly-api-docs.shelly.cloud, Gen1 "MQTT" (and the "MQTT" sections of the devices, of which
//! Plug S, EM, 3EM, 2.5 and H&T were compared), Gen2+ "MQTT", "Notifications", "Switch", "EM", "EM1",
//! "PM1", "EMData", "Temperature", "Humidity", "DevicePower".
//!
//! Generation 1, a value a topic, under `shellies/ID/`:
//!
//! | topic | payload | here |
//! |---|---|---|
//! | `relay/0`, `light/0`, `input/0` | `on`, `off`, `1` | `relay_0`, a state |
//! | `relay/0/power`, `relay/0/energy` | W, watt-minutes | `relay_0_power_w`, `relay_0_energy_kwh` |
//! | `emeter/0/voltage`, `total`, `total_returned` … | V, Wh | `emeter_0_voltage_v`, `emeter_0_total_kwh` |
//! | `emeter/0/energy`, `returned_energy` | watt-minutes | `emeter_0_energy_kwh`, `emeter_0_returned_energy_kwh` |
//! | `sensor/temperature`, `temperature`, `ext_temperature/0` | °C | `temperature_c`, `ext_temperature_0_c` |
//! | `light/0/status`, `input_event/0`, `sensor/…` with an object | JSON | flattened |
//! | `online` | `true`, `false` | link |
//! | `announce`, `info`, `settings`, `command`, `temperature_f` | | nothing |
//!
//! `sensor/temperature` is in the unit the device is set to, °C as shipped, and the message does not say
//! which: a device set to °F has to be set back.
//!
//! Generation 2 and later, under any prefix (the device's id unless changed):
//!
//! | topic | payload | here |
//! |---|---|---|
//! | `events/rpc` | `NotifyStatus`, `NotifyFullStatus`: components under `params` | one reading at `ts` |
//! | `events/rpc` | `NotifyEvent`: `params.events` | a reading for each, `input_0_event` |
//! | `status/switch:0` | the component | a reading |
//! | `online` | `true`, `false` | link |
//! | `rpc`, `command`, `debug/…` | | nothing |
//!
//! `switch:0` gives `switch_0_power_w` (`apower`), `switch_0_energy_kwh` (`aenergy.total`, Wh),
//! `switch_0_output`; `em:0` has phases: `em_0_voltage_l1_v`. Left out: what says the same twice (`tF`
//! beside `tC`, `by_minute` beside `total`) and the box's own household (`sys`, `cloud`, `mqtt`, `ble`,
//! `ws`, scripts); of `wifi` the signal is kept. A body without an envelope that is `{"id":…,"result":…}`
//! is an answer to somebody else and gives nothing.

use std::borrow::Cow;

use super::{
    Message, NEITHER, Outcome, availability,
    gather::{Gather, Unit},
    time,
    tree::{self, Node},
};
use crate::decode::{DecodeError, Scalar};

type Members<'a> = [(Cow<'a, str>, Node<'a>)];

/// Reads one message of either generation.
///
/// # Errors
/// A payload that should be JSON and is not, or holds too much.
pub fn decode(message: &Message<'_>) -> Result<Outcome, DecodeError> {
    let levels: Vec<&str> = message.topic.split('/').collect();
    let above = |n: usize| levels[..levels.len() - n].join("/");
    match levels.as_slice() {
        [.., "events", "rpc"] => notification(message, &above(2)),
        [.., "status", component] if component.contains(':') || is_single(component) => {
            let device = above(2);
            let device = message.device.unwrap_or(&device);
            tree::read_object(message.payload, |members| {
                let mut gather = Gather::of(Some(device));
                self::component(&mut gather, component, members)?;
                Ok(Outcome::reading(gather.finish()))
            })
        }
        [.., "online"] => {
            let device = above(1);
            let device = device.strip_prefix("shellies/").unwrap_or(&device);
            match availability(message.payload) {
                Some(online) => Ok(Outcome::link(message.device.or(Some(device)), online)),
                None => Err(NEITHER),
            }
        }
        ["shellies", device, rest @ ..] => first(message.device.unwrap_or(device), rest, message),
        // Under a prefix of the user's own, the template says where the device ends.
        _ => match message.device.and_then(|device| after(&levels, device)) {
            Some(at) => first(message.device.unwrap_or_default(), &levels[at..], message),
            None => Ok(Outcome::default()),
        },
    }
}

fn is_single(component: &str) -> bool {
    matches!(component, "wifi" | "eth")
}

fn after(levels: &[&str], device: &str) -> Option<usize> {
    Some(levels.iter().position(|level| *level == device)? + 1)
}

// ---- generation 1 ----

fn first(device: &str, rest: &[&str], message: &Message<'_>) -> Result<Outcome, DecodeError> {
    match rest {
        []
        | [.., "command" | "set" | "announce" | "info" | "settings"]
        | ["temperature_f" | "rpc" | "debug", ..]
        | [.., "ext_temperatures" | "ext_humidities"]
        | ["ext_temperature_f", ..] => return Ok(Outcome::default()),
        _ => {}
    }
    // `sensor/` says nothing that the quantity does not.
    let rest = match rest {
        ["sensor", inner @ ..] if !inner.is_empty() => inner,
        ["status"] => &[][..],
        other => other,
    };
    let name = match rest {
        [above @ .., "pf"] => format!("{}_power_factor", above.join("_")),
        ["lux"] => "illuminance".to_owned(),
        _ => rest.join("_"),
    };
    let text = std::str::from_utf8(message.payload)
        .map_err(|error| DecodeError::NotUtf8(error.valid_up_to()))?
        .trim();
    let mut gather = Gather::of(Some(device));
    if text.starts_with(['{', '[']) {
        return tree::read(message.payload, |node| {
            let members = node.members().unwrap_or_default();
            for (key, node) in members {
                state(&mut gather, &name, key, node)?;
            }
            Ok(Outcome::reading(gather.finish()))
        });
    }
    let scalar = Scalar::bare(text);
    match (rest, &scalar) {
        ([], _) => {}
        // A relay that cut out says so instead of `off`.
        (["relay", _], Scalar::Text(word)) if word == "overpower" => {
            gather.leaf(&name, Unit::Unknown, &Scalar::Bool(false))?;
            gather.leaf(
                &format!("{name}_overpower"),
                Unit::Unknown,
                &Scalar::Bool(true),
            )?;
        }
        (
            [
                "relay" | "light" | "white" | "color" | "input" | "longpush",
                _,
            ],
            Scalar::Number(word),
        )
        | (
            [
                "overtemperature" | "loaderror" | "overload" | "motion" | "vibration" | "flood"
                | "charger",
            ],
            Scalar::Number(word),
        ) => {
            let state = word.parse::<f64>().is_ok_and(|number| number != 0.0);
            gather.leaf(&name, Unit::Unknown, &Scalar::Bool(state))?;
        }
        _ => gather.leaf(&name, unit_gen1(rest), &scalar)?,
    }
    Ok(Outcome::reading(gather.finish()))
}

fn unit_gen1(rest: &[&str]) -> Unit<'static> {
    let known = match rest {
        ["emeter", _, "total" | "total_returned"] => "Wh",
        [
            "relay" | "light" | "roller" | "white" | "color" | "meter",
            ..,
            "energy",
        ] => "Wmin",
        ["emeter", _, "energy" | "returned_energy"] => "Wmin",
        [.., "power"] => "W",
        [.., "reactive_power"] => "var",
        [.., "voltage"] | ["adc", _] => "V",
        [.., "current"] => "A",
        ["temperature"] | ["ext_temperature", _] => "°C",
        ["humidity"] | ["ext_humidity", _] => "%",
        ["battery" | "bat"] => "%",
        ["lux" | "illuminance"] => "lx",
        ["tilt"] => "deg",
        ["concentration"] => "ppm",
        ["roller", _, "pos"] => "%",
        _ => return Unit::Unknown,
    };
    Unit::Is(known)
}

/// A member of a status object of generation 1.
fn state(gather: &mut Gather, path: &str, key: &str, node: &Node<'_>) -> Result<(), DecodeError> {
    let join = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}_{key}")
        }
    };
    match (key, node) {
        ("ison", node) => gather.node(&join("on"), Unit::Unknown, node),
        ("timestamp" | "unixtime" | "source" | "is_valid", _) => Ok(()),
        ("power", node) => gather.node(&join(key), Unit::Is("W"), node),
        ("bat", Node::Object(members)) => members.iter().try_for_each(|(key, node)| match &**key {
            "value" => gather.node(&join("battery"), Unit::Is("%"), node),
            "voltage" => gather.node(&join("battery"), Unit::Is("V"), node),
            _ => Ok(()),
        }),
        ("bat", node) => gather.node(&join("battery"), Unit::Is("%"), node),
        ("lux", Node::Leaf(_)) => gather.node(&join("illuminance"), Unit::Is("lx"), node),
        ("lux", Node::Object(members)) => match tree::get(members, "value") {
            Some(node) => gather.node(&join("illuminance"), Unit::Is("lx"), node),
            None => Ok(()),
        },
        ("tmp" | "target_t", Node::Object(members)) => {
            let name = join(if key == "tmp" {
                "temperature"
            } else {
                "target_temperature"
            });
            let unit = tree::get(members, "units").and_then(Node::text);
            let in_c = tree::get(members, "tC");
            match (in_c, tree::get(members, "value")) {
                (Some(node), _) => gather.node(&name, Unit::Is("°C"), node),
                (_, Some(node)) => gather.node(&name, Unit::Is(unit.unwrap_or("C")), node),
                _ => Ok(()),
            }
        }
        // A valve says how far it is open.
        ("pos", node) => gather.node(&join("position"), Unit::Is("%"), node),
        ("thermostats", Node::List(valves)) => {
            valves.iter().enumerate().try_for_each(|(at, valve)| {
                let path = join(&format!("thermostat_{at}"));
                let members = valve.members().unwrap_or_default();
                members
                    .iter()
                    .try_for_each(|(key, node)| state(gather, &path, key, node))
            })
        }
        (_, node) => gather.node(&join(key), Unit::Unknown, node),
    }
}

// ---- generation 2 ----

fn notification(message: &Message<'_>, above: &str) -> Result<Outcome, DecodeError> {
    tree::read_object(message.payload, |members| {
        let method = tree::get(members, "method").and_then(Node::text);
        let params = tree::get(members, "params").and_then(Node::members);
        let (Some(method), Some(params)) = (method, params) else {
            return Ok(Outcome::default());
        };
        let source = tree::get(members, "src").and_then(Node::text);
        let device = message
            .device
            .or((!above.is_empty()).then_some(above))
            .or(source);
        let time = |node: Option<&Node<'_>>| node.and_then(Node::number).and_then(time::unix);
        let sent = time(tree::get(params, "ts"));
        match method {
            "NotifyStatus" | "NotifyFullStatus" => {
                let mut gather = Gather::of(device);
                gather.at(sent);
                for (name, node) in params {
                    if let Node::Object(members) = node {
                        component(&mut gather, name, members)?;
                    }
                }
                Ok(Outcome::reading(gather.finish()))
            }
            "NotifyEvent" => {
                let mut outcome = Outcome::default();
                let Some(Node::List(events)) = tree::get(params, "events") else {
                    return Ok(outcome);
                };
                for event in events.iter().filter_map(Node::members) {
                    let said = |name| tree::get(event, name).and_then(Node::text);
                    let (Some(component), Some(kind)) = (said("component"), said("event")) else {
                        continue;
                    };
                    if matches!(component, "sys" | "cloud" | "mqtt" | "ws" | "ble") {
                        continue;
                    }
                    let mut gather = Gather::of(device);
                    gather.at(time(tree::get(event, "ts")).or(sent));
                    let kind = Scalar::Text(kind.into());
                    gather.leaf(&format!("{component}_event"), Unit::Unknown, &kind)?;
                    outcome.readings.extend(gather.finish());
                }
                Ok(outcome)
            }
            _ => Ok(Outcome::default()),
        }
    })
}

/// One component under its own name, `switch:0`.
fn component(gather: &mut Gather, name: &str, members: &Members<'_>) -> Result<(), DecodeError> {
    let (kind, _) = name.split_once(':').unwrap_or((name, ""));
    match kind {
        "sys" | "cloud" | "mqtt" | "ble" | "ws" | "script" | "ui" | "ht_ui" | "plugs_ui"
        | "knx" | "matter" | "modbus" | "service" | "schedule" | "webhook" | "bthome" => {
            return Ok(());
        }
        "wifi" => {
            return match tree::get(members, "rssi") {
                Some(node) => gather.node("wifi_rssi", Unit::Is("dBm"), node),
                None => Ok(()),
            };
        }
        _ => {}
    }
    let path = name.replace(':', "_");
    members
        .iter()
        .try_for_each(|(key, node)| member(gather, kind, &path, key, node))
}

fn member(
    gather: &mut Gather,
    kind: &str,
    path: &str,
    key: &str,
    node: &Node<'_>,
) -> Result<(), DecodeError> {
    let own = |quantity: &str| format!("{path}_{quantity}");
    let total = || node.members().and_then(|inner| tree::get(inner, "total"));
    match (kind, key) {
        (
            _,
            "id"
            | "source"
            | "tF"
            | "last_update_ts"
            | "last_updated_ts"
            | "calibration"
            | "user_calibrated_phase",
        ) => {
            return Ok(());
        }
        (_, "aenergy" | "ret_aenergy") => {
            let name = if key == "aenergy" {
                "energy"
            } else {
                "returned_energy"
            };
            return match total() {
                Some(node) => gather.node(&own(name), Unit::Is("Wh"), node),
                None => Ok(()),
            };
        }
        ("temperature", "tC") => return gather.node(path, Unit::Is("°C"), node),
        ("humidity", "rh") => return gather.node(path, Unit::Is("%"), node),
        ("illuminance", "lux") => return gather.node(path, Unit::Is("lx"), node),
        (_, "temperature") => {
            return match node.members().map(|inner| tree::get(inner, "tC")) {
                Some(Some(node)) => gather.node(&own("temperature"), Unit::Is("°C"), node),
                Some(None) => Ok(()),
                None => gather.node(&own("temperature"), Unit::Is("°C"), node),
            };
        }
        ("input", "counts") => {
            let members = node.members().unwrap_or_default().iter();
            return members
                .filter(|(key, _)| key.ends_with("total"))
                .try_for_each(|(key, node)| {
                    gather.node(&own(&format!("counts_{key}")), Unit::Unknown, node)
                });
        }
        // A valve or a sensor heard over Bluetooth.
        ("blutrv" | "bthomedevice", "battery") => {
            return gather.node(&own("battery"), Unit::Is("%"), node);
        }
        ("blutrv", "pos") => return gather.node(&own("position"), Unit::Is("%"), node),
        ("devicepower", "battery") => {
            return node.members().unwrap_or_default().iter().try_for_each(
                |(key, node)| match &**key {
                    "V" => gather.node(&own("battery"), Unit::Is("V"), node),
                    "percent" => gather.node(&own("battery"), Unit::Is("%"), node),
                    other => gather.node(&own(&format!("battery_{other}")), Unit::Unknown, node),
                },
            );
        }
        _ => {}
    }
    // `a_voltage`, `total_act_power`: the phase or the sum is in front.
    let (which, quantity) = match key.split_once('_') {
        Some(("a", rest)) => ("_l1", rest),
        Some(("b", rest)) => ("_l2", rest),
        Some(("c", rest)) => ("_l3", rest),
        Some(("n", rest)) => ("_n", rest),
        Some(("total", rest)) if kind == "em" => ("_total", rest),
        _ => ("", key),
    };
    let (quantity, unit) = match quantity {
        "apower" | "act_power" | "active_power" => ("power", "W"),
        "aprtpower" | "aprt_power" => ("apparent_power", "VA"),
        "voltage" => ("voltage", "V"),
        "current" => ("current", "A"),
        "freq" => ("frequency", "Hz"),
        "pf" => ("power_factor", ""),
        "total_act_energy" | "total_act" => ("energy", "Wh"),
        "total_act_ret_energy" | "total_act_ret" => ("returned_energy", "Wh"),
        "current_pos" | "target_pos" | "percent" if which.is_empty() => (key, "%"),
        "rssi" => ("rssi", "dBm"),
        other => (other, ""),
    };
    let unit = if unit.is_empty() {
        Unit::Unknown
    } else {
        Unit::Is(unit)
    };
    gather.node(&own(&format!("{quantity}{which}")), unit, node)
}
