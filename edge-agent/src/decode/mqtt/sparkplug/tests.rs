//! Sessions and payloads made after the specification (3.0.0, chapters 5 and 6); what `foreign_payloads…`
//! reads was encoded by others.

use crate::decode::stream::tests::hex;
use std::io::Write as _;

use flate2::{Compression, write::ZlibEncoder};
use proptest::prelude::*;
use prost::Message as _;

use super::{
    held::MAX_HELD,
    payload::{Metric, Payload, PropertySet, PropertyValue, Raw, Template},
    *,
};
use crate::decode::mqtt::tests::{AT, lines};

const SENT: u64 = 1_795_435_199_000; // a second before AT

fn metric(name: &str, alias: Option<u64>, datatype: u32, value: Raw) -> Metric {
    Metric {
        name: (!name.is_empty()).then(|| name.into()),
        alias,
        datatype: (datatype != 0).then_some(datatype),
        value: Some(value),
        ..Metric::default()
    }
}

fn by_alias(alias: u64, value: Raw) -> Metric {
    metric("", Some(alias), 0, value)
}

fn bytes(seq: u64, metrics: &[Metric]) -> Vec<u8> {
    let payload = Payload {
        timestamp: Some(SENT),
        metrics: metrics.iter().map(|m| m.encode_to_vec().into()).collect(),
        seq: Some(seq),
        ..Payload::default()
    };
    payload.encode_to_vec()
}

fn session_metric(number: u64) -> Metric {
    metric("bdSeq", None, 8, Raw::Long(number))
}

fn birth(seq: u64, session: u64, alias: u64, name: &str) -> Vec<u8> {
    bytes(
        seq,
        &[
            session_metric(session),
            metric(name, Some(alias), 10, Raw::Double(20.5)),
        ],
    )
}

/// A host and how it answers; requests are shown as `ask NODE`.
#[derive(Default)]
struct Told(Host);

impl Told {
    fn at(&mut self, seconds: i64, topic: &str, payload: &[u8]) -> Vec<String> {
        let at: Timestamp = AT.parse().unwrap();
        let message = Message {
            topic,
            device: None,
            payload,
            at: Timestamp::from_micros(at.as_micros() + seconds * 1_000_000).unwrap(),
            again: false,
        };
        match self.0.read(&message) {
            Ok(outcome) => {
                let asks = outcome.requests.iter().map(|r| format!("ask {}", r.topic));
                lines(&outcome).into_iter().chain(asks).collect()
            }
            Err(error) => vec![format!("error: {error}")],
        }
    }

    fn tell(&mut self, topic: &str, payload: &[u8]) -> Vec<String> {
        self.at(0, topic, payload)
    }
}

const ASK: &str = "ask spBv1.0/plant/NCMD/press";

#[test]
fn a_birth_names_what_data_calls_by_alias() {
    let mut host = Told::default();
    let node = bytes(
        0,
        &[
            session_metric(3),
            metric("Node Control/Rebirth", None, 11, Raw::Bool(false)),
            metric("Inputs/Count", Some(1), 8, Raw::Long(9_007_199_254_740_993)),
            metric("Offset", Some(2), 3, Raw::Int(u32::MAX - 4)),
            metric("Name", Some(3), 12, Raw::Text("A".into())),
        ],
    );
    assert_eq!(
        host.tell("spBv1.0/plant/NBIRTH/press", &node),
        [
            "plant/press up",
            r#"plant/press @2026-11-23T11:59:59Z inputs_count=9007199254740993i name="A" offset=-5"#,
        ]
    );
    let mut oven = metric("Temperature", Some(7), 9, Raw::Float(70.7));
    oven.properties = Some(PropertySet {
        keys: vec!["Quality".into(), "engUnit".into()],
        values: vec![
            PropertyValue::default(),
            PropertyValue {
                string_value: Some("°F".into()),
            },
        ],
    });
    assert_eq!(
        host.tell("spBv1.0/plant/DBIRTH/press/oven", &bytes(1, &[oven])),
        [
            "plant/press/oven up",
            "plant/press/oven @2026-11-23T11:59:59Z temperature_c=21.5",
        ]
    );
    let mut old = by_alias(7, Raw::Float(68.9));
    old.timestamp = Some(SENT - 60_000);
    let data = bytes(2, &[by_alias(7, Raw::Float(73.4)), old]);
    assert_eq!(
        host.tell("spBv1.0/plant/DDATA/press/oven", &data),
        [
            "plant/press/oven @2026-11-23T11:59:59Z temperature_c=23",
            "plant/press/oven @2026-11-23T11:58:59Z temperature_c=20.5",
        ]
    );
    let mut null = by_alias(3, Raw::Text("B".into()));
    null.is_null = Some(true);
    let data = bytes(3, &[by_alias(2, Raw::Int(7)), null]);
    assert_eq!(
        host.tell("spBv1.0/plant/NDATA/press", &data),
        ["plant/press @2026-11-23T11:59:59Z offset=7",]
    );
    assert_eq!(
        host.tell("spBv1.0/plant/DDEATH/press/oven", &bytes(4, &[])),
        ["plant/press/oven down"]
    );
    assert_eq!(
        host.tell(
            "spBv1.0/plant/NDEATH/press",
            &bytes(0, &[session_metric(2)])
        ),
        [""; 0],
        "an earlier will"
    );
    assert_eq!(
        host.tell(
            "spBv1.0/plant/NDEATH/press",
            &bytes(0, &[session_metric(3)])
        ),
        ["plant/press down"]
    );
}

#[test]
fn data_before_its_birth_waits_and_is_then_read_in_order() {
    let mut host = Told::default();
    let data = |seq, value| bytes(seq, &[by_alias(1, Raw::Double(value))]);
    assert_eq!(host.tell("spBv1.0/plant/NDATA/press", &data(4, 1.0)), [ASK]);
    assert_eq!(
        host.at(1, "spBv1.0/plant/NDATA/press", &data(5, 2.0)),
        [""; 0],
        "asked a second ago"
    );
    assert_eq!(
        host.at(61, "spBv1.0/plant/NDATA/press", &data(6, 3.0)),
        [ASK],
        "no answer for a minute"
    );
    assert_eq!(host.0.holding(), 3);
    assert_eq!(
        host.at(62, "spBv1.0/plant/NBIRTH/press", &birth(0, 0, 1, "level")),
        [
            "plant/press up",
            "plant/press @2026-11-23T11:59:59Z level=20.5",
            "plant/press @2026-11-23T11:59:59Z level=1",
            "plant/press @2026-11-23T11:59:59Z level=2",
            "plant/press @2026-11-23T11:59:59Z level=3",
        ]
    );
    assert_eq!(host.0.holding(), 0);
}

#[test]
fn sequence_numbers_wrap_and_a_gap_makes_aliases_unsure() {
    let mut host = Told::default();
    let data = |seq, value| bytes(seq, &[by_alias(1, Raw::Double(value))]);
    host.tell("spBv1.0/plant/NBIRTH/press", &birth(0, 0, 1, "level"));
    for seq in 1..=600u64 {
        let read = host.tell("spBv1.0/plant/NDATA/press", &data(seq % 256, 1.0));
        assert_eq!(read, ["plant/press @2026-11-23T11:59:59Z level=1"], "{seq}");
    }
    let next = 601 % 256;
    assert_eq!(
        host.tell("spBv1.0/plant/NDATA/press", &data(next + 1, 9.0)),
        [ASK]
    );
    // The rebirth tells that the alias means the same as before the gap.
    assert_eq!(
        host.tell("spBv1.0/plant/NBIRTH/press", &birth(0, 0, 1, "level")),
        [
            "plant/press up",
            "plant/press @2026-11-23T11:59:59Z level=20.5",
            "plant/press @2026-11-23T11:59:59Z level=9",
        ]
    );
}

#[test]
fn held_data_is_given_up_rather_than_misnamed() {
    let data = |seq| bytes(seq, &[by_alias(1, Raw::Double(9.0))]);
    let lost = "!plant/press: data whose birth certificate never came";
    // After a gap, the next birth gives the alias to something else.
    let mut host = Told::default();
    host.tell("spBv1.0/plant/NBIRTH/press", &birth(0, 0, 1, "level"));
    host.tell("spBv1.0/plant/NDATA/press", &data(77));
    assert_eq!(
        host.tell("spBv1.0/plant/NBIRTH/press", &birth(0, 1, 1, "speed")),
        [
            "plant/press up",
            "plant/press @2026-11-23T11:59:59Z speed=20.5",
            lost,
        ]
    );
    // The node dies first.
    let mut host = Told::default();
    host.tell("spBv1.0/plant/NDATA/press", &data(3));
    let death = bytes(0, &[session_metric(0)]);
    assert_eq!(
        host.tell("spBv1.0/plant/NDEATH/press", &death),
        ["plant/press down", lost]
    );
    // The alias belongs to another device of the node.
    let mut host = Told::default();
    host.tell("spBv1.0/plant/NBIRTH/press", &birth(0, 0, 1, "level"));
    assert_eq!(host.tell("spBv1.0/plant/DDATA/press/oven", &data(1)), [ASK]);
    // At the bound the oldest goes.
    let mut host = Told::default();
    for seq in 0..MAX_HELD as u64 {
        host.tell("spBv1.0/plant/NDATA/press", &data(seq % 256));
    }
    assert_eq!(host.tell("spBv1.0/plant/NDATA/press", &data(0)), [lost]);
    assert_eq!(host.0.holding(), MAX_HELD);
}

#[test]
fn what_names_and_types_itself_needs_no_birth() {
    let mut host = Told::default();
    let data = bytes(9, &[metric("level", None, 10, Raw::Double(1.5))]);
    assert_eq!(
        host.tell("spBv1.0/plant/NDATA/press", &data),
        ["plant/press @2026-11-23T11:59:59Z level=1.5", ASK,]
    );
}

#[test]
fn every_datatype_is_read_as_what_it_is() {
    let template = Raw::Template(Template {
        metrics: vec![
            metric("rpm", None, 3, Raw::Int(1200))
                .encode_to_vec()
                .into(),
        ],
        is_definition: Some(false),
    });
    let metrics = [
        metric("i8", None, 1, Raw::Int(0xff)),
        metric("i16", None, 2, Raw::Int(0xffff_fffe)),
        metric("i64", None, 4, Raw::Long(u64::MAX)),
        metric("u32", None, 7, Raw::Long(4_294_967_295)),
        metric("u64", None, 8, Raw::Long(u64::MAX)),
        metric("float", None, 9, Raw::Float(21.4)),
        metric("nan", None, 10, Raw::Double(f64::NAN)),
        metric("bool", None, 11, Raw::Bool(true)),
        metric("when", None, 13, Raw::Long(SENT)),
        metric("uuid", None, 15, Raw::Text("u-1".into())),
        metric("table", None, 16, Raw::DataSet(vec![])),
        metric("blob", None, 17, Raw::Bytes(vec![1])),
        metric("motor", None, 19, template),
        metric("a\0b", None, 10, Raw::Double(1.0)),
        metric("twice", None, 10, Raw::Double(1.0)),
        metric("Twice", None, 10, Raw::Double(2.0)),
    ];
    let mut host = Told::default();
    assert_eq!(
        host.tell("spBv1.0/plant/NBIRTH/press", &bytes(0, &metrics))[1],
        concat!(
            "plant/press @2026-11-23T11:59:59Z a_b=1 bool=true float=21.4 i16=-2 i64=-1i i8=-1",
            r#" motor_rpm=1200 u32=4294967295 uuid="u-1" when=1795435199000i"#,
            " !u64: has more digits than a float keeps, send it as text",
            " !nan: is not a finite number",
            " !table: is a data set, which is not kept",
            " !blob: is an array, a file or bytes, which is not kept",
            " !twice: appears more than once under the same canonical name",
        )
    );
}

#[test]
fn a_birth_of_many_metrics_is_several_readings_that_fit() {
    let metrics: Vec<Metric> = (0..1000)
        .map(|n| {
            metric(
                &format!("a metric with a rather long name, number {n}"),
                Some(n),
                12,
                Raw::Text("x".repeat(200)),
            )
        })
        .collect();
    let message = bytes(0, &metrics);
    let mut host = Host::default();
    let message = Message {
        topic: "spBv1.0/plant/NBIRTH/press",
        device: None,
        payload: &message,
        at: AT.parse().unwrap(),
        again: false,
    };
    let outcome = host.read(&message).unwrap();
    let fields: usize = outcome.readings.iter().map(|r| r.fields.len()).sum();
    assert_eq!(fields, 1000);
    for reading in &outcome.readings {
        let size: usize = reading
            .fields
            .iter()
            .map(|(name, _)| name.as_str().len() + 204)
            .sum();
        assert!(size < protocol::MAX_READING_BYTES, "{size}");
    }
}

#[test]
fn topics_and_payloads_of_others_are_refused() {
    let mut host = Told::default();
    for (topic, payload, expected) in [
        ("spBv1.0/STATE/host", &b"ONLINE"[..], vec![]),
        ("spBv1.0/plant/NCMD/press", b"", vec![]),
        (
            "other/plant/NDATA/press",
            b"",
            vec!["error: a Sparkplug topic begins with spBv1.0"],
        ),
        (
            "spBv1.0/plant/NDATA",
            b"",
            vec!["error: not a topic of Sparkplug: spBv1.0/GROUP/TYPE/NODE/DEVICE"],
        ),
    ] {
        assert_eq!(host.tell(topic, payload), expected, "{topic}");
    }
    let read = host.tell("spBv1.0/plant/NDATA/press", br#"{"temperature":1}"#);
    assert!(
        read[0].starts_with("error: not a Sparkplug B payload"),
        "{read:?}"
    );
}

/// Encoded by Eclipse Tahu for Python (its example's births), by the vectors of united-manufacturing-hub's
/// benthos-umh, and by a service whose bytes were judged by Tahu's parser.
#[test]
fn foreign_payloads_say_what_their_senders_meant() {
    let mut host = Told::default();
    // A data set, the definition of a template and an instance of it, a null, a text.
    let node = hex(
        "0891a5f2cea03412120a0562645365711891a5f2cea0342004580012250a0c4e6f6465204d657472 \
         69633010001891a5f2cea034200c7a0a68656c6c6f206e6f6465121b0a0c4e6f6465204d65747269 \
         633110011891a5f2cea034200b7001121b0a0c4e6f6465204d65747269633310031891a5f2cea034 \
         2003380112440a074461746153657410041891a5f2cea03420108a012d08031205496e7438731206 \
         496e743136731206496e74333273180118021803220c0a0208000a0208010a020802124c0a145f74 \
         797065735f2f437573746f6d5f4d6f746f7210051891a5f2cea034201392012812110a0452504d73 \
         1891a5f2cea0342003500012110a04414d50731891a5f2cea03420035000280112560a0f4d795f43 \
         7573746f6d5f4d6f746f7210061891a5f2cea034201392013712110a0452504d731891a5f2cea034 \
         2003507b12120a04414d50731891a5f2cea034200350c803220c437573746f6d5f4d6f746f722800 \
         1800",
    );
    assert_eq!(
        host.tell("spBv1.0/g/NBIRTH/e", &node),
        [
            "g/e up",
            "g/e @2026-11-23T19:23:00.113Z my_custom_motor_amps=456 my_custom_motor_rpms=123 \
             node_metric0=\"hello node\" node_metric1=true !DataSet: is a data set, which is not kept",
        ]
    );
    let device = hex(
        "0892a5f2cea034122f0a14696e7075742f446576696365204d657472696330100b1892a5f2cea034 \
         200c7a0c68656c6c6f2064657669636512230a14696e7075742f446576696365204d657472696331 \
         100c1892a5f2cea034200b700112240a156f75747075742f446576696365204d657472696332100d \
         1892a5f2cea03420025010123b0a0e446576696365204d65747269633320094a220a07656e67556e \
         69740a075175616c6974791207080c4203c2b0461205080318c00165cdcc92421801",
    );
    assert_eq!(
        host.tell("spBv1.0/g/DBIRTH/e/d", &device),
        [
            "g/e/d up",
            "g/e/d @2026-11-23T19:23:00.114Z device_metric3_c=23 input_device_metric0=\"hello device\" \
             input_device_metric1=true output_device_metric2=16",
        ]
    );

    let mut host = Told::default();
    let node = hex(
        "08d2e283b9fa32120d0a056264536571100120085858121c0a144e6f646520436f6e74726f6c2f52 \
         6562697274681002200b7000121a0a0b54656d70657261747572651064200a690000000000803540 \
         1800",
    );
    assert_eq!(
        host.tell("spBv1.0/g/NBIRTH/e", &node),
        ["g/e up", "g/e @2025-06-25T12:47:23.474Z temperature=21.5"]
    );
    let data = hex("08d2e283b9fa32120d1064200a6900000000008036401801");
    assert_eq!(
        host.tell("spBv1.0/g/NDATA/e", &data),
        ["g/e @2025-06-25T12:47:23.474Z temperature=22.5"]
    );
    // Number 5 after 1: held, and the birth is asked for.
    let gap = hex("08d2e283b9fa32120d1064200a690000000000003b401805");
    assert_eq!(
        host.tell("spBv1.0/g/NDATA/e", &gap),
        ["ask spBv1.0/g/NCMD/e"]
    );
    assert_eq!(
        host.tell("spBv1.0/g/NBIRTH/e", &node),
        [
            "g/e up",
            "g/e @2025-06-25T12:47:23.474Z temperature=21.5",
            "g/e @2025-06-25T12:47:23.474Z temperature=27",
        ]
    );
    // Its session is 88 and the will's is 0: of an earlier one.
    let will = hex("08d2e283b9fa32120d0a0562645365711000200858001800");
    assert_eq!(host.tell("spBv1.0/g/NDEATH/e", &will), [""; 0]);

    let will = hex("0880b2c7cc8b33120b0a05626453657120045803");
    assert_eq!(host.tell("spBv1.0/g/NDEATH/other", &will), ["g/other down"]);
}

#[test]
fn a_compressed_payload_is_read_and_unpacked_within_bounds() {
    // zlib and gzip of one payload: `temperature` as a double, 21.5, number 3.
    let zlib = hex(
        "789ce398f165f6a1052642125cdc25a9b905a9458925a545a90a5c990c20d060ea20c10c00e2bf0a \
         56",
    );
    let gzip = hex(
        "1f8b0800000000000203e398f165f6a1052642125cdc25a9b905a9458925a545a90a5c990c20d060 \
         ea20c10c00ae87f84623000000",
    );
    let packed = |algorithm: Option<&str>, body: &[u8]| {
        let word = algorithm.map(|word| metric("algorithm", None, 12, Raw::Text(word.into())));
        let payload = Payload {
            metrics: word.iter().map(|m| m.encode_to_vec().into()).collect(),
            uuid: Some("SPBV1.0_COMPRESSED".into()),
            body: Some(body.to_vec().into()),
            ..Payload::default()
        };
        payload.encode_to_vec()
    };
    let read = |payload: &[u8]| Told::default().tell("spBv1.0/g/NBIRTH/e", payload);
    let expected = ["g/e up", "g/e @2026-11-23T11:59:59Z temperature=21.5"];
    assert_eq!(read(&packed(None, &zlib)), expected);
    assert_eq!(read(&packed(Some("DEFLATE"), &zlib)), expected);
    assert_eq!(read(&packed(Some("GZIP"), &gzip)), expected);

    let twice = {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&packed(None, &zlib)).unwrap();
        encoder.finish().unwrap()
    };
    let bomb = {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![0; 50 << 20]).unwrap();
        encoder.finish().unwrap()
    };
    for (algorithm, body, expected) in [
        (
            Some("LZ4"),
            &zlib[..],
            "compressed by neither DEFLATE nor GZIP",
        ),
        (Some("GZIP"), &zlib, "that is damaged"),
        (None, &zlib[..20], "that is damaged"),
        (None, b"", "that is damaged"),
        (None, &twice, "that was compressed twice"),
        (None, &bomb, "of more than 1 MiB"),
    ] {
        let read = read(&packed(algorithm, body));
        assert!(
            read[0].starts_with("error: ") && read[0].ends_with(expected),
            "{read:?}"
        );
    }
}

#[test]
fn ten_thousand_nodes_are_a_thousand_remembered() {
    let mut host = Told::default();
    for n in 0..10_000 {
        host.tell(
            &format!("spBv1.0/plant/NBIRTH/n{n}"),
            &birth(0, 0, 1, "level"),
        );
    }
    assert_eq!(host.0.nodes.len(), MAX_NODES);
    assert_eq!(host.0.evicted(), 9_000);
}

#[derive(Debug, Clone)]
enum Said {
    Birth { session: u64, swapped: bool },
    Data { alias: u64 },
    Lost,
    Death,
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        2 => (0..3u64, any::<bool>()).prop_map(|(session, swapped)| Said::Birth { session, swapped }),
        6 => (1..3u64).prop_map(|alias| Said::Data { alias }),
        1 => Just(Said::Lost),
        1 => Just(Said::Death),
    ]
}

proptest! {
    /// The value of a metric is its name's number: whatever was lost or held on the way, no reading may
    /// ever show the one under the other. A node may swap aliases only with a birth that is heard or with
    /// a gap; a message is lost with its number.
    #[test]
    fn no_history_makes_a_name_wrong(history in prop::collection::vec(said(), 1..60)) {
        let mut host = Host::default();
        let (mut seq, mut swapped, mut born) = (0u64, false, false);
        let value = |alias: u64, swapped: bool| if (alias == 1) == swapped { 2.0 } else { 1.0 };
        for said in history {
            let (topic, payload) = match said {
                Said::Birth { session, swapped: now } => {
                    (seq, swapped, born) = (0, now, true);
                    let names = if now { ["two", "one"] } else { ["one", "two"] };
                    let metrics: Vec<Metric> = [session_metric(session)].into_iter().chain(
                        (1..3u64).zip(names).map(|(alias, name)| metric(name, Some(alias), 10, Raw::Double(value(alias, now))))
                    ).collect();
                    ("spBv1.0/g/NBIRTH/e", bytes(0, &metrics))
                }
                Said::Data { alias } if born => {
                    seq = (seq + 1) % 256;
                    ("spBv1.0/g/NDATA/e", bytes(seq, &[by_alias(alias, Raw::Double(value(alias, swapped)))]))
                }
                Said::Lost => {
                    seq = (seq + 1) % 256;
                    continue;
                }
                Said::Data { .. } => continue,
                Said::Death => {
                    born = false;
                    ("spBv1.0/g/NDEATH/e", bytes(0, &[]))
                }
            };
            let message = Message { topic, device: None, payload: &payload, at: AT.parse().unwrap(), again: false };
            let outcome = host.read(&message).unwrap();
            for (name, value) in outcome.readings.iter().flat_map(|reading| &reading.fields) {
                let expected = if name.as_str() == "one" { 1.0 } else { 2.0 };
                prop_assert_eq!(value, &protocol::Value::Float(expected));
            }
            prop_assert!(host.holding() <= MAX_HELD);
        }
    }
}
