//! The judgement, case by case. Epochs are numbered; all of it is lane `t` of gateway `gw7`, at 1 000 000 s.

use std::fmt::Write as _;

use proptest::prelude::*;
use protocol::{
    Epoch, Timestamp,
    control::{EpochFact, Loss, LossReason, Predecessor},
};

use super::*;
use crate::coverage::{Coverage, Day, Ranges, Stream, Verdict};

const NOW: i64 = 1_000_000;
const DAY: i64 = NOW / 86_400;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000).unwrap()
}

fn epoch(number: u64) -> Epoch {
    Epoch::from_random(number)
}

struct Scene {
    evidence: Evidence,
    positions: Positions,
}

impl Scene {
    /// A gateway that was heard of ten seconds ago.
    fn new() -> Self {
        let evidence = Evidence {
            gateway: "gw7".parse().unwrap(),
            heard: Some(at(NOW - 10)),
            live: [].into(),
            epochs: vec![],
            losses: vec![],
            coverage: vec![],
            found: None,
        };
        let positions = Positions::default();
        Self {
            evidence,
            positions,
        }
    }

    /// An epoch with so many readings committed and acknowledged, the last at `offset` of partition 0.
    fn states(mut self, number: u64, committed: u64, acknowledged: u64, offset: i64) -> Self {
        let fact = EpochFact {
            gateway: "gw7".parse().unwrap(),
            lane: "t".parse().unwrap(),
            epoch: epoch(number),
            previous: None,
            committed: committed.checked_sub(1),
            acknowledged: acknowledged.checked_sub(1),
            offsets: [(0, offset)].into(),
            closed: false,
            at: at(NOW - 12),
        };
        let seen = at(NOW - 11);
        self.evidence.epochs.push(Stated { fact, seen });
        self
    }

    fn fact(mut self, change: impl FnOnce(&mut Stated)) -> Self {
        change(self.evidence.epochs.last_mut().unwrap());
        self
    }

    /// The last one is chained to an epoch of which so many were recovered.
    fn after(self, number: u64, recovered: u64) -> Self {
        self.fact(|stated| {
            stated.fact.previous = Some(Predecessor {
                epoch: epoch(number),
                last: recovered.checked_sub(1),
            });
        })
    }

    fn sees(self, number: u64, first: u64, last: u64) -> Self {
        self.sees_in(0, number, first, last, Verdict::Present(None))
    }

    fn sees_in(mut self, partition: i32, number: u64, first: u64, last: u64, v: Verdict) -> Self {
        let mut stream = Stream::default();
        match v {
            Verdict::Present(day) => {
                stream.present.insert(day, Ranges::of(first, last));
            }
            Verdict::DeadLettered => stream.dead_lettered = Ranges::of(first, last),
            Verdict::Conflicting => stream.conflicting = Ranges::of(first, last),
        }
        self.evidence.coverage.push(Covered {
            lane: "t".parse().unwrap(),
            partition,
            epoch: epoch(number),
            stream,
            at: at(NOW - 10),
        });
        self
    }

    fn loses(mut self, number: u64, first: u64, last: Option<u64>, reason: LossReason) -> Self {
        self.evidence.losses.push(Loss {
            gateway: "gw7".parse().unwrap(),
            lane: "t".parse().unwrap(),
            epoch: epoch(number),
            first,
            last,
            reason,
            merged: false,
            possibly_delivered: true,
            at: at(NOW - 10),
        });
        self
    }

    fn passed(mut self, partition: i32, next: i64) -> Self {
        let position = Position {
            next,
            began: Some(at(0)),
            ..Position::default()
        };
        self.positions.0.insert(("t".into(), partition), position);
        self
    }

    fn position(mut self, change: impl FnOnce(&mut Position)) -> Self {
        let position = self.positions.0.get_mut(&("t".into(), 0)).unwrap();
        change(position);
        self
    }

    fn writes(mut self, number: u64) -> Self {
        let lane = "t".parse().unwrap();
        self.evidence.live.insert(lane, epoch(number));
        self
    }

    fn silent(mut self) -> Self {
        self.evidence.heard = Some(at(NOW - 3600));
        self
    }

    /// With `--full`.
    fn finds(mut self, number: u64, first: u64, last: u64) -> Self {
        self.evidence.found.get_or_insert_default().push(Found {
            lane: "t".parse().unwrap(),
            epoch: epoch(number),
            ranges: Ranges::of(first, last),
            duplicated: Ranges::default(),
        });
        self
    }

    fn judge(&self) -> GatewayReport {
        judge(&self.evidence, &self.positions, at(NOW), None).unwrap()
    }
}

/// `2 epochs, 1 complete` and what there is to say beside that.
fn show(report: &GatewayReport) -> String {
    let mut text = String::new();
    for lane in &report.lanes {
        write!(text, "{} epochs, {} complete", lane.epochs, lane.complete).unwrap();
        for epoch in &lane.open {
            write!(text, "; {}:", epoch.epoch.get()).unwrap();
            for part in &epoch.parts {
                write!(text, " {}", part.state.as_str()).unwrap();
                if let State::Declared { reason, merged, .. } = part.state {
                    let merged = if merged { " merged" } else { "" };
                    write!(text, " {}{merged}", reason.as_str()).unwrap();
                }
                for (first, last) in part.ranges.iter() {
                    write!(text, " {first}..{last}").unwrap();
                }
            }
            if !epoch.conflicts.is_empty() {
                write!(text, " conflicts {}", epoch.conflicts.count()).unwrap();
            }
        }
        for finding in &lane.findings {
            let list = |epochs: &[Epoch]| {
                let numbers: Vec<String> = epochs.iter().map(|e| e.get().to_string()).collect();
                numbers.join(",")
            };
            match finding {
                Finding::Fork { epoch, successors } => {
                    write!(text, "; fork {} to {}", epoch.get(), list(successors)).unwrap();
                }
                Finding::Roots { epochs } => write!(text, "; roots {}", list(epochs)).unwrap(),
                Finding::Unstated { epoch } => write!(text, "; unstated {}", epoch.get()).unwrap(),
            }
        }
    }
    if report.silent_since.is_some() {
        text.push_str("; silent");
    }
    text
}

use LossReason::{DropOldest, TooOld, Unreadable};

/// 100 readings, all acknowledged up to offset 99, of which the sink has read everything.
fn settled() -> Scene {
    Scene::new().states(1, 100, 100, 99).passed(0, 100)
}

#[test]
fn every_reading_is_in_exactly_one_state() {
    let table: Vec<(&str, Scene, &str)> = vec![
        (
            "all there",
            settled().sees(1, 0, 99),
            "1 epochs, 1 complete",
        ),
        (
            "one is missing",
            settled().sees(1, 0, 41).sees(1, 43, 99),
            "1 epochs, 0 complete; 1: present 0..41 43..99 missing 42..42",
        ),
        (
            "in flight: the checkpoint stands at the fact's offset",
            Scene::new()
                .states(1, 100, 100, 99)
                .passed(0, 99)
                .sees(1, 0, 98),
            "1 epochs, 0 complete; 1: present 0..98 in flight 99..99",
        ),
        (
            "in flight: a sink that never ran here",
            Scene::new().states(1, 100, 100, 99),
            "1 epochs, 0 complete; 1: in flight 0..99",
        ),
        (
            "a paused sink",
            Scene::new()
                .states(1, 100, 100, 99)
                .passed(0, 40)
                .sees(1, 0, 39),
            "1 epochs, 0 complete; 1: present 0..39 in flight 40..99",
        ),
        (
            "queued above what Kafka acknowledged",
            Scene::new()
                .states(1, 100, 60, 59)
                .passed(0, 60)
                .sees(1, 0, 59)
                .writes(1),
            "1 epochs, 0 complete; 1: present 0..59 queued 60..99",
        ),
        (
            "present above what was stated",
            Scene::new()
                .states(1, 100, 60, 59)
                .passed(0, 60)
                .sees(1, 0, 120),
            "1 epochs, 1 complete",
        ),
        (
            "silent with a queue",
            Scene::new()
                .states(1, 100, 60, 59)
                .passed(0, 60)
                .sees(1, 0, 59)
                .silent(),
            "1 epochs, 0 complete; 1: present 0..59 unverifiable 60..99; silent",
        ),
        (
            "silent and drained is not clean either",
            settled().sees(1, 0, 99).silent(),
            "1 epochs, 1 complete; silent",
        ),
        (
            "declared",
            settled().sees(1, 10, 99).loses(1, 0, Some(9), DropOldest),
            "1 epochs, 0 complete; 1: present 10..99 declared lost drop_oldest 0..9",
        ),
        (
            "present beats declared",
            settled().sees(1, 5, 99).loses(1, 0, Some(9), TooOld),
            "1 epochs, 0 complete; 1: present 5..99 declared lost too_old 0..4",
        ),
        (
            "an open end goes to the end of the epoch",
            settled().sees(1, 0, 69).loses(1, 70, None, Unreadable),
            "1 epochs, 0 complete; 1: present 0..69 declared lost unreadable 70..99",
        ),
        (
            "exact beats open-ended",
            settled()
                .sees(1, 0, 69)
                .loses(1, 70, None, Unreadable)
                .loses(1, 80, Some(84), TooOld),
            "1 epochs, 0 complete; 1: present 0..69 declared lost too_old 80..84 declared lost unreadable 70..79 85..99",
        ),
        (
            "exact beats merged",
            {
                let mut scene = settled().sees(1, 20, 99).loses(1, 0, Some(19), DropOldest);
                scene.evidence.losses[0].merged = true;
                scene.loses(1, 0, Some(4), TooOld)
            },
            "1 epochs, 0 complete; 1: present 20..99 declared lost too_old 0..4 declared lost drop_oldest merged 5..19",
        ),
        (
            "a declared range beside a missing one",
            settled().sees(1, 10, 97).loses(1, 0, Some(9), DropOldest),
            "1 epochs, 0 complete; 1: present 10..97 declared lost drop_oldest 0..9 missing 98..99",
        ),
        (
            "dead-lettered",
            settled()
                .sees(1, 0, 98)
                .sees_in(0, 1, 99, 99, Verdict::DeadLettered),
            "1 epochs, 0 complete; 1: present 0..98 dead-lettered 99..99",
        ),
        (
            "dead-lettered, then replayed into another partition",
            settled()
                .sees(1, 0, 98)
                .sees_in(0, 1, 99, 99, Verdict::DeadLettered)
                .sees_in(1, 1, 99, 99, Verdict::Present(None)),
            "1 epochs, 1 complete",
        ),
        (
            "a conflict",
            settled()
                .sees(1, 0, 99)
                .sees_in(0, 1, 7, 7, Verdict::Conflicting),
            "1 epochs, 0 complete; 1: present 0..99 conflicts 1",
        ),
        (
            "nothing committed yet",
            Scene::new().states(1, 0, 0, 0),
            "1 epochs, 1 complete",
        ),
        // ---- chains
        (
            "a restart",
            settled()
                .sees(1, 0, 99)
                .states(2, 10, 10, 109)
                .after(1, 100)
                .sees(2, 0, 9)
                .passed(0, 110),
            "2 epochs, 2 complete",
        ),
        (
            "the link tells of more than was stated",
            Scene::new()
                .states(1, 50, 50, 49)
                .sees(1, 0, 49)
                .states(2, 1, 1, 50)
                .after(1, 60)
                .sees(2, 0, 0)
                .passed(0, 51)
                .writes(2),
            "2 epochs, 1 complete; 1: present 0..49 queued 50..59",
        ),
        (
            "a tail that the next run did not find any more",
            Scene::new()
                .states(1, 100, 50, 49)
                .sees(1, 0, 49)
                .states(2, 1, 1, 50)
                .after(1, 50)
                .sees(2, 0, 0)
                .passed(0, 51)
                .writes(2),
            "2 epochs, 1 complete; 1: present 0..49 abandoned 50..99",
        ),
        (
            "a cloned card: two runs go on from one",
            settled()
                .sees(1, 0, 99)
                .states(2, 1, 1, 50)
                .after(1, 100)
                .sees(2, 0, 0)
                .states(3, 1, 1, 50)
                .after(1, 100)
                .sees(3, 0, 0),
            "3 epochs, 3 complete; fork 1 to 2,3",
        ),
        (
            "an emptied card: two first runs, and the tail of the old one",
            Scene::new()
                .states(1, 100, 50, 49)
                .sees(1, 0, 49)
                .states(2, 1, 1, 50)
                .sees(2, 0, 0)
                .passed(0, 51)
                .writes(2),
            "2 epochs, 1 complete; 1: present 0..49 abandoned 50..99; roots 1,2",
        ),
        (
            "an import from a dead box: facts come though nobody lives",
            Scene::new()
                .states(1, 100, 60, 59)
                .sees(1, 0, 59)
                .passed(0, 60),
            "1 epochs, 0 complete; 1: present 0..59 queued 60..99",
        ),
        (
            "a link to a run that nobody stated",
            settled().after(7, 3).sees(1, 0, 99),
            "2 epochs, 1 complete; 7: unverifiable 0..2; unstated 7",
        ),
        (
            "a run whose fact is still to come",
            settled().sees(1, 0, 99).sees(2, 0, 4),
            "2 epochs, 2 complete",
        ),
        (
            "a run that was never stated, with a hole",
            {
                let mut scene = settled().sees(1, 0, 99).sees(2, 0, 1).sees(2, 3, 4);
                for covered in &mut scene.evidence.coverage {
                    covered.at = at(NOW - 1000);
                }
                scene
            },
            "2 epochs, 1 complete; 2: present 0..1 3..4 unverifiable 2..2; unstated 2",
        ),
        (
            "a link that leads in a circle",
            settled()
                .after(2, 100)
                .sees(1, 0, 99)
                .states(2, 1, 0, 0)
                .after(1, 100)
                .writes(1),
            "2 epochs, 1 complete; 2: queued 0..99",
        ),
        // ---- topics and partitions
        (
            "more partitions: the gateway moved, and coverage is merged",
            settled()
                .fact(|s| s.fact.offsets = [(0, 59), (2, 39)].into())
                .sees(1, 0, 59)
                .sees_in(2, 1, 60, 99, Verdict::Present(None))
                .passed(2, 40),
            "1 epochs, 1 complete",
        ),
        (
            "more partitions: the new one is not read yet",
            settled()
                .fact(|s| s.fact.offsets = [(0, 59), (2, 39)].into())
                .sees(1, 0, 59),
            "1 epochs, 0 complete; 1: present 0..59 in flight 60..99",
        ),
        (
            "a recreated topic: what was read of the old one",
            settled()
                .sees(1, 0, 97)
                .position(|p| (p.next, p.former, p.began) = (3, vec![100], Some(at(NOW - 5)))),
            "1 epochs, 0 complete; 1: present 0..97 missing 98..99",
        ),
        (
            "a recreated topic: what was not read any more",
            settled()
                .sees(1, 0, 49)
                .position(|p| (p.next, p.former, p.began) = (3, vec![50], Some(at(NOW - 5)))),
            "1 epochs, 0 complete; 1: present 0..49 lost with topic 50..99",
        ),
        (
            "a recreated topic: what is on its way in the new one",
            settled()
                .sees(1, 0, 49)
                .position(|p| (p.next, p.former, p.began) = (3, vec![50], Some(at(NOW - 50)))),
            "1 epochs, 0 complete; 1: present 0..49 in flight 50..99",
        ),
        (
            "retention took ten records, and ten are not there",
            settled()
                .sees(1, 0, 59)
                .sees(1, 70, 99)
                .position(|p| p.removed = 10),
            "1 epochs, 0 complete; 1: present 0..59 70..99 lost to retention 60..69",
        ),
        (
            "retention took nine, and ten are not there",
            settled()
                .sees(1, 0, 59)
                .sees(1, 70, 99)
                .position(|p| p.removed = 9),
            "1 epochs, 0 complete; 1: present 0..59 70..99 missing 60..69",
        ),
        (
            "coverage ran out of room",
            {
                let mut scene = settled().sees(1, 0, 49);
                scene.evidence.coverage[0].stream.overflowed = true;
                scene
            },
            "1 epochs, 0 complete; 1: present 0..49 uncounted 50..99",
        ),
        // ---- full
        (
            "full: all there",
            settled().sees(1, 0, 99).finds(1, 0, 99),
            "1 epochs, 1 complete",
        ),
        (
            "full: one was deleted by hand",
            settled().sees(1, 0, 99).finds(1, 0, 41).finds(1, 43, 99),
            "1 epochs, 0 complete; 1: present 0..41 43..99 deleted 42..42",
        ),
        (
            "full: there, though coverage does not know",
            settled().sees(1, 0, 49).finds(1, 0, 99),
            "1 epochs, 1 complete",
        ),
        (
            "full: coverage ran out of room and counting tells",
            {
                let mut scene = settled().sees(1, 0, 49).finds(1, 0, 98);
                scene.evidence.coverage[0].stream.overflowed = true;
                scene
            },
            "1 epochs, 0 complete; 1: present 0..98 missing 99..99",
        ),
        (
            "full: expired yesterday and today is explained, tomorrow is not",
            Scene::new()
                .states(1, 40, 40, 39)
                .passed(0, 40)
                .sees_in(0, 1, 0, 9, Verdict::Present(Some(Day(DAY - 1))))
                .sees_in(0, 1, 10, 19, Verdict::Present(Some(Day(DAY))))
                .sees_in(0, 1, 20, 29, Verdict::Present(Some(Day(DAY + 1))))
                .finds(1, 30, 39),
            "1 epochs, 0 complete; 1: present 30..39 expired 0..19 deleted 20..29",
        ),
        (
            "full: only documents are left",
            Scene::new().finds(1, 0, 9),
            "1 epochs, 1 complete; unstated 1",
        ),
    ];
    let mut wrong = Vec::new();
    for (name, scene, expected) in table {
        let report = scene.judge();
        let shown = show(&report);
        if shown != expected {
            wrong.push(format!("{name}\n  is   {shown}\n  not  {expected}"));
        }
        let unexplained = [
            "missing",
            "deleted",
            "abandoned",
            "unverifiable",
            "uncounted",
        ];
        let findings = ["fork", "roots", "unstated", "conflicts", "silent"];
        let mut words = unexplained.iter().chain(&findings);
        let is_clean = !words.any(|word| expected.contains(word));
        assert_eq!(report.is_clean(), is_clean, "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn ten_thousand_restarts_are_one_line() {
    let mut scene = Scene::new().passed(0, 100_000);
    for number in 1..=10_000_u64 {
        let offset = i64::try_from(number * 3).unwrap();
        scene = scene.states(number, 3, 3, offset).sees(number, 0, 2);
        if number > 1 {
            scene = scene.after(number - 1, 3);
        }
    }
    let report = scene.writes(10_000).judge();
    assert_eq!(show(&report), "10000 epochs, 10000 complete");
    assert_eq!(report.lanes[0].totals.expected, 30_000);
    assert!(report.is_clean());
}

#[test]
fn a_window_shows_what_had_news_and_leaves_out_the_rest() {
    let old = |scene: Scene| scene.fact(|stated| stated.seen = at(NOW - 7200));
    let scene = old(Scene::new().states(1, 5, 5, 4))
        .states(2, 5, 5, 9)
        .after(1, 5)
        .passed(0, 10);
    let report = |scene: &Scene, since| {
        let since = Some(at(since));
        judge(&scene.evidence, &scene.positions, at(NOW), since).map(|report| show(&report))
    };
    let both = "2 epochs, 0 complete; 1: missing 0..4; 2: missing 0..4";
    assert_eq!(report(&scene, NOW - 8000).as_deref(), Some(both));
    let newer = "1 epochs, 0 complete; 2: missing 0..4";
    assert_eq!(report(&scene, NOW - 60).as_deref(), Some(newer));
    assert_eq!(
        report(&old(Scene::new().states(1, 5, 5, 4)).silent(), NOW - 60),
        None
    );
}

proptest! {
    /// Whatever is known, the parts are the whole, and nothing that is there is called missing.
    #[test]
    fn the_parts_of_an_epoch_are_its_readings_each_once(
        stated in 0..40_u64,
        acknowledged in 0..40_u64,
        next in 0..60_i64,
        seen in prop::collection::vec((0..50_u64, 0..3_usize), 0..60),
        losses in prop::collection::vec((0..50_u64, prop::option::of(0..8_u64), any::<bool>()), 0..4),
        removed in 0..10_u64,
        is_silent in any::<bool>(),
        is_full in any::<bool>(),
    ) {
        let mut coverage = Coverage::default();
        let verdicts = [Verdict::Present(None), Verdict::DeadLettered, Verdict::Conflicting];
        for (sequence, verdict) in &seen {
            let id = format!("gw7:000000000001:{sequence:012x}").parse().unwrap();
            coverage.note(&id, verdicts[*verdict], 0);
        }
        let acknowledged = acknowledged.min(stated);
        let offset = i64::try_from(acknowledged).unwrap() - 1;
        let mut scene = Scene::new()
            .states(1, stated, acknowledged, offset)
            .passed(0, next)
            .position(|position| position.removed = removed);
        let present: Ranges = coverage.iter().next().map(|(.., s)| s.all_present()).unwrap_or_default();
        for (_, epoch, stream) in coverage.iter() {
            let (lane, stream) = ("t".parse().unwrap(), stream.clone());
            let at = at(NOW - 10);
            scene.evidence.coverage.push(Covered { lane, partition: 0, epoch, stream, at });
        }
        for (first, more, merged) in losses {
            scene = scene.loses(1, first, more.map(|more| first + more), DropOldest);
            scene.evidence.losses.last_mut().unwrap().merged = merged;
        }
        if is_silent {
            scene = scene.silent();
        }
        if is_full {
            scene.evidence.found = Some(Vec::new());
            for (first, last) in present.iter() {
                scene = scene.finds(1, first, last);
            }
        }
        let report = scene.judge();
        let totals = &report.lanes[0].totals;
        let states = [
            totals.present, totals.expired, totals.dead_lettered, totals.declared, totals.retention,
            totals.topic_remade, totals.in_flight, totals.queued, totals.missing, totals.deleted,
            totals.abandoned, totals.unverifiable, totals.uncounted,
        ];
        prop_assert_eq!(totals.expected, states.iter().sum::<u64>());
        prop_assert_eq!(totals.present, present.count());
        for epoch in &report.lanes[0].open {
            let mut all = Ranges::default();
            for part in &epoch.parts {
                prop_assert!(part.ranges.within(&all).is_empty(), "twice");
                all.extend(&part.ranges);
                if part.state == State::Missing {
                    prop_assert!(part.ranges.last() < Some(acknowledged));
                    prop_assert!(offset < next, "not before the checkpoint has passed it");
                }
            }
            prop_assert_eq!(all.count(), epoch.expected);
        }
        if !is_full {
            // Counting agrees with what was noted.
            scene.evidence.found = Some(Vec::new());
            for (first, last) in present.iter() {
                scene = scene.finds(1, first, last);
            }
            prop_assert_eq!(scene.judge(), report);
        }
    }
}

/// The report of the page `docs/audit.md`.
fn example() -> Report {
    let stated = |scene: Scene| {
        scene.fact(|stated| {
            stated.fact.lane = "telemetry.readings.v1".parse().unwrap();
            stated.fact.at = "2026-11-23T21:14:07.113Z".parse().unwrap();
        })
    };
    let mut scene = Scene::new().states(1, 2000, 2000, 9).sees(1, 0, 1999);
    scene = stated(scene).states(2, 1200, 1200, 19).after(1, 2000);
    scene = stated(scene).sees(2, 0, 1199);
    scene = scene
        .states(0x1f3a_9c04_d2be, 91_200, 91_191, 29)
        .after(2, 1200);
    scene = stated(scene)
        .sees(0x1f3a_9c04_d2be, 0, 88_100)
        .sees(0x1f3a_9c04_d2be, 88_142, 91_190)
        .loses(0x1f3a_9c04_d2be, 88_101, Some(88_140), DropOldest)
        .writes(0x1f3a_9c04_d2be)
        .passed(0, 30);
    let lane = || "telemetry.readings.v1".parse().unwrap();
    scene
        .evidence
        .coverage
        .iter_mut()
        .for_each(|covered| covered.lane = lane());
    scene.evidence.losses[0].lane = lane();
    scene.evidence.losses[0].at = "2026-11-23T21:04:07.113Z".parse().unwrap();
    let positions = std::mem::take(&mut scene.positions.0);
    let moved = positions
        .into_iter()
        .map(|((_, n), p)| ((lane().to_string(), n), p));
    scene.positions.0 = moved.collect();
    scene.evidence.live = [(lane(), epoch(0x1f3a_9c04_d2be))].into();
    let gateway = scene.judge();
    Report {
        v: 1,
        at: "2026-11-23T21:14:10.113Z".parse().unwrap(),
        full: false,
        clean: gateway.is_clean(),
        unaudited: None,
        gateways: vec![gateway],
        left_out: 0,
        foreign: None,
    }
}

#[test]
fn the_page_shows_the_report_as_it_is_printed() {
    const PAGE: &str = include_str!("../../../docs/audit.md");
    let report = example();
    let mut text = String::new();
    write(&report, &place(), &mut text).unwrap();
    assert!(PAGE.contains(&format!("```\n{text}```\n")), "{text}");
    let (_, json) = PAGE.split_once("```json report\n").unwrap();
    let json = json.split_once("```").unwrap().0;
    let shown: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(shown, serde_json::to_value(&report).unwrap());
}

fn place() -> Place {
    Place {
        server: "127.0.0.1:27017".into(),
        database: "telemetry".into(),
    }
}

#[test]
fn an_audit_of_nothing_says_where_it_looked_and_what_to_look_at() {
    for (why, said, fix) in [
        (
            Unaudited::NoSink,
            "no sink has written to database telemetry on 127.0.0.1:27017",
            "mongodb.database",
        ),
        (
            Unaudited::NoGateway,
            "a sink writes to database telemetry on 127.0.0.1:27017, and no gateway",
            "edge-agent check --online",
        ),
        (
            Unaudited::NoNews,
            "of no gateway there was any news",
            "--since",
        ),
    ] {
        let report = Report {
            clean: false,
            unaudited: Some(why),
            gateways: Vec::new(),
            ..example()
        };
        let mut text = String::new();
        write(&report, &place(), &mut text).unwrap();
        let expected = format!("nothing was audited: {said}");
        assert!(text.starts_with(&expected), "{text}");
        let (_, told) = text.split_once("    fix: ").unwrap();
        assert!(told.contains(fix), "{text}");
        assert!(!text.contains("nothing is missing"), "{text}");
    }
}
