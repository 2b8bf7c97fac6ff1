//! Records in: to a batch, to the dead letters, or passed over.

use std::time::Instant;

use super::{Destination, Pipeline, job::Job};
use crate::{
    checkpoint::Gap,
    clock,
    conservation::Settled,
    dead_letter::DeadLetter,
    decode::{self, Reason, Undecodable},
    kafka::Delivered,
    message::{Message, Partition},
    store::{facts::FactEntry, readings::Entry},
};

impl Pipeline {
    /// Takes records, but first the events that were sent before them: a record whose assignment is not
    /// known yet would count as stale, and the offsets after it would pass over it.
    pub(super) fn take_all(&mut self, records: impl Iterator<Item = Delivered>) {
        while let Ok(event) = self.ends.events.try_recv() {
            self.on_event(event);
        }
        records.for_each(|delivered| self.take(delivered));
    }

    fn take(&mut self, delivered: Delivered) {
        let (generation, message) = match delivered {
            Delivered::Record {
                generation,
                message,
            } => (generation, message),
            Delivered::Gap {
                generation,
                partition,
                gap,
            } => return self.pass(&partition, gap, generation),
        };
        if !self.assignments.take(&message.at, generation) {
            // Of a partition that went, or read twice: nothing of it was counted.
            self.ends.gate.release(message.size());
            return;
        }
        self.kept.consumed(1);
        self.telemetry.unread.taken(&message.at);
        self.checkpoints.read(&message);
        let now = Instant::now();
        match self.destinations.get(&message.at.partition.topic) {
            Some(Destination::Readings { .. }) => self.take_reading(message, generation, now),
            Some(Destination::Control) => match decode::fact(&message) {
                Ok(fact) => {
                    let bytes = message.size();
                    let entry = FactEntry {
                        message,
                        generation,
                        fact,
                    };
                    if let Some(entries) = self.facts.push(entry, bytes, now) {
                        self.waiting.push_back(Job::Facts(entries));
                    }
                }
                // A tombstone forgets a fact in the topic; what the sink knows of it stays.
                Err(Undecodable {
                    reason: Reason::Empty,
                    ..
                }) => self.settle(&message, generation, Settled::Control),
                Err(cause) => self.bury(message, generation, cause),
            },
            None => {
                let detail = "no route for this topic";
                let cause = Undecodable::new(Reason::MagicUnknown, detail);
                self.bury(message, generation, cause);
            }
        }
    }

    /// Everything of the partition before the gap was taken; what is in it, nobody can take.
    fn pass(&mut self, partition: &Partition, gap: Gap, generation: u64) {
        if !self.assignments.is_current(partition, generation) {
            // Whoever takes it next finds the same gap.
            return;
        }
        self.telemetry.gap(partition, gap);
        // Before the offset moves: the checkpoint that passes the gap carries its incident.
        self.checkpoints.gap(partition, gap);
        self.assignments.skip(partition, gap.to);
    }

    /// Reads a record, by its schema where it names one.
    pub(super) fn read(
        &mut self,
        message: Message,
        generation: u64,
        schema: Option<&decode::Schema>,
        now: Instant,
    ) {
        let Some(Destination::Readings {
            collection,
            keep,
            hops,
            series,
        }) = self.destinations.get(&message.at.partition.topic)
        else {
            return;
        };
        let document = match decode::reading(&message, schema, *hops) {
            Ok(document) => document,
            Err(cause) => return self.bury(message, generation, cause),
        };
        // A time series counts from the reading's time, where there is one.
        let mut document = match keep {
            Some(keep) if *series && document.undated().is_none() => {
                let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
                let end = document.time_ms().saturating_add(keep);
                document.ending(Some(end))
            }
            keep => document.expiring(keep.map(clock::after)),
        };
        document.consumed(clock::now_ms);
        let bytes = message.size();
        let entry = Entry {
            message,
            generation,
            document,
        };
        let collection = collection.clone();
        let batcher = self.readings.get_mut(&collection);
        if let Some(entries) = batcher.and_then(|to| to.push(entry, bytes, now)) {
            self.waiting.push_back(Job::Insert(collection, entries));
        }
    }

    pub(super) fn bury(&mut self, message: Message, generation: u64, cause: Undecodable) {
        self.letters.push(DeadLetter {
            message,
            generation,
            cause,
        });
    }
}
