//! A box with little memory: a control group whose processes get so much and no more.
//!
//! The kernel takes back what it can of the page cache; when that is not enough it ends a process, as on
//! the small box. Root is needed, and version 1 or 2 of control groups.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// A control group. It goes with this value, once its processes have ended.
#[derive(Debug)]
pub struct MemoryLimit {
    dir: PathBuf,
}

impl MemoryLimit {
    /// So many bytes for what [`program`](Self::program) starts.
    ///
    /// # Errors
    /// Not root, or this machine has no control groups for memory.
    pub fn new(bytes: u64) -> Result<Self> {
        let root = Path::new(ROOT);
        let name = format!("edge-test-{:016x}", RandomState::new().hash_one(()));
        let (dir, file) = if root.join("cgroup.controllers").exists() {
            fs::write(root.join("cgroup.subtree_control"), "+memory")?;
            (root.join(name), "memory.max")
        } else {
            (root.join("memory").join(name), "memory.limit_in_bytes")
        };
        fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        let limit = Self { dir };
        fs::write(limit.dir.join(file), bytes.to_string()).context("limit memory")?;
        Ok(limit)
    }

    /// A program that is `program` within the limit from its first byte on; a script in `dir`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn program(&self, program: &Path, dir: &Path) -> Result<PathBuf> {
        let script = dir.join("within-memory-limit");
        let text = format!(
            "#!/bin/sh\necho $$ > '{}/cgroup.procs' && exec '{}' \"$@\"\n",
            self.dir.display(),
            program.display()
        );
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        Ok(script)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // Refused while a process is in it, which then ends with whoever started it.
        drop(fs::remove_dir(&self.dir));
    }
}
