//! Looking for one reading.

use mongodb::bson::{Document as Fields, doc};
use protocol::RecordId;

use super::{Outage, Store, series::aside};
use crate::config::{Kind, Route};
use crate::message::{Coordinates, Partition};

/// What the document of a reading says of its way; times are milliseconds since 1970.
#[derive(Debug)]
pub struct Found {
    /// The reading's own time.
    pub ts_ms: Option<i64>,
    /// The stations asked for, if the document has any.
    pub stations: Option<Vec<Option<i64>>>,
    /// Where it lies in Kafka.
    pub at: Option<Coordinates>,
}

impl Store {
    /// Looks for a document and for stations of these names.
    ///
    /// # Errors
    /// [`Outage`].
    pub async fn way_of(
        &self,
        route: &Route,
        id: &str,
        stations: &[&str],
    ) -> Result<Option<Found>, Outage> {
        let mut one = doc! { "_id": id };
        let mut places = vec![route.collection.clone()];
        if route.kind == Kind::TimeSeries {
            places.push(aside(&route.collection));
            // It has no index of ids, but one of what is in `meta`.
            if let Ok(id) = id.parse::<RecordId>() {
                one.insert("meta.gateway", id.gateway.as_str());
            }
        }
        let mut found = None;
        for place in places {
            let readings = self.database.collection::<Fields>(&place);
            let looked = async { readings.find_one(one.clone()).await };
            found = found.or(self.within(looked).await?);
        }
        Ok(found.map(|document| {
            let hops = document.get_document("hops").ok();
            let time =
                |of: &Fields, name: &str| of.get_datetime(name).ok().map(|t| t.timestamp_millis());
            Found {
                ts_ms: time(&document, "ts"),
                stations: hops.map(|hops| stations.iter().map(|name| time(hops, name)).collect()),
                at: hops.and_then(place),
            }
        }))
    }

    /// Why its gateway declared a reading lost, if it did.
    ///
    /// # Errors
    /// [`Outage`].
    pub async fn loss_of(&self, id: &RecordId) -> Result<Option<String>, Outage> {
        let losses = self.database.collection::<Fields>("losses");
        let sequence = id.sequence.cast_signed();
        let covers = doc! {
            "gateway": id.gateway.as_str(),
            "epoch": id.epoch.to_string(),
            "first": { "$lte": sequence },
            // Where the end is unknown, all behind the first.
            "$or": [{ "last": { "$gte": sequence } }, { "last": null }],
        };
        let loss = self.within(async { losses.find_one(covers).await });
        let reason = |loss: Fields| loss.get_str("reason").unwrap_or("unknown").to_owned();
        Ok(loss.await?.map(reason))
    }
}

fn place(hops: &Fields) -> Option<Coordinates> {
    Some(Coordinates {
        partition: Partition {
            topic: hops.get_str("topic").ok()?.into(),
            number: hops.get_i32("partition").ok()?,
        },
        offset: hops.get_i64("offset").ok()?,
        timestamp_ms: None,
    })
}
