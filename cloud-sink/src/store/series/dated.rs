//! What waits beside a time series until its time is known.

use futures_util::TryStreamExt;
use mongodb::bson::{DateTime, Document as Fields, doc};
use protocol::{Timestamp, control::ClockCorrection};

use super::{Series, around, aside, is_in_range};
use crate::store::{Outage, Store, clock::undated, reply::Refusal};

/// Documents moved by one command.
const SOME: usize = 500;

impl Store {
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
