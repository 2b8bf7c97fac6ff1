//! What a process has used, by the kernel's own account.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// Ticks of `/proc/PID/stat` a second: a constant of Linux' interface, whatever the kernel's clock.
const TICKS: f64 = 100.0;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// On all cores, in the program and in the kernel for it.
    pub cpu: Duration,
    /// Memory now.
    pub rss: u64,
    /// Most memory so far.
    pub peak: u64,
    /// Bytes it made the disk write: whole pages.
    pub written: u64,
}

impl Usage {
    /// Of a process.
    ///
    /// # Errors
    /// It is gone.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            fs::read_to_string(format!("/proc/{pid}/{file}"))
                .with_context(|| format!("read {file} of {pid}"))
        };
        Ok(Self {
            cpu: cpu(&read("stat")?).context("read the CPU time of a process")?,
            rss: kib(&read("status")?, "VmRSS:").context("read VmRSS")?,
            peak: kib(&read("status")?, "VmHWM:").context("read VmHWM")?,
            written: field(&read("io")?, "write_bytes:").context("read write_bytes")?,
        })
    }

    /// Of this process.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn own() -> Result<Self> {
        Self::of(std::process::id())
    }

    /// What was used since an earlier look; memory as it is now.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            written: self.written.saturating_sub(earlier.written),
            ..self
        }
    }
}

fn cpu(stat: &str) -> Option<Duration> {
    // The name in parentheses may hold anything, even spaces and parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    // Fields 14 and 15 of proc(5); the first after the name is field 3.
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(Duration::from_secs_f64((user + system) / TICKS))
}

fn kib(status: &str, name: &str) -> Option<u64> {
    field(status, name).map(|kib| kib * 1024)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_user_and_system_time_whatever_the_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 12345 0";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
    }

    #[test]
    fn this_process_has_memory_and_a_peak() {
        let usage = Usage::own().unwrap();
        assert!(usage.rss > 0 && usage.peak >= usage.rss);
    }
}
