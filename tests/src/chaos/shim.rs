//! The C tools of `tests/shim`, built when they are needed, and the control of a failing disk.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::process::Process;

/// Kinds of calls: the bits of `which` in `faultio.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls(u32);

impl Calls {
    /// `write` and `ftruncate`.
    pub const WRITES: Self = Self(1);
    /// `fsync`, `fdatasync`, `sync_file_range`.
    pub const SYNCS: Self = Self(2);
    /// Making, renaming and removing files and folders.
    pub const NAMES: Self = Self(4);
    /// `read` and `readdir`.
    pub const READS: Self = Self(8);
    /// Opening what is there, and `stat`.
    pub const LOOKS: Self = Self(16);
    /// Whatever a disk that takes nothing more refuses.
    pub const CHANGES: Self = Self(1 | 2 | 4);
    /// Everything.
    pub const ALL: Self = Self(31);
}

/// Errors a disk has, as Linux numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub u32);

impl Errno {
    /// The disk cannot.
    pub const IO: Self = Self(5);
    /// No space left.
    pub const NO_SPACE: Self = Self(28);
    /// The file system has turned read-only.
    pub const READ_ONLY: Self = Self(30);
}

/// A disk that fails on demand, under one folder, for the processes that are started with it.
#[derive(Debug)]
pub struct FaultyDisk {
    library: PathBuf,
    control: File,
    control_path: PathBuf,
    dir: PathBuf,
}

impl FaultyDisk {
    /// A disk without faults so far; the files under `dir` are on it. `control` is a new file.
    ///
    /// # Errors
    /// The C compiler is missing, or a file cannot be written.
    pub fn new(dir: &Path, control: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let library = library("faultio.c")?;
        let disk = Self {
            library,
            control: File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(control)?,
            control_path: control.canonicalize()?,
            dir: dir.canonicalize()?,
        };
        disk.control.set_len(4096)?;
        Ok(disk)
    }

    /// What a process needs in its environment to have this disk.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, PathBuf)> {
        vec![
            ("LD_PRELOAD".to_owned(), self.library.clone()),
            ("FAULTIO_CONTROL".to_owned(), self.control_path.clone()),
            ("FAULTIO_DIR".to_owned(), self.dir.clone()),
        ]
    }

    /// From now on the calls of these kinds are counted from 1, and those numbered `first..=last` fail.
    ///
    /// # Errors
    /// The control file cannot be written.
    pub fn fail(&self, which: Calls, error: Errno, first: u64, last: u64) -> Result<()> {
        // Off while the numbers change.
        self.set32(0, 0)?;
        self.set32(4, error.0)?;
        for (at, number) in [(8, 0), (16, first), (24, last), (32, 0)] {
            self.control.write_all_at(&number.to_ne_bytes(), at)?;
        }
        self.set32(0, which.0)
    }

    /// Every call of these kinds fails until [`heal`](Self::heal).
    ///
    /// # Errors
    /// The control file cannot be written.
    pub fn fail_all(&self, which: Calls, error: Errno) -> Result<()> {
        self.fail(which, error, 1, u64::MAX)
    }

    /// Nothing fails any more.
    ///
    /// # Errors
    /// The control file cannot be written.
    pub fn heal(&self) -> Result<()> {
        self.set32(0, 0)?;
        self.set32(40, 0)?;
        self.set32(44, 0)
    }

    /// Each sync takes so much longer.
    ///
    /// # Errors
    /// The control file cannot be written.
    pub fn slow(&self, milliseconds: u32) -> Result<()> {
        self.set32(40, milliseconds)
    }

    /// Syncs do nothing and say they did: a card whose firmware lies, or a build without them.
    ///
    /// # Errors
    /// The control file cannot be written.
    pub fn lie(&self) -> Result<()> {
        self.set32(44, 1)
    }

    /// Calls counted since [`fail`](Self::fail).
    ///
    /// # Errors
    /// The control file cannot be read.
    pub fn calls(&self) -> Result<u64> {
        self.get64(8)
    }

    /// Of them, how many failed.
    ///
    /// # Errors
    /// The control file cannot be read.
    pub fn failed(&self) -> Result<u64> {
        self.get64(32)
    }

    /// The first call that failed.
    ///
    /// # Errors
    /// The control file cannot be read.
    pub fn what(&self) -> Result<String> {
        let mut bytes = [0; 512];
        self.control.read_exact_at(&mut bytes, 56)?;
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Syncs that took longer.
    ///
    /// # Errors
    /// The control file cannot be read.
    pub fn slept(&self) -> Result<u64> {
        self.get64(48)
    }

    fn set32(&self, at: u64, value: u32) -> Result<()> {
        Ok(self.control.write_all_at(&value.to_ne_bytes(), at)?)
    }

    fn get64(&self, at: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, at)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

/// One thread of a process that stands still, until this is dropped.
#[derive(Debug)]
pub struct Frozen(Child);

impl Frozen {
    /// Stops the thread of this name (the first 15 bytes, as Linux keeps it). `None` where the machine does
    /// not let one process stop another's thread.
    ///
    /// # Errors
    /// There is no such thread, or the C compiler is missing.
    pub fn thread(of: &Process, name: &str) -> Result<Option<Self>> {
        let mut child = Command::new(program("freeze.c")?)
            .arg(of.identity().pid.to_string())
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = String::new();
        let out = child.stdout.take().context("no standard output")?;
        BufReader::new(out).read_line(&mut said)?;
        if said == "frozen\n" {
            return Ok(Some(Self(child)));
        }
        let status = child.wait()?;
        ensure!(status.code() == Some(77), "freeze {name}: {status}");
        Ok(None)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

/// A program of `tests/shim`.
///
/// # Errors
/// It cannot be compiled.
pub fn program(source: &str) -> Result<PathBuf> {
    built(source, &[])
}

/// A library of `tests/shim`, to be preloaded.
///
/// # Errors
/// It cannot be compiled.
pub fn library(source: &str) -> Result<PathBuf> {
    built(source, &["-shared", "-fPIC"])
}

/// Compiles a file of `tests/shim` into `target/shim`, unless a build newer than it is there.
fn built(source: &str, flags: &[&str]) -> Result<PathBuf> {
    let from = crate::tree().join("tests/shim").join(source);
    let dir = crate::target().join("shim");
    fs::create_dir_all(&dir)?;
    let dir = dir.canonicalize()?;
    let to = dir.join(source.trim_end_matches(".c"));
    let time = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    if let (Ok(made), Ok(written)) = (time(&to), time(&from))
        && made > written
    {
        return Ok(to);
    }
    // Tests run side by side: each builds for itself, the last one stays.
    let scratch = tempfile::NamedTempFile::new_in(&dir)?.into_temp_path();
    let mut cc = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    cc.args(["-O1", "-Wall", "-Wextra"]).args(flags);
    cc.arg("-o").arg(&scratch).arg(&from);
    let done = cc
        .output()
        .context("start the C compiler; install gcc or set CC")?;
    let errors = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "compile {source}: {errors}");
    scratch.persist(&to)?;
    Ok(to)
}
