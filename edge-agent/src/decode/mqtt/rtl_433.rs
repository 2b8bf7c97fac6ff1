//! rtl_433, which receives radio sensors.
//!
//! Sources: github.com/merbanan/rtl_433, `docs/DATA_FORMAT.md` (fields and units), `docs/OPERATION.md`
//! and `-F mqtt` in its help (topics, `-M time:…`).
//!
//! | topic | payload | here |
//! |---|---|---|
//! | `rtl_433/HOST/events` or the user's | `{"time":…,"model":"Acurite-Tower","id":11524,"channel":"A","temperature_C":3.5}` | a reading |
//! | `rtl_433/HOST/devices/MODEL/CHANNEL/ID/FIELD` | a bare value | a reading of one field |
//! | `…/availability` | `online`, `offline` | link of the receiver |
//! | `…/states` | statistics | nothing |
//!
//! A device is `model/subtype/channel/id`, without what a model does not send: that is the default order
//! of rtl_433's own device topics. Names carry the unit (`temperature_F`, `wind_avg_km_h`), converted to
//! the catalogue's; `humidity` and `moisture` are percent, `rssi`, `snr`, `noise` dB, `freq` MHz. `mic`
//! and `mod` describe the radio frame and are left out; of a quantity that is sent in two units the one is kept that needs no
//! conversion. Times: ISO 8601 with or without offset, local
//! time (`timezone`), seconds since 1970; `@0.1s` counts from the start of a file and is none.

use super::{
    Message, NEITHER, Options, Outcome, availability,
    gather::{Gather, Unit},
    time,
    tree::{self, Node},
};
use crate::decode::{
    DecodeError, Scalar,
    units::{self, Canonical, Conversion},
};

/// Reads one message.
///
/// # Errors
/// A payload that is no JSON object with a model.
pub fn decode(message: &Message<'_>, options: &Options) -> Result<Outcome, DecodeError> {
    let last = message.topic.rsplit('/').next().unwrap_or_default();
    match last {
        "availability" => {
            return availability(message.payload)
                .map(|online| Outcome::link(None, online))
                .ok_or(NEITHER);
        }
        "states" => return Ok(Outcome::default()),
        _ => {}
    }
    if message.payload.trim_ascii_start().first() != Some(&b'{') {
        return one(message);
    }
    tree::read_object(message.payload, |members| {
        let said = |name| tree::get(members, name).and_then(Node::word);
        let Some(model) = said("model") else {
            return Err(DecodeError::NotAsPreset("an rtl_433 event names its model"));
        };
        let parts = [Some(model), said("subtype"), said("channel"), said("id")];
        let device: Vec<&str> = parts
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty())
            .collect();
        let mut gather = Gather::of(Some(&device.join("/")));
        gather.meta("model", Some(model));
        gather.meta("type", said("type"));
        let zone = options.timezone.as_ref();
        gather.at(said("time").and_then(|text| time::written(text, zone, message.at)));
        let named: Vec<_> = members.iter().map(|(key, _)| units::split(key)).collect();
        for (at, (key, node)) in members.iter().enumerate() {
            match &**key {
                "time" | "model" | "subtype" | "channel" | "id" | "type" | "mic" | "mod" => {}
                _ if is_said_better(&named, at) => {}
                key => {
                    let (name, unit) = quantity(key);
                    gather.node(name, unit, node)?;
                }
            }
        }
        Ok(Outcome::reading(gather.finish()))
    })
}

/// Whether another member says the same in the unit that is kept, as `light_lux` beside `light_klx` and
/// `pressure_hPa` beside `pressure_kPa`.
fn is_said_better(named: &[Option<Canonical>], at: usize) -> bool {
    let kept = |one: &Canonical| one.conversion == Conversion::NONE;
    let Some(own) = named[at].as_ref().filter(|own| !kept(own)) else {
        return false;
    };
    let mut others = named.iter().flatten();
    others.any(|other| other.name == own.name && kept(other))
}

/// The quantity and how its unit is known.
fn quantity(key: &str) -> (&str, Unit<'static>) {
    // Until 2019 it was `wind_speed_ms`, which are no milliseconds.
    if let Some(speed) = key.strip_suffix("_ms").filter(|k| k.ends_with("_speed")) {
        return (speed, Unit::Is("m/s"));
    }
    let unit = match key.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_') {
        "humidity" | "moisture" => Unit::Is("%"),
        "rssi" | "snr" | "noise" => Unit::Is("dB"),
        "freq" => Unit::Is("MHz"),
        _ => Unit::InName,
    };
    (key, unit)
}

/// A value in a topic of its own.
fn one(message: &Message<'_>) -> Result<Outcome, DecodeError> {
    let Some((_, path)) = message.topic.split_once("/devices/") else {
        return Err(DecodeError::NotAnObject);
    };
    let Some((device, key)) = path.rsplit_once('/') else {
        return Ok(Outcome::default());
    };
    if matches!(
        key,
        "time" | "model" | "subtype" | "channel" | "id" | "type" | "mic" | "mod"
    ) {
        return Ok(Outcome::default());
    }
    let text = std::str::from_utf8(message.payload)
        .map_err(|error| DecodeError::NotUtf8(error.valid_up_to()))?;
    let mut gather = Gather::of(Some(device));
    let (name, unit) = quantity(key);
    gather.leaf(name, unit, &Scalar::bare(text.trim()))?;
    Ok(Outcome::reading(gather.finish()))
}
