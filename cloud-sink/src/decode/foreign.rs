//! Records that somebody else's producer wrote: a JSON object with a device and values.
//!
//! ```json
//! {"device": "press-4", "time": "2026-11-23T21:04:07Z", "fields": {"temperature_c": 21.5}}
//! {"device_id": "press-4", "temperature": {"oil": 60.1, "air": 21.5}, "on": true}
//! ```
//!
//! `device` or `device_id` names the device. `time`, `ts` or `timestamp` in RFC 3339 is its time, else
//! the broker's timestamp. `fields`, else every other member, are the values; nested objects become
//! `outer_inner`, names become canonical, `null` is no value. Numbers are floats, for many
//! producers write 21.0 as 21; only integers beyond 2^53 stay such. What cannot be stored whole (an array, an
//! integer beyond 64 bits, two names that become one) makes the record a dead letter, for half a
//! reading would look like a whole one.

use protocol::{
    Clock, DeviceId, FieldName, Fields, MAX_FIELDS, Metadata, Reading, Timestamp, Value,
};
use serde_json::{Map, Value as Json};

use super::{Reason, Undecodable};
use crate::{dead_letter::origin, document::Document, message::Message};

const MAX_DEPTH: usize = 8;
/// Whole numbers up to this are the same as floats.
const EXACT: u64 = 1 << 53;

pub(super) fn reading(message: &Message, value: &[u8]) -> Result<Document, Undecodable> {
    let failed = |detail: String| Undecodable::new(Reason::DecodeFailed, detail);
    let mut object: Map<String, Json> = serde_json::from_slice(value)
        .map_err(|error| failed(format!("no JSON object: {error}")))?;

    let named = ["device", "device_id"]
        .iter()
        .find_map(|name| object.remove(*name));
    let device = match named {
        Some(Json::String(name)) => {
            DeviceId::encode(&name).map_err(|error| failed(error.to_string()))?
        }
        _ => {
            let detail = "no text member device or device_id";
            return Err(Undecodable::new(Reason::DeviceMissing, detail));
        }
    };
    let stated = ["time", "ts", "timestamp"].iter().find_map(|name| {
        let time: Timestamp = object.get(*name)?.as_str()?.parse().ok()?;
        object.remove(*name);
        Some(time)
    });
    // Of a replay: when it came first, and where.
    let at = origin(message);
    let arrived = at
        .timestamp_ms
        .and_then(|ms| Timestamp::from_micros(ms.checked_mul(1000)?).ok());
    let Some(time) = stated.or(arrived) else {
        return Err(failed("neither a time nor a broker timestamp".into()));
    };
    let values = match object.remove("fields") {
        Some(Json::Object(fields)) => fields,
        Some(other) => {
            object.insert("fields".into(), other);
            object
        }
        None => object,
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

fn flatten(
    prefix: &str,
    object: Map<String, Json>,
    depth: usize,
    fields: &mut Vec<(FieldName, Value)>,
) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("objects nested deeper than {MAX_DEPTH}"));
    }
    for (name, value) in object {
        let path = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}_{name}")
        };
        let value = match value {
            Json::Null => continue,
            Json::Object(inner) => {
                flatten(&path, inner, depth + 1, fields)?;
                continue;
            }
            Json::Array(_) => return Err(format!("member {path:?} is an array")),
            Json::Bool(state) => Value::Bool(state),
            Json::String(text) => Value::Text(text.into()),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), Some(float)) if whole.unsigned_abs() <= EXACT => Value::Float(float),
                (Some(whole), _) => Value::Int(whole),
                (None, Some(float)) if number.is_f64() => Value::Float(float),
                _ => return Err(format!("member {path:?} is an integer beyond 64 bits")),
            },
        };
        let name = FieldName::normalise(&path).map_err(|error| error.to_string())?;
        if fields.len() == MAX_FIELDS {
            return Err(format!("more than {MAX_FIELDS} values"));
        }
        fields.push((name, value));
    }
    Ok(())
}
