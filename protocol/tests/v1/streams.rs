//! Damage on the line costs the damaged frame and never the next one; nothing a line can say is unbounded.

use std::hint::black_box;

use proptest::{collection::vec, prelude::*, sample::Index};
use protocol::frame::{Decoder, Frame, MAX_FRAME_BYTES};

use crate::properties::frame;

/// What can happen to the bytes of one frame, its two zeros included.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Lose(Index),
    Insert(Index, u8),
    /// Everything from here to there is replaced by something else, of any length.
    Replace(Index, Index, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        any::<Index>().prop_map(Damage::Lose),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        (any::<Index>(), any::<Index>(), vec(any::<u8>(), 0..1500))
            .prop_map(|(from, to, noise)| Damage::Replace(from, to, noise)),
    ]
}

impl Damage {
    fn apply(&self, line: &mut Vec<u8>) {
        if line.is_empty() {
            return;
        }
        match self {
            Self::Flip(at, bit) => {
                let at = at.index(line.len());
                line[at] ^= 1 << bit;
            }
            Self::Lose(at) => {
                line.remove(at.index(line.len()));
            }
            Self::Insert(at, byte) => line.insert(at.index(line.len() + 1), *byte),
            Self::Replace(from, to, noise) => {
                let (from, to) = (from.index(line.len()), to.index(line.len()));
                line.splice(from.min(to)..from.max(to), noise.iter().copied());
            }
        }
    }
}

fn encode(frame: &Frame) -> Vec<u8> {
    let mut line = Vec::new();
    frame.encode(&mut line).unwrap();
    line
}

/// Everything accepted, as bytes, so that a NaN equals itself.
fn accepted(line: &[u8]) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    for byte in line {
        if let Some(Ok(frame)) = decoder.push(*byte) {
            frames.push(encode(&frame));
        }
        assert!(decoder.pending().len() <= MAX_FRAME_BYTES + 5);
    }
    frames
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damage_to_one_frame_never_costs_another(
        frames in vec(frame(), 1..5),
        victim in any::<Index>(),
        damages in vec(damage(), 1..6),
    ) {
        let victim = victim.index(frames.len());
        let lines: Vec<_> = frames.iter().map(encode).collect();
        let mut line = Vec::new();
        for (at, bytes) in lines.iter().enumerate() {
            let mut bytes = bytes.clone();
            if at == victim {
                damages.iter().for_each(|damage| damage.apply(&mut bytes));
            }
            line.extend(bytes);
        }
        let without: Vec<_> = lines.iter().enumerate()
            .filter(|(at, _)| *at != victim)
            .map(|(_, line)| line.clone())
            .collect();
        // The victim may have come through: a lost outer zero costs nothing.
        let accepted = accepted(&line);
        prop_assert!(accepted == without || accepted == lines, "{:02x?}", line);
    }

    #[test]
    fn a_stream_is_understood_however_it_is_joined_in_the_middle(
        frames in vec(frame(), 2..5),
        start in any::<Index>(),
    ) {
        let lines: Vec<_> = frames.iter().map(encode).collect();
        let start = start.index(lines[0].len());
        let line: Vec<u8> = lines.concat();
        let accepted = accepted(&line[start..]);
        prop_assert!(accepted.ends_with(&lines[1..]));
    }

    #[test]
    fn noise_never_panics_and_never_grows(noise in vec(prop_oneof![3 => any::<u8>(), 1 => Just(0)], 0..4000)) {
        accepted(&noise);
        black_box(Frame::decode(&noise).is_ok());
    }
}

#[test]
fn an_endless_frame_is_held_to_the_bound_and_the_next_one_understood() {
    let ack = protocol::frame::Ack {
        boot: 1,
        sequence: 2,
        verdict: protocol::frame::Verdict::Stored,
    };
    let mut line = vec![0x55; 1_000_000];
    line.extend(encode(&Frame::Ack(ack)));
    assert_eq!(accepted(&line), [encode(&Frame::Ack(ack))]);
}
