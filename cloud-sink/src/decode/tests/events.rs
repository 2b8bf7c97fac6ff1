//! CloudEvents in both modes.

use super::*;

const STRUCTURED: Header<'_> = (
    header::CONTENT_TYPE,
    "application/cloudevents+json; charset=UTF-8",
);

fn read(key: Option<&str>, value: &str, headers: &[Header<'_>]) -> Result<Document, Undecodable> {
    reading(&message(key, Some(value.as_bytes()), headers), None, false)
}

#[test]
fn a_reading_of_ours_in_an_envelope_is_the_one_without() {
    let envelope = format!(
        r#"{{"specversion":"1.0","id":"gw7:1f3a9c04d2be:00000001584d","source":"/gateways/gw7","type":"edge.reading.v1",
            "subject":"meter-1","datacontenttype":"application/json","data":{OURS}}}"#
    );
    let bare = read(Some("gw7"), OURS, &[ID, TYPE, JSON]).unwrap();
    assert_eq!(read(Some("gw7"), &envelope, &[STRUCTURED]).unwrap(), bare);

    let mut packed = Vec::new();
    let record = record::json::decode(OURS.as_bytes()).unwrap();
    record::postcard::encode(&record, &mut packed).unwrap();
    let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &packed);
    let envelope = format!(
        r#"{{"specversion":"1.0","id":"gw7:1f3a9c04d2be:00000001584d","type":"edge.reading.v1",
            "datacontenttype":"{}","data_base64":"{text}"}}"#,
        record::postcard::CONTENT_TYPE
    );
    assert_eq!(read(Some("gw7"), &envelope, &[STRUCTURED]).unwrap(), bare);

    let another = envelope.replace("1584d", "1584e");
    let error = read(Some("gw7"), &another, &[STRUCTURED]).unwrap_err();
    assert_eq!(error.reason, Reason::IdMismatch);
}

#[test]
fn the_subject_and_time_of_an_event_stand_in_for_those_of_its_data() {
    let at = "2026-11-23T21:04:07Z";
    let envelope = format!(
        r#"{{"specversion":"1.0","id":"1","source":"/press","type":"com.acme.press","subject":"press-4","time":"{at}","data":{{"oil_c":60.5}}}}"#
    );
    let structured = read(None, &envelope, &[STRUCTURED]).unwrap();
    let headers = [
        ("ce_type", "com.acme.press"),
        ("ce_subject", "press-4"),
        ("ce_time", at),
    ];
    let binary = read(None, r#"{"oil_c":60.5}"#, &headers).unwrap();
    assert_eq!(structured, binary);
    assert_eq!(binary.device(), "press-4");
    let shown = serde_json::to_value(&binary).unwrap();
    assert_eq!(shown["clock"], "device");

    // What the data says itself counts; a subject without a type is no event's.
    let own = read(None, r#"{"device":"press-5","oil_c":60.5}"#, &headers).unwrap();
    assert_eq!(own.device(), "press-5");
    let none = read(None, r#"{"oil_c":60.5}"#, &headers[1..]).unwrap_err();
    assert_eq!(none.reason, Reason::DeviceMissing);
    let odd = read(None, r#"{"device":5,"oil_c":60.5}"#, &headers).unwrap_err();
    assert_eq!(odd.reason, Reason::DeviceMissing);
}

#[test]
fn an_envelope_that_cannot_be_opened_is_a_dead_letter_with_its_reason() {
    let with =
        |more: &str| format!(r#"{{"specversion":"1.0","id":"1","source":"/","type":"t"{more}}}"#);
    for (value, reason) in [
        ("{".to_owned(), Reason::DecodeFailed),
        ("[]".to_owned(), Reason::DecodeFailed),
        (r#"{"device":"p","t":1}"#.to_owned(), Reason::DecodeFailed),
        (
            with(r#","data":{"device":"p","t":1}"#).replace("1.0", "0.3"),
            Reason::VersionUnknown,
        ),
        (with(""), Reason::Empty),
        (with(r#","data":null"#), Reason::Empty),
        (with(r#","data":"text""#), Reason::DecodeFailed),
        (
            with(r#","data":"text","datacontenttype":"text/plain""#),
            Reason::MagicUnknown,
        ),
        (with(r#","data_base64":"%""#), Reason::DecodeFailed),
        (with(r#","data":{},"data_base64":"""#), Reason::DecodeFailed),
        (with(r#","data":{"t":1}"#), Reason::DeviceMissing),
        (with(r#","data":{"device":"p"}"#), Reason::FieldsMissing),
        (
            with(r#","data":{"v":1}"#).replace("\"t\"", "\"edge.reading.v2\""),
            Reason::VersionUnknown,
        ),
        (
            with(r#","data":{"v":1}"#).replace("\"t\"", "\"edge.reading.v1\""),
            Reason::DecodeFailed,
        ),
        (
            format!(
                "{}{}",
                with("").trim_end_matches('}'),
                ",\"data\":".to_owned() + &"[".repeat(100_000)
            ),
            Reason::DecodeFailed,
        ),
        (
            with(&format!(
                ",\"data\":{}{}",
                "[".repeat(100_000),
                "]".repeat(100_000)
            )),
            Reason::DecodeFailed,
        ),
        (
            with(&format!(
                ",\"data\":{}1{}",
                "{\"a\":".repeat(100_000),
                "}".repeat(100_000)
            )),
            Reason::DecodeFailed,
        ),
    ] {
        let error = read(None, &value, &[STRUCTURED]).unwrap_err();
        assert_eq!(error.reason, reason, "{error}: {:.80}", value);
    }
}
