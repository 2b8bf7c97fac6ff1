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
//! and again after [`LATE`], and removes all but the copy of the first write. Deterministic, so that several
//! sinks may do it at once. (`writtenBy` is in camel case because no field's name can be.)
//!
//! Readings whose time nobody knows yet wait in `COLLECTION.undated`, a regular collection, for a time series
//! can neither change a time nor take one before 1970. Once their boot is dated they are moved, by the same
//! steps as after a doubt.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document as Fields, doc, serialize_to_document};
use protocol::{Epoch, GatewayId, Timestamp, control::ClockCorrection};
use serde::Deserialize;

use super::{
    Outage, Store,
    checkpoints::{CHECKPOINTS, checkpoint_id},
    clock::undated,
    readings::{Entry, Existing, Verdict, refused_as},
    reply::{self, Refusal, Reply},
};
use crate::{
    clock::now_ms,
    coverage::Ranges,
    lease::{Due, Leases},
    message::Partition,
};

/// A doubt is looked at first so long after its write.
pub const SETTLE: Duration = Duration::from_secs(20);
/// And a last time.
const LATE: Duration = Duration::from_secs(300);
const DOUBTS: &str = "series_doubts";
/// Documents moved by one command.
const SOME: usize = 500;
/// A copy's time may differ by what the gateway found out about its clock meanwhile.
const AROUND_MS: i64 = 2000;
/// Streams of which is known what is stored; beyond, those unused for [`UNUSED`] are asked for again.
const MAX_STREAMS: usize = 50_000;
const UNUSED: Duration = Duration::from_secs(60);

/// What the sink holds of its time series.
#[derive(Debug, Default)]
pub struct Series {
    collections: HashSet<Arc<str>>,
    leases: Mutex<Leases>,
    /// One writer at a time: what it inserts, the next must know.
    known: tokio::sync::Mutex<Known>,
    writes: AtomicU64,
}

type StreamKey = (Partition, GatewayId, Epoch);

#[derive(Debug, Default)]
struct Known {
    streams: HashMap<StreamKey, Stream>,
}

#[derive(Debug)]
struct Stream {
    fence: i64,
    present: Ranges,
    /// Coverage had no room for everything.
    is_partial: bool,
    used: Instant,
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

/// A batch on its way: what is decided of each entry so far.
struct Batch<'a> {
    collection: &'a str,
    entries: &'a [Entry],
    verdicts: Vec<Option<Verdict>>,
}

impl Batch<'_> {
    fn decide(&mut self, at: usize, verdict: Verdict) {
        if let Some(slot) = self.verdicts.get_mut(at) {
            *slot = Some(verdict);
        }
    }

    fn open(&self) -> Vec<usize> {
        let open = self.verdicts.iter().enumerate();
        open.filter(|(_, verdict)| verdict.is_none())
            .map(|(at, _)| at)
            .collect()
    }

    fn entry(&self, at: usize) -> &Entry {
        &self.entries[at]
    }

    /// Of some entries, the highest offset in each partition.
    fn reach(&self, some: &[usize]) -> BTreeMap<Partition, i64> {
        let mut reach = BTreeMap::new();
        for &at in some {
            let place = &self.entry(at).message.at;
            let last = reach.entry(place.partition.clone()).or_insert(place.offset);
            *last = place.offset.max(*last);
        }
        reach
    }

    fn stream(&self, at: usize) -> Option<(StreamKey, u64)> {
        let entry = self.entry(at);
        let id = entry.document.record()?;
        let partition = entry.message.at.partition.clone();
        Some(((partition, id.gateway.clone(), id.epoch), id.sequence))
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

    async fn known_stream<'k>(
        &self,
        known: &'k mut Known,
        key: StreamKey,
        fence: i64,
    ) -> Result<&'k Stream, Outage> {
        let is_current = |known: &Known| known.streams.get(&key).is_some_and(|s| s.fence == fence);
        if !is_current(known) {
            let (partition, gateway, epoch) = &key;
            let stored = self
                .covered_anywhere(gateway, &partition.topic, *epoch)
                .await?;
            let mut stream = Stream {
                fence,
                present: Ranges::default(),
                is_partial: false,
                used: Instant::now(),
            };
            for part in stored {
                stream.present.extend(&part.all_present());
                stream.is_partial |= part.overflowed;
            }
            known.make_room(Instant::now());
            // What this process wrote in a former life of the partition is not forgotten.
            if let Some(former) = known.streams.get(&key) {
                stream.present.extend(&former.present);
            }
            known.streams.insert(key.clone(), stream);
        }
        let stream = known.streams.entry(key).or_insert_with(|| Stream {
            fence,
            present: Ranges::default(),
            is_partial: true,
            used: Instant::now(),
        });
        stream.used = Instant::now();
        Ok(stream)
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

    async fn write_fresh(
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
    async fn insert_all(
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

    // ---- what is in doubt

    /// Leaves word of ids that may come to be there twice.
    async fn doubt(
        &self,
        collection: &str,
        write: i64,
        ids: Vec<String>,
        times: impl Iterator<Item = i64> + Clone,
    ) -> Result<(), Outage> {
        let from = times.clone().min().unwrap_or_default();
        let to = times.max().unwrap_or_default();
        let doubt = doc! {
            "_id": write,
            "collection": collection,
            "ids": ids,
            "ts": around(from, to),
            "look_at": DateTime::from_millis(crate::clock::after(SETTLE)),
            "is_last": false,
        };
        let doubts = self.database.collection::<Fields>(DOUBTS);
        self.within(async { doubts.insert_one(doubt).await })
            .await
            .map(|_| ())
    }

    /// Removes second copies that late writes left; says how many there were.
    ///
    /// # Errors
    /// [`Outage`]: the rest comes with the next sweep.
    pub async fn sweep(&self) -> Result<u64, Outage> {
        let doubts = self.database.collection::<Doubt>(DOUBTS);
        let due = doc! { "look_at": { "$lte": DateTime::now() } };
        let due: Vec<Doubt> = self
            .within(async { doubts.find(due).limit(100).await?.try_collect().await })
            .await?;
        let mut removed = 0;
        for doubt in due {
            removed += self.sweep_one(&doubt).await?;
            let this = doc! { "_id": doubt.id };
            if doubt.is_last {
                self.within(async { doubts.delete_one(this).await }).await?;
            } else {
                let again = DateTime::from_millis(crate::clock::after(LATE));
                let update = doc! { "$set": { "look_at": again, "is_last": true } };
                self.within(async { doubts.update_one(this, update).await })
                    .await?;
            }
        }
        Ok(removed)
    }

    async fn sweep_one(&self, doubt: &Doubt) -> Result<u64, Outage> {
        let these = doc! { "_id": { "$in": &doubt.ids }, "ts": &doubt.ts };
        let copies = self.database.collection::<Fields>(&doubt.collection);
        let pipeline = vec![
            doc! { "$match": these },
            doc! { "$group": {
                "_id": { "id": "$_id", "digest": "$digest" },
                "n": { "$sum": 1 },
                "first": { "$min": "$writtenBy" },
            } },
            doc! { "$match": { "n": { "$gt": 1 } } },
        ];
        let twice: Vec<Fields> = self
            .within(async { copies.aggregate(pipeline).await?.try_collect().await })
            .await?;
        let mut removed = 0;
        for some in twice {
            let (Ok(key), Ok(first)) = (some.get_document("_id"), some.get_i64("first")) else {
                continue;
            };
            let later = doc! {
                "_id": key.get("id"),
                "digest": key.get("digest"),
                "ts": &doubt.ts,
                "writtenBy": { "$gt": first },
            };
            let deleted = self
                .within(async { copies.delete_many(later).await })
                .await?;
            removed += deleted.deleted_count;
        }
        Ok(removed)
    }

    // ---- what waits for its time

    /// Moves readings of a boot into the time series, some at a time; `true` while there may be more.
    ///
    /// # Errors
    /// [`Outage`]: some may be moved; all of it again is harmless.
    pub async fn date_some(
        &self,
        series: &Series,
        collection: &str,
        correction: &ClockCorrection,
    ) -> Result<bool, Outage> {
        let waiting = self.database.collection::<Fields>(&aside(collection));
        let limit = i64::try_from(SOME).unwrap_or(i64::MAX);
        let found: Vec<Fields> = self
            .within(async {
                let found = waiting.find(undated(correction)).limit(limit);
                found.await?.try_collect().await
            })
            .await?;
        let is_all = found.len() < SOME;
        let write = series.next_write();
        let mut dated = Vec::new();
        for mut document in found {
            let us = document
                .get_document("uptime")
                .and_then(|uptime| uptime.get_i64("us"));
            let time = us
                .ok()
                .and_then(|us| correction.boot_time_us.checked_add(us));
            let time = time.and_then(|us| Timestamp::from_micros(us).ok());
            let Some(ms) = time.map(|t| t.as_millis()).filter(|ms| is_in_range(*ms)) else {
                continue;
            };
            document.insert("ts", DateTime::from_millis(ms));
            document.insert("clock", "corrected");
            document.insert("writtenBy", write);
            document.remove("uptime");
            document.remove("expires_at");
            dated.push((ms, document));
        }
        if dated.is_empty() {
            return Ok(false);
        }
        let id = |document: &Fields| document.get_str("_id").unwrap_or_default().to_owned();
        let ids: Vec<String> = dated.iter().map(|(_, document)| id(document)).collect();
        let times = dated.iter().map(|(ms, _)| *ms);
        let (from, to) = (times.clone().min(), times.clone().max());
        // Another sink may do the same, and this one may have been interrupted.
        self.doubt(collection, write, ids.clone(), times).await?;
        let window = around(from.unwrap_or_default(), to.unwrap_or_default());
        let there = doc! { "_id": { "$in": &ids }, "ts": window };
        let there = self.existing(collection, there).await?;
        let missing: Vec<(usize, Fields)> = dated
            .into_iter()
            .map(|(_, document)| document)
            .filter(|document| !there.contains_key(&id(document)))
            .enumerate()
            .collect();
        let refused = self
            .insert_all(collection, &missing, || self.deadline)
            .await?;
        let stay: Vec<&str> = refused
            .iter()
            .filter(|(_, why)| matches!(why, Refusal::Bad(_)))
            .filter_map(|(at, _)| missing.get(*at)?.1.get_str("_id").ok())
            .collect();
        let gone = doc! { "_id": { "$in": &ids, "$nin": &stay } };
        self.within(async { waiting.delete_many(gone).await })
            .await?;
        Ok(!is_all && stay.is_empty())
    }
}

#[derive(Deserialize)]
struct Doubt {
    #[serde(rename = "_id")]
    id: i64,
    collection: String,
    ids: Vec<String>,
    ts: Fields,
    is_last: bool,
}

fn around(from_ms: i64, to_ms: i64) -> Bson {
    let time = |ms| DateTime::from_millis(ms);
    Bson::Document(doc! {
        "$gte": time(from_ms.saturating_sub(AROUND_MS)),
        "$lte": time(to_ms.saturating_add(AROUND_MS)),
    })
}

fn is_of(twice: &[(usize, usize)], at: usize) -> bool {
    twice.iter().any(|(second, _)| *second == at)
}

impl Known {
    fn note(&mut self, batch: &Batch<'_>) {
        for at in 0..batch.entries.len() {
            let stored = batch.verdicts.get(at).and_then(Option::as_ref);
            let is_stored = matches!(
                stored,
                Some(Verdict::Written | Verdict::Duplicate(_) | Verdict::Conflict(_))
            );
            if is_stored
                && let Some((key, sequence)) = batch.stream(at)
                && let Some(stream) = self.streams.get_mut(&key)
            {
                stream.present.insert(sequence, sequence);
            }
        }
    }

    /// Forgets what was unused for long. What was inserted of it is in coverage by then, for checkpoints
    /// come every few seconds while MongoDB is there.
    fn make_room(&mut self, now: Instant) {
        if self.streams.len() >= MAX_STREAMS {
            let is_used = |stream: &Stream| now.saturating_duration_since(stream.used) < UNUSED;
            self.streams.retain(|_, stream| is_used(stream));
        }
    }
}

/// Sweeps now and then; without MongoDB it waits, which the pipeline says.
pub async fn keep_sweeping(store: &Store, series: &Series) {
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        if series.is_empty() {
            continue;
        }
        match store.sweep().await {
            Ok(0) => {}
            Ok(n) => tracing::warn!(n, "second copies of late writes removed"),
            Err(outage) => tracing::debug!(%outage, "late writes not looked for yet"),
        }
    }
}
