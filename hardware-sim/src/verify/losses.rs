//! Which missing readings the gateway's own statements explain: by identity, not by number.
//!
//! The truth does not know what identity a reading was given that never arrived. But a device's readings
//! are in order, so it lies between those of its neighbours that did arrive. A missing reading is
//! explained by an identity between them that is declared lost and in no document, and no identity
//! explains two.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
};

/// An identity: number of the epoch, sequence.
pub(super) type Place = (u32, u64);

/// Position in the order of the gateway: how many epochs are before, then the sequence.
type Position = (u32, u64);

/// Where a missing reading would be, at the earliest and the latest.
pub(super) type Gap = (Option<Place>, Option<Place>);

#[derive(Default)]
pub(super) struct Losses {
    epochs: HashMap<String, u32>,
    present: HashSet<Place>,
    declared: Vec<(u32, u64, u64)>,
}

impl Losses {
    fn epoch(&mut self, name: &str) -> u32 {
        let next = u32::try_from(self.epochs.len()).unwrap_or(u32::MAX);
        match self.epochs.get(name) {
            Some(number) => *number,
            None => *self.epochs.entry(name.to_owned()).or_insert(next),
        }
    }

    /// The place of a document, by its id; `None` where it is not one of ours.
    pub fn see(&mut self, id: &str) -> Option<Place> {
        let (epoch, sequence) = id.rsplit_once(':')?;
        let sequence = u64::from_str_radix(sequence, 16).ok()?;
        let place = (self.epoch(epoch), sequence);
        self.present.insert(place);
        Some(place)
    }

    /// A range of an epoch is declared lost.
    pub fn declare(&mut self, epoch: &str, first: u64, last: u64) {
        if first <= last {
            let epoch = self.epoch(epoch);
            self.declared.push((epoch, first, last));
        }
    }

    /// The declared ranges in order, none of which touches another.
    fn ranges(&self) -> Vec<(u32, u64, u64)> {
        let mut sorted = self.declared.clone();
        sorted.sort_unstable();
        let mut ranges: Vec<(u32, u64, u64)> = Vec::new();
        for (epoch, first, last) in sorted {
            match ranges.last_mut() {
                Some(range) if range.0 == epoch && first <= range.2.saturating_add(1) => {
                    range.2 = range.2.max(last);
                }
                _ => ranges.push((epoch, first, last)),
            }
        }
        ranges
    }

    /// Identities that are declared lost and in no document.
    pub fn count(&self) -> u64 {
        let ranges = self.ranges();
        let named: u64 = ranges.iter().map(|(_, first, last)| last - first + 1).sum();
        let holds = |(epoch, sequence): &&Place| {
            let after = ranges.partition_point(|range| (range.0, range.1) <= (*epoch, *sequence));
            let range = after.checked_sub(1).map(|at| ranges[at]);
            range.is_some_and(|(of, _, last)| of == *epoch && *sequence <= last)
        };
        named - self.present.iter().filter(holds).count() as u64
    }

    /// How many epochs are before each, where the chain leaves no doubt: no two have equally many.
    fn depths(&self, previous: &HashMap<String, String>) -> Option<Vec<u32>> {
        let mut depths = vec![0; self.epochs.len()];
        let mut seen = HashSet::new();
        for (name, number) in &self.epochs {
            let mut depth = 0;
            let mut before = previous.get(name);
            while let Some(earlier) = before.filter(|_| depth as usize <= previous.len()) {
                depth += 1;
                before = previous.get(earlier);
            }
            if !seen.insert(depth) {
                return None;
            }
            depths[*number as usize] = depth;
        }
        Some(depths)
    }

    /// Whether each gap is explained.
    pub fn explain(&self, gaps: &[Gap], previous: &HashMap<String, String>) -> Vec<bool> {
        let depths = self.depths(previous);
        let depth = |epoch: u32| match &depths {
            Some(depths) => depths[epoch as usize],
            None => epoch,
        };
        let position = |(epoch, sequence): Place| -> Position { (depth(epoch), sequence) };
        // Without an order of the epochs, neighbours say nothing.
        let known = |place: Option<Place>| place.filter(|_| depths.is_some()).map(position);
        let mut waiting: Vec<(Position, Position, usize)> = (gaps.iter().enumerate())
            .map(|(index, (after, before))| {
                let after = known(*after).map_or((0, 0), |(epoch, sequence)| (epoch, sequence + 1));
                (after, known(*before).unwrap_or((u32::MAX, u64::MAX)), index)
            })
            .collect();
        waiting.sort_unstable_by_key(|gap| Reverse(gap.0));
        let mut ranges = self.ranges();
        ranges.sort_unstable_by_key(|(epoch, first, _)| position((*epoch, *first)));
        let mut explained = vec![false; gaps.len()];
        // The gaps that begin before the identity at hand; the one that ends first is served first.
        let mut open = BinaryHeap::new();
        for (epoch, first, last) in ranges {
            let mut sequence = first;
            while sequence <= last {
                let at = position((epoch, sequence));
                while let Some((_, end, index)) = waiting.pop_if(|gap| gap.0 <= at) {
                    open.push(Reverse((end, index)));
                }
                while open.peek().is_some_and(|Reverse((end, _))| *end <= at) {
                    open.pop();
                }
                if open.is_empty() {
                    // On to where the next gap begins, if that is in this range.
                    match waiting.last() {
                        Some(gap) if gap.0 <= position((epoch, last)) => {
                            sequence = gap.0.1;
                            continue;
                        }
                        _ => break,
                    }
                }
                if !self.present.contains(&(epoch, sequence))
                    && let Some(Reverse((_, index))) = open.pop()
                {
                    explained[index] = true;
                }
                sequence += 1;
            }
        }
        explained
    }
}
