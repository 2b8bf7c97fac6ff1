//! The readable form, version 1:
//!
//! ```json
//! {"v":1,"gateway":"gw7","device":"meter-1","epoch":"1f3a9c04d2be","seq":88141,
//!  "digest":"4711fa3a9c04d2be","time":"2026-11-23T21:04:07.113Z","clock":"synced",
//!  "src":{"boot":7,"seq":12},"fields":{"voltage_v":230.2,"relay_on":true},"meta":{"model":"sdm120"}}
//! ```
//!
//! A number with a decimal point or an exponent is a float, one without is an integer: `21.0` and `21`
//! differ. `boot` and `uptime_us` appear only with the clock `unsynced`; `src` and `meta` only where
//! known. Members a reader does not know are ignored, so members may be added without a new version.

use alloc::{boxed::Box, format, vec::Vec};
use core::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
    ser::SerializeMap,
};

use super::{Record, RecordError, json_reason};
use crate::{
    BootId, Clock, DeviceId, Digest, Epoch, FieldName, Fields, GatewayId, Metadata, Reading,
    RecordId, SourceId, Timestamp, Value, reading::MAX_FIELDS,
};

/// `content-type` of this form.
pub const CONTENT_TYPE: &str = "application/json";
const VERSION: u64 = 1;

#[derive(Serialize)]
struct Writing<'a> {
    v: u64,
    gateway: &'a GatewayId,
    device: &'a DeviceId,
    #[serde(with = "crate::as_text")]
    epoch: Epoch,
    seq: u64,
    #[serde(with = "crate::as_text")]
    digest: Digest,
    #[serde(with = "crate::as_text")]
    time: Timestamp,
    clock: &'static str,
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "crate::as_text::option"
    )]
    boot: Option<BootId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src: Option<Source>,
    fields: JsonFields<'a>,
    #[serde(skip_serializing_if = "JsonMetadata::is_empty")]
    meta: JsonMetadata<'a>,
}

#[derive(Deserialize)]
struct Version {
    v: Option<u64>,
}

#[derive(Deserialize)]
struct Read {
    v: Option<u64>,
    gateway: GatewayId,
    device: DeviceId,
    #[serde(with = "crate::as_text")]
    epoch: Epoch,
    seq: u64,
    #[serde(with = "crate::as_text")]
    digest: Digest,
    #[serde(with = "crate::as_text")]
    time: Timestamp,
    clock: Box<str>,
    #[serde(default, with = "crate::as_text::option")]
    boot: Option<BootId>,
    uptime_us: Option<u64>,
    src: Option<Source>,
    fields: FieldsIn,
    #[serde(default)]
    meta: MetadataIn,
}

#[derive(Serialize, Deserialize)]
struct Source {
    boot: u64,
    seq: u64,
}

/// Appends the record to `out`.
///
/// # Errors
/// Never for a record made by this crate's constructors.
pub fn encode(record: &Record, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let Record {
        id,
        digest,
        reading,
    } = record;
    let (boot, uptime_us) = match reading.clock {
        Clock::Unsynced { boot, monotonic_us } => (Some(boot), Some(monotonic_us)),
        _ => (None, None),
    };
    let writing = Writing {
        v: VERSION,
        gateway: &id.gateway,
        device: &reading.device,
        epoch: id.epoch,
        seq: id.sequence,
        digest: *digest,
        time: reading.time,
        clock: reading.clock.as_str(),
        boot,
        uptime_us,
        src: reading.source.map(|source| Source {
            boot: source.boot,
            seq: source.sequence,
        }),
        fields: JsonFields(&reading.fields),
        meta: JsonMetadata(&reading.meta),
    };
    let text = serde_json::to_vec(&writing).map_err(malformed)?;
    out.extend_from_slice(&text);
    Ok(())
}

/// Reads one record.
///
/// # Errors
/// [`RecordError`].
pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
    let read: Read = match serde_json::from_slice(bytes) {
        Ok(read) => read,
        // What else a newer version holds is not ours to judge: its number is the better reason.
        Err(error) => {
            let Version { v } = serde_json::from_slice(bytes).map_err(malformed)?;
            return Err(not_version_1(v).unwrap_or_else(|| malformed(error)));
        }
    };
    if let Some(error) = not_version_1(read.v) {
        return Err(error);
    }
    if read.seq > RecordId::MAX_48 {
        return Err(RecordError::Malformed("seq beyond 48 bits".into()));
    }
    let clock = match (&*read.clock, read.boot, read.uptime_us) {
        ("device", ..) => Clock::Device,
        ("synced", ..) => Clock::Synced,
        ("corrected", ..) => Clock::Corrected,
        ("unsynced", Some(boot), Some(monotonic_us)) => Clock::Unsynced { boot, monotonic_us },
        ("unsynced", ..) => {
            return Err(RecordError::Malformed(
                "clock unsynced needs boot and uptime_us".into(),
            ));
        }
        _ => {
            return Err(RecordError::Malformed(
                "clock is none of device, synced, unsynced, corrected".into(),
            ));
        }
    };
    Ok(Record {
        id: RecordId {
            gateway: read.gateway,
            epoch: read.epoch,
            sequence: read.seq,
        },
        digest: read.digest,
        reading: Reading {
            device: read.device,
            time: read.time,
            clock,
            fields: read.fields.0,
            source: read.src.map(|src| SourceId {
                boot: src.boot,
                sequence: src.seq,
            }),
            meta: read.meta.0,
        },
    })
}

fn not_version_1(v: Option<u64>) -> Option<RecordError> {
    match v {
        Some(VERSION) => None,
        Some(version) if version > VERSION => Some(RecordError::UnknownVersion(version)),
        Some(_) => Some(RecordError::Malformed("there is no version 0".into())),
        None => Some(RecordError::Malformed("no version member \"v\"".into())),
    }
}

fn malformed(error: serde_json::Error) -> RecordError {
    RecordError::Malformed(json_reason(error))
}

struct JsonFields<'a>(&'a Fields);

impl Serialize for JsonFields<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut map = out.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0.iter() {
            match value {
                Value::Float(number) => map.serialize_entry(name.as_str(), number)?,
                Value::Int(number) => map.serialize_entry(name.as_str(), number)?,
                Value::Bool(state) => map.serialize_entry(name.as_str(), state)?,
                Value::Text(text) => map.serialize_entry(name.as_str(), text)?,
            }
        }
        map.end()
    }
}

struct JsonMetadata<'a>(&'a Metadata);

impl JsonMetadata<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for JsonMetadata<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_map(self.0.iter().map(|(name, text)| (name.as_str(), text)))
    }
}

struct FieldsIn(Fields);

impl<'de> Deserialize<'de> for FieldsIn {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let entries = entries::<ScalarIn, D>(from)?;
        let fields = entries
            .into_iter()
            .map(|(name, value)| (name, value.0))
            .collect();
        Fields::new(fields).map(Self).map_err(de::Error::custom)
    }
}

#[derive(Default)]
struct MetadataIn(Metadata);

impl<'de> Deserialize<'de> for MetadataIn {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Metadata::new(entries(from)?)
            .map(Self)
            .map_err(de::Error::custom)
    }
}

/// A map as a list, so that a name that appears twice is seen; bounded while it is read.
fn entries<'de, T, D>(from: D) -> Result<Vec<(FieldName, T)>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Entries<T>(core::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
        type Value = Vec<(FieldName, T)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of names")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = map.next_entry()? {
                if entries.len() == MAX_FIELDS {
                    return Err(de::Error::custom(format!("more than {MAX_FIELDS} entries")));
                }
                entries.push(entry);
            }
            Ok(entries)
        }
    }
    from.deserialize_map(Entries(core::marker::PhantomData))
}

struct ScalarIn(Value);

impl<'de> Deserialize<'de> for ScalarIn {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = ScalarIn;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a boolean or a text")
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<ScalarIn, E> {
                Ok(ScalarIn(Value::Float(number)))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<ScalarIn, E> {
                Ok(ScalarIn(Value::Int(number)))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ScalarIn, E> {
                let number = i64::try_from(number).map_err(|_| {
                    E::custom(format!("integer {number} is beyond 64 bits with sign"))
                })?;
                Ok(ScalarIn(Value::Int(number)))
            }
            fn visit_bool<E: de::Error>(self, state: bool) -> Result<ScalarIn, E> {
                Ok(ScalarIn(Value::Bool(state)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ScalarIn, E> {
                Ok(ScalarIn(Value::Text(text.into())))
            }
        }
        from.deserialize_any(Scalar)
    }
}
