//! Holds what is in MongoDB against the truth. The comparison is pure; `verify::mongodb` feeds it.
//!
//! | word | means |
//! |---|---|
//! | lost | acknowledged to the device, and in no document |
//! | duplicated | documents beyond the first of one (device, boot, sequence) |
//! | altered | a document whose values are not bit by bit the ones sent |
//! | disordered | within an epoch and device, a document after one with a greater (boot, sequence), both of which the simulator sent exactly once and in order |
//! | unexpected | a document of this run that was never sent |
//! | rejected | the agent refused a sound reading for good |
//!
//! Readings that a fault damaged on a line nobody can be asked on may be there in any form; readings
//! that went out but were never acknowledged may be there or not, but if so, exactly once and exactly.

pub mod mongodb;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use serde::Serialize;

use crate::truth::{Exact, Line, State};

/// Examples kept of each finding.
const EXAMPLES: usize = 5;

/// One document, reduced to what is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// `_id`.
    pub id: String,
    /// `meta.device`.
    pub device: String,
    /// `src.boot` and `src.seq`.
    pub source: Option<(i64, i64)>,
    /// The values, also those under `raw`.
    pub values: BTreeMap<String, Exact>,
}

/// A finding: how often, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How often.
    pub count: u64,
    /// The first few, for people.
    pub examples: Vec<String>,
}

impl Finding {
    fn add(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example());
        }
    }
}

/// What came out. The words are those of the module's table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Nothing lost that is not declared, nothing duplicated, altered, disordered, unexpected, rejected.
    pub clean: bool,
    /// The truth has its last line; without it, readings on their way at the end are not "unexpected".
    pub truth_complete: bool,
    /// Readings that went out.
    pub sent: u64,
    /// Of these, confirmed: must be stored.
    pub acknowledged: u64,
    /// Different readings of the truth found in MongoDB.
    pub stored: u64,
    /// Went out whole, never confirmed, and stored.
    pub unacknowledged_stored: u64,
    /// Went out whole, never confirmed, and not stored: no obligation.
    pub unacknowledged_missing: u64,
    /// Their only transmission was damaged: no obligation.
    pub damaged: u64,
    /// Readings the gateway itself declared lost, by exact ranges.
    pub declared_lost: u64,
    /// Ranges it declared lost whose end is not known.
    pub declared_open_ended: u64,
    /// Documents of this gateway from runs before this one, or without a source identity.
    pub not_compared: u64,
    /// See the module's table.
    pub lost: Finding,
    /// See the module's table.
    pub duplicated: Finding,
    /// See the module's table.
    pub altered: Finding,
    /// See the module's table.
    pub disordered: Finding,
    /// See the module's table.
    pub unexpected: Finding,
    /// See the module's table.
    pub rejected: Finding,
}

type Key = (u32, u32, u32);

/// About 40 bytes a reading, so that a million fit anywhere.
struct Expected {
    values: u64,
    state: State,
    /// Sent exactly once and in order: order must hold.
    in_order: bool,
    stored: bool,
}

/// Takes the truth first, then the documents in the order of their ids.
pub struct Comparison {
    devices: HashMap<String, u32>,
    expected: HashMap<Key, Expected>,
    first_boot: u32,
    epoch: String,
    /// By device: the highest in-order (boot, sequence) of the epoch.
    newest: HashMap<u32, (u32, u32)>,
    verdict: Verdict,
}

impl Comparison {
    /// `started_s`: when the run began, in seconds since 1970; boots count from there, so lower ones are
    /// of other runs.
    #[must_use]
    pub fn new(started_s: u32) -> Self {
        Self {
            devices: HashMap::new(),
            expected: HashMap::new(),
            first_boot: started_s,
            epoch: String::new(),
            newest: HashMap::new(),
            verdict: Verdict::default(),
        }
    }

    /// Takes one line of the truth.
    pub fn expect(&mut self, line: Line) {
        let verdict = &mut self.verdict;
        verdict.sent += 1;
        match line.state {
            State::Acknowledged => verdict.acknowledged += 1,
            State::Damaged => verdict.damaged += 1,
            State::Rejected => verdict
                .rejected
                .add(|| name(&line.device, line.boot, line.seq)),
            State::Sent => {}
        }
        let count = u32::try_from(self.devices.len()).unwrap_or(u32::MAX);
        let device = *self.devices.entry(line.device).or_insert(count);
        let expected = Expected {
            values: fingerprint(&line.values),
            state: line.state,
            in_order: line.sends == 1 && !line.reordered,
            stored: false,
        };
        self.expected
            .insert((device, line.boot, line.seq), expected);
    }

    /// Takes one document.
    pub fn see(&mut self, document: &Stored) {
        let verdict = &mut self.verdict;
        let Some((boot, seq)) = document.source else {
            verdict.not_compared += 1;
            return;
        };
        let describe = || format!("{} {}/{boot}/{seq}", document.id, document.device);
        let key = (|| {
            let device = *self.devices.get(&document.device)?;
            Some((device, u32::try_from(boot).ok()?, u32::try_from(seq).ok()?))
        })();
        let Some((key, expected)) = key.and_then(|key| Some((key, self.expected.get_mut(&key)?)))
        else {
            if (0..i64::from(self.first_boot)).contains(&boot) {
                verdict.not_compared += 1;
            } else {
                verdict.unexpected.add(describe);
            }
            return;
        };
        if std::mem::replace(&mut expected.stored, true) {
            verdict.duplicated.add(describe);
            return;
        }
        verdict.stored += 1;
        if expected.state == State::Sent {
            verdict.unacknowledged_stored += 1;
        }
        if expected.state != State::Damaged && expected.values != fingerprint(&document.values) {
            verdict
                .altered
                .add(|| format!("{} has {:?}", describe(), document.values));
        }
        let epoch = document.id.rsplit_once(':').map_or("", |(epoch, _)| epoch);
        if epoch != self.epoch {
            epoch.clone_into(&mut self.epoch);
            self.newest.clear();
        }
        if expected.in_order {
            let (device, boot, seq) = key;
            let newest = self.newest.entry(device).or_insert((boot, seq));
            if (boot, seq) < *newest {
                let after = *newest;
                verdict
                    .disordered
                    .add(|| format!("{} after {}/{}", describe(), after.0, after.1));
            }
            *newest = (*newest).max((boot, seq));
        }
    }

    /// A range the gateway declared lost; `None` where its end is not known.
    pub fn declare(&mut self, first: u64, last: Option<u64>) {
        match last {
            Some(last) => self.verdict.declared_lost += last.saturating_sub(first) + 1,
            None => self.verdict.declared_open_ended += 1,
        }
    }

    /// What came out. `truth_complete`: see [`Verdict::truth_complete`].
    #[must_use]
    pub fn verdict(mut self, truth_complete: bool) -> Verdict {
        let names: HashMap<u32, &String> = self.devices.iter().map(|(n, &at)| (at, n)).collect();
        let verdict = &mut self.verdict;
        let mut missing: Vec<Key> = Vec::new();
        for (key, expected) in self
            .expected
            .iter()
            .filter(|(_, expected)| !expected.stored)
        {
            match expected.state {
                State::Acknowledged => missing.push(*key),
                State::Sent => verdict.unacknowledged_missing += 1,
                State::Damaged | State::Rejected => {}
            }
        }
        missing.sort_unstable();
        for (device, boot, seq) in missing {
            let device = names.get(&device).map_or("?", |name| name.as_str());
            verdict.lost.add(|| name(device, boot, seq));
        }
        verdict.truth_complete = truth_complete;
        let findings = [
            verdict.lost.count.saturating_sub(verdict.declared_lost),
            verdict.duplicated.count,
            verdict.altered.count,
            verdict.disordered.count,
            if truth_complete {
                verdict.unexpected.count
            } else {
                0
            },
            verdict.rejected.count,
        ];
        // A run without a single reading proves nothing.
        verdict.clean = verdict.sent > 0 && findings.iter().all(|&count| count == 0);
        self.verdict
    }
}

fn name(device: &str, boot: u32, seq: u32) -> String {
    format!("{device}/{boot}/{seq}")
}

/// Equal for values that are equal bit by bit, of equal types, under equal names.
fn fingerprint(values: &BTreeMap<String, Exact>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (name, value) in values {
        name.hash(&mut hasher);
        match value {
            Exact::Float(number) => (0_u8, number.to_bits()).hash(&mut hasher),
            Exact::Int(number) => (1_u8, number).hash(&mut hasher),
            Exact::Bool(state) => (2_u8, state).hash(&mut hasher),
            Exact::Text(text) => (3_u8, text).hash(&mut hasher),
        }
    }
    hasher.finish()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (word, count) in [
            ("sent", self.sent),
            ("acknowledged", self.acknowledged),
            ("stored", self.stored),
        ] {
            writeln!(f, "{word:<22}{count:>10}")?;
        }
        for (word, finding) in [
            ("lost", &self.lost),
            ("duplicated", &self.duplicated),
            ("altered", &self.altered),
            ("disordered", &self.disordered),
            ("unexpected", &self.unexpected),
            ("rejected", &self.rejected),
        ] {
            writeln!(f, "{word:<22}{:>10}", finding.count)?;
            for example in &finding.examples {
                writeln!(f, "    {example}")?;
            }
        }
        for (word, count) in [
            ("declared lost", self.declared_lost),
            ("declared, end unknown", self.declared_open_ended),
            ("unacknowledged, stored", self.unacknowledged_stored),
            ("unacknowledged, absent", self.unacknowledged_missing),
            ("damaged on the line", self.damaged),
            ("not compared", self.not_compared),
        ] {
            if count > 0 {
                writeln!(f, "{word:<22}{count:>10}")?;
            }
        }
        if !self.truth_complete {
            writeln!(f, "the truth has no end: the simulator was cut off")?;
        }
        let verdict = if self.clean { "clean" } else { "NOT CLEAN" };
        write!(f, "{:<22}{verdict:>10}", "verdict")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::tests::line;

    const EPOCH: &str = "gw:00000000000a";

    /// Pipeline sequence, source sequence, value.
    fn stored(at: u32, seq: u32, power: f64) -> Stored {
        Stored {
            id: format!("{EPOCH}:{at:012x}"),
            device: "d".into(),
            source: Some((9, seq.into())),
            values: BTreeMap::from([("power_w".into(), Exact::Float(power))]),
        }
    }

    fn compare(truth: &[Line], documents: &[Stored]) -> Verdict {
        let mut comparison = Comparison::new(5);
        for line in truth {
            comparison.expect(line.clone());
        }
        for document in documents {
            comparison.see(document);
        }
        comparison.verdict(true)
    }

    fn acknowledged(count: u32) -> Vec<Line> {
        (0..count)
            .map(|seq| line("d", seq, State::Acknowledged, f64::from(seq)))
            .collect()
    }

    fn counts(verdict: &Verdict) -> [u64; 5] {
        [
            &verdict.lost,
            &verdict.duplicated,
            &verdict.altered,
            &verdict.disordered,
            &verdict.unexpected,
        ]
        .map(|finding| finding.count)
    }

    #[test]
    fn each_departure_from_the_truth_is_found_under_its_name() {
        let good = || vec![stored(0, 0, 0.0), stored(1, 1, 1.0), stored(2, 2, 2.0)];
        let with = |change: fn(&mut Vec<Stored>)| {
            let mut documents = good();
            change(&mut documents);
            documents
        };
        for (what, documents, expected) in [
            ("all there", good(), [0, 0, 0, 0, 0]),
            ("lost", with(|d| drop(d.remove(1))), [1, 0, 0, 0, 0]),
            (
                "twice",
                with(|d| d.push(stored(3, 0, 0.0))),
                [0, 1, 0, 0, 0],
            ),
            (
                "altered",
                with(|d| d[1] = stored(1, 1, 1.0 + f64::EPSILON)),
                [0, 0, 1, 0, 0],
            ),
            (
                "other type",
                with(|d| drop(d[1].values.insert("power_w".into(), Exact::Int(1)))),
                [0, 0, 1, 0, 0],
            ),
            (
                "a value more",
                with(|d| drop(d[1].values.insert("x".into(), Exact::Int(1)))),
                [0, 0, 1, 0, 0],
            ),
            (
                "swapped values",
                vec![stored(0, 0, 1.0), stored(1, 1, 0.0), stored(2, 2, 2.0)],
                [0, 0, 2, 0, 0],
            ),
            (
                "swapped order",
                vec![stored(0, 1, 1.0), stored(1, 0, 0.0), stored(2, 2, 2.0)],
                [0, 0, 0, 1, 0],
            ),
            (
                "never sent",
                with(|d| d.push(stored(3, 3, 3.0))),
                [0, 0, 0, 0, 1],
            ),
            ("nothing", vec![], [3, 0, 0, 0, 0]),
        ] {
            let verdict = compare(&acknowledged(3), &documents);
            assert_eq!(counts(&verdict), expected, "{what}: {verdict}");
            assert_eq!(verdict.clean, expected == [0; 5], "{what}");
        }
    }

    #[test]
    fn what_was_not_acknowledged_is_no_obligation_but_must_be_exact() {
        for (state, power, clean) in [
            (State::Sent, None, true),
            (State::Sent, Some(0.0), true),
            (State::Sent, Some(1.0), false),
            (State::Damaged, None, true),
            (State::Damaged, Some(1.0), true),
            (State::Acknowledged, None, false),
            (State::Rejected, None, false),
        ] {
            let documents: Vec<_> = power.into_iter().map(|power| stored(0, 0, power)).collect();
            let verdict = compare(&[line("d", 0, state, 0.0)], &documents);
            assert_eq!(verdict.clean, clean, "{state:?} {power:?}");
        }
    }

    #[test]
    fn order_is_not_asked_of_what_was_sent_again_or_reordered_nor_across_epochs() {
        let swapped = [stored(0, 1, 1.0), stored(1, 0, 0.0)];
        let mut truth = acknowledged(2);
        truth[0].sends = 2;
        assert!(compare(&truth, &swapped).clean);
        let mut truth = acknowledged(2);
        truth[0].reordered = true;
        assert!(compare(&truth, &swapped).clean);
        let mut other_epoch = swapped;
        other_epoch[1].id = "gw:00000000000b:000000000000".into();
        assert!(compare(&acknowledged(2), &other_epoch).clean);
    }

    #[test]
    fn declared_losses_explain_only_as_many_as_they_name() {
        for (last, clean) in [(Some(0), false), (Some(1), true), (None, false)] {
            let mut comparison = Comparison::new(5);
            acknowledged(2)
                .into_iter()
                .for_each(|line| comparison.expect(line));
            comparison.declare(0, last);
            assert_eq!(comparison.verdict(true).clean, clean, "{last:?}");
        }
    }

    #[test]
    fn documents_of_earlier_runs_are_not_compared() {
        let mut earlier = stored(0, 0, 0.0);
        earlier.source = Some((4, 0));
        let mut anonymous = stored(1, 0, 0.0);
        anonymous.source = None;
        let verdict = compare(&acknowledged(1), &[earlier, anonymous, stored(2, 0, 0.0)]);
        assert!(verdict.clean, "{verdict}");
        assert_eq!(verdict.not_compared, 2);
        assert!(!compare(&[], &[]).clean, "an empty run proves nothing");
    }
}
