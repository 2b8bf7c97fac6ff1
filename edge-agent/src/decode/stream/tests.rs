//! What every format promises, and the words the tests of each format are written in.

use proptest::prelude::*;
use protocol::Value;

use super::{
    super::{DeviceTime, preset::Preset},
    *,
};

/// Reads a whole capture.
pub(crate) fn read(preset: &str, capture: &[u8]) -> (Vec<Decoded>, Vec<Rejected>) {
    in_chunks(preset, capture, capture.len().max(1))
}

fn in_chunks(preset: &str, capture: &[u8], size: usize) -> (Vec<Decoded>, Vec<Rejected>) {
    let mut stream = preset.parse::<Preset>().unwrap().stream();
    let mut pieces = Vec::new();
    for chunk in capture.chunks(size) {
        stream.push(chunk, &mut pieces);
        assert!(stream.held.len() <= MAX_HELD + CHUNK);
    }
    stream.finish(&mut pieces);
    assert!(stream.held.is_empty());
    let (mut readings, mut rejected) = (Vec::new(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Reading(_, decoded) => readings.push(decoded),
            Piece::Rejected(piece) => rejected.push(piece),
        }
    }
    (readings, rejected)
}

/// A reading as one line: `device @time name=value …`, without what is not there.
pub(crate) fn shown(decoded: &Decoded) -> String {
    let mut words: Vec<String> = decoded.device.iter().cloned().collect();
    if let Some(DeviceTime::At(time)) = decoded.time {
        words.push(format!("@{time}"));
    }
    words.extend(decoded.fields.iter().map(|(name, value)| match value {
        Value::Float(number) => format!("{name}={number}"),
        Value::Int(number) => format!("{name}={number}i"),
        Value::Bool(state) => format!("{name}={state}"),
        Value::Text(text) => format!("{name}={text:?}"),
    }));
    words.join(" ")
}

/// All readings of a capture, nothing of which may be rejected.
pub(crate) fn clean(preset: &str, capture: &[u8]) -> Vec<String> {
    let (readings, rejected) = read(preset, capture);
    assert_eq!(rejected, [], "{preset}");
    assert!(readings.iter().all(|reading| reading.rejected.is_empty()));
    readings.iter().map(shown).collect()
}

/// Readings, and place, length and reason of each rejection.
pub(crate) fn mixed(preset: &str, capture: &[u8]) -> (Vec<String>, Vec<(u64, u64, Fault)>) {
    let (readings, rejected) = read(preset, capture);
    (
        readings.iter().map(shown).collect(),
        rejected
            .into_iter()
            .map(|rejected| (rejected.at, rejected.len, rejected.fault))
            .collect(),
    )
}

/// Bytes written as hex, blanks as you like.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

const PRESETS: [&str; 14] = [
    "nmea",
    "dsmr",
    "ve-direct",
    "pms5003",
    "pms5003t",
    "sds011",
    "mh-z19",
    "modbus:sdm120",
    "modbus:dtsu666",
    "modbus-tcp:em340",
    "json",
    "key-value",
    "csv",
    "influx",
];

/// Beginnings of pieces, so that noise gets far.
const SEEDS: [&[u8]; 14] = [
    b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n",
    b"/ISk5\\2MT382-1000\r\n\r\n1-3:0.2.8(50)\r\n0-1:24.2.1(170102161005W)(00000.107*m3)\r\n!6EEE\r\n",
    b"\r\nPID\t0xA043\r\nV\t13790\r\nChecksum\t\x2f:A0002000148\n",
    &[0x42, 0x4d, 0x00, 0x1c, 0x00, 0x04, 0x00, 0x05],
    &[0xaa, 0xc0, 0xd4, 0x04, 0x3a, 0x0a, 0xa1, 0x60, 0x1d, 0xab],
    &[0xff, 0x86, 0x02, 0x60, 0x47, 0, 0, 0, 0xd1],
    &[0x01, 0x04, 0, 0, 0, 2, 0x71, 0xcb],
    &[0x01, 0x04, 0x04, 0x43, 0x66, 0, 0],
    &[0, 1, 0, 0, 0, 6, 1, 4, 0, 0, 0, 2],
    b"{\"a\":1}\n",
    b"a=1 b=\"x\"\n",
    b"m,t=1 a=1,b=2i 1465839830100400200\n",
    b"\r",
    b"\n",
];

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(SEEDS.to_vec()).prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..40),
        (
            prop::sample::select(SEEDS.to_vec()),
            any::<prop::sample::Index>(),
            any::<u8>()
        )
            .prop_map(|(seed, at, byte)| {
                let mut bytes = seed.to_vec();
                let at = at.index(bytes.len());
                bytes[at] = byte;
                bytes
            }),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn pieces_depend_on_the_bytes_alone_and_no_bytes_do_harm(
        capture in soup(),
        size in 1usize..50,
        preset in prop::sample::select(PRESETS.to_vec()),
    ) {
        let whole = read(preset, &capture);
        prop_assert_eq!(&in_chunks(preset, &capture, size), &whole);
        let mut end = 0;
        for rejected in &whole.1 {
            prop_assert!(rejected.at >= end && rejected.len > 0);
            end = rejected.at + rejected.len;
            prop_assert!(rejected.bytes.len() <= KEPT);
            let at = usize::try_from(rejected.at).unwrap();
            prop_assert!(capture[at..].starts_with(&rejected.bytes));
        }
        prop_assert!(end <= capture.len() as u64);
    }

    #[test]
    fn a_damaged_byte_costs_at_most_the_piece_it_is_in(
        (preset, pieces) in prop::sample::select(captures()),
        piece in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        flip in 1u8..=255,
        kind in 0..3,
    ) {
        let piece = piece.index(pieces.len());
        let at = at.index(pieces[piece].len());
        let mut damaged = pieces.clone();
        match kind {
            0 => damaged[piece][at] ^= flip,
            1 => drop(damaged[piece].remove(at)),
            _ => damaged[piece].insert(at, flip),
        }
        let (readings, _) = read(preset, &damaged.concat());
        let readings: Vec<String> = readings.iter().map(shown).collect();
        for other in (0..pieces.len()).filter(|other| *other != piece) {
            for expected in clean(preset, &pieces[other]) {
                prop_assert!(
                    readings.contains(&expected),
                    "{} lost {} with piece {} damaged at {} ({})", preset, expected, piece, at, kind
                );
            }
        }
    }
}

/// Captures whose pieces all differ and each can be read by itself.
fn captures() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let frames = |frame: fn(u8) -> Vec<u8>| (10..14).map(frame).collect::<Vec<_>>();
    vec![
        (
            "pms5003",
            frames(|n| {
                let mut frame = vec![0x42, 0x4d, 0, 28];
                frame.extend([n; 26]);
                let sum = frame.iter().map(|&b| u16::from(b)).sum::<u16>();
                frame.extend(sum.to_be_bytes());
                frame
            }),
        ),
        (
            "sds011",
            frames(|n| {
                let mut frame = vec![0xaa, 0xc0, n, 0, n, 0, 1, 2];
                frame.push(frame[2..].iter().sum());
                frame.push(0xab);
                frame
            }),
        ),
        (
            "mh-z19",
            frames(|n| {
                let mut frame = vec![0xff, 0x86, 2, n, n, 0, 0, 0];
                let sum = frame[1..].iter().fold(0u8, |sum, &b| sum.wrapping_add(b));
                frame.push(sum.wrapping_neg());
                frame
            }),
        ),
        (
            "ve-direct",
            frames(|n| {
                let mut block =
                    format!("\r\nPID\t0xA043\r\nV\t{n}000\r\nI\t-{n}\r\nChecksum\t").into_bytes();
                let sum = block.iter().fold(0u8, |sum, &b| sum.wrapping_add(b));
                block.push(sum.wrapping_neg());
                block
            }),
        ),
        (
            "modbus:sdm120",
            frames(|n| {
                let mut pair = framed(&[n, 4, 0, 0, 0, 2]);
                pair.extend(framed(&[n, 4, 4, 0x43, 0x66, n, 0]));
                pair
            }),
        ),
        (
            "dsmr",
            frames(|n| {
                format!("/ISk5\\2MT382-1000\r\n\r\n1-0:1.7.0(00{n}.19*kW)\r\n!\r\n").into_bytes()
            }),
        ),
    ]
}

fn framed(body: &[u8]) -> Vec<u8> {
    let sum = crate::decode::modbus::crc(body).to_le_bytes();
    [body, &sum].concat()
}

#[test]
fn a_stream_that_never_becomes_a_piece_is_given_up_at_the_bound() {
    for (preset, endless) in [
        ("dsmr", b"/aaaaaaaaa".repeat(5000)),
        ("ve-direct", b"\r\nV\t12345".repeat(5000)),
        ("nmea", b"$AAAAAAAAA".repeat(5000)),
    ] {
        let (readings, rejected) = read(preset, &endless);
        assert!(readings.is_empty());
        let lost: u64 = rejected.iter().map(|rejected| rejected.len).sum();
        assert_eq!(lost, endless.len() as u64, "{preset}");
    }
}

#[test]
fn a_bad_value_in_a_line_takes_neither_its_neighbour_nor_the_next_line_along() {
    for (preset, header, line) in [
        ("json", "", r#"{"good":1,"bad":@}"#),
        ("key-value", "", "good=1 bad=@"),
        ("csv", "good,bad\n", "1,@"),
        ("influx", "", "m good=1,bad=@"),
    ] {
        for value in ["NaN", "1e400", "-1e400", "18446744073709551616"] {
            let (bad, fine) = (line.replace('@', value), line.replace('@', "2"));
            let (readings, rejected) = read(preset, format!("{header}{bad}\n{fine}\n").as_bytes());
            assert!(rejected.is_empty(), "{preset} {value}: {rejected:?}");
            let shown: Vec<String> = readings.iter().map(shown).collect();
            assert_eq!(shown, ["good=1", "bad=2 good=1"], "{preset} {value}");
            let bad = &readings[0].rejected;
            assert!(bad.len() == 1 && &*bad[0].0 == "bad", "{preset} {value}");
        }
        let endless = line.replace('@', &"9".repeat(1 << 20));
        let fine = line.replace('@', "2");
        let (readings, rejected) = read(preset, format!("{header}{endless}\n{fine}\n").as_bytes());
        let shown: Vec<String> = readings.iter().map(shown).collect();
        assert_eq!(shown, ["bad=2 good=1"], "{preset}");
        assert_eq!(rejected.len(), 1, "{preset}: {:?}", rejected[0].fault);
    }
}
