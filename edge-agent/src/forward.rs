//! From the queue to Kafka, in order, forgotten only once Kafka has it.
//!
//! One thread and one producer per lane: [`Reader`] → [`uplink`] ([`window`] decides, [`producer`] is
//! librdkafka) → delivery report → [`Reader::acknowledge`]. Invariant 2 on this side: the queue forgets
//! what a delivery report names, never what was merely handed over.
//!
//! [`schema`] knows how the values of a topic are written, [`allowance`] how much may be sent now ([`limiter`]
//! carries that out), [`facts`] tells the sink what it must know beside the readings. These are the only
//! modules of the agent that name rdkafka.

mod allowance;
pub mod facts;
mod failure;
mod limiter;
pub mod look;
mod polled;
mod producer;
mod record;
pub mod schema;
mod uplink;
mod window;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use protocol::{Topic, control::LossReason};
use protocol_host::supervisor::{Pulse, Pulses};
use tracing::warn;

use crate::{
    clock::Clock,
    config,
    link::{LinkKind, LinkState, Links},
    quarantine::Quarantine,
    queue::{ReadError, Reader},
    stage::{Stage, Stop},
};
pub use allowance::By;
use limiter::Limiter;
pub use limiter::{Held, Precedence};
pub use producer::check;
use schema::Schemas;
use uplink::{Order, Uplink};

/// Most entries taken out of the queue at once.
const HANDFUL: usize = 500;
/// How long a lane with nothing to do sleeps, at most.
const IDLE: Duration = Duration::from_millis(250);
/// Between two tries while the disk takes nothing.
const DISK_RETRY: Duration = Duration::from_millis(500);
/// An uplink that settles nothing for so long stands still.
const STILL: Duration = Duration::from_secs(5);
/// Shortest and longest look for reports while nothing new comes.
const NAP: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// What a lane's forwarder has done since the start, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes of values and headers handed to the producer, before compression.
    pub sent_bytes: AtomicU64,
    /// Records Kafka acknowledged.
    pub acknowledged: AtomicU64,
    /// Records handed out again after a producer failed; some of them may be in Kafka twice.
    pub resent: AtomicU64,
    /// Records lost because Kafka refused exactly them.
    pub refused: AtomicU64,
    /// Producers that failed and were replaced.
    pub restarts: AtomicU64,
    /// Bytes of the day that count against `budget_per_day`, where there is one.
    pub budget_spent_bytes: AtomicU64,
    /// What holds the lane back now.
    held: Mutex<Option<Held>>,
}

impl Counters {
    /// What holds the lane back now.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }

    fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// What all forwarders share with the rest of the process.
#[derive(Clone)]
pub struct Surroundings {
    /// The uplink's settings.
    pub kafka: config::Kafka,
    /// How the values of each topic are written.
    pub schemas: Schemas,
    /// The time.
    pub clock: Clock,
    /// Where the state of the link is reported, by the lane's name.
    pub links: Links,
    /// Where the bytes of refused records go.
    pub quarantine: Quarantine,
    /// Where the forwarders show that they go on.
    pub pulses: Pulses,
    /// Which lanes are sending.
    pub precedence: Precedence,
    /// Directory of what was spent of daily budgets.
    pub budgets: PathBuf,
}

/// Starts the forwarder of a lane. [`Stage::stop`] lets it drain the lane until the deadline; so stop it
/// after the ingest stage has ended.
///
/// # Errors
/// The system gives no thread.
pub fn start(
    reader: Reader,
    limits: &config::Limits,
    counters: &Arc<Counters>,
    around: &Surroundings,
) -> io::Result<Stage> {
    let queue = Arc::clone(reader.lane());
    let uplink = Uplink::new(
        around,
        limits,
        queue.topic().clone(),
        queue.name().to_owned(),
        Arc::clone(counters),
    );
    let lane = Lane {
        topic: queue.topic().clone(),
        reader,
        uplink,
        clock: around.clock.clone(),
        links: around.links.clone(),
        quarantine: around.quarantine.clone(),
        nap: NAP.0,
        moved: Instant::now(),
        pulse: around.pulses.watch(format!("forward {}", queue.name())),
    };
    Stage::spawn(&format!("forward {}", queue.name()), move |stop| {
        lane.run(&stop)
    })
}

struct Lane {
    topic: Topic,
    reader: Reader,
    uplink: Uplink,
    clock: Clock,
    links: Links,
    quarantine: Quarantine,
    nap: Duration,
    /// When something was settled or taken, last.
    moved: Instant,
    pulse: Pulse,
}

impl Lane {
    fn run(mut self, stop: &Stop) -> Result<(), String> {
        loop {
            self.pulse.beat();
            // Asked for before the look into the queue: what was committed before the stop is seen by it.
            let asked = stop.deadline();
            let is_drained = self.turn(stop)?;
            if let Some(deadline) = asked
                && (is_drained || Instant::now() >= deadline)
            {
                return Ok(());
            }
        }
    }

    /// One step; whether nothing is left to do.
    fn turn(&mut self, stop: &Stop) -> Result<bool, String> {
        match self.uplink.turn() {
            Order::Acknowledge { count, offsets } => {
                self.nap = NAP.0;
                self.moved = Instant::now();
                let now = self.clock.now().queue();
                let moved = self.reader.acknowledge(count, &offsets, now);
                if let Err(error) = moved {
                    // What is not known to be through is sent again after a crash, harmlessly.
                    self.disk_failed(&error);
                }
            }
            Order::Rewind { refused } => {
                if let Some(value) = refused {
                    self.lose_front(&value, stop)?;
                }
                self.reader.rewind();
            }
            Order::Wait => {
                if self.moved.elapsed() >= STILL {
                    self.reader.rest();
                }
                self.uplink.wait(NAP.1);
            }
            Order::Held => {
                // What was handed out and not sent goes back: while a lane is held back for hours its oldest
                // readings must be free to grow too old, or to give way when the disk is full.
                self.reader.rewind();
                if stop.deadline().is_some() {
                    return Ok(true);
                }
                self.uplink.wait(IDLE);
            }
            Order::More(room) => {
                let now = self.clock.now().queue();
                let room = room.min(HANDFUL);
                let entries = match self.reader.next(room, now) {
                    Ok(entries) => entries,
                    Err(ReadError::Disk(error)) => {
                        self.disk_is_down(&error);
                        // What is under way goes on meanwhile.
                        self.uplink.wait(DISK_RETRY);
                        return Ok(false);
                    }
                    Err(error) => {
                        return Err(format!("lane {} cannot be read: {error}", self.topic));
                    }
                };
                if entries.is_empty() {
                    return Ok(self.rest(stop));
                }
                self.nap = NAP.0;
                self.moved = Instant::now();
                self.uplink.take(entries);
            }
        }
        Ok(false)
    }

    /// Sleeps until there may be something to do; whether nothing is left.
    fn rest(&mut self, stop: &Stop) -> bool {
        if self.uplink.under_way() > 0 {
            self.reader.wait(self.nap);
            self.nap = (2 * self.nap).min(NAP.1);
            return false;
        }
        if stop.deadline().is_none() {
            self.reader.wait(IDLE);
        }
        true
    }

    /// The oldest entry is too large for Kafka. Nothing passes it before its loss is durable.
    fn lose_front(&mut self, value: &[u8], stop: &Stop) -> Result<(), String> {
        let reason = LossReason::Refused;
        let now = self.clock.now();
        let detail = "kafka refuses the record for its size: raise the topic's max.message.bytes";
        self.quarantine.keep(
            now.wall,
            self.topic.as_str(),
            reason.as_str(),
            detail.into(),
            value,
        );
        while let Err(error) = self.reader.lose_front(reason, self.clock.now().queue()) {
            self.disk_failed(&error);
            if stop.deadline().is_some_and(|at| Instant::now() >= at) {
                return Err(format!(
                    "lane {}: a loss is not durable: {error}",
                    self.topic
                ));
            }
            self.pulse.beat();
            thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    }

    fn disk_failed(&self, error: &io::Error) {
        let topic = &self.topic;
        warn!(%topic, %error, "queue cursor cannot be written");
        self.disk_is_down(error);
    }

    /// The commit thread says when it is up again.
    fn disk_is_down(&self, error: &io::Error) {
        let state = LinkState::Down(error.to_string());
        self.links.set(LinkKind::Disk, self.topic.as_str(), state);
    }
}

#[cfg(test)]
mod tests;
