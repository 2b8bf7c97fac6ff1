//! Whatever is in a file `lane`, alone or in an envelope that is whole: it reads back the same, or is refused.
//!
//! `cargo +nightly fuzz run queue_lane fuzz/corpus/queue_lane fuzz/seeds/queue_lane`
#![no_main]

use edge_agent::queue::properties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| properties::inside(properties::lane, bytes));
