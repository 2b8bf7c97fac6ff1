//! One bad value among good ones, in a message of each preset: it takes nothing along, nothing appears
//! under another name, and a field that is a number never becomes anything else.

use protocol::{MAX_TEXT_BYTES, Value};

use super::*;

/// Topic, payload with `@` where the value stands, a field that must survive, and the one that is bad.
const MESSAGES: [(Preset, &str, &str, &str, &str); 8] = [
    (
        Preset::Tasmota,
        "tele/a/SENSOR",
        r#"{"AM2301":{"Temperature":@,"Humidity":44}}"#,
        "am2301_humidity_pct",
        "am2301_temperature_c",
    ),
    (
        Preset::Tasmota,
        "tele/a/SENSOR",
        r#"{"ENERGY":{"Total":12.5,"Power":[10,@]}}"#,
        "power_l1_w",
        "power_l2_w",
    ),
    (
        Preset::Zigbee2mqtt,
        "zigbee2mqtt/a",
        r#"{"temperature":@,"humidity":44}"#,
        "humidity_pct",
        "temperature_c",
    ),
    (
        Preset::Rtl433,
        "rtl_433/h/events",
        r#"{"model":"M","id":1,"temperature_C":@,"humidity":44}"#,
        "humidity_pct",
        "temperature_c",
    ),
    (
        Preset::ThinEdge,
        "te/device/main///m/x",
        r#"{"level":@,"flow":{"left":3}}"#,
        "flow_left",
        "level",
    ),
    (
        Preset::Shelly,
        "s/status/switch:0",
        r#"{"id":0,"apower":@,"voltage":230.1}"#,
        "switch_0_voltage_v",
        "switch_0_power_w",
    ),
    (
        Preset::Senml,
        "gw/senml",
        r#"[{"bn":"d/","n":"t","u":"Cel","v":@},{"n":"h","u":"%RH","v":44}]"#,
        "h_pct",
        "t_c",
    ),
    (
        Preset::Esphome,
        "a/light/lamp/state",
        r#"{"state":"ON","brightness":@}"#,
        "lamp",
        "lamp_brightness",
    ),
];

fn outcome(preset: Preset, topic: &str, payload: &str) -> Result<Outcome, DecodeError> {
    let message = Message {
        topic,
        device: None,
        payload: payload.as_bytes(),
        at: AT.parse().unwrap(),
        again: false,
    };
    Decoder::new(preset, Options::default()).read(&message)
}

/// Fields and how many members were rejected.
fn read(preset: Preset, topic: &str, payload: &str) -> (Vec<(String, Value)>, usize) {
    let outcome = outcome(preset, topic, payload).unwrap_or_else(|error| {
        let start: String = payload.chars().take(120).collect();
        panic!("{topic} {start}: {error}")
    });
    let rejected = outcome.readings.iter().map(|r| r.rejected.len());
    let rejected = rejected.sum::<usize>() + outcome.rejected.len();
    let fields = outcome.readings.into_iter().flat_map(|r| r.fields);
    let fields = fields.map(|(name, value)| (name.to_string(), value));
    (fields.collect(), rejected)
}

fn has(fields: &[(String, Value)], name: &str) -> bool {
    fields.iter().any(|(have, _)| have == name)
}

#[test]
fn a_bad_value_is_rejected_once_and_its_neighbour_is_kept() {
    let text = format!("\"{}\"", "x".repeat(MAX_TEXT_BYTES + 1));
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    for (preset, topic, payload, good, bad) in MESSAGES {
        for value in [
            "NaN",
            "Infinity",
            "1e400",
            "-1e400",
            "18446744073709551616",
            &text,
            &deep,
        ] {
            let (fields, rejected) = read(preset, topic, &payload.replace('@', value));
            let start: String = value.chars().take(20).collect();
            assert!(has(&fields, good), "{topic} {start}: {fields:?}");
            assert!(!has(&fields, bad), "{topic} {start}: {fields:?}");
            assert_eq!(rejected, 1, "{topic} {start}: {fields:?}");
        }
    }
}

#[test]
fn a_member_named_twice_is_neither_of_both() {
    for (preset, topic, payload, good, bad) in MESSAGES {
        // The value's own member once more; a list has no names.
        let member = payload.rfind("\":@").map(|end| {
            let begins = payload[..end].rfind('"').unwrap_or(0);
            &payload[begins..=end + 1]
        });
        let Some(member) = member else { continue };
        let payload = payload.replace('@', &format!("1,{member}2"));
        let (fields, rejected) = read(preset, topic, &payload);
        assert!(has(&fields, good), "{topic} {payload}: {fields:?}");
        assert!(!has(&fields, bad), "{topic} {payload}: {fields:?}");
        assert_eq!(rejected, 1, "{topic} {payload}: {fields:?}");
    }
}

#[test]
fn a_quantity_is_a_number_or_not_there_whatever_is_sent() {
    for (preset, topic, payload, good, quantity) in MESSAGES {
        for value in ["21.5", "\"low\"", "true", "null", "{\"a\":1}", "\"\"", "[]"] {
            let (fields, _) = read(preset, topic, &payload.replace('@', value));
            assert!(has(&fields, good), "{topic} {value}: {fields:?}");
            for (name, value) in fields {
                // Under the sender's own name a field may be anything: the sink keeps its column's type.
                let own = ["level", "lamp_brightness"].contains(&quantity);
                let has_unit = !own && preset != Preset::Rtl433;
                if has_unit && name == quantity {
                    assert!(
                        matches!(value, Value::Float(_)),
                        "{topic}: {name}={value:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_nul_in_a_name_is_a_letter_like_any_that_no_name_has() {
    for (preset, topic, payload) in [
        (Preset::Tasmota, "tele/a/SENSOR", r#"{"S":{"a\u0000b":3}}"#),
        (Preset::Zigbee2mqtt, "zigbee2mqtt/a", r#"{"a\u0000b":3}"#),
        (
            Preset::Rtl433,
            "rtl_433/h/events",
            r#"{"model":"M","a\u0000b":3}"#,
        ),
        (
            Preset::ThinEdge,
            "te/device/main///m/x",
            r#"{"a\u0000b":3}"#,
        ),
        (Preset::Shelly, "s/status/x:0", r#"{"a\u0000b":3}"#),
        (
            Preset::Senml,
            "gw/senml",
            r#"[{"bn":"d/","n":"a\u0000b","v":3}]"#,
        ),
        (
            Preset::Esphome,
            "a/light/l/state",
            r#"{"state":"ON","a\u0000b":3}"#,
        ),
    ] {
        let (fields, _) = read(preset, topic, payload);
        assert!(!fields.is_empty(), "{topic}");
        for (name, _) in &fields {
            assert!(!name.contains('\0'), "{topic}: {name:?}");
        }
        assert!(
            fields.iter().any(|(name, _)| name.ends_with("a_b")),
            "{topic}: {fields:?}"
        );
    }
}

#[test]
fn ten_thousand_devices_are_ten_thousand_names() {
    let mut names = std::collections::HashSet::new();
    for number in 0..10_000 {
        let topic = format!("zigbee2mqtt/floor/{number}");
        let read = outcome(Preset::Zigbee2mqtt, &topic, r#"{"temperature":1}"#).unwrap();
        names.insert(read.readings[0].device.clone());
    }
    assert_eq!(names.len(), 10_000);
}
