//! `--keep`: the play runs in a process of its own that stays when the verdict stands, and this one only
//! shows what it writes. So the prompt comes back, and a closed terminal ends nothing.
//!
//! ```text
//! target/demo.log          what the staying process writes
//! target/demo-kept.json    who it is and how the verdict was; there only while it stays
//! ```

use std::{
    fs::{self, File},
    io::{IsTerminal, Read, Write, stdout},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    interrupt::Interrupt,
    process::{Identity, Process},
};

/// How long the staying process may take to end what it started.
const ENDED: Duration = Duration::from_secs(60);

/// What the staying process leaves for others to read.
#[derive(Serialize, Deserialize)]
struct Kept {
    process: Identity,
    clean: bool,
}

impl Kept {
    /// The one that stays now.
    fn current() -> Result<Option<Self>> {
        let text = match fs::read(kept_file()) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("read target/demo-kept.json"),
        };
        let kept: Self = serde_json::from_slice(&text).context("read target/demo-kept.json")?;
        Ok(kept.process.runs().then_some(kept))
    }
}

/// Fails when an earlier demo stays: a second one would take its folder away.
///
/// # Errors
/// One stays.
pub fn none_stays() -> Result<()> {
    match Kept::current()? {
        Some(kept) => bail!(
            "an earlier demo still runs (pid {}): end it with dev/demo --stop",
            kept.process.pid
        ),
        None => Ok(()),
    }
}

/// Starts the staying process and shows it until its verdict.
///
/// # Errors
/// It cannot be started, or ended without a verdict.
pub fn show(real: bool, house: bool) -> Result<ExitCode> {
    none_stays()?;
    let interrupt = Interrupt::catch()?;
    let log = crate::target().join("demo.log");
    let written = File::create(&log).with_context(|| format!("write {}", log.display()))?;
    let mut command = Command::new(crate::binary("rig")?);
    command.args(["demo", "--staying"]);
    if real {
        command.arg("--real");
    }
    if house {
        command.arg("--house");
    }
    if stdout().is_terminal() {
        command.arg("--live");
    }
    command
        .stdin(Stdio::null())
        .stdout(written.try_clone()?)
        .stderr(written);
    let mut staying = Process::spawn_with("rig demo", &mut command)?;
    let mut shown = File::open(&log)?;
    loop {
        // Asked before the rest is read, so that nothing written before the end is left out.
        let ended = !staying.runs();
        let kept = Kept::current()?;
        let mut text = Vec::new();
        shown.read_to_end(&mut text)?;
        // Nobody looks at a screen that is gone; the play goes on to its verdict.
        drop(stdout().write_all(&text).and_then(|()| stdout().flush()));
        if let Some(kept) = kept {
            staying.left_running();
            return Ok(code(kept.clean));
        }
        if ended {
            bail!("the demo ended before its verdict; see {}", log.display());
        }
        if interrupt.came() {
            staying.stop(ENDED)?;
            bail!("interrupted");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The staying process leaves the terminal's session: neither Ctrl-C nor a closed window is meant for it.
///
/// # Errors
/// It leads a session already.
pub fn leave_terminal() -> Result<()> {
    rustix::process::setsid().context("leave the terminal")?;
    Ok(())
}

/// A sign that the verdict stands and the process stays. Goes with this value.
pub struct Sign(());

impl Sign {
    /// Sets it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set(clean: bool) -> Result<Self> {
        let kept = Kept {
            process: Identity::own()?,
            clean,
        };
        let mut file = tempfile::NamedTempFile::new_in(crate::target())?;
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.persist(kept_file())?;
        Ok(Self(()))
    }
}

impl Drop for Sign {
    fn drop(&mut self) {
        // It names a process that is gone then, which whoever reads it sees.
        drop(fs::remove_file(kept_file()));
    }
}

/// Ends what `--keep` left running.
///
/// # Errors
/// It did not end.
pub fn stop() -> Result<ExitCode> {
    let Some(kept) = Kept::current()? else {
        println!("no demo runs");
        return Ok(ExitCode::SUCCESS);
    };
    Process::found("rig demo", kept.process).stop(ENDED)?;
    println!("ended");
    Ok(ExitCode::SUCCESS)
}

/// The exit code of a verdict.
pub fn code(clean: bool) -> ExitCode {
    if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn kept_file() -> PathBuf {
    crate::target().join("demo-kept.json")
}
