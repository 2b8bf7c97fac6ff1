//! Values with a schema id, whoever wrote them.

use apache_avro::{Schema as Avro, types::Value as Written, writer::datum::GenericDatumWriter};
use proptest::prelude::*;
use protocol::{
    FieldName, Fields, Value,
    schema::{Declaration, Kind, RECORD_NAME, SchemaId, avro::AvroSchema},
};

use super::*;
use protocol_host::registry::{self, Language};

use crate::decode::{Schema, avro::Plan, avro::read, member::Member};

fn schema(text: &str) -> Schema {
    Schema::new(&registry::Schema::new(Language::Avro, text))
}

fn ours(columns: &[(&str, Kind)]) -> AvroSchema {
    let columns = columns
        .iter()
        .map(|(name, kind)| (name.parse().unwrap(), *kind));
    AvroSchema::of(&Declaration::new(columns).unwrap())
}

fn record() -> Record {
    let mut record = record::json::decode(OURS.as_bytes()).unwrap();
    record.reading.source = Some(protocol::SourceId {
        boot: 7,
        sequence: u64::MAX,
    });
    let model = ("model".parse().unwrap(), "sdm120".into());
    record.reading.meta = protocol::Metadata::new(vec![model]).unwrap();
    record.reading.fields = fields(&[
        ("voltage_v", Value::Float(230.2)),
        ("energy_wh", Value::Int(1_204_110)),
        ("state", Value::Text("läuft".into())),
    ]);
    record
}

fn fields(fields: &[(&str, Value)]) -> Fields {
    let named = fields
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.clone()));
    Fields::new(named.collect()).unwrap()
}

fn in_avro(record: &Record, schema: &AvroSchema) -> Vec<u8> {
    let mut value = Vec::new();
    record::avro::encode(record, SchemaId(7), schema, &mut value);
    value
}

const FORM: Header<'_> = (header::CONTENT_TYPE, record::avro::CONTENT_TYPE);

fn read_ours(value: &[u8], schema: &AvroSchema) -> Result<Document, Undecodable> {
    let message = message(Some("gw7"), Some(value), &[ID, TYPE, FORM]);
    assert_eq!(schema_id(&message), Some(SchemaId(7)));
    reading(&message, Some(&self::schema(schema.text())), false)
}

#[test]
fn a_record_in_avro_is_the_document_it_is_in_json_whatever_is_declared() {
    let record = record();
    for columns in [
        &[][..],
        &[("voltage_v", Kind::Double)],
        &[
            ("energy_wh", Kind::Double),
            ("state", Kind::Bool),
            ("voltage_v", Kind::Long),
        ],
        &[
            ("current_a", Kind::Double),
            ("energy_wh", Kind::Long),
            ("state", Kind::String),
        ],
    ] {
        let schema = ours(columns);
        let document = read_ours(&in_avro(&record, &schema), &schema).unwrap();
        assert_eq!(
            document,
            Document::ours(record.clone()).passing(
                protocol::header::Hops::default(),
                &message(None, None, &[]).at,
                false,
            )
        );
    }
    let mut prefixed = Vec::new();
    SchemaId(7).write(&mut prefixed);
    record::json::encode(&record, &mut prefixed).unwrap();
    let json = Schema::new(&registry::Schema::new(Language::Json, "{}"));
    let form = (header::CONTENT_TYPE, protocol::schema::json::CONTENT_TYPE);
    for headers in [&[ID, TYPE, form][..], &[]] {
        let message = message(Some("gw7"), Some(&prefixed), headers);
        let document = reading(&message, Some(&json), false).unwrap();
        assert_eq!(document.record(), Some(&record.id));
        assert_eq!(document.digest, record.digest);
    }
}

/// A field was added, or taken away, by a newer or an older agent: fields are found by their names, so a
/// sink of any age reads a writer of any age, and of another type is only the value.
#[test]
fn an_old_sink_reads_new_data_and_a_new_sink_old_data() {
    let mut record = record();
    let generations = [
        ours(&[("voltage_v", Kind::Double)]),
        ours(&[("energy_wh", Kind::Long), ("voltage_v", Kind::Double)]),
        ours(&[("energy_wh", Kind::Long)]),
    ];
    for text in [false, true] {
        if text {
            record.reading.fields = fields(&[("voltage_v", Value::Text("n/a".into()))]);
        }
        for schema in &generations {
            let document = read_ours(&in_avro(&record, schema), schema).unwrap();
            let read: Vec<_> = document.fields().collect();
            let written: Vec<_> = record.reading.fields.iter().collect();
            assert_eq!(read, written, "to raw, if need be, but not lost");
        }
    }
}

#[test]
fn a_record_cut_short_anywhere_is_never_half_a_reading() {
    let schema = ours(&[
        ("a", Kind::Double),
        ("voltage_v", Kind::Double),
        ("z", Kind::String),
    ]);
    let whole = in_avro(&record(), &schema);
    for end in SchemaId::PREFIX_BYTES..whole.len() {
        let error = read_ours(&whole[..end], &schema).unwrap_err();
        assert_eq!(error.reason, Reason::DecodeFailed, "{end}: {error}");
    }
    let mut longer = whole;
    longer.push(0);
    let error = read_ours(&longer, &schema).unwrap_err();
    assert!(error.detail.contains("1 bytes left over"), "{error}");
}

#[test]
fn a_registered_value_is_a_reading_or_a_dead_letter_with_its_reason() {
    let press = r#"{"type":"record","name":"Press","namespace":"com.acme","fields":[{"name":"device","type":"string"},{"name":"oil_c","type":"double"}]}"#;
    let newer = ours(&[])
        .text()
        .replace("edge.reading.v1", "edge.reading.v2");
    let protobuf = Schema::new(&registry::Schema::new(
        Language::from_word("PROTOBUF"),
        "syntax = \"proto3\";",
    ));
    let good = b"\0\0\0\0\x07\x02p\0\0\0\0\0\0\xf8\x3f";
    type Case<'a> = (
        &'a str,
        Option<Schema>,
        &'a [u8],
        &'a [Header<'a>],
        Option<Reason>,
    );
    let table: Vec<Case<'_>> = vec![
        ("foreign", Some(schema(press)), good, &[], None),
        (
            "foreign with a type",
            Some(schema(press)),
            good,
            &[("ce_type", "com.acme.press")],
            None,
        ),
        (
            "any content type",
            Some(schema(press)),
            good,
            &[("content-type", "application/avro")],
            None,
        ),
        (
            "claims to be ours",
            Some(schema(press)),
            good,
            &[ID, TYPE],
            Some(Reason::DecodeFailed),
        ),
        ("no registry", None, good, &[], Some(Reason::SchemaUnknown)),
        (
            "no such id",
            Some(Schema::missing(SchemaId(7))),
            good,
            &[],
            Some(Reason::SchemaUnknown),
        ),
        (
            "protobuf",
            Some(protobuf),
            good,
            &[],
            Some(Reason::SchemaUnknown),
        ),
        (
            "no schema",
            Some(schema("{\"type\":\"recoil\"}")),
            good,
            &[],
            Some(Reason::SchemaUnknown),
        ),
        (
            "newer",
            Some(schema(&newer)),
            good,
            &[],
            Some(Reason::VersionUnknown),
        ),
        (
            "too short",
            Some(schema(press)),
            &good[..9],
            &[],
            Some(Reason::DecodeFailed),
        ),
        (
            "no record",
            Some(schema("\"string\"")),
            b"\0\0\0\0\x07\x02p",
            &[],
            Some(Reason::DecodeFailed),
        ),
        (
            "json",
            Some(Schema::Json),
            b"\0\0\0\0\x07{\"device\":\"p\",\"t\":1}",
            &[],
            None,
        ),
        (
            "no json",
            Some(Schema::Json),
            b"\0\0\0\0\x07[]",
            &[],
            Some(Reason::DecodeFailed),
        ),
        (
            "no device",
            Some(Schema::Json),
            b"\0\0\0\0\x07{\"t\":1}",
            &[],
            Some(Reason::DeviceMissing),
        ),
        (
            "no fields",
            Some(Schema::Json),
            b"\0\0\0\0\x07{\"device\":\"p\"}",
            &[],
            Some(Reason::FieldsMissing),
        ),
    ];
    for (name, schema, value, headers, expected) in table {
        let message = message(Some("line 4"), Some(value), headers);
        let read = reading(&message, schema.as_ref(), false);
        assert_eq!(
            read.as_ref().err().map(|error| error.reason),
            expected,
            "{name}: {read:?}"
        );
        if let Ok(document) = read {
            assert_eq!(document.id, "foreign:t:0:7:1000", "{name}");
        }
    }
}

const MACHINE: &str = r#"{"type":"record","name":"Machine","namespace":"com.acme","fields":[
    {"name":"device_id","type":"string"},
    {"name":"ts","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"temperature","type":{"type":"record","name":"Two","fields":[{"name":"oil","type":"float"},{"name":"air","type":["null","double"]}]}},
    {"name":"second","type":["null","Two"]},
    {"name":"count","type":"long"},
    {"name":"state","type":{"type":"enum","name":"State","symbols":["idle","busy"]}},
    {"name":"on","type":"boolean"},
    {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
    {"name":"tags","type":{"type":"map","values":["string","int"]}},
    {"name":"serviced","type":{"type":"int","logicalType":"date"}},
    {"name":"started","type":{"type":"long","logicalType":"timestamp-micros"}}]}"#;

fn machine() -> Written {
    let two = |oil: f32, air: Written| {
        Written::Record(vec![
            ("oil".into(), Written::Float(oil)),
            ("air".into(), air),
        ])
    };
    let null = || Box::new(Written::Null);
    let tags = [(
        "site".to_owned(),
        Written::Union(0, Box::new(Written::String("b2".into()))),
    )];
    Written::Record(vec![
        ("device_id".into(), Written::String("press 4".into())),
        ("ts".into(), Written::TimestampMillis(1_795_467_847_113)),
        ("temperature".into(), two(60.5, Written::Union(0, null()))),
        (
            "second".into(),
            Written::Union(
                1,
                Box::new(two(1.5, Written::Union(1, Box::new(Written::Double(21.0))))),
            ),
        ),
        ("count".into(), Written::Long(-3)),
        ("state".into(), Written::Enum(1, "busy".into())),
        ("on".into(), Written::Boolean(true)),
        (
            "price".into(),
            Written::Decimal(apache_avro::Decimal::from((-1234_i32).to_be_bytes())),
        ),
        ("tags".into(), Written::Map(tags.into())),
        ("serviced".into(), Written::Date(20_000)),
        ("started".into(), Written::TimestampMicros(1)),
    ])
}

fn written(schema: &str, value: Written) -> Vec<u8> {
    let schema = Avro::parse_str(schema).unwrap();
    let by = GenericDatumWriter::builder(&schema).build().unwrap();
    let mut out = Vec::new();
    SchemaId(7).write(&mut out);
    out.extend(by.write_value_to_vec(value).unwrap());
    out
}

#[test]
fn a_record_of_somebody_elses_producer_keeps_its_types_and_is_marked_foreign() {
    let value = written(MACHINE, machine());
    let message = message(None, Some(&value), &[]);
    let document = reading(&message, Some(&schema(MACHINE)), false).unwrap();
    assert_eq!(document.record(), None);
    assert_eq!(document.device(), "press%204");
    let shown = serde_json::to_value(&document).unwrap();
    assert_eq!(shown["foreign"]["offset"], 7);
    let text = |text: &str| Value::Text(text.into());
    let expected = fields(&[
        ("temperature_oil", Value::Float(60.5)),
        ("second_oil", Value::Float(1.5)),
        ("second_air", Value::Float(21.0)),
        ("count", Value::Int(-3)),
        ("state", text("busy")),
        ("on", Value::Bool(true)),
        ("price", Value::Float(-12.34)),
        ("tags_site", text("b2")),
        ("serviced", text("2024-10-04")),
        ("started", text("1970-01-01T00:00:00.000001Z")),
    ]);
    assert_eq!(
        document.fields().collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
}

#[test]
fn schemas_that_refer_to_others_are_read() {
    let two =
        r#"{"type":"record","name":"com.acme.Two","fields":[{"name":"oil","type":"double"}]}"#;
    let press = r#"{"type":"record","name":"com.acme.Press","fields":[{"name":"device","type":"string"},{"name":"t","type":"Two"}]}"#;
    let registered = registry::Schema {
        language: Language::Avro,
        text: press.into(),
        references: vec![two.into()],
    };
    let value = b"\0\0\0\0\x07\x02p\0\0\0\0\0\0\xf8\x3f";
    let message = message(None, Some(value), &[]);
    let document = reading(&message, Some(&Schema::new(&registered)), false).unwrap();
    let names: Vec<&FieldName> = document.fields().map(|(name, _)| name).collect();
    assert_eq!(names, [&"t_oil".parse().unwrap()]);
}

/// Each of these makes a decoder that trusts its input grow without bound or fall off the stack.
#[test]
fn hostile_bodies_and_schemas_stay_within_bounds() {
    let of = |name: &str, kind: &str| {
        format!(r#"{{"type":"record","name":"R","fields":[{{"name":"{name}","type":{kind}}}]}}"#)
    };
    // Twice the next, thirty times: a thousand million nulls from no byte at all.
    let mut laughs = "\"null\"".to_owned();
    for level in 0..30 {
        laughs = format!(
            r#"{{"type":"record","name":"L{level}","fields":[{{"name":"a","type":{laughs}}},{{"name":"b","type":"{}"}}]}}"#,
            if level == 0 {
                "null".to_owned()
            } else {
                format!("L{}", level - 1)
            },
        );
    }
    let ones = vec![2_u8; 1 << 20];
    let many_empty = {
        // Blocks of 2^40 nulls under empty names.
        let mut body = Vec::new();
        for _ in 0..1000 {
            body.extend([0x80, 0x80, 0x80, 0x80, 0x80, 0x40]);
        }
        body
    };
    let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let cases: [(&str, String, &[u8]); 9] = [
        ("contains itself", of("next", r#"["null","R"]"#), &ones),
        ("is itself", of("next", r#""R""#), &ones),
        (
            "contains maps of itself",
            of("next", r#"{"type":"map","values":"R"}"#),
            &ones,
        ),
        ("laughs", laughs, &[]),
        ("a text without end", of("s", "\"string\""), &huge),
        ("bytes without end", of("s", "\"bytes\""), &huge),
        (
            "nothing, often",
            of("m", r#"{"type":"map","values":"null"}"#),
            &many_empty,
        ),
        (
            "an array of nothing",
            of("a", r#"{"type":"array","items":"null"}"#),
            &huge,
        ),
        (
            "more fixed than there is",
            of("f", r#"{"type":"fixed","name":"F","size":1000000000000}"#),
            &ones,
        ),
    ];
    for (name, text, body) in cases {
        let plan = Plan::new(&text, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(read(&plan, body).is_err(), "{name}");
    }
    let wide: String = (0..11_000)
        .map(|at| format!(r#",{{"name":"f{at}","type":"null"}}"#))
        .collect();
    let wide = format!(
        r#"{{"type":"record","name":"R","fields":[{}]}}"#,
        &wide[1..]
    );
    assert!(Plan::new(&wide, &[]).is_err_and(|error| error.contains("types")));
    assert!(Plan::new(&" ".repeat(2 << 20), &[]).is_err_and(|error| error.contains("bytes")));
    let deep = format!("{}\"null\"{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Plan::new(&deep, &[]).is_err());
}

#[test]
fn a_text_of_a_mebibyte_is_a_dead_letter_and_costs_no_more_than_itself() {
    let press = r#"{"type":"record","name":"P","fields":[{"name":"device","type":"string"},{"name":"note","type":"string"}]}"#;
    let value = written(
        press,
        Written::Record(vec![
            ("device".into(), Written::String("p".into())),
            ("note".into(), Written::String("x".repeat(1 << 20))),
        ]),
    );
    let message = message(None, Some(&value), &[]);
    let error = reading(&message, Some(&schema(press)), false).unwrap_err();
    assert_eq!(error.reason, Reason::DecodeFailed);
    assert!(error.detail.contains("1048576 bytes of text"), "{error}");
}

#[test]
fn integers_have_at_most_64_bits() {
    let plan = Plan::new(
        r#"{"type":"record","name":"R","fields":[{"name":"n","type":"long"}]}"#,
        &[],
    )
    .unwrap();
    let number = |body: &[u8]| match read(&plan, body).map(|mut members| members.remove(0).1) {
        Ok(Member::Int(number)) => Some(number),
        _ => None,
    };
    assert_eq!(number(&[0]), Some(0));
    assert_eq!(number(&[1]), Some(-1));
    assert_eq!(
        number(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        Some(i64::MAX)
    );
    assert_eq!(
        number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        Some(i64::MIN)
    );
    assert_eq!(
        number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]),
        None
    );
    assert_eq!(number(&[0x80; 11]), None);
}

fn scalar() -> impl Strategy<Value = Written> {
    prop_oneof![
        Just(Written::Null),
        any::<bool>().prop_map(Written::Boolean),
        any::<i64>().prop_map(Written::Long),
        any::<f64>()
            .prop_filter("equal to itself", |n| !n.is_nan())
            .prop_map(Written::Double),
        ".{0,20}".prop_map(Written::String),
    ]
}

const ANY: &str = r#"["null","boolean","long","double","string"]"#;

fn union(value: Written) -> Written {
    let branch = match value {
        Written::Null => 0,
        Written::Boolean(_) => 1,
        Written::Long(_) => 2,
        Written::Double(_) => 3,
        _ => 4,
    };
    Written::Union(branch, Box::new(value))
}

fn expected(value: &Written) -> Member<'static> {
    match value {
        Written::Boolean(state) => Member::Bool(*state),
        Written::Long(number) => Member::Int(*number),
        Written::Double(number) => Member::Float(*number),
        Written::String(text) => Member::Text(text.clone().into()),
        _ => Member::Null,
    }
}

proptest! {
    #[test]
    fn what_the_library_writes_is_what_is_read(
        members in proptest::collection::vec(scalar(), 1..40),
        map in proptest::collection::hash_map(".{0,8}", scalar(), 0..9),
    ) {
        let declared: Vec<String> = (0..members.len())
            .map(|at| format!(r#"{{"name":"f{at}","type":{ANY}}}"#))
            .collect();
        let text = format!(
            r#"{{"type":"record","name":"R","fields":[{},{{"name":"m","type":{{"type":"map","values":{ANY}}}}}]}}"#,
            declared.join(",")
        );
        let mut record: Vec<_> = members.iter().enumerate()
            .map(|(at, value)| (format!("f{at}"), union(value.clone())))
            .collect();
        let entries = map.iter().map(|(name, value)| (name.clone(), union(value.clone())));
        record.push(("m".into(), Written::Map(entries.collect())));
        let value = written(&text, Written::Record(record));
        let plan = Plan::new(&text, &[]).unwrap();
        let mut read = read(&plan, &value[SchemaId::PREFIX_BYTES..]).unwrap();
        let Some((_, Member::Object(entries))) = read.pop() else { panic!("no map") };
        prop_assert_eq!(entries.len(), map.len());
        for (name, member) in entries {
            prop_assert_eq!(&member, &expected(&map[&*name]));
        }
        for ((_, member), value) in read.iter().zip(&members) {
            prop_assert_eq!(member, &expected(value));
        }
    }

    #[test]
    fn no_body_makes_any_schema_panic(
        body in proptest::collection::vec(any::<u8>(), 0..300),
        claims in any::<bool>(),
    ) {
        let recursive = r#"{"type":"record","name":"R","fields":[{"name":"a","type":["null","R","string",{"type":"map","values":"R"}]}]}"#;
        let ours = ours(&[("a", Kind::Double), ("b", Kind::String), ("c", Kind::Bool), ("d", Kind::Long)]);
        let mut value = vec![0, 0, 0, 0, 7];
        value.extend(body);
        let headers: &[Header<'_>] = if claims { &[ID, TYPE] } else { &[] };
        for text in [recursive, MACHINE, ours.text()] {
            let message = message(Some("gw7"), Some(&value), headers);
            drop(reading(&message, Some(&schema(text)), true));
        }
        drop(reading(&message(Some("gw7"), Some(&value), headers), Some(&Schema::Json), true));
    }

    #[test]
    fn no_text_makes_a_schema_panic(text in r#"[\[\]{}":,a-z0-9. ]{0,80}"#, at in 0..MACHINE.len(), by in any::<char>()) {
        drop(Plan::new(&text, &[]));
        let mut damaged = MACHINE.to_owned();
        if damaged.is_char_boundary(at) {
            damaged.insert(at, by);
        }
        drop(Plan::new(&damaged, &[text]));
    }

    #[test]
    fn a_flipped_bit_of_ours_is_another_reading_or_none(at in 5_usize..60, bit in 0..8) {
        let schema = ours(&[("voltage_v", Kind::Double)]);
        let mut value = in_avro(&record(), &schema);
        value[at] ^= 1_u8 << bit;
        drop(read_ours(&value, &schema));
    }
}

#[test]
fn the_name_of_the_record_says_whose_it_is() {
    let plan = Plan::new(ours(&[]).text(), &[]).unwrap();
    assert_eq!(plan.name.as_deref(), Some(RECORD_NAME));
}
