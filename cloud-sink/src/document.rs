//! The document a reading becomes: flat, typed, made for the people who query it.
//!
//! ```text
//! { _id: "gw7:1f3a9c04d2be:00000001584d", ts: ISODate("2026-11-23T21:04:07.113Z"),
//!   meta: { gateway: "gw7", device: "meter-1", model: "sdm120" },
//!   seq: 88141, src: { boot: 7, seq: 12 }, clock: "synced", digest: 5120934871623345123,
//!   voltage_v: 230.2, relay_on: true }
//! ```
//!
//! | member | where | what |
//! |---|---|---|
//! | `_id` | always | the reading's identity; of a foreign record `foreign:topic:partition:offset:timestamp` |
//! | `ts` | always | the reading's time, in milliseconds rounded down |
//! | `meta` | always | device, gateway where known, and the metadata |
//! | `seq` | ours | sequence within the epoch |
//! | `src` | where the device numbers | its boot and sequence (64 bits, shown signed) |
//! | `clock` | always | `device`, `synced`, `unsynced`, `corrected`; of foreign records also `broker` |
//! | `uptime` | `unsynced` | boot and microseconds since, from which the time is corrected later |
//! | `digest` | always | 64 bits over device, values and source, shown signed |
//! | `traceparent` | where the metadata has one | the trace it belongs to; not in `meta`, by which a time series is sorted into buckets |
//! | `foreign` | foreign | topic, partition, offset |
//! | `raw` | where a value's type is not its column's | the values, by field (see `catalogue`) |
//! | `hops` | routes that ask | when the gateway received, committed and sent it, the broker appended it, the sink consumed it and wrote it; topic, partition, offset |
//! | `expires_at` | routes with `keep` | the sink's time + keep |
//!
//! A field named like one of these (or like one with underscores behind it) gets one more underscore:
//! `ts` is stored as `ts_`, `ts_` as `ts__`. So every field has a place of its own, and the rule can be
//! undone. The same holds in `meta` for `gateway` and `device`. The form is a promise: stored data
//! cannot be made again, so bytes of it are frozen in the tests below.

mod passage;

use std::borrow::Cow;

use mongodb::bson::DateTime;
use protocol::{
    BootId, Clock, DeviceId, Digest, FieldName, GatewayId, Reading, Record, RecordId, Timestamp,
    Value,
    header::{Hops, TRACEPARENT},
};
use serde::{Serialize, Serializer, ser::SerializeMap};

use self::passage::Passage;
use crate::{catalogue::Fit, message::Coordinates};

/// Members of the document that are not measured values.
const RESERVED: [&str; 13] = [
    "_id",
    "ts",
    "meta",
    "seq",
    "src",
    "clock",
    "uptime",
    "digest",
    TRACEPARENT,
    "foreign",
    "hops",
    "expires_at",
    // For values whose type is not their field's.
    "raw",
];
const RESERVED_META: [&str; 2] = ["gateway", "device"];

/// A reading on its way into a collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// `_id`.
    pub id: String,
    /// `digest`.
    pub digest: Digest,
    origin: Origin,
    reading: Reading,
    arrived_ms: Option<i64>,
    passage: Option<Box<Passage>>,
    expires_at_ms: Option<i64>,
    ends_at_ms: Option<i64>,
    /// Of each field; empty while all are stored as they are.
    fits: Vec<Fit>,
}

#[derive(Debug, Clone, PartialEq)]
enum Origin {
    Ours(RecordId),
    Foreign {
        gateway: Option<GatewayId>,
        at: Coordinates,
        /// Whether the record itself said when it was measured.
        timed: bool,
    },
}

impl Document {
    /// The document of one of our records.
    #[must_use]
    pub fn ours(record: Record) -> Self {
        Self {
            id: record.id.to_string(),
            digest: record.digest,
            origin: Origin::Ours(record.id),
            reading: record.reading,
            arrived_ms: None,
            passage: None,
            expires_at_ms: None,
            ends_at_ms: None,
            fits: Vec::new(),
        }
    }

    /// The document of a record that somebody else wrote. Its identity is its place in Kafka; the
    /// timestamp tells a recreated topic from the one before.
    #[must_use]
    pub fn foreign(
        reading: Reading,
        gateway: Option<GatewayId>,
        at: Coordinates,
        timed: bool,
    ) -> Self {
        let Coordinates {
            partition, offset, ..
        } = &at;
        let timestamp = at.timestamp_ms.unwrap_or(-1);
        Self {
            id: format!(
                "foreign:{}:{}:{offset}:{timestamp}",
                partition.topic, partition.number
            ),
            digest: Digest::of(&reading),
            origin: Origin::Foreign { gateway, at, timed },
            reading,
            arrived_ms: None,
            passage: None,
            expires_at_ms: None,
            ends_at_ms: None,
            fits: Vec::new(),
        }
    }

    /// Sets when the document may be removed, in milliseconds since 1970.
    #[must_use]
    pub fn expiring(mut self, at_ms: Option<i64>) -> Self {
        self.expires_at_ms = at_ms;
        self
    }

    /// Sets when the time series it goes to will have removed it. Nothing of that is in the document.
    #[must_use]
    pub fn ending(mut self, at_ms: Option<i64>) -> Self {
        self.ends_at_ms = at_ms;
        self
    }

    /// Notes the gateway's stations; `whole` keeps all of them, and those to come, in the document.
    #[must_use]
    pub fn passing(mut self, hops: Hops, at: &Coordinates, whole: bool) -> Self {
        self.arrived_ms = hops.received.map(|time| time.as_millis());
        self.passage = whole.then(|| Box::new(Passage::new(hops, at)));
        self
    }

    /// When the gateway received it, by its clock, in milliseconds since 1970.
    #[must_use]
    pub fn arrived_ms(&self) -> Option<i64> {
        self.arrived_ms
    }

    /// The sink took it, at that time in milliseconds since 1970.
    pub fn consumed(&mut self, now_ms: impl FnOnce() -> i64) {
        if let Some(passage) = &mut self.passage {
            passage.consumed_ms = Some(now_ms());
        }
    }

    /// The sink hands it to MongoDB, at that time in milliseconds since 1970.
    pub fn writing(&mut self, now_ms: i64) {
        if let Some(passage) = &mut self.passage {
            passage.written_ms = Some(now_ms);
        }
    }

    /// The boot within whose time it is dated, while nobody knows when that boot was.
    #[must_use]
    pub fn undated(&self) -> Option<(&GatewayId, BootId)> {
        match self.reading.clock {
            Clock::Unsynced { boot, .. } => Some((self.gateway()?, boot)),
            _ => None,
        }
    }

    /// `ts`, in milliseconds since 1970.
    #[must_use]
    pub fn time_ms(&self) -> i64 {
        self.reading.time.as_millis()
    }

    /// Dates a reading of a boot that began at that time, in microseconds since 1970. A time that no
    /// calendar has changes nothing.
    pub fn date(&mut self, boot_time_us: i64) {
        let Clock::Unsynced { monotonic_us, .. } = self.reading.clock else {
            return;
        };
        let us = boot_time_us.checked_add_unsigned(monotonic_us);
        if let Some(time) = us.and_then(|us| Timestamp::from_micros(us).ok()) {
            self.reading.time = time;
            self.reading.clock = Clock::Corrected;
        }
    }

    /// Which reading of ours it is; `None` for a foreign one, which no audit covers.
    #[must_use]
    pub fn record(&self) -> Option<&RecordId> {
        match &self.origin {
            Origin::Ours(id) => Some(id),
            Origin::Foreign { .. } => None,
        }
    }

    /// When it may be removed, in milliseconds since 1970.
    #[must_use]
    pub fn expires_at_ms(&self) -> Option<i64> {
        self.expires_at_ms.or(self.ends_at_ms)
    }

    /// `gateway/device`, for logs.
    #[must_use]
    pub fn device(&self) -> String {
        match self.gateway() {
            Some(gateway) => format!("{gateway}/{}", self.reading.device),
            None => self.reading.device.to_string(),
        }
    }

    /// Its fields, as the reading has them.
    pub fn fields(&self) -> impl Iterator<Item = (&FieldName, &Value)> {
        self.reading.fields.iter()
    }

    /// Decides for every field where its value goes.
    pub fn fit(&mut self, fit: impl Fn(&FieldName, &Value) -> Fit) {
        let fits = || self.fields().map(|(name, value)| fit(name, value));
        let usual = fits().all(|fit| fit == Fit::AsIs);
        self.fits = if usual { Vec::new() } else { fits().collect() };
    }

    fn fitted(&self) -> impl Iterator<Item = (&FieldName, &Value, Fit)> {
        let fits = self
            .fits
            .iter()
            .copied()
            .chain(std::iter::repeat(Fit::AsIs));
        let fields = self.reading.fields.iter();
        fields
            .zip(fits)
            .map(|((name, value), fit)| (name, value, fit))
    }

    /// Fields that are stored in `raw`.
    pub fn raw(&self) -> impl Iterator<Item = (&FieldName, &Value)> {
        let raw = self.fitted().filter(|(_, _, fit)| *fit == Fit::Raw);
        raw.map(|(name, value, _)| (name, value))
    }

    /// Fields that are stored in their column, with what the reading has.
    pub fn columns(&self) -> impl Iterator<Item = (&FieldName, &Value)> {
        let columns = self.fitted().filter(|(_, _, fit)| *fit != Fit::Raw);
        columns.map(|(name, value, _)| (name, value))
    }

    /// How many fields are stored in `raw`.
    #[must_use]
    pub fn misfits(&self) -> usize {
        self.raw().count()
    }

    /// The device alone.
    #[must_use]
    pub fn reading_device(&self) -> &DeviceId {
        &self.reading.device
    }

    /// The gateway, where known.
    #[must_use]
    pub fn gateway(&self) -> Option<&GatewayId> {
        match &self.origin {
            Origin::Ours(id) => Some(&id.gateway),
            Origin::Foreign { gateway, .. } => gateway.as_ref(),
        }
    }

    fn clock(&self) -> &'static str {
        match self.origin {
            Origin::Foreign { timed: false, .. } => "broker",
            _ => self.reading.clock.as_str(),
        }
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let reading = &self.reading;
        let mut map = out.serialize_map(None)?;
        map.serialize_entry("_id", &self.id)?;
        map.serialize_entry("ts", &DateTime::from_millis(reading.time.as_millis()))?;
        map.serialize_entry("meta", &Meta(self))?;
        if let Origin::Ours(id) = &self.origin {
            // Below 2^48, so the sign is never touched.
            map.serialize_entry("seq", &id.sequence.cast_signed())?;
        }
        if let Some(source) = reading.source {
            let src = Source {
                boot: source.boot.cast_signed(),
                seq: source.sequence.cast_signed(),
            };
            map.serialize_entry("src", &src)?;
        }
        map.serialize_entry("clock", self.clock())?;
        if let Clock::Unsynced { boot, monotonic_us } = reading.clock {
            let us = monotonic_us.cast_signed();
            map.serialize_entry("uptime", &Uptime { boot, us })?;
        }
        map.serialize_entry("digest", &self.digest.0.cast_signed())?;
        let mut meta = reading.meta.iter();
        if let Some((_, trace)) = meta.find(|(name, _)| name.as_str() == TRACEPARENT) {
            map.serialize_entry(TRACEPARENT, trace)?;
        }
        if let Origin::Foreign { at, .. } = &self.origin {
            let place = Place {
                topic: &at.partition.topic,
                partition: at.partition.number,
                offset: at.offset,
            };
            map.serialize_entry("foreign", &place)?;
        }
        for (name, value, fit) in self.fitted() {
            let name = Name::of(name.as_str(), &RESERVED);
            match fit {
                Fit::AsIs => map.serialize_entry(&name, &Stored(value))?,
                Fit::Double(number) => map.serialize_entry(&name, &number)?,
                Fit::Long(number) => map.serialize_entry(&name, &number)?,
                Fit::Raw => {}
            }
        }
        if self.raw().next().is_some() {
            map.serialize_entry("raw", &Raw(self))?;
        }
        if let Some(passage) = &self.passage {
            map.serialize_entry("hops", &passage.stored())?;
        }
        if let Some(at) = self.expires_at_ms {
            map.serialize_entry("expires_at", &DateTime::from_millis(at))?;
        }
        map.end()
    }
}

/// The name of a field's column.
#[must_use]
pub fn column(name: &FieldName) -> Cow<'_, str> {
    match Name::of(name.as_str(), &RESERVED) {
        Name::AsIs(name) => Cow::Borrowed(name),
        Name::Aside(name) => Cow::Owned(format!("{name}_")),
    }
}

struct Stored<'a>(&'a Value);

impl Serialize for Stored<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Float(number) => out.serialize_f64(*number),
            Value::Int(number) => out.serialize_i64(*number),
            Value::Bool(state) => out.serialize_bool(*state),
            Value::Text(text) => out.serialize_str(text),
        }
    }
}

/// Values whose type is not their column's, by the name of the field.
struct Raw<'a>(&'a Document);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let raw = self.0.raw();
        out.collect_map(raw.map(|(name, value)| (name.as_str(), Stored(value))))
    }
}

/// A name as it is stored: moved aside where the document needs it itself.
#[derive(Debug, PartialEq)]
enum Name<'a> {
    AsIs(&'a str),
    Aside(&'a str),
}

impl<'a> Name<'a> {
    fn of(name: &'a str, reserved: &[&str]) -> Self {
        if reserved.contains(&name.trim_end_matches('_')) {
            Self::Aside(name)
        } else {
            Self::AsIs(name)
        }
    }
}

impl Serialize for Name<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::AsIs(name) => out.serialize_str(name),
            Self::Aside(name) => out.collect_str(&format_args!("{name}_")),
        }
    }
}

struct Meta<'a>(&'a Document);

impl Serialize for Meta<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut map = out.serialize_map(None)?;
        if let Some(gateway) = self.0.gateway() {
            map.serialize_entry("gateway", gateway)?;
        }
        map.serialize_entry("device", &self.0.reading.device)?;
        let meta = self.0.reading.meta.iter();
        for (name, text) in meta.filter(|(name, _)| name.as_str() != TRACEPARENT) {
            map.serialize_entry(&Name::of(name.as_str(), &RESERVED_META), text)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Source {
    boot: i64,
    seq: i64,
}

struct Uptime {
    boot: BootId,
    us: i64,
}

impl Serialize for Uptime {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut map = out.serialize_map(Some(2))?;
        map.serialize_entry("boot", &self.boot.to_string())?;
        map.serialize_entry("us", &self.us)?;
        map.end()
    }
}

#[derive(Serialize)]
struct Place<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
}

#[cfg(test)]
mod tests;
