//! Partitions come and go.
//!
//! The consumer thread waits inside librdkafka's callback until a revoked partition is handed over:
//! what of it is in flight is finished, or dropped from here when that takes too long.

use std::{
    sync::mpsc::SyncSender,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{Destination, Pipeline, job::Job};
use crate::{
    checkpoint::{Progress, Taken, Written},
    kafka::Event,
    lease::LEASE,
    message::Partition,
    telemetry,
};

/// Longest wait for records in flight when partitions go.
const HANDOVER: Duration = Duration::from_secs(4);

/// Partitions that are to go, and who waits for it.
pub(super) struct Handover {
    partitions: Vec<Partition>,
    /// When they go, finished or not.
    pub(super) until: Instant,
    done: SyncSender<()>,
}

/// Partitions that come, once the lease of whoever had them has run out.
pub(super) struct Takeover {
    taken: Vec<Taken>,
    answer: SyncSender<Vec<Taken>>,
    pub(super) at: Instant,
}

impl Pipeline {
    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Taking {
                cluster,
                partitions,
                answer,
            } => {
                self.cluster = cluster.clone();
                // Before anything else: the consumer thread waits for it.
                let take = Job::Take(cluster, partitions, answer);
                self.waiting.push_front(take);
            }
            Event::Assigned {
                partitions,
                generation,
            } => {
                // A rebalance that changes nothing for this sink comes as an empty list.
                if !partitions.is_empty() {
                    info!(partitions = partitions.len(), "partitions assigned");
                }
                for (partition, _) in partitions {
                    self.telemetry.unread.assign(&partition);
                    // A partition that starts anew leaves nothing of its former life in flight.
                    let left = self.assignments.assign(partition, generation);
                    self.kept.revoked(left);
                }
                self.forget_waiting();
                let lag = self.ends.gate.lag();
                self.telemetry.ready(self.assignments.len(), lag);
            }
            Event::Remade { partition, gap } => {
                self.telemetry.gap(&partition, gap);
                self.checkpoints.gap(&partition, gap);
            }
            Event::Revoked {
                partitions,
                lost,
                done,
            } => {
                info!(partitions = partitions.len(), lost, "partitions revoked");
                self.collect_all();
                self.checkpoints.ending(Some(&partitions));
                // What cannot be finished in time is read again by the next owner.
                let wait = if lost || self.outage.is_some() || self.schemas.is_out() {
                    Duration::ZERO
                } else {
                    HANDOVER
                };
                self.handover = Some(Handover {
                    partitions,
                    until: Instant::now() + wait,
                    done,
                });
            }
        }
    }

    /// Checkpoints that are due; at a handover and at the end as soon as the records are settled.
    pub(super) fn start_checkpoint(&mut self, now: Instant) {
        if self.outage.is_some() {
            return;
        }
        let is_settled = |handover: &Handover| {
            let mut partitions = handover.partitions.iter();
            partitions.all(|partition| self.assignments.is_settled(partition))
        };
        let due = self.checkpoints.due(now);
        let at_once = self.handover.as_ref().is_some_and(is_settled)
            || self.stopping.is_some() && self.nothing_under_way();
        if due.is_some_and(|due| at_once || due <= now) {
            let assignments = &self.assignments;
            let work = self.checkpoints.take(now, |p| assignments.is_settled(p));
            let checkpoint = Job::Checkpoint(self.cluster.clone(), work);
            self.waiting.push_front(checkpoint);
        }
    }

    /// A partition of a time series that was not handed over in order may still be written by whoever had
    /// it: the consumer thread waits for the answer until that is over.
    pub(super) fn on_taken(&mut self, taken: Vec<Taken>, answer: SyncSender<Vec<Taken>>) {
        let now = Instant::now();
        let is_series = |taken: &&Taken| {
            let to = self.destinations.get(&taken.partition.topic);
            matches!(to, Some(Destination::Readings { series: true, .. }))
        };
        let reserved = taken.iter().filter(|taken| taken.reserved.is_some());
        let in_doubt = reserved.filter(is_series).count();
        let wait = if in_doubt > 0 { LEASE } else { Duration::ZERO };
        if in_doubt > 0 {
            info!(
                partitions = in_doubt,
                ?wait,
                "partitions were not handed over, their leases have to run out"
            );
        }
        self.takeover = Some(Takeover {
            taken,
            answer,
            at: now + wait,
        });
        self.finish_takeover(now);
    }

    pub(super) fn finish_takeover(&mut self, now: Instant) {
        let is_due = |takeover: &mut Takeover| takeover.at <= now;
        let Some(Takeover { taken, answer, .. }) = self.takeover.take_if(is_due) else {
            return;
        };
        for taken in &taken {
            let partition = taken.partition.clone();
            self.checkpoints.taken(partition, taken.fence, taken.mark);
            let mut leases = self.ends.parts.series.leases();
            leases.taken(&self.cluster, taken);
        }
        // Nobody waits any more only if the consumer thread has given up, and then the process ends.
        if answer.send(taken).is_err() {
            warn!("partitions were taken late");
        }
    }

    pub(super) fn on_checkpointed(&mut self, written: Vec<(Progress, Written)>) {
        for (progress, written) in written {
            for missing in &progress.missing {
                telemetry::missing(missing);
            }
            if written == Written::Fenced {
                let Partition { topic, number } = &progress.partition;
                warn!(%topic, partition = number, "another sink has taken this partition, checkpoint not written");
            }
            self.checkpoints.finished(&progress, written);
        }
    }

    pub(super) fn finish_handover(&mut self, now: Instant) {
        let settled = |handover: &mut Handover| {
            let mut partitions = handover.partitions.iter();
            handover.until <= now
                || partitions
                    .all(|p| self.assignments.is_settled(p) && self.checkpoints.is_settled(p))
        };
        let Some(handover) = self.handover.take_if(settled) else {
            return;
        };
        self.store_offsets();
        for partition in &handover.partitions {
            self.telemetry.unread.revoke(partition);
            let left = self.assignments.revoke(partition);
            self.kept.revoked(left);
            self.checkpoints.dropped(partition);
            self.ends.parts.series.leases().dropped(partition);
        }
        self.forget_waiting();
        // The thread has given up waiting only if this took longer than both deadlines.
        if handover.done.send(()).is_err() {
            warn!("partitions were handed over late");
        }
    }
}
