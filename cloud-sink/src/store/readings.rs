//! Inserting readings, each exactly once.

use std::collections::{HashMap, VecDeque};

use mongodb::bson::{Bson, DateTime, Document as Fields, doc};
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
}

#[derive(Deserialize)]
struct Existing {
    #[serde(rename = "_id")]
    id: String,
    digest: Option<i64>,
    expires_at: Option<DateTime>,
}

impl Store {
    /// Inserts a batch and says of every document what became of it, in the order of the batch.
    ///
    /// # Errors
    /// [`Outage`]: some may be written; the same batch again is harmless.
    pub async fn insert(
        &self,
        collection: &str,
        entries: &[Entry],
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

    async fn insert_once(&self, collection: &str, entries: &[Entry]) -> Reply {
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
        entries: &[Entry],
        taken: &[usize],
        verdicts: &mut [Verdict],
    ) -> Result<(), Outage> {
        let ids: Vec<&str> = taken.iter().map(|&at| &*entries[at].document.id).collect();
        let known = self.existing(collection, &ids).await?;
        let mut incidents = Vec::new();
        for &at in taken {
            let document = &entries[at].document;
            let verdict = match known.get(&document.id) {
                Some(there) if there.digest == Some(document.digest.0.cast_signed()) => {
                    Verdict::Duplicate(there.expires_at.map(DateTime::timestamp_millis))
                }
                Some(there) => {
                    let entry = &entries[at];
                    incidents.push(Incident::conflict(collection, entry, there.digest));
                    Verdict::Conflict(there.expires_at.map(DateTime::timestamp_millis))
                }
                None => {
                    return Err(Outage::new(
                        "an id is taken but not confirmed by the majority yet",
                    ));
                }
            };
            set(verdicts, at, verdict);
        }
        // The second payload must be safe before its offset may be stored.
        for incident in incidents {
            self.keep_incident(&incident).await?;
        }
        Ok(())
    }

    async fn existing(
        &self,
        collection: &str,
        ids: &[&str],
    ) -> Result<HashMap<String, Existing>, Outage> {
        let collection = self.database.collection::<Existing>(collection);
        let ids: Vec<Bson> = ids.iter().map(|id| Bson::from(*id)).collect();
        let filter: Fields = doc! { "_id": { "$in": ids } };
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

fn refused_as(text: String) -> Verdict {
    Verdict::Refused(Undecodable::new(Reason::Refused, text))
}
