//! A record that is accepted is written so that it reads back the same, in both forms.
//!
//! `dev/fuzz record_postcard`
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::record::{json, postcard};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = postcard::decode(bytes) {
        let mut encoded = Vec::new();
        postcard::encode(&record, &mut encoded).expect("a record encodes");
        assert_eq!(postcard::decode(&encoded).as_ref(), Ok(&record));
        let mut text = Vec::new();
        json::encode(&record, &mut text).expect("a record encodes");
        assert_eq!(json::decode(&text), Ok(record));
    }
});
