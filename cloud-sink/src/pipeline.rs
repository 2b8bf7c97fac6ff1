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
mod job;
mod mongodb;
mod partitions;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{sync::mpsc, task::JoinSet, time::sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    assignment::Assignments,
    job::{Finished, Job, Parts},
    partitions::Handover,
};
use crate::{
    batch::{Batcher, Limits},
    checkpoint::Checkpoints,
    clock,
    conservation::{Conservation, Settled},
    coverage::{self, Day},
    dead_letter::DeadLetter,
    decode::{self, Reason, Undecodable},
    kafka::{Delivered, Event, Gate, Offsets},
    link::Links,
    message::Message,
    outage::Outage,
    store::{
        facts::FactEntry,
        readings::{Entry, Verdict},
    },
    telemetry::Telemetry,
};

/// Writes to MongoDB at once: enough to hide a round trip, few enough to stay small.
const MAX_WRITES: usize = 4;
/// Dead letters of one job.
const MAX_LETTERS: usize = 1000;
/// While nothing is written, MongoDB is asked this often whether it is there.
const PING: Duration = Duration::from_secs(2);
/// Records taken from the channel at a time.
const TAKE: usize = 512;
/// A MongoDB that owes an answer for so long is shown as away, well before its deadline.
const TOO_LONG: Duration = Duration::from_secs(4);
/// Longest wait for records in flight at the end.
const STOP: Duration = Duration::from_secs(8);
/// Between two tries of dead letters that were not taken.
const DEAD_LETTER_RETRY: Duration = Duration::from_secs(1);

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
    /// MongoDB and the dead-letter topic.
    pub parts: Arc<Parts>,
}

pub use job::Parts as Outlets;

/// Everything between the consumer thread and MongoDB.
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
    answered_at: Instant,
    /// Since when MongoDB owes an answer.
    owing_since: Option<Instant>,
    outage: Option<Outage>,
    /// Dead letters that wait, one job at a time: however long they do, others are not held up.
    letters: VecDeque<DeadLetter>,
    burying: bool,
    letters_at: Option<Instant>,
    jobs: JoinSet<Finished>,
    handover: Option<Handover>,
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
            answered_at: Instant::now(),
            owing_since: None,
            outage: None,
            letters: VecDeque::new(),
            burying: false,
            letters_at: None,
            jobs: JoinSet::new(),
            handover: None,
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
                () = sleep_until(wake.into()) => {}
            }
            let now = Instant::now();
            self.note_silence(now);
            self.collect_due(now);
            self.start_checkpoint(now);
            self.start_jobs(now);
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
        let batches = self.readings.values().map(Batcher::due);
        let others = [
            self.facts.due(),
            self.next_question(),
            self.checkpoints.due(idle).filter(|_| self.outage.is_none()),
            self.owing_since.map(|since| since + TOO_LONG),
            self.letters_at.filter(|_| !self.burying),
            self.handover.as_ref().map(|handover| handover.until),
            self.stopping,
        ];
        batches.chain(others).flatten().min().unwrap_or(idle)
    }

    // ---- records in

    /// Takes records, but first the events that were sent before them: a record whose assignment is not
    /// known yet would count as stale, and the offsets after it would pass over it.
    fn take_all(&mut self, records: impl Iterator<Item = Delivered>) {
        while let Ok(event) = self.ends.events.try_recv() {
            self.on_event(event);
        }
        records.for_each(|delivered| self.take(delivered));
    }

    fn take(&mut self, delivered: Delivered) {
        let Delivered {
            generation,
            message,
        } = delivered;
        if !self.assignments.take(&message.at, generation) {
            // Of a partition that went, or read twice: nothing of it was counted.
            self.ends.gate.release(message.size());
            return;
        }
        self.kept.consumed(1);
        self.telemetry.unread.taken(&message.at);
        self.checkpoints.read(&message);
        let now = Instant::now();
        match self.destinations.get(&message.at.partition.topic) {
            Some(Destination::Readings {
                collection,
                keep,
                hops,
            }) => match decode::reading(&message, None, *hops) {
                Ok(document) => {
                    let mut document = document.expiring(keep.map(clock::after));
                    document.consumed(clock::now_ms);
                    let bytes = message.size();
                    let entry = Entry {
                        message,
                        generation,
                        document,
                    };
                    let collection = collection.clone();
                    let batcher = self.readings.get_mut(&collection);
                    if let Some(entries) = batcher.and_then(|to| to.push(entry, bytes, now)) {
                        self.waiting.push_back(Job::Insert(collection, entries));
                    }
                }
                Err(cause) => self.bury(message, generation, cause),
            },
            Some(Destination::Control) => match decode::fact(&message) {
                Ok(fact) => {
                    let bytes = message.size();
                    let entry = FactEntry {
                        message,
                        generation,
                        fact,
                    };
                    if let Some(entries) = self.facts.push(entry, bytes, now) {
                        self.waiting.push_back(Job::Facts(entries));
                    }
                }
                // A tombstone forgets a fact in the topic; what the sink knows of it stays.
                Err(Undecodable {
                    reason: Reason::Empty,
                    ..
                }) => self.settle(&message, generation, Settled::Control),
                Err(cause) => self.bury(message, generation, cause),
            },
            None => {
                let detail = "no route for this topic";
                let cause = Undecodable::new(Reason::MagicUnknown, detail);
                self.bury(message, generation, cause);
            }
        }
    }

    fn bury(&mut self, message: Message, generation: u64, cause: Undecodable) {
        self.letters.push_back(DeadLetter {
            message,
            generation,
            cause,
        });
    }

    // ---- jobs

    fn collect_due(&mut self, now: Instant) {
        for (collection, batcher) in &mut self.readings {
            if let Some(entries) = batcher.take_due(now) {
                self.waiting
                    .push_back(Job::Insert(collection.clone(), entries));
            }
        }
        if let Some(entries) = self.facts.take_due(now) {
            self.waiting.push_back(Job::Facts(entries));
        }
    }

    /// Everything that is collected, full or not.
    fn collect_all(&mut self) {
        self.collect_due(Instant::now() + Duration::from_secs(60));
    }

    fn start_jobs(&mut self, now: Instant) {
        // In an outage one batch at a time asks whether it is over; in silence a ping does.
        let may_ask = self.next_question().is_some_and(|at| at <= now);
        if may_ask && self.waiting.is_empty() {
            self.waiting.push_back(Job::Ping);
        }
        let most = match &self.outage {
            None => MAX_WRITES,
            Some(_) => usize::from(may_ask),
        };
        while self.writing < most
            && let Some(job) = self.waiting.pop_front()
        {
            let (job, stale) = job.without_stale(&self.assignments);
            self.ends.gate.release(stale);
            if self.start(job) {
                self.writing += 1;
                self.owing_since.get_or_insert(now);
            }
        }
        if !self.burying && !self.letters.is_empty() && self.letters_at.is_none_or(|at| at <= now) {
            let count = self.letters.len().min(MAX_LETTERS);
            let letters = Job::Bury(self.letters.drain(..count).collect());
            let (job, stale) = letters.without_stale(&self.assignments);
            self.ends.gate.release(stale);
            self.letters_at = None;
            self.burying = self.start(job);
        }
    }

    fn start(&mut self, job: Job) -> bool {
        if job.is_empty() {
            return false;
        }
        let parts = self.ends.parts.clone();
        self.jobs.spawn(async move { job.run(&parts).await });
        true
    }

    fn on_finished(&mut self, finished: Finished) {
        match &finished {
            Finished::Buried { .. } => self.burying = false,
            _ => {
                self.writing -= 1;
                self.owing_since = (self.writing > 0).then(Instant::now);
            }
        }
        match finished {
            Finished::Inserted { entries, verdicts } => {
                self.mongodb_up();
                let now_ms = clock::now_ms();
                for (entry, verdict) in entries.into_iter().zip(verdicts) {
                    self.on_verdict(entry, verdict, now_ms);
                }
            }
            Finished::Applied(entries) => {
                self.mongodb_up();
                for entry in entries {
                    self.settle(&entry.message, entry.generation, Settled::Control);
                }
            }
            Finished::Kept => self.mongodb_up(),
            Finished::Taken(taken, answer) => {
                self.mongodb_up();
                self.on_taken(taken, &answer);
            }
            Finished::Checkpointed(written) => {
                self.mongodb_up();
                self.on_checkpointed(written);
            }
            Finished::Held(job, outage) => {
                if !matches!(job, Job::Ping) {
                    self.waiting.push_front(job);
                }
                self.mongodb_down(outage.to_string());
            }
            Finished::Buried { done, failed } => {
                for letter in done {
                    self.telemetry.dead_letter(&letter);
                    if let Some(id) = decode::identity(&letter.message) {
                        let dead = coverage::Verdict::DeadLettered;
                        self.checkpoints.note(&letter.message.at, &id, dead);
                    }
                    self.settle(&letter.message, letter.generation, Settled::DeadLetter);
                }
                if let Some((_, error)) = failed.first() {
                    self.telemetry.dead_letters_held(error, failed.len());
                    self.letters_at = Some(Instant::now() + DEAD_LETTER_RETRY);
                    for (letter, _) in failed.into_iter().rev() {
                        self.letters.push_front(letter);
                    }
                }
            }
        }
        self.store_offsets();
    }

    fn on_verdict(&mut self, entry: Entry, verdict: Verdict, now_ms: i64) {
        let present =
            |expires_at_ms: Option<i64>| coverage::Verdict::Present(expires_at_ms.map(Day::of));
        let (how, noted) = match verdict {
            Verdict::Written => {
                self.telemetry.written(&entry, now_ms);
                self.ends.parts.catalogue.stored(&entry.document);
                let noted = vec![present(entry.document.expires_at_ms())];
                (Settled::Written, noted)
            }
            Verdict::Duplicate(expires_at_ms) => (Settled::Duplicate, vec![present(expires_at_ms)]),
            Verdict::Conflict(expires_at_ms) => {
                self.telemetry.conflict(&entry);
                let noted = vec![present(expires_at_ms), coverage::Verdict::Conflicting];
                (Settled::Conflict, noted)
            }
            Verdict::Refused(cause) => {
                return self.bury(entry.message, entry.generation, cause);
            }
        };
        // Also of a record that is stale by now: what MongoDB has, it has.
        if let Some(id) = entry.document.record() {
            for verdict in noted {
                self.checkpoints.note(&entry.message.at, id, verdict);
            }
        }
        self.settle(&entry.message, entry.generation, how);
    }

    fn settle(&mut self, message: &Message, generation: u64, how: Settled) {
        self.ends.gate.release(message.size());
        if self.assignments.settle(&message.at, generation) {
            self.kept.settled(how, 1);
        }
    }

    /// Kafka's committed offset is a mirror, for its tools; where to go on is in the checkpoints.
    fn store_offsets(&mut self) {
        let offsets = &self.ends.offsets;
        let unread = &self.telemetry.unread;
        let checkpoints = &mut self.checkpoints;
        self.assignments.advanced(|next| {
            offsets.store(next.inspect(|(partition, next)| {
                unread.settled(partition, *next);
                checkpoints.advanced(partition, *next);
            }));
        });
    }

    // ---- the end

    fn stop(&mut self) {
        info!(in_flight = self.kept.snapshot().in_flight, "stopping");
        self.ends.gate.hold(true);
        self.collect_all();
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
