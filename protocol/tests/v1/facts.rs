//! Frozen: control facts, key and value. If this fails, do not edit the test, revert the change.

use protocol::{
    BootId, Timestamp,
    control::{
        ClockCorrection, EpochFact, Fact, FactError, Heartbeat, LaneState, Loss, LossReason,
        Predecessor,
    },
};

fn at() -> Timestamp {
    "2026-11-23T21:04:07.113Z".parse().unwrap()
}

fn is(fact: &Fact, key: &str, value: &str) {
    assert_eq!(fact.key(), key);
    let encoded = String::from_utf8(fact.encode().unwrap()).unwrap();
    assert_eq!(encoded, value);
    assert_eq!(Fact::decode(value.as_bytes()).as_ref(), Ok(fact));
}

pub const EPOCH: &str = r#"{"v":1,"fact":"epoch","gateway":"gw7","lane":"telemetry.readings.v1","epoch":"1f3a9c04d2be","previous":{"epoch":"000000000a01","last":88140},"committed":1200,"acknowledged":1100,"offsets":{"0":118821,"11":9223372036854775807},"closed":false,"at":"2026-11-23T21:04:07.113Z"}"#;
pub const LOSS: &str = r#"{"v":1,"fact":"loss","gateway":"gw7","lane":"telemetry.readings.v1","epoch":"1f3a9c04d2be","first":256,"last":300,"reason":"drop_oldest","merged":false,"possibly_delivered":true,"at":"2026-11-23T21:04:07.113Z"}"#;
pub const CORRECTION: &str = r#"{"v":1,"fact":"clock_correction","gateway":"gw7","boot":"0123456789abcdef","boot_time_us":1795467847113000,"at":"2026-11-23T21:04:07.113Z"}"#;
pub const HEARTBEAT: &str = r#"{"v":1,"fact":"heartbeat","gateway":"gw7","version":"0.1.0","clock_synced":true,"lanes":[{"lane":"telemetry.readings.v1","epoch":"1f3a9c04d2be","committed":1200,"queued":100}],"at":"2026-11-23T21:04:07.113Z"}"#;

fn epoch() -> EpochFact {
    EpochFact {
        gateway: "gw7".parse().unwrap(),
        lane: "telemetry.readings.v1".parse().unwrap(),
        epoch: "1f3a9c04d2be".parse().unwrap(),
        previous: Some(Predecessor {
            epoch: "000000000a01".parse().unwrap(),
            last: Some(88_140),
        }),
        committed: Some(1200),
        acknowledged: Some(1100),
        offsets: [(0, 118_821), (11, i64::MAX)].into(),
        closed: false,
        at: at(),
    }
}

fn loss() -> Loss {
    Loss {
        gateway: "gw7".parse().unwrap(),
        lane: "telemetry.readings.v1".parse().unwrap(),
        epoch: "1f3a9c04d2be".parse().unwrap(),
        first: 256,
        last: Some(300),
        reason: LossReason::DropOldest,
        merged: false,
        possibly_delivered: true,
        at: at(),
    }
}

#[test]
fn epoch_fact() {
    let key = "gw7/telemetry.readings.v1/1f3a9c04d2be";
    is(&Fact::Epoch(epoch()), key, EPOCH);
    let first = EpochFact {
        previous: None,
        committed: None,
        acknowledged: None,
        offsets: [].into(),
        closed: true,
        ..epoch()
    };
    is(
        &Fact::Epoch(first),
        key,
        r#"{"v":1,"fact":"epoch","gateway":"gw7","lane":"telemetry.readings.v1","epoch":"1f3a9c04d2be","previous":null,"committed":null,"acknowledged":null,"offsets":{},"closed":true,"at":"2026-11-23T21:04:07.113Z"}"#,
    );
}

#[test]
fn loss_fact() {
    let key = "gw7/telemetry.readings.v1/1f3a9c04d2be/000000000100";
    is(&Fact::Loss(loss()), key, LOSS);
    let open = Loss {
        last: None,
        merged: true,
        reason: LossReason::Unreadable,
        ..loss()
    };
    is(
        &Fact::Loss(open),
        key,
        r#"{"v":1,"fact":"loss","gateway":"gw7","lane":"telemetry.readings.v1","epoch":"1f3a9c04d2be","first":256,"last":null,"reason":"unreadable","merged":true,"possibly_delivered":true,"at":"2026-11-23T21:04:07.113Z"}"#,
    );
}

#[test]
fn reasons_keep_their_words_and_their_order() {
    let words = LossReason::ALL.map(LossReason::as_str);
    assert_eq!(
        words,
        [
            "drop_oldest",
            "drop_newest",
            "too_old",
            "unreadable",
            "refused",
            "retention"
        ]
    );
}

#[test]
fn clock_correction_fact() {
    let fact = Fact::ClockCorrection(ClockCorrection {
        gateway: "gw7".parse().unwrap(),
        boot: BootId(0x0123_4567_89ab_cdef),
        boot_time_us: 1_795_467_847_113_000,
        at: at(),
    });
    is(&fact, "gw7/0123456789abcdef", CORRECTION);
}

#[test]
fn heartbeat_fact() {
    let lane = LaneState {
        lane: "telemetry.readings.v1".parse().unwrap(),
        epoch: "1f3a9c04d2be".parse().ok(),
        committed: Some(1200),
        queued: 100,
    };
    let beat = |lanes| {
        Fact::Heartbeat(Heartbeat {
            gateway: "gw7".parse().unwrap(),
            version: "0.1.0".into(),
            clock_synced: true,
            lanes,
            at: at(),
        })
    };
    is(&beat(vec![lane.clone()]), "gw7", HEARTBEAT);
    let fresh = LaneState {
        epoch: None,
        committed: None,
        queued: 0,
        ..lane
    };
    is(
        &beat(vec![fresh]),
        "gw7",
        r#"{"v":1,"fact":"heartbeat","gateway":"gw7","version":"0.1.0","clock_synced":true,"lanes":[{"lane":"telemetry.readings.v1","epoch":null,"committed":null,"queued":0}],"at":"2026-11-23T21:04:07.113Z"}"#,
    );
}

#[test]
fn a_newer_fact_is_told_from_a_damaged_one() {
    let newer = r#"{"v":2,"fact":"prophecy"}"#;
    assert_eq!(
        Fact::decode(newer.as_bytes()),
        Err(FactError::UnknownVersion(2))
    );
    let unknown = LOSS.replace("drop_oldest", "eaten_by_the_dog");
    let beyond = EPOCH.replace("1f3a9c04d2be", "1f3a9c04d2beff");
    for damaged in [
        "",
        "{}",
        r#"{"v":1}"#,
        r#"{"v":0}"#,
        r#"{"v":1,"fact":"prophecy"}"#,
        &unknown,
        &beyond,
    ] {
        let error = Fact::decode(damaged.as_bytes()).unwrap_err();
        assert!(matches!(error, FactError::Malformed(_)), "{damaged}");
    }
}
