//! One process, ended by exactly who started it.
//!
//! A pid alone names nobody: it is given away again. So a process is known by its pid **and** its
//! start time, and a signal goes through a pidfd whose start time was compared after it was opened;
//! the signal can then only reach that very process.

use std::{
    fs::File,
    io::ErrorKind,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::wait;

/// By when a killed process is gone: it may be in the middle of a write that takes long.
const GONE: Duration = Duration::from_secs(60);

/// What a command said: its output, then its errors.
#[must_use]
pub fn said(output: &Output) -> String {
    let text = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// Who a process is, also after its parent is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// As the kernel counts.
    pub pid: i32,
    /// Clock ticks between the machine's boot and the start of the process.
    pub started: u64,
}

impl Identity {
    fn of(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        Some(Self {
            pid,
            started: stat.started,
        })
    }

    /// This process.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn own() -> Result<Self> {
        Self::of(i32::try_from(std::process::id())?).context("look at this process")
    }

    /// Whether it still runs; a zombie does not.
    #[must_use]
    pub fn runs(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.started == self.started && stat.state != 'Z')
    }

    /// Sends a signal to this process or, if it is gone, to nobody.
    ///
    /// # Errors
    /// Not permitted.
    pub fn signal(self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid).context("pid 0 is no process")?;
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error).context("open pidfd"),
        };
        if Self::of(self.pid) != Some(self) {
            return Ok(());
        }
        match pidfd_send_signal(handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).context("send signal"),
        }
    }
}

/// What is used of `/proc/PID/stat`.
struct Stat {
    state: char,
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything, even spaces and parentheses.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        Some(Self {
            state: fields.next()?.chars().next()?,
            // Field 22 of proc(5); the state is field 3.
            started: fields.nth(18)?.parse().ok()?,
        })
    }
}

fn is_busy(child: &std::io::Result<Child>) -> bool {
    let busy = ErrorKind::ExecutableFileBusy;
    child.as_ref().is_err_and(|error| error.kind() == busy)
}

/// A process that we started, or found again by its identity. Ends with this value unless
/// [`left_running`](Self::left_running).
#[derive(Debug)]
pub struct Process {
    name: String,
    identity: Identity,
    child: Option<Child>,
    ends_with_us: bool,
}

impl Process {
    /// Starts `command` without input, its output going to the end of `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open log {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Self::spawn_with(name, command)
    }

    /// Starts `command` with input and output as they are set on it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn_with(name: &str, command: &mut Command) -> Result<Self> {
        // A program that was written just now may still be open in a child that another thread is starting.
        let mut child = command.spawn();
        let begin = Instant::now();
        while is_busy(&child) && begin.elapsed() < GONE {
            std::thread::sleep(Duration::from_millis(10));
            child = command.spawn();
        }
        let child =
            child.with_context(|| format!("start {name} ({})", command.get_program().display()))?;
        let pid = i32::try_from(child.id())?;
        // A child keeps its pid, as a zombie at least, until it is waited for.
        let identity = Identity::of(pid).with_context(|| format!("look at {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            identity,
            child: Some(child),
            ends_with_us: true,
        })
    }

    /// Takes over a process that an earlier command started.
    #[must_use]
    pub fn found(name: &str, identity: Identity) -> Self {
        Self {
            name: name.to_owned(),
            identity,
            child: None,
            ends_with_us: false,
        }
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The ends of its pipes, where [`spawn_with`](Self::spawn_with) made some.
    pub fn child(&mut self) -> Option<&mut Child> {
        self.child.as_mut()
    }

    /// Lets it run on when this value is gone.
    pub fn left_running(&mut self) {
        self.ends_with_us = false;
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => self.identity.runs(),
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// Not permitted.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.identity
            .signal(signal)
            .with_context(|| format!("signal {}", self.name))
    }

    /// Stops its every thread where it stands, as a machine that hangs.
    ///
    /// # Errors
    /// Not permitted.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Undoes [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// Not permitted.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// Not permitted.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(GONE).map(drop)
    }

    /// SIGTERM, and waits until it is gone; SIGKILL when that takes too long, which is an error.
    /// The exit status is known of children only.
    ///
    /// # Errors
    /// Not permitted, or not gone `within`.
    pub fn stop(&mut self, within: Duration) -> Result<Option<ExitStatus>> {
        self.signal(Signal::TERM)?;
        // A frozen process takes the signal only when it may run again.
        self.thaw()?;
        match self.wait(within) {
            Ok(status) => Ok(status),
            Err(error) => {
                self.kill()?;
                Err(error.context("had to be killed"))
            }
        }
    }

    /// Waits until it is gone.
    ///
    /// # Errors
    /// It still runs after `within`.
    pub fn wait(&mut self, within: Duration) -> Result<Option<ExitStatus>> {
        let Self {
            name,
            identity,
            child,
            ..
        } = self;
        wait::until(&format!("the end of {name}"), within, || match child {
            Some(child) => Ok(child.try_wait()?.map(Some)),
            None => Ok((!identity.runs()).then_some(None)),
        })
    }

    /// Bytes of memory it had at most so far.
    ///
    /// # Errors
    /// It is gone.
    pub fn peak_memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.identity.pid))?;
        let kib: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .context("no VmHWM in the process status")?
            .trim()
            .parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ends_with_us && self.runs() {
            // Nobody is left to be told; the next line of a log would be the wrong place.
            drop(self.kill());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::{Identity, Process};

    fn sleeper() -> Process {
        Process::spawn_with("sleep", Command::new("sleep").arg("60")).unwrap()
    }

    #[test]
    fn a_process_ends_with_the_value_that_stands_for_it() {
        let identity = sleeper().identity();
        assert!(!identity.runs());
    }

    #[test]
    fn a_signal_never_reaches_another_process_with_the_same_pid() {
        let mut process = sleeper();
        let earlier = Identity {
            started: process.identity().started - 1,
            ..process.identity()
        };
        earlier.signal(rustix::process::Signal::KILL).unwrap();
        assert!(process.runs());
    }

    #[test]
    fn a_frozen_process_can_be_stopped() {
        let mut process = sleeper();
        process.freeze().unwrap();
        process.stop(Duration::from_secs(60)).unwrap();
        assert!(!process.runs());
    }
}
