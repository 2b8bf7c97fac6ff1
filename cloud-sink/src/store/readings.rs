//! Inserting readings, each exactly once.

use std::collections::{HashMap, VecDeque};

use mongodb::bson::{DateTime, Document as Fields, doc};
use serde::Deserialize;

use super::{
    Outage, Store,
    incidents::Incident,
    reply::{self, Refusal, Reply},
};
use crate::{
    decode::{Reason, Undecodable},
    document::Document,
    message::Message,
};

/// A document with the record it came from.
#[derive(Debug)]
pub struct Entry {
    /// The record, whole, in case MongoDB refuses the document.
    pub message: Message,
    /// The stamp of the assignment it was read in.
    pub generation: u64,
    /// The document.
    pub document: Document,
}

/// What became of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Inserted, durable.
    Written,
    /// Was there, with the same digest, and may be removed at this time (milliseconds since 1970).
    Duplicate(Option<i64>),
    /// Another reading has the id, until this time; this one is kept whole as an incident, durable.
    Conflict(Option<i64>),
    /// MongoDB refuses this document.
    Refused(Undecodable),
    /// Not written: the partition is another sink's by now, which reads the record itself.
    Fenced,
}

/// What is stored under an id, as far as it matters here.
#[derive(Deserialize)]
pub(super) struct Existing {
    #[serde(rename = "_id")]
    id: String,
    digest: Option<i64>,
    expires_at: Option<DateTime>,
}

impl Existing {
    /// A document that was just stored.
    pub(super) fn of(document: &Document) -> Self {
        Self {
            id: document.id.clone(),
            digest: Some(document.digest.0.cast_signed()),
            expires_at: document.expires_at_ms().map(DateTime::from_millis),
        }
    }
}

impl Store {
    /// Inserts a batch and says of every document what became of it, in the order of the batch.
    ///
    /// # Errors
    /// [`Outage`]: some may be written; the same batch again is harmless.
    pub async fn insert(
        &self,
        collection: &str,
        entries: &[&Entry],
    ) -> Result<Vec<Verdict>, Outage> {
        let mut verdicts = vec![Verdict::Written; entries.len()];
        let mut taken = Vec::new();
        // Bisection: a range that is refused as a whole is tried in halves, down to the one document.
        let mut ranges = VecDeque::new();
        ranges.push_back(0..entries.len());
        while let Some(range) = ranges.pop_front() {
            match self.insert_once(collection, &entries[range.clone()]).await {
                Reply::Done(refused) => {
                    for (at, refusal) in refused {
                        let at = range.start + at;
                        match refusal {
                            Refusal::IdTaken => taken.push(at),
                            Refusal::Bad(text) => set(&mut verdicts, at, refused_as(text)),
                        }
                    }
                }
                Reply::Bad(text) if range.len() == 1 => {
                    set(&mut verdicts, range.start, refused_as(text));
                }
                Reply::Bad(_) => {
                    let middle = range.start + range.len() / 2;
                    ranges.extend([range.start..middle, middle..range.end]);
                }
                Reply::Outage(outage) => return Err(outage),
            }
        }
        if !taken.is_empty() {
            self.compare(collection, entries, &taken, &mut verdicts)
                .await?;
        }
        Ok(verdicts)
    }

    async fn insert_once(&self, collection: &str, entries: &[&Entry]) -> Reply {
        let collection = self.database.collection::<Document>(collection);
        let documents = entries.iter().map(|entry| &entry.document);
        let insert = async { collection.insert_many(documents).ordered(false).await };
        match tokio::time::timeout(self.deadline, insert).await {
            Ok(Ok(_)) => Reply::Done(Default::default()),
            Ok(Err(error)) => reply::read(&error),
            Err(_) => Reply::Outage(self.too_slow()),
        }
    }

    /// Tells duplicates from conflicts for ids that were taken. What the majority has not confirmed is
    /// not there yet: an election could still undo it.
    async fn compare(
        &self,
        collection: &str,
        entries: &[&Entry],
        taken: &[usize],
        verdicts: &mut [Verdict],
    ) -> Result<(), Outage> {
        let ids: Vec<&str> = taken.iter().map(|&at| &*entries[at].document.id).collect();
        let known = self
            .existing(collection, doc! { "_id": { "$in": ids } })
            .await?;
        for &at in taken {
            let Some(there) = known.get(&entries[at].document.id) else {
                return Err(Outage::new(
                    "an id is taken but not confirmed by the majority yet",
                ));
            };
            let verdict = self.judge(collection, entries[at], there).await?;
            set(verdicts, at, verdict);
        }
        Ok(())
    }

    /// Tells a duplicate from a conflict. The second payload of a conflict is safe before its offset may be
    /// stored.
    pub(super) async fn judge(
        &self,
        collection: &str,
        entry: &Entry,
        there: &Existing,
    ) -> Result<Verdict, Outage> {
        let expires_at_ms = there.expires_at.map(DateTime::timestamp_millis);
        if there.digest == Some(entry.document.digest.0.cast_signed()) {
            return Ok(Verdict::Duplicate(expires_at_ms));
        }
        let incident = Incident::conflict(collection, entry, there.digest);
        self.keep_incident(&incident).await?;
        Ok(Verdict::Conflict(expires_at_ms))
    }

    pub(super) async fn existing(
        &self,
        collection: &str,
        filter: Fields,
    ) -> Result<HashMap<String, Existing>, Outage> {
        let collection = self.database.collection::<Existing>(collection);
        self.within(async {
            let mut found = collection
                .find(filter)
                .projection(doc! { "digest": 1, "expires_at": 1 })
                .await?;
            let mut known = HashMap::new();
            while found.advance().await? {
                let existing: Existing = found.deserialize_current()?;
                known.insert(existing.id.clone(), existing);
            }
            Ok(known)
        })
        .await
    }
}

fn set(verdicts: &mut [Verdict], at: usize, verdict: Verdict) {
    if let Some(slot) = verdicts.get_mut(at) {
        *slot = verdict;
    }
}

pub(super) fn refused_as(text: String) -> Verdict {
    Verdict::Refused(Undecodable::new(Reason::Refused, text))
}
