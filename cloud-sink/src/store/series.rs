//! Inserting readings into a time series, each exactly once in the end.
//!
//! A time series takes the same `_id` as often as it is given. So before a batch is inserted:
//!
//! ```text
//! touch     the lease of each partition, which also says what will be in doubt after a crash   lease.rs
//! known     what coverage has is a repetition: looked up, compared, not inserted
//! doubted   what may have been written before is looked for in the collection
//! insert    the rest, with a deadline at the server before the lease ends
//! ```
//!
//! A command that was sent in time may still reach the server late: it lay in a network or in front of a
//! server that stood still. So each document says in `writtenBy` which write brought it, and whoever inserts
//! after a doubt first leaves the ids in `series_doubts`. [`Store::sweep`] looks at them [`SETTLE`] later
//! and again five minutes later, and removes all but the copy of the first write. Deterministic, so that several
//! sinks may do it at once. (`writtenBy` is in camel case because no field's name can be.)
//!
//! Readings whose time nobody knows yet wait in `COLLECTION.undated`, a regular collection, for a time series
//! can neither change a time nor take one before 1970. Once their boot is dated they are moved, by the same
//! steps as after a doubt.

mod batch;
mod dated;
mod doubt;
mod known;
mod write;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use mongodb::bson::{DateTime, Document as Fields, doc};

use self::{batch::Batch, known::Known};
use super::{
    Outage, Store,
    checkpoints::{CHECKPOINTS, checkpoint_id},
    readings::{Entry, Existing, Verdict},
};
use crate::{
    clock::now_ms,
    lease::{Due, Leases},
    message::Partition,
};

pub use doubt::{SETTLE, keep_sweeping};

/// A copy's time may differ by what the gateway found out about its clock meanwhile.
const AROUND_MS: i64 = 2000;

/// What the sink holds of its time series.
#[derive(Debug, Default)]
pub struct Series {
    collections: HashSet<Arc<str>>,
    leases: Mutex<Leases>,
    /// One writer at a time: what it inserts, the next must know.
    known: tokio::sync::Mutex<Known>,
    writes: AtomicU64,
}

/// The name of the collection where readings wait for their time.
#[must_use]
pub fn aside(collection: &str) -> String {
    format!("{collection}.undated")
}

/// Whether a time series takes that time: one document outside of 1970 to 2038 stops the expiry of all.
fn is_in_range(ms: i64) -> bool {
    (0..=i64::from(i32::MAX) * 1000).contains(&ms)
}

impl Series {
    /// These collections are time series.
    #[must_use]
    pub fn new(collections: impl Iterator<Item = Arc<str>>) -> Self {
        Self {
            collections: collections.collect(),
            ..Self::default()
        }
    }

    /// Whether this one is.
    #[must_use]
    pub fn has(&self, collection: &str) -> bool {
        self.collections.contains(collection)
    }

    /// None of them is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.collections.is_empty()
    }

    /// The leases.
    pub fn leases(&self) -> MutexGuard<'_, Leases> {
        // Plain numbers: a panic elsewhere leaves them whole.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Differs for each write of each sink, and grows about with time.
    fn next_write(&self) -> i64 {
        let count = self.writes.fetch_add(1, Ordering::Relaxed);
        let process = u64::from(std::process::id()).wrapping_mul(0x9e37_79b9);
        let low = (process ^ count).cast_signed() & 0xf_ffff;
        (now_ms() << 20) | low
    }
}

impl Store {
    /// Inserts a batch into a time series and says of every document what became of it. `were_undated` are
    /// the places of those that came without a date, dated or not by now.
    ///
    /// # Errors
    /// [`Outage`]: some may be written; the same batch again is harmless.
    pub async fn insert_series(
        &self,
        series: &Series,
        collection: &str,
        entries: &[Entry],
        were_undated: &BTreeSet<usize>,
    ) -> Result<Vec<Verdict>, Outage> {
        let mut known = series.known.lock().await;
        let mut batch = Batch {
            collection,
            entries,
            verdicts: vec![None; entries.len()],
        };
        self.put_aside(&mut batch, were_undated).await?;
        self.touch(series, &mut batch).await?;
        let mut twice = Vec::new();
        let looked_for = self
            .classify(series, &mut known, &mut batch, &mut twice)
            .await?;
        self.look(&mut batch, &looked_for).await?;
        let fresh = batch.open();
        let fresh: Vec<usize> = fresh.into_iter().filter(|at| !is_of(&twice, *at)).collect();
        if !fresh.is_empty() {
            let doubted: Vec<usize> = looked_for
                .into_iter()
                .filter(|at| fresh.contains(at))
                .collect();
            self.write_fresh(series, &mut batch, &fresh, &doubted)
                .await?;
        }
        for (at, first) in twice {
            let verdict = self.second(&batch, at, first).await?;
            batch.decide(at, verdict);
        }
        known.note(&batch);
        let verdicts = batch.verdicts.into_iter();
        Ok(verdicts.map(|v| v.unwrap_or(Verdict::Fenced)).collect())
    }

    /// What has no time that a time series takes is kept beside it, once, by its `_id`.
    async fn put_aside(
        &self,
        batch: &mut Batch<'_>,
        were_undated: &BTreeSet<usize>,
    ) -> Result<(), Outage> {
        let aside = aside(batch.collection);
        let has_no_time = |at: &usize| {
            let document = &batch.entry(*at).document;
            document.undated().is_some() || !is_in_range(document.time_ms())
        };
        let waiting: Vec<usize> = (0..batch.entries.len()).filter(has_no_time).collect();
        if !waiting.is_empty() {
            let entries: Vec<&Entry> = waiting.iter().map(|at| batch.entry(*at)).collect();
            let verdicts = self.insert(&aside, &entries).await?;
            for (at, verdict) in waiting.iter().zip(verdicts) {
                batch.decide(*at, verdict);
            }
        }
        // Dated by now, but an earlier try may have put them there, from where they will be moved.
        let dated: Vec<usize> = were_undated
            .iter()
            .copied()
            .filter(|at| !waiting.contains(at))
            .collect();
        self.find_known(batch, &aside, &dated, None).await
    }

    /// Makes sure of the leases; decides of what is not this sink's any more.
    async fn touch(&self, series: &Series, batch: &mut Batch<'_>) -> Result<(), Outage> {
        let open = batch.open();
        for (partition, last) in batch.reach(&open) {
            let (due, cluster) = {
                let leases = series.leases();
                let due = leases.due(&partition, last, Instant::now());
                (due, leases.cluster().unwrap_or_default())
            };
            let is_ours = match due {
                Due::Nothing => true,
                Due::Lost => false,
                Due::Touch { fence, reserve } => {
                    let asked = Instant::now();
                    let is_ours = self.reserve(&cluster, &partition, fence, reserve).await?;
                    if is_ours {
                        series.leases().touched(&partition, fence, reserve, asked);
                    }
                    is_ours
                }
            };
            if !is_ours {
                for &at in &open {
                    if batch.entry(at).message.at.partition == partition {
                        batch.decide(at, Verdict::Fenced);
                    }
                }
            }
        }
        Ok(())
    }

    async fn reserve(
        &self,
        cluster: &str,
        partition: &Partition,
        fence: i64,
        reserve: i64,
    ) -> Result<bool, Outage> {
        let mine = doc! { "_id": checkpoint_id(cluster, partition), "generation": fence };
        let touch = doc! { "$set": { "reserved": reserve, "touched": DateTime::now() } };
        let checkpoints = self.database.collection::<Fields>(CHECKPOINTS);
        let touched = self
            .within(async { checkpoints.update_one(mine, touch).await })
            .await?;
        Ok(touched.matched_count == 1)
    }

    /// Says which entries have to be looked for. What comes twice within the batch is left in `twice`, with
    /// the place of the first.
    async fn classify(
        &self,
        series: &Series,
        known: &mut Known,
        batch: &mut Batch<'_>,
        twice: &mut Vec<(usize, usize)>,
    ) -> Result<Vec<usize>, Outage> {
        let mut looked_for = Vec::new();
        let mut first: HashMap<String, usize> = HashMap::new();
        for at in batch.open() {
            let id = &batch.entry(at).document.id;
            if let Some(&first) = first.get(id) {
                twice.push((at, first));
                continue;
            }
            first.insert(id.clone(), at);
            let place = &batch.entry(at).message.at;
            let (is_doubted, fence) = {
                let leases = series.leases();
                let fence = leases.fence(&place.partition).unwrap_or_default();
                (leases.is_doubted(place), fence)
            };
            let is_known = match batch.stream(at) {
                Some((key, sequence)) => {
                    let stream = self.known_stream(known, key, fence).await?;
                    stream.present.contains(sequence) || stream.is_partial
                }
                None => false,
            };
            if is_doubted || is_known {
                looked_for.push(at);
            }
        }
        Ok(looked_for)
    }

    /// Decides of those that are in the collection.
    async fn look(&self, batch: &mut Batch<'_>, looked_for: &[usize]) -> Result<(), Outage> {
        let times = looked_for
            .iter()
            .map(|at| batch.entry(*at).document.time_ms());
        let window = times.clone().min().zip(times.max());
        let collection = batch.collection.to_owned();
        self.find_known(batch, &collection, looked_for, window)
            .await
    }

    /// Compares some entries with what a collection has of them, within a window of time.
    async fn find_known(
        &self,
        batch: &mut Batch<'_>,
        collection: &str,
        some: &[usize],
        window: Option<(i64, i64)>,
    ) -> Result<(), Outage> {
        if some.is_empty() {
            return Ok(());
        }
        let ids: Vec<&str> = some
            .iter()
            .map(|at| &*batch.entry(*at).document.id)
            .collect();
        let mut filter = doc! { "_id": { "$in": ids } };
        if let Some((from, to)) = window {
            filter.insert("ts", around(from, to));
        }
        let found = self.existing(collection, filter).await?;
        for &at in some {
            if let Some(there) = found.get(&batch.entry(at).document.id) {
                let entry = batch.entry(at);
                let verdict = match self.judge(batch.collection, entry, there).await? {
                    // Of a time series the time itself says when it ends.
                    Verdict::Duplicate(None) => Verdict::Duplicate(entry.document.expires_at_ms()),
                    Verdict::Conflict(None) => Verdict::Conflict(entry.document.expires_at_ms()),
                    verdict => verdict,
                };
                batch.decide(at, verdict);
            }
        }
        Ok(())
    }

    /// A reading that came twice within one batch is what the first became.
    async fn second(&self, batch: &Batch<'_>, at: usize, first: usize) -> Result<Verdict, Outage> {
        let there = batch.verdicts.get(first).cloned().flatten();
        let (one, other) = (batch.entry(first), batch.entry(at));
        match there {
            Some(Verdict::Written | Verdict::Duplicate(_)) => {
                let existing = Existing::of(&one.document);
                self.judge(batch.collection, other, &existing).await
            }
            Some(verdict) => Ok(verdict),
            None => Ok(Verdict::Fenced),
        }
    }
}

fn is_of(twice: &[(usize, usize)], at: usize) -> bool {
    twice.iter().any(|(second, _)| *second == at)
}

fn around(from_ms: i64, to_ms: i64) -> Fields {
    let time = |ms| DateTime::from_millis(ms);
    doc! {
        "$gte": time(from_ms.saturating_sub(AROUND_MS)),
        "$lte": time(to_ms.saturating_add(AROUND_MS)),
    }
}
