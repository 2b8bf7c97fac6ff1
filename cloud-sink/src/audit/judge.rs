//! The judgement of one gateway. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use protocol::{Epoch, Timestamp, Topic, control::Loss};

use super::{
    chain::Chain,
    evidence::{Covered, Evidence, Found, Passed, Positions, Stated},
    report::{EpochReport, Finding, GatewayReport, LaneReport, Part, State, Totals},
};
use crate::coverage::{Ranges, Stream};

/// A gateway gives a sign of life each minute; without one for so long it is silent.
const SILENT: Duration = Duration::from_secs(300);
/// A run of which readings are there is stated within seconds; for so long that is waited for.
const STATED: Duration = Duration::from_secs(300);

/// Judges one gateway. With `since`, only of epochs that had news since then; `None` where none had, nor
/// the gateway itself.
#[must_use]
pub fn judge(
    evidence: &Evidence,
    positions: &Positions,
    now: Timestamp,
    since: Option<Timestamp>,
) -> Option<GatewayReport> {
    let is_recent = |at: Option<Timestamp>| since.is_none_or(|since| at >= Some(since));
    let is_old = |at: Option<Timestamp>, after: Duration| {
        at.is_none_or(|at| now.as_millis() - at.as_millis() > millis(after))
    };
    let is_silent = is_old(evidence.heard, SILENT);
    let judged = lanes(evidence).into_iter().map(|(lane, mut epochs)| {
        let facts = || evidence.epochs.iter().filter(|s| s.fact.lane == lane);
        let chain = Chain::of(facts().map(|stated| &stated.fact));
        for stated in facts() {
            epochs.entry(stated.fact.epoch).or_default().stated = Some(stated);
        }
        for epoch in chain.linked() {
            epochs.entry(epoch).or_default();
        }
        let live = evidence.live.get(&lane);
        let judge = LaneJudge {
            positions,
            lane: &lane,
            now,
            is_silent,
            is_full: evidence.found.is_some(),
            alive: live.map(|epoch| chain.ancestry(*epoch)),
            chain: &chain,
        };
        let mut findings = judge.findings(&epochs, is_recent);
        let mut reports = Vec::with_capacity(epochs.len());
        for (epoch, known) in &epochs {
            if known.stated.is_none() && is_old(known.news(), STATED) {
                findings.push(Finding::Unstated { epoch: *epoch });
            }
            reports.push(judge.epoch(*epoch, known));
        }
        judge.explain_retention(&mut reports, &epochs);
        reports.retain(|report| is_recent(report.news));
        lane_report(lane.clone(), reports, findings)
    });
    let lanes: Vec<LaneReport> = judged.filter(|lane| lane.epochs > 0).collect();
    if lanes.is_empty() && !is_recent(evidence.heard) {
        return None;
    }
    // Never heard of at all is silent for ever.
    let heard = evidence.heard.unwrap_or(Timestamp::UNIX_EPOCH);
    Some(GatewayReport {
        gateway: evidence.gateway.clone(),
        silent_since: is_silent.then_some(heard),
        lanes,
    })
}

fn lane_report(lane: Topic, reports: Vec<EpochReport>, findings: Vec<Finding>) -> LaneReport {
    let mut totals = Totals::default();
    reports.iter().for_each(|report| totals.add(report));
    let epochs = reports.len() as u64;
    let open: Vec<EpochReport> = reports
        .into_iter()
        .filter(|report| !report.is_complete())
        .collect();
    LaneReport {
        lane,
        epochs,
        complete: epochs - open.len() as u64,
        totals,
        open,
        findings,
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What is known of one epoch.
#[derive(Default)]
struct Known<'a> {
    stated: Option<&'a Stated>,
    covered: Vec<&'a Covered>,
    losses: Vec<&'a Loss>,
    found: Vec<&'a Found>,
}

impl Known<'_> {
    /// When anything of it last came.
    fn news(&self) -> Option<Timestamp> {
        let covered = self.covered.iter().map(|covered| covered.at);
        covered.chain(self.stated.map(|stated| stated.seen)).max()
    }
}

/// Everything by lane and epoch, in whatever it is named.
fn lanes(evidence: &Evidence) -> BTreeMap<Topic, BTreeMap<Epoch, Known<'_>>> {
    let mut lanes: BTreeMap<Topic, BTreeMap<Epoch, Known<'_>>> = BTreeMap::new();
    for stated in &evidence.epochs {
        lanes.entry(stated.fact.lane.clone()).or_default();
    }
    for covered in &evidence.coverage {
        let lane = lanes.entry(covered.lane.clone()).or_default();
        lane.entry(covered.epoch).or_default().covered.push(covered);
    }
    for loss in &evidence.losses {
        let lane = lanes.entry(loss.lane.clone()).or_default();
        lane.entry(loss.epoch).or_default().losses.push(loss);
    }
    // Several topics may go to one collection: an epoch that is known belongs where it is known.
    let stated = evidence.epochs.iter().map(|s| (s.fact.epoch, &s.fact.lane));
    let covered = evidence.coverage.iter().map(|c| (c.epoch, &c.lane));
    let home: BTreeMap<Epoch, &Topic> = stated.chain(covered).collect();
    for found in evidence.found.iter().flatten() {
        let lane = home.get(&found.epoch).copied().unwrap_or(&found.lane);
        let lane = lanes.entry(lane.clone()).or_default();
        lane.entry(found.epoch).or_default().found.push(found);
    }
    lanes
}

struct LaneJudge<'a> {
    positions: &'a Positions,
    lane: &'a Topic,
    now: Timestamp,
    is_silent: bool,
    is_full: bool,
    /// The run that writes now and all before it; `None` where no run is known to write.
    alive: Option<BTreeSet<Epoch>>,
    chain: &'a Chain,
}

/// Hands out sequences, each once.
struct Split {
    left: Ranges,
    parts: Vec<Part>,
}

impl Split {
    fn take(&mut self, ranges: &Ranges, state: State) {
        let ranges = self.left.within(ranges);
        if !ranges.is_empty() {
            self.left = self.left.without(&ranges);
            match self.parts.iter_mut().find(|part| part.state == state) {
                Some(part) => part.ranges.extend(&ranges),
                None => self.parts.push(Part { state, ranges }),
            }
        }
    }
}

impl LaneJudge<'_> {
    /// What is wrong with the chain, as far as a run that is involved had news.
    fn findings(
        &self,
        epochs: &BTreeMap<Epoch, Known<'_>>,
        is_recent: impl Fn(Option<Timestamp>) -> bool,
    ) -> Vec<Finding> {
        let concerns = |involved: &[Epoch]| {
            let news = involved.iter().map(|epoch| epochs.get(epoch)?.news());
            is_recent(news.max().flatten())
        };
        let mut findings = Vec::new();
        if let Some(roots) = self.chain.roots().filter(|roots| concerns(roots)) {
            let epochs = roots.to_vec();
            findings.push(Finding::Roots { epochs });
        }
        let forks = self.chain.forks();
        let forks = forks.filter(|(_, successors)| concerns(successors));
        findings.extend(forks.map(|(epoch, successors)| Finding::Fork { epoch, successors }));
        findings
    }

    fn epoch(&self, epoch: Epoch, known: &Known<'_>) -> EpochReport {
        let mut stream = Stream::default();
        for covered in &known.covered {
            stream.merge(&covered.stream);
        }
        let mut found = Ranges::default();
        let mut duplicated = Ranges::default();
        for one in &known.found {
            found.extend(&one.ranges);
            duplicated.extend(&one.duplicated);
        }
        let fact = known.stated.map(|stated| &stated.fact);
        // As numbers of readings: one more than the highest sequence.
        let after = |last: Option<u64>| last.map_or(0, |last| last + 1);
        let committed = after(fact.and_then(|fact| fact.committed));
        let acknowledged = after(fact.and_then(|fact| fact.acknowledged));
        let seen = [
            stream.all_present().last(),
            stream.dead_lettered.last(),
            found.last(),
        ];
        let expected = seen
            .into_iter()
            .map(after)
            .chain([committed, acknowledged, self.chain.recovered(epoch)])
            .max()
            .unwrap_or(0);

        let mut split = Split {
            left: first(expected),
            parts: Vec::new(),
        };
        if self.is_full {
            split.take(&found, State::Present);
        }
        self.stored(&mut split, &stream);
        split.take(&stream.dead_lettered, State::DeadLettered);
        for loss in exact_first(&known.losses) {
            let range = Ranges::of(loss.first, loss.last.unwrap_or(u64::MAX));
            let state = State::Declared {
                reason: loss.reason,
                merged: loss.merged,
                at: loss.at,
            };
            split.take(&range, state);
        }
        if stream.overflowed && !self.is_full {
            split.take(&first(acknowledged), State::Uncounted);
        }
        self.rest(&mut split, epoch, known, acknowledged);
        EpochReport {
            epoch,
            expected,
            parts: split.parts,
            conflicts: stream.conflicting,
            duplicated,
            as_of: fact.map(|fact| fact.at),
            news: known.news(),
        }
    }

    /// What coverage has seen in MongoDB. A day on which something may expire has come when it begins;
    /// only counting tells what is left on that day, so until it is over it counts as present.
    fn stored(&self, split: &mut Split, stream: &Stream) {
        for (day, ranges) in &stream.present {
            let now = self.now.as_millis();
            let state = match (day, self.is_full) {
                (Some(day), true) if day.has_begun(now) => State::Expired,
                (_, true) => State::Deleted,
                (Some(day), false) if day.is_over(now) => State::Expired,
                (_, false) => State::Present,
            };
            split.take(ranges, state);
        }
    }

    /// What is neither stored nor declared.
    fn rest(&self, split: &mut Split, epoch: Epoch, known: &Known<'_>, acknowledged: u64) {
        let everything = first(u64::MAX);
        let Some(stated) = known.stated else {
            // Its own fact is still to come, or never will; that is a finding when it is late.
            let is_late = known
                .news()
                .is_none_or(|news| self.now.as_millis() - news.as_millis() > millis(STATED));
            let state = if is_late {
                State::Unverifiable
            } else {
                State::InFlight
            };
            return split.take(&everything, state);
        };
        let state = match self.positions.passed(stated) {
            Passed::Yes => State::Missing,
            Passed::Remade => State::TopicRemade,
            Passed::No => State::InFlight,
        };
        split.take(&first(acknowledged), state);
        if self.chain.has_successor(epoch) {
            // The run after it did not find these any more.
            let recovered = first(self.chain.recovered(epoch));
            split.take(&everything.without(&recovered), State::Abandoned);
        }
        let alive = self.alive.as_ref();
        let state = if alive.is_some_and(|alive| !alive.contains(&epoch)) {
            State::Abandoned
        } else if self.is_silent {
            State::Unverifiable
        } else {
            State::Queued
        };
        split.take(&everything, state);
    }

    /// Kafka removed records of this lane's partitions before they were read: as many readings as that
    /// can be explained by it. More cannot, and then none is.
    fn explain_retention(&self, reports: &mut [EpochReport], epochs: &BTreeMap<Epoch, Known<'_>>) {
        let of_facts = epochs.values().filter_map(|known| known.stated);
        let of_facts = of_facts.flat_map(|stated| stated.fact.offsets.keys().copied());
        let of_coverage = epochs.values().flat_map(|known| &known.covered);
        let partitions: BTreeSet<i32> = of_facts
            .chain(of_coverage.map(|covered| covered.partition))
            .collect();
        let lane = self.lane.as_str();
        let removed = partitions.iter().map(|p| self.positions.removed(lane, *p));
        let removed: u64 = removed.sum();
        let parts = || reports.iter().flat_map(|report| &report.parts);
        let missing = parts().filter(|part| part.state == State::Missing);
        let missing: u64 = missing.map(|part| part.ranges.count()).sum();
        if missing == 0 || missing > removed {
            return;
        }
        for part in reports.iter_mut().flat_map(|report| &mut report.parts) {
            if part.state == State::Missing {
                part.state = State::Retention;
            }
        }
    }
}

/// The first so many sequences.
fn first(count: u64) -> Ranges {
    count
        .checked_sub(1)
        .map_or_else(Ranges::default, |last| Ranges::of(0, last))
}

/// What is known exactly comes before what was joined, and both before what has no end.
fn exact_first<'a>(losses: &[&'a Loss]) -> Vec<&'a Loss> {
    let mut sorted = losses.to_vec();
    sorted.sort_by_key(|loss| (loss.last.is_none(), loss.merged, loss.first));
    sorted
}
