//! A configuration of `edge-agent`: read, or refused with places that are in it.
//!
//! `dev/fuzz agent_config`
#![no_main]

use std::path::Path;

use edge_agent::config::{Secrets, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    // Files that it names are opened: none that never ends.
    if text.contains("/dev") || text.contains("/proc") {
        return;
    }
    if let Err(problems) = parse(Path::new("fuzz.toml"), &text, Secrets::Leave) {
        assert!(!problems.is_empty());
        for (line, _) in problems.iter().filter_map(|problem| problem.at) {
            assert!(line <= text.split('\n').count(), "{problems:?}");
        }
    }
});
