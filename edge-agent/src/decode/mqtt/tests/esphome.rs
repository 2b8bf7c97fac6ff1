//! Made after esphome.io, "MQTT Client Component", and the firmware's `mqtt_*.cpp`; none was captured.

use super::{Preset, check, read_as};

#[test]
fn each_component_has_its_kind_of_value() {
    check(
        Preset::Esphome,
        &[
            (
                "livingroom/sensor/room_temperature/state",
                "21.5",
                &["livingroom room_temperature_c=21.5"],
            ),
            (
                "livingroom/sensor/bme280_humidity/state",
                "40.12",
                &["livingroom bme280_humidity_pct=40.12"],
            ),
            (
                "livingroom/sensor/wifi_signal/state",
                "-61",
                &["livingroom wifi_signal_dbm=-61"],
            ),
            (
                "livingroom/sensor/pulses/state",
                "3",
                &["livingroom pulses=3"],
            ),
            (
                "livingroom/sensor/pulses/state",
                "nan",
                &["livingroom !pulses: is not a finite number"],
            ),
            (
                "livingroom/number/level/state",
                "unknown",
                &["livingroom !level: is a word, a number is expected"],
            ),
            (
                "livingroom/binary_sensor/door/state",
                "ON",
                &["livingroom door=true"],
            ),
            (
                "livingroom/switch/relay_1/state",
                "OFF",
                &["livingroom relay_1=false"],
            ),
            (
                "livingroom/sensor/version/state",
                "2026.11.0",
                &[r#"livingroom version="2026.11.0""#],
            ),
            (
                "livingroom/sensor/last_key/state",
                "ON",
                &[r#"livingroom last_key="ON""#],
            ),
            ("livingroom/sensor/pulses/state", "None", &[]),
            (
                "livingroom/select/mode/state",
                "2",
                &[r#"livingroom mode="2""#],
            ),
            (
                "livingroom/light/lamp/state",
                r#"{"state":"ON","brightness":155,"color":{"r":255,"g":0}}"#,
                &["livingroom lamp=true lamp_brightness=155 lamp_color_g=0 lamp_color_r=255"],
            ),
            (
                "livingroom/climate/heater/current_temperature/state",
                "19.5",
                &["livingroom heater_current_temperature_c=19.5"],
            ),
            (
                "livingroom/cover/blind/position/state",
                "55",
                &["livingroom blind_position_pct=55"],
            ),
        ],
    );
}

#[test]
fn status_is_a_link_and_commands_and_logs_are_nothing() {
    check(
        Preset::Esphome,
        &[
            ("livingroom/status", "online", &["livingroom up"]),
            ("livingroom/status", "offline", &["livingroom down"]),
            ("livingroom/debug", "[D][sensor:094]: 'x'", &[]),
            ("livingroom/switch/relay/command", "ON", &[]),
        ],
    );
}

#[test]
fn a_prefix_may_have_levels_and_a_component_in_it() {
    let topic = "home/sensor/attic/sensor/heat_temperature/state";
    let read = read_as(Preset::Esphome, None, topic, b"30");
    assert_eq!(read.unwrap(), ["home/sensor/attic heat_temperature_c=30"]);
}

#[test]
fn a_prefix_of_two_levels_is_one_device() {
    check(
        Preset::Esphome,
        &[
            (
                "home/bath/sensor/outside_humidity/state",
                "55.1",
                &["home/bath outside_humidity_pct=55.1"],
            ),
            (
                "home/bath/climate/ac/target_temperature_low/state",
                "20",
                &["home/bath ac_target_temperature_low_c=20"],
            ),
            ("home/bath/status", "online", &["home/bath up"]),
        ],
    );
}
