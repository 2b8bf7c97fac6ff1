//! A fact that is accepted is written so that it reads back the same; a refusal says few words.
//!
//! `dev/fuzz control_fact`
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::control::Fact;

fuzz_target!(|bytes: &[u8]| match Fact::decode(bytes) {
    Ok(fact) => {
        let encoded = fact.encode().expect("a fact encodes");
        assert_eq!(Fact::decode(&encoded), Ok(fact));
    }
    Err(error) => assert!(error.to_string().len() <= 250),
});
