//! Our own records in Avro, whatever their schema declares.

use std::borrow::Cow;

use protocol::{
    BootId, Clock, FieldName, Fields, Metadata, Reading, Record, RecordId, SourceId, Timestamp,
    Value, schema::avro::field,
};

use super::member::{Member, Members};

/// What is found before it is put together.
#[derive(Default)]
struct Found<'a> {
    texts: [Option<Cow<'a, str>>; 5],
    longs: [Option<i64>; 3],
    time: Option<Timestamp>,
    source: Option<SourceId>,
    meta: Vec<(FieldName, Box<str>)>,
    fields: Vec<(FieldName, Value)>,
}

const TEXTS: [&str; 5] = ["gateway", "device", "epoch", "clock", "boot"];
const LONGS: [&str; 3] = ["sequence", "digest", "uptime_us"];

/// Puts a record together; a member behind the fixed ones is a declared field.
///
/// # Errors
/// Which member is not what it has to be.
pub fn record(members: Members<'_>) -> Result<Record, String> {
    let mut found = Found::default();
    for (name, member) in members {
        found.take(&name, member)?;
    }
    found.record()
}

impl<'a> Found<'a> {
    fn take(&mut self, name: &str, member: Member<'a>) -> Result<(), String> {
        let text = TEXTS.iter().position(|known| *known == name);
        let long = LONGS.iter().position(|known| *known == name);
        match (name, member, text, long) {
            (_, Member::Null, ..) => {}
            (_, Member::Text(text), Some(at), _) => self.texts[at] = Some(text),
            (_, Member::Int(number), _, Some(at)) => self.longs[at] = Some(number),
            ("time", Member::Time(time), ..) => self.time = Some(time),
            ("src", Member::Object(members), ..) => self.source = Some(source(&members)?),
            ("meta", Member::Object(entries), ..) => {
                for (name, member) in entries {
                    let Member::Text(text) = member else {
                        return Err(format!("meta {name:?} is no text"));
                    };
                    let name = FieldName::new(&*name).map_err(|error| error.to_string())?;
                    self.meta.push((name, text.into()));
                }
            }
            ("undeclared", Member::Object(entries), ..) => {
                for (name, member) in entries {
                    let name = FieldName::new(&*name).map_err(|error| error.to_string())?;
                    self.fields.push((name, value(member)?));
                }
            }
            (_, member, ..) => match field(name) {
                Some(field) => self.fields.push((field, value(member)?)),
                None => return Err(format!("member {name:?} is not what it has to be")),
            },
        }
        Ok(())
    }

    fn record(self) -> Result<Record, String> {
        let [gateway, device, epoch, clock, boot] = self.texts;
        let [sequence, digest, uptime_us] = self.longs;
        let sequence = u64::try_from(required("sequence", sequence)?)
            .ok()
            .filter(|sequence| *sequence <= RecordId::MAX_48)
            .ok_or("sequence beyond 48 bits")?;
        let clock = match &*required("clock", clock)? {
            "device" => Clock::Device,
            "synced" => Clock::Synced,
            "corrected" => Clock::Corrected,
            "unsynced" => Clock::Unsynced {
                boot: parsed::<BootId>("boot", boot)?,
                monotonic_us: required("uptime_us", uptime_us)?.cast_unsigned(),
            },
            _ => return Err("clock is none of device, synced, unsynced, corrected".into()),
        };
        let said = |error: protocol::FieldError| error.to_string();
        Ok(Record {
            id: RecordId {
                gateway: parsed("gateway", gateway)?,
                epoch: parsed("epoch", epoch)?,
                sequence,
            },
            digest: protocol::Digest(required("digest", digest)?.cast_unsigned()),
            reading: Reading {
                device: parsed("device", device)?,
                time: required("time", self.time)?,
                clock,
                fields: Fields::new(self.fields).map_err(said)?,
                source: self.source,
                meta: Metadata::new(self.meta).map_err(said)?,
            },
        })
    }
}

fn required<T>(name: &str, found: Option<T>) -> Result<T, String> {
    found.ok_or_else(|| format!("no member {name}"))
}

fn parsed<T>(name: &str, found: Option<Cow<'_, str>>) -> Result<T, String>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = required(name, found)?;
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn source(members: &Members<'_>) -> Result<SourceId, String> {
    let number = |wanted: &str| {
        let found = members.iter().find(|(name, _)| name == wanted);
        match found {
            Some((_, Member::Int(number))) => Ok(number.cast_unsigned()),
            _ => Err(format!("src has no long {wanted}")),
        }
    };
    Ok(SourceId {
        boot: number("boot")?,
        sequence: number("seq")?,
    })
}

fn value(member: Member<'_>) -> Result<Value, String> {
    match member {
        Member::Bool(state) => Ok(Value::Bool(state)),
        Member::Int(number) => Ok(Value::Int(number)),
        Member::Float(number) => Ok(Value::Float(number)),
        Member::Text(text) => Ok(Value::Text(text.into())),
        _ => Err("a value that is no scalar".into()),
    }
}
