//! The control facts: what the sink must know beside the readings (see [`protocol::control`]).
//!
//! Sent directly, not through the queue, to the compacted control topic. A fact that gets lost on the
//! way is stated again, because the lane goes on naming it until [`queue::Lane::stated`] was called after
//! its delivery. So nothing here has to survive a crash.
//!
//! When a fact is stated is the decision of [`Schedule`].

mod schedule;

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
    failure::Failure,
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
use schedule::Schedule;

/// How often the lanes are asked for facts.
const LOOK: Duration = Duration::from_secs(1);
/// Runs of one lane that are stated at a time; the others follow as these are heard. After months of restarts
/// without an uplink there are more than a producer takes at once, and each that is heard costs a write of the
/// head when it is alone.
const RUNS: usize = 1000;
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
        heard: BTreeMap::new(),
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

struct Speaker {
    gateway: GatewayId,
    lanes: Vec<Arc<queue::Lane>>,
    kafka: config::Kafka,
    clock: Clock,
    links: Links,
    session: Option<Session>,
    under_way: BTreeMap<usize, (Option<usize>, Fact)>,
    /// What Kafka has and the lane of that place does not know of yet.
    heard: BTreeMap<usize, Vec<Fact>>,
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
            while stop.deadline().is_none() && Instant::now() < look && !self.has_more() {
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
            self.settle();
            if self.session.is_some() || Instant::now() >= deadline {
                return;
            }
        }
    }

    /// Whether all that could be stated at a time is heard.
    fn has_more(&self) -> bool {
        self.under_way.is_empty() && self.heard.values().any(|heard| heard.len() >= RUNS)
    }

    /// States what is due.
    fn round(&mut self, last: bool) {
        self.settle();
        let now = self.clock.now();
        let facts = self.facts(&now);
        let named: Vec<Fact> = facts.iter().map(|(_, fact)| fact.clone()).collect();
        let mut due = self.schedule.due(Instant::now(), named, last);
        // A loss before the epoch that counts it as settled: else an audit finds readings missing for as
        // long as the loss is on its way.
        due.sort_by_key(|fact| !matches!(fact, Fact::Loss(_)));
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
            let mut runs = 0;
            for fact in lane.facts(now.queue()) {
                if let Fact::Epoch(epoch) = &fact
                    && !epoch.closed
                {
                    state.epoch = Some(epoch.epoch);
                    state.committed = epoch.committed;
                }
                runs += usize::from(matches!(fact, Fact::Epoch(_)));
                if runs <= RUNS || !matches!(fact, Fact::Epoch(_)) {
                    facts.push((Some(at), fact));
                }
            }
            // The heartbeat speaks of the lanes that take this gateway's readings.
            if lane.name() == lane.topic().as_str() && *lane.gateway() == self.gateway {
                states.push(state);
            }
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
    ) -> Result<(), (Failure, String)> {
        let broken = |reason: String| (Failure::Broken, reason);
        let value = fact.encode().map_err(|error| broken(error.to_string()))?;
        let topic = self.kafka.control_topic.as_str();
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(
                Session::open(
                    &self.kafka,
                    &[],
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
            // Facts are few and pass every limit.
            Ok(Event::Wire { .. }) => {}
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                self.failed(Failure::Broken, "producer ended");
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
        if let Some(at) = lane {
            self.heard.entry(at).or_default().push(fact);
        }
    }

    /// Tells the lanes what Kafka has.
    fn settle(&mut self) {
        for (at, heard) in std::mem::take(&mut self.heard) {
            if let Some(lane) = self.lanes.get(at)
                && let Err(error) = lane.stated(&heard)
            {
                // The lane names them again, and they are stated again.
                warn!(lane = %lane.topic(), %error, "queue head cannot be written");
            }
        }
    }

    /// Throws the producer away and pauses: facts are small, repeated, and in no hurry.
    fn failed(&mut self, failure: Failure, reason: &str) {
        debug!(?failure, reason, "facts not stated, trying again");
        // First of all: until it is gone its statistics may call the link up.
        self.session = None;
        let topic = self.kafka.control_topic.as_str();
        let state = LinkState::Down(reason.into());
        self.links.set(LinkKind::Kafka, topic, state);
        self.under_way.clear();
        self.schedule.failed();
        // Woken by Stage::stop.
        thread::park_timeout(self.pause);
        self.pause = (2 * self.pause).min(RETRY.1);
    }
}
