//! The time of day as a daemon sees it, wrong on demand (`tests/shim/wallclock.c`), and whether the
//! agent is told that it is synchronised.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::chaos::shim;

/// Microseconds of an average year.
pub const YEAR: i64 = 31_556_952_000_000;

/// A clock of the processes that are started with it.
#[derive(Debug)]
pub struct WallClock {
    library: PathBuf,
    control: File,
    control_path: PathBuf,
    marker: PathBuf,
}

impl WallClock {
    /// A clock that is right and not known to be. Its files are in `dir`.
    ///
    /// # Errors
    /// The C compiler is missing, or a file cannot be written.
    pub fn new(dir: &Path) -> Result<Self> {
        let path = dir.join("wall-clock");
        let clock = Self {
            library: shim::library("wallclock.c")?,
            control: File::create(&path)?,
            control_path: path.canonicalize()?,
            marker: dir.canonicalize()?.join("clock-synchronised"),
        };
        clock.set(0)?;
        Ok(clock)
    }

    /// What a process needs in its environment to have this clock.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, PathBuf)> {
        vec![
            ("LD_PRELOAD".to_owned(), self.library.clone()),
            ("WALLCLOCK_CONTROL".to_owned(), self.control_path.clone()),
            ("EDGE_AGENT_CLOCK_MARKER".to_owned(), self.marker.clone()),
        ]
    }

    /// Sets it so many microseconds ahead of the right time; behind, where negative.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set(&self, ahead_us: i64) -> Result<()> {
        Ok(self.control.write_all_at(&ahead_us.to_ne_bytes(), 0)?)
    }

    /// What a time service does: sets the clock right and says so.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn synchronise(&self) -> Result<()> {
        self.set(0)?;
        Ok(fs::write(&self.marker, [])?)
    }
}

#[cfg(test)]
mod tests {
    use super::{WallClock, YEAR};

    #[test]
    fn a_process_with_a_wrong_clock_sees_it() {
        let dir = tempfile::tempdir().unwrap();
        let clock = WallClock::new(dir.path()).unwrap();
        clock.set(-30 * YEAR).unwrap();
        let mut date = std::process::Command::new("date");
        let environment = clock.environment();
        date.envs(environment).args(["-u", "+%Y"]);
        let said = String::from_utf8(date.output().unwrap().stdout).unwrap();
        let year: i32 = said.trim().parse().unwrap();
        assert!((1990..2015).contains(&year), "{said}");
    }
}
