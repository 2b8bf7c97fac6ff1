use super::*;

fn told(what: What, input: &[u8], received_at: Option<&str>) -> (String, String, u64) {
    let mut report = Report {
        out: Vec::new(),
        problems: Vec::new(),
        received_at: received_at.map(|at| at.parse().unwrap()),
        rejected: 0,
    };
    match what {
        What::Stream(stream) => report.stream(stream, &mut &*input).unwrap(),
        What::Json => report.json(&mut &*input).unwrap(),
        What::Message(message) => message.tell(&mut report, &mut &*input).unwrap(),
    }
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(report.out), text(report.problems), report.rejected)
}

fn stream(preset: &str) -> What {
    What::Stream(preset.parse::<Preset>().unwrap().stream())
}

#[test]
fn readings_are_json_lines_and_rejections_have_their_place() {
    let capture = b"\xaa\xc0\xd4\x04\x3a\x0a\xa1\x60\x1d\xab\x00\x01";
    let (out, problems, rejected) = told(stream("sds011"), capture, None);
    assert_eq!(
        out,
        "{\"device\":\"sds011-a160\",\"time\":null,\
         \"fields\":{\"pm10_ug_m3\":261.8,\"pm2_5_ug_m3\":123.6}}\n"
    );
    assert_eq!(problems, "byte 10: no piece begins here (2 bytes: 00 01)\n");
    assert_eq!(rejected, 1);
}

#[test]
fn a_value_that_is_left_out_is_told_and_counted() {
    let (out, problems, rejected) = told(stream("influx"), b"m a=1,b=x 1465839830\n", None);
    let expected = r#"{"device":null,"time":"2016-06-13T17:43:50Z","fields":{"a":1.0}}"#;
    assert_eq!(out.trim_end(), expected);
    assert_eq!(problems, "byte 0: \"b\" is not a number\n");
    assert_eq!(rejected, 1);
}

#[test]
fn a_rejected_member_of_a_payload_has_its_place() {
    let payload = br#"{"DHT":{"Temperature":21.5,"Humidity":NaN}}"#;
    let (out, problems, rejected) =
        told(message("tasmota", Some("tele/plug/SENSOR")), payload, None);
    assert!(out.contains("dht_temperature_c"), "{out}");
    assert_eq!(
        problems,
        "byte 27: \"DHT_Humidity\" is not a finite number\n"
    );
    assert_eq!(rejected, 1);
    let (_, problems, _) = told(What::Json, br#"{"a":1,"b":1e400}"#, None);
    assert_eq!(problems, "byte 7: \"b\" is not a finite number\n");
    let pack = br#"[{"n":"d/a","v":1},{"n":"d/b"}]"#;
    let (_, problems, _) = told(message("senml", None), pack, None);
    let expected = "byte 19: record 1: a SenML record without a value\n";
    assert_eq!(problems, expected);
}

#[test]
fn json_may_be_one_payload_or_a_line_each() {
    let one = told(What::Json, b"{\n \"a\": 1\n}\n", None);
    assert_eq!(
        one.0,
        "{\"device\":null,\"time\":null,\"fields\":{\"a\":1.0}}\n"
    );
    let lines = told(What::Json, b"{\"a\":1}\nx\n{\"a\":2}\n", None);
    assert_eq!((lines.0.lines().count(), lines.2), (2, 1));
    assert!(lines.1.starts_with("byte 8: not JSON"), "{}", lines.1);
}

fn message(preset: &str, topic: Option<&str>) -> What {
    what(&Arguments {
        preset: preset.into(),
        topic: topic.map(Into::into),
        received_at: None,
        config: None,
        format: Format::Json,
        file: "-".into(),
    })
    .unwrap()
}

#[test]
fn the_topic_names_device_and_value_of_a_bare_number() {
    let number = message("number", Some("house/kitchen/temperature_c"));
    let (out, _, rejected) = told(number, b"21.5", None);
    let expected = r#"{"device":"house/kitchen","time":null,"fields":{"temperature_c":21.5}}"#;
    assert_eq!((out.trim_end(), rejected), (expected, 0));
}

#[test]
fn json_of_a_topic_is_read_as_its_subscription_would() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("plant.toml");
    fs::write(
        &config,
        "topic = \"plant/{device}\"\nfields = { temperature_c = \"main.temp\" }\ntime = \"ts\"\n",
    )
    .unwrap();
    let message = what(&Arguments {
        preset: "json".into(),
        topic: Some("plant/boiler".into()),
        received_at: None,
        config: Some(config),
        format: Format::Json,
        file: "-".into(),
    })
    .unwrap();
    let payload = br#"{"ts":"2026-01-01T01:00:00+01:00","main":{"temp":21.5},"x":1}"#;
    let (out, problems, rejected) = told(message, payload, None);
    let expected =
        r#"{"device":"boiler","time":"2026-01-01T00:00:00Z","fields":{"temperature_c":21.5}}"#;
    assert_eq!(out.trim_end(), expected, "{problems}");
    assert_eq!(rejected, 0);
}

#[test]
fn a_preset_of_devices_is_known_by_its_word_and_told_like_the_others() {
    let sensor = br#"{"Time":"2026-01-01T00:00:00","AM2301":{"Temperature":21.5},"TempUnit":"C"}"#;
    let (out, problems, rejected) =
        told(message("Tasmota", Some("tele/plug/SENSOR")), sensor, None);
    assert!(out.starts_with(r#"{"device":"plug","time":null,"#), "{out}");
    assert_eq!((problems.as_str(), rejected), ("", 0));
    let (out, problems, rejected) = told(message("tasmota", Some("tele/plug/SENSOR")), b"{", None);
    assert_eq!((out.as_str(), rejected), ("", 1));
    assert!(problems.starts_with("byte "), "{problems}");
}
