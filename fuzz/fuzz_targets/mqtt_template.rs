//! A template and a topic: the filter it subscribes to is the one it understands.
//!
//! `dev/fuzz mqtt_template`
#![no_main]

use edge_agent::decode::properties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| properties::template(bytes));
