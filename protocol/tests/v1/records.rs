//! Frozen: records, bare readings, headers and digests. If this fails, do not edit the test, revert the change.

use protocol::{
    BootId, Clock, Digest, Fields, Metadata, Reading, Record, SourceId, Timestamp, Value,
    header::{self, Hops},
    record::{RecordError, json, postcard},
};

use crate::hex::{bytes, hex};

pub fn fields(fields: &[(&str, Value)]) -> Fields {
    let named = fields
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.clone()))
        .collect();
    Fields::new(named).unwrap()
}

fn meta(entries: &[(&str, &str)]) -> Metadata {
    let named = entries
        .iter()
        .map(|(name, text)| (name.parse().unwrap(), (*text).into()))
        .collect();
    Metadata::new(named).unwrap()
}

/// With everything a reading can have.
pub fn full() -> Record {
    Record {
        id: "gw7:1f3a9c04d2be:00000001584d".parse().unwrap(),
        digest: Digest(0x5154_c8d9_70b3_4f09),
        reading: Reading {
            device: "meter-1".parse().unwrap(),
            time: "2026-11-23T21:04:07.113Z".parse().unwrap(),
            clock: Clock::Synced,
            fields: fields(&[
                ("voltage_v", Value::Float(230.2)),
                ("energy_wh", Value::Int(1_204_110)),
                ("relay_on", Value::Bool(true)),
                ("state", Value::Text("läuft".into())),
            ]),
            source: Some(SourceId {
                boot: 7,
                sequence: 12,
            }),
            meta: meta(&[("site", "berlin-2"), ("model", "sdm120")]),
        },
    }
}

/// With as little as a reading can have, before 1970, on a clock nobody set.
pub fn bare() -> Record {
    Record {
        id: "g:000000000000:000000000000".parse().unwrap(),
        digest: Digest(0xcb15_e701_d371_e27c),
        reading: Reading {
            device: "a".parse().unwrap(),
            time: Timestamp::from_micros(-1).unwrap(),
            clock: Clock::Unsynced {
                boot: BootId(0x0123_4567_89ab_cdef),
                monotonic_us: 5_000_001,
            },
            fields: fields(&[
                ("temperature_c", Value::Float(-0.0)),
                ("lowest", Value::Int(i64::MIN)),
            ]),
            source: None,
            meta: Metadata::default(),
        },
    }
}

const FULL_READING: &str = "076d657465722d31d0e4dcf3fdbdb006010409656e657267795f7768019cfe92010872656c61795f6f\
    6e020105737461746503066cc3a475667409766f6c746167655f76006666666666c66c4001070c02056d6f64656c0673646d31323004\
    73697465086265726c696e2d32";
const BARE_READING: &str = "01610102ef9bafcdf8acd19101c196b10202066c6f7765737401ffffffffffffffffff010d74656d7065\
    7261747572655f630000000000000000800000";

fn is_postcard(record: &Record, expected: &str) {
    let mut encoded = Vec::new();
    postcard::encode(record, &mut encoded).unwrap();
    assert_eq!(hex(&encoded), expected);
    assert_eq!(postcard::decode(&encoded).as_ref(), Ok(record));
}

#[test]
fn postcard_record() {
    is_postcard(
        &full(),
        &format!("0103677737bea593e0a9e707cdb005899ecd85979bb2aa51{FULL_READING}"),
    );
    is_postcard(
        &bare(),
        &format!("0101670000fcc4c79b9de0f98acb01{BARE_READING}"),
    );
}

#[test]
fn bare_reading() {
    for (record, expected) in [(full(), FULL_READING), (bare(), BARE_READING)] {
        let mut encoded = Vec::new();
        postcard::encode_reading(&record.reading, &mut encoded).unwrap();
        assert_eq!(hex(&encoded), expected);
        encoded.push(0xaa);
        let (reading, rest) = postcard::decode_reading(&encoded).unwrap();
        assert_eq!((reading, rest), (record.reading, &[0xaa][..]));
    }
}

fn clock_number(clock: Clock) -> u8 {
    let mut reading = bare().reading;
    reading.clock = clock;
    let mut encoded = Vec::new();
    postcard::encode_reading(&reading, &mut encoded).unwrap();
    // Behind the device (length 1, `a`) and the time (-1).
    encoded[3]
}

#[test]
fn clocks_keep_their_numbers() {
    let unsynced = bare().reading.clock;
    let numbers = [Clock::Device, Clock::Synced, unsynced, Clock::Corrected].map(clock_number);
    assert_eq!(numbers, [0, 1, 2, 3]);
}

fn is_json(record: &Record, expected: &str) {
    let mut encoded = Vec::new();
    json::encode(record, &mut encoded).unwrap();
    assert_eq!(String::from_utf8(encoded.clone()).unwrap(), expected);
    assert_eq!(json::decode(&encoded).as_ref(), Ok(record));
}

pub const FULL_JSON: &str = r#"{"v":1,"gateway":"gw7","device":"meter-1","epoch":"1f3a9c04d2be","seq":88141,"digest":"5154c8d970b34f09","time":"2026-11-23T21:04:07.113Z","clock":"synced","src":{"boot":7,"seq":12},"fields":{"energy_wh":1204110,"relay_on":true,"state":"läuft","voltage_v":230.2},"meta":{"model":"sdm120","site":"berlin-2"}}"#;

#[test]
fn json_record() {
    is_json(&full(), FULL_JSON);
    is_json(
        &bare(),
        r#"{"v":1,"gateway":"g","device":"a","epoch":"000000000000","seq":0,"digest":"cb15e701d371e27c","time":"1969-12-31T23:59:59.999999Z","clock":"unsynced","boot":"0123456789abcdef","uptime_us":5000001,"fields":{"lowest":-9223372036854775808,"temperature_c":-0.0}}"#,
    );
}

#[test]
fn whole_floats_and_integers_differ_in_json() {
    let mut record = full();
    record.reading.fields = fields(&[
        ("float", Value::Float(21.0)),
        ("int", Value::Int(21)),
        ("large", Value::Float(1e300)),
        ("small", Value::Float(5e-324)),
    ]);
    let mut encoded = Vec::new();
    json::encode(&record, &mut encoded).unwrap();
    let text = String::from_utf8(encoded.clone()).unwrap();
    assert!(text.contains(r#""float":21.0,"int":21,"#), "{text}");
    assert_eq!(json::decode(&encoded), Ok(record));
}

#[test]
fn members_a_reader_does_not_know_are_ignored() {
    let more = FULL_JSON.replacen('{', r#"{"tomorrow":[{"v":9}],"#, 1);
    assert_eq!(json::decode(more.as_bytes()), Ok(full()));
}

#[test]
fn a_newer_record_is_told_from_a_damaged_one() {
    let newer = r#"{"v":2,"fields":"who knows"}"#;
    assert_eq!(
        json::decode(newer.as_bytes()),
        Err(RecordError::UnknownVersion(2))
    );
    assert_eq!(
        postcard::decode(&[2, 0xff, 0xff]),
        Err(RecordError::UnknownVersion(2))
    );
    for damaged in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"v":0}"#,
        r#"{"v":"1"}"#,
        r#"{"v":1}"#,
    ] {
        let error = json::decode(damaged.as_bytes()).unwrap_err();
        assert!(matches!(error, RecordError::Malformed(_)), "{damaged}");
    }
    for damaged in ["", "00", "01", "0103677737"] {
        let error = postcard::decode(&bytes(damaged)).unwrap_err();
        assert!(matches!(error, RecordError::Malformed(_)), "{damaged}");
    }
}

#[test]
fn headers() {
    let micros = |micros| Timestamp::from_micros(micros).ok();
    let hops = Hops {
        received: micros(1_795_467_847_113_000),
        committed: None,
        sent: micros(1_795_467_847_150_001),
    };
    let headers = header::of(&full(), json::CONTENT_TYPE, &hops);
    let text: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    assert_eq!(
        text,
        [
            "ce_specversion: 1.0",
            "ce_id: gw7:1f3a9c04d2be:00000001584d",
            "ce_source: /gateways/gw7",
            "ce_type: edge.reading.v1",
            "ce_subject: meter-1",
            "ce_time: 2026-11-23T21:04:07.113Z",
            "content-type: application/json",
            "edge_digest: 5154c8d970b34f09",
            "edge_hops: 1795467847113000,-,1795467847150001",
        ]
    );
    assert_eq!(
        postcard::CONTENT_TYPE,
        "application/vnd.edge.reading+postcard"
    );
}

fn digest(device: &str, values: &[(&str, Value)], source: Option<SourceId>) -> String {
    let mut reading = full().reading;
    reading.device = device.parse().unwrap();
    reading.fields = fields(values);
    reading.source = source;
    Digest::of(&reading).to_string()
}

#[test]
fn digests() {
    let from = |boot, sequence| Some(SourceId { boot, sequence });
    let one = |value| digest("m", &[("x", value)], None);
    assert_eq!(Digest::of(&full().reading), full().digest);
    assert_eq!(Digest::of(&bare().reading), bare().digest);
    assert_eq!(one(Value::Float(0.0)), "fbdff386fa8ab2b6");
    assert_eq!(one(Value::Float(-0.0)), "fbdff386fa8ab2b6");
    assert_eq!(one(Value::Int(0)), "40daebdf83683d54");
    assert_eq!(one(Value::Int(i64::MIN)), "c773efc7eccd6ee8");
    assert_eq!(one(Value::Text("läuft".into())), "bf02fa9742799f2c");
    assert_eq!(one(Value::Text("".into())), "addd70533cd98065");
    assert_eq!(one(Value::Bool(true)), "8929b5cb4f6dbf3f");
    let two = [("b", Value::Bool(false)), ("a", Value::Float(1e300))];
    assert_eq!(digest("plant/4", &two, from(0, 0)), "e5bf88cac01e2d46");
    let zero = [("x", Value::Float(0.0))];
    assert_eq!(digest("m", &zero, from(u64::MAX, 1)), "c105a770981506e5");
}

#[test]
fn the_digest_is_not_over_time_clock_or_metadata() {
    let mut later = full().reading;
    later.time = Timestamp::from_micros(0).unwrap();
    later.clock = Clock::Corrected;
    later.meta = Metadata::default();
    assert_eq!(Digest::of(&later), full().digest);
}
