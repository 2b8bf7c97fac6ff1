//! A queue entry as a Kafka record, and its clock put right on the way.

use protocol::{
    Clock, Record, Timestamp,
    control::ClockCorrection,
    header::{self, Hops},
    record::{RecordError, avro, json, postcard},
    schema,
};
use rdkafka::message::{Header, OwnedHeaders};

use super::schema::Form;
use crate::{clock::Moment, queue::Entry};

/// Value and headers of one record.
pub struct Encoded {
    pub headers: OwnedHeaders,
    /// Of value and headers together.
    pub bytes: usize,
}

/// Encodes the value into `out`, whose content is replaced.
///
/// # Errors
/// Never for an entry that the queue could decode.
pub fn encode(
    entry: &Entry,
    form: &Form,
    sent: Timestamp,
    out: &mut Vec<u8>,
) -> Result<Encoded, RecordError> {
    out.clear();
    let content_type = match form {
        Form::Json => {
            json::encode(&entry.record, out)?;
            json::CONTENT_TYPE
        }
        Form::Postcard => {
            postcard::encode(&entry.record, out)?;
            postcard::CONTENT_TYPE
        }
        Form::Avro(id, schema) => {
            avro::encode(&entry.record, *id, schema, out);
            avro::CONTENT_TYPE
        }
        Form::JsonSchema(id) => {
            id.write(out);
            json::encode(&entry.record, out)?;
            schema::json::CONTENT_TYPE
        }
    };
    let hops = Hops {
        received: Some(entry.received),
        committed: Some(entry.committed),
        sent: Some(sent),
    };
    let mut bytes = out.len();
    let mut headers = OwnedHeaders::new_with_capacity(10);
    let mut insert = |key: &str, value: &str| {
        bytes += key.len() + value.len();
        let value = Some(value.as_bytes());
        let before = std::mem::take(&mut headers);
        headers = before.insert(Header { key, value });
    };
    for (key, value) in header::of(&entry.record, content_type, &hops) {
        insert(key, &value);
    }
    if let Some(trace) = header::trace(&entry.record.reading) {
        insert(header::TRACEPARENT, trace);
    }
    Ok(Encoded { headers, bytes })
}

/// Puts the time of a reading right that arrived in this boot before the clock was synchronised. Its
/// digest does not cover the time and stays.
pub fn correct(record: &mut Record, now: &Moment) {
    let Clock::Unsynced { boot, monotonic_us } = record.reading.clock else {
        return;
    };
    let Some(correction) = boot_time_us(now).filter(|_| boot == now.boot) else {
        return;
    };
    let time = i64::try_from(monotonic_us)
        .ok()
        .and_then(|since| correction.checked_add(since))
        .and_then(|micros| Timestamp::from_micros(micros).ok());
    if let Some(time) = time {
        record.reading.time = time;
        record.reading.clock = Clock::Corrected;
    }
}

/// The fact by which the sink corrects what was sent before; `None` while the clock is not synchronised.
pub fn clock_correction(gateway: &protocol::GatewayId, now: &Moment) -> Option<ClockCorrection> {
    Some(ClockCorrection {
        gateway: gateway.clone(),
        boot: now.boot,
        boot_time_us: boot_time_us(now)?,
        at: now.wall,
    })
}

/// When this boot began, once that is known.
fn boot_time_us(now: &Moment) -> Option<i64> {
    let since = i64::try_from(now.monotonic_us).ok()?;
    now.synced
        .then(|| now.wall.as_micros().checked_sub(since))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{
        BootId, DeviceId, Digest, Epoch, FieldName, Fields, GatewayId, Metadata, Reading, RecordId,
        Value, header::Headers, schema::SchemaId,
    };
    use rdkafka::message::Headers as _;

    fn time(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros).unwrap()
    }

    fn entry(clock: Clock) -> Entry {
        let name = FieldName::new("temperature_c").unwrap();
        let reading = Reading {
            device: DeviceId::new("meter-1").unwrap(),
            time: time(5_000_000),
            clock,
            fields: Fields::new(vec![(name, Value::Float(21.0))]).unwrap(),
            source: None,
            meta: Metadata::default(),
        };
        Entry {
            record: Record {
                id: RecordId {
                    gateway: GatewayId::new("gw7").unwrap(),
                    epoch: Epoch::from_random(7),
                    sequence: 3,
                },
                digest: Digest::of(&reading),
                reading,
            },
            received: time(1),
            committed: time(2),
        }
    }

    #[test]
    fn an_entry_becomes_value_and_headers_that_the_sink_reads_back() {
        let entry = entry(Clock::Synced);
        let mut value = b"left over".to_vec();
        let after_id = |value: &[u8]| json::decode(SchemaId::read(value).unwrap().1);
        for (form, decode) in [
            (Form::Json, json::decode as fn(&[u8]) -> _),
            (Form::Postcard, postcard::decode),
            (Form::JsonSchema(SchemaId(7)), after_id),
        ] {
            let encoded = encode(&entry, &form, time(3), &mut value).unwrap();
            assert_eq!(decode(&value).unwrap(), entry.record);
            assert!(encoded.bytes > value.len());
            let pairs = encoded
                .headers
                .iter()
                .map(|h| (h.key, h.value.unwrap_or_default()));
            let read = Headers::read(pairs);
            assert_eq!(read.id.as_ref(), Some(&entry.record.id));
            assert_eq!(read.digest, Some(entry.record.digest));
            assert_eq!(read.hops.sent, Some(time(3)));
            assert_eq!(read.hops.committed, Some(time(2)));
        }
    }

    #[test]
    fn a_trace_that_a_source_named_is_a_header_of_its_reading() {
        const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut entry = entry(Clock::Synced);
        for (text, expected) in [(TRACE, Some(TRACE.as_bytes())), ("none", None)] {
            let name = FieldName::new(header::TRACEPARENT).unwrap();
            entry.record.reading.meta = Metadata::new(vec![(name, text.into())]).unwrap();
            let mut value = Vec::new();
            let encoded = encode(&entry, &Form::Json, time(3), &mut value).unwrap();
            let header = encoded.headers.iter().find(|h| h.key == "traceparent");
            assert_eq!(header.and_then(|h| h.value), expected, "{text}");
        }
    }

    #[test]
    fn unsynchronised_readings_are_corrected_only_by_the_same_boot_once_it_is_synchronised() {
        let (this, other) = (BootId(1), BootId(2));
        let unsynced = |boot| Clock::Unsynced {
            boot,
            monotonic_us: 4_000_000,
        };
        let corrected = (Clock::Corrected, time(104_000_000));
        let untouched = |clock| (clock, time(5_000_000));
        for (clock, synced, expected) in [
            (unsynced(this), true, corrected),
            (unsynced(this), false, untouched(unsynced(this))),
            (unsynced(other), true, untouched(unsynced(other))),
            (Clock::Device, true, untouched(Clock::Device)),
            (Clock::Synced, true, untouched(Clock::Synced)),
        ] {
            let now = Moment {
                wall: time(110_000_000),
                synced,
                boot: this,
                monotonic_us: 10_000_000,
            };
            let mut record = entry(clock).record;
            let digest = record.digest;
            correct(&mut record, &now);
            let got = (record.reading.clock, record.reading.time);
            assert_eq!(got, expected, "{clock:?} {synced}");
            assert_eq!(Digest::of(&record.reading), digest);
            let fact = clock_correction(&record.id.gateway, &now);
            assert_eq!(
                fact.map(|fact| fact.boot_time_us),
                synced.then_some(100_000_000)
            );
        }
    }
}
