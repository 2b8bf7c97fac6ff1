use std::sync::Arc;

use protocol::{Record, header, record};

use super::*;
use crate::message::{Coordinates, Partition};

const OURS: &str = r#"{"v":1,"gateway":"gw7","device":"meter-1","epoch":"1f3a9c04d2be","seq":88141,
    "digest":"4711fa3a9c04d2be","time":"2026-11-23T21:04:07.113Z","clock":"synced",
    "fields":{"voltage_v":230.2}}"#;

type Header<'a> = (&'a str, &'a str);

fn message(key: Option<&str>, value: Option<&[u8]>, headers: &[Header<'_>]) -> Message {
    let at = Coordinates {
        partition: Partition {
            topic: Arc::from("t"),
            number: 0,
        },
        offset: 7,
        timestamp_ms: Some(1_000),
    };
    let headers = headers
        .iter()
        .map(|(name, value)| (*name, Some(value.as_bytes())));
    Message::new(at, key.map(str::as_bytes), value, headers)
}

fn reason(key: Option<&str>, value: &[u8], headers: &[Header<'_>]) -> Option<Reason> {
    reading(&message(key, Some(value), headers), None, false)
        .err()
        .map(|error| error.reason)
}

const ID: Header<'_> = (header::ID, "gw7:1f3a9c04d2be:00000001584d");
const TYPE: Header<'_> = (header::TYPE, header::READING_V1);
const JSON: Header<'_> = (header::CONTENT_TYPE, "application/json; charset=utf-8");

#[test]
fn every_record_is_a_reading_or_a_dead_letter_with_its_reason() {
    let newer = OURS.replace("\"v\":1", "\"v\":2");
    let gw8 = ("ce_id", "gw8:1f3a9c04d2be:00000001584d");
    type Case<'a> = (
        &'a str,
        Option<&'a str>,
        &'a [u8],
        &'a [Header<'a>],
        Option<Reason>,
    );
    let table: &[Case<'_>] = &[
        (
            "ours",
            Some("gw7"),
            OURS.as_bytes(),
            &[ID, TYPE, JSON],
            None,
        ),
        ("headers lost", Some("gw7"), OURS.as_bytes(), &[], None),
        (
            "newer",
            Some("gw7"),
            newer.as_bytes(),
            &[ID, TYPE],
            Some(Reason::VersionUnknown),
        ),
        (
            "newer, headers lost",
            Some("gw7"),
            newer.as_bytes(),
            &[],
            Some(Reason::VersionUnknown),
        ),
        (
            "somebody else's v",
            Some("plant"),
            br#"{"v":230,"device":"guest"}"#,
            &[],
            None,
        ),
        (
            "newer type",
            Some("gw7"),
            b"{}",
            &[("ce_type", "edge.reading.v9")],
            Some(Reason::VersionUnknown),
        ),
        (
            "key of another",
            Some("gw8"),
            OURS.as_bytes(),
            &[ID, TYPE],
            Some(Reason::IdMismatch),
        ),
        (
            "no key",
            None,
            OURS.as_bytes(),
            &[ID, TYPE],
            Some(Reason::IdMismatch),
        ),
        (
            "id of another",
            Some("gw7"),
            OURS.as_bytes(),
            &[gw8, TYPE],
            Some(Reason::IdMismatch),
        ),
        (
            "id lost",
            Some("gw7"),
            OURS.as_bytes(),
            &[TYPE],
            Some(Reason::IdMismatch),
        ),
        (
            "digest of another",
            Some("gw7"),
            OURS.as_bytes(),
            &[ID, TYPE, ("edge_digest", "0000000000000000")],
            Some(Reason::DigestMismatch),
        ),
        (
            "garbage",
            Some("gw7"),
            b"\xff\xfe",
            &[],
            Some(Reason::MagicUnknown),
        ),
        (
            "garbage that claims to be ours",
            Some("gw7"),
            b"\xff\xfe",
            &[ID, TYPE, JSON],
            Some(Reason::DecodeFailed),
        ),
        (
            "schema id without a registry",
            Some("gw7"),
            b"\0\0\0\0\x07x",
            &[],
            Some(Reason::SchemaUnknown),
        ),
        (
            "half a schema id",
            Some("gw7"),
            b"\0\0\0\x07",
            &[],
            Some(Reason::MagicUnknown),
        ),
        (
            "avro",
            Some("gw7"),
            b"x",
            &[("content-type", "application/avro")],
            Some(Reason::MagicUnknown),
        ),
        ("empty", Some("gw7"), b"", &[], Some(Reason::Empty)),
        (
            "truncated",
            Some("gw7"),
            &OURS.as_bytes()[..90],
            &[ID, TYPE, JSON],
            Some(Reason::DecodeFailed),
        ),
        (
            "truncated, foreign",
            Some("gw7"),
            &OURS.as_bytes()[..90],
            &[],
            Some(Reason::DecodeFailed),
        ),
        (
            "foreign",
            Some("line 4"),
            br#"{"device":"p","t":{"oil":60.5},"n":null}"#,
            &[],
            None,
        ),
        (
            "foreign, typed",
            None,
            br#"{"device_id":"p","on":true}"#,
            &[("ce_type", "com.acme.press")],
            None,
        ),
        (
            "no device",
            None,
            br#"{"on":true}"#,
            &[],
            Some(Reason::DeviceMissing),
        ),
        (
            "device is a number",
            None,
            br#"{"device":4,"on":true}"#,
            &[],
            Some(Reason::DeviceMissing),
        ),
        (
            "no fields",
            None,
            br#"{"device":"p"}"#,
            &[],
            Some(Reason::FieldsMissing),
        ),
        (
            "array",
            None,
            br#"{"device":"p","a":[1]}"#,
            &[],
            Some(Reason::DecodeFailed),
        ),
        (
            "beyond 64 bits",
            None,
            br#"{"device":"p","a":18446744073709551615}"#,
            &[],
            Some(Reason::DecodeFailed),
        ),
        (
            "two names become one",
            None,
            br#"{"device":"p","A":1,"a":2}"#,
            &[],
            Some(Reason::DecodeFailed),
        ),
    ];
    for (name, key, value, headers, expected) in table {
        assert_eq!(reason(*key, value, headers), *expected, "{name}");
    }
    let tombstone = reading(&message(Some("gw7"), None, &[]), None, false).unwrap_err();
    assert_eq!(tombstone.reason, Reason::Empty);
}

#[test]
fn both_forms_become_the_same_document() {
    let record: Record = record::json::decode(OURS.as_bytes()).unwrap();
    let mut packed = Vec::new();
    record::postcard::encode(&record, &mut packed).unwrap();
    let form = (header::CONTENT_TYPE, record::postcard::CONTENT_TYPE);
    let from_json = reading(
        &message(Some("gw7"), Some(OURS.as_bytes()), &[ID, TYPE, JSON]),
        None,
        false,
    );
    let from_postcard = reading(
        &message(Some("gw7"), Some(&packed), &[ID, TYPE, form]),
        None,
        false,
    );
    assert_eq!(from_json.unwrap(), from_postcard.unwrap());
}

#[test]
fn nesting_without_end_is_a_dead_letter() {
    let deep = format!(
        "{{\"device\":\"p\",\"a\":{}1{}}}",
        "{\"b\":".repeat(100_000),
        "}".repeat(100_000)
    );
    assert_eq!(
        reason(None, deep.as_bytes(), &[]),
        Some(Reason::DecodeFailed)
    );
    let nine = format!(
        "{{\"device\":\"p\",\"a\":{}1{}}}",
        "{\"b\":".repeat(9),
        "}".repeat(9)
    );
    assert_eq!(
        reason(None, nine.as_bytes(), &[]),
        Some(Reason::DecodeFailed)
    );
}

#[test]
fn details_stay_short_whatever_the_record_holds() {
    let long = format!("{{\"device\":\"{}\",\"a\":1}}", "ä".repeat(100_000));
    let error = reading(&message(None, Some(long.as_bytes()), &[]), None, false).unwrap_err();
    assert!(error.detail.len() <= MAX_DETAIL);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_decode_panic(
        key in proptest::option::of("[a-z0-9]{0,8}"),
        value in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        content in "(application/json|application/vnd.edge.reading.postcard|.{0,10})",
    ) {
        let headers = [TYPE, ID, (header::CONTENT_TYPE, content.as_str())];
        for count in 0..=headers.len() {
            let made = message(key.as_deref(), Some(&value), &headers[..count]);
            drop(reading(&made, None, true));
        }
    }
}

mod events;
mod registered;
