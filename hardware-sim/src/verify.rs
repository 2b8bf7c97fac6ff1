//! Holds what is in MongoDB against the truth. The comparison is pure; `verify::mongodb` feeds it.
//!
//! | word | means |
//! |---|---|
//! | lost | acknowledged to the device, and in no document |
//! | duplicated | documents beyond the first of one (device, boot, sequence) |
//! | altered | a document whose values are not bit by bit the ones sent, or whose time is not, to the millisecond |
//! | disordered | a document after one of the same device with a greater (boot, sequence) |
//! | unexpected | a document of this run that was never sent |
//! | rejected | the agent refused a sound reading for good |
//!
//! Order is asked of readings that were sent exactly once and that no fault put behind a later one.
//! "After" is by pipeline sequence within an epoch, and along the chain of epochs the gateway told.
//!
//! A lost reading is explained by an identity that the gateway declared lost, that is in no document, and
//! that lies between those of its device's readings before and after; each explains one.
//!
//! Readings that a fault damaged on a line nobody can be asked on may be there in any form; readings
//! that went out but were never acknowledged may be there or not, but if so, exactly once and exactly.

mod losses;
pub mod mongodb;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use serde::Serialize;

use self::losses::{Gap, Losses, Place};
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
    /// `ts` in milliseconds since 1970, where `clock` says that it is the device's own.
    pub time_ms: Option<i64>,
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
    /// Identities the gateway itself declared lost, by exact ranges, and that are in no document.
    pub declared_lost: u64,
    /// Of the lost readings, those that the declared ones explain.
    pub explained: u64,
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

/// About 80 bytes a reading, so that a million fit anywhere.
struct Expected {
    values: u64,
    time_ms: Option<i64>,
    state: State,
    /// Sent exactly once and in order: order must hold.
    in_order: bool,
    stored: bool,
    /// Where, if its document is one of ours.
    place: Option<Place>,
}

/// The in-order (boot, sequence)s of one device in one epoch.
#[derive(Clone, Copy)]
struct Span {
    lowest: (u32, u32),
    highest: (u32, u32),
}

/// Takes the truth first, then the documents in the order of their ids.
pub struct Comparison {
    devices: HashMap<String, u32>,
    expected: HashMap<Key, Expected>,
    first_boot: u32,
    /// By epoch (with its gateway, as in `_id`) and device.
    spans: BTreeMap<(String, u32), Span>,
    /// Epoch to the one before it.
    previous: HashMap<String, String>,
    losses: Losses,
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
            spans: BTreeMap::new(),
            previous: HashMap::new(),
            losses: Losses::default(),
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
            time_ms: (line.time).and_then(|time| i64::try_from(time / 1000).ok()),
            state: line.state,
            in_order: line.sends == 1 && !line.reordered,
            stored: false,
            place: None,
        };
        self.expected
            .insert((device, line.boot, line.seq), expected);
    }

    /// Takes one document.
    pub fn see(&mut self, document: &Stored) {
        let place = self.losses.see(&document.id);
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
        expected.place = place;
        verdict.stored += 1;
        if expected.state == State::Sent {
            verdict.unacknowledged_stored += 1;
        }
        if expected.state != State::Damaged && expected.values != fingerprint(&document.values) {
            verdict
                .altered
                .add(|| format!("{} has {:?}", describe(), document.values));
        } else if expected.state != State::Damaged
            && let (Some(sent), Some(stored)) = (expected.time_ms, document.time_ms)
            && sent != stored
        {
            verdict
                .altered
                .add(|| format!("{} of {sent} ms is dated {stored} ms", describe()));
        }
        if expected.in_order {
            let epoch = document.id.rsplit_once(':').map_or("", |(epoch, _)| epoch);
            let (device, boot, seq) = key;
            let at = (boot, seq);
            let span = self
                .spans
                .entry((epoch.to_owned(), device))
                .or_insert(Span {
                    lowest: at,
                    highest: at,
                });
            if at < span.highest {
                let (boot, seq) = span.highest;
                verdict
                    .disordered
                    .add(|| format!("{} after {boot}/{seq}", describe()));
            }
            span.lowest = span.lowest.min(at);
            span.highest = span.highest.max(at);
        }
    }

    /// The gateway told that one epoch follows another; both with the gateway, as in `_id`.
    pub fn follows(&mut self, epoch: String, previous: String) {
        self.previous.insert(epoch, previous);
    }

    /// Order along the chain: what a device sent before an epoch ended is not in a later one.
    fn check_chain(&mut self, devices: &HashMap<u32, String>) {
        for ((epoch, device), span) in &self.spans {
            let mut before = self.previous.get(epoch);
            // A chain that bites its tail is somebody else's finding; here it only must end.
            for _ in 0..self.previous.len() {
                let Some(earlier) = before else {
                    break;
                };
                let highest =
                    (self.spans.get(&(earlier.clone(), *device))).map(|span| span.highest);
                if let Some((boot, seq)) = highest.filter(|highest| *highest > span.lowest) {
                    let device = devices.get(device).map_or("?", String::as_str);
                    let low = name(device, span.lowest.0, span.lowest.1);
                    (self.verdict.disordered)
                        .add(|| format!("{epoch} has {low}, {earlier} before it {boot}/{seq}"));
                    break;
                }
                before = self.previous.get(earlier);
            }
        }
    }

    /// A range of an epoch (with its gateway, as in `_id`) the gateway declared lost; `None` where its end
    /// is not known.
    pub fn declare(&mut self, epoch: &str, first: u64, last: Option<u64>) {
        match last {
            Some(last) => self.losses.declare(epoch, first, last),
            None => self.verdict.declared_open_ended += 1,
        }
    }

    /// Between which identities each missing reading lies: those of its device's readings in order.
    fn gaps(&self, missing: &[Key]) -> Vec<Gap> {
        let mut stored: Vec<(Key, Place)> = (self.expected.iter())
            .filter(|(_, expected)| expected.in_order)
            .filter_map(|(key, expected)| Some((*key, expected.place?)))
            .collect();
        stored.sort_unstable();
        let gap = |key: &Key| {
            if !self
                .expected
                .get(key)
                .is_some_and(|missing| missing.in_order)
            {
                return (None, None);
            }
            let at = stored.partition_point(|(other, _)| other < key);
            let same = |found: Option<&(Key, Place)>| {
                found
                    .filter(|(other, _)| other.0 == key.0)
                    .map(|(_, place)| *place)
            };
            (
                same(at.checked_sub(1).map(|at| &stored[at])),
                same(stored.get(at)),
            )
        };
        missing.iter().map(gap).collect()
    }

    /// What came out. `truth_complete`: see [`Verdict::truth_complete`].
    #[must_use]
    pub fn verdict(mut self, truth_complete: bool) -> Verdict {
        let devices = std::mem::take(&mut self.devices);
        let names = devices.into_iter().map(|(name, at)| (at, name)).collect();
        self.check_chain(&names);
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
        let explained = self.losses.explain(&self.gaps(&missing), &self.previous);
        let verdict = &mut self.verdict;
        verdict.declared_lost = self.losses.count();
        verdict.explained = explained.iter().filter(|explained| **explained).count() as u64;
        // Those that nobody explains come first among the examples.
        let mut missing: Vec<(bool, Key)> = explained.into_iter().zip(missing).collect();
        missing.sort_unstable();
        for (_, (device, boot, seq)) in missing {
            let device = names.get(&device).map_or("?", String::as_str);
            verdict.lost.add(|| name(device, boot, seq));
        }
        verdict.truth_complete = truth_complete;
        let findings = [
            verdict.lost.count - verdict.explained,
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
            ("lost, and declared", self.explained),
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
mod tests;
