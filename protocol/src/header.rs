//! Kafka keys and headers: CloudEvents 1.0, binary content mode of its Kafka protocol binding.
//!
//! ```text
//! key              the gateway
//! ce_specversion   1.0
//! ce_id            gw7:1f3a9c04d2be:00000001584d
//! ce_source        /gateways/gw7
//! ce_type          edge.reading.v1
//! ce_subject       meter-1
//! ce_time          2026-11-23T21:04:07.113Z
//! content-type     application/json
//! edge_digest      4711fa3a9c04d2be
//! edge_hops        received,committed,sent in microseconds since 1970; `-` where unknown
//! traceparent      W3C Trace Context, of readings whose metadata has one; else absent
//! ```
//!
//! The newest header of a name counts. Headers that are not listed are passed by.

use alloc::{format, string::String, string::ToString};

use crate::{Digest, Reading, Record, RecordId, Timestamp};

/// CloudEvents version, always `1.0`.
pub const SPEC_VERSION: &str = "ce_specversion";
/// [`RecordId`] as text.
pub const ID: &str = "ce_id";
/// `/gateways/` and the gateway.
pub const SOURCE: &str = "ce_source";
/// What the value holds, with its version.
pub const TYPE: &str = "ce_type";
/// The device.
pub const SUBJECT: &str = "ce_subject";
/// The reading's time, RFC 3339.
pub const TIME: &str = "ce_time";
/// The value's form.
pub const CONTENT_TYPE: &str = "content-type";
/// [`Digest`] as 16 hex digits.
pub const DIGEST: &str = "edge_digest";
/// [`Hops`] as text.
pub const HOPS: &str = "edge_hops";

/// [`trace`], as W3C names it; also the entry of a reading's metadata it is carried in.
pub const TRACEPARENT: &str = "traceparent";

/// [`TYPE`] of a reading of version 1.
pub const READING_V1: &str = "edge.reading.v1";

/// When a reading passed the stations of the gateway, by the gateway's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hops {
    /// Arrived from the source.
    pub received: Option<Timestamp>,
    /// Durable in the queue.
    pub committed: Option<Timestamp>,
    /// Handed to Kafka.
    pub sent: Option<Timestamp>,
}

impl Hops {
    /// The header's text.
    #[must_use]
    pub fn to_header(&self) -> String {
        let one = |time: Option<Timestamp>| match time {
            Some(time) => time.as_micros().to_string(),
            None => "-".into(),
        };
        format!(
            "{},{},{}",
            one(self.received),
            one(self.committed),
            one(self.sent)
        )
    }

    /// Reads the header's text; what is unreadable is unknown, for hops prove nothing.
    #[must_use]
    pub fn from_header(text: &str) -> Self {
        let mut times = text
            .split(',')
            .map(|part| Timestamp::from_micros(part.parse().ok()?).ok());
        let mut next = || times.next().flatten();
        Self {
            received: next(),
            committed: next(),
            sent: next(),
        }
    }
}

/// The headers of a record, in the order they are written.
#[must_use]
pub fn of(record: &Record, content_type: &'static str, hops: &Hops) -> [(&'static str, String); 9] {
    [
        (SPEC_VERSION, "1.0".into()),
        (ID, record.id.to_string()),
        (SOURCE, format!("/gateways/{}", record.id.gateway)),
        (TYPE, READING_V1.into()),
        (SUBJECT, record.reading.device.to_string()),
        (TIME, record.reading.time.to_string()),
        (CONTENT_TYPE, content_type.into()),
        (DIGEST, record.digest.to_string()),
        (HOPS, hops.to_header()),
    ]
}

/// The trace a reading belongs to, where its source said so in the form of W3C Trace Context:
/// `00-TRACE-PARENT-FLAGS` of 32, 16 and 2 hex digits in lower case, the first two not all zeros.
#[must_use]
pub fn trace(reading: &Reading) -> Option<&str> {
    let (_, text) = reading
        .meta
        .iter()
        .find(|(name, _)| name.as_str() == TRACEPARENT)?;
    let mut parts = text.split('-');
    let mut hex = |digits: usize, may_be_zero: bool| {
        parts.next().is_some_and(|part| {
            part.len() == digits
                && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
                && (may_be_zero || part.bytes().any(|b| b != b'0'))
        })
    };
    let is_whole = hex(2, true) && hex(32, false) && hex(16, false) && hex(2, true);
    (is_whole && text.starts_with("00") && parts.next().is_none()).then_some(text)
}

/// What the sink needs of the headers of one of our records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers {
    /// The identity, if the id header is one of ours.
    pub id: Option<RecordId>,
    /// The digest.
    pub digest: Option<Digest>,
    /// The form of the value, in lower case and without parameters.
    pub content_type: Option<String>,
    /// The event type.
    pub event_type: Option<String>,
    /// The stations, as far as known.
    pub hops: Hops,
}

impl Headers {
    /// Collects what is known; what cannot be read counts as absent.
    pub fn read<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut read = Self::default();
        for (name, value) in headers {
            let Ok(text) = core::str::from_utf8(value) else {
                continue;
            };
            match name {
                ID => read.id = text.parse().ok(),
                DIGEST => read.digest = text.parse().ok(),
                CONTENT_TYPE => {
                    let form = text.split(';').next().unwrap_or_default();
                    read.content_type = Some(form.trim().to_ascii_lowercase());
                }
                TYPE => read.event_type = Some(text.into()),
                HOPS => read.hops = Hops::from_header(text),
                _ => {}
            }
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clock, Fields, Metadata, Reading, Value};
    use alloc::vec;

    fn record() -> Record {
        let fields = vec![("voltage_v".parse().unwrap(), Value::Float(230.2))];
        Record {
            id: "gw7:1f3a9c04d2be:00000001584d".parse().unwrap(),
            digest: Digest(0x4711_fa3a_9c04_d2be),
            reading: Reading {
                device: "meter-1".parse().unwrap(),
                time: "2026-11-23T21:04:07.113Z".parse().unwrap(),
                clock: Clock::Synced,
                fields: Fields::new(fields).unwrap(),
                source: None,
                meta: Metadata::default(),
            },
        }
    }

    fn micros(micros: i64) -> Option<Timestamp> {
        Timestamp::from_micros(micros).ok()
    }

    #[test]
    fn what_the_agent_writes_the_sink_reads() {
        let hops = Hops {
            received: micros(-5),
            committed: None,
            sent: micros(7),
        };
        let record = record();
        let written = of(&record, "application/json", &hops);
        let read = Headers::read(written.iter().map(|(name, text)| (*name, text.as_bytes())));
        assert_eq!(
            read,
            Headers {
                id: Some(record.id),
                digest: Some(record.digest),
                content_type: Some("application/json".into()),
                event_type: Some(READING_V1.into()),
                hops,
            }
        );
    }

    #[test]
    fn a_trace_is_passed_on_in_w3cs_form_only() {
        const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let long = format!("{GOOD}-00");
        for (text, is_trace) in [
            (GOOD, true),
            (long.as_str(), false),
            (&GOOD[..54], false),
            ("", false),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                false,
            ),
            (
                "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                false,
            ),
            (
                "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                false,
            ),
            (
                "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                false,
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
                false,
            ),
        ] {
            let mut reading = record().reading;
            let name = crate::FieldName::new(TRACEPARENT).unwrap();
            reading.meta = Metadata::new(vec![(name, text.into())]).unwrap();
            assert_eq!(trace(&reading), is_trace.then_some(text), "{text}");
        }
        assert_eq!(trace(&record().reading), None);
    }

    #[test]
    fn the_newest_header_counts_and_the_unreadable_is_absent() {
        let headers: [(&str, &[u8]); 7] = [
            (ID, b"gw7:1f3a9c04d2be:00000001584d"),
            (ID, b"not one of ours"),
            (DIGEST, b"4711fa3a9c04d2be"),
            (DIGEST, b"0000000000000001"),
            (CONTENT_TYPE, b" Application/JSON ; charset=utf-8"),
            (TYPE, &[0xff]),
            ("traceparent", b"00-"),
        ];
        let read = Headers::read(headers.into_iter());
        assert_eq!(read.id, None);
        assert_eq!(read.digest, Some(Digest(1)));
        assert_eq!(read.content_type.as_deref(), Some("application/json"));
        assert_eq!(read.event_type, None);
    }

    #[test]
    fn hops_that_cannot_be_read_are_unknown() {
        for (text, received, committed, sent) in [
            ("1,2,3", micros(1), micros(2), micros(3)),
            ("1,-,3", micros(1), None, micros(3)),
            ("1", micros(1), None, None),
            ("x,2", None, micros(2), None),
            ("9223372036854775807,2,3,4", None, micros(2), micros(3)),
            ("", None, None, None),
        ] {
            let hops = Hops::from_header(text);
            assert_eq!(
                (hops.received, hops.committed, hops.sent),
                (received, committed, sent),
                "{text}"
            );
        }
    }
}
