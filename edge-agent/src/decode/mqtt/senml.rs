//! SenML in JSON and CBOR: RFC 8428, with the units of RFC 8798 and the names of RFC 9039.
//!
//! A pack is a list of records. Base fields (`bn`, `bt`, `bu`, `bv`, `bs`) hold from their record on.
//! `bn` + `n` is the name, `bt` + `t` the time: below 2^28 seconds it is relative to now, negative in the
//! past, and now is when the pack arrived. `bv` and `bs` are added where a record has `v` or `s`, and make
//! no value where it has none. Records of one device and time are one reading; a name that appears again starts another.
//!
//! A name is one text, and where the device ends in it is a custom, not a rule: the base name is the
//! device when the record adds a name of its own; else the part before the last `/`, or, in a
//! `urn:dev:…`, what follows its identifier (RFC 9039: `_` or `:`). A name that cannot be split is the
//! field where the topic or the configuration names the device, and the device otherwise; its field is
//! then `value`, or `latitude` and `longitude` by its unit.
//!
//! Refused as a whole, as the RFC demands: a version above 10, and a label that ends with `_`, which must
//! be understood. In SenML `C` is the coulomb, `F` the farad, `S` the siemens, `H` the henry, `B` the bel.

mod cbor;

use std::borrow::Cow;

use protocol::{MAX_TEXT_BYTES, Timestamp, Value};

use super::{
    Message, Outcome,
    gather::{Gather, Unit},
    tree::{self, Node},
};
use crate::decode::{DecodeError, DeviceTime, Problem, Scalar};

/// Below this a time is relative: RFC 8428, 4.5.3.
const RELATIVE_BELOW: f64 = 268_435_456.0;
/// The field of a record whose name is all device.
const NAMELESS: &str = "value";
/// Most readings of one message.
const MAX_READINGS: usize = 1000;

type Members<'a> = [(Cow<'a, str>, Node<'a>)];

/// What holds from the last record on.
#[derive(Default)]
struct Base {
    name: String,
    time: f64,
    unit: Option<String>,
    value: Option<f64>,
    sum: Option<f64>,
}

/// A reading that is still growing.
struct Group {
    device: Option<String>,
    time: f64,
    names: Vec<String>,
    gather: Gather,
}

/// Reads one pack.
///
/// # Errors
/// Not a list of records, a version or a label this build does not know.
pub fn decode(message: &Message<'_>) -> Result<Outcome, DecodeError> {
    if cbor::is_pack(message.payload) {
        let json = cbor::to_json(message.payload)?;
        return pack(json.as_bytes(), message);
    }
    pack(message.payload, message)
}

fn pack(json: &[u8], message: &Message<'_>) -> Result<Outcome, DecodeError> {
    tree::read(json, |pack| {
        // Some senders leave the list out around a single record.
        let single = [pack];
        let records = match &single {
            [Node::List(records)] => records.as_slice(),
            [Node::Object(_)] => single.as_slice(),
            _ => {
                return Err(DecodeError::NotAsPreset(
                    "a SenML pack is a list of records",
                ));
            }
        };
        let mut base = Base::default();
        let mut groups: Vec<Group> = Vec::new();
        let mut outcome = Outcome::default();
        for (index, record) in records.iter().enumerate() {
            let read = match record {
                Node::Object(members) => {
                    mandatory(members)?;
                    one(members, &mut base, &mut groups, message)
                }
                _ => Err(DecodeError::NotAsPreset("a SenML record is an object")),
            };
            match read {
                Err(error @ (DecodeError::NotAsPreset(_) | DecodeError::NoDevice)) => {
                    outcome
                        .rejected
                        .push((format!("record {index}").into(), error));
                }
                other => other?,
            }
            if groups.len() > MAX_READINGS {
                return Err(DecodeError::TooManyMembers);
            }
        }
        outcome.readings = groups
            .into_iter()
            .filter_map(|group| group.gather.finish())
            .collect();
        Ok(outcome)
    })
}

/// What a reader may not pass over.
fn mandatory(members: &Members<'_>) -> Result<(), DecodeError> {
    for (label, node) in members {
        if label.ends_with('_') {
            return Err(DecodeError::NotAsPreset(
                "a SenML label that ends with _ must be understood and is not",
            ));
        }
        if label == "bver" && node.number().is_none_or(|version| version > 10.0) {
            return Err(DecodeError::NotAsPreset(
                "this SenML version is unknown, 10 is the newest known",
            ));
        }
    }
    Ok(())
}

fn one(
    members: &Members<'_>,
    base: &mut Base,
    groups: &mut Vec<Group>,
    message: &Message<'_>,
) -> Result<(), DecodeError> {
    let text = |label| tree::get(members, label).and_then(Node::text);
    let number = |label| tree::get(members, label).and_then(Node::number);
    if let Some(name) = text("bn") {
        name.clone_into(&mut base.name);
    }
    base.time = number("bt").unwrap_or(base.time);
    if let Some(unit) = text("bu") {
        base.unit = Some(unit.to_owned());
    }
    base.value = number("bv").or(base.value);
    base.sum = number("bs").or(base.sum);

    let has_value = ["v", "vs", "vb", "vd", "s"]
        .iter()
        .any(|label| tree::get(members, label).is_some());
    if !has_value {
        let only_base = members.iter().all(|(label, _)| label.starts_with('b'));
        return if only_base {
            Ok(())
        } else {
            Err(DecodeError::NotAsPreset("a SenML record without a value"))
        };
    }
    let own = text("n").unwrap_or_default();
    let (device, mut field) = split(&base.name, own, message.device.is_some())?;
    let time = base.time + number("t").unwrap_or(0.0);
    let unit = text("u").or(base.unit.as_deref()).unwrap_or_default();
    // A position has two values and often no name for either.
    if field == NAMELESS && matches!(unit, "lat" | "lon") {
        field = if unit == "lat" {
            "latitude"
        } else {
            "longitude"
        }
        .to_owned();
    }
    let group = group(groups, device, time, &field, message.at);
    values(&mut group.gather, members, &field, unit, base)
}

fn values(
    gather: &mut Gather,
    members: &Members<'_>,
    field: &str,
    unit: &str,
    base: &Base,
) -> Result<(), DecodeError> {
    let (name, unit) = named(field, unit);
    let unit = unit.map_or(Unit::Unknown, Unit::Is);
    for (label, node) in members {
        match (&**label, node) {
            ("v", Node::Leaf(Scalar::Number(digits))) => match base.value {
                // Without a base the digits count: a large integer is refused, not rounded.
                None => gather.leaf(&name, unit, &Scalar::Number(digits))?,
                Some(base) => match node.number() {
                    Some(value) => gather.float(&name, unit, base + value)?,
                    None => gather.reject(&name, Problem::NotFinite)?,
                },
            },
            ("vb", Node::Leaf(Scalar::Bool(state))) => {
                gather.put(field, Ok(Value::Bool(*state)))?;
            }
            ("vs" | "vd", Node::Leaf(Scalar::Text(text))) => {
                let value = if text.len() > MAX_TEXT_BYTES {
                    Err(Problem::TextTooLong(text.len()))
                } else {
                    Ok(Value::Text((&**text).into()))
                };
                gather.put(field, value)?;
            }
            ("s", Node::Leaf(Scalar::Number(_))) => {
                let sum = node.number().unwrap_or(f64::NAN) + base.sum.unwrap_or(0.0);
                gather.float(&format!("{field}_sum"), Unit::Unknown, sum)?;
            }
            ("v" | "s", _) => gather.reject(field, Problem::Word)?,
            ("vb" | "vs" | "vd", _) => {
                gather.reject(field, Problem::NotKept("not of the type of its label"))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The unit by the catalogue, else as part of the name.
fn named(field: &str, unit: &str) -> (String, Option<&'static str>) {
    let word = match unit {
        "" => return (field.to_owned(), None),
        "C" => "coulomb",
        "F" => "farad",
        "S" => "siemens",
        "H" => "henry",
        "B" => "bel",
        "lat" | "lon" => return (field.to_owned(), Some("deg")),
        other => {
            return match KNOWN.iter().find(|known| **known == other) {
                Some(known) => (field.to_owned(), Some(known)),
                None => (format!("{field}_{other}"), None),
            };
        }
    };
    (format!("{field}_{word}"), None)
}

/// The registry's units (RFC 8428 12.1, RFC 8798) the catalogue has.
static KNOWN: &[&str] = &[
    "m", "kg", "g", "s", "A", "K", "cd", "mol", "Hz", "rad", "N", "Pa", "J", "W", "V", "Ohm", "T",
    "Cel", "lm", "lx", "m2", "m3", "l", "m/s", "m/s2", "m3/s", "l/s", "W/m2", "cd/m2", "bit",
    "bit/s", "pH", "dB", "dBW", "count", "/", "%", "%RH", "%EL", "EL", "1/s", "1/min", "beat/min",
    "S/m", "VA", "VAs", "var", "vars", "kg/m3", "deg", "NTU", "ms", "min", "h", "MHz", "kW", "kVA",
    "kvar", "Ah", "Wh", "kWh", "varh", "kvarh", "kVAh", "mV", "mA", "dBm", "ug/m3", "hPa", "KiB",
    "GB", "Mbit/s", "B/s", "MB/s", "mm/h", "m/h", "ppm", "/100", "/1000", "mm", "cm", "km", "km/h",
];

/// Device and field of a name.
fn split(
    base: &str,
    own: &str,
    device_known: bool,
) -> Result<(Option<String>, String), DecodeError> {
    let trimmed = base.trim_end_matches([':', '/', ';', '_', '.', '-', '#']);
    if !trimmed.is_empty() && !own.is_empty() {
        let own = own.trim_start_matches([':', '/', '_', '.', '-']);
        return Ok((Some(trimmed.to_owned()), own.to_owned()));
    }
    let whole = if own.is_empty() { trimmed } else { own };
    if whole.is_empty() {
        return Err(DecodeError::NotAsPreset("a SenML record without a name"));
    }
    if let Some((device, field)) = parts(whole) {
        return Ok((Some(device.to_owned()), field.to_owned()));
    }
    Ok(
        if device_known || !(whole.starts_with("urn:") || own.is_empty()) {
            (None, whole.to_owned())
        } else {
            (Some(whole.to_owned()), NAMELESS.to_owned())
        },
    )
}

fn parts(name: &str) -> Option<(&str, &str)> {
    if let Some(urn) = name.strip_prefix("urn:dev:") {
        // `urn:dev:TYPE:IDENTIFIER`, then components.
        let identifier = urn.find(':')? + 1;
        let end = identifier + urn[identifier..].find(['_', ':', '/'])?;
        let at = end + "urn:dev:".len();
        let field = &name[at + 1..];
        return (!field.is_empty()).then_some((&name[..at], field));
    }
    let (device, field) = name.rsplit_once('/')?;
    (!device.is_empty() && !field.is_empty()).then_some((device, field))
}

/// The reading a field belongs to.
fn group<'g>(
    groups: &'g mut Vec<Group>,
    device: Option<String>,
    time: f64,
    field: &str,
    at: Timestamp,
) -> &'g mut Group {
    // Only the newest of a device may grow: order in the pack is order of the readings.
    let found = groups.iter().rposition(|group| {
        group.device == device
            && group.time.to_bits() == time.to_bits()
            && !group.names.iter().any(|name| name == field)
    });
    let index = found.unwrap_or_else(|| {
        let mut gather = Gather::of(device.as_deref());
        gather.at(resolve(time, at));
        groups.push(Group {
            device,
            time,
            names: Vec::new(),
            gather,
        });
        groups.len() - 1
    });
    groups[index].names.push(field.to_owned());
    &mut groups[index]
}

fn resolve(time: f64, at: Timestamp) -> Option<DeviceTime> {
    if !time.is_finite() || time == 0.0 {
        return None;
    }
    if time < 0.0 {
        let age = std::time::Duration::try_from_secs_f64(-time).ok()?;
        return Some(DeviceTime::Age(age));
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of our days have 51 bits"
    )]
    let micros = if time < RELATIVE_BELOW {
        at.as_micros() as f64 + time * 1e6
    } else {
        time * 1e6
    };
    if micros >= 9e15 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 9e15")]
    Timestamp::from_micros(micros.round() as i64)
        .ok()
        .map(DeviceTime::At)
}
