//! Directories and small files, made durable.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::fault::step;

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates a directory so that it is there after a power cut.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    dir.parent().map_or(Ok(()), sync_dir)
}

/// Writes a small file as a whole: there is the old one or the new one, never a part.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    step("replace: written")?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    step("replace: renamed")?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Whether the disk takes a page now: written, durable, removed again.
pub fn probe(dir: &Path) -> io::Result<()> {
    let path = dir.join("probe");
    let mut file = File::create(&path)?;
    file.write_all(&[0; 4096])?;
    step("probe: written")?;
    file.sync_data()?;
    fs::remove_file(&path)
}

/// Deletes a directory. A crash half-way must not leave something that opens as an empty store, so it is
/// renamed first; what a crash leaves is cleared at the next start.
pub fn remove_dir(dir: &Path) -> io::Result<()> {
    let dead = renamed(dir, "dead");
    step("remove: before rename")?;
    fs::rename(dir, &dead)?;
    step("remove: renamed")?;
    dir.parent().map_or(Ok(()), sync_dir)?;
    step("remove: before delete")?;
    fs::remove_dir_all(&dead)
}

/// Sets a directory aside for a human.
pub fn quarantine_dir(dir: &Path) -> io::Result<()> {
    step("quarantine: before rename")?;
    fs::rename(dir, renamed(dir, "bad"))?;
    step("quarantine: renamed")?;
    dir.parent().map_or(Ok(()), sync_dir)
}

fn renamed(dir: &Path, extension: &str) -> PathBuf {
    let mut free = dir.with_extension(extension);
    let mut n = 1;
    while free.exists() {
        free = dir.with_extension(format!("{n}.{extension}"));
        n += 1;
    }
    free
}

/// Bytes that unprivileged writers may still take from the file system of `dir`.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes of all files below `dir`; what vanishes meanwhile counts nothing.
pub fn dir_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, meta)| {
            if meta.is_dir() {
                dir_bytes(&path)
            } else {
                meta.len()
            }
        })
        .sum()
}
