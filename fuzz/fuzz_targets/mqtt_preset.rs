//! Messages to each MQTT preset, Sparkplug sessions among them.
//!
//! `dev/fuzz mqtt_preset`
#![no_main]

use edge_agent::decode::properties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| properties::mqtt(bytes));
