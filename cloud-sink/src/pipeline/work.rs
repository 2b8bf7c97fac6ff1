//! Jobs: when they start, and what follows from how they ended.

use std::time::Instant;

use super::{
    Pipeline,
    job::{Finished, Job},
};
use crate::{
    clock,
    conservation::Settled,
    coverage::{self, Day},
    dead_letter::DeadLetter,
    decode,
    kafka::DeadLetterError,
    message::{Message, Partition},
    store::readings::{Entry, Verdict},
};

impl Pipeline {
    /// While all writes are under way, or MongoDB is away, a batch that is due goes on growing until it is
    /// full: many small ones make a server that is slow slower.
    fn has_free_write(&self) -> bool {
        self.outage.is_none() && self.writing + self.waiting.len() < self.pace.writes()
    }

    /// When the next batch is due that may go.
    pub(super) fn batch_due(&self) -> Option<Instant> {
        let free = self.readings.iter();
        let free = free.filter(|(collection, _)| {
            !(self.series_under_way && self.ends.parts.series.has(collection))
        });
        let due = free.filter_map(|(_, batcher)| batcher.due());
        let due = due.chain(self.facts.due()).min();
        due.filter(|_| self.has_free_write())
    }

    pub(super) fn collect_due(&mut self, now: Instant) {
        if self.batch_due().is_none_or(|due| now < due) {
            return;
        }
        let series = self.series_under_way.then_some(&self.ends.parts.series);
        for (collection, batcher) in &mut self.readings {
            let is_held = series.is_some_and(|series| series.has(collection));
            if !is_held && let Some(entries) = batcher.take_due(now) {
                self.waiting
                    .push_back(Job::Insert(collection.clone(), entries));
            }
        }
        if let Some(entries) = self.facts.take_due(now) {
            self.waiting.push_back(Job::Facts(entries));
        }
    }

    /// Everything that is collected, full or not.
    pub(super) fn collect_all(&mut self) {
        for (collection, batcher) in &mut self.readings {
            let batch = batcher.take();
            let job = batch.map(|entries| Job::Insert(collection.clone(), entries));
            self.waiting.extend(job);
        }
        self.waiting.extend(self.facts.take().map(Job::Facts));
    }

    pub(super) fn start_jobs(&mut self, now: Instant) {
        // In an outage one batch at a time asks whether it is over; in silence a ping does.
        let may_ask = self.next_question().is_some_and(|at| at <= now);
        if may_ask && self.waiting.is_empty() {
            self.waiting.push_back(Job::Ping);
        }
        let most = match &self.outage {
            None => self.pace.writes(),
            Some(_) => usize::from(may_ask),
        };
        while self.writing < most
            && let Some(job) = self.next_job()
        {
            let (job, stale) = job.without_stale(&self.assignments);
            self.ends.gate.release(stale);
            let (job, rest) = job.split(self.pace.size());
            if let Some(rest) = rest {
                self.waiting.push_front(rest);
            }
            let series = self.series_of(&job);
            if self.start(job) {
                self.series_under_way |= series;
                self.writing += 1;
                self.owing_since.get_or_insert(now);
            }
        }
        if let Some(id) = self.schemas.ask(now) {
            self.start(Job::Schema(id));
        }
        self.start_burials(now);
        self.stall();
    }

    /// The next job that may start. A time series takes one batch after the other, in the order of their
    /// offsets: what the first brings, the second has to know.
    fn next_job(&mut self) -> Option<Job> {
        let is_free = |job: &Job| !self.series_under_way || !self.series_of(job);
        let at = self.waiting.iter().position(is_free)?;
        self.waiting.remove(at)
    }

    fn series_of(&self, job: &Job) -> bool {
        matches!(job, Job::Insert(collection, _) if self.ends.parts.series.has(collection))
    }

    fn start_burials(&mut self, now: Instant) {
        while let Some((partition, letters)) = self.letters.next(now) {
            let job = Job::Bury(partition.clone(), letters);
            let (job, stale) = job.without_stale(&self.assignments);
            self.ends.gate.release(stale);
            if !self.start(job) {
                self.letters.finished(&partition, Vec::new(), now);
            }
        }
    }

    /// Partitions whose letters fail, or of which a record waits for its schema, are not read on: each
    /// would fill the room of all.
    fn stall(&self) {
        // Letters that are not taken hold at most half of what may be in flight, shared by the partitions.
        let share = self.ends.gate.limit() / 2 / self.assignments.len().max(1);
        let mut stalled = self.letters.stalled(share);
        stalled.extend(self.schemas.partitions());
        self.ends.gate.stall(stalled);
    }

    fn start(&mut self, job: Job) -> bool {
        if job.is_empty() {
            return false;
        }
        let parts = self.ends.parts.clone();
        self.jobs.spawn(async move { job.run(&parts).await });
        true
    }

    pub(super) fn on_finished(&mut self, finished: Finished) {
        match &finished {
            Finished::Buried { .. } | Finished::Schema(..) => {}
            _ => {
                self.writing -= 1;
                self.owing_since = (self.writing > 0).then(Instant::now);
            }
        }
        match finished {
            Finished::Inserted {
                collection,
                entries,
                verdicts,
            } => {
                self.mongodb_up();
                if self.ends.parts.series.has(&collection) {
                    self.series_under_way = false;
                    for entry in &entries {
                        self.checkpoints.leased(&entry.message.at.partition);
                    }
                }
                self.pace.in_time(entries.len());
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
            Finished::Answered => self.mongodb_up(),
            Finished::Unfinished(job) => {
                self.mongodb_up();
                self.waiting.push_back(job);
            }
            Finished::Taken(taken, answer) => {
                self.mongodb_up();
                self.on_taken(taken, answer);
            }
            Finished::Checkpointed(written) => {
                self.mongodb_up();
                self.on_checkpointed(written);
            }
            Finished::Held(job, outage) => {
                self.series_under_way &= !self.series_of(&job);
                if let Job::Insert(_, entries) = &job
                    && outage.is_late()
                {
                    self.pace.late(entries.len());
                }
                if !matches!(job, Job::Ping) {
                    self.waiting.push_front(job);
                }
                self.mongodb_down(outage.to_string());
            }
            Finished::Schema(id, answer) => self.on_schema(id, answer),
            Finished::Buried {
                partition,
                done,
                failed,
            } => self.on_buried(&partition, done, failed),
        }
        self.store_offsets();
    }

    fn on_buried(
        &mut self,
        partition: &Partition,
        done: Vec<DeadLetter>,
        failed: Vec<(DeadLetter, DeadLetterError)>,
    ) {
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
        }
        let failed = failed.into_iter().map(|(letter, _)| letter).collect();
        self.letters.finished(partition, failed, Instant::now());
    }

    fn on_verdict(&mut self, entry: Entry, verdict: Verdict, now_ms: i64) {
        let present =
            |expires_at_ms: Option<i64>| coverage::Verdict::Present(expires_at_ms.map(Day::of));
        let (how, noted) = match verdict {
            Verdict::Written => {
                self.telemetry.written(&entry, now_ms);
                self.ends.parts.catalogue.stored(&entry.document, now_ms);
                let noted = present(entry.document.expires_at_ms());
                (Settled::Written, [Some(noted), None])
            }
            Verdict::Duplicate(expires_at_ms) => {
                (Settled::Duplicate, [Some(present(expires_at_ms)), None])
            }
            Verdict::Conflict(expires_at_ms) => {
                self.telemetry.conflict(&entry);
                let noted = [present(expires_at_ms), coverage::Verdict::Conflicting];
                (Settled::Conflict, noted.map(Some))
            }
            Verdict::Refused(cause) => {
                return self.bury(entry.message, entry.generation, cause);
            }
            // Its partition is about to go, and it with it.
            Verdict::Fenced => return self.ends.gate.release(entry.message.size()),
        };
        // Also of a record that is stale by now: what MongoDB has, it has.
        if let Some(id) = entry.document.record() {
            for verdict in noted.into_iter().flatten() {
                self.checkpoints.note(&entry.message.at, id, verdict);
            }
        }
        self.settle(&entry.message, entry.generation, how);
    }

    pub(super) fn settle(&mut self, message: &Message, generation: u64, how: Settled) {
        self.ends.gate.release(message.size());
        if self.assignments.settle(&message.at, generation) {
            self.kept.settled(how, 1);
        }
    }

    /// Kafka's committed offset is a mirror, for its tools; where to go on is in the checkpoints.
    pub(super) fn store_offsets(&mut self) {
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
}
