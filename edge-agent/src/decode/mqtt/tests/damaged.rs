//! What must hold for any bytes under any topic.

use proptest::prelude::*;
use protocol::{MAX_FIELDS, MAX_TEXT_BYTES};

use super::*;

const TOPICS: [&str; 14] = [
    "tele/a/SENSOR",
    "tele/a/STATE",
    "stat/a/POWER1",
    "zigbee2mqtt/a/b",
    "a/sensor/b/state",
    "a/light/b/state",
    "rtl_433/h/events",
    "mbmd/m/Power",
    "te/device/main///m/x",
    "shellies/s/relay/0",
    "s/events/rpc",
    "s/status/switch:0",
    "spBv1.0/g/NDATA/e",
    "spBv1.0/g/NBIRTH/e",
];

fn outcomes(topic: &str, payload: &[u8]) -> Vec<Outcome> {
    Preset::ALL
        .into_iter()
        .filter_map(|preset| {
            let message = Message {
                topic,
                device: Some("d"),
                payload,
                at: AT.parse().unwrap(),
                again: false,
            };
            Decoder::new(preset, Options::default()).read(&message).ok()
        })
        .collect()
}

fn is_bounded(outcome: &Outcome) {
    assert!(outcome.readings.len() <= 1001);
    for reading in &outcome.readings {
        assert!(reading.fields.len() + reading.rejected.len() <= MAX_FIELDS + 1);
        let mut names: Vec<_> = reading.fields.iter().map(|(name, _)| name).collect();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for (_, value) in &reading.fields {
            match value {
                Value::Float(number) => assert!(number.is_finite()),
                Value::Text(text) => assert!(text.len() <= MAX_TEXT_BYTES),
                _ => {}
            }
        }
    }
}

#[test]
fn one_bad_member_takes_no_other_along() {
    let payload = br#"{"time":"x","model":"M","good":1,"nan":NaN,"huge":1e400,"wide":18446744073709551616,"twice":1,"twice":2,"a\u0000b":3,"deep":[[[[[[[[[[1]]]]]]]]]]}"#;
    let read = read_as(Preset::Rtl433, None, "rtl_433/h/events", payload).unwrap();
    assert_eq!(
        read,
        [concat!(
            "M a_b=3 good=1",
            " !nan: is not a finite number",
            " !huge: is not a finite number",
            " !wide: has more digits than a float keeps, send it as text",
            " !deep_0_0_0_0_0_0_0: is nested deeper than 8 levels",
            " !twice: appears more than once under the same canonical name"
        )]
    );
}

#[test]
fn large_and_deep_payloads_are_bounded() {
    let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    let wide = format!(
        "{{{}\"z\":1}}",
        (0..60_000)
            .map(|n| format!("\"k{n}\":{n},"))
            .collect::<String>()
    );
    let list = format!("[{}1]", "1,".repeat(500_000));
    let empty_metrics = [0x12, 0x00].repeat(500_000);
    let text = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    for payload in [
        deep.as_bytes(),
        wide.as_bytes(),
        list.as_bytes(),
        &empty_metrics,
        text.as_bytes(),
    ] {
        for topic in TOPICS {
            outcomes(topic, payload).iter().for_each(is_bounded);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_a_decoder_fail_or_grow(topic in 0..TOPICS.len(), payload in prop::collection::vec(any::<u8>(), 0..300)) {
        outcomes(TOPICS[topic], &payload).iter().for_each(is_bounded);
    }

    #[test]
    fn no_json_makes_a_decoder_fail_or_grow(
        topic in 0..TOPICS.len(),
        payload in r#"(\{|\}|\[|\]|,|:|"(ENERGY|n|bn|v|t|u|Time|model|params|method|state|switch:0|ts|\\u0000)"|-?[0-9]{1,20}(\.[0-9])?(e[0-9]{3})?|null|true|"NotifyStatus"){0,60}"#,
    ) {
        outcomes(TOPICS[topic], payload.as_bytes()).iter().for_each(is_bounded);
    }

    #[test]
    fn no_topic_makes_a_decoder_fail(topic in "[a-z/:$+#{}]{0,40}", state in "(on|online|1|\\{\"a\":1\\}|)") {
        outcomes(&topic, state.as_bytes()).iter().for_each(is_bounded);
    }

    #[test]
    fn a_damaged_message_is_refused_or_read_never_a_failure(cut in 0..400usize, flip in 0..400usize, bit in 0..8u8) {
        let mut payload = br#"{"Time":"2026-11-23T13:00:00","ENERGY":{"Total":12.5,"Power":[10,20],"Voltage":[230.1,231.2]},"AM2301":{"Temperature":20.1},"TempUnit":"F"}"#.to_vec();
        payload.truncate(cut);
        if let Some(byte) = payload.get_mut(flip) {
            *byte ^= 1 << bit;
        }
        outcomes("tele/a/SENSOR", &payload).iter().for_each(is_bounded);
    }
}
