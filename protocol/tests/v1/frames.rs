//! Frozen: every kind of frame, as it goes over the line. If this fails, do not edit the test, revert the change.

use protocol::{
    Value,
    frame::{Ack, Frame, FrameError, FrameReading, FrameTime, Hello, Status, Verdict},
};

use crate::hex::{bytes, hex};

fn is(frame: &Frame, line: &str) {
    let mut encoded = Vec::new();
    frame.encode(&mut encoded).unwrap();
    assert_eq!(hex(&encoded), hex(&bytes(line)));
    let stuffed = &encoded[1..encoded.len() - 1];
    assert_eq!(Frame::decode(stuffed).as_ref(), Ok(frame));
}

#[test]
fn a_newer_version_is_told_from_damage() {
    // Version 2, kind 3, body 07 00 00, right CRC; then the same with one bit of the body flipped.
    let newer = bytes("04 02 03 07 01 05 16 1d 18 ab");
    let mut damaged = newer.clone();
    damaged[3] ^= 1;
    assert_eq!(Frame::decode(&newer), Err(FrameError::UnknownVersion(2)));
    assert!(matches!(
        Frame::decode(&damaged),
        Err(FrameError::Crc { .. })
    ));
}

#[test]
fn an_unknown_kind_is_told_from_damage() {
    let frame = bytes("04 01 09 07 01 05 a2 87 05 83");
    assert_eq!(Frame::decode(&frame), Err(FrameError::UnknownKind(9)));
}

#[test]
fn hello_of_a_device() {
    is(
        &Frame::Hello(Hello {
            device: "meter-1".into(),
            model: "sdm120".into(),
            firmware: "1.4.0".into(),
            boot: 7,
            time_us: None,
            reply: true,
        }),
        "00 19 01 01 07 6d 65 74 65 72 2d 31 06 73 64 6d 31 32 30 05 31 2e 34 2e 30 07 06 01 d9 3d
         96 9b 00",
    );
}

#[test]
fn hello_of_an_agent() {
    is(
        &Frame::Hello(Hello {
            device: "gw7".into(),
            model: "".into(),
            firmware: "".into(),
            boot: 0,
            time_us: Some(1795467847113000),
            reply: false,
        }),
        "00 07 01 01 03 67 77 37 01 01 0a 01 a8 b2 ee f9 fe 9e 98 03 05 c9 27 05 11 00",
    );
}

#[test]
fn reading_of_one_field() {
    is(
        &Frame::Reading(FrameReading {
            boot: 7,
            sequence: 0,
            time: FrameTime::Arrival,
            fields: vec![("voltage_v".into(), Value::Float(230.2))],
        }),
        "00 04 01 02 07 01 0c 01 09 76 6f 6c 74 61 67 65 5f 76 0d 66 66 66 66 66 c6 6c 40 0e 2d a6
         f8 00",
    );
}

#[test]
fn reading_of_every_type() {
    is(
        &Frame::Reading(FrameReading {
            boot: 7,
            sequence: 1,
            time: FrameTime::Unix(1795467847113000),
            fields: vec![
                ("voltage_v".into(), Value::Float(230.2)),
                ("energy_wh".into(), Value::Int(1_204_110)),
                ("relay_on".into(), Value::Bool(true)),
                ("state".into(), Value::Text("läuft".into())),
            ],
        }),
        "00 19 01 02 07 01 01 a8 b2 ee f9 fe 9e 98 03 04 09 76 6f 6c 74 61 67 65 5f 76 35 66 66 66
         66 66 c6 6c 40 09 65 6e 65 72 67 79 5f 77 68 01 9c fe 92 01 08 72 65 6c 61 79 5f 6f 6e 02
         01 05 73 74 61 74 65 03 06 6c c3 a4 75 66 74 64 dc 4a 65 00",
    );
}

#[test]
fn reading_that_waited() {
    is(
        &Frame::Reading(FrameReading {
            boot: 7,
            sequence: 2,
            time: FrameTime::Age(90_000),
            fields: vec![("current_a".into(), Value::Float(-0.0))],
        }),
        "00 14 01 02 07 02 02 90 bf 05 01 09 63 75 72 72 65 6e 74 5f 61 01 01 01 01 01 01 01 06 80
         ba bb 0a cb 00",
    );
}

#[test]
fn reading_of_extremes() {
    is(
        &Frame::Reading(FrameReading {
            boot: u32::MAX,
            sequence: u32::MAX,
            time: FrameTime::Unix(u64::MAX),
            fields: vec![
                ("lowest".into(), Value::Int(i64::MIN)),
                ("highest".into(), Value::Int(i64::MAX)),
                ("largest".into(), Value::Float(f64::MAX)),
                ("smallest".into(), Value::Float(5e-324)),
                ("off".into(), Value::Bool(false)),
                ("empty".into(), Value::Text("".into())),
            ],
        }),
        "00 46 01 02 ff ff ff ff 0f ff ff ff ff 0f 01 ff ff ff ff ff ff ff ff ff 01 06 06 6c 6f 77
         65 73 74 01 ff ff ff ff ff ff ff ff ff 01 07 68 69 67 68 65 73 74 01 fe ff ff ff ff ff ff
         ff ff 01 07 6c 61 72 67 65 73 74 12 ff ff ff ff ff ff ef 7f 08 73 6d 61 6c 6c 65 73 74 02
         01 01 01 01 01 01 01 06 03 6f 66 66 02 08 05 65 6d 70 74 79 03 05 5c f1 4b 67 00",
    );
}

#[test]
fn ack_of_a_stored_reading() {
    is(
        &Frame::Ack(Ack {
            boot: 7,
            sequence: 0,
            verdict: Verdict::Stored,
        }),
        "00 04 01 03 07 01 05 c6 67 b8 ec 00",
    );
}

#[test]
fn ack_of_a_rejected_reading() {
    is(
        &Frame::Ack(Ack {
            boot: u32::MAX,
            sequence: 300,
            verdict: Verdict::Rejected,
        }),
        "00 0f 01 03 ff ff ff ff 0f ac 02 01 5d f9 28 62 00",
    );
}

#[test]
fn status() {
    is(
        &Frame::Status(Status {
            boot: 7,
            uptime_ms: 86_400_123,
            dropped: 3,
            text: "brownout".into(),
        }),
        "00 16 01 04 07 fb b8 99 29 03 08 62 72 6f 77 6e 6f 75 74 97 c6 3e 40 00",
    );
}
