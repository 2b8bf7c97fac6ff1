//! A record that is accepted is written so that it reads back the same; a refusal says few words.
//!
//! `dev/fuzz record_json`
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::record::json;

fuzz_target!(|bytes: &[u8]| match json::decode(bytes) {
    Ok(record) => {
        let mut encoded = Vec::new();
        json::encode(&record, &mut encoded).expect("a record encodes");
        assert_eq!(json::decode(&encoded), Ok(record));
    }
    Err(error) => assert!(error.to_string().len() <= 250),
});
