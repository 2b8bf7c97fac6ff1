//! Collections and indexes: what `init` makes, and `run` makes sure of.

use std::time::Duration;

use mongodb::{
    IndexModel,
    bson::{Document as Fields, doc},
    options::IndexOptions,
};

use super::{Outage, Store, incidents};
use crate::config::Route;

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
    };
    let mut plan = Vec::new();
    for route in routes {
        let collection = &*route.collection;
        let by_device = doc! { "meta.gateway": 1, "meta.device": 1, "ts": 1 };
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
        let collection = self.database.collection::<Fields>(&index.collection);
        self.within(async { collection.create_index(model).await })
            .await
            .map(|_| ())
    }
}
