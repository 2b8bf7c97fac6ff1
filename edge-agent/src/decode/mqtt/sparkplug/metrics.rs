//! From metrics that can be named to readings.

use prost::{Message, bytes::Bytes};
use protocol::{MAX_FIELDS, MAX_READING_BYTES, Timestamp, Value};

use super::super::{
    Outcome,
    gather::{Gather, Unit},
    time,
};
use super::payload::{MAX_TEMPLATES, Metric, Payload, Raw, value};
use crate::decode::{DecodeError, DeviceTime, Problem, excerpt};

/// Bytes of one reading we fill: names and values, so that the packed form stays below its bound.
const FULL_BYTES: usize = MAX_READING_BYTES * 3 / 4;

/// What a birth tells of a metric.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    /// The device it belongs to; none for the node itself.
    pub device: Option<String>,
    pub name: String,
    pub datatype: Option<u32>,
    pub unit: Option<Box<str>>,
}

/// A metric and its name.
pub(super) struct Named {
    pub metric: Metric,
    pub known: Known,
}

pub(super) fn open(bytes: &Bytes) -> Result<Metric, DecodeError> {
    Metric::decode(bytes.clone())
        .map_err(|error| DecodeError::NotProtobuf(excerpt(&error.to_string())))
}

/// The number by which a birth and a death belong together.
pub(super) fn session(body: &Payload) -> Option<u64> {
    let metric = body
        .metrics
        .iter()
        .filter_map(|bytes| open(bytes).ok())
        .find(|metric| metric.name.as_deref() == Some("bdSeq"))?;
    match metric.value? {
        Raw::Int(number) => Some(u64::from(number)),
        Raw::Long(number) => Some(number),
        _ => None,
    }
}

/// The command that makes a node send its births again.
pub(super) fn rebirth(at: Timestamp) -> Payload {
    let millis = u64::try_from(at.as_millis()).unwrap_or(0);
    let metric = Metric {
        name: Some("Node Control/Rebirth".into()),
        timestamp: Some(millis),
        datatype: Some(11),
        value: Some(Raw::Bool(true)),
        ..Metric::default()
    };
    Payload {
        timestamp: Some(millis),
        metrics: vec![metric.encode_to_vec().into()],
        ..Payload::default()
    }
}

/// One reading for each time, and more where one would be too large.
pub(super) fn readings(
    device: &str,
    sent: Option<u64>,
    named: Vec<Named>,
    outcome: &mut Outcome,
) -> Result<(), DecodeError> {
    let mut groups: Vec<Filling> = Vec::new();
    for Named { metric, known } in named {
        let control = ["Node Control/", "Device Control/"];
        let skip = metric.is_transient == Some(true)
            || known.name == "bdSeq"
            || control.iter().any(|prefix| known.name.starts_with(prefix));
        if skip || metric.is_null == Some(true) {
            continue;
        }
        let time = metric.timestamp.or(sent);
        let unit = metric.unit().map(Into::into).or(known.unit);
        let datatype = metric.datatype.or(known.datatype);
        let mut flat = Flat {
            device,
            time,
            groups: &mut groups,
        };
        if let Some(raw) = &metric.value {
            flat.put(&known.name, raw, datatype, unit.as_deref(), 0)?;
        }
    }
    let finished = groups.into_iter().filter_map(|group| group.gather.finish());
    outcome.readings.extend(finished);
    Ok(())
}

struct Filling {
    time: Option<u64>,
    fields: usize,
    bytes: usize,
    gather: Gather,
}

struct Flat<'f> {
    device: &'f str,
    time: Option<u64>,
    groups: &'f mut Vec<Filling>,
}

impl Flat<'_> {
    fn put(
        &mut self,
        name: &str,
        raw: &Raw,
        datatype: Option<u32>,
        unit: Option<&str>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        if let Raw::Template(template) = raw
            && template.is_definition != Some(true)
        {
            if depth == MAX_TEMPLATES {
                return self.gather(name, 0).reject(name, Problem::TooDeep);
            }
            for bytes in &template.metrics {
                let inner = match open(bytes) {
                    Ok(inner) if inner.is_null == Some(true) => continue,
                    Ok(inner) => inner,
                    Err(_) => {
                        self.gather(name, 0)
                            .reject(name, Problem::NotKept("damaged"))?;
                        continue;
                    }
                };
                let path = format!("{name}/{}", inner.name.as_deref().unwrap_or_default());
                if let Some(raw) = &inner.value {
                    self.put(&path, raw, inner.datatype, inner.unit(), depth + 1)?;
                }
            }
            return Ok(());
        }
        let value = value(raw, datatype);
        let size = match &value {
            Ok(Some(Value::Text(text))) => text.len(),
            _ => 9,
        };
        let gather = self.gather(name, size);
        match value {
            Ok(None) => Ok(()),
            Ok(Some(Value::Float(number))) => {
                gather.float(name, unit.map_or(Unit::Unknown, Unit::Is), number)
            }
            Ok(Some(value)) => gather.put(name, Ok(value)),
            Err(problem) => gather.reject(name, problem),
        }
    }

    /// The reading of this time that still has room.
    fn gather(&mut self, name: &str, size: usize) -> &mut Gather {
        let size = name.len() + size + 4;
        let time = self.time;
        let found = self.groups.iter().rposition(|group| group.time == time);
        let room = found.filter(|at| {
            let group = &self.groups[*at];
            group.fields < MAX_FIELDS && group.bytes + size <= FULL_BYTES
        });
        let at = room.unwrap_or_else(|| {
            let mut gather = Gather::of(Some(self.device));
            gather.at(time.and_then(millis));
            self.groups.push(Filling {
                time,
                fields: 0,
                bytes: 0,
                gather,
            });
            self.groups.len() - 1
        });
        self.groups[at].fields += 1;
        self.groups[at].bytes += size;
        &mut self.groups[at].gather
    }
}

/// Milliseconds, as the specification says; a sender that uses seconds is read by magnitude.
fn millis(millis: u64) -> Option<DeviceTime> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds of our days have 41 bits"
    )]
    time::unix(millis as f64)
}
