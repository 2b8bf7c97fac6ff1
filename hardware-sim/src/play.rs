//! `hardware-sim play`: feeds a recording into a serial line, at its pace.

use std::{io, path::Path, time::Duration};

use crate::link::pty::port::{Port, TICK};

/// Feeds `recording` to whoever opens the line, `bytes_per_second` at most; waits until the line is open, and gives
/// the last byte time to be read. Returns how many bytes went out.
///
/// # Errors
/// The line cannot be made or written.
pub fn play(
    recording: &[u8],
    dir: &Path,
    name: &str,
    bytes_per_second: u32,
    repeat: bool,
    mut go_on: impl FnMut() -> bool,
) -> io::Result<u64> {
    std::fs::create_dir_all(dir)?;
    let port = Port::open(dir, name)?;
    // A piece each tick; as fast as a line of ten bits a byte would be.
    let piece = usize::try_from(bytes_per_second / 50).unwrap_or(1).max(1);
    let mut sent = 0;
    let mut at = 0;
    let mut drained = false;
    while go_on() {
        let open = port.wait(TICK, at < recording.len())?;
        if !open {
            std::thread::sleep(TICK);
            if drained {
                return Ok(sent);
            }
            continue;
        }
        if at == recording.len() {
            if repeat && !recording.is_empty() {
                at = 0;
            } else {
                // Whoever reads it closes when it has enough.
                drained = true;
                std::thread::sleep(TICK);
                continue;
            }
        }
        let end = (at + piece).min(recording.len());
        let written = port.write(&recording[at..end])?;
        at += written;
        sent += written as u64;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(sent)
}
