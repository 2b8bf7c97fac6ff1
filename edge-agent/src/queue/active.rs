//! The segment that takes commits: made when needed, set aside when it fails, sealed when it is full.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Instant,
};

use super::{fault, files, lane::Life, seal, segment::Segment, writer::Writer};

/// Stores that failed, of which nothing is ever given back: 8 MiB each at most, 6 MiB for sled's table of pages and
/// what its cache holds. Beyond, a new process is better.
const MAX_LEAKED: u32 = 8;

/// How many stores failed in a process, whose bound that of its memory depends on: its lanes count together
/// ([`Writer::counts_with`]), for they are often on one disk.
#[derive(Debug, Clone, Default)]
pub struct Leaked(Arc<AtomicU32>);

impl Leaked {
    fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Whether no store may be made any more.
    pub(super) fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= MAX_LEAKED
    }
}

/// The segment that takes commits.
#[derive(Debug)]
pub(super) struct Active {
    pub number: u32,
    pub segment: Arc<Segment>,
    pub since: Instant,
    /// Nothing is durable in it yet, so the next commit brings what it inherits.
    pub fresh: bool,
}

impl Writer {
    /// Counts its stores that fail together with those of the other lanes of the process.
    #[must_use]
    pub fn counts_with(mut self, leaked: &Leaked) -> Self {
        self.leaked = leaked.clone();
        self
    }

    /// Writes blocks and what is noted beside them to the active segment, or sets it aside when it fails.
    pub(super) fn append(
        &mut self,
        notes: &[Vec<u8>],
        blocks: &[(u64, Vec<u8>)],
    ) -> io::Result<u64> {
        if self.active.is_none() {
            if self.leaked.is_any() {
                // A store that fails costs its memory for good: none is made while the disk is bad.
                files::probe(&self.lane.place.path)?;
            }
            self.create_segment()?;
        }
        let Some(active) = &self.active else {
            return Err(io::Error::other("no active segment"));
        };
        let carry = if active.fresh {
            self.memory.carry(self.next_block)
        } else {
            Vec::new()
        };
        let before = if active.fresh {
            0
        } else {
            active.segment.bytes()
        };
        match active.segment.append(&carry, notes, blocks) {
            Ok(()) => Ok(pages(before, active.segment.bytes())),
            Err(error) => {
                tracing::warn!(lane = self.lane.name(), segment = active.number, %error,
                    "queue segment failed, the commit goes to a new one");
                self.set_aside();
                Err(error)
            }
        }
    }

    fn create_segment(&mut self) -> io::Result<()> {
        let number = self.next_segment;
        self.next_segment += 1;
        let dir = self.lane.segment_dir(number);
        let segment = Segment::create(&dir).inspect_err(|_| {
            // What sled had of it may stay in memory.
            self.leaked.one_more();
        })?;
        let segment = Arc::new(segment);
        self.active = Some(Active {
            number,
            segment,
            since: Instant::now(),
            fresh: true,
        });
        Ok(())
    }

    /// The active segment failed: what is durable in it is still read, what is not does not exist.
    fn set_aside(&mut self) {
        let Some(active) = self.active.take() else {
            return;
        };
        self.leaked.one_more();
        if active.fresh {
            if let Err(error) = files::remove_dir(active.segment.dir()) {
                tracing::warn!(segment = active.number, %error, "empty queue segment not removed");
            }
            return;
        }
        let mut state = self.lane.state();
        if let Some(info) = state.segments.get_mut(&active.number) {
            info.life = Life::Sick(active.segment);
        }
        drop(state);
        self.lane.changed.notify_all();
    }

    pub(super) fn rotate_if_due(&mut self) {
        let due = self.active.as_ref().is_some_and(|active| {
            !active.fresh
                && (active.segment.bytes() >= self.settings.segment_bytes
                    || active.since.elapsed() >= self.settings.segment_age)
        });
        if due {
            self.rotate();
        }
    }

    /// Hands the active segment to a thread that seals it, so that commits go on meanwhile.
    pub(super) fn rotate(&mut self) {
        let Some(active) = self.active.take_if(|active| !active.fresh) else {
            return;
        };
        if let Some(info) = self.lane.state().segments.get_mut(&active.number) {
            info.life = Life::Sealing;
        }
        self.join_sealer();
        let lane = Arc::clone(&self.lane);
        let Active {
            number, segment, ..
        } = active;
        let job = move || seal::seal(&lane, number, segment);
        if fault::single_threaded() {
            return job();
        }
        match thread::Builder::new().name("queue-seal".into()).spawn(job) {
            Ok(handle) => self.sealer = Some(handle),
            Err(error) => {
                // The store is closed with the job; a start would seal it.
                tracing::warn!(lane = self.lane.name(), %error, "no thread to seal a queue segment");
                if let Some(info) = self.lane.state().segments.get_mut(&number) {
                    info.life = Life::Sealed;
                }
            }
        }
    }

    pub(super) fn join_sealer(&mut self) {
        if let Some(sealer) = self.sealer.take()
            && sealer.join().is_err()
        {
            tracing::warn!(lane = self.lane.name(), "sealing a queue segment panicked");
        }
    }
}

/// Bytes a disk writes when a file grows: whole pages, the last one again and again.
fn pages(before: u64, after: u64) -> u64 {
    const PAGE: u64 = 4096;
    (after.div_ceil(PAGE) - before / PAGE).max(1) * PAGE
}
