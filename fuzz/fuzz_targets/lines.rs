//! A line or a payload of text, in every format: it is kept whole or refused in few words.
//!
//! `dev/fuzz lines`
#![no_main]

use edge_agent::decode::properties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| properties::text(bytes));
