//! Stores from elsewhere: out of a dead box's card, into a box that lives.
//!
//! **Salvage** copies what can be read of a lane into a new directory, and repairs the copy as a start
//! would, but reading everything: identities stay, and what is missing is in the ledger of the copy. The
//! card is only read.
//!
//! **Import** copies a lane into the queue of an agent, under a name of its own, where it drains as it is
//! recorded. Its readings come among those of the agent: they are exempt from order, and have the ids they
//! had, so that none is stored twice. The agent may run; it takes up what was imported when it starts next.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
};

use protocol::GatewayId;
use rustix::fs::FlockOperation;

use super::{
    Now, OpenError,
    book::EpochEntry,
    directory::{Place, free_name, owner},
    files,
    head::{self, Found},
    inspect, recover,
    verify::{self, Verified},
};
use crate::config;

/// Read at once; what a card cannot read of it is left out page by page.
const CHUNK: usize = 64 * 1024;
const PAGE: usize = 4096;

/// Why a store could not be brought along.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// A copy would be torn, and the agent goes on sending what it holds.
    #[error("queue {0} is in use: its agent sends it; stop that first")]
    InUse(PathBuf),
    /// It would be a mixture of two.
    #[error("{0} is there already: name a directory that is not")]
    Exists(PathBuf),
    /// Whose readings they are cannot be read.
    #[error("queue {0} does not say whose it is: name the gateway and the topic")]
    Nobody(PathBuf),
    /// The agent holds readings of the same run.
    #[error("queue {path} is in this agent already, as {as_lane}")]
    Known {
        /// What was to be imported.
        path: PathBuf,
        /// The lane that has it.
        as_lane: String,
    },
    /// It would fill the disk.
    #[error("queue {path} needs {needed} bytes, {free} are free")]
    NoRoom {
        /// What was to be imported.
        path: PathBuf,
        /// What it takes, with what must stay free.
        needed: u64,
        /// What there is.
        free: u64,
    },
    /// The repaired copy cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn failed(path: &Path) -> impl Fn(io::Error) -> RescueError {
    let path = path.to_owned();
    move |source| RescueError::Io {
        path: path.clone(),
        source,
    }
}

/// Copies what can be read of the lane in `from` to the new directory `to`, and repairs the copy.
/// `gateway` counts where the lane does not say whose it is. `progress` is told the bytes copied.
///
/// # Errors
/// [`RescueError`].
pub fn salvage(
    from: &Path,
    to: &Path,
    gateway: Option<&GatewayId>,
    now: Now,
    progress: &mut dyn FnMut(u64),
) -> Result<Verified, RescueError> {
    let _held = hold(from)?;
    if to.exists() {
        return Err(RescueError::Exists(to.to_owned()));
    }
    let name = from.file_name().and_then(|name| name.to_str());
    let topic = name.and_then(|name| name.split('@').next()?.parse().ok());
    let otherwise = gateway.cloned().zip(topic);
    if owner(from).is_none() && otherwise.is_none() {
        return Err(RescueError::Nobody(from.to_owned()));
    }
    copy_dir(from, to, progress)?;
    let place = Place::lock(to.to_owned(), otherwise)?;
    let opened = recover::open(
        place,
        &config::Queue::default(),
        Arc::default(),
        now,
        recover::Trust::Nothing,
    )?;
    opened.writer.close(now).map_err(|error| RescueError::Io {
        path: to.to_owned(),
        source: io::Error::other(error),
    })?;
    drop((opened.reader, opened.lane));
    verify::verify(to, || {}).map_err(failed(to))
}

/// Copies the lane in `from` into the queue `dir` of an agent; the name it has there.
///
/// # Errors
/// [`RescueError`].
pub fn import(
    from: &Path,
    dir: &Path,
    min_free_bytes: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<String, RescueError> {
    let _held = hold(from)?;
    let (gateway, topic) = owner(from).ok_or_else(|| RescueError::Nobody(from.to_owned()))?;
    fs::create_dir_all(dir).map_err(failed(dir))?;
    if let Some(as_lane) = known(from, dir)? {
        let path = from.to_owned();
        return Err(RescueError::Known { path, as_lane });
    }
    let needed = files::dir_bytes(from).saturating_add(min_free_bytes);
    let free = files::free_bytes(dir).map_err(failed(dir))?;
    if free < needed {
        let path = from.to_owned();
        return Err(RescueError::NoRoom { path, needed, free });
    }
    // Beside the lanes, so that an agent that starts now does not see half of it.
    let staging = dir.with_file_name("import.new");
    if staging.exists() {
        fs::remove_dir_all(&staging).map_err(failed(&staging))?;
    }
    copy_dir(from, &staging, progress)?;
    give(&staging, &fs::metadata(dir).map_err(failed(dir))?)?;
    let to = free_name(dir, &topic, &gateway);
    fs::rename(&staging, &to)
        .and_then(|()| files::sync_dir(dir))
        .map_err(failed(&to))?;
    let name = to.file_name().unwrap_or_default();
    Ok(name.to_string_lossy().into_owned())
}

/// The lane of the agent that has a run of this store as well.
fn known(from: &Path, dir: &Path) -> Result<Option<String>, RescueError> {
    let epochs = |path: &Path| -> Result<Vec<EpochEntry>, RescueError> {
        let found = head::read(path).map_err(|error| failed(path)(io::Error::other(error)))?;
        Ok(match found.map_err(failed(path))? {
            Found::Book { book, .. } => book.epochs,
            Found::Nothing | Found::Damaged => Vec::new(),
        })
    };
    let theirs = epochs(from)?;
    for name in inspect::lanes(dir).map_err(failed(dir))? {
        let path = dir.join(&name);
        let ours = epochs(&path)?;
        let both = |entry: &EpochEntry| ours.iter().any(|have| have.epoch == entry.epoch);
        if theirs.iter().any(both) && owner(&path) == owner(from) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Keeps an agent from starting on the store while it is copied.
fn hold(from: &Path) -> Result<Option<File>, RescueError> {
    let name = from.join("lane");
    let file = match File::open(&name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Its directory must be there all the same.
            return fs::metadata(from.join("segments"))
                .map(|_| None)
                .map_err(failed(from));
        }
        other => other.map_err(failed(&name))?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(RescueError::InUse(from.to_owned())),
        Err(error) => Err(failed(&name)(error.into())),
    }
}

/// Gives everything to the owner of the queue: an operator imports as root, the agent runs as itself.
fn give(path: &Path, queue: &fs::Metadata) -> Result<(), RescueError> {
    let meta = fs::symlink_metadata(path).map_err(failed(path))?;
    if (meta.uid(), meta.gid()) != (queue.uid(), queue.gid()) {
        chown(path, Some(queue.uid()), Some(queue.gid())).map_err(failed(path))?;
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path).map_err(failed(path))? {
            give(&entry.map_err(failed(path))?.path(), queue)?;
        }
    }
    Ok(())
}

/// Copies files and directories, durably, without what is being deleted.
fn copy_dir(from: &Path, to: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), RescueError> {
    fs::create_dir_all(to).map_err(failed(to))?;
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let entry = entry.map_err(failed(from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(failed(&path))?;
        if kind.is_dir() && path.extension().is_none_or(|extension| extension != "dead") {
            copy_dir(&path, &target, progress)?;
        } else if kind.is_file() {
            copy_file(&path, &target, progress)?;
        }
    }
    files::sync_dir(to).map_err(failed(to))
}

/// Copies a file. Pages that cannot be read become zeros, which recovery takes for the damage it is.
fn copy_file(from: &Path, to: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), RescueError> {
    let mut source = File::open(from).map_err(failed(from))?;
    let mut target = File::create(to).map_err(failed(to))?;
    let (mut at, mut step) = (0, CHUNK);
    let mut buffer = vec![0; CHUNK];
    loop {
        let part = &mut buffer[..step];
        let count = match source.read(part) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) if step > PAGE => {
                step = PAGE;
                continue;
            }
            Err(error) => {
                let length = source.metadata().map_err(failed(from))?.len();
                let left = usize::try_from(length.saturating_sub(at)).unwrap_or(PAGE);
                if left == 0 {
                    return Err(failed(from)(error));
                }
                tracing::warn!(file = %from.display(), offset = at, %error, "a page cannot be read");
                let count = left.min(PAGE);
                part[..count].fill(0);
                count
            }
        };
        target.write_all(&part[..count]).map_err(failed(to))?;
        at += count as u64;
        progress(count as u64);
        source.seek(SeekFrom::Start(at)).map_err(failed(from))?;
    }
    target.sync_all().map_err(failed(to))
}
