//! Made after shelly-api-docs.shelly.cloud (Gen1 "MQTT", Gen2 "Notifications", "Switch", "EM", "EMData");
//! the Plus H&T is a public log, shortened and put to another time.

use super::{Preset, check, read_as};

#[test]
fn the_first_generation_has_a_topic_for_each_value() {
    check(
        Preset::Shelly,
        &[
            (
                "shellies/shelly1pm-B929/relay/0",
                "on",
                &["shelly1pm-B929 relay_0=true"],
            ),
            (
                "shellies/shelly1pm-B929/relay/0",
                "overpower",
                &["shelly1pm-B929 relay_0=false relay_0_overpower=true"],
            ),
            (
                "shellies/shelly1pm-B929/relay/0/power",
                "62.31",
                &["shelly1pm-B929 relay_0_power_w=62.31"],
            ),
            (
                "shellies/shelly1pm-B929/relay/0/energy",
                "6000",
                &["shelly1pm-B929 relay_0_energy_kwh=0.1"],
            ),
            (
                "shellies/shelly1pm-B929/input/0",
                "1",
                &["shelly1pm-B929 input_0=true"],
            ),
            (
                "shellies/shelly1pm-B929/input_event/0",
                r#"{"event":"S","event_cnt":2}"#,
                &[r#"shelly1pm-B929 input_event_0_event="S" input_event_0_event_cnt=2"#],
            ),
            (
                "shellies/shelly1pm-B929/temperature",
                "41.2",
                &["shelly1pm-B929 temperature_c=41.2"],
            ),
            ("shellies/shelly1pm-B929/temperature_f", "106.2", &[]),
            (
                "shellies/shellyem3-A1/emeter/1/voltage",
                "231.5",
                &["shellyem3-A1 emeter_1_voltage_v=231.5"],
            ),
            (
                "shellies/shellyem3-A1/emeter/1/total",
                "1250.5",
                &["shellyem3-A1 emeter_1_total_kwh=1.2505"],
            ),
            (
                "shellies/shellyem3-A1/emeter/1/returned_energy",
                "600",
                &["shellyem3-A1 emeter_1_returned_energy_kwh=0.01"],
            ),
            (
                "shellies/shellyswitch25-5/roller/0/energy",
                "6000",
                &["shellyswitch25-5 roller_0_energy_kwh=0.1"],
            ),
            (
                "shellies/shellyem3-A1/emeter/1/pf",
                "0.97",
                &["shellyem3-A1 emeter_1_power_factor=0.97"],
            ),
            (
                "shellies/shellyht-F1/sensor/temperature",
                "22.38",
                &["shellyht-F1 temperature_c=22.38"],
            ),
            (
                "shellies/shellyht-F1/sensor/humidity",
                "41.5",
                &["shellyht-F1 humidity_pct=41.5"],
            ),
            (
                "shellies/shellyht-F1/sensor/battery",
                "100",
                &["shellyht-F1 battery_pct=100"],
            ),
            (
                "shellies/shellyflood-2/sensor/flood",
                "false",
                &["shellyflood-2 flood=false"],
            ),
            (
                "shellies/shellydw-3/sensor/state",
                "open",
                &[r#"shellydw-3 state="open""#],
            ),
            (
                "shellies/shellydw-3/sensor/lux",
                "120",
                &["shellydw-3 illuminance_lx=120"],
            ),
            (
                "shellies/shellymotion-4/status",
                r#"{"motion":true,"timestamp":1795435199,"vibration":false,"lux":52,"bat":98,"tmp":{"value":70.7,"units":"F"}}"#,
                &[
                    "shellymotion-4 battery_pct=98 illuminance_lx=52 motion=true temperature_c=21.5 vibration=false",
                ],
            ),
            ("shellies/shellyht-F1/online", "true", &["shellyht-F1 up"]),
            (
                "shellies/shellyht-F1/announce",
                r#"{"id":"shellyht-F1"}"#,
                &[],
            ),
            ("shellies/shelly1pm-B929/relay/0/command", "on", &[]),
        ],
    );
}

#[test]
fn the_second_generation_has_components() {
    for (topic, payload, expected) in [
        (
            "shellypro4pm-30c6f784e78c/events/rpc",
            r#"{"src":"shellypro4pm-30c6f784e78c","dst":"x/events","method":"NotifyStatus","params":{"ts":1795435198.5,"switch:1":{"id":1,"apower":8.9,"current":0.05,"output":false,"pf":0.7,"voltage":231.8,"freq":50.05,"source":"UI","temperature":{"tC":42.1,"tF":107.8},"aenergy":{"by_minute":[0.1],"minute_ts":1795435140,"total":1230.5}}}}"#,
            vec![
                "shellypro4pm-30c6f784e78c @2026-11-23T11:59:58.5Z switch_1_current_a=0.05 switch_1_energy_kwh=1.2305 switch_1_frequency_hz=50.05 switch_1_output=false switch_1_power_factor=0.7 switch_1_power_w=8.9 switch_1_temperature_c=42.1 switch_1_voltage_v=231.8",
            ],
        ),
        (
            "shellyplusht-b8d61a8b17cc/events/rpc",
            r#"{"src":"shellyplusht-b8d61a8b17cc","dst":"shellyplusht-b8d61a8b17cc/events","method":"NotifyFullStatus","params":{"ts":1795435198.62,"ble":{},"cloud":{"connected":false},"devicepower:0":{"id":0,"battery":{"V":0.43,"percent":0},"external":{"present":true}},"humidity:0":{"id":0,"rh":42.2},"sys":{"uptime":3},"temperature:0":{"id":0,"tC":19.8,"tF":67.6},"wifi":{"sta_ip":"192.168.3.183","rssi":-50}}}"#,
            vec![
                "shellyplusht-b8d61a8b17cc @2026-11-23T11:59:58.62Z devicepower_0_battery_pct=0 devicepower_0_battery_v=0.43 devicepower_0_external_present=true humidity_0_pct=42.2 temperature_0_c=19.8 wifi_rssi_dbm=-50",
            ],
        ),
        (
            "shellypro3em-1/status/em:0",
            r#"{"id":0,"a_current":4.029,"a_voltage":236.1,"a_act_power":951.2,"a_aprt_power":951.9,"a_pf":1,"a_freq":50,"n_current":null,"total_current":11.083,"total_act_power":2484.782}"#,
            vec![
                "shellypro3em-1 em_0_apparent_power_l1_va=951.9 em_0_current_l1_a=4.029 em_0_current_total_a=11.083 em_0_frequency_l1_hz=50 em_0_power_factor_l1=1 em_0_power_l1_w=951.2 em_0_power_total_w=2484.782 em_0_voltage_l1_v=236.1",
            ],
        ),
        (
            "shellypro3em-1/status/emdata:0",
            r#"{"id":0,"a_total_act_energy":1500,"a_total_act_ret_energy":0,"total_act":4500,"total_act_ret":2}"#,
            vec![
                "shellypro3em-1 emdata_0_energy_kwh=4.5 emdata_0_energy_l1_kwh=1.5 emdata_0_returned_energy_kwh=0.002 emdata_0_returned_energy_l1_kwh=0",
            ],
        ),
        (
            "button/events/rpc",
            r#"{"src":"b","method":"NotifyEvent","params":{"ts":1795435198.5,"events":[{"component":"input:0","id":0,"event":"single_push","ts":1795435198.25},{"component":"sys","event":"ota_begin"}]}}"#,
            vec![r#"button @2026-11-23T11:59:58.25Z input_0_event="single_push""#],
        ),
        (
            "s/events/rpc",
            r#"{"src":"s","method":"NotifyStatus","params":{"ts":1795435198.5,"sys":{"cfg_rev":35}}}"#,
            vec![],
        ),
        ("s/events/rpc", r#"{"id":1,"result":{"id":0}}"#, vec![]),
        ("s/online", "false", vec!["s down"]),
        ("s/rpc", "{}", vec![]),
    ] {
        for template in [None, Some("{device}/#")] {
            let read = read_as(Preset::Shelly, template, topic, payload.as_bytes());
            assert_eq!(read.unwrap(), expected, "{topic}");
        }
    }
}

#[test]
fn a_valve_says_what_it_measures_and_what_it_should() {
    check(
        Preset::Shelly,
        &[
            (
                "shellies/shellytrv-1/status",
                r#"{"thermostats":[{"pos":12.5,"target_t":{"enabled":true,"value":21,"units":"C"},"tmp":{"value":68,"units":"F","is_valid":true}}],"bat":{"value":90,"voltage":3.9}}"#,
                &[
                    "shellytrv-1 battery_pct=90 battery_v=3.9 thermostat_0_position_pct=12.5 thermostat_0_target_temperature_c=21 thermostat_0_temperature_c=20",
                ],
            ),
            (
                "shellies/shellyem3-1/emeter/2/pf",
                "0.97",
                &["shellyem3-1 emeter_2_power_factor=0.97"],
            ),
        ],
    );
}

#[test]
fn components_of_the_third_generation_and_of_bluetooth_are_read() {
    let table: [(&str, &str, &str); 6] = [
        // github.com/iobroker-community-adapters/ioBroker.shelly/issues/1592.
        (
            "shelly1pmminig3/status/switch:0",
            r#"{"id":0,"source":"MQTT","tag":null,"output":true,"apower":11.5,"voltage":240.3,"freq":50.0,"current":0.073,"aenergy":{"total":152669.987,"by_minute":[0.000,0.000,0.000],"minute_ts":1788945240},"ret_aenergy":{"total":0.000},"temperature":{"tC":55.0,"tF":131.0}}"#,
            "shelly1pmminig3 switch_0_current_a=0.073 switch_0_energy_kwh=152.669987 switch_0_frequency_hz=50 switch_0_output=true switch_0_power_w=11.5 switch_0_returned_energy_kwh=0 switch_0_temperature_c=55 switch_0_voltage_v=240.3",
        ),
        // The same, issue 1257: a component of the user's own.
        (
            "st1820/status/boolean:200",
            r#"{"value":false,"source":"rpc","last_update_ts":1759928007}"#,
            "st1820 boolean_200_value=false",
        ),
        // The documentation's EM, with the name that its example has for one phase.
        (
            "shellypro3em/status/em:0",
            r#"{"id":0,"a_act_power":951.2,"c_active_power":715.4,"c_errors":["power_meter_failure"]}"#,
            r#"shellypro3em em_0_errors_l3_0="power_meter_failure" em_0_power_l1_w=951.2 em_0_power_l3_w=715.4"#,
        ),
        (
            "shellyblugw/status/blutrv:200",
            r#"{"id":200,"target_C":20.5,"current_C":21.3,"pos":10,"battery":88}"#,
            "shellyblugw blutrv_200_battery_pct=88 blutrv_200_current_c=21.3 blutrv_200_position_pct=10 blutrv_200_target_c=20.5",
        ),
        (
            "shellyplusuni/status/input:2",
            r#"{"id":2,"counts":{"total":10,"xtotal":5.1,"by_minute":[0,0],"minute_ts":1},"freq":3.2}"#,
            "shellyplusuni input_2_counts_total=10 input_2_counts_xtotal=5.1 input_2_frequency_hz=3.2",
        ),
        (
            "shellyplus/status/input:100",
            r#"{"id":100,"percent":53.4,"xpercent":7.2}"#,
            "shellyplus input_100_pct=53.4 input_100_xpercent=7.2",
        ),
    ];
    for (topic, payload, expected) in table {
        let read = read_as(Preset::Shelly, None, topic, payload.as_bytes());
        assert_eq!(read.unwrap(), [expected], "{topic}");
    }
}
