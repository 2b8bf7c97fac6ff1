//! Whatever is in a file `lane`, alone or in an envelope that is whole: it reads back the same, or is refused.
//!
//! `dev/fuzz queue_lane`
#![no_main]

use edge_agent::queue::properties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| properties::inside(properties::lane, bytes));
