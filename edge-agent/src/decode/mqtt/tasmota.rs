//! Tasmota firmware.
//!
//! Sources: tasmota.github.io/docs, "MQTT" (topics, `%prefix%/%topic%/`), "Commands" (`SetOption8` °F,
//! `SetOption24` mmHg, `SpeedUnit`, `Time`), "JSON Status Responses", "Supported Peripherals", "Zigbee"
//! (`ZbReceived`).
//!
//! The last level of a topic says what a message is, wherever the user moved the rest:
//!
//! | topic | payload | here |
//! |---|---|---|
//! | `tele/X/SENSOR`, `stat/X/STATUS8`, `STATUS10` | `{"Time":…,"AM2301":{"Temperature":…},"TempUnit":"C"}` | a reading |
//! | `tele/X/STATE`, `stat/X/STATUS11` | `{"Time":…,"POWER":"ON","Wifi":{…}}` | a reading |
//! | `stat/X/POWER1` `ON`, `stat/X/RESULT` `{"POWER1":"ON"}` | a switch | a reading, the event |
//! | `tele/X/LWT` | `Online`, `Offline` | link |
//! | anything else | answers to commands, `INFO1`, `UPTIME` … | nothing |
//!
//! Names: the sensor, then the quantity (`am2301_temperature_c`, `ds18b20_2_temperature_c`), so that a
//! second sensor renames nothing. `ENERGY`, which exists once, has none (`power_w`, `energy_total_kwh`);
//! its lists are phases (`voltage_l1_v`). Units: `TempUnit`, `PressureUnit`, `SpeedUnit` of the message,
//! else Tasmota's own (°C, hPa, km/h). A sensor behind a Zigbee bridge is a device of its own, `X/Name`.
//! With SetOption89 (`tele/X/Name/SENSOR`) it is the same device. Times have no zone unless the user set one: `timezone`.

use std::borrow::Cow;

use super::{
    Message, NEITHER, Options, Outcome, availability,
    gather::{Gather, Unit, snake},
    time,
    tree::{self, Node},
};
use crate::decode::{DecodeError, Scalar, units};

type Members<'a> = [(Cow<'a, str>, Node<'a>)];

/// Reads one message.
///
/// # Errors
/// A payload that should be JSON and is not, or holds too much.
pub fn decode(message: &Message<'_>, options: &Options) -> Result<Outcome, DecodeError> {
    let (device, kind) = name(message);
    let device = device.as_deref();
    let kind_upper = kind.to_ascii_uppercase();
    match kind_upper.as_str() {
        "LWT" => match availability(message.payload) {
            Some(online) => Ok(Outcome::link(device, online)),
            None => Err(NEITHER),
        },
        "SENSOR" | "STATE" | "ENERGY" | "STATUS8" | "STATUS10" | "STATUS11" => {
            tree::read_object(message.payload, |members| {
                let inner = ["StatusSNS", "StatusSTS"]
                    .iter()
                    .find_map(|name| tree::get(members, name)?.members());
                read(device, inner.unwrap_or(members), message, options)
            })
        }
        "RESULT" => tree::read_object(message.payload, |members| {
            // RESULT answers every command; only those about switches are events.
            let event = members
                .iter()
                .any(|(key, _)| is_switch(key) || *key == "ZbReceived");
            if event {
                read(device, members, message, options)
            } else {
                Ok(Outcome::default())
            }
        }),
        _ if is_switch(&kind_upper) => switch(device, kind, message.payload),
        _ => Ok(Outcome::default()),
    }
}

/// The device, unless the topic template says it, is the level that is not the prefix.
fn name<'m>(message: &Message<'m>) -> (Option<Cow<'m, str>>, &'m str) {
    let (rest, kind) = message
        .topic
        .rsplit_once('/')
        .unwrap_or(("", message.topic));
    let prefixes = ["tele/", "stat/"];
    let bare = prefixes
        .iter()
        .find_map(|prefix| rest.strip_prefix(prefix))
        .or_else(|| rest.strip_suffix("/tele"))
        .or_else(|| rest.strip_suffix("/stat"))
        .unwrap_or(rest);
    // `zigbee/%prefix%/%topic%/`.
    let within = ["/tele/", "/stat/"]
        .iter()
        .find_map(|prefix| bare.split_once(prefix));
    let bare = match within {
        Some((above, below)) => Cow::Owned(format!("{above}/{below}")),
        None => Cow::Borrowed(bare),
    };
    let device = match message.device {
        Some(device) => Some(Cow::Borrowed(device)),
        None => Some(bare).filter(|bare| !bare.is_empty()),
    };
    (device, kind)
}

/// `POWER`, `POWER2`, `Switch1`, `Button1`.
fn is_switch(key: &str) -> bool {
    let name = key.trim_end_matches(|c: char| c.is_ascii_digit());
    ["POWER", "SWITCH", "BUTTON"]
        .iter()
        .any(|word| name.eq_ignore_ascii_case(word))
}

fn switch(device: Option<&str>, kind: &str, payload: &[u8]) -> Result<Outcome, DecodeError> {
    let text =
        std::str::from_utf8(payload).map_err(|error| DecodeError::NotUtf8(error.valid_up_to()))?;
    if text.trim_start().starts_with('{') {
        return Ok(Outcome::default());
    }
    let mut gather = Gather::of(device);
    let text = Scalar::Text(text.trim().into());
    gather.leaf(kind, Unit::Unknown, &state(text))?;
    Ok(Outcome::reading(gather.finish()))
}

/// `StateText1 0`: the user may have the words of a switch be numbers, and some wrap them as JSON numbers.
fn state(scalar: Scalar<'_>) -> Scalar<'_> {
    match &scalar {
        Scalar::Number(word) if *word == "0" => Scalar::Bool(false),
        Scalar::Number(word) if *word == "1" => Scalar::Bool(true),
        Scalar::Text(word) if word == "0" => Scalar::Bool(false),
        Scalar::Text(word) if word == "1" => Scalar::Bool(true),
        _ => scalar,
    }
}

/// The units one message declares.
struct Declared<'t> {
    temperature: &'t str,
    pressure: &'t str,
    speed: &'t str,
}

fn read(
    device: Option<&str>,
    members: &Members<'_>,
    message: &Message<'_>,
    options: &Options,
) -> Result<Outcome, DecodeError> {
    let said = |name| tree::get(members, name).and_then(Node::text);
    let declared = Declared {
        temperature: said("TempUnit").unwrap_or("C"),
        pressure: said("PressureUnit").unwrap_or("hPa"),
        speed: said("SpeedUnit").unwrap_or("km/h"),
    };
    let zone = options.timezone.as_ref();
    // `Epoch`, where it is sent, needs no zone.
    let time = match tree::get(members, "Epoch").and_then(Node::number) {
        Some(epoch) => time::unix(epoch),
        None => tree::get(members, "Time")
            .and_then(Node::word)
            .and_then(|text| time::written(text, zone, message.at)),
    };
    let mut gather = Gather::of(device);
    gather.at(time);
    let mut outcome = Outcome::default();
    for (key, node) in members {
        match &**key {
            "Time" | "TempUnit" | "PressureUnit" | "SpeedUnit" | "Epoch" => {}
            "ZbReceived" => {
                for (address, node) in node.members().unwrap_or_default() {
                    let reading = zigbee(device, address, node, &declared, time)?;
                    outcome.readings.extend(reading);
                }
            }
            "ENERGY" => match node {
                Node::Object(inner) => {
                    for (key, node) in inner {
                        energy(&mut gather, key, node, &declared)?;
                    }
                }
                other => gather.node("energy", Unit::Unknown, other)?,
            },
            _ => match node {
                Node::Leaf(scalar) if is_switch(key) => {
                    gather.leaf(&snake(key), Unit::Unknown, &state(scalar.clone()))?;
                }
                _ => sensor(&mut gather, "", key, node, &declared)?,
            },
        }
    }
    outcome.readings.extend(gather.finish());
    Ok(outcome)
}

/// One member: a sensor with its quantities, or a quantity of the device itself.
fn sensor(
    gather: &mut Gather,
    path: &str,
    key: &str,
    node: &Node<'_>,
    declared: &Declared<'_>,
) -> Result<(), DecodeError> {
    let own = match key {
        "SSId" => "ssid".to_owned(),
        "BSSId" => "bssid".to_owned(),
        _ => snake(key),
    };
    let name = if path.is_empty() {
        own.clone()
    } else {
        format!("{path}_{own}")
    };
    match node {
        Node::Object(members) => members
            .iter()
            .try_for_each(|(key, node)| sensor(gather, &name, key, node, declared)),
        // A leaf, or a list of the same: `"MLX90640":{"Temperature":[30.8,28.5]}`.
        node => {
            let unit = quantity(path, &own.to_ascii_lowercase(), declared);
            gather.node(&name, unit.map_or(Unit::Unknown, Unit::Is), node)
        }
    }
}

fn quantity<'t>(sensor: &str, name: &str, declared: &Declared<'t>) -> Option<&'t str> {
    // `TX23":{"Speed":{"Act":14.8,"Max":14.8}`: what, then which of its values.
    if let ("avg" | "min" | "max" | "range", Some((_, "Dir"))) = (name, sensor.rsplit_once('_')) {
        return Some("deg");
    }
    if let ("act" | "avg" | "min" | "max", Some((above, what))) = (name, sensor.rsplit_once('_')) {
        return quantity(above, &what.to_ascii_lowercase(), declared);
    }
    let lightning = sensor.starts_with("AS3935");
    let radar = sensor.starts_with("LD2410");
    let name = match name.rsplit_once("_l") {
        Some((what, "1" | "2" | "3")) => what,
        _ => name.trim_end_matches(|c: char| c.is_ascii_digit()),
    };
    let time_of_flight = |s: &str| s.starts_with("VL53") || s.starts_with("VL6180");
    Some(match name {
        "temperature"
        | "dew_point"
        | "heat_index"
        | "feels_like"
        | "ambient_temperature"
        | "object_temperature"
        | "object_temp"
        | "ambient_temp"
        | "objtmp"
        | "ambtmp" => declared.temperature,
        "pressure" | "sea_pressure" | "qnh" => declared.pressure,
        // Of a light, in `STATE`, it is how fast it fades.
        "speed" if sensor.is_empty() => return None,
        // Of a pump, which of its steps.
        "speed" if sensor.ends_with("Filtration") => return None,
        "speed" | "wind_speed" | "wind_gust" => declared.speed,
        "humidity" | "moisture" => "%",
        "illuminance" | "lux" => "lx",
        "carbon_dioxide" | "eco" | "co" => "ppm",
        "tvoc" => "ppb",
        "pm" | "pm1" | "pm2.5" | "pm10" | "cf" | "cf1" | "cf2.5" | "cf10" | "pm2." | "cf2." => {
            "µg/m³"
        }
        "distance" if time_of_flight(sensor) => "mm",
        // How far the storm is; its energy, and that of an echo, is a number without a unit.
        "distance" if lightning => "km",
        "energy" if lightning || radar => return None,
        "distance" => "cm",
        "gas" if sensor.to_ascii_uppercase().starts_with("BME68") => "kOhm",
        "signal" if sensor == "Wifi" => "dBm",
        "rssi" if sensor == "Wifi" => "%",
        "load_avg" => "%",
        "uptime_sec" => "s",
        "vcc" => "V",
        "uv_power" => "W/m2",
        "weight" if sensor.starts_with("HX711") => "kg",
        _ => return units::usual_unit(name),
    })
}

/// A member of `ENERGY`; a list has one element a phase.
fn energy(
    gather: &mut Gather,
    key: &str,
    node: &Node<'_>,
    declared: &Declared<'_>,
) -> Result<(), DecodeError> {
    // What the chip measures of itself: `"BL09XX":{"Temperature":46.5}`.
    if let Node::Object(_) = node {
        return sensor(gather, "energy", key, node, declared);
    }
    let (name, unit) = match key {
        "Total" => ("energy_total".into(), "kWh"),
        "Yesterday" => ("energy_yesterday".into(), "kWh"),
        "Today" => ("energy_today".into(), "kWh"),
        "Period" => ("energy_period".into(), "Wh"),
        "ExportActive" => ("energy_export".into(), "kWh"),
        "ImportActive" => ("energy_import".into(), "kWh"),
        "ExportReactive" => ("energy_export_reactive".into(), "kvarh"),
        "ImportReactive" => ("energy_import_reactive".into(), "kvarh"),
        "Power" => ("power".into(), "W"),
        "ApparentPower" => ("apparent_power".into(), "VA"),
        "ReactivePower" => ("reactive_power".into(), "var"),
        "Factor" => ("power_factor".into(), ""),
        "Frequency" => ("frequency".into(), "Hz"),
        "Voltage" => ("voltage".into(), "V"),
        "Current" => ("current".into(), "A"),
        "TotalTariff" => ("energy_total".into(), "kWh"),
        "ExportTariff" => ("energy_export".into(), "kWh"),
        "PhaseAngle" => ("energy_phase_angle".into(), "deg"),
        "Temperature" => ("energy_temperature".into(), declared.temperature),
        other => (format!("energy_{}", snake(other)), ""),
    };
    let part = if key.ends_with("Tariff") { "t" } else { "l" };
    let unit = if unit.is_empty() {
        Unit::Unknown
    } else {
        Unit::Is(unit)
    };
    match node {
        Node::List(phases) => phases.iter().enumerate().try_for_each(|(index, node)| {
            gather.node(&format!("{name}_{part}{}", index + 1), unit, node)
        }),
        node => gather.node(&name, unit, node),
    }
}

/// `{"0x1234":{"Device":"0x1234","Name":"Kitchen","Temperature":21.5,…}}`.
fn zigbee(
    bridge: Option<&str>,
    address: &str,
    node: &Node<'_>,
    declared: &Declared<'_>,
    time: Option<crate::decode::DeviceTime>,
) -> Result<Option<crate::decode::Decoded>, DecodeError> {
    let Node::Object(members) = node else {
        return Ok(None);
    };
    let said = |name| tree::get(members, name).and_then(Node::text);
    // With SetOption83 the key is the name, else the address.
    let named = (!address.starts_with("0x")).then_some(address);
    let own = said("Name").or(named).or(said("Device")).unwrap_or(address);
    // With SetOption89 the topic names the sensor already.
    let short = address.trim_start_matches("0x");
    let bridge = bridge.map(|bridge| match bridge.rsplit_once('/') {
        Some((above, last)) if last == own || last == address || last == short => above,
        _ => bridge,
    });
    let device = match bridge {
        Some(bridge) => format!("{bridge}/{own}"),
        None => own.to_owned(),
    };
    let mut gather = Gather::of(Some(&device));
    gather.at(time);
    gather.meta("model", said("ModelId"));
    for (key, node) in members {
        match &**key {
            "Device" | "Name" | "IEEEAddr" | "ModelId" | "Manufacturer" => {}
            // The cluster of a switch; what a plug measures is `ActivePower`.
            "Power" => match node {
                Node::Leaf(scalar) => {
                    gather.leaf("power", Unit::Unknown, &state(scalar.clone()))?;
                }
                node => gather.node("power", Unit::Unknown, node)?,
            },
            "LinkQuality" => gather.node("linkquality", Unit::Unknown, node)?,
            "BatteryPercentage" => gather.node("battery", Unit::Is("%"), node)?,
            "BatteryVoltage" => gather.node("battery", Unit::Is("V"), node)?,
            _ => sensor(&mut gather, "", key, node, declared)?,
        }
    }
    Ok(gather.finish())
}
