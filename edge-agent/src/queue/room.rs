//! What gives way when a lane is full, when it is old, and when somebody else fills the disk.

use std::time::Instant;

use protocol::control::LossReason;

use super::{
    CommitError, Now,
    book::{Book, LossEntry},
    files,
    lane::Life,
    summary::Summary,
    writer::{Plan, Writer},
};
use crate::{config::WhenFull, ingest::Outcome};

/// What an append costs on disk beyond its blocks, at most: sled's frames and rewritten nodes.
const APPEND_FACTOR: u64 = 3;

impl Writer {
    /// Whether the batch may be stored; `false` means `drop-newest`.
    pub(super) fn make_room(&mut self, bytes: u64, now: Now) -> Result<bool, CommitError> {
        let free = files::free_bytes(&self.lane.place.path).map_err(CommitError::Io)?;
        if free
            < self
                .settings
                .min_free_bytes
                .saturating_add(APPEND_FACTOR * bytes)
        {
            return Err(CommitError::Full(
                "the file system has less than min_free_bytes left",
            ));
        }
        loop {
            if self.lane.state().bytes() + bytes <= self.settings.max_bytes {
                return Ok(true);
            }
            if !self.lane.state().doomed.is_empty() {
                // What was dropped before, while the head could not be written, gives its room first: a disk
                // that fails for minutes would else cost a segment with each try.
                self.sync_head()?;
                continue;
            }
            match self.settings.when_full {
                WhenFull::DropNewest => return Ok(false),
                WhenFull::Block => {
                    return Err(CommitError::Full(
                        "max_bytes is reached and when_full is block",
                    ));
                }
                WhenFull::DropOldest => {
                    if !self.drop_segment(LossReason::DropOldest, now, |_| true)? {
                        return Err(CommitError::Full(
                            "max_bytes holds too few segments to drop one; raise it or lower segment_bytes",
                        ));
                    }
                }
            }
        }
    }

    /// Drops the oldest sealed segment that nobody reads, if `which` agrees. The one behind a sick segment stays
    /// as long as that: it says where the sick one ends, and a start would take what a failed commit left behind
    /// there for readings.
    pub(super) fn drop_segment(
        &mut self,
        reason: LossReason,
        now: Now,
        which: impl Fn(&Summary) -> bool,
    ) -> Result<bool, CommitError> {
        {
            let mut state = self.lane.state();
            let newest = state.segments.keys().next_back().copied();
            let held = state.held;
            let mut is_end_of_sick = false;
            let victim = state
                .segments
                .iter()
                .find(|&(&number, info)| {
                    let is_sick = matches!(info.life, Life::Sick(_));
                    let is_end = std::mem::replace(&mut is_end_of_sick, is_sick);
                    Some(number) != newest
                        && !is_end
                        && matches!(info.life, Life::Sealed | Life::Sick(_))
                        && held.is_none_or(|(from, to)| number < from || number > to)
                        && which(&info.summary)
                })
                .map(|(&number, info)| (number, info.remaining, state.unsettled(&info.summary)));
            let Some((number, remaining, runs)) = victim else {
                return Ok(false);
            };
            let possibly_delivered = number <= state.book.handed;
            for run in &runs {
                state.lose(run, reason, possibly_delivered, now.wall);
            }
            state.doom(number);
            self.lane.conservation.dropped_queued(remaining, reason);
            tracing::error!(
                lane = self.lane.name(),
                segment = number,
                readings = remaining,
                reason = reason.as_str(),
                "queue dropped readings"
            );
        }
        self.sync_head()?;
        Ok(true)
    }

    /// The readings get numbers, and the loss of these numbers is made durable in their place.
    pub(super) fn drop_newest(&mut self, plan: &mut Plan, now: Now) -> Result<(), CommitError> {
        let count = plan.fresh.len() as u64;
        let (epoch, first) = self.numbers(&plan.fresh)?;
        let last = first + count - 1;
        // Before the loss: a statement without one does not count, a loss without one would be a false alarm
        // as soon as the source repeats itself.
        let path = &self.lane.place.path;
        let dropping = self
            .untold
            .state(
                path,
                &self.memory,
                &plan.staged,
                self.next_block,
                (epoch, last),
            )
            .map_err(CommitError::Io)?;
        let loss = LossEntry {
            epoch,
            first,
            last: Some(last),
            reason: LossReason::DropNewest,
            merged: false,
            possibly_delivered: false,
            at: now.wall,
        };
        // The loss and the use of its numbers are one step. Asked again after a failure, the same numbers are
        // declared, not the next ones; and no epoch ends before its losses do, for it would never be done.
        let drop = |book: &mut Book| {
            book.lose(loss.clone());
            book.commit(epoch, last);
        };
        self.lane.sync_head_with(drop).map_err(CommitError::Io)?;
        self.head_synced = Instant::now();
        self.take_numbers(count);
        self.untold.dropped(dropping, &plan.staged, &self.memory);
        self.lane
            .conservation
            .dropped_new(count, LossReason::DropNewest);
        for outcome in &mut plan.outcomes {
            if *outcome == Outcome::Stored {
                *outcome = Outcome::Dropped;
            }
        }
        Ok(())
    }
}
