//! Made after thin-edge.io, "Thin Edge JSON format", "MQTT API".

use super::{Preset, check};

#[test]
fn measurements_belong_to_the_entity_of_the_topic() {
    check(
        Preset::ThinEdge,
        &[
            (
                "te/device/main///m/environment",
                r#"{"time":"2020-10-15T05:30:47+00:00","temperature":25,"location":{"latitude":32.54,"longitude":-117.67},"pressure":98}"#,
                &[
                    "main @2020-10-15T05:30:47Z location_latitude=32.54 location_longitude=-117.67 pressure=98 temperature=25",
                ],
            ),
            (
                "te/device/child01///m/",
                r#"{"three_phase_current":{"L1":9.5,"L2":10.3}}"#,
                &["child01 three_phase_current_l1=9.5 three_phase_current_l2=10.3"],
            ),
            (
                "te/device/main/service/nodered/m/environment",
                r#"{"temperature":23.4,"time":1795435199.5}"#,
                &["main/nodered @2026-11-23T11:59:59.5Z temperature=23.4"],
            ),
            (
                "te/factory01/hallA/packaging/belt/m/speed",
                r#"{"rpm":3}"#,
                &["factory01/hallA/packaging/belt rpm=3"],
            ),
            (
                "te/device/main/service/tedge-agent/status/health",
                r#"{"pid":1,"status":"up","time":1}"#,
                &["main/tedge-agent up"],
            ),
            (
                "te/device/main///m/environment/meta",
                r#"{"units":{"temperature":"°C"}}"#,
                &[],
            ),
            ("te/device/main///e/login", r#"{"text":"x"}"#, &[]),
            ("te/device/main///a/hot", r#"{"severity":"major"}"#, &[]),
            (
                "te/device/main///cmd/restart/1",
                r#"{"status":"init"}"#,
                &[],
            ),
            ("te/device/main//", r#"{"@type":"device"}"#, &[]),
            (
                "te/device/main///m/x",
                "[1]",
                &["error: not a JSON object; a bare value needs preset = \"number\""],
            ),
        ],
    );
    let read = |topic| super::read_as(Preset::ThinEdge, None, topic, br#"{"temperature":1}"#);
    assert_eq!(read("tedge/measurements").unwrap(), ["main temperature=1"]);
    assert_eq!(read("tedge/measurements/c1").unwrap(), ["c1 temperature=1"]);
}
