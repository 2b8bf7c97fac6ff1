use super::super::stream::{
    Fault,
    tests::{clean, hex, mixed},
};

/// From the control protocol's own example of a report.
const EXAMPLE: &str = "aa c0 d4 04 3a 0a a1 60 1d ab";

#[test]
fn the_example_of_the_protocol_is_read() {
    assert_eq!(
        clean("sds011", &hex(EXAMPLE)),
        ["sds011-a160 pm10_ug_m3=261.8 pm2_5_ug_m3=123.6"]
    );
    // Commands and their answers are seen where the line is tapped.
    let query = "aa b4 04 00 00 00 00 00 00 00 00 00 00 00 00 ff ff 02 ab";
    let answer = "aa c5 02 01 01 00 a1 60 05 ab";
    let tapped = hex(&[query, EXAMPLE, answer].concat());
    assert_eq!(clean("sds011", &tapped).len(), 1);
}

#[test]
fn a_frame_whose_checksum_or_tail_is_wrong_costs_only_itself() {
    let sum = "aa c0 d4 04 3a 0a a1 60 1e ab";
    let tail = "aa c0 d4 04 3a 0a a1 60 1d ac";
    let (readings, rejected) = mixed("sds011", &hex(&[sum, EXAMPLE, tail, EXAMPLE].concat()));
    assert_eq!(readings.len(), 2);
    let fault = Fault::Checksum {
        got: 0x1e,
        expected: 0x1d,
    };
    assert_eq!(rejected[0], (0, 10, fault));
    assert_eq!((rejected[1].0, rejected[1].1), (20, 10));
}

#[test]
fn header_bytes_within_a_frame_are_data() {
    // PM2.5 is 0xc0aa.
    let frame = "aa c0 aa c0 aa c0 a1 60 d5 ab";
    assert_eq!(
        clean("sds011", &hex(frame)),
        ["sds011-a160 pm10_ug_m3=4932.2 pm2_5_ug_m3=4932.2"]
    );
}

#[test]
fn an_sds198_has_one_value_and_a_header_of_its_own() {
    // Captured at github.com/avaldebe/PyPMS, tests/captured_data, as is the SDS011 behind it.
    let captured =
        "aa cf 0e 00 10 00 e9 05 0c ab aa cf 0c 00 16 00 e9 05 10 ab aa c0 09 00 09 00 58 d9 43 ab";
    assert_eq!(
        clean("sds011", &hex(captured)),
        [
            "sds198-e905 pm100_ug_m3=16",
            "sds198-e905 pm100_ug_m3=22",
            "sds011-58d9 pm10_ug_m3=0.9 pm2_5_ug_m3=0.9"
        ]
    );
}

#[test]
fn its_firmware_date_is_passed_by() {
    // github.com/opendata-stuttgart/sensors-software/issues/197.
    let capture = hex("aa c5 07 11 08 15 98 22 ef ab aa c0 c0 03 5b 05 98 22 dd ab");
    assert_eq!(
        clean("sds011", &capture),
        ["sds011-9822 pm10_ug_m3=137.1 pm2_5_ug_m3=96"]
    );
}
