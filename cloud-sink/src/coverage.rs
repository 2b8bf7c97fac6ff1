//! Coverage: which readings of each stream the sink has seen to their end. Pure.
//!
//! It is a fold over the records of one partition. What a verdict adds does not depend on the order, and
//! adding it twice changes nothing, so redelivery is harmless here as everywhere. In memory there is only
//! what came since the last checkpoint; MongoDB keeps the sum, one document per gateway, lane, epoch and
//! partition (see [`crate::store::checkpoints`]).
//!
//! **Present beats dead-lettered**: a dead letter that was replayed is present. A conflicting id is
//! present as well, for the first reading has the place; it is noted because the second is in `incidents`.
//!
//! What is present is kept by the day on which MongoDB may remove it, so that expired is told from
//! deleted. The first day noted counts, as the first document counts.
//!
//! **A hole is only told once it is one.** Records of a partition are settled in any order, so a hole in the
//! middle may be a batch that is still under way. Readings of a stream come in the order of their
//! sequences, so once every record up to the newest one noted is settled, what lies between was not in the
//! topic ([`Stream::gaps`]).
//!
//! Bounded: a stream with more than [`MAX_RANGES`] ranges notes no new ones and says so; coverage is then
//! too small, never too large, and only a full audit can tell.

mod ranges;

use std::collections::BTreeMap;

use protocol::{Epoch, GatewayId, RecordId};

pub use ranges::Ranges;

/// Most ranges of one stream.
pub const MAX_RANGES: usize = 4096;

/// A day of 24 h since 1970, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub i64);

impl Day {
    const MILLIS: i64 = 86_400_000;

    /// The day of a moment in milliseconds since 1970.
    #[must_use]
    pub fn of(ms: i64) -> Self {
        Self(ms.div_euclid(Self::MILLIS))
    }

    /// Whether what may be removed on this day may be gone at that moment.
    #[must_use]
    pub fn has_begun(self, now_ms: i64) -> bool {
        Self::of(now_ms) >= self
    }

    /// Whether all that may be removed on this day is gone at that moment: MongoDB looks each minute, and
    /// a busy one later.
    #[must_use]
    pub fn is_over(self, now_ms: i64) -> bool {
        Self::of(now_ms) > self
    }
}

/// What became of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// MongoDB has it, until that day.
    Present(Option<Day>),
    /// The dead-letter topic has it.
    DeadLettered,
    /// Another reading has its id.
    Conflicting,
}

/// What is known of one epoch in one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stream {
    /// By the day on which MongoDB may remove them; `None` is never.
    pub present: BTreeMap<Option<Day>, Ranges>,
    /// In the dead-letter topic and not present.
    pub dead_lettered: Ranges,
    /// Ids for which a second reading came.
    pub conflicting: Ranges,
    /// Not everything could be noted.
    pub overflowed: bool,
    /// The highest offset of what was noted here; not kept.
    pub newest_offset: Option<i64>,
}

/// Readings of a stream that are not where they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Whose.
    pub gateway: GatewayId,
    /// Of which run.
    pub epoch: Epoch,
    /// The first sequence.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

impl Stream {
    /// All that is or was in MongoDB.
    #[must_use]
    pub fn all_present(&self) -> Ranges {
        let mut all = Ranges::default();
        for ranges in self.present.values() {
            all.extend(ranges);
        }
        all
    }

    /// What is neither present nor dead-lettered, from `told` up to the last that is.
    #[must_use]
    pub fn gaps(&self, told: u64) -> Ranges {
        let mut known = self.all_present();
        known.extend(&self.dead_lettered);
        match known.last() {
            Some(last) => Ranges::of(told, last).without(&known),
            None => Ranges::default(),
        }
    }

    /// The end of what [`Stream::gaps`] speaks of.
    #[must_use]
    pub fn end(&self) -> u64 {
        let ends = [self.all_present().last(), self.dead_lettered.last()];
        ends.into_iter().flatten().max().map_or(0, |last| last + 1)
    }

    /// Whether every record that was noted here, and so each one before it, lies below that offset.
    #[must_use]
    pub fn is_settled_to(&self, offset: Option<i64>) -> bool {
        self.newest_offset
            .zip(offset)
            .is_some_and(|(newest, settled_to)| newest < settled_to)
    }

    fn note(&mut self, sequence: u64, verdict: Verdict, offset: i64) {
        self.newest_offset = self.newest_offset.max(Some(offset));
        let is_present = self.present.values().any(|r| r.contains(sequence));
        let is_full = self.len() >= MAX_RANGES;
        let ranges = match verdict {
            Verdict::Present(_) | Verdict::DeadLettered if is_present => return,
            Verdict::Present(day) => {
                if self.dead_lettered.contains(sequence) {
                    let one = Ranges::of(sequence, sequence);
                    self.dead_lettered = self.dead_lettered.without(&one);
                }
                self.present.entry(day).or_default()
            }
            Verdict::DeadLettered => &mut self.dead_lettered,
            Verdict::Conflicting => &mut self.conflicting,
        };
        if is_full && !ranges.touches(sequence) {
            self.overflowed = true;
        } else {
            ranges.insert(sequence, sequence);
        }
    }

    /// Adds what is known elsewhere; what is known here counts first.
    pub fn merge(&mut self, other: &Self) {
        let known = self.all_present();
        for (day, ranges) in &other.present {
            let news = ranges.without(&known);
            if !news.is_empty() {
                self.present.entry(*day).or_default().extend(&news);
            }
        }
        self.dead_lettered.extend(&other.dead_lettered);
        self.dead_lettered = self.dead_lettered.without(&self.all_present());
        self.conflicting.extend(&other.conflicting);
        self.overflowed |= other.overflowed;
        self.newest_offset = self.newest_offset.max(other.newest_offset);
    }

    /// The same within the bound: what has no room is forgotten from the end, and that is said.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let mut left = MAX_RANGES;
        let sets = self.present.values_mut();
        for ranges in sets.chain([&mut self.dead_lettered, &mut self.conflicting]) {
            if ranges.len() > left {
                *ranges = ranges.iter().take(left).collect();
                self.overflowed = true;
            }
            left -= ranges.len();
        }
        self
    }

    fn len(&self) -> usize {
        let present: usize = self.present.values().map(Ranges::len).sum();
        present + self.dead_lettered.len() + self.conflicting.len()
    }
}

/// What is known of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<GatewayId, BTreeMap<Epoch, Stream>>);

impl Coverage {
    /// Notes what became of the reading of the record at `offset`.
    pub fn note(&mut self, id: &RecordId, verdict: Verdict, offset: i64) {
        // Of each reading: nothing is copied for a gateway that is known.
        let epochs = match self.0.get_mut(&id.gateway) {
            Some(epochs) => epochs,
            None => self.0.entry(id.gateway.clone()).or_default(),
        };
        let stream = epochs.entry(id.epoch).or_default();
        stream.note(id.sequence, verdict, offset);
    }

    /// The streams of which records may still be under way, with nothing but that.
    #[must_use]
    pub fn unsettled(&self, settled_to: Option<i64>) -> Self {
        let mut unsettled = Self::default();
        for (gateway, epoch, stream) in self.iter() {
            if !stream.is_settled_to(settled_to) {
                let only = Stream {
                    newest_offset: stream.newest_offset,
                    ..Stream::default()
                };
                let epochs = unsettled.0.entry(gateway.clone()).or_default();
                epochs.insert(epoch, only);
            }
        }
        unsettled
    }

    /// Puts back what was taken and could not be kept.
    pub fn merge(&mut self, other: Self) {
        for (gateway, epochs) in other.0 {
            let here = self.0.entry(gateway).or_default();
            for (epoch, stream) in epochs {
                here.entry(epoch).or_default().merge(&stream);
            }
        }
    }

    /// Each stream.
    pub fn iter(&self) -> impl Iterator<Item = (&GatewayId, Epoch, &Stream)> {
        self.0.iter().flat_map(|(gateway, epochs)| {
            let each = epochs.iter();
            each.map(move |(epoch, stream)| (gateway, *epoch, stream))
        })
    }

    /// How many streams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// Nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap as Map, BTreeSet as Set};

    use super::*;
    use proptest::prelude::*;

    const P: Verdict = Verdict::Present(None);
    const D: Verdict = Verdict::DeadLettered;
    const C: Verdict = Verdict::Conflicting;

    fn id(sequence: u64) -> RecordId {
        RecordId {
            gateway: "gw7".parse().unwrap(),
            epoch: Epoch::from_random(1),
            sequence,
        }
    }

    fn fold(verdicts: &[(u64, Verdict)]) -> Stream {
        let mut coverage = Coverage::default();
        for (sequence, verdict) in verdicts {
            coverage.note(&id(*sequence), *verdict, 0);
        }
        let mut streams = coverage.0.into_values().flat_map(BTreeMap::into_values);
        streams.next().unwrap_or_default()
    }

    fn text(ranges: &Ranges) -> String {
        let each = ranges
            .iter()
            .map(|(first, last)| format!("{first}..{last}"));
        each.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn verdicts_become_ranges_and_present_beats_dead_lettered() {
        type Case<'a> = (&'a str, &'a [(u64, Verdict)], [&'a str; 3]);
        let table: &[Case<'_>] = &[
            ("in order", &[(0, P), (1, P), (2, P)], ["0..2", "", ""]),
            ("out of order", &[(2, P), (0, P), (1, P)], ["0..2", "", ""]),
            ("twice", &[(5, P), (5, P)], ["5..5", "", ""]),
            ("a hole", &[(0, P), (2, P)], ["0..0 2..2", "", ""]),
            (
                "dead between",
                &[(0, P), (1, D), (2, P)],
                ["0..0 2..2", "1..1", ""],
            ),
            ("replayed", &[(0, P), (1, D), (1, P)], ["0..1", "", ""]),
            (
                "an old death read again",
                &[(1, P), (1, D)],
                ["1..1", "", ""],
            ),
            (
                "a conflict is present too",
                &[(1, P), (1, C)],
                ["1..1", "", "1..1"],
            ),
        ];
        for (name, verdicts, expected) in table {
            let stream = fold(verdicts);
            let found = [
                text(&stream.all_present()),
                text(&stream.dead_lettered),
                text(&stream.conflicting),
            ];
            assert_eq!(found, *expected, "{name}");
        }
    }

    #[test]
    fn a_gap_is_what_is_neither_present_nor_dead_below_the_last() {
        type Case<'a> = (&'a str, &'a [(u64, Verdict)], u64, &'a str);
        let table: &[Case<'_>] = &[
            ("in order", &[(0, P), (1, P)], 0, ""),
            ("a hole", &[(0, P), (3, P)], 0, "1..2"),
            ("the beginning", &[(2, P)], 0, "0..1"),
            ("told before", &[(0, P), (3, P), (5, P)], 4, "4..4"),
            ("dead is not missing", &[(0, P), (1, D), (3, D)], 0, "2..2"),
            ("a conflict alone says nothing", &[(5, C)], 0, ""),
        ];
        for (name, verdicts, told, gaps) in table {
            assert_eq!(text(&fold(verdicts).gaps(*told)), *gaps, "{name}");
        }
    }

    #[test]
    fn a_hole_is_no_gap_while_a_record_before_it_may_be_under_way() {
        let mut stream = Stream::default();
        assert!(!stream.is_settled_to(Some(9)), "nothing was noted");
        stream.note(7, P, 20);
        for (settled_to, expected) in [(None, false), (Some(20), false), (Some(21), true)] {
            assert_eq!(stream.is_settled_to(settled_to), expected, "{settled_to:?}");
        }
        assert_eq!(stream.end(), 8);
    }

    #[test]
    fn the_first_day_of_expiry_counts() {
        let (monday, tuesday) = (Some(Day(4)), Some(Day(5)));
        let stream = fold(&[
            (0, Verdict::Present(monday)),
            (0, Verdict::Present(tuesday)),
            (1, Verdict::Present(tuesday)),
        ]);
        assert_eq!(text(&stream.present[&monday]), "0..0");
        assert_eq!(text(&stream.present[&tuesday]), "1..1");
        assert!(!Day(4).has_begun(4 * 86_400_000 - 1));
        assert!(Day(4).has_begun(4 * 86_400_000));
    }

    #[test]
    fn a_stream_of_holes_is_bounded_and_says_so() {
        let holes = MAX_RANGES as u64 + 10;
        let verdicts: Vec<_> = (0..holes).map(|n| (2 * n, P)).collect();
        let mut stream = fold(&verdicts);
        assert!(stream.overflowed);
        assert_eq!(stream.len(), MAX_RANGES);
        // What extends a range is still noted.
        stream.note(1, P, 0);
        assert!(stream.all_present().contains(1));
        let merged = {
            let mut other = fold(&[(10 * holes, P)]);
            other.merge(&stream);
            other.merge(&fold(&[(20 * holes, P)]));
            other.bounded()
        };
        assert_eq!(merged.len(), MAX_RANGES);
        assert!(merged.overflowed);
    }

    #[test]
    fn a_day_of_readings_in_order_is_one_range() {
        let verdicts: Vec<_> = (0..86_400).map(|n| (n, P)).collect();
        assert_eq!(fold(&verdicts).len(), 1);
    }

    fn verdicts() -> impl Strategy<Value = Vec<(u64, Verdict)>> {
        let verdict = prop_oneof![
            4 => (0..3_i64).prop_map(|day| Verdict::Present((day > 0).then_some(Day(day)))),
            1 => Just(D),
            1 => Just(C),
        ];
        prop::collection::vec((0..40_u64, verdict), 0..80)
    }

    proptest! {
        #[test]
        fn the_fold_is_what_plain_sets_would_be(verdicts in verdicts()) {
            let (mut present, mut dead, mut conflicts) = (Map::new(), Set::new(), Set::new());
            for &(sequence, verdict) in &verdicts {
                match verdict {
                    Verdict::Present(day) => {
                        present.entry(sequence).or_insert(day);
                    }
                    Verdict::DeadLettered => {
                        dead.insert(sequence);
                    }
                    Verdict::Conflicting => {
                        conflicts.insert(sequence);
                    }
                }
            }
            let stream = fold(&verdicts);
            for sequence in 0..40 {
                let days: Vec<_> = stream
                    .present
                    .iter()
                    .filter(|(_, ranges)| ranges.contains(sequence))
                    .map(|(day, _)| *day)
                    .collect();
                let expected: Vec<_> = present.get(&sequence).copied().into_iter().collect();
                prop_assert_eq!(days, expected);
                let is_dead = dead.contains(&sequence) && !present.contains_key(&sequence);
                prop_assert_eq!(stream.dead_lettered.contains(sequence), is_dead);
                prop_assert_eq!(stream.conflicting.contains(sequence), conflicts.contains(&sequence));
            }
        }

        #[test]
        fn a_fold_in_parts_is_the_fold_of_the_whole(verdicts in verdicts(), cut in 0..80_usize) {
            let cut = cut.min(verdicts.len());
            let mut parts = fold(&verdicts[..cut]);
            parts.merge(&fold(&verdicts[cut..]));
            prop_assert_eq!(&parts, &fold(&verdicts));
            // Redelivery of any part changes nothing.
            parts.merge(&fold(&verdicts[..cut]));
            parts.merge(&fold(&verdicts[cut..]));
            prop_assert_eq!(parts, fold(&verdicts));
        }
    }
}
