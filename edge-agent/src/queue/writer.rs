//! The appending half: decides what of a batch is new, numbers it, makes it durable.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use protocol::{DeviceId, Digest, Epoch, RecordId, SourceId, control::LossReason};

use super::{
    CommitError, Now,
    active::{Active, Leaked},
    block::{self, MqttOrigin, Packed},
    book::{EpochEntry, MAX_EPOCHS},
    caught,
    lane::{Info, Lane, Life},
    memory::{Memory, Staged},
    runs::Told,
    summary::Summary,
    untold::Untold,
};
use crate::{
    config,
    ingest::{Connection, Delivery, Message, Origin, Outcome},
};

/// The head is made durable at least this often while something changes.
pub(super) const HEAD_EVERY: Duration = Duration::from_secs(1);

/// The appending half; owned by the lane's commit thread, for its calls block on the disk.
#[derive(Debug)]
pub struct Writer {
    pub(super) lane: Arc<Lane>,
    pub(super) settings: config::Queue,
    pub(super) memory: Memory,
    /// The run of this writer, from its first commit on.
    pub(super) epoch: Option<Epoch>,
    /// The head on disk knows the epoch.
    pub(super) epoch_durable: bool,
    /// Number of the next block.
    pub(super) next_block: u64,
    /// Number of the next segment.
    pub(super) next_segment: u32,
    pub(super) active: Option<Active>,
    /// Contents that got the next sequences in a commit that failed. They may be on disk, so these
    /// numbers are for the same contents or for nobody.
    pub(super) reserved: VecDeque<Digest>,
    /// Learned since the last commit that wrote anything: the next one notes it.
    pub(super) untold: Untold,
    pub(super) leaked: Leaked,
    pub(super) head_synced: Instant,
    pub(super) sealer: Option<JoinHandle<()>>,
}

/// What a batch comes to.
pub(super) struct Plan {
    pub outcomes: Vec<Outcome>,
    pub fresh: Vec<Packed>,
    pub staged: Staged,
    pub retransmitted: u64,
    pub rejected: u64,
    /// Numbers that stood for something else before; the last of them.
    pub reused: u64,
    pub reused_last: Option<(DeviceId, SourceId)>,
}

impl Writer {
    /// Makes all messages durable and returns what became of each, in order.
    ///
    /// # Errors
    /// [`CommitError`]; then none of them was acknowledged.
    pub fn commit(&mut self, batch: &[Message], now: Now) -> Result<Vec<Outcome>, CommitError> {
        // A lane whose store works goes on until the process ends, which the one that needs a new store sees to.
        let needs_store = self.active.is_none();
        if (needs_store && self.leaked.is_spent()) || caught::is_broken() {
            return Err(CommitError::Exhausted);
        }
        let mut plan = self.plan(batch);
        if !plan.fresh.is_empty() {
            let bytes: usize = plan
                .fresh
                .iter()
                .map(|packed| packed.reading.len() + 32)
                .sum();
            if self.make_room(bytes as u64, now)? {
                self.store(&plan, now)?;
                self.untold.told();
            } else {
                self.drop_newest(&mut plan, now)?;
            }
        } else {
            self.untold.keep(plan.staged.noted().iter().copied());
        }
        self.memory.apply(plan.staged);
        if let Some((device, SourceId { boot, sequence })) = plan.reused_last {
            let (lane, n) = (self.lane.name(), plan.reused);
            self.lane.state().reused_numbers += n;
            tracing::warn!(lane, %device, boot, sequence, n, "number used again for another reading, both are kept");
        }
        let conservation = &self.lane.conservation;
        conservation.retransmitted(plan.retransmitted);
        conservation.rejected(plan.rejected);
        Ok(plan.outcomes)
    }

    fn plan(&self, batch: &[Message]) -> Plan {
        let mut plan = Plan {
            outcomes: Vec::with_capacity(batch.len()),
            fresh: Vec::new(),
            staged: Staged::default(),
            retransmitted: 0,
            rejected: 0,
            reused: 0,
            reused_last: None,
        };
        for message in batch {
            let outcome = self.plan_message(message, &mut plan);
            plan.outcomes.push(outcome);
        }
        plan
    }

    fn plan_message(&self, message: &Message, plan: &mut Plan) -> Outcome {
        let count = message.readings.len() as u64;
        let mut packed = Vec::with_capacity(message.readings.len());
        for reading in &message.readings {
            let Some(bytes) = block::pack(reading) else {
                plan.rejected += count;
                return Outcome::Rejected;
            };
            packed.push((bytes, Digest::of(reading)));
        }
        let is_numbered = message.readings.iter().all(|one| one.source.is_some());
        let mut origin = mqtt_origin(message, packed.iter().map(|(_, digest)| *digest));
        if let Some((origin, connection, Delivery::Again)) = &origin {
            let repeated = if is_numbered {
                self.memory.knows(&plan.staged, origin)
            } else {
                self.memory.repeats(&mut plan.staged, origin, *connection)
            };
            if repeated {
                plan.retransmitted += count;
                return Outcome::Stored;
            }
        }
        for (reading, (bytes, digest)) in message.readings.iter().zip(packed) {
            let told = reading.source.map(|source| {
                let seen = self
                    .memory
                    .seen(&mut plan.staged, &reading.device, source, digest);
                (seen, source)
            });
            match told {
                Some((Told::Again, _)) => {
                    plan.retransmitted += 1;
                    continue;
                }
                Some((Told::Reused, source)) => {
                    plan.reused += 1;
                    plan.reused_last = Some((reading.device.clone(), source));
                }
                Some((Told::New, _)) | None => {}
            }
            let origin = origin.take();
            if let Some((origin, connection, delivery)) = origin {
                plan.staged.remember(origin, connection, delivery);
            }
            plan.fresh.push(Packed {
                received: message.received,
                digest,
                origin: origin.map(|(origin, ..)| origin),
                reading: bytes,
            });
        }
        if let Some((origin, connection, delivery)) = origin {
            plan.staged.note(origin, connection, delivery);
        }
        Outcome::Stored
    }

    /// The epoch and first sequence for these readings. Numbers of a failed commit go to the same
    /// contents; if others come instead, a new epoch begins, so that no number ever means two readings.
    pub(super) fn numbers(&mut self, fresh: &[Packed]) -> Result<(Epoch, u64), CommitError> {
        let fits = self
            .reserved
            .iter()
            .zip(fresh)
            .all(|(have, new)| *have == new.digest);
        let current = self.epoch.filter(|_| fits);
        let next = |epoch| {
            let state = self.lane.state();
            state.book.epoch(epoch).map(EpochEntry::next)
        };
        let (epoch, first) = match current.and_then(|epoch| Some((epoch, next(epoch)?))) {
            Some((epoch, next)) if next <= RecordId::MAX_48 - fresh.len() as u64 => (epoch, next),
            _ => (self.begin_epoch()?, 0),
        };
        if !self.epoch_durable {
            // The book knows the epoch before anybody is told of a reading in it.
            self.sync_head()?;
            self.epoch_durable = true;
        }
        Ok((epoch, first))
    }

    fn begin_epoch(&mut self) -> Result<Epoch, CommitError> {
        let epoch = random_epoch().map_err(CommitError::Io)?;
        let mut state = self.lane.state();
        if state.book.epochs.len() >= MAX_EPOCHS {
            return Err(CommitError::Full("too many runs wait to be drained"));
        }
        state.book.begin(epoch);
        self.epoch = Some(epoch);
        self.epoch_durable = false;
        self.reserved.clear();
        Ok(epoch)
    }

    pub(super) fn take_numbers(&mut self, count: u64) {
        let used = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .min(self.reserved.len());
        self.reserved.drain(..used);
    }

    fn store(&mut self, plan: &Plan, now: Now) -> Result<(), CommitError> {
        let fresh = plan.fresh.as_slice();
        self.rotate_if_due();
        let (epoch, first) = self.numbers(fresh)?;
        let blocks = block::encode(epoch, first, now.wall, now.synced, fresh);
        let (headers, numbered): (Vec<_>, Vec<_>) = (self.next_block..)
            .zip(blocks)
            .map(|(number, (header, bytes))| (header, (number, bytes)))
            .unzip();
        let noted = plan.staged.noted();
        let notes = self.untold.notes(&self.memory, self.next_block, noted);
        let written = match self.append(&notes, &numbered) {
            Ok(written) => written,
            Err(error) => {
                // A longer reservation covers a shorter one: both begin at the same number.
                if fresh.len() > self.reserved.len() {
                    self.reserved = fresh.iter().map(|packed| packed.digest).collect();
                }
                return Err(CommitError::Io(error));
            }
        };
        let count = fresh.len() as u64;
        self.take_numbers(count);
        self.publish(epoch, first + count - 1, count, &headers, written);
        if self.head_synced.elapsed() >= HEAD_EVERY
            && let Err(error) = self.sync_head()
        {
            // The readings are durable; the book is tried again with the next commit.
            tracing::warn!(lane = self.lane.name(), %error, "queue head not written");
        }
        Ok(())
    }

    /// Lets the reader see what is durable now.
    fn publish(
        &mut self,
        epoch: Epoch,
        last: u64,
        count: u64,
        headers: &[block::Header],
        written: u64,
    ) {
        let first_block = self.next_block;
        self.next_block += headers.len() as u64;
        let Some(active) = &mut self.active else {
            return;
        };
        active.fresh = false;
        let mut state = self.lane.state();
        let info = state.segments.entry(active.number).or_insert_with(|| Info {
            summary: Summary::new(first_block),
            remaining: 0,
            waits_since: None,
            bytes: 0,
            life: Life::Active(Arc::clone(&active.segment)),
        });
        for (number, header) in (first_block..).zip(headers) {
            info.summary.add(number, header);
        }
        info.remaining += count;
        info.bytes = active.segment.bytes();
        state.written_bytes += written;
        state.committed += count;
        state.book.commit(epoch, last);
        state.dirty = true;
        // Before the reader can acknowledge any of it.
        self.lane.conservation.committed(count);
        drop(state);
        self.lane.changed.notify_all();
    }

    pub(super) fn sync_head(&mut self) -> Result<(), CommitError> {
        self.lane.sync_head().map_err(CommitError::Io)?;
        self.head_synced = Instant::now();
        Ok(())
    }

    /// Does what time asks for: seals an old segment, syncs the head, applies `max_age`.
    ///
    /// # Errors
    /// [`CommitError::Io`].
    pub fn tick(&mut self, now: Now) -> Result<(), CommitError> {
        self.rotate_if_due();
        if now.synced {
            let limit = age_limit(&self.settings, now);
            let too_old = |summary: &Summary| summary.synced && summary.newest_us < limit;
            while self.drop_segment(LossReason::TooOld, now, too_old)? {}
        }
        let dirty = self.lane.state().dirty;
        if dirty && self.head_synced.elapsed() >= HEAD_EVERY {
            self.sync_head()?;
        }
        Ok(())
    }

    /// Seals, syncs the head and closes the epoch: the orderly end.
    ///
    /// # Errors
    /// [`CommitError::Io`].
    pub fn close(mut self, _now: Now) -> Result<(), CommitError> {
        self.rotate();
        self.join_sealer();
        if let Some(epoch) = self.epoch
            && let Some(entry) = self.lane.state().book.epoch_mut(epoch)
        {
            entry.closed = true;
        }
        self.sync_head()
    }
}

/// What was committed before this is too old, in microseconds since 1970.
pub(super) fn age_limit(settings: &config::Queue, now: Now) -> i64 {
    let age = i64::try_from(settings.max_age.as_micros()).unwrap_or(i64::MAX);
    now.wall.as_micros().saturating_sub(age)
}

fn random_epoch() -> io::Result<Epoch> {
    let mut bits = [0; 8];
    rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty())?;
    Ok(Epoch::from_random(u64::from_le_bytes(bits)))
}

/// The message's origin, and how it came; its digest is that of its only reading, or a fold over all of them.
fn mqtt_origin(
    message: &Message,
    digests: impl Iterator<Item = Digest>,
) -> Option<(MqttOrigin, Connection, Delivery)> {
    let Origin::Mqtt {
        packet_id,
        topic_hash,
        connection,
        delivery,
    } = message.origin
    else {
        return None;
    };
    // Frozen: it is compared across restarts.
    let digest = digests
        .map(|digest| digest.0)
        .reduce(|all, one| (all.rotate_left(5) ^ one).wrapping_mul(0x517c_c1b7_2722_0a95))?;
    let origin = MqttOrigin {
        packet_id,
        topic_hash: topic_hash.to_le_bytes(),
        digest: digest.to_le_bytes(),
    };
    Some((origin, connection, delivery))
}
