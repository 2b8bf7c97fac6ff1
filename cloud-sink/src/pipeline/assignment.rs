//! The partitions this sink has, and which records of them are in flight. Pure.
//!
//! A record carries the generation it was read in. It counts only while its partition is assigned and
//! was assigned no later than that: what a revoked partition left behind is stale, even if the same
//! partition came back.

use std::collections::HashMap;

use crate::{
    message::{Coordinates, Partition},
    tracker::Tracker,
};

#[derive(Debug)]
struct Assignment {
    since: u64,
    tracker: Tracker,
    /// Settled and not stored yet: the next offset to consume.
    next: Option<i64>,
}

/// All partitions assigned now.
#[derive(Debug, Default)]
pub struct Assignments(HashMap<Partition, Assignment>);

impl Assignments {
    /// A partition came, or starts anew; returns how many records of its former life were in flight.
    pub fn assign(&mut self, partition: Partition, generation: u64) -> u64 {
        let assignment = Assignment {
            since: generation,
            tracker: Tracker::default(),
            next: None,
        };
        in_flight(self.0.insert(partition, assignment))
    }

    /// A partition went; returns how many records of it were in flight.
    pub fn revoke(&mut self, partition: &Partition) -> u64 {
        in_flight(self.0.remove(partition))
    }

    /// A record came; `false` if it is stale or was read before.
    pub fn take(&mut self, at: &Coordinates, generation: u64) -> bool {
        self.current(&at.partition, generation)
            .is_some_and(|assignment| assignment.tracker.take(at.offset))
    }

    /// A record is settled; `false` if it is stale and so not counted any more.
    pub fn settle(&mut self, at: &Coordinates, generation: u64) -> bool {
        let Some(assignment) = self.current(&at.partition, generation) else {
            return false;
        };
        if let Some(next) = assignment.tracker.settle(at.offset) {
            assignment.next = Some(next);
        }
        true
    }

    /// Everything of the partition before `to` is gone from Kafka.
    pub fn skip(&mut self, partition: &Partition, to: i64) {
        if let Some(assignment) = self.0.get_mut(partition)
            && let Some(next) = assignment.tracker.skip(to)
        {
            assignment.next = Some(next);
        }
    }

    /// Whether a record of that generation counts.
    pub fn is_current(&self, partition: &Partition, generation: u64) -> bool {
        self.0
            .get(partition)
            .is_some_and(|assignment| assignment.since <= generation)
    }

    fn current(&mut self, partition: &Partition, generation: u64) -> Option<&mut Assignment> {
        self.0
            .get_mut(partition)
            .filter(|assignment| assignment.since <= generation)
    }

    /// Hands over the next offsets of partitions that advanced, once.
    pub fn advanced<'a>(
        &'a mut self,
        store: impl FnOnce(&mut dyn Iterator<Item = (&'a Partition, i64)>),
    ) {
        let mut next = self
            .0
            .iter_mut()
            .filter_map(|(partition, assignment)| Some((partition, assignment.next.take()?)));
        store(&mut next);
    }

    /// Nothing of the partition is in flight.
    pub fn is_settled(&self, partition: &Partition) -> bool {
        self.0
            .get(partition)
            .is_none_or(|assignment| assignment.tracker.is_settled())
    }

    /// How many partitions.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn in_flight(assignment: Option<Assignment>) -> u64 {
    assignment.map_or(0, |assignment| assignment.tracker.in_flight() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_revoked_partition_left_behind_is_stale_even_if_it_comes_back() {
        let partition = Partition {
            topic: "t".into(),
            number: 0,
        };
        let at = |offset| Coordinates {
            partition: partition.clone(),
            offset,
            timestamp_ms: None,
        };
        let mut assignments = Assignments::default();
        assert!(!assignments.take(&at(0), 1), "not assigned yet");
        assignments.assign(partition.clone(), 1);
        assert!(assignments.take(&at(0), 1));
        assert!(assignments.take(&at(1), 1));
        assert!(assignments.settle(&at(0), 1));
        assert!(!assignments.is_settled(&partition));
        assert_eq!(assignments.revoke(&partition), 1);
        assert!(assignments.is_settled(&partition));
        assignments.assign(partition.clone(), 3);
        assert!(!assignments.settle(&at(1), 1), "of the former life");
        assert!(!assignments.take(&at(1), 2), "read before it came back");
        assert!(
            assignments.take(&at(1), 4),
            "another partition came meanwhile"
        );
        assert!(assignments.settle(&at(1), 4));
        let mut stored = Vec::new();
        assignments.advanced(|next| stored.extend(next.map(|(_, offset)| offset)));
        assert_eq!(stored, [2]);
        assignments.advanced(|next| assert_eq!(next.count(), 0));
    }
}
