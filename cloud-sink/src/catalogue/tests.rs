use protocol::{Clock, Fields, Metadata, Reading, Record};

use super::*;
use crate::message::{Coordinates, Message, Partition};

fn entry(device: &str, fields: &[(&str, Value)]) -> Entry {
    let named = |(name, value): &(&str, Value)| (FieldName::new(*name).unwrap(), value.clone());
    let reading = Reading {
        device: device.parse().unwrap(),
        time: "2026-11-23T21:04:07.113Z".parse().unwrap(),
        clock: Clock::Synced,
        fields: Fields::new(fields.iter().map(named).collect()).unwrap(),
        source: None,
        meta: Metadata::default(),
    };
    let record = Record {
        id: "gw7:1f3a9c04d2be:00000001584d".parse().unwrap(),
        digest: protocol::Digest::of(&reading),
        reading,
    };
    let at = Coordinates {
        partition: Partition {
            topic: "t".into(),
            number: 0,
        },
        offset: 0,
        timestamp_ms: None,
    };
    Entry {
        message: Message::new(at, None, None, std::iter::empty()),
        generation: 1,
        document: Document::ours(record),
    }
}

fn knowing(columns: &[(&str, Kind)]) -> Catalogue {
    let catalogue = Catalogue::default();
    let columns = columns.iter();
    let columns = columns.map(|(name, kind)| (FieldName::new(*name).unwrap(), *kind));
    catalogue
        .types
        .write()
        .unwrap()
        .insert("readings".into(), columns.collect());
    catalogue
}

fn raw(entry: &Entry) -> Vec<&str> {
    entry
        .document
        .raw()
        .map(|(name, _)| name.as_str())
        .collect()
}

#[test]
fn a_value_fits_its_column_only_if_it_stays_exactly_the_same() {
    let (float, int) = (Value::Float, Value::Int);
    for (kind, value, expected) in [
        (Kind::Double, float(0.5), Fit::AsIs),
        (Kind::Double, int(21), Fit::Double(21.0)),
        (
            Kind::Double,
            int(-(1 << 53)),
            Fit::Double(-9_007_199_254_740_992.0),
        ),
        (Kind::Double, int((1 << 53) + 1), Fit::Raw),
        (Kind::Double, int(i64::MIN), Fit::Raw),
        (Kind::Long, int(i64::MIN), Fit::AsIs),
        (Kind::Long, float(21.0), Fit::Long(21)),
        (Kind::Long, float(21.5), Fit::Raw),
        (Kind::Long, float(1e300), Fit::Raw),
        (Kind::Bool, int(1), Fit::Raw),
        (Kind::String, Value::Text("1".into()), Fit::AsIs),
        (Kind::Double, Value::Text("1".into()), Fit::Raw),
    ] {
        assert_eq!(fit(kind, &value), expected, "{kind:?} {value:?}");
    }
}

#[test]
fn a_value_of_another_type_goes_to_raw_and_is_an_incident_once_per_device() {
    let catalogue = knowing(&[("level", Kind::Double), ("on", Kind::Bool)]);
    let odd = [
        ("level", Value::Text("full".into())),
        ("on", Value::Bool(true)),
    ];
    let mut entries = [entry("a", &odd), entry("a", &odd), entry("b", &odd)];
    let incidents = catalogue.apply("readings", &mut entries);
    assert_eq!(incidents.len(), 2, "{incidents:?}");
    assert_eq!(
        catalogue.apply("readings", &mut entries).len(),
        2,
        "until they are kept"
    );
    catalogue.said().extend(incidents.into_keys());
    assert!(entries.iter().all(|entry| raw(entry) == ["level"]));
    assert!(catalogue.apply("readings", &mut entries).is_empty());

    let mut usual = [entry(
        "a",
        &[("level", Value::Int(3)), ("on", Value::Bool(true))],
    )];
    assert!(catalogue.apply("readings", &mut usual).is_empty());
    assert_eq!(usual[0].document.misfits(), 0);
}

#[test]
fn only_the_first_sight_of_a_field_is_new() {
    let catalogue = knowing(&[("level", Kind::Double)]);
    let fields = [("level", Value::Float(1.0)), ("on", Value::Bool(true))];
    let entries = [entry("a", &fields), entry("b", &fields)];
    let new = catalogue.unknown("readings", &entries);
    let first = FirstSight {
        name: FieldName::new("on").unwrap(),
        kind: Kind::Bool,
        device: "gw7/a".into(),
    };
    assert_eq!(new, [first]);
    assert_eq!(
        catalogue.unknown("other", &entries).len(),
        2,
        "of each collection"
    );
}

#[test]
fn fields_beyond_the_bound_go_to_raw() {
    let columns: Vec<String> = (0..MAX_COLUMNS).map(|n| format!("f{n}")).collect();
    let columns: Vec<_> = columns
        .iter()
        .map(|name| (name.as_str(), Kind::Double))
        .collect();
    let catalogue = knowing(&columns);
    let mut entries = [entry("a", &[("one_more", Value::Float(1.0))])];
    assert!(catalogue.unknown("readings", &entries).is_empty());
    catalogue.apply("readings", &mut entries);
    assert_eq!(raw(&entries[0]), ["one_more"]);
}

#[test]
fn devices_gather_ranges_and_what_could_not_be_written_is_not_forgotten() {
    let devices = Devices::default();
    let note = |value, at| {
        devices.note(
            &entry("a", &[("level_v", Value::Float(value))]).document,
            at,
        )
    };
    note(2.0, 10);
    note(-1.0, 20);
    let taken = devices.take();
    note(5.0, 30);
    devices.put_back(taken);
    let all = devices.take();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].key(), "gw7/a");
    assert_eq!((all[0].first_ms, all[0].last_ms), (10, 30));
    assert_eq!(all[0].columns["level_v"].min_max, Some((-1.0, 5.0)));
    assert!(devices.take().is_empty());
}
