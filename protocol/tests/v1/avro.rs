//! Frozen: registered records and their schemas. If this fails, do not edit the test, revert the change.
//!
//! What is written is read back by `apache-avro`, which shares no code with the encoder.

use apache_avro::{
    Schema, reader::datum::GenericDatumReader, schema_compatibility::SchemaCompatibility,
    types::Value as Read, writer::datum::GenericDatumWriter,
};
use proptest::prelude::*;
use protocol::{
    Clock, Digest, FieldName, Fields, Metadata, Reading, Record, RecordId, SourceId, Timestamp,
    Value,
    record::avro,
    schema::{
        Declaration, Kind, MAX_DECLARED, RECORD_NAME, SchemaError, SchemaId,
        avro::{AvroSchema, column, field},
        json,
    },
};
use serde::Deserialize;

use crate::{
    hex::hex,
    properties,
    records::{bare, full},
};

pub fn declared(fields: &[(&str, Kind)]) -> Declaration {
    let fields = fields
        .iter()
        .map(|(name, kind)| (name.parse().unwrap(), *kind));
    Declaration::new(fields).unwrap()
}

/// Beside what `full` has: one field more, one less, and one of another type.
pub const METER: [(&str, Kind); 4] = [
    ("current_a", Kind::Double),
    ("energy_wh", Kind::Long),
    ("relay_on", Kind::Bool),
    ("voltage_v", Kind::Double),
];

pub fn encoded(record: &Record, id: u32, fields: &[(&str, Kind)]) -> Vec<u8> {
    let mut out = Vec::new();
    avro::encode(
        record,
        SchemaId(id),
        &AvroSchema::of(&declared(fields)),
        &mut out,
    );
    out
}

pub const FULL: &str = "0000000007066777370e6d657465722d31183166336139633034643262659ae10a92bc9a8baeb6e4d4a201d0\
    e4dcf3fdbdb006020000020e18040a6d6f64656c0c73646d3132300873697465106265726c696e2d3200020a7374617465060c6cc3a4\
    756674000002\
    9cfe92010201026666666666c66c40";

#[test]
fn avro_record() {
    let frozen = FULL.replace(char::is_whitespace, "");
    assert_eq!(hex(&encoded(&full(), 7, &METER)), frozen);
    assert_eq!(
        hex(&encoded(&full(), 7, &[])),
        "0000000007066777370e6d657465722d31183166336139633034643262659ae10a92bc9a8baeb6e4d4a201d0e4dcf3fdbdb0060\
         20000020e18040a6d6f64656c0c73646d3132300873697465106265726c696e2d32000812656e657267795f7768029cfe92011072\
         656c61795f6f6e04010a7374617465060c6cc3a475667412766f6c746167655f76006666666666c66c4000"
    );
    // `lowest` is an integer in a column of floats.
    let columns = [("lowest", Kind::Double), ("temperature_c", Kind::Double)];
    assert_eq!(
        hex(&encoded(&bare(), 0x0102_0304, &columns)),
        "000102030402670261183030303030303030303030300087f6f0c8c5bf8cea690104022030313233343536373839616263646566\
         0282ade2040000020c6c6f7765737402ffffffffffffffffff010000020000000000000080"
    );
}

#[derive(Deserialize)]
struct Vectors {
    avro: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    schema_id: u32,
    columns: Vec<(String, String)>,
    record: serde_json::Value,
    value: String,
}

#[test]
fn avro_vectors_are_what_is_sent() {
    let vectors: Vectors = serde_json::from_str(include_str!("../../vectors/v1.json")).unwrap();
    assert!(vectors.avro.len() >= 3);
    for vector in vectors.avro {
        let record = protocol::record::json::decode(vector.record.to_string().as_bytes()).unwrap();
        let columns = vector
            .columns
            .iter()
            .map(|(name, kind)| (name.parse().unwrap(), kind.parse().unwrap()));
        let schema = AvroSchema::of(&Declaration::new(columns).unwrap());
        let mut out = Vec::new();
        avro::encode(&record, SchemaId(vector.schema_id), &schema, &mut out);
        assert_eq!(hex(&out), vector.value, "{}", vector.name);
    }
}

pub const METER_SCHEMA: &str = r#"{"type":"record","name":"Reading","namespace":"edge.reading.v1","doc":"What one device measured at one time","fields":[{"name":"gateway","type":"string","doc":"Box that runs the agent; also the key"},{"name":"device","type":"string","doc":"Who measured"},{"name":"epoch","type":"string","doc":"Run of the gateway's queue, 12 hex digits"},{"name":"sequence","type":"long","doc":"Counts from 0 within the epoch, without gaps"},{"name":"digest","type":"long","doc":"64 bits over device, values and source, with a sign"},{"name":"time","type":{"type":"long","logicalType":"timestamp-micros"},"doc":"When it was measured"},{"name":"clock","type":{"type":"enum","name":"Clock","symbols":["device","synced","unsynced","corrected"]},"doc":"What that time is worth"},{"name":"boot","type":["null","string"],"doc":"With clock unsynced: boot of the gateway, 16 hex digits","default":null},{"name":"uptime_us","type":["null","long"],"doc":"With clock unsynced: microseconds since that boot","default":null},{"name":"src","type":["null",{"type":"record","name":"Source","fields":[{"name":"boot","type":"long"},{"name":"seq","type":"long"}]}],"doc":"The device's own number of the reading, 64 bits with a sign each","default":null},{"name":"meta","type":{"type":"map","values":"string"},"doc":"Model, site and the like","default":{}},{"name":"undeclared","type":{"type":"map","values":["double","long","boolean","string"]},"doc":"Values without a column of their type","default":{}},{"name":"current_a","type":["null","double"],"doc":"A","default":null},{"name":"energy_wh","type":["null","long"],"doc":"Wh","default":null},{"name":"relay_on","type":["null","boolean"],"default":null},{"name":"voltage_v","type":["null","double"],"doc":"V","default":null}]}"#;

#[test]
fn avro_schema() {
    assert_eq!(AvroSchema::of(&declared(&METER)).text(), METER_SCHEMA);
    assert_eq!(avro::CONTENT_TYPE, "application/vnd.edge.reading+avro");
    let parsed = Schema::parse_str(METER_SCHEMA).unwrap();
    let Schema::Record(record) = parsed else {
        panic!("no record");
    };
    assert_eq!(record.name.fullname(None), RECORD_NAME);
}

#[test]
fn json_schema() {
    assert_eq!(
        json::text(&declared(&METER[1..3])),
        r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"edge.reading.v1.Reading","description":"What one device measured at one time","type":"object","properties":{"v":{"const":1},"gateway":{"type":"string","description":"Box that runs the agent; also the key"},"device":{"type":"string","description":"Who measured"},"epoch":{"type":"string","description":"Run of the gateway's queue, 12 hex digits"},"seq":{"type":"integer","minimum":0,"description":"Counts from 0 within the epoch, without gaps"},"digest":{"type":"string","description":"64 bits over device, values and source, 16 hex digits"},"time":{"type":"string","format":"date-time","description":"When it was measured"},"clock":{"enum":["device","synced","unsynced","corrected"],"description":"What that time is worth"},"boot":{"type":"string","description":"With clock unsynced: boot of the gateway, 16 hex digits"},"uptime_us":{"type":"integer","minimum":0,"description":"With clock unsynced: microseconds since that boot"},"src":{"type":"object","description":"The device's own number of the reading","properties":{"boot":{"type":"integer","minimum":0},"seq":{"type":"integer","minimum":0}},"required":["boot","seq"]},"fields":{"type":"object","minProperties":1,"properties":{"energy_wh":{"type":["number","boolean","string"],"description":"integer, Wh"},"relay_on":{"type":["number","boolean","string"],"description":"boolean"}},"additionalProperties":{"type":["number","boolean","string"]}},"meta":{"type":"object","description":"Model, site and the like","additionalProperties":{"type":"string"}}},"required":["v","gateway","device","epoch","seq","digest","time","clock","fields"]}"#
    );
    assert_eq!(
        json::CONTENT_TYPE,
        "application/vnd.edge.reading+json-schema"
    );
    for declaration in [declared(&[]), declared(&METER)] {
        let schema: serde_json::Value = serde_json::from_str(&json::text(&declaration)).unwrap();
        let fields = schema["properties"]["fields"]["properties"]
            .as_object()
            .unwrap();
        assert_eq!(fields.len(), declaration.iter().len());
    }
}

#[test]
fn a_schema_id_is_five_bytes_before_the_body() {
    let mut out = vec![0xaa];
    SchemaId(100_042).write(&mut out);
    assert_eq!(out, [0xaa, 0, 0, 1, 0x86, 0xca]);
    assert_eq!(
        SchemaId::read(&out[1..]),
        Some((SchemaId(100_042), &[][..]))
    );
    assert_eq!(SchemaId::read(&out[1..5]), None);
    assert_eq!(SchemaId::read(&out), None);
    assert_eq!(SchemaId::read(b""), None);
}

#[test]
fn a_field_has_a_column_of_its_own_and_the_column_tells_the_field() {
    for (name, expected) in [
        ("voltage_v", "voltage_v"),
        ("gateway", "gateway_"),
        ("gateway_", "gateway__"),
        ("undeclared", "undeclared_"),
        ("seq", "seq"),
        ("1_8_0", "_1_8_0"),
        ("_1_8_0", "__1_8_0"),
        ("_", "_"),
        ("_x", "_x"),
    ] {
        let name: FieldName = name.parse().unwrap();
        assert_eq!(column(&name), expected);
        assert_eq!(field(expected), Some(name));
    }
    for none in ["gateway", "1_8_0", "", "Voltage", "a.b"] {
        assert_eq!(field(none), None, "{none}");
    }
}

#[test]
fn a_declaration_is_bounded_and_has_each_field_once() {
    let field = |at: usize| (format!("f{at}").parse().unwrap(), Kind::Double);
    assert!(Declaration::new((0..MAX_DECLARED).map(field)).is_ok());
    let more = Declaration::new((0..=MAX_DECLARED).map(field));
    assert_eq!(more, Err(SchemaError::Count(MAX_DECLARED + 1)));
    let twice = Declaration::new([field(1), field(2), field(1)]);
    assert_eq!(twice, Err(SchemaError::Twice("f1".parse().unwrap())));
    for kind in Kind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
    }
    assert_eq!("float".parse::<Kind>(), Err(SchemaError::Kind));
}

#[test]
fn a_schema_is_read_back_from_a_registry_that_wrote_it_its_own_way() {
    let ours = AvroSchema::of(&declared(&METER));
    assert_eq!(AvroSchema::parse(ours.text()).as_ref(), Ok(&ours));

    // Another order of keys and columns, no documentation, the name in one piece.
    let mut schema: serde_json::Value = serde_json::from_str(METER_SCHEMA).unwrap();
    schema["name"] = RECORD_NAME.into();
    let object = schema.as_object_mut().unwrap();
    object.remove("namespace");
    let members = object["fields"].as_array_mut().unwrap();
    for member in members.iter_mut() {
        member.as_object_mut().unwrap().remove("doc");
    }
    members.swap(12, 15);
    let read = AvroSchema::parse(&schema.to_string()).unwrap();
    let columns: Vec<_> = read
        .columns()
        .map(|(name, kind)| (name.to_string(), kind))
        .collect();
    assert_eq!(columns[0], ("voltage_v".to_owned(), Kind::Double));
    assert_eq!(columns[3], ("current_a".to_owned(), Kind::Double));
    let mut out = Vec::new();
    avro::encode(&full(), SchemaId(7), &read, &mut out);
    assert_eq!(read_back(&schema.to_string(), None, &out), full());
}

#[test]
fn only_a_schema_of_readings_is_written_by() {
    let replaced = |from: &str, to: &str| AvroSchema::parse(&METER_SCHEMA.replacen(from, to, 1));
    assert_eq!(
        replaced("edge.reading.v1", "edge.reading.v2"),
        Err(SchemaError::UnknownVersion(
            "edge.reading.v2.Reading".into()
        ))
    );
    for (from, to, said) in [
        (
            "edge.reading.v1",
            "com.acme",
            "a record \"com.acme.Reading\"",
        ),
        (r#""name":"sequence""#, r#""name":"seq""#, "member sequence"),
        (r#""symbols":["device","#, r#""symbols":["#, "member clock"),
        (
            r#""name":"voltage_v","type":["null","double"]"#,
            r#""name":"voltage_v","type":["null","float"]"#,
            "member voltage_v",
        ),
        (
            r#""name":"voltage_v","type":["null","double"]"#,
            r#""name":"voltage_v","type":"double""#,
            "member voltage_v",
        ),
        (
            r#""name":"voltage_v""#,
            r#""name":"Voltage""#,
            "member \"Voltage\"",
        ),
        (
            r#""name":"voltage_v""#,
            r#""name":"current_a""#,
            "declared twice",
        ),
        (
            r#","fields":[{"name":"gateway""#,
            r#","columns":[{"name":"gateway""#,
            "member gateway",
        ),
    ] {
        let error = replaced(from, to).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    for garbage in ["", "{", "[]", "\"string\"", "{}", r#"{"type":"record"}"#] {
        assert!(AvroSchema::parse(garbage).is_err(), "{garbage}");
    }
}

#[test]
fn a_field_more_or_less_breaks_nobody_and_another_type_does() {
    let schema = |fields: &[(&str, Kind)]| {
        Schema::parse_str(AvroSchema::of(&declared(fields)).text()).unwrap()
    };
    let all = schema(&METER);
    for fewer in [&METER[..3], &METER[1..], &[]] {
        let fewer = schema(fewer);
        SchemaCompatibility::mutual_read(&all, &fewer).unwrap();
    }

    // (The library's own checker is content when one branch of two unions agrees.)
    let retyped = [("voltage_v", Kind::String)];
    let mut record = full();
    record.reading.fields = crate::records::fields(&[("voltage_v", Value::Text("230 V".into()))]);
    let value = encoded(&record, 7, &retyped);
    let writer = schema(&retyped);
    let by = GenericDatumReader::builder(&writer).reader_schema(&all);
    let read = by
        .build()
        .unwrap()
        .read_value(&mut &value[SchemaId::PREFIX_BYTES..]);
    assert!(read.is_err(), "{read:?}");
}

#[test]
fn readers_with_another_schema_find_the_fields_by_their_names() {
    let newer = AvroSchema::of(&declared(&METER));
    let older = AvroSchema::of(&declared(&METER[..2]));
    let written = encoded(&full(), 7, &METER);
    let mut without = full();
    without.reading.fields = crate::records::fields(&[
        ("energy_wh", Value::Int(1_204_110)),
        ("state", Value::Text("läuft".into())),
    ]);
    assert_eq!(
        read_back(newer.text(), Some(older.text()), &written),
        without
    );
    let written = encoded(&full(), 7, &METER[..2]);
    assert_eq!(
        read_back(older.text(), Some(newer.text()), &written),
        full()
    );
}

fn read_back(writer: &str, reader: Option<&str>, value: &[u8]) -> Record {
    let (_, mut body) = SchemaId::read(value).unwrap();
    let length = body.len();
    let writer = Schema::parse_str(writer).unwrap();
    let reader = reader.map(|text| Schema::parse_str(text).unwrap());
    let read = |body: &mut &[u8], reader: Option<&Schema>| {
        let by = GenericDatumReader::builder(&writer).maybe_reader_schema(reader);
        by.build().unwrap().read_value(body).unwrap()
    };
    let found = read(&mut body, reader.as_ref());
    assert_eq!(body, b"", "bytes left over");
    if reader.is_none() {
        // The other direction: the same value, written by the library, is the same record.
        let by = GenericDatumWriter::builder(&writer).build().unwrap();
        let again = by.write_value_to_vec(found.clone()).unwrap();
        assert_eq!(again.len(), length);
        assert_eq!(read(&mut &again[..], None), found);
    }
    record_of(found)
}

fn record_of(read: Read) -> Record {
    let Read::Record(members) = read else {
        panic!("no record");
    };
    let fixed = |name: &str| {
        let found = members.iter().find(|(member, _)| member == name);
        present(found.unwrap().1.clone())
    };
    let text = |name: &str| match fixed(name) {
        Some(Read::String(text)) => text,
        other => panic!("{name}: {other:?}"),
    };
    let long = |name: &str| match fixed(name) {
        Some(Read::Long(number) | Read::TimestampMicros(number)) => number,
        other => panic!("{name}: {other:?}"),
    };
    let map = |name: &str| match fixed(name) {
        Some(Read::Map(entries)) => entries,
        other => panic!("{name}: {other:?}"),
    };
    let clock = match fixed("clock") {
        Some(Read::Enum(_, word)) => match word.as_str() {
            "device" => Clock::Device,
            "synced" => Clock::Synced,
            "corrected" => Clock::Corrected,
            _ => Clock::Unsynced {
                boot: text("boot").parse().unwrap(),
                monotonic_us: long("uptime_us") as u64,
            },
        },
        other => panic!("{other:?}"),
    };
    let source = fixed("src").map(|source| match source {
        Read::Record(members) => match members.as_slice() {
            [(_, Read::Long(boot)), (_, Read::Long(sequence))] => SourceId {
                boot: *boot as u64,
                sequence: *sequence as u64,
            },
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    });
    let undeclared = map("undeclared")
        .into_iter()
        .map(|(name, value)| (name.parse().unwrap(), value));
    let columns = members
        .iter()
        .filter_map(|(name, value)| Some((field(name)?, value.clone())));
    let fields = undeclared.chain(columns).filter_map(|(name, value)| {
        let value = match present(value)? {
            Read::Double(number) => Value::Float(number),
            Read::Long(number) => Value::Int(number),
            Read::Boolean(state) => Value::Bool(state),
            Read::String(text) => Value::Text(text.into()),
            other => panic!("{other:?}"),
        };
        Some((name, value))
    });
    let meta = map("meta").into_iter().map(|(name, text)| match text {
        Read::String(text) => (name.parse().unwrap(), text.into()),
        other => panic!("{other:?}"),
    });
    Record {
        id: RecordId {
            gateway: text("gateway").parse().unwrap(),
            epoch: text("epoch").parse().unwrap(),
            sequence: long("sequence") as u64,
        },
        digest: Digest(long("digest") as u64),
        reading: Reading {
            device: text("device").parse().unwrap(),
            time: Timestamp::from_micros(long("time")).unwrap(),
            clock,
            fields: Fields::new(fields.collect()).unwrap(),
            source,
            meta: Metadata::new(meta.collect()).unwrap(),
        },
    }
}

fn present(value: Read) -> Option<Read> {
    match value {
        Read::Union(_, inner) => present(*inner),
        Read::Null => None,
        value => Some(value),
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    proptest::sample::select(Kind::ALL.to_vec())
}

proptest! {
    #[test]
    fn whatever_is_declared_no_reading_loses_anything_in_avro(
        record in properties::record(),
        others in proptest::collection::btree_map("[a-z0-9_]{1,64}", kind(), 0..5),
        kinds in proptest::collection::vec(proptest::option::of(kind()), 9),
        id in any::<u32>(),
    ) {
        // Some of its own fields are declared, with their type or with another.
        let own = record.reading.fields.iter().map(|(name, _)| name.clone()).zip(kinds);
        let own: Vec<_> = own.filter_map(|(name, kind)| Some((name, kind?))).collect();
        let others = others.into_iter().map(|(name, kind)| (name.parse::<FieldName>().unwrap(), kind));
        let others = others.filter(|(name, _)| own.iter().all(|(known, _)| known != name));
        let declaration = Declaration::new(own.iter().cloned().chain(others)).unwrap();
        let schema = AvroSchema::of(&declaration);
        let parsed = AvroSchema::parse(schema.text());
        prop_assert_eq!(parsed.as_ref(), Ok(&schema));
        let mut out = Vec::new();
        avro::encode(&record, SchemaId(id), &schema, &mut out);
        prop_assert_eq!(SchemaId::read(&out).map(|(read, _)| read), Some(SchemaId(id)));
        prop_assert_eq!(read_back(schema.text(), None, &out), record);
    }
}
