//! Captures of each serial preset: cut by their bytes alone, kept whole or refused in few words.
//!
//! `dev/fuzz serial_preset`
#![no_main]

use edge_agent::decode::properties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| properties::serial(bytes));
