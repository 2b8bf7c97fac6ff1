//! The registered form, version 1: a schema id, then Avro by a schema of [`schema::avro`].
//!
//! ```text
//! value       00 | schema id, 32 bits, big-endian | record
//! record      gateway, device, epoch string | sequence, digest, time long | clock enum | boot option of string
//!             | uptime_us option of long | src option of (boot, seq long) | meta map of string
//!             | undeclared map of (double, long, boolean, string) | an option for each column
//! string      length, UTF-8     long  zigzag varint     double  8 bytes, little-endian
//! option      00, or 02 and the value     map  count and entries unless empty, then 00
//! ```
//!
//! Avro is written by hand here, for this one record: six shapes in fifty lines, `no_std`, against some
//! thirty crates more in the agent. The tests read it with `apache-avro`, and it is only ever written: a
//! sink reads by whatever schema the writer named.

use alloc::{format, vec::Vec};

use crate::{
    Clock, FieldName, Record, Value,
    schema::{Kind, SchemaId, avro::AvroSchema},
};

/// `content-type` of this form.
pub const CONTENT_TYPE: &str = "application/vnd.edge.reading+avro";

/// Appends the record to `out`, for a reader who knows `schema` by `id`.
pub fn encode(record: &Record, id: SchemaId, schema: &AvroSchema, out: &mut Vec<u8>) {
    let reading = &record.reading;
    id.write(out);
    text(record.id.gateway.as_str(), out);
    text(reading.device.as_str(), out);
    text(&format!("{}", record.id.epoch), out);
    // Below 2^48, so the sign is never touched.
    long(signed(record.id.sequence), out);
    long(signed(record.digest.0), out);
    long(reading.time.as_micros(), out);
    long(
        match reading.clock {
            Clock::Device => 0,
            Clock::Synced => 1,
            Clock::Unsynced { .. } => 2,
            Clock::Corrected => 3,
        },
        out,
    );
    match reading.clock {
        Clock::Unsynced { boot, monotonic_us } => {
            long(1, out);
            text(&format!("{boot}"), out);
            long(1, out);
            long(signed(monotonic_us), out);
        }
        _ => out.extend_from_slice(&[0, 0]),
    }
    match reading.source {
        Some(source) => {
            long(1, out);
            long(signed(source.boot), out);
            long(signed(source.sequence), out);
        }
        None => long(0, out),
    }
    map(reading.meta.iter(), out, text);
    let fields = reading.fields.iter();
    let undeclared: Vec<_> = fields
        .filter(|(name, value)| schema.column(name) != Some(Kind::of(value)))
        .collect();
    map(undeclared.into_iter(), out, |value, out| {
        long(branch(value), out);
        scalar(value, out);
    });
    for (name, kind) in schema.columns() {
        match reading.fields.get(name.as_str()) {
            Some(value) if Kind::of(value) == kind => {
                long(1, out);
                scalar(value, out);
            }
            _ => long(0, out),
        }
    }
}

/// Of the union in `undeclared`.
const fn branch(value: &Value) -> i64 {
    match value {
        Value::Float(_) => 0,
        Value::Int(_) => 1,
        Value::Bool(_) => 2,
        Value::Text(_) => 3,
    }
}

fn scalar(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Float(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::Int(number) => long(*number, out),
        Value::Bool(state) => out.push(u8::from(*state)),
        Value::Text(value) => text(value, out),
    }
}

/// Names, each with its value; one block, none where nothing is in it.
fn map<'a, T>(
    entries: impl ExactSizeIterator<Item = (&'a FieldName, T)>,
    out: &mut Vec<u8>,
    mut value: impl FnMut(T, &mut Vec<u8>),
) {
    if entries.len() > 0 {
        count(entries.len(), out);
        for (name, entry) in entries {
            text(name.as_str(), out);
            value(entry, out);
        }
    }
    out.push(0);
}

fn text(text: &str, out: &mut Vec<u8>) {
    count(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// Everything counted here is far below 2^63.
fn count(count: usize, out: &mut Vec<u8>) {
    long(i64::try_from(count).unwrap_or(i64::MAX), out);
}

/// The same 64 bits.
fn signed(bits: u64) -> i64 {
    i64::from_le_bytes(bits.to_le_bytes())
}

/// Zigzag, then seven bits a byte, the lowest first.
fn long(number: i64, out: &mut Vec<u8>) {
    let mut rest = u64::from_le_bytes(((number << 1) ^ (number >> 63)).to_le_bytes());
    loop {
        let low = rest.to_le_bytes()[0] & 0x7f;
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}
