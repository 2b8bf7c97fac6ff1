//! Whatever lies in Kafka becomes a document under its own gateway, or a dead letter with few words.
//!
//! `dev/fuzz sink_record`
#![no_main]

use cloud_sink::decode::properties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| properties::record(bytes));
