//! The sink loop: records in, documents out, offsets after both.
//!
//! ```text
//! consumer thread ─▶ take ─▶ decode ─▶ batch ─▶ insert (several at once) ─▶ settle ─▶ store offset
//!                              └─ dead letter ─▶ dead-letter topic ──────────▲
//! ```
//!
//! One task owns all of the state, so there is nothing to lock; inserts, facts and dead letters run as
//! jobs beside it and come back with what became of each record. An offset is stored only over records
//! that are settled (see [`Tracker`]), so a crash at any point repeats work and never skips any.
//!
//! What is in flight is bounded by the [`Gate`]'s bytes, taken when the consumer thread hands a record
//! over and given back when the record is settled or dropped from here.

mod assignment;
mod intake;
mod job;
mod letters;
mod look;
mod mongodb;
mod pace;
mod partitions;
mod schemas;
mod work;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use protocol_host::supervisor::Pulse;
use tokio::{sync::mpsc, task::JoinSet, time::sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    assignment::Assignments,
    job::{Finished, Job, Parts},
    letters::Letters,
    look::Looks,
    pace::Pace,
    partitions::{Handover, Takeover},
};
use crate::{
    batch::{Batcher, Limits},
    checkpoint::Checkpoints,
    conservation::Conservation,
    kafka::{Delivered, Event, Gate, Offsets, Witness},
    link::Links,
    outage::Outage,
    schemas::Schemas,
    store::{facts::FactEntry, readings::Entry},
    telemetry::Telemetry,
};

/// While nothing is written, MongoDB is asked this often whether it is there.
const PING: Duration = Duration::from_secs(2);
/// Records taken from the channel at a time.
const TAKE: usize = 512;
/// A MongoDB that owes an answer for so long is shown as away, well before its deadline.
const TOO_LONG: Duration = Duration::from_secs(4);
/// Longest wait for records in flight at the end.
const STOP: Duration = Duration::from_secs(8);

/// What records of a topic become.
#[derive(Debug, Clone)]
pub enum Destination {
    /// Documents.
    Readings {
        /// Where.
        collection: Arc<str>,
        /// Removed this long after they are written.
        keep: Option<Duration>,
        /// With the gateway's hop times.
        hops: bool,
        /// Into a time series.
        series: bool,
    },
    /// Facts.
    Control,
}

/// What the pipeline works with.
pub struct Ends {
    /// Records.
    pub messages: mpsc::UnboundedReceiver<Delivered>,
    /// Partitions that come and go.
    pub events: mpsc::UnboundedReceiver<Event>,
    /// Where offsets go.
    pub offsets: Offsets,
    /// Holds Kafka back.
    pub gate: Arc<Gate>,
    /// Tells whether a topic is still the one that was read.
    pub witness: Arc<Witness>,
    /// MongoDB and the dead-letter topic.
    pub parts: Arc<Parts>,
    /// Shows that the loop goes on; it wakes at least every two seconds.
    pub pulse: Pulse,
}

pub use job::Parts as Outlets;

/// Everything between the consumer thread and MongoDB. What it does with a record is in `intake`, what with
/// the jobs in `work`, with the marks in `look`, what when partitions or MongoDB come and go in `partitions` and `mongodb`.
pub struct Pipeline {
    ends: Ends,
    destinations: HashMap<Arc<str>, Destination>,
    links: Links,
    kept: Arc<Conservation>,
    telemetry: Arc<Telemetry>,
    assignments: Assignments,
    checkpoints: Checkpoints,
    /// Whose offsets these are; known when the first partitions come.
    cluster: Arc<str>,
    readings: HashMap<Arc<str>, Batcher<Entry>>,
    facts: Batcher<FactEntry>,
    /// Full batches that wait for a free job or for MongoDB.
    waiting: VecDeque<Job>,
    /// Of the jobs, those at MongoDB.
    writing: usize,
    /// One of them is for a time series.
    series_under_way: bool,
    pace: Pace,
    answered_at: Instant,
    /// Since when MongoDB owes an answer.
    owing_since: Option<Instant>,
    outage: Option<Outage>,
    letters: Letters,
    schemas: Schemas,
    looks: Looks,
    jobs: JoinSet<Finished>,
    handover: Option<Handover>,
    takeover: Option<Takeover>,
    stopping: Option<Instant>,
}

impl Pipeline {
    /// Puts the parts together.
    pub fn new(
        ends: Ends,
        destinations: HashMap<Arc<str>, Destination>,
        limits: Limits,
        links: Links,
        kept: Arc<Conservation>,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        let collections = destinations.values().filter_map(|to| match to {
            Destination::Readings { collection, .. } => Some(collection.clone()),
            Destination::Control => None,
        });
        Self {
            readings: collections
                .map(|name| (name, Batcher::new(limits)))
                .collect(),
            facts: Batcher::new(limits),
            ends,
            destinations,
            links,
            kept,
            telemetry,
            assignments: Assignments::default(),
            checkpoints: Checkpoints::new(Instant::now()),
            cluster: Arc::from(""),
            waiting: VecDeque::new(),
            writing: 0,
            series_under_way: false,
            pace: Pace::new(limits.max_records),
            answered_at: Instant::now(),
            owing_since: None,
            outage: None,
            letters: Letters::default(),
            schemas: Schemas::default(),
            looks: Looks::new(Instant::now()),
            jobs: JoinSet::new(),
            handover: None,
            takeover: None,
            stopping: None,
        }
    }

    /// Runs until `stop`, then settles what is in flight within the deadline.
    ///
    /// # Errors
    /// When the consumer thread is gone or a job panicked.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut taken = Vec::with_capacity(TAKE);
        loop {
            self.ends.pulse.beat();
            let wake = self.wake();
            tokio::select! {
                biased;
                () = stop.cancelled(), if self.stopping.is_none() => self.stop(),
                event = self.ends.events.recv() => {
                    self.on_event(event.context("the kafka consumer ended")?);
                }
                Some(finished) = self.jobs.join_next() => {
                    self.on_finished(finished.context("a job of the pipeline ended by itself")?);
                }
                count = self.ends.messages.recv_many(&mut taken, TAKE), if self.stopping.is_none() => {
                    anyhow::ensure!(count > 0, "the kafka consumer ended");
                    self.take_all(taken.drain(..));
                }
                Some(looked) = self.looks.answers.recv() => self.on_looked(looked),
                () = sleep_until(wake.into()) => {}
            }
            let now = Instant::now();
            self.note_silence(now);
            self.collect_due(now);
            self.start_checkpoint(now);
            self.start_look(now);
            self.start_jobs(now);
            self.finish_takeover(now);
            self.finish_handover(now);
            if self
                .stopping
                .is_some_and(|until| now >= until || self.is_idle())
            {
                break;
            }
        }
        self.end();
        Ok(())
    }

    /// The next moment at which something is to be done without an event.
    fn wake(&self) -> Instant {
        // While neither MongoDB nor a letter is waited for, a job's end is the next event.
        let idle = Instant::now() + PING;
        let all = [
            self.batch_due(),
            self.next_question(),
            self.checkpoints.due(idle).filter(|_| self.outage.is_none()),
            self.owing_since.map(|since| since + TOO_LONG),
            self.letters.wake(),
            self.schemas.due(idle),
            self.handover.as_ref().map(|handover| handover.until),
            self.takeover.as_ref().map(|takeover| takeover.at),
            self.stopping,
        ];
        all.into_iter().flatten().min().unwrap_or(idle)
    }

    // ---- the end

    fn stop(&mut self) {
        info!(in_flight = self.kept.snapshot().in_flight, "stopping");
        self.ends.gate.hold(true);
        self.collect_all();
        self.checkpoints.ending(None);
        self.stopping = Some(Instant::now() + STOP);
    }

    fn nothing_under_way(&self) -> bool {
        self.jobs.is_empty() && self.waiting.is_empty() && self.letters.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.nothing_under_way() && self.checkpoints.all_settled()
    }

    fn end(&mut self) {
        self.store_offsets();
        let balance = self.kept.snapshot();
        if balance.in_flight > 0 {
            let records = balance.in_flight;
            warn!(
                records,
                "not settled in time, the next start reads them again"
            );
        }
    }
}

#[cfg(test)]
mod tests;
