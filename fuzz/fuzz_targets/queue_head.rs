//! Whatever is in a file `head`, alone or in an envelope that is whole: it reads back the same, or is refused.
//!
//! `dev/fuzz queue_head`
#![no_main]

use edge_agent::queue::properties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| properties::inside(properties::head, bytes));
