//! Looking for one reading.

use mongodb::bson::{Document as Fields, doc};
use protocol::RecordId;

use super::{Outage, Store};

impl Store {
    /// A document by its id.
    ///
    /// # Errors
    /// [`Outage`].
    pub async fn document(&self, collection: &str, id: &str) -> Result<Option<Fields>, Outage> {
        let readings = self.database.collection::<Fields>(collection);
        self.within(async { readings.find_one(doc! { "_id": id }).await })
            .await
    }

    /// The declared loss that covers a reading.
    ///
    /// # Errors
    /// [`Outage`].
    pub async fn loss(&self, id: &RecordId) -> Result<Option<Fields>, Outage> {
        let losses = self.database.collection::<Fields>("losses");
        let sequence = id.sequence.cast_signed();
        let covers = doc! {
            "gateway": id.gateway.as_str(),
            "epoch": id.epoch.to_string(),
            "first": { "$lte": sequence },
            // Where the end is unknown, all behind the first.
            "$or": [{ "last": { "$gte": sequence } }, { "last": null }],
        };
        self.within(async { losses.find_one(covers).await }).await
    }
}
