//! The directory of a lane: whose it is, and what lies in it.
//!
//! `<topic>` is the lane that takes the readings of this gateway. What is recorded for another gateway,
//! or was brought from elsewhere, lies beside it as `<topic>@<gateway>` and only drains. The file `lane`
//! inside has the truth; the name is for people.

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
    fault::step,
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

/// A lane's directory, locked by this process.
#[derive(Debug)]
pub(super) struct Place {
    pub path: PathBuf,
    pub gateway: GatewayId,
    pub topic: Topic,
    _lock: File,
}

impl Place {
    /// The lane that takes the readings of this gateway for this topic, made if there is none. One that
    /// is recorded for another gateway is set aside first; one of this gateway that was is taken back.
    pub fn claim(dir: &Path, gateway: &GatewayId, topic: &Topic) -> Result<Self, OpenError> {
        let path = dir.join(topic.as_str());
        let io = |source| OpenError::Io {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(dir).map_err(io)?;
        if path.try_exists().map_err(io)? {
            let place = Self::lock(path.clone(), Some((gateway.clone(), topic.clone())))?;
            if place.gateway == *gateway {
                return Ok(place);
            }
            // Still locked while it moves.
            let aside = free_name(dir, topic, &place.gateway);
            tracing::warn!(lane = %topic, owner = %place.gateway, aside = %aside.display(),
                "queue belongs to another gateway, it drains as recorded");
            rename(&path, &aside).map_err(io)?;
        }
        let own = dir.join(aside_name(topic, gateway));
        if owner(&own).is_some_and(|owner| owner == (gateway.clone(), topic.clone())) {
            rename(&own, &path).map_err(io)?;
        }
        files::create_dir(&path).map_err(io)?;
        Self::lock(path, Some((gateway.clone(), topic.clone())))
    }

    /// A lane as it is recorded. Where the record is damaged, the name tells whose it is: this gateway's,
    /// unless it says another.
    pub fn recorded(dir: &Path, name: &str, gateway: &GatewayId) -> Result<Self, OpenError> {
        let mut parts = name.split('@');
        let topic = parts.next().and_then(|topic| topic.parse().ok());
        let gateway = match parts.next() {
            Some(named) => named.parse().ok(),
            None => Some(gateway.clone()),
        };
        Self::lock(dir.join(name), gateway.zip(topic))
    }

    /// Locks the directory and reads whose it is. Where that is damaged or missing, it is `otherwise`.
    pub fn lock(path: PathBuf, otherwise: Option<(GatewayId, Topic)>) -> Result<Self, OpenError> {
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
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(OpenError::InUse(path)),
            Err(error) => return Err(io(error.into())),
        }
        let (gateway, topic) = match lane_of(&fs::read(&name).map_err(io)?) {
            Ok(owner) => owner,
            Err(error @ EnvelopeError::Newer(_)) => return Err(newer(&name, error)),
            Err(EnvelopeError::Damaged) => {
                let (gateway, topic) = otherwise.ok_or_else(|| OpenError::Nobody(path.clone()))?;
                let body = lane_body(&gateway, &topic);
                file.set_len(0)
                    .and_then(|()| file.write_all_at(&body, 0))
                    .and_then(|()| file.sync_all())
                    .and_then(|()| files::sync_dir(&path))
                    .map_err(io)?;
                (gateway, topic)
            }
        };
        Ok(Self {
            path,
            gateway,
            topic,
            _lock: file,
        })
    }

    /// The name of the directory.
    pub fn name(&self) -> &str {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.unwrap_or(self.topic.as_str())
    }
}

/// One step for a crash: the lane is at the old place or at the new one.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step("aside: before rename")?;
    fs::rename(from, to)?;
    step("aside: renamed")?;
    to.parent().map_or(Ok(()), files::sync_dir)
}

/// Names of files have 255 bytes at most, topics up to 249.
fn aside_name(topic: &Topic, gateway: &GatewayId) -> String {
    format!("{:.180}@{gateway}", topic.as_str())
}

/// Where a lane of that gateway can be set aside.
pub(super) fn free_name(dir: &Path, topic: &Topic, gateway: &GatewayId) -> PathBuf {
    let name = aside_name(topic, gateway);
    let names = (1..).map(|n| match n {
        1 => dir.join(&name),
        n => dir.join(format!("{name}@{n}")),
    });
    let mut free = names.skip_while(|path| path.exists());
    free.next().unwrap_or_default()
}

/// Whose lane the directory is, if that can be read.
pub(super) fn owner(path: &Path) -> Option<(GatewayId, Topic)> {
    lane_of(&fs::read(path.join("lane")).ok()?).ok()
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

/// How many segments are in quarantine.
pub(super) fn quarantined(path: &Path) -> io::Result<u64> {
    Ok(with_extension(path, "bad")?.len() as u64)
}

/// Bytes of what lies beside the segments, and of those in quarantine.
pub(super) fn other_bytes(path: &Path) -> u64 {
    let bad = with_extension(path, "bad").unwrap_or_default();
    let bad: u64 = bad.iter().map(|entry| files::dir_bytes(entry)).sum();
    let beside = ["head", "dropped"].map(|name| fs::metadata(path.join(name)));
    bad + beside
        .into_iter()
        .flatten()
        .map(|meta| meta.len())
        .sum::<u64>()
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
