//! Whatever stands on the line, the decoder holds at most one frame, what it accepts encodes to the same
//! message, and a frame behind two zeros is understood.
//!
//! `dev/fuzz frame_stream`
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::frame::{Ack, Decoder, Frame, MAX_FRAME_BYTES, Verdict};

fuzz_target!(|line: &[u8]| {
    let mut decoder = Decoder::new();
    for byte in line {
        if let Some(Ok(frame)) = decoder.push(*byte) {
            let mut again = Vec::new();
            // Longer only where the sender wrote integers longer than need be.
            if frame.encode(&mut again).is_ok() {
                let back = Frame::decode(&again[1..again.len() - 1]).expect("what we encode");
                let mut thrice = Vec::new();
                back.encode(&mut thrice).expect("as before");
                assert_eq!(again, thrice);
            }
        }
        assert!(decoder.pending().len() <= MAX_FRAME_BYTES + 5);
    }
    let ack = Frame::Ack(Ack {
        boot: 7,
        sequence: 1,
        verdict: Verdict::Stored,
    });
    let mut next = Vec::new();
    ack.encode(&mut next).expect("an ack fits");
    let accepted: Vec<_> = next.iter().filter_map(|byte| decoder.push(*byte)).collect();
    assert_eq!(accepted.last(), Some(&Ok(ack)));
});
