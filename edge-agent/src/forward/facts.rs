//! The control facts: what the sink must know beside the readings (see [`protocol::control`]).
//!
//! Sent directly, not through the queue, to the compacted control topic. A fact that gets lost on the
//! way is stated again, because the lane goes on naming it until [`queue::Lane::stated`] was called after
//! its delivery. So nothing here has to survive a crash.
//!
//! When a fact is stated is the decision of [`Schedule`]: losses and the beginning and end of an epoch at
//! once, an epoch's progress every [`PROGRESS`], the heartbeat every [`HEARTBEAT`] whatever happens.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, mpsc::RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use protocol::{
    GatewayId,
    control::{Fact, Heartbeat, LaneState},
};
use rdkafka::message::OwnedHeaders;
use tracing::{debug, warn};

use super::{
    producer::{Event, Sent, Session},
    record, window,
};
use crate::{
    clock::{Clock, Moment},
    config,
    link::{LinkKind, LinkState, Links},
    queue,
    stage::{Stage, Stop},
};

/// A sign of life in this time.
pub const HEARTBEAT: Duration = Duration::from_secs(60);
/// The progress of an epoch is stated at most this often.
pub const PROGRESS: Duration = Duration::from_secs(10);
/// How often the lanes are asked for facts.
const LOOK: Duration = Duration::from_secs(1);
/// First and longest pause after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Starts the thread. [`Stage::stop`] states everything a last time; so stop it after the lanes.
///
/// # Errors
/// The system gives no thread.
pub fn start(
    gateway: GatewayId,
    lanes: Vec<Arc<queue::Lane>>,
    kafka: config::Kafka,
    clock: Clock,
    links: Links,
) -> io::Result<Stage> {
    let speaker = Speaker {
        gateway,
        lanes,
        kafka,
        clock,
        links,
        session: None,
        under_way: BTreeMap::new(),
        tickets: 0,
        schedule: Schedule::default(),
        correction: None,
        pause: RETRY.0,
    };
    Stage::spawn("facts", |stop| {
        speaker.run(&stop);
        Ok(())
    })
}

/// What has been stated of what, and when.
#[derive(Debug, Default)]
struct Schedule {
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
    fn due(&mut self, now: Instant, facts: Vec<Fact>, last: bool) -> Vec<Fact> {
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

    fn delivered(&mut self, fact: &Fact) {
        if let Some(stated) = self.stated.get_mut(&fact.key()) {
            stated.is_delivered |= stated.fact == *fact;
        }
    }

    /// What was not delivered was never said.
    fn failed(&mut self) {
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

struct Speaker {
    gateway: GatewayId,
    lanes: Vec<Arc<queue::Lane>>,
    kafka: config::Kafka,
    clock: Clock,
    links: Links,
    session: Option<Session>,
    under_way: BTreeMap<usize, (Option<usize>, Fact)>,
    tickets: usize,
    schedule: Schedule,
    correction: Option<Fact>,
    pause: Duration,
}

impl Speaker {
    fn run(mut self, stop: &Stop) {
        while stop.deadline().is_none() {
            self.round(false);
            let look = Instant::now() + LOOK;
            while stop.deadline().is_none() && Instant::now() < look {
                self.listen(Duration::from_millis(250));
            }
        }
        let deadline = stop.deadline().unwrap_or_else(Instant::now);
        loop {
            self.pause = Duration::from_millis(250);
            self.round(true);
            while !self.under_way.is_empty() && Instant::now() < deadline {
                self.listen(Duration::from_millis(50));
            }
            if self.session.is_some() || Instant::now() >= deadline {
                return;
            }
        }
    }

    /// States what is due.
    fn round(&mut self, last: bool) {
        let now = self.clock.now();
        let facts = self.facts(&now);
        let named: Vec<Fact> = facts.iter().map(|(_, fact)| fact.clone()).collect();
        let due = self.schedule.due(Instant::now(), named, last);
        for fact in due {
            let lane = facts.iter().find(|(_, named)| *named == fact);
            let lane = lane.and_then(|(lane, _)| *lane);
            if let Err((failure, reason)) = self.state(lane, fact, &now) {
                return self.failed(failure, &reason);
            }
        }
    }

    /// Everything there is to state, with the lane that wants to know of its delivery.
    fn facts(&mut self, now: &Moment) -> Vec<(Option<usize>, Fact)> {
        let mut facts = Vec::new();
        let mut states = Vec::new();
        for (at, lane) in self.lanes.iter().enumerate() {
            let mut state = LaneState {
                lane: lane.topic().clone(),
                epoch: None,
                committed: None,
                queued: lane.stat().readings,
            };
            for fact in lane.facts(now.queue()) {
                if let Fact::Epoch(epoch) = &fact
                    && !epoch.closed
                {
                    state.epoch = Some(epoch.epoch);
                    state.committed = epoch.committed;
                }
                facts.push((Some(at), fact));
            }
            states.push(state);
        }
        if self.correction.is_none() {
            // Once per process: later answers differ only by how the clock is slewed.
            self.correction =
                record::clock_correction(&self.gateway, now).map(Fact::ClockCorrection);
        }
        facts.extend(self.correction.clone().map(|fact| (None, fact)));
        let heartbeat = Fact::Heartbeat(Heartbeat {
            gateway: self.gateway.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            clock_synced: now.synced,
            lanes: states,
            at: now.wall,
        });
        facts.push((None, heartbeat));
        facts
    }

    fn state(
        &mut self,
        lane: Option<usize>,
        fact: Fact,
        now: &Moment,
    ) -> Result<(), (window::Failure, String)> {
        let broken = |reason: String| (window::Failure::Broken, reason);
        let value = fact.encode().map_err(|error| broken(error.to_string()))?;
        let topic = self.kafka.control_topic.as_str();
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(
                Session::open(
                    &self.kafka,
                    window::MIN_BATCH_BYTES,
                    &self.links,
                    topic,
                    true,
                )
                .map_err(broken)?,
            ),
        };
        let (ticket, time) = (self.tickets, now.wall.as_millis());
        match session.send(
            topic,
            &fact.key(),
            &value,
            OwnedHeaders::new(),
            time,
            ticket,
        ) {
            Sent::Yes => {
                self.tickets = self.tickets.wrapping_add(1);
                self.under_way.insert(ticket, (lane, fact));
                Ok(())
            }
            Sent::Later => Err(broken("the producer's buffer is full".into())),
            Sent::Failed(failure, reason) => Err((failure, reason)),
        }
    }

    /// Takes one report, if one comes in time.
    fn listen(&mut self, at_most: Duration) {
        let Some(session) = &self.session else {
            return thread::sleep(at_most);
        };
        match session.events.recv_timeout(at_most) {
            Ok(Event::Delivered { ticket, .. }) => self.delivered(ticket),
            Ok(Event::Failed { failure, reason }) => self.failed(failure, &reason),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                self.failed(window::Failure::Broken, "producer ended");
            }
        }
    }

    fn delivered(&mut self, ticket: usize) {
        self.pause = RETRY.0;
        let topic = self.kafka.control_topic.as_str();
        self.links.set(LinkKind::Kafka, topic, LinkState::Up);
        let Some((lane, fact)) = self.under_way.remove(&ticket) else {
            return;
        };
        self.schedule.delivered(&fact);
        if let Some(lane) = lane.and_then(|at| self.lanes.get(at))
            && let Err(error) = lane.stated(&fact)
        {
            // The lane names it again, and it is stated again.
            warn!(lane = %lane.topic(), %error, "queue head cannot be written");
        }
    }

    /// Throws the producer away and pauses: facts are small, repeated, and in no hurry.
    fn failed(&mut self, failure: window::Failure, reason: &str) {
        debug!(?failure, reason, "facts not stated, trying again");
        let topic = self.kafka.control_topic.as_str();
        let state = LinkState::Down(reason.into());
        self.links.set(LinkKind::Kafka, topic, state);
        self.session = None;
        self.under_way.clear();
        self.schedule.failed();
        // Woken by Stage::stop.
        thread::park_timeout(self.pause);
        self.pause = (2 * self.pause).min(RETRY.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{
        Epoch, Timestamp,
        control::{EpochFact, Loss, LossReason},
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
