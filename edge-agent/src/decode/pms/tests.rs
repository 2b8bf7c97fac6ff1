use super::super::stream::{
    Fault,
    tests::{clean, hex, mixed},
};

/// Plantower's PMS5003 as read by people at forums.pimoroni.com (t/15841), with the checksum that was lost there.
const PLAIN: &str = "42 4d 00 1c 00 04 00 05 00 05 00 04 00 05 00 05 03 7e 00 e2 00 17 00 02 00 00 00 00 97 00 02 da";

#[test]
fn each_length_of_the_family_is_read_by_its_own_table() {
    assert_eq!(
        clean("pms5003", &hex(PLAIN)),
        [
            "error_code=0 particles_0_3um_per_dl=894 particles_0_5um_per_dl=226 \
          particles_10um_per_dl=0 particles_1_0um_per_dl=23 particles_2_5um_per_dl=2 \
          particles_5_0um_per_dl=0 pm10_cf1_ug_m3=5 pm10_ug_m3=5 pm1_0_cf1_ug_m3=4 \
          pm1_0_ug_m3=4 pm2_5_cf1_ug_m3=5 pm2_5_ug_m3=5"
        ]
    );
    // PMS3003: no counts.
    let short = "42 4d 00 14 00 22 00 2e 00 34 00 1e 00 2a 00 30 00 00 00 00 00 00 01 9f";
    assert_eq!(
        clean("pms3003", &hex(short)),
        [
            "pm10_cf1_ug_m3=52 pm10_ug_m3=48 pm1_0_cf1_ug_m3=34 pm1_0_ug_m3=30 \
          pm2_5_cf1_ug_m3=46 pm2_5_ug_m3=42"
        ]
    );
    // PMS5003ST: formaldehyde 0.016 mg/m³, 24.7 °C, 48.9 %.
    let long = "42 4d 00 24 00 0a 00 0f 00 12 00 0a 00 0f 00 12 05 dc 01 c2 00 50 00 08 00 02 00 01 \
                00 10 00 f7 01 e9 00 00 91 00 05 8a";
    let [reading] = &clean("pms5003st", &hex(long))[..] else {
        panic!();
    };
    for expected in [
        "formaldehyde_mg_m3=0.016",
        "temperature_c=24.7",
        "humidity_pct=48.9",
    ] {
        assert!(reading.contains(expected), "{reading}");
    }
}

#[test]
fn variants_with_the_same_length_are_told_apart_by_the_preset() {
    // PMS5003T: 2.5 µm count, then −1.5 °C and 61.2 %.
    let mut frame = hex(
        "42 4d 00 1c 00 04 00 05 00 05 00 04 00 05 00 05 03 7e 00 e2 00 17 00 02 ff f1 02 64 91 00",
    );
    let sum: u16 = frame.iter().map(|&b| u16::from(b)).sum();
    frame.extend(sum.to_be_bytes());
    let climate = &clean("pms5003t", &frame)[0];
    assert!(climate.contains("temperature_c=-1.5") && climate.contains("humidity_pct=61.2"));
    assert!(!climate.contains("5_0um"));
    let formaldehyde = &clean("pms5003s", &frame)[0];
    assert!(
        formaldehyde.contains("formaldehyde_mg_m3=37.12"),
        "{formaldehyde}"
    );
}

#[test]
fn a_frame_inside_of_a_rejected_one_is_found() {
    // As captured: a byte was lost, so the next header stands where the checksum should be.
    let lost =
        "42 4d 00 1c 00 04 00 05 00 05 00 04 00 05 00 03 7e 00 e2 00 17 00 02 00 00 00 00 97 00 02";
    let (readings, rejected) = mixed("pms5003", &[hex(lost), hex(PLAIN)].concat());
    assert_eq!(readings.len(), 1);
    let fault = Fault::Checksum {
        got: 0x424d,
        expected: 0x2d7,
    };
    assert_eq!(rejected, [(0, 30, fault)]);
    // A header in the data of a good frame is data.
    let mut frame = hex("42 4d 00 14 42 4d 00 1c 00 34 00 1e 00 2a 00 30 00 00 00 00 00 00");
    let sum: u16 = frame.iter().map(|&b| u16::from(b)).sum();
    frame.extend(sum.to_be_bytes());
    assert_eq!(clean("pms5003", &frame).len(), 1);
}

#[test]
fn answers_to_commands_are_no_readings_and_a_cut_frame_is_named() {
    let answer = hex("42 4d 00 04 e1 01 01 75");
    assert!(clean("pms5003", &answer).is_empty());
    let (readings, rejected) = mixed("pms5003", &hex(PLAIN)[..20]);
    assert!(readings.is_empty());
    assert_eq!(rejected, [(0, 20, Fault::Truncated)]);
    let (_, rejected) = mixed("pms5003", &[&hex(PLAIN)[10..], &hex(PLAIN)].concat());
    assert_eq!(rejected, [(0, 22, Fault::Lead)]);
}

#[test]
fn captures_of_others_are_read() {
    // github.com/avaldebe/PyPMS, tests/captured_data: PMS5003T, 21.2 °C, 22.4 %; PMS3003 in clean air.
    let climate = "42 4d 00 1c 00 17 00 27 00 29 00 16 00 23 00 29 10 08 04 a9 01 16 00 0c 00 d4 00 e0 9a 00 04 aa";
    assert_eq!(
        clean("pms5003t", &hex(climate)),
        [
            "error_code=0 humidity_pct=22.4 particles_0_3um_per_dl=4104 particles_0_5um_per_dl=1193 \
          particles_1_0um_per_dl=278 particles_2_5um_per_dl=12 pm10_cf1_ug_m3=41 pm10_ug_m3=41 \
          pm1_0_cf1_ug_m3=23 pm1_0_ug_m3=22 pm2_5_cf1_ug_m3=39 pm2_5_ug_m3=35 temperature_c=21.2"
        ]
    );
    let short = "42 4d 00 14 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 51 00 f4";
    assert_eq!(clean("pms5003", &hex(short).repeat(3)).len(), 3);
}

#[test]
fn a_header_that_a_byte_fell_into_costs_its_own_frame() {
    // github.com/avaldebe/PyPMS/issues/19: a PMS5003T on a line that was not set up.
    let frame =
        "00 1c 00 11 00 1c 00 1c 00 11 00 1c 00 1c 0b af 03 73 00 c4 00 08 00 ca 00 e3 9a 00 05 80";
    let capture = hex(&format!("42 00 4d {frame} 42 4d {frame}"));
    let (readings, rejected) = mixed("pms5003t", &capture);
    assert_eq!(
        readings,
        [
            "error_code=0 humidity_pct=22.7 particles_0_3um_per_dl=2991 particles_0_5um_per_dl=883 \
             particles_1_0um_per_dl=196 particles_2_5um_per_dl=8 pm10_cf1_ug_m3=28 pm10_ug_m3=28 \
             pm1_0_cf1_ug_m3=17 pm1_0_ug_m3=17 pm2_5_cf1_ug_m3=28 pm2_5_ug_m3=28 temperature_c=20.2"
        ]
    );
    assert_eq!(rejected, [(0, 33, Fault::Lead)]);
}
