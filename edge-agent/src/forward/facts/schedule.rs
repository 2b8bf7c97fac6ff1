//! When to state what: losses and the beginning and end of an epoch at once, an epoch's progress every
//! [`PROGRESS`], the heartbeat every [`HEARTBEAT`] whatever happens.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use protocol::control::Fact;

/// A sign of life in this time.
pub const HEARTBEAT: Duration = Duration::from_secs(60);
/// The progress of an epoch is stated at most this often.
pub const PROGRESS: Duration = Duration::from_secs(10);

/// What has been stated of what, and when.
#[derive(Debug, Default)]
pub struct Schedule {
    stated: BTreeMap<String, Stated>,
}

#[derive(Debug)]
struct Stated {
    fact: Fact,
    at: Instant,
    is_delivered: bool,
}

impl Schedule {
    /// Which of the facts to state now, and notes them as stated. `last` states all that is news.
    pub fn due(&mut self, now: Instant, facts: Vec<Fact>, last: bool) -> Vec<Fact> {
        let mut due = Vec::new();
        let mut stated = BTreeMap::new();
        for fact in facts {
            let key = fact.key();
            let before = self.stated.remove(&key);
            match before {
                Some(before) if !is_due(&before, &fact, now, last) => {
                    stated.insert(key, before);
                }
                _ => {
                    due.push(fact.clone());
                    let is_delivered = false;
                    let entry = Stated {
                        fact,
                        at: now,
                        is_delivered,
                    };
                    stated.insert(key, entry);
                }
            }
        }
        // What the lanes no longer name is settled.
        self.stated = stated;
        due
    }

    pub fn delivered(&mut self, fact: &Fact) {
        if let Some(stated) = self.stated.get_mut(&fact.key()) {
            stated.is_delivered |= stated.fact == *fact;
        }
    }

    /// What was not delivered was never said.
    pub fn failed(&mut self) {
        self.stated.retain(|_, stated| stated.is_delivered);
    }
}

fn is_due(before: &Stated, fact: &Fact, now: Instant, last: bool) -> bool {
    match (&before.fact, fact) {
        (Fact::Heartbeat(_), Fact::Heartbeat(_)) => last || now >= before.at + HEARTBEAT,
        (Fact::Epoch(old), Fact::Epoch(new)) => {
            let mut same = new.clone();
            same.at = old.at;
            let is_turning_point = old.closed != new.closed || old.previous != new.previous;
            *old != same && (last || is_turning_point || now >= before.at + PROGRESS)
        }
        (Fact::Loss(old), Fact::Loss(new)) => {
            let mut same = new.clone();
            same.at = old.at;
            *old != same
        }
        (old, new) => old != new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{
        Epoch, Timestamp,
        control::{EpochFact, Heartbeat, Loss, LossReason},
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000).unwrap()
    }

    fn epoch(committed: u64, closed: bool, seconds: i64) -> Fact {
        Fact::Epoch(EpochFact {
            gateway: "gw7".parse().unwrap(),
            lane: "t".parse().unwrap(),
            epoch: Epoch::from_random(1),
            previous: None,
            committed: Some(committed),
            acknowledged: None,
            offsets: BTreeMap::new(),
            closed,
            at: at(seconds),
        })
    }

    fn loss(last: u64, seconds: i64) -> Fact {
        Fact::Loss(Loss {
            gateway: "gw7".parse().unwrap(),
            lane: "t".parse().unwrap(),
            epoch: Epoch::from_random(1),
            first: 0,
            last: Some(last),
            reason: LossReason::DropOldest,
            merged: false,
            possibly_delivered: false,
            at: at(seconds),
        })
    }

    fn heartbeat(seconds: i64) -> Fact {
        Fact::Heartbeat(Heartbeat {
            gateway: "gw7".parse().unwrap(),
            version: "0".into(),
            clock_synced: true,
            lanes: vec![],
            at: at(seconds),
        })
    }

    #[test]
    fn facts_are_stated_when_they_are_news_and_no_more_often_than_useful() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        for (second, facts, last, expected) in [
            (0, vec![epoch(1, false, 0), heartbeat(0)], false, 2),
            (1, vec![epoch(1, false, 1), heartbeat(1)], false, 0),
            (2, vec![epoch(2, false, 2), heartbeat(2)], false, 0),
            (10, vec![epoch(3, false, 10), heartbeat(10)], false, 1),
            (
                11,
                vec![epoch(3, false, 11), loss(5, 11), heartbeat(11)],
                false,
                1,
            ),
            (
                12,
                vec![epoch(3, false, 12), loss(5, 12), heartbeat(12)],
                false,
                0,
            ),
            (
                13,
                vec![epoch(3, false, 13), loss(6, 13), heartbeat(13)],
                false,
                1,
            ),
            (14, vec![epoch(4, true, 14), heartbeat(14)], false, 1),
            (60, vec![heartbeat(60)], false, 1),
            (61, vec![epoch(1, false, 61), heartbeat(61)], false, 1),
            (62, vec![epoch(2, false, 62), heartbeat(62)], true, 2),
        ] {
            let now = start + Duration::from_secs(second);
            let due = schedule.due(now, facts, last);
            assert_eq!(due.len(), expected, "at {second} s: {due:?}");
        }
    }

    #[test]
    fn what_was_not_delivered_is_stated_again_after_a_failure() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        let facts = vec![epoch(1, false, 0), loss(5, 0)];
        assert_eq!(schedule.due(now, facts.clone(), false).len(), 2);
        schedule.delivered(&facts[0]);
        schedule.failed();
        assert_eq!(schedule.due(now, facts.clone(), false), facts[1..]);
    }
}
