//! One lane's way into its topic: a window, and the producer that serves it now.
//!
//! Knows nothing of the queue: it takes entries and gives orders for it, so that the whole of it runs
//! in tests against a broker alone.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use protocol::Topic;
use tracing::{error, info, warn};

use super::{
    Counters, Limiter, Surroundings,
    failure::Failure,
    producer::{Event, Sent, Session, full_batch_bytes, tuning},
    record,
    schema::Schemas,
    window::{Next, Window},
};
use crate::{
    clock::Clock,
    config,
    link::{LinkKind, LinkState, Links},
    queue::Entry,
};

/// What the queue is to do.
#[derive(Debug)]
pub enum Order {
    /// The oldest `count` entries are in Kafka.
    Acknowledge {
        /// How many.
        count: usize,
        /// Highest offset of each partition.
        offsets: BTreeMap<i32, i64>,
    },
    /// Hand out again everything that is not settled, but first lose the oldest if it is too large:
    /// these are its bytes.
    Rewind {
        /// Value of the record that was refused.
        refused: Option<Vec<u8>>,
    },
    /// Hand out so many more, if there are.
    More(usize),
    /// Come back after some reports, or time.
    Wait,
    /// The lane is held back for long, with nothing under way: everything handed out is void. Come back after
    /// some time.
    Held,
}

/// The way of one lane.
pub struct Uplink {
    kafka: config::Kafka,
    schemas: Schemas,
    topic: Topic,
    /// Under which name its link is shown: two lanes may have one topic.
    link: String,
    clock: Clock,
    links: Links,
    counters: Arc<Counters>,
    limiter: Limiter,
    /// Settings of this lane's producers, before those of all.
    tuning: Vec<(&'static str, String)>,
    window: Window,
    session: Option<Session>,
    /// Handed out by the queue, but not taken by the producer yet.
    waiting: VecDeque<Entry>,
    /// The value that was sent last.
    value: Vec<u8>,
    /// What the last failure said.
    reason: String,
    until: Option<Instant>,
    /// Kafka denied what was sent last.
    is_denied: bool,
}

impl Uplink {
    /// The way of the lane that is shown as `link` into `topic`.
    pub fn new(
        around: &Surroundings,
        limits: &config::Limits,
        topic: Topic,
        link: String,
        counters: Arc<Counters>,
    ) -> Self {
        let (kafka, links) = (around.kafka.clone(), around.links.clone());
        links.set(LinkKind::Kafka, &link, LinkState::Connecting);
        let limiter = Limiter::new(
            &link,
            limits,
            &around.budgets,
            around.precedence.clone(),
            Arc::clone(&counters),
            &around.clock.now(),
        );
        Self {
            window: Window::new(full_batch_bytes(&kafka.client.properties)),
            tuning: tuning(&kafka.client.properties, limits),
            kafka,
            schemas: around.schemas.clone(),
            topic,
            link,
            clock: around.clock.clone(),
            links,
            counters,
            limiter,
            session: None,
            waiting: VecDeque::new(),
            value: Vec::new(),
            reason: String::new(),
            until: None,
            is_denied: false,
        }
    }

    /// Entries handed out and not settled.
    pub fn under_way(&self) -> usize {
        self.window.len() + self.waiting.len()
    }

    /// Waits for a report, or until a pause is over, at most so long.
    pub fn wait(&mut self, at_most: Duration) {
        let pause = self
            .until
            .map(|until| until.saturating_duration_since(Instant::now()));
        let at_most = pause.unwrap_or(at_most).min(at_most);
        let Some(session) = &self.session else {
            return std::thread::sleep(at_most);
        };
        match session.events.recv_timeout(at_most) {
            Ok(event) => self.note(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                self.failed(Failure::Broken, "the producer's thread ended".into());
            }
        }
    }

    /// Takes the reports that are there and says what the queue is to do.
    pub fn turn(&mut self) -> Order {
        while let Some(event) = self.session.as_ref().and_then(|s| s.events.try_recv().ok()) {
            self.note(event);
        }
        self.limiter.press(self.under_way() > 0);
        self.until = None;
        let bytes = self.window.bytes();
        match self.window.next(Instant::now()) {
            Next::Acknowledge { count, offsets } => {
                self.is_denied = false;
                self.limiter.settled(bytes - self.window.bytes());
                self.report(LinkState::Up);
                Counters::add(&self.counters.acknowledged, count as u64);
                Order::Acknowledge { count, offsets }
            }
            Next::Restart { failure, refused } => self.restart(failure, refused),
            Next::Hold(until) => {
                self.until = Some(until);
                Order::Wait
            }
            Next::Full => Order::Wait,
            // Also without readings: an idle lane is to know whether its link is up.
            Next::Send(_) if self.session.is_none() => {
                self.open();
                self.turn()
            }
            Next::Send(room) => match self.limiter.room(&self.clock.now(), room) {
                Ok(room) => {
                    let room = room - self.send(room);
                    if self.waiting.is_empty() && room > 0 {
                        Order::More(room)
                    } else {
                        Order::Wait
                    }
                }
                Err((by, _)) if by.is_long() && self.window.len() == 0 => {
                    self.waiting.clear();
                    Order::Held
                }
                Err((_, wait)) => {
                    self.until = Some(Instant::now() + wait);
                    Order::Wait
                }
            },
        }
    }

    /// Takes entries, in the order of the queue.
    pub fn take(&mut self, entries: Vec<Entry>) {
        self.waiting.extend(entries);
        self.send(self.window.room());
    }

    fn report(&self, state: LinkState) {
        self.links.set(LinkKind::Kafka, &self.link, state);
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Delivered {
                ticket,
                partition,
                offset,
            } => self.window.delivered(ticket, partition, offset),
            Event::Failed { failure, reason } => self.failed(failure, reason),
            Event::Wire { bytes } => self.limiter.measured(bytes),
        }
    }

    fn failed(&mut self, failure: Failure, reason: String) {
        if self.window.failed(failure) {
            self.reason = reason;
        }
    }

    fn open(&mut self) {
        let (batch, link) = (self.window.batch_bytes(), self.link.as_str());
        let (kafka, tuning) = (&self.kafka, &self.tuning);
        match Session::open(kafka, tuning, batch, &self.links, link, !self.is_denied) {
            Ok(session) => self.session = Some(session),
            Err(reason) => self.failed(Failure::Broken, reason),
        }
    }

    /// Throws the producer away, with everything it had.
    fn restart(&mut self, failure: Failure, refused: bool) -> Order {
        let again = self.under_way() - usize::from(refused);
        // Dropping it purges what it still has; those reports mean nothing any more. Before the link is
        // reported down, for until it is gone its statistics may call the link up.
        self.session = None;
        self.limiter.restarted();
        let (topic, reason) = (&self.topic, &self.reason);
        Counters::add(&self.counters.resent, again as u64);
        Counters::add(&self.counters.restarts, 1);
        let batch_bytes = self.window.batch_bytes();
        match failure {
            Failure::TooLarge if refused => {
                Counters::add(&self.counters.refused, 1);
                error!(%topic, reason, "kafka refuses a record for its size, quarantined");
            }
            Failure::TooLarge => {
                warn!(%topic, reason, batch_bytes, "kafka refuses a batch for its size, sending smaller ones");
            }
            Failure::Ended | Failure::Broken => {
                info!(%topic, reason, again, "producer failed, starting a new one");
                self.report(LinkState::Down(reason.clone()));
            }
            Failure::Denied => {
                self.is_denied = true;
                // The state of the link tells it once.
                self.report(LinkState::Down(reason.clone()));
            }
        }
        self.waiting.clear();
        self.window.restarted();
        Order::Rewind {
            refused: refused.then(|| std::mem::take(&mut self.value)),
        }
    }

    /// Hands at most `room` waiting entries to the producer; returns how many it took.
    fn send(&mut self, room: usize) -> usize {
        let mut sent = 0;
        // Until it is known how readings of this topic are written, they wait.
        let Some(form) = self.schemas.form(&self.topic) else {
            return 0;
        };
        while sent < room
            && let Some(entry) = self.waiting.front_mut()
        {
            let Some(session) = &self.session else {
                break;
            };
            let now = self.clock.now();
            record::correct(&mut entry.record, &now);
            let encoded = record::encode(entry, &form, now.wall, &mut self.value);
            let encoded = match encoded {
                Ok(encoded) => encoded,
                Err(error) => {
                    self.failed(Failure::Broken, error.to_string());
                    break;
                }
            };
            let ticket = self.window.ticket();
            let key = entry.record.id.gateway.as_str();
            let time = now.wall.as_millis();
            let topic = self.topic.as_str();
            match session.send(topic, key, &self.value, encoded.headers, time, ticket) {
                Sent::Yes => {
                    self.window.sent(encoded.bytes);
                    self.limiter.sent(&now, encoded.bytes);
                    Counters::add(&self.counters.sent_bytes, encoded.bytes as u64);
                    self.waiting.pop_front();
                    sent += 1;
                }
                Sent::Later => break,
                Sent::Failed(failure, reason) => {
                    // A record that is refused here counts as under way, so that it can be the one.
                    if failure == Failure::TooLarge && self.window.len() == 0 {
                        self.window.sent(encoded.bytes);
                        self.waiting.pop_front();
                    }
                    self.failed(failure, reason);
                    break;
                }
            }
        }
        sent
    }
}
