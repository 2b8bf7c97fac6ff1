//! What is explained is what the decoder judges.

use proptest::prelude::*;
use protocol::frame::{Frame, FrameError};
use serde_json::Value as Json;

use super::*;

const VECTORS: &str = include_str!("../../../../../protocol/vectors/v1.json");

fn vectors(list: &str) -> Vec<(String, Vec<u8>)> {
    let vectors: Json = serde_json::from_str(VECTORS).unwrap();
    let frames = vectors[list].as_array().unwrap().iter().map(|vector| {
        let hex = vector["frame"].as_str().unwrap();
        let bytes = (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16));
        let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().unwrap();
        let inner = bytes[1..bytes.len() - 1].to_vec();
        (vector["name"].as_str().unwrap().to_owned(), inner)
    });
    frames.collect()
}

/// All bytes have their place, and the judgement is the decoder's.
fn agrees(stuffed: &[u8]) -> Explained {
    let explained = explain(stuffed);
    let judged = Frame::decode(stuffed);
    assert_eq!(
        explained.is_wrong,
        judged.is_err(),
        "{judged:?}\n{explained:?}"
    );
    let told: usize = explained.parts.iter().map(|part| part.len).sum();
    assert_eq!(told, explained.plain.len(), "{explained:?}");
    let last = explained.parts.last().map(|part| part.meaning.clone());
    if let Err(FrameError::Crc { expected, got }) = judged {
        let told = format!("got {got:08x}, expected {expected:08x}");
        assert!(
            last.is_some_and(|last| last.contains(&told)),
            "{explained:?}"
        );
    }
    explained
}

#[test]
fn every_vector_is_judged_as_the_decoder_judges_it() {
    for (_, stuffed) in [vectors("valid"), vectors("invalid")].concat() {
        // Two frames with a zero between them are judged one by one.
        if !stuffed.contains(&0) && !stuffed.is_empty() {
            agrees(&stuffed);
        }
    }
}

fn framed(version: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut plain = [&[version, kind], body].concat();
    plain.extend(crc32fast::hash(&plain).to_le_bytes());
    cobs::encode_vec(&plain)
}

/// What is said of the member that is wrong.
fn wrong(kind: u8, body: &[u8]) -> String {
    let explained = agrees(&framed(1, kind, body));
    assert!(explained.is_wrong);
    let parts = &explained.parts;
    parts[parts.len() - 2].meaning.clone()
}

#[test]
fn a_wrong_body_is_told_at_the_member_that_is_wrong() {
    for (kind, body, expected) in [
        (
            2,
            &[7][..],
            "sequence: an integer that does not end before the CRC",
        ),
        (
            2,
            &[0xff, 0xff, 0xff, 0xff, 0x1f],
            "boot: larger than a u32",
        ),
        (
            2,
            &[0x80, 0x80, 0x80, 0x80, 0x80, 1],
            "boot: a u32 has at most 5 bytes, the last without its top bit",
        ),
        (
            2,
            &[7, 0, 3],
            "the time is 00 arrival, 01 Unix or 02 age, not 03",
        ),
        (
            2,
            &[7, 0, 0, 1, 9, b'v'],
            "the name of field 1 takes 9 bytes, 1 are left before the CRC",
        ),
        (
            2,
            &[7, 0, 0, 1, 1, b'v', 4],
            "the type of the value of field 1 is 00 float, 01 i64, 02 bool or 03 text, not 04",
        ),
        (
            2,
            &[7, 0, 0, 1, 1, b'v', 0, 1, 2],
            "a float takes 8 bytes, 2 are left before the CRC",
        ),
        (
            2,
            &[7, 0, 0, 1, 1, b'v', 2, 7],
            "the value of field 1 is 00 or 01, not 07",
        ),
        (
            2,
            &[7, 0, 0, 1, 1, 0xff, 2, 1],
            "the name of field 1: 1 bytes that are not UTF-8",
        ),
        (3, &[7, 0, 0, 9], "1 bytes too many, behind the last member"),
        (
            3,
            &[7, 0, 2],
            "the verdict is 00 stored or 01 rejected, not 02",
        ),
        (
            9,
            &[],
            "kind 9; there are 01 hello, 02 reading, 03 ack, 04 status",
        ),
    ] {
        assert_eq!(wrong(kind, body), expected);
    }
    let explained = agrees(&framed(2, 2, &[7]));
    assert!(
        explained.parts[0]
            .meaning
            .starts_with("version 2; this program speaks 1")
    );
}

#[test]
fn a_value_that_would_be_left_out_is_told() {
    let mut body = vec![7, 0, 0, 2, 5, b'P', b'M', b'2', b'.', b'5', 0];
    body.extend(f64::NAN.to_le_bytes());
    body.extend([2, b'o', b'n', 2, 1]);
    let explained = agrees(&framed(1, 2, &body));
    let meanings: Vec<&str> = explained.parts.iter().map(|part| &*part.meaning).collect();
    assert_eq!(
        meanings[2..9],
        [
            "boot 7",
            "sequence 0",
            "time: arrival, now",
            "fields: 2",
            "name, 5 bytes: \"PM2.5\", stored as pm2_5",
            "float: NaN, left out: not finite",
            "name, 2 bytes: \"on\"",
        ]
    );
}

#[test]
fn the_mistakes_that_people_make_with_a_crc_are_named() {
    let checked = [1, 3, 7, 0, 0];
    let right = crc32fast::hash(&checked);
    for (crc, expected) in [
        (right.swap_bytes(), "most significant byte first"),
        (!right, "not inverted at the end"),
        (crc32fast::hash(&checked[2..]), "of the body alone"),
        (crc32fast::hash(&checked[1..]), "without the version"),
        (right ^ 1, "over the 5 bytes above"),
    ] {
        let explained = agrees(&cobs::encode_vec(
            &[&checked[..], &crc.to_le_bytes()].concat(),
        ));
        let last = &explained.parts.last().unwrap().meaning;
        assert!(last.contains(expected), "{last}");
    }
    // The check values of both polynomials.
    assert_eq!(!reflected(0xedb8_8320, u32::MAX, b"123456789"), 0xcbf4_3926);
    assert_eq!(!reflected(0x82f6_3b78, u32::MAX, b"123456789"), 0xe306_9283);
}

proptest! {
    #[test]
    fn whatever_is_heard_is_judged_as_the_decoder_judges_it(bytes in prop::collection::vec(1_u8.., 1..300)) {
        agrees(&bytes);
    }

    #[test]
    fn a_body_of_anything_is_judged_as_the_decoder_judges_it(
        kind in 1_u8..=4,
        body in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(2), Just(3), Just(0x80), any::<u8>()], 0..60),
    ) {
        agrees(&framed(1, kind, &body));
    }

    #[test]
    fn a_damaged_vector_is_judged_as_the_decoder_judges_it(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in 1_u8..) {
        let valid = vectors("valid");
        let (_, mut stuffed) = valid[which.index(valid.len())].clone();
        let at = at.index(stuffed.len());
        stuffed[at] = byte;
        agrees(&stuffed);
    }
}
