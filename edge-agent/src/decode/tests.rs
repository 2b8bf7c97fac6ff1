use proptest::prelude::*;
use protocol::BootId;

use crate::config::TimeFormat;

use super::{
    lines::{Line, Splitter},
    template::{Template, TemplateErrorKind},
    *,
};

fn roles() -> Roles {
    Roles {
        device: Some("id".into()),
        time: Some("ts".into()),
        time_format: TimeFormat::UnixSeconds,
        sequence: Some("seq".into()),
        boot: Some("boot".into()),
    }
}

fn shown(decoded: &Decoded) -> Vec<String> {
    decoded
        .fields
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect()
}

fn json(text: &str) -> Result<Decoded, DecodeError> {
    json::decode(text.as_bytes(), &Roles::default())
}

#[test]
fn json_members_become_fields_and_nested_ones_carry_their_path() {
    let decoded = json(
        r#"{"Temp.C":21, "ENERGY":{"Power":[1.5,-2]}, "on":true, "name":"k\u00fcche", "none":null}"#,
    )
    .unwrap();
    assert_eq!(
        shown(&decoded),
        [
            "energy_power_0=Float(1.5)",
            "energy_power_1=Float(-2.0)",
            r#"name=Text("küche")"#,
            "on=Bool(true)",
            "temp_c=Float(21.0)",
        ]
    );
    assert!(decoded.rejected.is_empty());
}

#[test]
fn a_number_is_a_float_whether_whole_or_not_so_a_field_keeps_its_type() {
    for text in ["21", "21.0", "2.1e1", "21.5", "-0", "9007199254740991"] {
        let decoded = json(&format!(r#"{{"a":{text}}}"#)).unwrap();
        assert!(
            matches!(decoded.fields[..], [(_, Value::Float(_))]),
            "{text}"
        );
    }
}

#[test]
fn one_bad_member_never_takes_the_others_with_it() {
    let long = "x".repeat(257);
    for (member, problem) in [
        (r#""a":NaN"#.to_owned(), Problem::NotFinite),
        (r#""a":-Infinity"#.to_owned(), Problem::NotFinite),
        (r#""a":1e400"#.to_owned(), Problem::NotFinite),
        (
            r#""a":18446744073709551616"#.to_owned(),
            Problem::TooManyDigits,
        ),
        (r#""a":9007199254740993"#.to_owned(), Problem::TooManyDigits),
        (format!(r#""a":"{long}""#), Problem::TextTooLong(257)),
        (r#""a":1,"A":2"#.to_owned(), Problem::Twice),
        (r#""a":1,"a":1"#.to_owned(), Problem::Twice),
        (r#""...":1"#.to_owned(), Problem::Name),
        (r#""\u0000":1"#.to_owned(), Problem::Name),
        (
            format!(r#""a":[{}]"#, "0,".repeat(256) + "0"),
            Problem::TooLong,
        ),
        (
            format!(r#""a":{}{}"#, "[".repeat(200), "]".repeat(200)),
            Problem::TooDeep,
        ),
    ] {
        let decoded = json(&format!(r#"{{{member},"good":"NaN","b":1}}"#)).unwrap();
        assert_eq!(decoded.rejected.len(), 1, "{member}");
        assert_eq!(decoded.rejected[0].1, problem, "{member}");
        assert_eq!(shown(&decoded), ["b=Float(1.0)", r#"good=Text("NaN")"#]);
    }
}

#[test]
fn a_megabyte_of_nesting_or_of_elements_costs_one_member() {
    let deep = format!(r#"{}{}"#, "[".repeat(500_000), "]".repeat(500_000));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    let long = format!("[{}0]", "0,".repeat(500_000));
    for (value, problem) in [
        (deep, Problem::TooDeep),
        (objects, Problem::TooDeep),
        (long, Problem::TooLong),
    ] {
        let decoded = json(&format!(r#"{{"a":{value},"b":1}}"#)).unwrap();
        assert_eq!(decoded.rejected[0].1, problem);
        assert_eq!(shown(&decoded), ["b=Float(1.0)"]);
    }
}

#[test]
fn what_is_no_json_object_is_refused_without_quoting_it() {
    for (text, expected) in [
        (&b""[..], DecodeError::NotJson { line: 1, column: 1 }),
        (b"garbage", DecodeError::NotJson { line: 1, column: 1 }),
        (b"[1]", DecodeError::NotAnObject),
        (b"\"secret\"", DecodeError::NotAnObject),
        (b" 5", DecodeError::NotAnObject),
        (b"{\"a\":1", DecodeError::NotJson { line: 1, column: 6 }),
        (b"{\"a\":1}}", DecodeError::NotJson { line: 1, column: 8 }),
        (b"{\"a\":\xff}", DecodeError::NotUtf8(5)),
    ] {
        assert_eq!(json::decode(text, &Roles::default()), Err(expected));
    }
}

#[test]
fn more_members_than_a_reading_may_have_are_refused() {
    let members: Vec<String> = (0..257).map(|at| format!(r#""f{at}":1"#)).collect();
    let text = format!("{{{}}}", members.join(","));
    assert_eq!(json(&text), Err(DecodeError::TooManyMembers));
}

#[test]
fn members_with_a_role_are_not_values() {
    let text = r#"{"id":"m 1","ts":1763931847.113,"seq":7,"boot":"a3f9","v":1}"#;
    let decoded = json::decode(text.as_bytes(), &roles()).unwrap();
    assert_eq!(shown(&decoded), ["v=Float(1.0)"]);
    assert_eq!(decoded.device.as_deref(), Some("m 1"));
    let time = Timestamp::from_micros(1_763_931_847_113_000).unwrap();
    assert_eq!(decoded.time, Some(DeviceTime::At(time)));
    let source = decoded.source.unwrap();
    assert_eq!(source.sequence, 7);
    let same = json::decode(text.as_bytes(), &roles()).unwrap().source;
    assert_eq!(same, Some(source));
}

#[test]
fn a_sequence_without_its_declared_boot_is_no_identity() {
    let no_boot = json::decode(br#"{"seq":7,"v":1}"#, &roles()).unwrap();
    assert_eq!(no_boot.source, None);
    let undeclared = Roles {
        boot: None,
        ..roles()
    };
    let decoded = json::decode(br#"{"seq":7,"v":1}"#, &undeclared).unwrap();
    assert_eq!(decoded.source.map(|source| source.boot), Some(0));
    let negative = json::decode(br#"{"seq":-7,"v":1}"#, &undeclared).unwrap();
    assert_eq!(negative.source, None);
    assert_eq!(negative.rejected[0].1, Problem::NotANumber);
    let twice = json::decode(br#"{"seq":7,"seq":8,"v":1}"#, &undeclared);
    assert_eq!(twice, Err(DecodeError::RoleTwice("seq".into())));
}

#[test]
fn key_value_lines_are_read_whole_or_not_at_all() {
    let none = Roles::default();
    let read = |line: &str| key_value::decode(line.as_bytes(), &none);
    let decoded = read(r#"temp=21.5, humidity=40 state="on, really" door=open bad=nan"#).unwrap();
    assert_eq!(
        shown(&decoded),
        [
            r#"door=Text("open")"#,
            "humidity=Float(40.0)",
            r#"state=Text("on, really")"#,
            "temp=Float(21.5)",
        ]
    );
    assert_eq!(decoded.rejected, [("bad".into(), Problem::NotFinite)]);
    for (line, at) in [("garbage", 0), ("a=1 b", 4), ("=1", 0), ("a=\"x", 0)] {
        assert_eq!(read(line), Err(DecodeError::NoPair(at)), "{line}");
    }
    assert_eq!(read("").unwrap(), Decoded::default());
}

#[test]
fn csv_values_never_move_to_another_column() {
    let columns = ["temp", "", "state"].map(String::from);
    let read = |line: &str| csv::decode(line.as_bytes(), b';', &columns, &Roles::default());
    let decoded = read(r#"21.5; ignored ;"on;off""#).unwrap();
    assert_eq!(
        shown(&decoded),
        [r#"state=Text("on;off")"#, "temp=Float(21.5)"]
    );
    for (line, got) in [("1.5", 1), ("1;2;3;4", 4), ("", 0)] {
        let expected = 3;
        assert_eq!(read(line), Err(DecodeError::Columns { got, expected }));
    }
}

#[test]
fn a_bare_payload_is_a_number_a_state_or_a_word() {
    let field = FieldName::new("v").unwrap();
    for (payload, expected) in [
        (" 21 \n", Some(Value::Float(21.0))),
        ("TRUE", Some(Value::Bool(true))),
        ("open", Some(Value::Text("open".into()))),
        ("", None),
        ("1e400", None),
        ("NaN", None),
    ] {
        let decoded = number::decode(payload.as_bytes(), &field).unwrap();
        let value = decoded.fields.into_iter().next().map(|(_, value)| value);
        assert_eq!(value, expected, "{payload:?}");
    }
}

fn split(splitter: &mut Splitter, bytes: &[u8]) -> Vec<Line> {
    bytes.iter().filter_map(|&b| splitter.push(b)).collect()
}

#[test]
fn a_line_that_is_too_long_is_reported_once_and_the_next_is_whole() {
    let mut splitter = Splitter::new(4, true);
    let whole = |text: &str| Line::Whole(text.into());
    assert_eq!(
        split(&mut splitter, b"ab\r\n\r\nabcd\nabcdefghij\ncd\ref"),
        [
            whole("ab"),
            whole("abcd"),
            Line::TooLong(b"abcd".into()),
            whole("cd")
        ]
    );
    assert_eq!(split(&mut splitter, b"\n"), [whole("ef")]);
}

#[test]
fn a_line_whose_beginning_was_not_seen_is_no_line() {
    let mut splitter = Splitter::new(64, false);
    let expected = [Line::Tail(6), Line::Whole(b"21.5,40".into())];
    assert_eq!(split(&mut splitter, b"1.5,40\n21.5,40\n"), expected);
    let mut silent = Splitter::new(64, false);
    silent.silence();
    assert_eq!(split(&mut silent, b"1\n"), [Line::Whole(b"1".into())]);
}

#[test]
fn templates_say_what_to_subscribe_to_and_what_topics_mean() {
    for (template, filter, topic, device, field) in [
        ("a/{device}/{field}", "a/+/+", "a/x/y", Some("x"), Some("y")),
        ("z/{device:**}", "z/#", "z/a/b", Some("a/b"), None),
        ("{device}/+/#", "+/+/#", "x/y", Some("x"), None),
        ("{device}/#", "+/#", "x", Some("x"), None),
        ("a/b", "a/b", "a/b", None, None),
        ("/{device}", "/+", "/x", Some("x"), None),
        ("{site}/{device}", "+/+", "s/x", Some("x"), None),
    ] {
        let compiled = Template::parse(template).unwrap();
        assert_eq!(compiled.filter(), filter);
        let captures = compiled.matches(topic).unwrap();
        assert_eq!((captures.device, captures.field), (device, field));
    }
    for (template, topic) in [
        ("a/{device}", "a"),
        ("a/{device}", "a/x/y"),
        ("z/{device:**}", "z"),
        ("+/x/{device:**}", "$SYS/x/y"),
        ("a/b", "a/c"),
    ] {
        let compiled = Template::parse(template).ok();
        let matches = compiled.is_some_and(|compiled| compiled.matches(topic).is_some());
        assert!(!matches, "{template} {topic}");
    }
    assert!(Template::parse("#").unwrap().matches("$SYS/x").is_none());
    assert!(Template::parse("{device}").unwrap().matches("").is_some());
}

#[test]
fn templates_that_cannot_work_are_refused_with_their_place() {
    for (template, at, kind) in [
        ("", 0, TemplateErrorKind::Length),
        (
            "a/b{device}",
            2,
            TemplateErrorKind::Mixed("b{device}".into()),
        ),
        ("a/{device", 2, TemplateErrorKind::Mixed("{device".into())),
        ("a+/b", 0, TemplateErrorKind::Mixed("a+".into())),
        ("a/{}", 2, TemplateErrorKind::Placeholder("{}".into())),
        (
            "a/{Site}",
            2,
            TemplateErrorKind::Placeholder("{Site}".into()),
        ),
        ("a/#/b", 4, TemplateErrorKind::NotLast("#")),
        (
            "{device:**}/b",
            12,
            TemplateErrorKind::NotLast("{device:**}"),
        ),
        (
            "{device}/{device}",
            9,
            TemplateErrorKind::Twice("device".into()),
        ),
        ("a/+/{device}", 4, TemplateErrorKind::Collision),
        ("a\0", 1, TemplateErrorKind::Nul),
    ] {
        let error = Template::parse(template).unwrap_err();
        assert_eq!((error.at, error.kind), (at, kind), "{template}");
    }
}

fn moment(wall: &str, synced: bool) -> Moment {
    Moment {
        wall: wall.parse().unwrap(),
        synced,
        boot: BootId(7),
        monotonic_us: 5_000_000,
    }
}

#[test]
fn a_device_time_counts_only_when_it_is_plausible() {
    const NOW: &str = "2026-11-23T12:00:00Z";
    let at = |text: &str| Some(DeviceTime::At(text.parse().unwrap()));
    let age = |ms| Some(DeviceTime::Age(Duration::from_millis(ms)));
    let unsynced = |monotonic_us| Clock::Unsynced {
        boot: BootId(7),
        monotonic_us,
    };
    let month = Duration::from_secs(30 * 86_400);
    for (told, synced, time, clock) in [
        (None, true, NOW, Clock::Synced),
        (None, false, NOW, unsynced(5_000_000)),
        (
            at("2026-11-23T12:05:00Z"),
            true,
            "2026-11-23T12:05:00Z",
            Clock::Device,
        ),
        (at("2026-11-23T12:05:01Z"), true, NOW, Clock::Synced),
        (
            at("2026-11-24T12:00:00Z"),
            false,
            "2026-11-24T12:00:00Z",
            Clock::Device,
        ),
        (at("2099-01-01T00:00:00Z"), false, NOW, unsynced(5_000_000)),
        (
            at("2026-10-24T12:00:00Z"),
            true,
            "2026-10-24T12:00:00Z",
            Clock::Device,
        ),
        (at("2026-10-24T11:59:59Z"), true, NOW, Clock::Synced),
        (at("1970-01-01T00:00:07Z"), true, NOW, Clock::Synced),
        (age(1_500), true, "2026-11-23T11:59:58.5Z", Clock::Synced),
        (
            age(1_500),
            false,
            "2026-11-23T11:59:58.5Z",
            unsynced(3_500_000),
        ),
        (age(u64::MAX), true, NOW, Clock::Synced),
    ] {
        let expected = (time.parse().unwrap(), clock);
        assert_eq!(
            judge(told, &moment(NOW, synced), month),
            expected,
            "{told:?}"
        );
    }
    let stuck = moment("1970-01-01T00:00:10Z", false);
    let told = at("1970-01-01T00:00:07Z");
    assert_eq!(judge(told, &stuck, month).1, unsynced(5_000_000));
}

#[test]
fn a_reading_is_completed_by_what_the_agent_knows() {
    let meta = Metadata::new(vec![
        (FieldName::new("site").unwrap(), "berlin".into()),
        (FieldName::new("room").unwrap(), "1".into()),
    ])
    .unwrap();
    let device = DeviceId::new("configured").unwrap();
    let defaults = Defaults {
        device: Some(&device),
        meta: &meta,
        max_age: Duration::from_secs(60),
    };
    let now = moment("2026-11-23T12:00:00Z", true);
    let mut decoded = json(r#"{"v":1}"#).unwrap();
    decoded.meta = vec![(FieldName::new("room").unwrap(), "2".into())];
    let reading = decoded.into_reading(&defaults, &now).unwrap();
    assert_eq!(reading.device, device);
    let meta: Vec<&str> = reading.meta.iter().map(|(_, text)| text).collect();
    assert_eq!(meta, ["2", "berlin"]);
    let empty = json("{}").unwrap().into_reading(&defaults, &now);
    assert_eq!(empty, Err(DecodeError::NoFields(0)));
    let nobody = Defaults {
        device: None,
        ..defaults
    };
    let nameless = json(r#"{"v":1}"#).unwrap().into_reading(&nobody, &now);
    assert_eq!(nameless, Err(DecodeError::NoDevice));
}

/// JSON-like noise: more of it gets deep into the decoder than of random bytes.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "{", "}", "[", "]", "\"a\"", "\"", ":", ",", "1", "-1e999", "NaN", "Infinity", "true",
        "null", "\\", "\\u0000", "=", " ", "\n", "ü", "id", "seq", ";",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat().into_bytes()),
    ]
}

proptest! {
    #[test]
    fn no_input_makes_a_decoder_panic_and_what_it_keeps_is_sound(bytes in noise()) {
        let columns = ["id", "seq", "", "v"].map(String::from);
        let device = DeviceId::new("d").unwrap();
        let meta = Metadata::default();
        let defaults = Defaults { device: Some(&device), meta: &meta, max_age: Duration::from_secs(60) };
        let now = moment("2026-11-23T12:00:00Z", true);
        for roles in [Roles::default(), roles()] {
            for decoded in [
                json::decode(&bytes, &roles),
                key_value::decode(&bytes, &roles),
                csv::decode(&bytes, b',', &columns, &roles),
                number::decode(&bytes, &FieldName::new("v").unwrap()),
            ].into_iter().flatten() {
                prop_assert!(decoded.fields.len() + decoded.rejected.len() <= MAX_FIELDS + 1);
                let empty = decoded.fields.is_empty();
                let reading = decoded.into_reading(&defaults, &now);
                prop_assert!(!empty || reading.is_err());
            }
        }
    }

    #[test]
    fn a_splitter_holds_no_more_than_its_bound(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut splitter = Splitter::new(16, true);
        for line in split(&mut splitter, &bytes) {
            let (Line::Whole(line) | Line::TooLong(line)) = line else { continue };
            prop_assert!(!line.is_empty() && line.len() <= 16);
        }
    }

    #[test]
    fn every_topic_of_a_template_is_one_its_filter_asks_for(text in "(a|\\+|#|\\{device\\}|\\{device:\\*\\*\\}|\\{x\\}|/){1,8}", topic in "[ab/]{0,12}") {
        if let Ok(template) = Template::parse(&text)
            && template.matches(&topic).is_some()
        {
            prop_assert!(asks_for(&topic, &template.filter()));
        }
    }
}

/// MQTT's own rule, written the other way round.
fn asks_for(topic: &str, filter: &str) -> bool {
    let (topic, filter): (Vec<_>, Vec<_>) =
        (topic.split('/').collect(), filter.split('/').collect());
    for (at, level) in filter.iter().enumerate() {
        if *level == "#" {
            return true;
        }
        if topic
            .get(at)
            .is_none_or(|have| *level != "+" && have != level)
        {
            return false;
        }
    }
    topic.len() == filter.len()
}

fn pieces(stream: &mut super::stream::Stream, text: &[u8]) -> (Vec<String>, Vec<String>) {
    let mut pieces = Vec::new();
    stream.push(text, &mut pieces);
    stream.finish(&mut pieces);
    let (mut readings, mut faults) = (Vec::new(), Vec::new());
    for piece in pieces {
        match piece {
            super::stream::Piece::Reading(at, decoded) => {
                readings.push(format!("{at} {}", shown(&decoded).join(" ")));
            }
            super::stream::Piece::Rejected(rejected) => {
                faults.push(format!("{} {}", rejected.at, rejected.fault));
            }
        }
    }
    (readings, faults)
}

#[test]
fn a_table_names_its_columns_in_its_first_line_whatever_stands_in_front() {
    let mut csv = "csv".parse::<super::preset::Preset>().unwrap().stream();
    let table = "\u{feff}temp_c,\"hum, pct\",note\n21.5,45,\"a \"\"b\"\"\"\ntemp_c,\"hum, pct\",note\n1,2\n-1,nan,\n";
    let (readings, faults) = pieces(&mut csv, table.as_bytes());
    assert_eq!(
        readings,
        [
            r#"26 hum_pct=Float(45.0) note=Text("a \"b\"") temp_c=Float(21.5)"#,
            "71 temp_c=Float(-1.0)"
        ]
    );
    assert_eq!(faults, ["67 2 values for 3 columns"]);
}

#[test]
fn semicolons_mean_decimal_commas_and_only_there() {
    let columns = ["a", "b", "c"].map(String::from);
    let read = |line: &str, separator| {
        let decoded = csv::decode(line.as_bytes(), separator, &columns, &Roles::default()).unwrap();
        shown(&decoded)
    };
    assert_eq!(
        read("21,5;-0,25;1,2,3", b';'),
        ["a=Float(21.5)", "b=Float(-0.25)", r#"c=Text("1,2,3")"#]
    );
    assert_eq!(
        read("21,5\t1\t2", b'\t'),
        [r#"a=Text("21,5")"#, "b=Float(1.0)", "c=Float(2.0)"]
    );
    let pairs = key_value::decode(b"T=1;H=2; P=3", &Roles::default()).unwrap();
    assert_eq!(pairs.fields.len(), 3);
}

#[test]
fn a_line_without_a_usable_value_says_which_one_and_why() {
    let mut influx = "influx".parse::<super::preset::Preset>().unwrap().stream();
    let (readings, faults) = pieces(&mut influx, b"m f=0x1\n");
    assert!(readings.is_empty());
    assert_eq!(
        faults,
        [r#"0 no value that can be kept: "f" is not a number"#]
    );
}

#[test]
fn a_bare_value_may_be_a_state_or_be_quoted_but_is_no_object() {
    let field = FieldName::new("v").unwrap();
    let read = |text: &str| number::decode(text.as_bytes(), &field).map(|d| shown(&d).join(" "));
    for (text, expected) in [
        (" 21.5\n", "v=Float(21.5)"),
        ("\"21.5\"", "v=Float(21.5)"),
        ("ON", "v=Bool(true)"),
        ("off", "v=Bool(false)"),
        ("heating", r#"v=Text("heating")"#),
        ("", ""),
    ] {
        assert_eq!(read(text).unwrap(), expected, "{text}");
    }
    assert!(matches!(
        read(r#"{"a":1}"#),
        Err(DecodeError::NotAsPreset(_))
    ));
    assert!(read("[1]").is_err());
}
