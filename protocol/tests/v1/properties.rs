//! What holds for every reading and every input, not only for the frozen ones.

use std::hint::black_box;

use proptest::{collection::vec, option, prelude::*};
use protocol::{
    BootId, Clock, Digest, Epoch, FieldName, Fields, Metadata, Reading, Record, RecordId, SourceId,
    Timestamp, Value,
    control::{EpochFact, Fact, Loss, LossReason, Predecessor},
    frame::{Ack, Frame, FrameReading, FrameTime, Hello, Status, Verdict},
    header::{Headers, Hops},
    record::{json, postcard},
};

use crate::{facts, records};

fn text(most: usize) -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..=most).prop_map(|chars| chars.into_iter().collect())
}

/// Every finite number is as likely as its bits.
fn finite() -> impl Strategy<Value = f64> {
    any::<u64>()
        .prop_map(f64::from_bits)
        .prop_filter("finite", |number| number.is_finite())
}

fn value(number: impl Strategy<Value = f64>) -> impl Strategy<Value = Value> {
    prop_oneof![
        number.prop_map(Value::Float),
        any::<i64>().prop_map(Value::Int),
        any::<bool>().prop_map(Value::Bool),
        text(64).prop_map(|text| Value::Text(text.into())),
    ]
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![any::<i64>(), 0..4_000_000_000_000_000_i64, -100..100_i64]
        .prop_filter_map("calendar", |micros| Timestamp::from_micros(micros).ok())
}

fn clock() -> impl Strategy<Value = Clock> {
    prop_oneof![
        Just(Clock::Device),
        Just(Clock::Synced),
        Just(Clock::Corrected),
        (any::<u64>(), any::<u64>()).prop_map(|(boot, monotonic_us)| Clock::Unsynced {
            boot: BootId(boot),
            monotonic_us,
        }),
    ]
}

fn reading() -> impl Strategy<Value = Reading> {
    let fields = proptest::collection::btree_map("[a-z0-9_]{1,64}", value(finite()), 1..9);
    let meta = proptest::collection::btree_map("[a-z0-9_]{1,64}", text(64), 0..4);
    let source = option::of((any::<u64>(), any::<u64>()));
    (
        "[A-Za-z0-9._~/+%-]{1,128}",
        time(),
        clock(),
        fields,
        source,
        meta,
    )
        .prop_map(|(device, time, clock, fields, source, meta)| Reading {
            device: device.parse().unwrap(),
            time,
            clock,
            fields: Fields::new(
                fields
                    .into_iter()
                    .map(|(name, value)| (FieldName::new(name).unwrap(), value))
                    .collect(),
            )
            .unwrap(),
            source: source.map(|(boot, sequence)| SourceId { boot, sequence }),
            meta: Metadata::new(
                meta.into_iter()
                    .map(|(name, text)| (FieldName::new(name).unwrap(), text.into()))
                    .collect(),
            )
            .unwrap(),
        })
}

fn id() -> impl Strategy<Value = RecordId> {
    ("[a-z0-9._-]{1,64}", any::<u64>(), 0..=RecordId::MAX_48).prop_map(
        |(gateway, epoch, sequence)| RecordId {
            gateway: gateway.parse().unwrap(),
            epoch: Epoch::from_random(epoch),
            sequence,
        },
    )
}

pub fn record() -> impl Strategy<Value = Record> {
    (id(), reading()).prop_map(|(id, reading)| Record {
        id,
        digest: Digest::of(&reading),
        reading,
    })
}

/// Any frame that can be sent, also one with values the agent will refuse.
pub fn frame() -> impl Strategy<Value = Frame> {
    let number = || any::<u64>().prop_map(f64::from_bits);
    let when = prop_oneof![
        Just(FrameTime::Arrival),
        any::<u64>().prop_map(FrameTime::Unix),
        any::<u32>().prop_map(FrameTime::Age),
    ];
    prop_oneof![
        (
            text(20),
            text(9),
            text(9),
            any::<u32>(),
            option::of(any::<u64>()),
            any::<bool>()
        )
            .prop_map(
                |(device, model, firmware, boot, time_us, reply)| Frame::Hello(Hello {
                    device,
                    model,
                    firmware,
                    boot,
                    time_us,
                    reply,
                })
            ),
        (
            any::<u32>(),
            any::<u32>(),
            when,
            vec((text(9), value(number())), 0..4)
        )
            .prop_map(
                |(boot, sequence, time, fields)| Frame::Reading(FrameReading {
                    boot,
                    sequence,
                    time,
                    fields,
                })
            ),
        (any::<u32>(), any::<u32>(), any::<bool>()).prop_map(|(boot, sequence, stored)| {
            let verdict = if stored {
                Verdict::Stored
            } else {
                Verdict::Rejected
            };
            Frame::Ack(Ack {
                boot,
                sequence,
                verdict,
            })
        }),
        (any::<u32>(), any::<u64>(), any::<u32>(), text(90)).prop_map(
            |(boot, uptime_ms, dropped, text)| Frame::Status(Status {
                boot,
                uptime_ms,
                dropped,
                text,
            })
        ),
    ]
}

fn packed(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    postcard::encode(record, &mut out).unwrap();
    out
}

/// Where a decoder may look at bytes nobody vouches for.
fn read_everything(bytes: &[u8]) {
    black_box(Frame::decode(bytes).is_ok());
    black_box(json::decode(bytes).is_ok());
    black_box(postcard::decode(bytes).is_ok());
    black_box(postcard::decode_reading(bytes).is_ok());
    black_box(Fact::decode(bytes).is_ok());
    let names = [
        "ce_id",
        "edge_digest",
        "edge_hops",
        "content-type",
        "ce_type",
    ];
    let read = Headers::read(names.into_iter().map(|name| (name, bytes)));
    assert!(
        read.content_type
            .is_none_or(|form| form.len() <= bytes.len() * 3)
    );
    if let Ok(text) = core::str::from_utf8(bytes) {
        black_box(text.parse::<RecordId>().is_ok());
        black_box(text.parse::<Timestamp>().is_ok());
        black_box(FieldName::normalise(text).is_ok());
        black_box(protocol::DeviceId::encode(text).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Compared by their packed bytes as well, in which -0.0 is not 0.0.
    #[test]
    fn records_come_back_from_json_bit_by_bit(record in record()) {
        let mut encoded = Vec::new();
        json::encode(&record, &mut encoded).unwrap();
        let back = json::decode(&encoded).unwrap();
        prop_assert_eq!(packed(&back), packed(&record));
        prop_assert_eq!(Digest::of(&back.reading), record.digest);
        prop_assert_eq!(back, record);
    }

    #[test]
    fn records_come_back_from_postcard_bit_by_bit(record in record()) {
        let encoded = packed(&record);
        let back = postcard::decode(&encoded).unwrap();
        prop_assert_eq!(packed(&back), encoded);
        prop_assert_eq!(back, record);
    }

    #[test]
    fn bare_readings_come_back_one_after_the_other(a in reading(), b in reading()) {
        let mut encoded = Vec::new();
        postcard::encode_reading(&a, &mut encoded).unwrap();
        postcard::encode_reading(&b, &mut encoded).unwrap();
        let (first, rest) = postcard::decode_reading(&encoded).unwrap();
        let (second, rest) = postcard::decode_reading(rest).unwrap();
        prop_assert_eq!((first, second, rest), (a, b, &[][..]));
    }

    #[test]
    fn frames_come_back_bit_by_bit(frame in frame()) {
        let mut line = Vec::new();
        frame.encode(&mut line).unwrap();
        let back = Frame::decode(&line[1..line.len() - 1]).unwrap();
        let mut again = Vec::new();
        back.encode(&mut again).unwrap();
        prop_assert_eq!(again, line);
    }

    #[test]
    fn ids_and_times_come_back_from_their_text(id in id(), time in time()) {
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert_eq!(time.to_string().parse(), Ok(time));
    }

    #[test]
    fn ids_sort_as_their_numbers_do(a in id(), b in id()) {
        let b = RecordId { gateway: a.gateway.clone(), ..b };
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
    }

    #[test]
    fn hops_come_back_from_their_header(received in option::of(time()), committed in option::of(time()), sent in option::of(time())) {
        let hops = Hops { received, committed, sent };
        prop_assert_eq!(Hops::from_header(&hops.to_header()), hops);
    }

    #[test]
    fn facts_come_back(
        id in id(), last in option::of(0..=RecordId::MAX_48), flags in any::<[bool; 3]>(),
        reason in 0..LossReason::ALL.len(), at in time(),
        offsets in proptest::collection::btree_map(any::<i32>(), any::<i64>(), 0..4),
        previous in option::of((any::<u64>(), option::of(any::<u64>()))),
    ) {
        let lane: protocol::Topic = "telemetry.readings.v1".parse().unwrap();
        let loss = Fact::Loss(Loss {
            gateway: id.gateway.clone(), lane: lane.clone(), epoch: id.epoch, first: id.sequence, last,
            reason: LossReason::ALL[reason], merged: flags[0], possibly_delivered: flags[1], at,
        });
        let run = Fact::Epoch(EpochFact {
            gateway: id.gateway, lane, epoch: id.epoch,
            previous: previous.map(|(epoch, last)| Predecessor { epoch: Epoch::from_random(epoch), last }),
            committed: last, acknowledged: last, offsets, closed: flags[2], at,
        });
        for fact in [loss, run] {
            prop_assert_eq!(Fact::decode(&fact.encode().unwrap()), Ok(fact));
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..600)) {
        read_everything(&bytes);
    }

    #[test]
    fn no_damaged_message_makes_a_decoder_panic(
        record in record(), at in any::<prop::sample::Index>(), noise in vec(any::<u8>(), 0..9), cut in 0..9_usize,
    ) {
        let mut texts = vec![packed(&record), facts::EPOCH.into(), facts::HEARTBEAT.into()];
        texts.push(Vec::new());
        json::encode(&record, &mut texts[3]).unwrap();
        for mut bytes in texts {
            let from = at.index(bytes.len());
            let to = (from + cut).min(bytes.len());
            bytes.splice(from..to, noise.iter().copied());
            read_everything(&bytes);
        }
    }
}

/// Nothing here may panic, overflow the stack or answer with the payload.
#[test]
fn deep_and_huge_json_is_refused_in_few_words() {
    let deep = |open: &str| open.repeat(200_000);
    let huge = "x".repeat(1_000_000);
    let with = |member: &str, value: &str| {
        let (head, tail) = records::FULL_JSON.split_at(1);
        format!("{head}\"{member}\":{value},{tail}")
    };
    for text in [
        deep("["),
        deep("{\"v\":"),
        with("more", &deep("[")),
        records::FULL_JSON.replace("230.2", &deep("[")),
        records::FULL_JSON.replace("230.2", &format!("\"{huge}\"")),
        records::FULL_JSON.replace("230.2", &"9".repeat(1_000_000)),
        records::FULL_JSON.replace("voltage_v", &huge),
        records::FULL_JSON.replace("88141", &format!("\"{huge}\"")),
        records::FULL_JSON.replace("2026-11-23T21:04:07.113Z", &huge),
        records::FULL_JSON.replace("synced", &huge),
        records::FULL_JSON.replace("meter-1", &huge),
        records::FULL_JSON.replace("sdm120", &huge),
        facts::LOSS.replace("drop_oldest", &huge),
        facts::LOSS.replace("\"loss\"", &format!("\"{huge}\"")),
        facts::LOSS.replace("256", &deep("[")),
        facts::EPOCH.replace("118821", &format!("\"{huge}\"")),
    ] {
        let record = json::decode(text.as_bytes()).unwrap_err().to_string();
        let fact = Fact::decode(text.as_bytes()).unwrap_err().to_string();
        for error in [record, fact] {
            assert!(error.len() <= 250, "{} bytes: {:.300}", error.len(), error);
            assert!(!error.contains(&"x".repeat(81)), "{error}");
        }
    }
}

#[test]
fn a_record_with_too_many_fields_is_refused_while_it_is_read() {
    let many: String = (0..100_000).map(|n| format!("\"a{n}\":1,")).collect();
    let text = records::FULL_JSON.replace("\"voltage_v\"", &format!("{many}\"voltage_v\""));
    let error = json::decode(text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("more than 256"), "{error}");
}
