//! The directory of a lane: whose it is, and what lies in it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use protocol::{GatewayId, Topic};

use super::{
    OpenError,
    envelope::{self, EnvelopeError},
    files,
    segment::UNFINISHED,
};

/// Quarantined segments kept for a human, per lane.
const MAX_BAD: usize = 4;
const LANE_VERSION: u8 = 1;

pub(super) fn newer(path: &Path, error: EnvelopeError) -> OpenError {
    match error {
        EnvelopeError::Newer(found) => OpenError::Newer {
            path: path.to_owned(),
            found: found.into(),
            known: 1,
        },
        EnvelopeError::Damaged => OpenError::Io {
            path: path.to_owned(),
            source: io::ErrorKind::InvalidData.into(),
        },
    }
}

/// The file `lane`: envelope around postcard of (gateway, topic). Locked while a process has the lane.
pub(super) fn lock(path: &Path, gateway: &GatewayId, topic: &Topic) -> Result<File, OpenError> {
    let name = path.join("lane");
    let io = |source| OpenError::Io {
        path: name.clone(),
        source,
    };
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&name)
        .map_err(io)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(OpenError::InUse(path.to_owned())),
        Err(error) => return Err(io(error.into())),
    }
    let bytes = fs::read(&name).map_err(io)?;
    match lane_of(&bytes) {
        Ok((owner, _)) if owner != *gateway => Err(OpenError::Foreign {
            path: path.to_owned(),
            owner,
        }),
        Ok(_) => Ok(file),
        Err(error @ EnvelopeError::Newer(_)) => Err(newer(&name, error)),
        Err(EnvelopeError::Damaged) => {
            let body = lane_body(gateway, topic);
            file.set_len(0)
                .and_then(|()| file.write_all_at(&body, 0))
                .and_then(|()| file.sync_all())
                .and_then(|()| files::sync_dir(path))
                .map_err(io)?;
            Ok(file)
        }
    }
}

/// The bytes of the file `lane`.
pub(super) fn lane_body(gateway: &GatewayId, topic: &Topic) -> Vec<u8> {
    let body = postcard::to_allocvec(&(gateway, topic)).unwrap_or_default();
    envelope::seal(LANE_VERSION, &body)
}

/// Whose lane it is, and of which topic.
pub(super) fn lane_of(bytes: &[u8]) -> Result<(GatewayId, Topic), EnvelopeError> {
    let body = envelope::open(bytes, LANE_VERSION)?;
    postcard::from_bytes(body).map_err(|_| EnvelopeError::Damaged)
}

/// Deletes what a crash left half deleted or half created.
pub(super) fn clear_dead(path: &Path) -> io::Result<()> {
    let unfinished = with_extension(path, UNFINISHED)?;
    for entry in unfinished.into_iter().chain(with_extension(path, "dead")?) {
        fs::remove_dir_all(&entry)?;
    }
    clear_bad(path)
}

/// Deletes the oldest of what is in quarantine.
pub(super) fn clear_bad(path: &Path) -> io::Result<()> {
    let bad = with_extension(path, "bad")?;
    let surplus = bad.len().saturating_sub(MAX_BAD);
    for entry in &bad[..surplus] {
        fs::remove_dir_all(entry)?;
    }
    Ok(())
}

fn with_extension(path: &Path, wanted: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path.join("segments"))? {
        let entry = entry?.path();
        if entry
            .extension()
            .is_some_and(|extension| extension == wanted)
        {
            found.push(entry);
        }
    }
    found.sort();
    Ok(found)
}

/// Bytes of the head and of what is in quarantine.
pub(super) fn other_bytes(path: &Path) -> u64 {
    let bad = with_extension(path, "bad").unwrap_or_default();
    let bad: u64 = bad.iter().map(|entry| files::dir_bytes(entry)).sum();
    bad + fs::metadata(path.join("head")).map_or(0, |meta| meta.len())
}

/// Numbers of the segments, and the next free one.
pub(super) fn segment_numbers(path: &Path) -> io::Result<(Vec<u32>, u32)> {
    let (mut numbers, mut next) = (Vec::new(), 1);
    for entry in fs::read_dir(path.join("segments"))? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let digits = name.split('.').next().unwrap_or_default();
        if let Ok(number) = digits.parse::<u32>() {
            next = next.max(number + 1);
            if digits.len() == name.len() {
                numbers.push(number);
            }
        }
    }
    numbers.sort_unstable();
    Ok((numbers, next))
}
