use protocol::{BootId, Value};

use super::*;

fn at(ms: u64) -> Moment {
    Moment {
        wall: "2026-11-23T12:00:00Z".parse().unwrap(),
        synced: true,
        boot: BootId(0x1_0000_0007),
        monotonic_us: ms * 1000,
    }
}

fn session() -> Session {
    Session::new(GatewayId::new("gw7").unwrap())
}

fn hello(device: &str, boot: u32, reply: bool) -> Frame {
    Frame::Hello(Hello {
        device: device.into(),
        model: "sdm120".into(),
        firmware: String::new(),
        boot,
        time_us: None,
        reply,
    })
}

fn reading(boot: u32, sequence: u32) -> Frame {
    Frame::Reading(FrameReading {
        boot,
        sequence,
        time: FrameTime::Arrival,
        fields: vec![("V".into(), Value::Float(230.1))],
    })
}

fn taken(step: Step) -> (u64, Decoded) {
    match step {
        Step::Take { token, decoded } => (token, decoded),
        other => panic!("not taken: {other:?}"),
    }
}

fn is_hello(step: &Step, asks: bool) -> bool {
    matches!(step, Step::Write(Frame::Hello(hello)) if hello.reply == asks)
}

#[test]
fn a_reading_of_an_unknown_boot_is_not_taken_and_the_device_is_asked_now_and_then() {
    let mut session = session();
    for (ms, asks) in [(0, true), (10, false), (499, false), (500, true)] {
        let step = session.frame(reading(3, 0), &at(ms));
        assert_eq!(is_hello(&step, true), asks, "{ms}");
        assert_eq!(step == Step::Deferred, !asks, "{ms}");
    }
    session.frame(hello("m1", 3, false), &at(600));
    taken(session.frame(reading(3, 0), &at(601)));
    let rebooted = session.frame(reading(4, 0), &at(602));
    assert!(is_hello(&rebooted, true), "{rebooted:?}");
}

#[test]
fn a_hello_that_asks_is_answered_with_our_time_and_our_own_echo_is_not() {
    let mut session = session();
    let Step::Write(Frame::Hello(answer)) = session.frame(hello("m1", 3, true), &at(0)) else {
        panic!("no answer");
    };
    assert_eq!((answer.device.as_str(), answer.reply), ("gw7", false));
    assert_eq!(answer.time_us, Some(1_795_435_200_000_000));
    assert_eq!(session.frame(hello("m1", 3, false), &at(0)), Step::Nothing);
    assert_eq!(session.frame(hello("gw7", 7, true), &at(0)), Step::Nothing);
    let unsynced = Moment {
        synced: false,
        ..at(0)
    };
    let Frame::Hello(first) = session.opened(&unsynced) else {
        panic!("no hello");
    };
    assert_eq!((first.time_us, first.reply), (None, true));
}

#[test]
fn the_hello_names_the_device_and_the_frame_its_identity() {
    let mut session = session();
    session.frame(hello("m1", 3, false), &at(0));
    let (_, decoded) = taken(session.frame(reading(3, 9), &at(0)));
    assert_eq!(decoded.device.as_deref(), Some("m1"));
    let source = decoded.source.unwrap();
    assert_eq!((source.boot, source.sequence), (3, 9));
    assert_eq!(decoded.meta.len(), 1);
    assert_eq!(decoded.fields[0].0.as_str(), "v");
}

/// Devices that count their boots begin with the same one. Its reading would be forgotten unstored.
#[test]
fn a_receipt_of_one_device_does_not_acknowledge_the_next_one_on_the_line() {
    let mut session = session();
    session.frame(hello("m1", 1, false), &at(0));
    let (first, _) = taken(session.frame(reading(1, 5), &at(0)));
    session.frame(hello("m2", 1, false), &at(10));
    let (second, decoded) = taken(session.frame(reading(1, 5), &at(11)));
    assert_eq!(decoded.device.as_deref(), Some("m2"));
    let receipt = |token| Receipt {
        token,
        outcome: Outcome::Stored,
    };
    assert_eq!(session.receipt(receipt(first)), None);
    assert!(session.receipt(receipt(second)).is_some());
}

#[test]
fn each_outcome_has_its_verdict_and_each_reading_one_acknowledgement() {
    for (outcome, verdict) in [
        (Outcome::Stored, Verdict::Stored),
        (Outcome::Dropped, Verdict::Stored),
        (Outcome::Rejected, Verdict::Rejected),
    ] {
        let mut session = session();
        session.frame(hello("m1", u32::MAX, false), &at(0));
        let (token, _) = taken(session.frame(reading(u32::MAX, 9), &at(0)));
        assert!(session.waits());
        assert_eq!(
            session.frame(reading(u32::MAX, 9), &at(1)),
            Step::Nothing,
            "sent again while being written"
        );
        let ack = session.receipt(Receipt { token, outcome });
        let expected = Ack {
            boot: u32::MAX,
            sequence: 9,
            verdict,
        };
        assert_eq!(ack, Some(Frame::Ack(expected)));
        assert_eq!(session.receipt(Receipt { token, outcome }), None);
        assert!(!session.waits());
    }
}

#[test]
fn beyond_the_window_nothing_is_taken_until_a_receipt_comes() {
    let mut session = session();
    session.frame(hello("m1", 1, false), &at(0));
    let mut tokens = Vec::new();
    for sequence in 0..u32::try_from(MAX_INFLIGHT).unwrap() {
        tokens.push(taken(session.frame(reading(1, sequence), &at(0))).0);
    }
    assert_eq!(session.frame(reading(1, 999), &at(0)), Step::Deferred);
    let outcome = Outcome::Stored;
    session.receipt(Receipt {
        token: tokens[0],
        outcome,
    });
    taken(session.frame(reading(1, 999), &at(0)));
}

#[test]
fn one_bad_value_does_not_spoil_the_frame() {
    let mut session = session();
    session.frame(hello("m1", 1, false), &at(0));
    let frame = Frame::Reading(FrameReading {
        boot: 1,
        sequence: 0,
        time: FrameTime::Unix(u64::MAX),
        fields: vec![
            ("ok".into(), Value::Int(7)),
            ("nan".into(), Value::Float(f64::NAN)),
            ("".into(), Value::Bool(true)),
            ("twice".into(), Value::Bool(true)),
            ("Twice".into(), Value::Bool(true)),
            ("text".into(), Value::Text("x".repeat(257).into())),
        ],
    });
    let (_, decoded) = taken(session.frame(frame, &at(0)));
    assert_eq!(decoded.time, None);
    assert_eq!(decoded.fields.len(), 1);
    assert_eq!(decoded.rejected.len(), 4);
}

#[test]
fn what_the_device_dropped_itself_is_counted_once() {
    let mut session = session();
    session.frame(hello("m1", 1, false), &at(0));
    for (boot, dropped, step) in [
        (1, 0, Step::Nothing),
        (1, 5, Step::DeviceDropped(5)),
        (1, 5, Step::Nothing),
        (2, 9, Step::Nothing),
        (1, 6, Step::DeviceDropped(1)),
    ] {
        let status = Frame::Status(Status {
            boot,
            uptime_ms: 1,
            dropped,
            text: String::new(),
        });
        assert_eq!(session.frame(status, &at(0)), step);
        session.frame(hello("m1", 1, false), &at(0));
    }
}
