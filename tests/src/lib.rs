//! The harness: real services on loopback, the real daemons as processes, and verbs to pull plugs.
//!
//! ```text
//! browser   chromium without a window
//! cache     what is downloaded once (Kafka, Java, a registry, a MongoDB wire server)
//! process   one process, ended by exactly who started it
//! service   how each service is prepared, started and known to be ready
//! stack     several services with their ports and data: `dev/stack`, or a test's own
//! embedded  Kafka and MQTT without Java and root, in one helper process
//! daemon    edge-agent and cloud-sink as processes with a configuration and a status page
//! terminal  pseudo terminals: lines, and a screen at which nobody sits
//! tls_door  TLS in front of a server: certificates that are wrong, or asked of clients
//! link      a TCP connection that is slow, loses, breaks, and a way to make clients take it
//! memory_limit a box with little memory
//! wall_clock the time of day as a daemon sees it, wrong on demand
//! rig       one pipeline: agent, sink, devices, on services that can be taken away
//! demo      the main job, watched
//! chaos     plugs pulled in tight loops, and what was promised held against what arrived
//! ```
//!
//! Nothing here is used by the product. Every failure to set something up is a failed test, never a
//! skipped one.
// The harness exists to be read by people at a terminal and to fail loudly.
#![allow(clippy::print_stdout)]

pub mod browser;
pub mod cache;
pub mod chaos;
pub mod daemon;
pub mod demo;
pub mod embedded;
pub mod interrupt;
pub mod link;
pub mod memory_limit;
pub mod port;
pub mod process;
pub mod rig;
pub mod service;
pub mod stack;
pub mod terminal;
pub mod tls_door;
pub mod wait;
pub mod wall_clock;

use std::path::{Path, PathBuf};

/// The root of the source tree.
#[must_use]
pub fn tree() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// Where everything that is made goes, so that a clean clone leaves nothing behind elsewhere.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tree().join("target"), PathBuf::from)
}

/// A binary of this workspace, beside the one that runs now; or what is in the folder that `TESTED_PROGRAMS` names.
///
/// # Errors
/// It has not been built.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let instead =
        std::env::var_os("TESTED_PROGRAMS").map(|folder| PathBuf::from(folder).join(name));
    if let Some(instead) = instead.filter(|instead| instead.is_file()) {
        return Ok(instead);
    }
    let own = std::env::current_exe()?;
    // target/debug/rig, or target/debug/deps/pipeline-0123456789abcdef
    let beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file());
    beside.ok_or_else(|| {
        anyhow::anyhow!("{name} is not built; run `cargo build --workspace` (dev/test does)")
    })
}

/// The last lines of a log, for the message of a failure.
#[must_use]
pub fn end_of(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.len().saturating_sub(20);
    format!("end of {}:\n{}", log.display(), lines[end..].join("\n"))
}
