//! What may be in a time series twice.
//!
//! ```text
//! series_doubts   { _id: 1937…, collection, ids: ["gw7:1f3a9c04d2be:00000001584d", …], ts: { $gte, $lte },
//!                   look_at, is_last: false }                  _id is the `writtenBy` of the later write
//! ```

use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::bson::{DateTime, Document as Fields, doc};
use serde::Deserialize;

use super::{Series, around};
use crate::store::{Outage, Store};

/// A doubt is looked at first so long after its write.
pub const SETTLE: Duration = Duration::from_secs(20);
/// And a last time.
const LATE: Duration = Duration::from_secs(300);
const DOUBTS: &str = "series_doubts";

#[derive(Deserialize)]
struct Doubt {
    #[serde(rename = "_id")]
    id: i64,
    collection: String,
    ids: Vec<String>,
    ts: Fields,
    is_last: bool,
}

impl Store {
    /// Leaves word of ids that may come to be there twice.
    pub(super) async fn doubt(
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
