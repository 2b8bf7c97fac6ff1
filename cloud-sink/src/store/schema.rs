//! Collections and indexes: what `init` makes, and `run` makes sure of.

use std::time::Duration;

use mongodb::{
    IndexModel,
    bson::{Bson, Document as Fields, doc},
    error::ErrorKind,
    options::IndexOptions,
};

use super::{Outage, Store, incidents, series::aside};
use crate::config::{Kind, Route};

/// `NamespaceExists`.
const EXISTS: i32 = 48;

/// One index that should be there.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    /// Where.
    pub collection: String,
    /// Its name.
    pub name: &'static str,
    /// Its keys, in order.
    pub keys: Fields,
    /// MongoDB removes documents when the date under the key is past.
    pub expires: bool,
    /// Only documents that have a key are in it.
    pub sparse: bool,
    /// The collection is a time series, made with this if it is not there.
    pub series: Option<Expiry>,
}

/// When a time series removes what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    Never,
    /// So long after the reading's time.
    After(Duration),
}

/// What the routes need: by device and time, by time, by boot where the time is not known yet, and expiry
/// where they ask for it; and what a
/// person asks incidents and losses for.
#[must_use]
pub fn plan(routes: &[Route]) -> Vec<Index> {
    let index = |collection: &str, name, keys, expires| Index {
        collection: collection.into(),
        name,
        keys,
        expires,
        sparse: false,
        series: None,
    };
    let mut plan = Vec::new();
    for route in routes {
        let by_device = doc! { "meta.gateway": 1, "meta.device": 1, "ts": 1 };
        let beside = aside(&route.collection);
        let collection = match route.kind {
            Kind::Regular => &*route.collection,
            Kind::TimeSeries => {
                // It is ordered by time as it is. Beside it stands what waits for its time.
                let collection = &*route.collection;
                plan.push(Index {
                    series: Some(route.keep.map_or(Expiry::Never, Expiry::After)),
                    ..index(collection, "by_device", by_device.clone(), false)
                });
                &beside
            }
        };
        plan.push(index(collection, "by_device", by_device, false));
        plan.push(index(collection, "by_time", doc! { "ts": 1 }, false));
        // Documents that wait for a clock correction; in time there are none.
        plan.push(Index {
            sparse: true,
            ..index(collection, "undated", doc! { "uptime.boot": 1 }, false)
        });
        if route.keep.is_some() {
            plan.push(index(collection, "expiry", doc! { "expires_at": 1 }, true));
        }
    }
    let by_lane = doc! { "gateway": 1, "lane": 1, "epoch": 1, "first": 1 };
    plan.push(index("losses", "by_lane", by_lane, false));
    let by_kind = doc! { "kind": 1, "at": 1 };
    plan.push(index(incidents::COLLECTION, "by_kind", by_kind, false));
    plan
}

impl Store {
    /// Makes an index, and its collection, unless it is there.
    ///
    /// # Errors
    /// [`Outage`], also when an index of that name but of another kind is there.
    pub async fn make(&self, index: &Index) -> Result<(), Outage> {
        let options = IndexOptions::builder()
            .name(index.name.to_owned())
            .expire_after(index.expires.then_some(Duration::ZERO))
            .sparse(index.sparse.then_some(true))
            .build();
        let model = IndexModel::builder()
            .keys(index.keys.clone())
            .options(options)
            .build();
        if let Some(expiry) = index.series {
            self.make_series(&index.collection, expiry).await?;
        }
        let collection = self.database.collection::<Fields>(&index.collection);
        self.within(async { collection.create_index(model).await })
            .await
            .map(|_| ())
    }

    async fn make_series(&self, collection: &str, expiry: Expiry) -> Result<(), Outage> {
        let mut command = doc! {
            "create": collection,
            "timeseries": { "timeField": "ts", "metaField": "meta", "granularity": "seconds" },
        };
        if let Expiry::After(keep) = expiry {
            let secs = i64::try_from(keep.as_secs()).unwrap_or(i64::MAX);
            command.insert("expireAfterSeconds", secs);
        }
        self.within(async {
            match self.database.run_command(command).await {
                Err(error) if is_there(&error) => Ok(()),
                other => other.map(|_| ()),
            }
        })
        .await
    }

    /// Collections of routes that are of another kind than the route says, as messages.
    ///
    /// # Errors
    /// [`Outage`].
    pub async fn mismatches(&self, routes: &[Route]) -> Result<Vec<String>, Outage> {
        let names: Vec<&str> = routes.iter().map(|route| &*route.collection).collect();
        let command = doc! { "listCollections": 1, "filter": { "name": { "$in": names } } };
        let run = async { self.database.run_command(command).await };
        let answer = self.within(run).await?;
        let cursor = answer.get_document("cursor");
        let found = cursor.and_then(|cursor| cursor.get_array("firstBatch"));
        let found = found.map(Vec::as_slice).unwrap_or_default();
        let found = found.iter().filter_map(Bson::as_document);
        let mut mistakes = Vec::new();
        for there in found {
            let name = there.get_str("name").unwrap_or_default();
            let is_series = there.get_str("type").is_ok_and(|kind| kind == "timeseries");
            let wrong = |route: &&Route| {
                route.collection == name && is_series != (route.kind == Kind::TimeSeries)
            };
            if let Some(route) = routes.iter().find(wrong) {
                let (said, is) = match route.kind {
                    Kind::Regular => ("regular", "a time series"),
                    Kind::TimeSeries => ("timeseries", "a regular collection"),
                };
                mistakes.push(format!(
                    "route.kind is \"{said}\", but the collection \"{name}\" is {is}: \
                     name another collection, or the other kind"
                ));
            }
        }
        Ok(mistakes)
    }
}

fn is_there(error: &mongodb::error::Error) -> bool {
    matches!(&*error.kind, ErrorKind::Command(command) if command.code == EXISTS)
}
