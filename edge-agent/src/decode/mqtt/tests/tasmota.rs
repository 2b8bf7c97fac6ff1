//! Made after tasmota.github.io/docs, pages "MQTT", "ADC", "Deep Sleep", "DS18x20", "Matter", "Zigbee",
//! "JSON Status Responses".

use super::{Preset, check, read_as};

#[test]
fn sensors_are_named_by_sensor_quantity_and_unit() {
    check(
        Preset::Tasmota,
        &[
            (
                "tele/th10/SENSOR",
                r#"{"Time":"2017-02-12T16:11:12","DHT22":{"Temperature":23.9,"Humidity":34.1}}"#,
                &["th10 @2017-02-12T15:11:12Z dht22_humidity_pct=34.1 dht22_temperature_c=23.9"],
            ),
            (
                "tele/tasmota/SENSOR",
                r#"{"Time":"2023-05-28T20:04:27","SCD40":{"CarbonDioxide":618,"eCO2":623,"Temperature":23.8,"Humidity":61.1,"DewPoint":15.8},"TempUnit":"C"}"#,
                &[
                    "tasmota @2023-05-28T18:04:27Z scd40_carbon_dioxide_ppm=618 scd40_dew_point_c=15.8 scd40_eco2_ppm=623 scd40_humidity_pct=61.1 scd40_temperature_c=23.8",
                ],
            ),
            (
                "tele/cellar/SENSOR",
                r#"{"Time":"2020-01-01T00:00:00","DS18B20-1":{"Id":"01131B123456","Temperature":68.9},"DS18B20-2":{"Id":"01131B654321","Temperature":-40},"TempUnit":"F"}"#,
                &[
                    r#"cellar @2019-12-31T23:00:00Z ds18b20_1_id="01131B123456" ds18b20_1_temperature_c=20.5 ds18b20_2_id="01131B654321" ds18b20_2_temperature_c=-40"#,
                ],
            ),
            (
                "tele/roof/SENSOR",
                r#"{"Time":"2021-06-01T12:00:00","BME280":{"Temperature":70.7,"Pressure":29.92,"SeaPressure":30.01},"PressureUnit":"inHg","TempUnit":"F"}"#,
                &[
                    "roof @2021-06-01T10:00:00Z bme280_pressure_hpa=1013.2075888 bme280_sea_pressure_hpa=1016.2553389 bme280_temperature_c=21.5",
                ],
            ),
            (
                "tele/tasmota/SENSOR",
                r#"{"Time":"2019-09-04T13:08:48","Epoch":1567595328,"ANALOG":{"A0":8},"Switch1":"OFF","PMS5003":{"CF1":1,"PM2.5":7,"PB0.3":900},"SR04":{"Distance":16.754}}"#,
                &[
                    "tasmota @2019-09-04T11:08:48Z analog_a0=8 pms5003_cf1_ug_m3=1 pms5003_pb0_3=900 pms5003_pm2_5_ug_m3=7 sr04_distance_m=0.16754 switch1=false",
                ],
            ),
        ],
    );
}

#[test]
fn the_energy_meter_has_no_prefix_and_a_suffix_for_each_phase() {
    check(
        Preset::Tasmota,
        &[
            (
                "tele/plug/SENSOR",
                r#"{"Time":"2026-11-23T13:00:00","ENERGY":{"TotalStartTime":"2018-10-30T17:44:17","Total":0.024,"Yesterday":0.001,"Today":0.002,"Period":2,"Power":59,"ApparentPower":69,"ReactivePower":36,"Factor":0.85,"Voltage":237,"Current":0.291}}"#,
                &[
                    r#"plug @2026-11-23T12:00:00Z apparent_power_va=69 current_a=0.291 energy_period_kwh=0.002 energy_today_kwh=0.002 energy_total_kwh=0.024 energy_total_start_time="2018-10-30T17:44:17" energy_yesterday_kwh=0.001 power_factor=0.85 power_w=59 reactive_power_var=36 voltage_v=237"#,
                ],
            ),
            (
                "tele/em3/SENSOR",
                r#"{"Time":"2026-11-23T13:00:00","ENERGY":{"Total":12.5,"Power":[10,20,null],"Voltage":[230.1,231.2,229.9],"Current":[0.05,1e400,0]}}"#,
                &[
                    "em3 @2026-11-23T12:00:00Z current_l1_a=0.05 current_l3_a=0 energy_total_kwh=12.5 power_l1_w=10 power_l2_w=20 voltage_l1_v=230.1 voltage_l2_v=231.2 voltage_l3_v=229.9 !current_l2: is not a finite number",
                ],
            ),
        ],
    );
    let read = read_as(
        Preset::Tasmota,
        Some("stat/{device}/+"),
        "stat/plug/STATUS10",
        br#"{"StatusSNS":{"Time":"2026-11-23T13:00:00","ENERGY":{"Power":3},"TempUnit":"C"}}"#,
    );
    assert_eq!(read.unwrap(), ["plug @2026-11-23T12:00:00Z power_w=3"]);
}

#[test]
fn switches_are_events_and_the_will_is_a_link() {
    for (template, topic, payload, expected) in [
        (
            "stat/{device}/+",
            "stat/lamp/POWER",
            "ON",
            "lamp power=true",
        ),
        (
            "stat/{device}/+",
            "stat/lamp/POWER2",
            "OFF",
            "lamp power2=false",
        ),
        (
            "stat/{device}/+",
            "stat/lamp/RESULT",
            r#"{"POWER1":"ON"}"#,
            "lamp power1=true",
        ),
        (
            "stat/{device}/+",
            "stat/lamp/RESULT",
            r#"{"Switch1":{"Action":"TOGGLE"}}"#,
            r#"lamp switch1_action="TOGGLE""#,
        ),
        (
            "home/{device}/tele/+",
            "home/lamp/tele/LWT",
            "Offline",
            "lamp down",
        ),
        ("tele/{device}/+", "tele/lamp/LWT", "Online", "lamp up"),
    ] {
        let read = read_as(Preset::Tasmota, Some(template), topic, payload.as_bytes());
        assert_eq!(read.unwrap(), [expected], "{topic}");
    }
    for (topic, payload) in [
        ("tele/lamp/RESULT", r#"{"Module":{"18":"Generic"}}"#),
        ("tele/lamp/INFO1", r#"{"Module":"Sonoff"}"#),
        ("tele/lamp/UPTIME", r#"{"Uptime":"1T00:00:00"}"#),
        ("tele/lamp/SENSOR", ""),
    ] {
        let read = read_as(
            Preset::Tasmota,
            Some("tele/{device}/+"),
            topic,
            payload.as_bytes(),
        );
        assert!(read.unwrap().is_empty(), "{topic}");
    }
}

#[test]
fn state_and_zigbee_messages_are_readings_of_their_devices() {
    check(
        Preset::Tasmota,
        &[
            (
                "tele/lamp/STATE",
                r#"{"Time":"2019-09-04T13:08:48","Uptime":"0T00:00:14","UptimeSec":14,"LoadAvg":20,"POWER":"ON","Wifi":{"AP":1,"RSSI":100,"Signal":-49}}"#,
                &[
                    r#"lamp @2019-09-04T11:08:48Z load_avg_pct=20 power=true uptime="0T00:00:14" uptime_s=14 wifi_ap=1 wifi_rssi_pct=100 wifi_signal_dbm=-49"#,
                ],
            ),
            (
                "tele/bridge/SENSOR",
                r#"{"ZbReceived":{"0x4773":{"Device":"0x4773","Name":"Kitchen","Humidity":93.17,"Temperature":26.19,"Endpoint":1,"LinkQuality":110}}}"#,
                &[
                    "bridge/Kitchen endpoint=1 humidity_pct=93.17 linkquality=110 temperature_c=26.19",
                ],
            ),
        ],
    );
}

#[test]
fn a_time_without_a_zone_is_not_believed_unless_the_zone_is_set() {
    let message = super::Message {
        topic: "tele/a/SENSOR",
        device: Some("a"),
        payload: br#"{"Time":"2026-11-23T13:00:00","Vcc":3.3}"#,
        at: super::AT.parse().unwrap(),
        again: false,
    };
    let mut decoder = super::Decoder::new(Preset::Tasmota, super::Options::default());
    let read = decoder.read(&message).unwrap();
    assert_eq!(super::lines(&read), ["a vcc_v=3.3"]);
}

#[test]
fn messages_posted_by_users_are_read() {
    check(
        Preset::Tasmota,
        &[
            // github.com/arendst/Tasmota/issues/6160: two channels with one voltage.
            (
                "tele/shelly25/SENSOR",
                r#"{"Time":"2019-09-14T16:24:49","ANALOG":{"Temperature":52.5},"ENERGY":{"Total":3.262,"Period":1.34,"Power":[23.63,67.17],"Factor":[1.00,1.00],"Voltage":229.3,"Current":[0.103,0.293]},"TempUnit":"C"}"#,
                &[
                    "shelly25 @2019-09-14T14:24:49Z analog_temperature_c=52.5 current_l1_a=0.103 current_l2_a=0.293 energy_period_kwh=0.00134 energy_total_kwh=3.262 power_factor_l1=1 power_factor_l2=1 power_l1_w=23.63 power_l2_w=67.17 voltage_v=229.3",
                ],
            ),
            // github.com/henne49/dbus-opendtu/issues/59: a script's own meter.
            (
                "tele/em/SENSOR",
                r#"{"EM24":{"Voltage_L1":229.4,"Current_L3":0.298,"Power_L1":246.3,"Energy_Tot_Import":3573.3}}"#,
                &[
                    "em em24_current_l3_a=0.298 em24_energy_tot_import=3573.3 em24_power_l1_w=246.3 em24_voltage_l1_v=229.4",
                ],
            ),
            // github.com/trucki-eu/Trucki2Shelly-Gateway/issues/17: a sensor without a name.
            (
                "tele/reader/SENSOR",
                r#"{"":{"Total_in":2173.5,"Power_curr":-136.39}}"#,
                &["reader power_curr=-136.39 total_in=2173.5"],
            ),
            // tasmota.github.io/docs, AS3935 and TX2x.
            (
                "tele/roof/SENSOR",
                r#"{"AS3935":{"Event":4,"Distance":12,"Energy":58622,"Stage":2},"TX23":{"Speed":{"Act":14.4,"Max":18},"Dir":{"Card":"WSW","Deg":247.5}},"SpeedUnit":"km/h"}"#,
                &[
                    r#"roof as3935_distance_m=12000 as3935_energy=58622 as3935_event=4 as3935_stage=2 tx23_dir_card="WSW" tx23_dir_deg=247.5 tx23_speed_act_m_s=4 tx23_speed_max_m_s=5"#,
                ],
            ),
            (
                "tele/meter/SENSOR",
                r#"{"ENERGY":{"TotalTariff":[1.1,2.2],"ExportTariff":[0,0.5],"Tariff":2}}"#,
                &[
                    "meter energy_export_t1_kwh=0 energy_export_t2_kwh=0.5 energy_tariff=2 energy_total_t1_kwh=1.1 energy_total_t2_kwh=2.2",
                ],
            ),
            (
                "tele/plug/STATE",
                r#"{"Wifi":{"SSId":"net","BSSId":"AA:BB:CC:DD:EE:FF","RSSI":94,"Signal":-53}}"#,
                &[
                    r#"plug wifi_bssid="AA:BB:CC:DD:EE:FF" wifi_rssi_pct=94 wifi_signal_dbm=-53 wifi_ssid="net""#,
                ],
            ),
        ],
    );
}

#[test]
fn a_sensor_behind_a_bridge_is_one_device_under_either_topic() {
    let payload =
        r#"{"ZbReceived":{"0x4C3D":{"Device":"0x4C3D","Name":"Hall","Temperature":21.5}}}"#;
    for topic in [
        "tele/bridge/SENSOR",
        "tele/bridge/Hall/SENSOR",
        "tele/bridge/4C3D/SENSOR",
    ] {
        let got = read_as(Preset::Tasmota, None, topic, payload.as_bytes()).unwrap();
        assert_eq!(got, ["bridge/Hall temperature_c=21.5"], "{topic}");
    }
}

#[test]
fn what_the_meter_chip_measures_of_itself_has_its_unit() {
    // A Sonoff with two channels; one with `SetOption8`.
    check(
        Preset::Tasmota,
        &[
            (
                "tele/dual/SENSOR",
                r#"{"ENERGY":{"Power":[52,5],"Voltage":235,"BL09XX":{"Temperature":46.5}}}"#,
                &["dual energy_bl09xx_temperature_c=46.5 power_l1_w=52 power_l2_w=5 voltage_v=235"],
            ),
            (
                "tele/dual/SENSOR",
                r#"{"ENERGY":{"PhaseAngle":[0,120],"Temperature":70.7},"TempUnit":"F"}"#,
                &[
                    "dual energy_phase_angle_l1_deg=0 energy_phase_angle_l2_deg=120 energy_temperature_c=21.5",
                ],
            ),
        ],
    );
}

#[test]
fn a_switch_is_a_state_whatever_its_words_are() {
    for (topic, payload, expected) in [
        ("stat/x/POWER2", "1", "x power2=true"),
        ("stat/x/RESULT", r#"{"POWER1":"0"}"#, "x power1=false"),
        ("stat/x/STATUS11", r#"{"POWER1":1}"#, "x power1=true"),
        ("stat/x/STATUS10", r#"{"Switch1":"1"}"#, "x switch1=true"),
    ] {
        let template = Some("stat/{device}/+");
        let got = read_as(Preset::Tasmota, template, topic, payload.as_bytes());
        assert_eq!(got.unwrap(), [expected], "{topic} {payload}");
    }
}

#[test]
fn how_fast_a_light_fades_is_no_wind() {
    check(
        Preset::Tasmota,
        &[
            (
                "tele/lamp/STATE",
                r#"{"POWER":"ON","Dimmer":50,"Fade":"OFF","Speed":1}"#,
                &["lamp dimmer=50 fade=false power=true speed=1"],
            ),
            (
                "tele/roof/SENSOR",
                r#"{"TX23":{"Speed":{"Act":36.0}},"SpeedUnit":"km/h"}"#,
                &["roof tx23_speed_act_m_s=10"],
            ),
        ],
    );
}

#[test]
fn the_prefix_may_stand_in_the_middle_of_the_topic() {
    for (topic, payload, expected) in [
        (
            "attic/tele/fan/STATE",
            r#"{"POWER":"ON"}"#,
            "attic/fan power=true",
        ),
        ("attic/stat/fan/POWER", "OFF", "attic/fan power=false"),
    ] {
        let got = read_as(Preset::Tasmota, None, topic, payload.as_bytes());
        assert_eq!(got.unwrap(), [expected], "{topic} {payload}");
    }
}

#[test]
fn sensors_of_the_documentation_have_the_units_it_gives_them() {
    // tasmota.github.io/docs, pages of the sensors.
    check(
        Preset::Tasmota,
        &[
            (
                "tele/x/SENSOR",
                r#"{"Time":"2020-09-11T09:18:08","MLX90640":{"Temperature":[30.8,28.5]},"TempUnit":"C"}"#,
                &[
                    "x @2020-09-11T07:18:08Z mlx90640_temperature_0_c=30.8 mlx90640_temperature_1_c=28.5",
                ],
            ),
            (
                "tele/x/SENSOR",
                r#"{"Time":"2019-11-11T00:03:30","MLX90614":{"OBJTMP":70.7,"AMBTMP":23},"TempUnit":"F"}"#,
                &["x @2019-11-10T23:03:30Z mlx90614_ambtmp_c=-5 mlx90614_objtmp_c=21.5"],
            ),
            (
                "tele/x/SENSOR",
                r#"{"TX23":{"Speed":{"Act":36},"Dir":{"Card":"WSW","Deg":247.5,"Avg":266.1,"Range":0}},"SpeedUnit":"km/h"}"#,
                &[
                    r#"x tx23_dir_avg_deg=266.1 tx23_dir_card="WSW" tx23_dir_deg=247.5 tx23_dir_range_deg=0 tx23_speed_act_m_s=10"#,
                ],
            ),
            (
                "tele/x/SENSOR",
                r#"{"NeoPool":{"Temperature":23.5,"Filtration":{"State":1,"Speed":2}},"SpeedUnit":"km/h"}"#,
                &[
                    "x neo_pool_filtration_speed=2 neo_pool_filtration_state=1 neo_pool_temperature_c=23.5",
                ],
            ),
            (
                "tele/x/SENSOR",
                r#"{"LD2410":{"Distance":[200.0,181.0],"Energy":[13,100]}}"#,
                &[
                    "x ld2410_distance_0_m=2 ld2410_distance_1_m=1.81 ld2410_energy_0=13 ld2410_energy_1=100",
                ],
            ),
            (
                "tele/x/SENSOR",
                r#"{"VEML6070":{"UvLevel":242,"UvIndex":0.5,"UvPower":0.05},"HX711":{"Weight":34}}"#,
                &[
                    "x hx711_weight_kg=34 veml6070_uv_index=0.5 veml6070_uv_level=242 veml6070_uv_power_w_m2=0.05",
                ],
            ),
            // "JSON Status Responses": before version 6.
            (
                "tele/x/SENSOR",
                r#"{"Time":"2018.02.01 22:52:09","AM2301":{"Temperature":15.5,"Humidity":50.6},"TempUnit":"C"}"#,
                &["x @2018-02-01T21:52:09Z am2301_humidity_pct=50.6 am2301_temperature_c=15.5"],
            ),
        ],
    );
}

#[test]
fn power_of_a_zigbee_device_is_its_switch_and_the_key_may_be_its_name() {
    // tasmota.github.io/docs, "Rules" (SetOption83) and "Zigbee".
    check(
        Preset::Tasmota,
        &[
            (
                "tele/bridge/SENSOR",
                r#"{"ZbReceived":{"test_switch":{"Device":"0x0C94","Power":1,"Endpoint":8,"LinkQuality":70}}}"#,
                &["bridge/test_switch endpoint=8 linkquality=70 power=true"],
            ),
            (
                "tele/bridge/SENSOR",
                r#"{"ZbReceived":{"0x0C95":{"Device":"0x0C95","Name":"plug","RMSVoltage":230,"ActivePower":42}}}"#,
                &["bridge/plug active_power_w=42 rms_voltage_v=230"],
            ),
        ],
    );
}
