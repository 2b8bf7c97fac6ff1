//! Frames and records, beside the libraries that they are made of, on the same values.
//!
//! The bare side does what nobody can leave out: postcard or serde_json over plain structs with the same
//! content, CRC-32 and COBS into a buffer that is there, the time and the two hexadecimal numbers as text
//! where the form has them as text.

use std::{collections::BTreeMap, hint::black_box, time::Instant};

use anyhow::{Context, Result, ensure};
use protocol::{
    Value,
    frame::{Frame, FrameReading, FrameTime},
    record::{self, avro},
    schema::{Declaration, Kind, SchemaId, avro::AvroSchema},
};
use serde::{Deserialize, Serialize};

use crate::{
    bench::Bench,
    pairs::Target,
    reading::{self, GATEWAY, NAMES},
    report::Line,
};

const ALLOWED: Target = Target::AtMost(1.15);

#[derive(Serialize, Deserialize)]
struct BareSource {
    boot: u64,
    seq: u64,
}

/// The JSON form as plain serde sees it.
#[derive(Serialize, Deserialize)]
struct BareJson<'a> {
    v: u64,
    gateway: &'a str,
    device: &'a str,
    epoch: &'a str,
    seq: u64,
    digest: &'a str,
    time: &'a str,
    clock: &'a str,
    src: BareSource,
    #[serde(borrow)]
    fields: BTreeMap<&'a str, f64>,
}

/// The same, owned: what a reader has to hold.
#[derive(Deserialize)]
struct OwnedJson {
    gateway: Box<str>,
    device: Box<str>,
    epoch: Box<str>,
    seq: u64,
    digest: Box<str>,
    time: Box<str>,
    clock: Box<str>,
    src: BareSource,
    fields: BTreeMap<Box<str>, f64>,
}

/// The compact form as plain serde sees it.
#[derive(Serialize, Deserialize)]
struct BarePostcard {
    gateway: Box<str>,
    epoch: u64,
    sequence: u64,
    digest: u64,
    device: Box<str>,
    time: i64,
    clock: u8,
    fields: Vec<(Box<str>, Value)>,
    source: Option<(u64, u64)>,
    meta: Vec<(Box<str>, Box<str>)>,
}

fn bare_postcard(number: u64) -> Result<BarePostcard> {
    let record = reading::record(GATEWAY, number)?;
    let fields = record.reading.fields.iter();
    Ok(BarePostcard {
        gateway: GATEWAY.into(),
        epoch: 0x1f3a_9c04_d2be,
        sequence: number,
        digest: record.digest.0,
        device: reading::DEVICE.into(),
        time: reading::time_us(number),
        clock: 0,
        fields: fields
            .map(|(name, value)| (name.as_str().into(), value.clone()))
            .collect(),
        source: Some((1, number)),
        meta: Vec::new(),
    })
}

fn frame_reading(number: u64) -> FrameReading {
    FrameReading {
        boot: 1,
        sequence: u32::try_from(number).unwrap_or(0),
        time: FrameTime::Arrival,
        fields: NAMES
            .iter()
            .zip(reading::values(number))
            .map(|(name, value)| ((*name).to_owned(), Value::Float(value)))
            .collect(),
    }
}

/// What a measurement works on, made before the clock runs.
struct Samples {
    records: Vec<protocol::Record>,
    frames: Vec<Frame>,
    frame_bodies: Vec<FrameReading>,
    postcard: Vec<BarePostcard>,
    rounds: u64,
}

/// Readings in turn, so that no two calls in a row are alike.
const SAMPLES: u64 = 64;

impl Samples {
    fn new(rounds: u64) -> Result<Self> {
        let numbers = || 100_000..100_000 + SAMPLES;
        let bodies: Vec<FrameReading> = numbers().map(frame_reading).collect();
        Ok(Self {
            records: numbers()
                .map(|number| reading::record(GATEWAY, number))
                .collect::<Result<_>>()?,
            frames: bodies.iter().cloned().map(Frame::Reading).collect(),
            frame_bodies: bodies,
            postcard: numbers().map(bare_postcard).collect::<Result<_>>()?,
            rounds,
        })
    }

    /// Nanoseconds of a call of `operation` with the number of a sample.
    fn time(&self, mut operation: impl FnMut(usize) -> Result<()>) -> Result<[f64; 1]> {
        let samples = usize::try_from(SAMPLES)?;
        let start = Instant::now();
        for _ in 0..self.rounds {
            for at in 0..samples {
                operation(black_box(at))?;
            }
        }
        let took = start.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "some millions")]
        let calls = (self.rounds * SAMPLES) as f64;
        Ok([took * 1e9 / calls])
    }
}

fn line(bench: &'static str) -> Line {
    Line {
        bench,
        unit: "ns",
        target: ALLOWED,
    }
}

/// All forms, both ways, and how many bytes each takes.
pub fn codec(bench: &mut Bench) -> Result<()> {
    let samples = Samples::new(bench.amount(10, 5000, 5000))?;
    frames(bench, &samples)?;
    postcard(bench, &samples)?;
    json(bench, &samples)?;
    sizes(bench, &samples)
}

fn bare_frame(body: &FrameReading, plain: &mut [u8; 1024], out: &mut Vec<u8>) -> Result<()> {
    plain[..2].copy_from_slice(&[1, 2]);
    let length = postcard::to_slice(body, &mut plain[2..1000])?.len() + 2;
    let crc = crc32fast::hash(&plain[..length]).to_le_bytes();
    plain[length..length + 4].copy_from_slice(&crc);
    out.clear();
    out.resize(cobs::max_encoding_length(length + 4) + 2, 0);
    let stuffed = cobs::encode(&plain[..length + 4], &mut out[1..]);
    out.truncate(stuffed + 1);
    out.push(0);
    Ok(())
}

fn frames(bench: &mut Bench, samples: &Samples) -> Result<()> {
    let mut out = Vec::new();
    let mut plain = [0; 1024];
    for (frame, body) in samples.frames.iter().zip(&samples.frame_bodies) {
        bare_frame(body, &mut plain, &mut out)?;
        let mut ours = Vec::new();
        frame.encode(&mut ours)?;
        ensure!(out == ours, "the bare frame differs from ours");
    }
    let mut bare = Vec::new();
    let mut ours = Vec::new();
    bench.compare(
        [line("codec-frame")],
        |_| samples.time(|at| bare_frame(&samples.frame_bodies[at], &mut plain, &mut bare)),
        |_| {
            samples.time(|at| {
                ours.clear();
                Ok(samples.frames[at].encode(&mut ours)?)
            })
        },
    )?;
    let stuffed: Vec<Vec<u8>> = samples
        .frames
        .iter()
        .map(|frame| {
            let mut out = Vec::new();
            frame.encode(&mut out)?;
            Ok(out[1..out.len() - 1].to_vec())
        })
        .collect::<Result<_>>()?;
    bench.compare(
        [line("codec-unframe")],
        |_| {
            samples.time(|at| {
                let length = cobs::decode(&stuffed[at], &mut plain)
                    .ok()
                    .context("cobs")?;
                let (checked, crc) = plain[..length].split_last_chunk::<4>().context("crc")?;
                ensure!(crc32fast::hash(checked).to_le_bytes() == *crc, "crc");
                black_box(postcard::from_bytes::<FrameReading>(&checked[2..])?);
                Ok(())
            })
        },
        |_| {
            samples.time(|at| {
                black_box(Frame::decode(&stuffed[at])?);
                Ok(())
            })
        },
    )
}

fn postcard(bench: &mut Bench, samples: &Samples) -> Result<()> {
    let mut bare = Vec::new();
    let mut ours = Vec::new();
    bench.compare(
        [line("codec-postcard-write")],
        |_| {
            samples.time(|at| {
                bare.clear();
                bare.push(1);
                bare = postcard::to_extend(&samples.postcard[at], std::mem::take(&mut bare))?;
                Ok(())
            })
        },
        |_| {
            samples.time(|at| {
                ours.clear();
                Ok(record::postcard::encode(&samples.records[at], &mut ours)?)
            })
        },
    )?;
    let encoded = encoded(samples, record::postcard::encode)?;
    bench.compare(
        [line("codec-postcard-read")],
        |_| {
            samples.time(|at| {
                black_box(postcard::from_bytes::<BarePostcard>(&encoded[at][1..])?);
                Ok(())
            })
        },
        |_| {
            samples.time(|at| {
                black_box(record::postcard::decode(&encoded[at])?);
                Ok(())
            })
        },
    )
}

fn encoded(
    samples: &Samples,
    encode: impl Fn(&protocol::Record, &mut Vec<u8>) -> Result<(), record::RecordError>,
) -> Result<Vec<Vec<u8>>> {
    let one = |record| {
        let mut out = Vec::new();
        encode(record, &mut out)?;
        Ok(out)
    };
    samples.records.iter().map(one).collect()
}

fn bare_json(from: &BarePostcard, out: &mut Vec<u8>) -> Result<()> {
    let time = jiff::Timestamp::from_microsecond(from.time)?.to_string();
    let (epoch, digest) = (
        format!("{:012x}", from.epoch),
        format!("{:016x}", from.digest),
    );
    let number = |value: &Value| match value {
        Value::Float(number) => *number,
        _ => 0.0,
    };
    let bare = BareJson {
        v: 1,
        gateway: &from.gateway,
        device: &from.device,
        epoch: &epoch,
        seq: from.sequence,
        digest: &digest,
        time: &time,
        clock: "device",
        src: BareSource {
            boot: 1,
            seq: from.sequence,
        },
        fields: from
            .fields
            .iter()
            .map(|(name, value)| (&**name, number(value)))
            .collect(),
    };
    out.clear();
    Ok(serde_json::to_writer(out, &bare)?)
}

fn json(bench: &mut Bench, samples: &Samples) -> Result<()> {
    let encoded = encoded(samples, record::json::encode)?;
    let mut bare = Vec::new();
    for (from, ours) in samples.postcard.iter().zip(&encoded) {
        bare_json(from, &mut bare)?;
        ensure!(bare == *ours, "the bare JSON differs from ours");
    }
    let mut ours = Vec::new();
    bench.compare(
        [line("codec-json-write")],
        |_| samples.time(|at| bare_json(&samples.postcard[at], &mut bare)),
        |_| {
            samples.time(|at| {
                ours.clear();
                Ok(record::json::encode(&samples.records[at], &mut ours)?)
            })
        },
    )?;
    bench.compare(
        [line("codec-json-read")],
        |_| {
            samples.time(|at| {
                let read: OwnedJson = serde_json::from_slice(&encoded[at])?;
                let time: jiff::Timestamp = read.time.parse()?;
                let numbers = (
                    u64::from_str_radix(&read.epoch, 16)?,
                    u64::from_str_radix(&read.digest, 16)?,
                );
                black_box((time, numbers, read.src.boot, read.src.seq, read.seq));
                black_box((read.gateway, read.device, read.clock, read.fields));
                Ok(())
            })
        },
        |_| {
            samples.time(|at| {
                black_box(record::json::decode(&encoded[at])?);
                Ok(())
            })
        },
    )
}

/// Bytes of the same reading in each form, beside what the device publishes.
fn sizes(bench: &mut Bench, samples: &Samples) -> Result<()> {
    let (record, frame) = (&samples.records[0], &samples.frames[0]);
    let number = record.id.sequence;
    let mut published = Vec::new();
    reading::payload(number, reading::time_us(number), &mut published);
    let mut framed = Vec::new();
    frame.encode(&mut framed)?;
    let declared = NAMES.map(|name| (name.parse(), Kind::Double));
    let declared = declared
        .into_iter()
        .map(|(name, kind)| Ok((name?, kind)))
        .collect::<Result<Vec<_>>>()?;
    let schema = AvroSchema::of(&Declaration::new(declared)?);
    let (mut json, mut compact, mut registered) = (Vec::new(), Vec::new(), Vec::new());
    record::json::encode(record, &mut json)?;
    record::postcard::encode(record, &mut compact)?;
    avro::encode(record, SchemaId(1), &schema, &mut registered);
    let mut kept = Vec::new();
    record::postcard::encode_reading(&record.reading, &mut kept)?;
    for (name, bytes) in [
        ("size-frame", &framed),
        ("size-queue", &kept),
        ("size-json", &json),
        ("size-avro", &registered),
        ("size-postcard", &compact),
    ] {
        let line = Line {
            bench: name,
            unit: "B of MQTT JSON",
            target: Target::None,
        };
        #[expect(clippy::cast_precision_loss, reason = "some hundred")]
        let (ours, limit) = (bytes.len() as f64, published.len() as f64);
        bench.absolute(line, ours, limit)?;
    }
    Ok(())
}
