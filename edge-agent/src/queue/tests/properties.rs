//! The properties of the fuzz targets, on some bytes: any, and the frozen ones with a few changed.

use proptest::prelude::*;

use super::frozen::{BLOCK, CARRY, HEAD, LANE};
use crate::queue::properties;

type Property = fn(&[u8]);

const ALL: [(Property, &str); 4] = [
    (properties::lane, LANE),
    (properties::head, HEAD),
    (properties::block, BLOCK),
    (properties::carry, CARRY),
];

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

proptest! {
    #[test]
    fn any_bytes_are_read_back_the_same_or_refused(
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        for (read, _) in ALL {
            properties::inside(read, &body);
        }
    }

    #[test]
    fn frozen_bytes_with_a_few_changed_are_read_back_the_same_or_refused(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        for (read, frozen) in ALL {
            // The body, behind the envelope.
            let mut body = bytes(frozen).split_off(9);
            for (at, byte) in &changes {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            if is_cut {
                body.truncate(cut.index(body.len()));
            }
            properties::inside(read, &body);
        }
    }
}

/// Found by the fuzz target: the property, not the reader, was wrong.
#[test]
fn a_device_that_is_carried_twice_is_read_back_as_one() {
    let body = bytes(
        "000301640107ac022c0188014d0901640107ac022c018801665501530107ac022c0188\
         016651014fac022c0188016655014f01010101012f2f2f55014f57004dff0100fffe6b",
    );
    properties::inside(properties::carry, &body);
}
