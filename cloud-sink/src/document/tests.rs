use super::*;
use crate::message::Partition;
use mongodb::bson::{self, doc};
use protocol::{FieldName, Fields, Metadata, SourceId, Timestamp};

fn reading(clock: Clock, fields: &[(&str, Value)]) -> Reading {
    let named = |(name, value): &(&str, Value)| (FieldName::new(*name).unwrap(), value.clone());
    Reading {
        device: "meter-1".parse().unwrap(),
        time: "2026-11-23T21:04:07.113999Z".parse().unwrap(),
        clock,
        fields: Fields::new(fields.iter().map(named).collect()).unwrap(),
        source: None,
        meta: Metadata::default(),
    }
}

fn record(reading: Reading) -> Record {
    Record {
        id: "gw7:1f3a9c04d2be:00000001584d".parse().unwrap(),
        digest: Digest(0xfedc_ba98_7654_3210),
        reading,
    }
}

fn stored(document: &Document) -> bson::Document {
    bson::deserialize_from_slice(&bson::serialize_to_vec(document).unwrap()).unwrap()
}

/// If this fails, do not edit the test: documents of this form are stored everywhere.
#[test]
fn the_bytes_of_a_document_are_frozen() {
    let mut whole = reading(
        Clock::Synced,
        &[
            ("energy_wh", Value::Int(1_204_110)),
            ("phase", Value::Text("L1".into())),
            ("relay_on", Value::Bool(true)),
            ("voltage_v", Value::Float(230.2)),
        ],
    );
    whole.source = Some(SourceId {
        boot: 7,
        sequence: 12,
    });
    whole.meta = Metadata::new(vec![(FieldName::new("model").unwrap(), "sdm120".into())]).unwrap();
    let document = Document::ours(record(whole)).expiring(Some(1_763_931_847_113));
    let frozen = concat!(
        "21010000",                                                                       // length
        "025f6964001e0000006777373a3166336139633034643262653a30303030303030313538346400", // _id
        "09747300c925390aa2010000",                                                       // ts
        "036d657461003c00000002676174657761790004000000677737000264657669636500080000006d657465722d3100026d6f64656c000700000073646d3132300000", // meta
        "12736571004d58010000000000", // seq
        "03737263002000000012626f6f7400070000000000000012736571000c0000000000000000", // src
        "02636c6f636b000700000073796e63656400", // clock
        "12646967657374001032547698badcfe", // digest
        "12656e657267795f7768008e5f120000000000", // energy_wh
        "02706861736500030000004c3100", // phase
        "0872656c61795f6f6e0001",     // relay_on
        "01766f6c746167655f76006666666666c66c40", // voltage_v
        "09657870697265735f617400c9f987b29a010000", // expires_at
        "00",                         // end
    );
    let hex: String = bson::serialize_to_vec(&document)
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex, frozen);
}

#[test]
fn a_field_named_like_a_member_keeps_a_place_of_its_own() {
    let fields = [
        ("_id", Value::Int(1)),
        ("ts", Value::Int(2)),
        ("ts_", Value::Int(3)),
        ("ts__", Value::Int(4)),
        ("tsx", Value::Int(5)),
        ("raw", Value::Int(6)),
    ];
    let mut odd = reading(Clock::Synced, &fields);
    odd.meta = Metadata::new(vec![
        (FieldName::new("device").unwrap(), "a".into()),
        (FieldName::new("device_").unwrap(), "b".into()),
    ])
    .unwrap();
    let stored = stored(&Document::ours(record(odd)));
    for (name, value) in [
        ("_id_", 1),
        ("ts_", 2),
        ("ts__", 3),
        ("ts___", 4),
        ("tsx", 5),
        ("raw_", 6),
    ] {
        assert_eq!(stored.get_i64(name).unwrap(), value, "{name}");
    }
    let meta = doc! { "gateway": "gw7", "device": "meter-1", "device_": "a", "device__": "b" };
    assert_eq!(stored.get_document("meta").unwrap(), &meta);
}

#[test]
fn an_unsynchronised_reading_carries_what_its_correction_needs() {
    let clock = Clock::Unsynced {
        boot: BootId(0xab),
        monotonic_us: 5,
    };
    let stored = stored(&Document::ours(record(reading(
        clock,
        &[("a", Value::Int(1))],
    ))));
    assert_eq!(stored.get_str("clock").unwrap(), "unsynced");
    let uptime = doc! { "boot": "00000000000000ab", "us": 5_i64 };
    assert_eq!(stored.get_document("uptime").unwrap(), &uptime);
}

#[test]
fn a_foreign_record_is_known_by_its_place() {
    let at = Coordinates {
        partition: Partition {
            topic: "t".into(),
            number: 3,
        },
        offset: 8,
        timestamp_ms: Some(9),
    };
    let one = reading(Clock::Device, &[("a", Value::Int(1))]);
    let stored = stored(&Document::foreign(one, None, at, false));
    assert_eq!(stored.get_str("_id").unwrap(), "foreign:t:3:8:9");
    assert_eq!(stored.get_str("clock").unwrap(), "broker");
    assert_eq!(
        stored.get_document("meta").unwrap(),
        &doc! { "device": "meter-1" }
    );
    let place = doc! { "topic": "t", "partition": 3, "offset": 8_i64 };
    assert_eq!(stored.get_document("foreign").unwrap(), &place);
    assert!(!stored.contains_key("seq"));
}

#[test]
fn a_route_that_asks_gets_every_station_that_is_known() {
    let time = |ms: i64| Timestamp::from_micros(ms * 1000).ok();
    let hops = Hops {
        received: time(1000),
        committed: time(1007),
        sent: None,
    };
    let at = Coordinates {
        partition: Partition {
            topic: "t".into(),
            number: 2,
        },
        offset: 9,
        timestamp_ms: Some(1020),
    };
    let ours = || Document::ours(record(reading(Clock::Synced, &[("a", Value::Int(1))])));
    let without = ours().passing(hops, &at, false);
    assert_eq!(without.arrived_ms(), Some(1000));
    assert!(!stored(&without).contains_key("hops"));
    let mut whole = ours().passing(hops, &at, true);
    whole.consumed(|| 1030);
    whole.writing(1041);
    let date = bson::DateTime::from_millis;
    assert_eq!(
        stored(&whole).get_document("hops").unwrap(),
        &doc! {
            "received": date(1000), "committed": date(1007), "appended": date(1020),
            "consumed": date(1030), "written": date(1041),
            "topic": "t", "partition": 2, "offset": 9_i64,
        }
    );
}

#[test]
fn a_value_that_does_not_fit_its_column_is_in_raw_under_its_own_name() {
    let fields = [
        ("level", Value::Text("full".into())),
        ("seq", Value::Bool(true)),
        ("voltage_v", Value::Int(230)),
    ];
    let mut document = Document::ours(record(reading(Clock::Synced, &fields)));
    document.fit(|name, value| match (name.as_str(), value) {
        ("level" | "seq", _) => Fit::Raw,
        _ => Fit::Double(230.0),
    });
    assert_eq!(document.misfits(), 2);
    let stored = stored(&document);
    assert_eq!(stored.get_i64("seq").unwrap(), 88_141);
    assert_eq!(stored.get_f64("voltage_v").unwrap(), 230.0);
    assert!(!stored.contains_key("level"));
    let raw = doc! { "level": "full", "seq": true };
    assert_eq!(stored.get_document("raw").unwrap(), &raw);
}

#[test]
fn a_trace_stands_beside_the_metadata_that_sorts_a_time_series() {
    let mut traced = reading(Clock::Synced, &[("traceparent", Value::Text("x".into()))]);
    let entries = [("traceparent", "00-ab-cd-01"), ("site", "b2")];
    let entries = entries.map(|(name, text)| (FieldName::new(name).unwrap(), text.into()));
    traced.meta = Metadata::new(entries.to_vec()).unwrap();
    let stored = stored(&Document::ours(record(traced)));
    assert_eq!(stored.get_str("traceparent").unwrap(), "00-ab-cd-01");
    assert_eq!(stored.get_str("traceparent_").unwrap(), "x");
    let meta = doc! { "gateway": "gw7", "device": "meter-1", "site": "b2" };
    assert_eq!(stored.get_document("meta").unwrap(), &meta);
}
