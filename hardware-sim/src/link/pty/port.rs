//! A pseudo terminal whose other end the agent opens under a stable name.
//!
//! We keep no slave end open ourselves: a terminal that was opened exclusively stays so until its last
//! end is closed, and an agent that comes back after a kill must get it. So the master tells whether
//! anybody listens (no hang-up). The slave is opened and closed once at the start, since before the first
//! opening Linux reports no hang-up.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{Mode, OFlags},
    io::Errno,
    pty::OpenptFlags,
    termios::OptionalActions,
};

/// Longest sleep, so that orders and the end are noticed.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// One pseudo terminal under a stable name. Dropping it is pulling the plug.
pub(crate) struct Port {
    master: OwnedFd,
    name: PathBuf,
}

impl Port {
    /// Makes the terminal and gives it the device's name.
    pub fn open(dir: &Path, device: &str) -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        let slave_path = rustix::pty::ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(slave_path.as_c_str(), flags, Mode::empty())?;
        let mut settings = rustix::termios::tcgetattr(&slave)?;
        settings.make_raw();
        rustix::termios::tcsetattr(&slave, OptionalActions::Now, &settings)?;
        drop(slave);
        let name = dir.join(device.replace('/', "%2F"));
        let fresh = dir.join(format!(".{}.new", device.replace('/', "%2F")));
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        rustix::fs::symlink(slave_path.as_c_str(), &fresh)?;
        std::fs::rename(&fresh, &name)?;
        Ok(Self { master, name })
    }

    /// Waits until there is something to do; says whether somebody has the other end open.
    pub fn wait(&self, timeout: Duration, to_write: bool) -> io::Result<bool> {
        let mut wanted = PollFlags::IN;
        if to_write {
            wanted |= PollFlags::OUT;
        }
        let mut fds = [PollFd::new(&self.master, wanted)];
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: timeout.min(TICK).subsec_nanos().into(),
        };
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(!fds[0].revents().contains(PollFlags::HUP))
    }

    /// What the other end wrote; nothing when there is nothing, or nobody.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match rustix::io::read(&self.master, buffer) {
            Ok(count) => Ok(count),
            // EIO: nobody has the other end open.
            Err(Errno::AGAIN | Errno::INTR | Errno::IO) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// How many bytes found room; none when nobody has the other end open.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match rustix::io::write(&self.master, bytes) {
            Ok(count) => Ok(count),
            Err(Errno::AGAIN | Errno::INTR | Errno::IO) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.name) {
            tracing::warn!(name = %self.name.display(), %error, "name of a pty is gone already");
        }
    }
}
