//! Replies to the questions of each Modbus profile.
//!
//! `dev/fuzz modbus_reply`
#![no_main]

use edge_agent::decode::properties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| properties::modbus(bytes));
