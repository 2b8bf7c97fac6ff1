//! Which offset of a partition may be stored: the contiguous prefix of settled records.
//!
//! Records are taken in the order of their offsets and settled in any order. An offset may be stored
//! only when every record taken before it is settled, else a crash would skip what was still in flight.
//! Offsets may have gaps (compaction, transaction markers): what was never taken is not waited for.
//!
//! Only what is not settled is remembered, so one record that cannot be settled for days costs nothing
//! while thousands after it are.

use std::collections::BTreeSet;

/// The records in flight of one partition, during one assignment.
#[derive(Debug, Default)]
pub struct Tracker {
    unsettled: BTreeSet<i64>,
    last_taken: Option<i64>,
}

impl Tracker {
    /// A record was taken from Kafka. Offsets only grow within an assignment; one that does not was
    /// taken before, and `false` says so.
    pub fn take(&mut self, offset: i64) -> bool {
        if self.last_taken.is_some_and(|last| offset <= last) {
            return false;
        }
        self.last_taken = Some(offset);
        self.unsettled.insert(offset)
    }

    /// A record is settled. Returns the offset to store if the prefix grew: **the next offset to
    /// consume**, as Kafka's group offsets are exclusive.
    pub fn settle(&mut self, offset: i64) -> Option<i64> {
        let first = self.unsettled.first() == Some(&offset);
        if !self.unsettled.remove(&offset) || !first {
            return None;
        }
        // Inclusive becomes exclusive here, and nowhere else: what is still to do begins at the first
        // unsettled record, or behind the last one taken.
        match self.unsettled.first() {
            Some(first) => Some(*first),
            None => self.last_taken.map(|last| last + 1),
        }
    }

    /// Everything before `to` is gone from Kafka. Returns the offset to store, as [`Tracker::settle`].
    pub fn skip(&mut self, to: i64) -> Option<i64> {
        self.last_taken = self.last_taken.max(to.checked_sub(1));
        self.unsettled.is_empty().then_some(to)
    }

    /// Taken and not settled.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.unsettled.len()
    }

    /// Nothing is in flight.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_contiguous_prefix_may_be_stored() {
        enum Step {
            Take(i64),
            Settle(i64, Option<i64>),
        }
        use Step::{Settle, Take};
        let table: &[(&str, &[Step])] = &[
            (
                "in order",
                &[Take(0), Take(1), Settle(0, Some(1)), Settle(1, Some(2))],
            ),
            (
                "out of order",
                &[Take(0), Take(1), Settle(1, None), Settle(0, Some(2))],
            ),
            (
                "gaps in the offsets",
                &[
                    Take(5),
                    Take(9),
                    Take(10),
                    Settle(9, None),
                    Settle(5, Some(10)),
                    Settle(10, Some(11)),
                ],
            ),
            (
                "settled twice",
                &[Take(3), Settle(3, Some(4)), Settle(3, None)],
            ),
            (
                "never taken",
                &[Take(3), Settle(7, None), Settle(3, Some(4))],
            ),
        ];
        for (name, steps) in table {
            let mut tracker = Tracker::default();
            for step in *steps {
                match step {
                    Take(offset) => assert!(tracker.take(*offset), "{name}"),
                    Settle(offset, stored) => {
                        assert_eq!(tracker.settle(*offset), *stored, "{name}")
                    }
                }
            }
        }
    }

    #[test]
    fn an_offset_that_went_back_is_not_taken_again() {
        let mut tracker = Tracker::default();
        assert!(tracker.take(5));
        assert!(!tracker.take(5));
        assert_eq!(tracker.settle(5), Some(6));
        assert!(!tracker.take(5));
        assert!(tracker.take(6));
    }

    #[test]
    fn what_is_gone_is_skipped_once_what_came_before_is_settled() {
        let mut tracker = Tracker::default();
        assert!(tracker.take(5));
        assert_eq!(tracker.skip(90), None);
        assert_eq!(tracker.settle(5), Some(90));
        assert_eq!(tracker.skip(95), Some(95));
        assert!(!tracker.take(94));
        assert!(tracker.take(95));
    }

    proptest! {
        #[test]
        fn no_unsettled_record_lies_before_a_stored_offset(
            order in Just((0..40_i64).collect::<Vec<_>>()).prop_shuffle(),
            until in 0..40_usize,
        ) {
            let mut tracker = Tracker::default();
            for offset in 0..40 {
                tracker.take(offset);
            }
            let mut stored = 0;
            for &offset in &order[..until] {
                if let Some(next) = tracker.settle(offset) {
                    stored = next;
                }
            }
            let settled = &order[..until];
            prop_assert!((0..stored).all(|offset| settled.contains(&offset)));
            prop_assert!(!settled.contains(&stored));
            prop_assert_eq!(tracker.in_flight(), 40 - until);
        }
    }
}
