//! The insert itself: one command with a deadline at the server, and its answer.

use std::time::{Duration, Instant};

use mongodb::bson::{Document as Fields, doc, serialize_to_document};

use super::{Series, batch::Batch};
use crate::store::{
    Outage, Store,
    readings::{Verdict, refused_as},
    reply::{self, Refusal, Reply},
};

impl Store {
    /// Inserts what is not there; leaves word first of those that may come to be there by another write.
    pub(super) async fn write_fresh(
        &self,
        series: &Series,
        batch: &mut Batch<'_>,
        fresh: &[usize],
        doubted: &[usize],
    ) -> Result<(), Outage> {
        let write = series.next_write();
        if !doubted.is_empty() {
            let ids = doubted
                .iter()
                .map(|at| batch.entry(*at).document.id.clone());
            let times = doubted.iter().map(|at| batch.entry(*at).document.time_ms());
            self.doubt(batch.collection, write, ids.collect(), times)
                .await?;
        }
        let mut documents = Vec::with_capacity(fresh.len());
        for &at in fresh {
            match serialize_to_document(&batch.entry(at).document) {
                Ok(mut document) => {
                    document.insert("writtenBy", write);
                    // Of a reading that waited for its date: here its time says when it ends.
                    document.remove("expires_at");
                    documents.push((at, document));
                }
                Err(error) => batch.decide(at, refused_as(error.to_string())),
            }
        }
        let reach = batch.reach(fresh);
        let allowed = || {
            let (leases, now) = (series.leases(), Instant::now());
            let left = reach.keys().map(|partition| leases.left(partition, now));
            left.min().unwrap_or_default()
        };
        match self.insert_all(batch.collection, &documents, allowed).await {
            Ok(refused) => {
                for (at, _) in &documents {
                    batch.decide(*at, Verdict::Written);
                }
                let mut taken = Vec::new();
                for (at, refusal) in refused {
                    match refusal {
                        Refusal::Bad(text) => batch.decide(at, refused_as(text)),
                        // A server whose time series have unique ids after all.
                        Refusal::IdTaken => taken.push(at),
                    }
                }
                self.look(batch, &taken).await
            }
            Err(outage) => {
                let mut leases = series.leases();
                for (partition, last) in reach {
                    leases.doubt(&partition, last);
                }
                Err(outage)
            }
        }
    }

    /// Inserts documents, by bisection where a whole command is refused; says which were refused.
    pub(super) async fn insert_all(
        &self,
        collection: &str,
        documents: &[(usize, Fields)],
        allowed: impl Fn() -> Duration,
    ) -> Result<Vec<(usize, Refusal)>, Outage> {
        let mut refused = Vec::new();
        let mut ranges: Vec<_> = std::iter::once(0..documents.len()).collect();
        while let Some(range) = ranges.pop() {
            let some = &documents[range.clone()];
            if some.is_empty() {
                continue;
            }
            let deadline = allowed().min(self.deadline);
            if deadline < Duration::from_millis(500) {
                return Err(Outage::new("the lease ran out before the write"));
            }
            match self.insert_within(collection, some, deadline).await {
                Reply::Done(bad) => {
                    let bad = bad.into_iter();
                    let placed = bad.filter_map(|(at, why)| Some((some.get(at)?.0, why)));
                    refused.extend(placed);
                }
                Reply::Bad(text) if some.len() == 1 => {
                    refused.push((some[0].0, Refusal::Bad(text)));
                }
                Reply::Bad(_) => {
                    let middle = range.start + range.len() / 2;
                    ranges.extend([middle..range.end, range.start..middle]);
                }
                Reply::Outage(outage) => return Err(outage),
            }
        }
        Ok(refused)
    }

    async fn insert_within(
        &self,
        collection: &str,
        documents: &[(usize, Fields)],
        deadline: Duration,
    ) -> Reply {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let documents: Vec<&Fields> = documents.iter().map(|(_, document)| document).collect();
        // The driver's own helper has no deadline at the server, and tries again by itself.
        let command = doc! {
            "insert": collection,
            "documents": documents,
            "ordered": false,
            "maxTimeMS": millis(deadline),
            "writeConcern": { "w": "majority", "j": true, "wtimeout": millis(deadline) },
        };
        let run = async { self.database.run_command(command).await };
        match tokio::time::timeout(deadline, run).await {
            Ok(Ok(answer)) => reply::read_answer(&answer),
            Ok(Err(error)) => reply::read(&error),
            Err(_) => Reply::Outage(self.too_slow()),
        }
    }
}
