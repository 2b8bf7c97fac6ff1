//! A set of sequences as ranges: what is contiguous costs one entry, however long it is. Pure.

use std::collections::BTreeMap;

/// Disjoint, never adjacent ranges, both ends inclusive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Everything from `first` to `last`; nothing if `last` is below `first`.
    #[must_use]
    pub fn of(first: u64, last: u64) -> Self {
        let mut ranges = Self::default();
        ranges.insert(first, last);
        ranges
    }

    /// Adds a range; nothing if `last` is below `first`.
    pub fn insert(&mut self, mut first: u64, mut last: u64) {
        if last < first {
            return;
        }
        if let Some((&before, &end)) = self.0.range(..=first).next_back()
            && end.saturating_add(1) >= first
        {
            first = before;
            last = last.max(end);
        }
        while let Some((&next, &end)) = self.0.range(first..=last.saturating_add(1)).next() {
            self.0.remove(&next);
            last = last.max(end);
        }
        self.0.insert(first, last);
    }

    /// Adds all of another set.
    pub fn extend(&mut self, other: &Self) {
        for (first, last) in other.iter() {
            self.insert(first, last);
        }
    }

    /// What is here and not there.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Self::default();
        for (first, last) in self.iter() {
            let overlapping = other.0.range(..=first).next_back();
            let from = overlapping.map_or(first, |(&from, _)| from);
            let mut next = Some(first);
            for (&cut, &end) in other.0.range(from..=last) {
                let Some(at) = next.filter(|at| end >= *at) else {
                    continue;
                };
                if cut > at {
                    left.0.insert(at, cut - 1);
                }
                next = end.checked_add(1).filter(|next| *next <= last);
            }
            if let Some(at) = next {
                left.0.insert(at, last);
            }
        }
        left
    }

    /// What is here and there.
    #[must_use]
    pub fn within(&self, other: &Self) -> Self {
        self.without(&self.without(other))
    }

    /// Whether a sequence is in it.
    #[must_use]
    pub fn contains(&self, sequence: u64) -> bool {
        let before = self.0.range(..=sequence).next_back();
        before.is_some_and(|(_, &last)| last >= sequence)
    }

    /// Whether a sequence would extend a range rather than begin one.
    #[must_use]
    pub fn touches(&self, sequence: u64) -> bool {
        self.contains(sequence)
            || self.0.contains_key(&sequence.saturating_add(1))
            || sequence
                .checked_sub(1)
                .is_some_and(|before| self.contains(before))
    }

    /// First and last sequence of each range, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> {
        self.0.iter().map(|(&first, &last)| (first, last))
    }

    /// How many sequences.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// How many ranges.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The highest sequence.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.0.last_key_value().map(|(_, &last)| last)
    }
}

impl FromIterator<(u64, u64)> for Ranges {
    fn from_iter<T: IntoIterator<Item = (u64, u64)>>(ranges: T) -> Self {
        let mut set = Self::default();
        for (first, last) in ranges {
            set.insert(first, last);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    type Naive = BTreeSet<u64>;

    fn some() -> impl Strategy<Value = Vec<(u64, u64)>> {
        let range = (0..60_u64, 0..6_u64).prop_map(|(first, more)| (first, first + more));
        prop::collection::vec(range, 0..12)
    }

    fn both(ranges: &[(u64, u64)]) -> (Ranges, Naive) {
        let naive = ranges.iter().flat_map(|&(first, last)| first..=last);
        (ranges.iter().copied().collect(), naive.collect())
    }

    fn naive(ranges: &Ranges) -> Naive {
        ranges
            .iter()
            .flat_map(|(first, last)| first..=last)
            .collect()
    }

    #[test]
    fn the_highest_sequence_there_is_does_not_wrap() {
        let mut ranges = Ranges::of(u64::MAX, u64::MAX);
        ranges.insert(u64::MAX - 1, u64::MAX - 1);
        assert_eq!(
            ranges.iter().collect::<Vec<_>>(),
            [(u64::MAX - 1, u64::MAX)]
        );
        assert!(ranges.without(&Ranges::of(0, u64::MAX)).is_empty());
        assert!(Ranges::of(5, 4).is_empty());
    }

    proptest! {
        #[test]
        fn ranges_are_what_a_plain_set_would_be(a in some(), b in some()) {
            let ((a, plain_a), (b, plain_b)) = (both(&a), both(&b));
            prop_assert_eq!(naive(&a), plain_a.clone());
            prop_assert_eq!(a.count(), plain_a.len() as u64);
            prop_assert_eq!(a.last(), plain_a.last().copied());
            prop_assert_eq!(naive(&a.without(&b)), &plain_a - &plain_b);
            prop_assert_eq!(naive(&a.within(&b)), &plain_a & &plain_b);
            let mut all = a.clone();
            all.extend(&b);
            prop_assert_eq!(naive(&all), &plain_a | &plain_b);
            for sequence in 0..70 {
                prop_assert_eq!(a.contains(sequence), plain_a.contains(&sequence));
                let mut more = a.clone();
                more.insert(sequence, sequence);
                prop_assert_eq!(a.touches(sequence), more.len() <= a.len());
            }
        }

        #[test]
        fn ranges_are_never_adjacent(a in some(), b in some()) {
            let (a, b) = (both(&a).0, both(&b).0);
            for ranges in [a.without(&b), a.within(&b), a] {
                let pairs: Vec<_> = ranges.iter().collect();
                prop_assert!(pairs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            }
        }
    }
}
