//! Partitions come and go.
//!
//! The consumer thread waits inside librdkafka's callback until a revoked partition is handed over:
//! what of it is in flight is finished, or dropped from here when that takes too long.

use std::{
    sync::mpsc::SyncSender,
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use super::{Pipeline, job::Job};
use crate::{kafka::Event, message::Partition, store::incidents::Incident};

/// Longest wait for records in flight when partitions go.
const HANDOVER: Duration = Duration::from_secs(4);

/// Partitions that are to go, and who waits for it.
pub(super) struct Handover {
    partitions: Vec<Partition>,
    /// When they go, finished or not.
    pub(super) until: Instant,
    done: SyncSender<()>,
}

impl Pipeline {
    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Assigned {
                partitions,
                generation,
            } => {
                // A rebalance that changes nothing for this sink comes as an empty list.
                if !partitions.is_empty() {
                    info!(partitions = partitions.len(), "partitions assigned");
                }
                for (partition, _) in partitions {
                    // A partition that starts anew leaves nothing of its former life in flight.
                    let left = self.assignments.assign(partition, generation);
                    self.kept.revoked(left);
                }
                let lag = self.ends.gate.lag();
                self.telemetry.ready(self.assignments.len(), lag);
            }
            Event::Gap {
                partition,
                from,
                to,
            } => {
                self.telemetry.gap();
                error!(topic = %partition.topic, partition = partition.number, first_offset = from, next_offset = to, "gap: records were gone before they were read");
                let incident = Incident::gap(&partition, from, to);
                self.waiting.push_back(Job::Keep(Box::new(incident)));
            }
            Event::Revoked {
                partitions,
                lost,
                done,
            } => {
                info!(partitions = partitions.len(), lost, "partitions revoked");
                self.collect_all();
                // What cannot be finished in time is read again by the next owner.
                let wait = if lost || self.outage.is_some() {
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

    pub(super) fn finish_handover(&mut self, now: Instant) {
        let settled = |handover: &mut Handover| {
            let mut partitions = handover.partitions.iter();
            handover.until <= now || partitions.all(|p| self.assignments.is_settled(p))
        };
        let Some(handover) = self.handover.take_if(settled) else {
            return;
        };
        self.store_offsets();
        for partition in &handover.partitions {
            let left = self.assignments.revoke(partition);
            self.kept.revoked(left);
        }
        // The thread has given up waiting only if this took longer than both deadlines.
        if handover.done.send(()).is_err() {
            warn!("partitions were handed over late");
        }
    }
}
