//! Pseudo terminals: a line with a device behind it, or a screen at which nobody sits.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Result, anyhow};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

/// Both ends of a pseudo terminal.
#[derive(Debug)]
pub struct Terminal {
    /// The end of whoever plays the device, or looks at the screen.
    pub device: OwnedFd,
    /// The end of the program.
    pub program: OwnedFd,
    /// The name of the program's end.
    pub path: PathBuf,
}

impl Terminal {
    /// A new one.
    ///
    /// # Errors
    /// None can be had.
    pub fn open() -> Result<Self> {
        let device = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&device)?;
        unlockpt(&device)?;
        let path = ptsname(&device, Vec::new())?;
        let path = Path::new(std::ffi::OsStr::from_bytes(path.as_bytes())).to_owned();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let program = rustix::fs::open(&path, flags, Mode::empty())?;
        Ok(Self {
            device,
            program,
            path,
        })
    }
}

/// Runs a command of which somebody sees the errors, while its answer goes into a pipe: the answer, and what was
/// drawn.
///
/// # Errors
/// It cannot be run.
pub fn seen(mut command: Command) -> Result<(Output, String)> {
    let Terminal {
        device, program, ..
    } = Terminal::open()?;
    let size = Winsize {
        ws_row: 24,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&program, size)?;
    command
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(program);
    let child = command.spawn()?;
    // It holds the program's end, too, and the last one to close it ends what is read.
    drop(command);
    let screen = std::thread::spawn(move || read_to_hangup(File::from(device)));
    let output = child.wait_with_output()?;
    let drawn = screen.join().map_err(|_| anyhow!("reading panicked"))??;
    Ok((output, String::from_utf8_lossy(&drawn).into_owned()))
}

/// A terminal whose other end was closed fails instead of ending.
fn read_to_hangup(mut device: File) -> Result<Vec<u8>> {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match device.read(&mut buffer) {
            Ok(0) => return Ok(all),
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Ok(all),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}
