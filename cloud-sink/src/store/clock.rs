//! Putting times right, once a gateway found out when its boot began.
//!
//! ```text
//! readings            { ts, clock: "unsynced", uptime: { boot: "561c9a4a661e4ac1", us: 5000000 } }
//! clock_corrections   { _id: "gw7/561c9a4a661e4ac1", boot_time_us }
//! becomes             { ts: boot_time_us + us, clock: "corrected" }
//! ```
//!
//! Who applies the fact and who inserts the reading may be two sinks. **Fact, then sweep** on one side and
//! **insert, then look** on the other leave no reading behind: if the sweep came before the insert, the fact
//! came before the look. Neither counts as done before both of its steps are, and each is harmless twice: a
//! document that was put right is not `unsynced` any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::TryStreamExt;
use mongodb::bson::{Document as Fields, doc};
use protocol::{BootId, GatewayId, Timestamp, control::ClockCorrection};
use serde::Deserialize;

use super::{
    Outage, Store,
    readings::{Entry, Verdict},
    series::Series,
};

const CORRECTIONS: &str = "clock_corrections";
/// Documents put right by one command.
const SOME: usize = 1000;
/// A hundred years.
const LONGEST_US: i64 = 3_155_760_000_000_000;

type Boot = (GatewayId, BootId);

#[derive(Deserialize)]
struct Known {
    #[serde(rename = "_id")]
    key: String,
    boot_time_us: i64,
}

#[derive(Deserialize)]
struct Undated {
    #[serde(rename = "_id")]
    id: String,
}

/// Readings of a batch that came without a date, by their boot.
#[derive(Debug, Default)]
pub struct Unsynced(BTreeMap<Boot, Vec<usize>>);

fn key((gateway, boot): &Boot) -> String {
    format!("{gateway}/{boot}")
}

impl Store {
    /// Dates the readings of boots of which is known when they began.
    ///
    /// # Errors
    /// [`Outage`]; nothing is written.
    pub async fn put_right(&self, entries: &mut [Entry]) -> Result<Unsynced, Outage> {
        let mut unsynced = Unsynced::default();
        for (at, entry) in entries.iter().enumerate() {
            if let Some((gateway, boot)) = entry.document.undated() {
                let places = unsynced.0.entry((gateway.clone(), boot)).or_default();
                places.push(at);
            }
        }
        let known = self.boot_times(unsynced.0.keys()).await?;
        for (boot, places) in &unsynced.0 {
            let Some(&boot_time_us) = known.get(&key(boot)) else {
                continue;
            };
            for &at in places {
                if let Some(entry) = entries.get_mut(at) {
                    entry.document.date(boot_time_us);
                }
            }
        }
        Ok(unsynced)
    }

    /// Puts right stored documents of a boot, some at a time; `true` while there may be more.
    ///
    /// # Errors
    /// [`Outage`]: some may be put right; all of it again is harmless.
    pub async fn correct_some(
        &self,
        series: &Series,
        collection: &str,
        correction: &ClockCorrection,
    ) -> Result<bool, Outage> {
        if Timestamp::from_micros(correction.boot_time_us).is_err() {
            return Ok(false);
        }
        if series.has(collection) {
            return self.date_some(series, collection, correction).await;
        }
        let readings = self.database.collection::<Undated>(collection);
        let found: Vec<Undated> = self
            .within(async {
                let found = readings
                    .find(undated(correction))
                    .projection(doc! { "_id": 1 });
                found.limit(SOME as i64).await?.try_collect().await
            })
            .await?;
        if found.is_empty() {
            return Ok(false);
        }
        let ids: Vec<&str> = found.iter().map(|undated| undated.id.as_str()).collect();
        let these = doc! { "_id": { "$in": ids }, "clock": "unsynced" };
        self.within(async {
            let readings = self.database.collection::<Fields>(collection);
            readings
                .update_many(these, dated(correction.boot_time_us))
                .await
        })
        .await?;
        Ok(found.len() == SOME)
    }

    async fn boot_times(
        &self,
        boots: impl ExactSizeIterator<Item = &Boot>,
    ) -> Result<HashMap<String, i64>, Outage> {
        if boots.len() == 0 {
            return Ok(HashMap::new());
        }
        let keys: Vec<String> = boots.map(key).collect();
        let corrections = self.database.collection::<Known>(CORRECTIONS);
        let found: Vec<Known> = self
            .within(async {
                let found = corrections.find(doc! { "_id": { "$in": keys } });
                found.await?.try_collect().await
            })
            .await?;
        let known = found.into_iter();
        Ok(known.map(|one| (one.key, one.boot_time_us)).collect())
    }
}

impl Unsynced {
    /// Their places in the batch.
    #[must_use]
    pub fn places(&self) -> BTreeSet<usize> {
        self.0.values().flatten().copied().collect()
    }

    /// Looks again, after the insert: a correction that came meanwhile may have found nothing to put right,
    /// and one that was known may not have reached what an earlier try had stored.
    ///
    /// # Errors
    /// [`Outage`]: the whole batch again is harmless.
    pub async fn check(
        self,
        store: &Store,
        series: &Series,
        collection: &str,
        verdicts: &[Verdict],
    ) -> Result<(), Outage> {
        let is_stored = |at: &usize| {
            matches!(
                verdicts.get(*at),
                Some(Verdict::Written | Verdict::Duplicate(_))
            )
        };
        let stored = self.0.into_iter();
        let stored: BTreeSet<Boot> = stored
            .filter(|(_, places)| places.iter().any(is_stored))
            .map(|(boot, _)| boot)
            .collect();
        let known = store.boot_times(stored.iter()).await?;
        for boot in &stored {
            let Some(&boot_time_us) = known.get(&key(boot)) else {
                continue;
            };
            let correction = ClockCorrection {
                gateway: boot.0.clone(),
                boot: boot.1,
                boot_time_us,
                at: Timestamp::UNIX_EPOCH,
            };
            while store.correct_some(series, collection, &correction).await? {}
        }
        Ok(())
    }
}

/// Documents of that boot that wait for their date.
pub(super) fn undated(correction: &ClockCorrection) -> Fields {
    doc! {
        "uptime.boot": correction.boot.to_string(),
        "meta.gateway": correction.gateway.as_str(),
        "clock": "unsynced",
        // What no machine has run for is no uptime, and perhaps no date either.
        "uptime.us": { "$gte": 0, "$lt": LONGEST_US },
    }
}

/// The update, computed by the server from each document's own uptime. Milliseconds are rounded down, as
/// they are when a reading is stored.
fn dated(boot_time_us: i64) -> Vec<Fields> {
    let us = doc! { "$add": ["$uptime.us", boot_time_us] };
    // Exact: microseconds since 1970 are below 2^53 until the year 2255.
    let ms = doc! { "$toLong": { "$floor": { "$divide": [us, 1000_i64] } } };
    vec![
        doc! { "$set": { "ts": { "$toDate": ms }, "clock": "corrected" } },
        doc! { "$unset": "uptime" },
    ]
}
