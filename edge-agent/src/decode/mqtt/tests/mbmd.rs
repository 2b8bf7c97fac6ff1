//! Topics and units: volkszaehler/mbmd, `server/mqtt.go` and `meters/measurements.go`.

use super::{Preset, check};

#[test]
fn measurements_have_the_units_of_their_table() {
    check(
        Preset::Mbmd,
        &[
            ("mbmd/sdm1-1/Power", "288.100", &["sdm1-1 power_w=288.1"]),
            (
                "mbmd/sdm1-1/Voltage/L1",
                "230.210",
                &["sdm1-1 voltage_l1_v=230.21"],
            ),
            (
                "mbmd/sdm1-1/VoltageL1",
                "230.210",
                &["sdm1-1 voltage_l1_v=230.21"],
            ),
            (
                "mbmd/sdm1-1/Import/T1",
                "12.500",
                &["sdm1-1 import_t1_kwh=12.5"],
            ),
            (
                "mbmd/sdm1-1/ReactiveSum",
                "1.000",
                &["sdm1-1 reactive_sum_kvarh=1"],
            ),
            (
                "mbmd/sdm1-1/ReactivePower/L3",
                "-7.000",
                &["sdm1-1 reactive_power_l3_var=-7"],
            ),
            (
                "mbmd/sdm1-1/ApparentPower",
                "12.000",
                &["sdm1-1 apparent_power_va=12"],
            ),
            ("mbmd/sdm1-1/Cosphi/L2", "0.970", &["sdm1-1 cosphi_l2=0.97"]),
            (
                "mbmd/sma1-126/DCCurrent/S1",
                "4.200",
                &["sma1-126 dc_current_s1_a=4.2"],
            ),
            (
                "mbmd/sma1-126/HeatSinkTemp",
                "41.000",
                &["sma1-126 heat_sink_temp_c=41"],
            ),
            (
                "mbmd/sma1-126/ChargeState",
                "80.000",
                &["sma1-126 charge_state_pct=80"],
            ),
            (
                "mbmd/sdm1-1/Frequency",
                "NaN",
                &["sdm1-1 !frequency: is not a finite number"],
            ),
            (
                "mbmd/sdm1-1/Frequency",
                "fifty",
                &["sdm1-1 !frequency: is a word, a number is expected"],
            ),
        ],
    );
}

#[test]
fn status_is_a_link() {
    let read = |topic, payload: &str| super::read_as(Preset::Mbmd, None, topic, payload.as_bytes());
    assert_eq!(read("mbmd/status", "connected").unwrap(), ["bridge up"]);
    assert_eq!(
        read("mbmd/status", "disconnected").unwrap(),
        ["bridge down"]
    );
}

#[test]
fn distortion_has_its_phase() {
    check(
        Preset::Mbmd,
        &[("mbmd/sdm1-1/THDL1", "2.1", &["sdm1-1 thd_l1_pct=2.1"])],
    );
}
