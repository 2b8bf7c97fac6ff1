use super::super::stream::{
    Fault,
    tests::{clean, mixed, read},
};

/// P1 Companion Standard 5.0.2, chapter 6.12, with the times and identifiers of a published capture and its CRC.
const V5: &str = "/ISk5\\2MT382-1000\r\n\r\n1-3:0.2.8(50)\r\n0-0:1.0.0(170102192002W)\r\n\
0-0:96.1.1(4B384547303034303436333935353037)\r\n1-0:1.8.1(000004.426*kWh)\r\n\
1-0:1.8.2(000002.399*kWh)\r\n1-0:2.8.1(000002.444*kWh)\r\n1-0:2.8.2(000000.000*kWh)\r\n\
0-0:96.14.0(0002)\r\n1-0:1.7.0(00.244*kW)\r\n1-0:2.7.0(00.000*kW)\r\n0-0:96.7.21(00013)\r\n\
0-0:96.7.9(00000)\r\n1-0:99.97.0(0)(0-0:96.7.19)\r\n1-0:32.32.0(00000)\r\n1-0:52.32.0(00000)\r\n\
1-0:72.32.0(00000)\r\n1-0:32.36.0(00000)\r\n1-0:52.36.0(00000)\r\n1-0:72.36.0(00000)\r\n\
0-0:96.13.0()\r\n1-0:32.7.0(0230.0*V)\r\n1-0:52.7.0(0230.0*V)\r\n1-0:72.7.0(0229.0*V)\r\n\
1-0:31.7.0(0.48*A)\r\n1-0:51.7.0(0.44*A)\r\n1-0:71.7.0(0.86*A)\r\n1-0:21.7.0(00.070*kW)\r\n\
1-0:41.7.0(00.032*kW)\r\n1-0:61.7.0(00.142*kW)\r\n1-0:22.7.0(00.000*kW)\r\n1-0:42.7.0(00.000*kW)\r\n\
1-0:62.7.0(00.000*kW)\r\n0-1:24.1.0(003)\r\n0-1:96.1.0(3232323241424344313233343536373839)\r\n\
0-1:24.2.1(170102161005W)(00000.107*m3)\r\n0-2:24.1.0(003)\r\n0-2:96.1.0()\r\n!6EEE\r\n";

/// P1 Companion Standard 2.2: no version, no time, no CRC; gas in the old form.
const V2: &str = "/ISk5\\2MT382-1004\r\n\r\n0-0:96.1.1(00000000000000)\r\n1-0:1.8.1(00001.001*kWh)\r\n\
1-0:1.8.2(00002.001*kWh)\r\n0-0:96.14.0(0001)\r\n1-0:1.7.0(0001.01*kW)\r\n0-0:17.0.0(0999.00*kW)\r\n\
0-0:96.3.10(1)\r\n0-0:96.13.1()\r\n0-1:24.1.0(3)\r\n0-1:96.1.0(000000000000)\r\n\
0-1:24.3.0(161107190000)(00)(60)(1)(0-1:24.2.1)(m3)\r\n(00001.001)\r\n0-1:24.4.0(1)\r\n!\r\n";

/// Fluvius: Belgian meter with quarter-hour peaks, uncorrected gas and water.
const BELGIAN: &str = "/FLU5\\253769484_A\r\n\r\n0-0:96.1.4(50217)\r\n\
0-0:96.1.1(3153414733313031303231363035)\r\n0-0:1.0.0(200512135409S)\r\n1-0:1.8.1(000000.034*kWh)\r\n\
1-0:1.8.2(000015.758*kWh)\r\n1-0:2.8.1(000000.000*kWh)\r\n1-0:2.8.2(000000.011*kWh)\r\n\
1-0:1.4.0(02.351*kW)\r\n1-0:1.6.0(200509134558S)(02.589*kW)\r\n\
0-0:98.1.0(3)(1-0:1.6.0)(1-0:1.6.0)(200501000000S)(200423192538S)(03.695*kW)(200401000000S)\
(200305122139S)(05.980*kW)(200301000000S)(200210035421W)(04.318*kW)\r\n0-0:96.14.0(0001)\r\n\
1-0:1.7.0(00.000*kW)\r\n1-0:2.7.0(00.000*kW)\r\n1-0:21.7.0(00.000*kW)\r\n1-0:41.7.0(00.000*kW)\r\n\
1-0:61.7.0(00.000*kW)\r\n1-0:22.7.0(00.000*kW)\r\n1-0:42.7.0(00.000*kW)\r\n1-0:62.7.0(00.000*kW)\r\n\
1-0:32.7.0(234.7*V)\r\n1-0:52.7.0(234.7*V)\r\n1-0:72.7.0(234.7*V)\r\n1-0:31.7.0(000.00*A)\r\n\
1-0:51.7.0(000.00*A)\r\n1-0:71.7.0(000.00*A)\r\n0-0:96.3.10(1)\r\n0-0:17.0.0(999.9*kW)\r\n\
1-0:31.4.0(999*A)\r\n0-0:96.13.0()\r\n0-1:24.1.0(003)\r\n0-1:96.1.1(37464C4F32313139303333373333)\r\n\
0-1:24.4.0(1)\r\n0-1:24.2.3(200512134558S)(00112.384*m3)\r\n0-2:24.1.0(007)\r\n\
0-2:96.1.1(3853414731323334353637383930)\r\n0-2:24.2.1(200512134558S)(00872.234*m3)\r\n!3AD7\r\n";

#[test]
fn version_5_is_read_with_its_crc_and_gas_at_its_own_time() {
    assert_eq!(
        clean("dsmr", V5.as_bytes()),
        [
            "K8EG004046395507 @2017-01-02T18:20:02Z current_l1_a=0.48 current_l2_a=0.44 \
             current_l3_a=0.86 energy_export_t1_kwh=2.444 energy_export_t2_kwh=0 \
             energy_import_t1_kwh=4.426 energy_import_t2_kwh=2.399 long_power_failures=0 \
             power_export_l1_w=0 power_export_l2_w=0 power_export_l3_w=0 power_export_w=0 \
             power_failures=13 power_import_l1_w=70 power_import_l2_w=32 power_import_l3_w=142 \
             power_import_w=244 tariff=2 voltage_l1_v=230 voltage_l2_v=230 voltage_l3_v=229 \
             voltage_sags_l1=0 voltage_sags_l2=0 voltage_sags_l3=0 voltage_swells_l1=0 \
             voltage_swells_l2=0 voltage_swells_l3=0",
            "2222ABCD123456789 @2017-01-02T15:10:05Z gas_m3=0.107",
        ]
    );
    // Stored by something that ends lines its own way.
    assert_eq!(clean("dsmr", V5.replace('\r', "").as_bytes()).len(), 2);
}

#[test]
fn version_2_is_read_without_crc_and_its_local_times_by_the_rules_of_central_europe() {
    assert_eq!(
        clean("dsmr", V2.as_bytes()),
        [
            "breaker_state=1 energy_import_t1_kwh=1.001 energy_import_t2_kwh=2.001 \
             limiter_w=999000 power_import_w=1010 tariff=1",
            "mbus-1 @2016-11-07T18:00:00Z gas_m3=1.001",
        ]
    );
    let summer = V2.replace("161107190000", "160707190000");
    assert!(clean("dsmr", summer.as_bytes())[1].contains("@2016-07-07T17:00:00Z"));
}

#[test]
fn the_belgian_dialect_has_demand_uncorrected_gas_and_water() {
    let readings = clean("dsmr", BELGIAN.as_bytes());
    assert!(readings[0].starts_with("1SAG3101021605 @2020-05-12T11:54:09Z "));
    for expected in [
        "power_demand_import_w=2351",
        "power_demand_max_import_w=2589",
        "fuse_l1_a=999",
    ] {
        assert!(readings[0].contains(expected), "{}", readings[0]);
    }
    assert_eq!(
        readings[1..],
        [
            "7FLO2119033733 @2020-05-12T11:45:58Z gas_m3=112.384",
            "8SAG1234567890 @2020-05-12T11:45:58Z water_m3=872.234",
        ]
    );
}

#[test]
fn summer_and_winter_are_told_apart_in_the_hour_that_comes_twice() {
    for (season, instant) in [("S", "2026-10-25T00:30:00Z"), ("W", "2026-10-25T01:30:00Z")] {
        let telegram = format!(
            "/X\r\n\r\n0-1:24.1.0(3)\r\n0-1:24.2.1(261025023000{season})(00001.5*m3)\r\n!\r\n"
        );
        assert_eq!(
            clean("dsmr", telegram.as_bytes()),
            [format!("mbus-1 @{instant} gas_m3=1.5")]
        );
    }
}

#[test]
fn other_media_units_and_unknown_objects_are_kept() {
    let telegram = "/NWA\r\n\r\n1-0:1.8.0(006545766*Wh)\r\n1-0:14.7.0(50.01*Hz)\r\n1-0:199.7.0(7*kW)\r\n\
        1-0:13.7.0(0.998)\r\n0-1:24.1.0(004)\r\n0-1:24.2.1(260215200523W)(240.860*GJ)\r\n\
        0-4:24.1.0(010)\r\n0-4:24.2.1(260215200523W)(1.5*MWh)\r\n0-0:96.50.68(on)\r\n!\r\n";
    assert_eq!(
        clean("dsmr", telegram.as_bytes()),
        [
            "energy_import_kwh=6545.766 frequency_hz=50.01 obis_199_7_0_w=7000 power_factor=0.998",
            "mbus-1 @2026-02-15T19:05:23Z heat_kwh=66905.555555556",
            "mbus-4 @2026-02-15T19:05:23Z cooling_kwh=1500",
        ]
    );
}

#[test]
fn every_damaged_digit_of_a_telegram_with_crc_costs_it_and_only_it() {
    for at in (0..V5.len() - 6).step_by(7) {
        let mut damaged = V5.as_bytes().to_vec();
        damaged[at] ^= 1;
        let (readings, rejected) = mixed("dsmr", &[&damaged, BELGIAN.as_bytes()].concat());
        assert_eq!(readings.len(), 3, "damaged at {at}");
        assert!(!rejected.is_empty(), "damaged at {at}");
    }
}

#[test]
fn a_telegram_that_breaks_off_does_not_take_the_next_with_it() {
    let capture = [&V5[200..], &V5[..333], "\r\n", V5, &V5[..100]].concat();
    let (readings, rejected) = mixed("dsmr", capture.as_bytes());
    assert_eq!(readings.len(), 2);
    let faults: Vec<&Fault> = rejected.iter().map(|(_, _, fault)| fault).collect();
    assert!(matches!(
        faults[..],
        [Fault::Lead, Fault::Truncated, Fault::Truncated]
    ));
    let stripped = V5.replace("!6EEE", "!");
    let (readings, rejected) = mixed("dsmr", stripped.as_bytes());
    assert!(readings.is_empty());
    assert_eq!(rejected, [(0, stripped.len() as u64, Fault::NoChecksum)]);
}

#[test]
fn a_line_that_is_no_object_is_rejected_by_name_where_no_crc_protects() {
    let telegram = V2
        .replace("(0001.01*kW)", "(0001.O1*kW)")
        .replace("96.14.0(0001)", "96.14.0(0001");
    let (readings, rejected) = read("dsmr", telegram.as_bytes());
    assert!(rejected.is_empty());
    assert_eq!(readings.len(), 2);
    let names: Vec<&str> = readings[0]
        .rejected
        .iter()
        .map(|(name, _)| &**name)
        .collect();
    assert_eq!(names, ["0-0:96.14.0(0001", "power_import_w"]);
}

/// Iskraemeco in Ireland, from github.com/ndokter/dsmr_parser, test/example_telegrams.py; shortened, so
/// without its CRC.
const IRISH: &str = "/ISk5MIE5T-200\r\n\r\n1-0:0.0.0(00000000)\r\n0-0:96.1.0(09610)\r\n\
0-0:1.0.0(230202132747S)\r\n1-0:1.8.1(000010.181*kWh)\r\n1-0:41.7.0(00.417*kW)\r\n!\r\n";

/// Sagemcom at E.ON in Hungary, from the same place; shortened.
const HUNGARIAN: &str = "/SAG5SAG-METER\r\n\r\n0-0:1.0.0(230724150730S)\r\n\
0-0:42.0.0(53414733303832323030303032313630)\r\n0-0:96.1.0(383930303832323030303032313630)\r\n\
1-0:5.8.0(000000.668*kvarh)\r\n1-0:8.7.0(00.012*kvar)\r\n1-0:16.7.0(-00.601*kW)\r\n\
1-0:36.7.0(-00.201*kW)\r\n1-0:13.7.0(4.556)\r\n0-0:98.1.0(230701000000S)(000040.777*kWh)\r\n!\r\n";

/// EasyMeter in Germany: codes with `*255`, and its number under 0.0.0.
const GERMAN: &str = "/ESY5Q3DA1004 V3.04\r\n\r\n1-0:0.0.0*255(1336001560)\r\n\
1-0:1.8.0*255(00032549.5061662*kWh)\r\n1-0:1.7.0*255(001688.21*W)\r\n!\r\n";

#[test]
fn meters_of_other_countries_name_themselves_in_their_own_objects() {
    for (telegram, expected) in [
        (
            IRISH,
            "09610 @2023-02-02T11:27:47Z energy_import_t1_kwh=10.181 power_import_l2_w=417",
        ),
        (
            HUNGARIAN,
            "890082200002160 @2023-07-24T13:07:30Z power_factor=4.556 power_l1_w=-201 power_w=-601 \
             reactive_energy_q1_kvarh=0.668 reactive_power_q4_var=12",
        ),
        (
            GERMAN,
            "1336001560 energy_import_kwh=32549.5061662 power_import_w=1688.21",
        ),
    ] {
        assert_eq!(clean("dsmr", telegram.as_bytes()), [expected]);
    }
}

#[test]
fn a_gas_meter_that_was_never_heard_gives_no_reading() {
    // github.com/dsmrreader/dsmr-reader/issues/919: a slot without a unit, at a time that is none.
    let unheard = "/FLU5\\253769484_A\r\n\r\n1-0:1.7.0(00.638*kW)\r\n0-1:24.1.0(003)\r\n\
                   0-1:24.4.0(0)\r\n0-1:24.2.3(632525252525W)(00000.000)\r\n!\r\n";
    assert_eq!(clean("dsmr", unheard.as_bytes()), ["power_import_w=638"]);
}

/// Luxembourg and Sweden, whole with their CRC, from github.com/dsmrreader/dsmr-reader, dsmr_datalogger/tests.
const LUXEMBOURG: &str = "/Lux5\\ABCDEFG123_D\r\n\r\n1-3:0.2.8(42)\r\n0-0:1.0.0(191031142239W)\r\n\
0-0:42.0.0(12345678901234567890123456789012)\r\n1-0:1.8.0(005675.956*kWh)\r\n1-0:2.8.0(000000.002*kWh)\r\n\
1-0:3.8.0(000120.721*kvarh)\r\n1-0:4.8.0(000697.336*kvarh)\r\n1-0:1.7.0(03.074*kW)\r\n\
1-0:2.7.0(00.000*kW)\r\n1-0:3.7.0(00.000*kvar)\r\n1-0:4.7.0(00.000*kvar)\r\n0-0:17.0.0(27.600*kVA)\r\n\
0-0:96.3.10(1)\r\n0-0:96.13.0()\r\n0-0:96.13.2()\r\n0-0:96.13.3()\r\n0-0:96.13.4()\r\n0-0:96.13.5()\r\n!1BB8\r\n";
const SWEDEN: &str = "/KAM5\r\n\r\n0-0:1.0.0(211115100940W)\r\n1-0:1.8.0(00000003.997*kWh)\r\n\
1-0:2.8.0(00000000.000*kWh)\r\n1-0:3.8.0(00000000.000*kVArh)\r\n1-0:4.8.0(00000000.000*kVArh)\r\n\
1-0:1.7.0(0000.000*kW)\r\n1-0:2.7.0(0000.000*kW)\r\n1-0:3.7.0(0000.000*kVAr)\r\n1-0:4.7.0(0000.000*kVAr)\r\n\
1-0:21.7.0(0000.000*kW)\r\n1-0:41.7.0(0000.000*kW)\r\n1-0:61.7.0(0000.000*kW)\r\n1-0:22.7.0(0000.000*kW)\r\n\
1-0:42.7.0(0000.000*kW)\r\n1-0:62.7.0(0000.000*kW)\r\n1-0:23.7.0(0000.000*kVAr)\r\n1-0:43.7.0(0000.000*kVAr)\r\n\
1-0:63.7.0(0000.000*kVAr)\r\n1-0:24.7.0(0000.000*kVAr)\r\n1-0:44.7.0(0000.000*kVAr)\r\n1-0:64.7.0(0000.000*kVAr)\r\n\
1-0:32.7.0(238.0*V)\r\n1-0:52.7.0(238.0*V)\r\n1-0:72.7.0(240.7*V)\r\n1-0:31.7.0(000.0*A)\r\n\
1-0:51.7.0(000.0*A)\r\n1-0:71.7.0(000.0*A)\r\n!5FCE\r\n";

#[test]
fn luxembourg_and_sweden_are_read_whole() {
    assert_eq!(
        clean("dsmr", LUXEMBOURG.as_bytes()),
        [
            "12345678901234567890123456789012 @2019-10-31T13:22:39Z breaker_state=1 \
             energy_export_kwh=0.002 energy_import_kwh=5675.956 limiter_va=27600 power_export_w=0 \
             power_import_w=3074 reactive_energy_export_kvarh=697.336 \
             reactive_energy_import_kvarh=120.721 reactive_power_export_var=0 \
             reactive_power_import_var=0"
        ]
    );
    let readings = clean("dsmr", SWEDEN.as_bytes());
    assert_eq!(readings.len(), 1);
    assert!(
        readings[0].starts_with("@2021-11-15T09:09:40Z "),
        "{readings:?}"
    );
    for expected in [
        " energy_import_kwh=3.997 ",
        " reactive_power_import_l3_var=0 ",
        " voltage_l3_v=240.7",
    ] {
        assert!(readings[0].contains(expected), "{readings:?}");
    }
    let (readings, rejected) = mixed("dsmr", SWEDEN.replace("3.997", "3.991").as_bytes());
    assert!(readings.is_empty() && rejected.len() == 1);
}
