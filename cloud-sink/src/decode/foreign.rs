//! Records that somebody else's producer wrote: an object with a device and values.
//!
//! ```json
//! {"device": "press-4", "time": "2026-11-23T21:04:07Z", "fields": {"temperature_c": 21.5}}
//! {"device_id": "press-4", "temperature": {"oil": 60.1, "air": 21.5}, "on": true}
//! ```
//!
//! `device` or `device_id` names the device, else the subject of a CloudEvent. `time`, `ts` or
//! `timestamp` is its time (a text in RFC 3339, or a timestamp of Avro), else the CloudEvent's, else the
//! broker's. `fields`, else every other member, are the values; nested objects become `outer_inner`,
//! names become canonical, `null` is no value. What cannot be stored whole (an array, bytes, an integer
//! beyond 64 bits, two names that become one) makes the record a dead letter, for half a reading would
//! look like a whole one.

use protocol::{
    Clock, DeviceId, FieldName, Fields, MAX_FIELDS, Metadata, Reading, Timestamp, Value,
};

use super::{
    Reason, Undecodable,
    member::{Member, Members},
};
use crate::{dead_letter::origin, document::Document, message::Message};

const MAX_DEPTH: usize = 8;

/// What a CloudEvent says beside its data.
#[derive(Debug, Default)]
pub struct Attributes {
    /// Whom it is about.
    pub subject: Option<String>,
    /// When it happened.
    pub time: Option<Timestamp>,
}

pub fn reading(
    message: &Message,
    mut object: Members<'_>,
    attributes: Attributes,
) -> Result<Document, Undecodable> {
    let failed = |detail: String| Undecodable::new(Reason::DecodeFailed, detail);
    let device = match (
        take(&mut object, &["device", "device_id"], text),
        attributes.subject,
    ) {
        (Some(name), _) => name,
        (None, Some(subject)) if !names(&object, &["device", "device_id"]) => subject,
        _ => {
            let detail = "no text member device or device_id";
            return Err(Undecodable::new(Reason::DeviceMissing, detail));
        }
    };
    let device = DeviceId::encode(&device).map_err(|error| failed(error.to_string()))?;
    let stated = take(&mut object, &["time", "ts", "timestamp"], time).or(attributes.time);
    // Of a replay: when it came first, and where.
    let at = origin(message);
    let arrived = at
        .timestamp_ms
        .and_then(|ms| Timestamp::from_micros(ms.checked_mul(1000)?).ok());
    let Some(time) = stated.or(arrived) else {
        return Err(failed("neither a time nor a broker timestamp".into()));
    };
    let inner = object
        .iter()
        .position(|(name, value)| name == "fields" && matches!(value, Member::Object(_)));
    let values = match inner.map(|at| object.swap_remove(at).1) {
        Some(Member::Object(fields)) => fields,
        _ => object,
    };
    let mut fields = Vec::new();
    flatten("", values, 0, &mut fields).map_err(failed)?;
    if fields.is_empty() {
        let detail = "no member that could be a value";
        return Err(Undecodable::new(Reason::FieldsMissing, detail));
    }
    let reading = Reading {
        device,
        time,
        clock: Clock::Device,
        fields: Fields::new(fields).map_err(|error| failed(error.to_string()))?,
        source: None,
        meta: Metadata::default(),
    };
    let gateway = message.gateway();
    Ok(Document::foreign(reading, gateway, at, stated.is_some()))
}

fn names(object: &Members<'_>, wanted: &[&str]) -> bool {
    object.iter().any(|(name, _)| wanted.contains(&&**name))
}

/// Takes the first of the members that is what it should be.
fn take<T>(
    object: &mut Members<'_>,
    wanted: &[&str],
    read: impl Fn(&Member<'_>) -> Option<T>,
) -> Option<T> {
    wanted.iter().find_map(|wanted| {
        let at = object.iter().position(|(name, _)| name == wanted)?;
        let value = read(&object[at].1)?;
        object.remove(at);
        Some(value)
    })
}

fn text(member: &Member<'_>) -> Option<String> {
    match member {
        Member::Text(text) => Some(text.to_string()),
        _ => None,
    }
}

fn time(member: &Member<'_>) -> Option<Timestamp> {
    match member {
        Member::Text(text) => text.parse().ok(),
        Member::Time(time) => Some(*time),
        _ => None,
    }
}

fn flatten(
    prefix: &str,
    object: Members<'_>,
    depth: usize,
    fields: &mut Vec<(FieldName, Value)>,
) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("objects nested deeper than {MAX_DEPTH}"));
    }
    for (name, member) in object {
        let path = if prefix.is_empty() {
            name.into_owned()
        } else {
            format!("{prefix}_{name}")
        };
        let value = match member {
            Member::Null => continue,
            Member::Object(inner) => {
                flatten(&path, inner, depth + 1, fields)?;
                continue;
            }
            Member::Unfit(what) => return Err(format!("member {path:?} is {what}")),
            Member::Bool(state) => Value::Bool(state),
            Member::Text(text) => Value::Text(text.into()),
            Member::Time(time) => Value::Text(time.to_string().into()),
            Member::Float(number) => Value::Float(number),
            Member::Int(number) => Value::Int(number),
        };
        let name = FieldName::normalise(&path).map_err(|error| error.to_string())?;
        if fields.len() == MAX_FIELDS {
            return Err(format!("more than {MAX_FIELDS} values"));
        }
        fields.push((name, value));
    }
    Ok(())
}
