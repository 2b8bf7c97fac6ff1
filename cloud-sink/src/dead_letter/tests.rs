use super::*;
use crate::decode::Reason;

fn at(offset: i64) -> Coordinates {
    Coordinates {
        partition: Partition {
            topic: "readings".into(),
            number: 3,
        },
        offset,
        timestamp_ms: Some(1000 + offset),
    }
}

/// As it is read again from a topic, with headers as they were written.
fn read<'a>(
    at: Coordinates,
    own: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    added: &[(&'static str, String)],
    value: &[u8],
) -> Message {
    let own: Vec<_> = own
        .map(|(n, v)| (n.to_owned(), v.map(<[u8]>::to_vec)))
        .collect();
    let added = added.iter();
    let added = added.map(|(n, v)| ((*n).to_owned(), Some(v.clone().into_bytes())));
    let all: Vec<_> = own.into_iter().chain(added).collect();
    let headers = all.iter().map(|(n, v)| (n.as_str(), v.as_deref()));
    Message::new(at, Some(b"gw7"), Some(value), headers)
}

fn die(message: Message, buried_at: i64) -> Message {
    let letter = DeadLetter {
        message,
        generation: 1,
        cause: Undecodable::new(Reason::DecodeFailed, "odd"),
    };
    let place = Coordinates {
        partition: Partition {
            topic: "dead".into(),
            number: 0,
        },
        offset: buried_at,
        timestamp_ms: Some(9),
    };
    let own = letter.message.headers();
    let value = letter.message.value().unwrap_or_default();
    read(place, own, &letter.headers(), value)
}

fn come_back(buried: &Message, offset: i64) -> Option<Message> {
    let read_back = Buried::read(buried)?;
    let replay = Replay::of(buried.clone(), &read_back)?;
    let value = replay.message.value().unwrap_or_default();
    Some(read(
        at(offset),
        replay.own_headers(),
        &replay.headers(),
        value,
    ))
}

#[test]
fn a_record_comes_back_as_it_was_and_keeps_its_first_place() {
    let own: [(&str, Option<&[u8]>); 2] = [("ce_subject", Some(b"meter-1")), ("x", None)];
    let first = Message::new(at(7), Some(b"gw7"), Some(b"{odd"), own.into_iter());
    assert_eq!(origin(&first), at(7));
    let back = come_back(&die(first, 0), 100).unwrap();
    assert_eq!(back.value(), Some(b"{odd".as_slice()));
    assert_eq!(origin(&back), at(7), "not 100");
    let kept: Vec<_> = back
        .headers()
        .filter(|(name, _)| !name.starts_with("edge_"))
        .collect();
    assert_eq!(kept, own);
    assert!(!back.headers().any(|(name, _)| name.starts_with(DEAD)));

    let again = die(back, 1);
    let buried = Buried::read(&again).unwrap();
    assert_eq!((buried.origin, buried.replays), (at(7), 1));
    assert_eq!(buried.device.as_deref(), Some("gw7/meter-1"));
    assert_eq!(buried.reason, "decode_failed");
}

#[test]
fn a_record_does_not_come_back_for_ever() {
    let mut message = Message::new(at(7), Some(b"gw7"), Some(b"odd"), std::iter::empty());
    for count in 0..MAX_REPLAYS {
        message = come_back(&die(message, 0), i64::from(count)).unwrap();
        assert_eq!(message.headers().count(), 5, "headers do not pile up");
    }
    assert!(come_back(&die(message, 0), 99).is_none());
}

#[test]
fn of_a_record_that_died_again_only_the_last_death_counts() {
    let plain = |offset| Message::new(at(offset), Some(b"gw7"), Some(b"odd"), std::iter::empty());
    let first = die(plain(7), 0);
    let other = die(plain(8), 1);
    let second = die(come_back(&first, 100).unwrap(), 2);
    let mut deaths = LastDeaths::default();
    for message in [&second, &first, &other] {
        let at = (message.at.partition.number, message.at.offset);
        assert!(deaths.note(at, &Buried::read(message).unwrap()));
    }
    assert_eq!(deaths.last(), [(0, 1), (0, 2)].into());
}

#[test]
fn a_record_that_no_sink_buried_is_none() {
    let message = Message::new(at(7), None, Some(b"x"), std::iter::empty());
    assert_eq!(Buried::read(&message), None);
}
