//! Made after zigbee2mqtt.io, "MQTT Topics and Messages", "Device availability", pages of the devices
//! WSDCGQ11LM, TS011F, LED1624G9, TS0601.

use super::{Preset, check};

#[test]
fn a_device_may_have_slashes_and_its_values_have_units() {
    check(
        Preset::Zigbee2mqtt,
        &[
            (
                "zigbee2mqtt/kitchen/floor",
                r#"{"battery":97,"humidity":44.72,"linkquality":87,"pressure":1009.3,"temperature":27.34,"voltage":3005,"last_seen":"2026-11-23T12:59:58+01:00"}"#,
                &[
                    "kitchen/floor @2026-11-23T11:59:58Z battery_pct=97 humidity_pct=44.72 linkquality=87 pressure_hpa=1009.3 temperature_c=27.34 voltage_v=3.005",
                ],
            ),
            (
                "zigbee2mqtt/plug",
                r#"{"current":0.02,"energy":12.4,"power":3,"voltage":231,"state":"ON","update":{"state":"idle","installed_version":192},"update_available":false,"last_seen":1795435200123}"#,
                &[
                    r#"plug @2026-11-23T12:00:00.123Z current_a=0.02 energy_kwh=12.4 power_w=3 state=true update_available=false update_installed_version=192 update_state="idle" voltage_v=231"#,
                ],
            ),
            (
                "zigbee2mqtt/bulb",
                r#"{"state":"OFF","brightness":215,"color":{"x":0.3127,"y":0.329},"color_mode":"xy","color_temp":325,"last_seen":"2026-11-23T11:59:59.000Z"}"#,
                &[
                    r#"bulb @2026-11-23T11:59:59Z brightness=215 color_mode="xy" color_temp=325 color_x=0.3127 color_y=0.329 state=false"#,
                ],
            ),
            (
                "zigbee2mqtt/0x00158d0001",
                r#"{"temperature":"21.50","humidity":"44","action":"","occupancy":true,"state_left":"ON","power_left":4,"voltage_phase_b":229.5,"update":null}"#,
                &[
                    "0x00158d0001 humidity_pct=44 occupancy=true power_left_w=4 state_left=true temperature_c=21.5 voltage_l2_v=229.5",
                ],
            ),
            (
                "zigbee2mqtt/motion",
                r#"{"illuminance":13424,"illuminance_lux":22,"device":{"model":"RTCGQ11LM","friendlyName":"motion"}}"#,
                &["motion illuminance_lx=22 illuminance_raw=13424"],
            ),
            (
                "zigbee2mqtt/hall/lamp/temperature",
                "21.5",
                &["hall/lamp temperature_c=21.5"],
            ),
            (
                "zigbee2mqtt/hall/lamp/contact",
                "false",
                &["hall/lamp contact=false"],
            ),
        ],
    );
}

#[test]
fn availability_is_a_link_and_the_rest_of_the_bridge_is_nothing() {
    check(
        Preset::Zigbee2mqtt,
        &[
            ("zigbee2mqtt/bridge/state", "online", &["bridge up"]),
            (
                "zigbee2mqtt/bridge/state",
                r#"{"state":"offline"}"#,
                &["bridge down"],
            ),
            (
                "zigbee2mqtt/hall/lamp/availability",
                r#"{"state":"online"}"#,
                &["hall/lamp up"],
            ),
            ("zigbee2mqtt/lamp/availability", "offline", &["lamp down"]),
            (
                "zigbee2mqtt/bridge/devices",
                r#"[{"ieee_address":"0x0"}]"#,
                &[],
            ),
            (
                "zigbee2mqtt/bridge/logging",
                r#"{"level":"info","message":"x"}"#,
                &[],
            ),
            ("zigbee2mqtt/lamp/set", r#"{"state":"ON"}"#, &[]),
            ("zigbee2mqtt/lamp/set/state", "ON", &[]),
            ("zigbee2mqtt/lamp/get", r#"{"state":""}"#, &[]),
            (
                "zigbee2mqtt/lamp/availability",
                "perhaps",
                &["error: availability that is neither online nor offline"],
            ),
        ],
    );
}

#[test]
fn phases_are_numbered_as_everywhere() {
    check(
        Preset::Zigbee2mqtt,
        &[(
            "zigbee2mqtt/meter",
            r#"{"power":1,"power_phase_b":10,"voltage_phase_b":230,"current_phase_c":0.5}"#,
            &["meter current_l3_a=0.5 power_l2_w=10 power_w=1 voltage_l2_v=230"],
        )],
    );
}

#[test]
fn what_posted_devices_measure_has_its_unit() {
    check(
        Preset::Zigbee2mqtt,
        &[
            // github.com/stas-demydiuk/domoticz-zigbee2mqtt-plugin/issues/684.
            (
                "zigbee2mqtt/0x0c4314fffe84e0a4",
                r#"{"co2":359,"formaldehyd":1,"humidity":62.3,"linkquality":84,"temperature":21.1,"voc":14}"#,
                &[
                    "0x0c4314fffe84e0a4 co2_ppm=359 formaldehyd=1 humidity_pct=62.3 linkquality=84 temperature_c=21.1 voc=14",
                ],
            ),
            // github.com/home-assistant/core/issues/95700.
            (
                "zigbee2mqtt/Bad Motion",
                r#"{"battery":74,"illuminance_above_threshold":false,"linkquality":124,"occupancy":true,"requested_brightness_level":null,"update":{"installed_version":-1,"latest_version":-1,"state":null},"update_available":null}"#,
                &[
                    "Bad Motion battery_pct=74 illuminance_above_threshold=false linkquality=124 occupancy=true update_installed_version=-1 update_latest_version=-1",
                ],
            ),
            // How much water the air holds is no percentage.
            (
                "zigbee2mqtt/air",
                r#"{"absolute_humidity":8.5,"humidity":44}"#,
                &["air absolute_humidity_kg_m3=0.0085 humidity_pct=44"],
            ),
        ],
    );
}
