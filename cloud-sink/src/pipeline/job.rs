//! What runs beside the loop: one write to MongoDB or to the dead-letter topic.

use std::{
    sync::{Arc, mpsc::SyncSender},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use protocol::{control::Fact, schema::SchemaId};
use protocol_host::registry;
use tracing::{debug, warn};

use super::assignment::Assignments;
use crate::{
    catalogue::Catalogue,
    checkpoint::{Progress, Taken, Written},
    clock,
    dead_letter::DeadLetter,
    kafka::{DeadLetterError, Producer},
    message::{Message, Partition},
    schemas::Ask,
    store::{
        Outage, Store,
        facts::FactEntry,
        readings::{Entry, Verdict},
        series::Series,
    },
};

/// Dead letters under way at once, of one job.
const LETTERS: usize = 100;
/// Stored documents are put right for so long, then other work has its turn.
const SWEEP: Duration = Duration::from_secs(2);

/// Where jobs write.
pub struct Parts {
    /// MongoDB.
    pub store: Store,
    /// The dead-letter topic.
    pub producer: Producer,
    /// What is measured.
    pub catalogue: Arc<Catalogue>,
    /// The collections of readings.
    pub collections: Vec<Arc<str>>,
    /// Those of them that are time series.
    pub series: Arc<Series>,
    /// Whom to ask for schemas, where there is a registry.
    pub registry: Option<Ask>,
}

/// One write.
pub enum Job {
    /// Documents into a collection.
    Insert(Arc<str>, Vec<Entry>),
    /// Facts.
    Facts(Vec<FactEntry>),
    /// Dead letters of a partition.
    Bury(Partition, Vec<DeadLetter>),
    /// Partitions that are to come, of a cluster; and who waits for where they go on.
    Take(Arc<str>, Vec<Partition>, SyncSender<Vec<Taken>>),
    /// Checkpoints, of a cluster.
    Checkpoint(Arc<str>, Vec<Progress>),
    /// Nothing but a question.
    Ping,
    /// A question to the registry.
    Schema(SchemaId),
}

/// What became of it.
pub enum Finished {
    /// Every document has its verdict.
    Inserted {
        /// Where.
        collection: Arc<str>,
        /// The documents.
        entries: Vec<Entry>,
        /// In the same order.
        verdicts: Vec<Verdict>,
    },
    /// Every fact is applied.
    Applied(Vec<FactEntry>),
    /// MongoDB answered.
    Answered,
    /// MongoDB answered, and there is more to do than should be done at once.
    Unfinished(Job),
    /// Partitions are this sink's.
    Taken(Vec<Taken>, SyncSender<Vec<Taken>>),
    /// Every checkpoint is written or refused.
    Checkpointed(Vec<(Progress, Written)>),
    /// MongoDB is away: the job as it was.
    Held(Job, Outage),
    /// Dead letters, some of them perhaps not taken.
    Buried {
        /// Whose.
        partition: Partition,
        /// Safe.
        done: Vec<DeadLetter>,
        /// To be tried again.
        failed: Vec<(DeadLetter, DeadLetterError)>,
    },
    /// What the registry has of an id, or why it is not known.
    Schema(SchemaId, Result<Option<Arc<registry::Schema>>, String>),
}

impl Job {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Insert(_, entries) => entries.is_empty(),
            Self::Facts(entries) => entries.is_empty(),
            Self::Bury(_, letters) => letters.is_empty(),
            Self::Take(..) | Self::Checkpoint(..) | Self::Ping | Self::Schema(_) => false,
        }
    }

    /// Drops records of partitions that went; returns the bytes they took.
    pub fn without_stale(mut self, assignments: &Assignments) -> (Self, usize) {
        let mut stale = 0;
        let mut keep = |message: &Message, generation: u64| {
            let current = assignments.is_current(&message.at.partition, generation);
            if !current {
                stale += message.size();
            }
            current
        };
        match &mut self {
            Self::Insert(_, entries) => entries.retain(|e| keep(&e.message, e.generation)),
            Self::Facts(entries) => entries.retain(|e| keep(&e.message, e.generation)),
            Self::Bury(_, letters) => letters.retain(|l| keep(&l.message, l.generation)),
            Self::Take(..) | Self::Checkpoint(..) | Self::Ping | Self::Schema(_) => {}
        }
        (self, stale)
    }

    /// Its first `most` documents, and the rest.
    pub fn split(self, most: usize) -> (Self, Option<Self>) {
        match self {
            Self::Insert(collection, mut entries) if entries.len() > most => {
                let rest = entries.split_off(most);
                let first = Self::Insert(collection.clone(), entries);
                (first, Some(Self::Insert(collection, rest)))
            }
            job => (job, None),
        }
    }

    /// Does it.
    pub async fn run(self, parts: &Parts) -> Finished {
        match self {
            Self::Insert(collection, mut entries) => {
                match write(parts, &collection, &mut entries).await {
                    Ok(verdicts) => Finished::Inserted {
                        collection,
                        entries,
                        verdicts,
                    },
                    Err(outage) => Finished::Held(Self::Insert(collection, entries), outage),
                }
            }
            Self::Facts(entries) => match apply(parts, &entries).await {
                Ok(true) => Finished::Applied(entries),
                Ok(false) => Finished::Unfinished(Self::Facts(entries)),
                Err(outage) => Finished::Held(Self::Facts(entries), outage),
            },
            Self::Take(cluster, partitions, answer) => {
                match parts.store.take(&cluster, &partitions).await {
                    Ok(taken) => Finished::Taken(taken, answer),
                    Err(outage) => Finished::Held(Self::Take(cluster, partitions, answer), outage),
                }
            }
            Self::Checkpoint(cluster, work) => checkpoint(&parts.store, cluster, work).await,
            Self::Ping => match parts.store.ping().await {
                Ok(()) => Finished::Answered,
                Err(outage) => Finished::Held(Self::Ping, outage),
            },
            Self::Bury(partition, letters) => bury(parts, partition, letters).await,
            Self::Schema(id) => Finished::Schema(id, ask(parts, id).await),
        }
    }
}

async fn write(
    parts: &Parts,
    collection: &Arc<str>,
    entries: &mut [Entry],
) -> Result<Vec<Verdict>, Outage> {
    parts
        .catalogue
        .fit(&parts.store, collection, entries)
        .await?;
    let unsynced = parts.store.put_right(entries).await?;
    let now_ms = clock::now_ms();
    for entry in &mut *entries {
        entry.document.writing(now_ms);
    }
    let (store, series) = (&parts.store, &*parts.series);
    let verdicts = if series.has(collection) {
        let places = unsynced.places();
        store
            .insert_series(series, collection, entries, &places)
            .await?
    } else {
        let entries: Vec<&Entry> = entries.iter().collect();
        store.insert(collection, &entries).await?
    };
    unsynced.check(store, series, collection, &verdicts).await?;
    Ok(verdicts)
}

/// Keeps facts, and puts right the documents that a clock correction speaks of; `false` when there are more
/// of those than should be done at once.
async fn apply(parts: &Parts, entries: &[FactEntry]) -> Result<bool, Outage> {
    parts.store.apply(entries).await?;
    let until = Instant::now() + SWEEP;
    for entry in entries {
        let Fact::ClockCorrection(correction) = &entry.fact else {
            continue;
        };
        for collection in &parts.collections {
            while parts
                .store
                .correct_some(&parts.series, collection, correction)
                .await?
            {
                if Instant::now() > until {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

async fn ask(parts: &Parts, id: SchemaId) -> Result<Option<Arc<registry::Schema>>, String> {
    let Some(ask) = parts.registry.clone() else {
        return Ok(None);
    };
    let answer = tokio::task::spawn_blocking(move || ask(id)).await;
    answer.unwrap_or_else(|error| Err(error.to_string()))
}

async fn checkpoint(store: &Store, cluster: Arc<str>, mut work: Vec<Progress>) -> Finished {
    let mut finished = Vec::with_capacity(work.len());
    for at in 0..work.len() {
        match store.checkpoint(&cluster, &mut work[at]).await {
            Ok(written) => finished.push(written),
            // All of them again: what was written is written over with the same.
            Err(outage) => return Finished::Held(Job::Checkpoint(cluster, work), outage),
        }
    }
    Finished::Checkpointed(work.drain(..).zip(finished).collect())
}

async fn bury(parts: &Parts, partition: Partition, letters: Vec<DeadLetter>) -> Finished {
    let producer = &parts.producer;
    let mut done = Vec::with_capacity(letters.len());
    let mut failed = Vec::new();
    let mut sent = stream::iter(letters)
        .map(|letter| async move { (producer.send(&letter).await, letter) })
        .buffered(LETTERS);
    while let Some((result, letter)) = sent.next().await {
        match result {
            Ok(()) => done.push(letter),
            // Perhaps only beside another in a batch.
            Err(error) if error.is_too_large() => match producer.send(&letter).await {
                Ok(()) => done.push(letter),
                Err(error) if error.is_too_large() => {
                    if keep_large(&parts.store, &letter).await {
                        done.push(letter);
                    } else {
                        failed.push((letter, error));
                    }
                }
                Err(error) => failed.push((letter, error)),
            },
            Err(error) => failed.push((letter, error)),
        }
    }
    Finished::Buried {
        partition,
        done,
        failed,
    }
}

/// A letter that its topic will never take must not hold its partition for ever.
async fn keep_large(store: &Store, letter: &DeadLetter) -> bool {
    let at = &letter.message.at;
    match store.keep_dead_letter(letter).await {
        Ok(()) => {
            warn!(topic = %at.partition.topic, partition = at.partition.number, offset = at.offset, bytes = letter.message.value().map(<[u8]>::len), "dead letter too large for its topic, kept in incidents");
            true
        }
        // That MongoDB is away is said by the pipeline; the letter comes again.
        Err(outage) => {
            debug!(%outage, "large dead letter not kept yet");
            false
        }
    }
}
