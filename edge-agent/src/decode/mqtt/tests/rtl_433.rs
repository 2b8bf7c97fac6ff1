//! Made after rtl_433's README, docs/DATA_FORMAT.md and the tests of merbanan/rtl_433_tests.

use super::{Preset, check};

#[test]
fn model_channel_and_id_are_the_device_and_names_carry_units() {
    check(
        Preset::Rtl433,
        &[
            (
                "rtl_433/pi/events",
                r#"{"time":"2026-11-23 12:59:59","model":"Acurite-Tower","id":11524,"channel":"A","battery_ok":1,"temperature_C":3.5,"humidity":79,"mic":"CHECKSUM"}"#,
                &[
                    "Acurite-Tower/A/11524 @2026-11-23T11:59:59Z battery_ok=1 humidity_pct=79 temperature_c=3.5",
                ],
            ),
            (
                "rtl_433/pi/events",
                r#"{"time":"2026-11-23T11:59:59Z","model":"LaCrosse-TX141Bv3","id":251,"temperature_F":68.9,"wind_avg_km_h":36,"rain_in":0.1,"rain_rate_in_h":1,"mod":"ASK","freq":433.92,"rssi":-0.12,"snr":23.5,"noise":-23.7}"#,
                &[
                    "LaCrosse-TX141Bv3/251 @2026-11-23T11:59:59Z freq_hz=433920000 noise_db=-23.7 rain_mm=2.54 rain_rate_mm_h=25.4 rssi_db=-0.12 snr_db=23.5 temperature_c=20.5 wind_avg_m_s=10",
                ],
            ),
            (
                "rtl_433/pi/events",
                r#"{"time":"1795435199.25","type":"TPMS","model":"Toyota","id":"fb3e4f5a","pressure_PSI":32,"temperature_C":24,"code":"abc"}"#,
                &[
                    r#"Toyota/fb3e4f5a @2026-11-23T11:59:59.25Z code="abc" pressure_hpa=2206.32224 temperature_c=24"#,
                ],
            ),
            (
                "rtl_433/pi/events",
                r#"{"time":"@0.123s","model":"Fineoffset-WH24","id":7,"battery":"OK","wind_dir_deg":270,"light_lux":1200,"temperature_1_C":2,"storage_1_C":"n/a"}"#,
                &[
                    r#"Fineoffset-WH24/7 battery="OK" light_lx=1200 storage_1_c="n/a" temperature_1_c=2 wind_dir_deg=270"#,
                ],
            ),
            (
                "rtl_433/pi/devices/Acurite-Tower/A/11524/temperature_C",
                "3.5",
                &["Acurite-Tower/A/11524 temperature_c=3.5"],
            ),
            (
                "rtl_433/pi/devices/Acurite-Tower/A/11524/time",
                "2026-11-23 12:59:59",
                &[],
            ),
            ("rtl_433/pi/states", r#"{"enabled":142}"#, &[]),
            ("rtl_433/pi/availability", "online", &["bridge up"]),
            (
                "rtl_433/pi/events",
                r#"{"time":"x","temperature_C":1}"#,
                &["error: an rtl_433 event names its model"],
            ),
        ],
    );
}

#[test]
fn what_is_said_in_two_units_is_one_value() {
    // Bresser 7-in-1 weather stations say how bright it is twice.
    check(
        Preset::Rtl433,
        &[(
            "rtl_433/h/events",
            r#"{"model":"Bresser-7in1","id":1,"light_klx":12.345,"light_lux":12345.0,"temperature_C":12.1}"#,
            &["Bresser-7in1/1 light_lx=12345 temperature_c=12.1"],
        )],
    );
}

#[test]
fn speeds_of_old_versions_are_in_metres_per_second() {
    // github.com/matthewwall/weewx-sdr, records of 2018 and 2019 in its driver.
    check(
        Preset::Rtl433,
        &[
            (
                "rtl_433/pi/events",
                r#"{"time" : "2019-02-11 03:44:32", "model" : "Fine Offset WH24", "id" : 140, "temperature_C" : 12.600, "humidity" : 80, "wind_dir_deg" : 111, "wind_speed_ms" : 0.280, "gust_speed_ms" : 1.120, "rainfall_mm" : 1150.800, "uv" : 1, "uvi" : 0, "light_lux" : 0.000, "battery" : "OK", "mic" : "CRC"}"#,
                &[
                    r#"Fine Offset WH24/140 @2019-02-11T02:44:32Z battery="OK" gust_speed_m_s=1.12 humidity_pct=80 light_lx=0 rainfall_mm=1150.8 temperature_c=12.6 uv=1 uvi=0 wind_dir_deg=111 wind_speed_m_s=0.28"#,
                ],
            ),
            (
                "rtl_433/pi/events",
                r#"{"time" : "2019-01-04 02:37:28", "model" : "Acurite 5n1 sensor", "sensor_id" : 2662, "channel" : "A", "wind_speed_kph" : 36.0, "rain_inch" : 1}"#,
                &[
                    "Acurite 5n1 sensor/A @2019-01-04T01:37:28Z rain_mm=25.4 sensor_id=2662 wind_speed_m_s=10",
                ],
            ),
        ],
    );
}
