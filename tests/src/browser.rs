//! A real browser, without a window: Debian's chromium. It runs as root in a container, where it can make no sandbox
//! of its own; what it opens is ours, on loopback.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::process::Process;

/// Names under which it is known.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// For one page; the machine is shared.
const PATIENCE: Duration = Duration::from_secs(180);
/// Time as the page sees it, so that it has polled twice; it passes as fast as the answers come.
const VIRTUAL_MS: u32 = 3000;

/// A browser with a profile of its own, gone with this value.
#[derive(Debug)]
pub struct Browser {
    program: PathBuf,
    profile: TempDir,
}

/// Which colours the user prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

impl Browser {
    /// The browser; `None` where there is none.
    ///
    /// # Errors
    /// No folder for its profile can be made.
    pub fn find() -> Result<Option<Self>> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut candidates = NAMES.iter().flat_map(|name| {
            let folders = std::env::split_paths(&path);
            folders.map(|folder| folder.join(name)).collect::<Vec<_>>()
        });
        let Some(program) = candidates.find(|candidate| candidate.is_file()) else {
            return Ok(None);
        };
        let profile = tempfile::tempdir()?;
        Ok(Some(Self { program, profile }))
    }

    /// The document as it is after its script has run.
    ///
    /// # Errors
    /// The browser fails, or takes too long.
    pub fn document(&self, url: &str) -> Result<String> {
        let out = self.profile.path().join("document.html");
        self.run(&["--dump-dom".to_owned(), url.to_owned()], Some(&out))?;
        Ok(std::fs::read_to_string(out)?)
    }

    /// A picture of it as PNG, `width` pixels wide.
    ///
    /// # Errors
    /// The browser fails, or takes too long.
    pub fn picture(&self, url: &str, width: u32, scheme: Scheme, to: &Path) -> Result<()> {
        let mut arguments = vec![
            format!("--window-size={width},1600"),
            format!("--screenshot={}", to.display()),
        ];
        if scheme == Scheme::Dark {
            arguments.push("--force-dark-mode".to_owned());
        }
        arguments.push(url.to_owned());
        self.run(&arguments, None)?;
        let size = std::fs::metadata(to).with_context(|| format!("no {}", to.display()))?;
        ensure!(size.len() > 10_000, "{} shows nothing", to.display());
        Ok(())
    }

    fn run(&self, arguments: &[String], out: Option<&Path>) -> Result<()> {
        let log = self.profile.path().join("log");
        let stdout = match out {
            Some(out) => Stdio::from(std::fs::File::create(out)?),
            None => Stdio::null(),
        };
        let mut command = Command::new(&self.program);
        command
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
            ])
            .args(["--disable-dev-shm-usage", "--no-first-run"])
            .arg(format!("--virtual-time-budget={VIRTUAL_MS}"))
            .arg(format!(
                "--user-data-dir={}",
                self.profile.path().join("profile").display()
            ))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(std::fs::File::create(&log)?);
        let mut browser = Process::spawn_with("chromium", &mut command)?;
        let status = browser
            .wait(PATIENCE)?
            .context("the browser has no status")?;
        ensure!(
            status.success(),
            "the browser ended with {status}\n{}",
            crate::end_of(&log)
        );
        Ok(())
    }
}
