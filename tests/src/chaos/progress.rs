//! How far a run is: a line that stays in place on a terminal, nothing elsewhere.

use std::io::{IsTerminal, Write, stderr};

const WIDTH: u64 = 30;

/// The line.
pub struct Progress {
    name: String,
    end: u64,
    shown: bool,
}

impl Progress {
    /// A line for `end` steps.
    #[must_use]
    pub fn new(name: &str, end: u64) -> Self {
        Self {
            name: name.to_owned(),
            end: end.max(1),
            shown: stderr().is_terminal(),
        }
    }

    /// Shows that `done` steps are behind.
    pub fn at(&self, done: u64) {
        if self.shown {
            let full = done.min(self.end) * WIDTH / self.end;
            let bar: String = (0..WIDTH)
                .map(|at| if at < full { '#' } else { '.' })
                .collect();
            self.print(&format!("\r{:<14} [{bar}] {done}/{}", self.name, self.end));
        }
    }

    fn print(&self, text: &str) {
        // A progress that cannot be shown is no reason to end a run.
        let mut out = stderr();
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            self.print("\r\x1b[K");
        }
    }
}
