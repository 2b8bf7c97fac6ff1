use super::{
    super::stream::{
        Fault,
        tests::{clean, hex, mixed},
    },
    REQUEST,
};

/// Examples of the manuals: MH-Z19 V1.0 and MH-Z19B V1.0.
const MANUAL: &str = "ff 86 02 60 47 00 00 00 d1";
const MANUAL_B: &str = "ff 86 02 20 00 00 00 00 58";

#[test]
fn the_examples_of_the_manuals_are_read_and_requests_passed_by() {
    let tapped = [
        REQUEST.to_vec(),
        hex(MANUAL),
        REQUEST.to_vec(),
        hex(MANUAL_B),
    ]
    .concat();
    assert_eq!(
        clean("mh-z19", &tapped),
        [
            "co2_ppm=608 temperature_c=31 warming_up=false",
            "co2_ppm=544 warming_up=false"
        ]
    );
}

#[test]
fn warming_up_is_flagged_until_something_was_measured() {
    let frame = |co2: u16, status: u8, u: u16| {
        let ([c0, c1], [u0, u1]) = (co2.to_be_bytes(), u.to_be_bytes());
        let mut frame = vec![0xff, 0x86, c0, c1, 0x40, status, u0, u1];
        let sum = frame[1..].iter().fold(0u8, |sum, &b| sum.wrapping_add(b));
        frame.push(sum.wrapping_neg());
        frame
    };
    let flags = |frames: &[Vec<u8>]| -> Vec<bool> {
        let readings = clean("mh-z19", &frames.concat());
        readings
            .iter()
            .map(|r| r.ends_with("warming_up=true"))
            .collect()
    };
    let b = [
        frame(410, 0, 0),
        frame(410, 0, 0),
        frame(655, 0, 0),
        frame(410, 0, 0),
    ];
    assert_eq!(flags(&b), [true, true, false, false]);
    let old = [
        frame(655, 3, 15_000),
        frame(655, 3, 9000),
        frame(655, 64, 9000),
        frame(400, 64, 15_000),
        frame(400, 64, 9000),
    ];
    assert_eq!(flags(&old), [true, true, false, true, true]);
}

#[test]
fn damage_costs_only_the_reply_it_is_in() {
    let mut damaged = hex(MANUAL);
    damaged[3] ^= 1;
    let (readings, rejected) = mixed("mh-z19", &[damaged, hex(MANUAL_B)].concat());
    assert_eq!(readings.len(), 1);
    let fault = Fault::Checksum {
        got: 0xd1,
        expected: 0xd0,
    };
    assert_eq!(rejected, [(0, 9, fault)]);
    let (_, rejected) = mixed("mh-z19", &hex(MANUAL)[..5]);
    assert_eq!(rejected, [(0, 5, Fault::Truncated)]);
}

#[test]
fn a_capture_of_others_is_read() {
    // github.com/avaldebe/PyPMS, tests/captured_data/MHZ19B.
    assert_eq!(
        clean("mh-z19", &hex("ff 86 02 7c 42 00 00 00 ba")),
        ["co2_ppm=636 temperature_c=26 warming_up=false"]
    );
}

#[test]
fn answers_to_other_commands_are_passed_by() {
    // github.com/letscontrolit/ESPEasy/issues/2394: self-calibration switched off;
    // github.com/SmingHub/Sming/pull/2415: a sensor whose last bytes mean nothing.
    let capture = hex("ff 79 01 00 00 00 00 00 86 ff 86 0d e5 3d 40 42 cf fa");
    assert_eq!(
        clean("mh-z19", &capture),
        ["co2_ppm=3557 temperature_c=21 warming_up=false"]
    );
}
