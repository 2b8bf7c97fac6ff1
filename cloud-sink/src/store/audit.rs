//! Reading what an audit judges. Every query goes by the beginning of `_id`, so none needs an index of its
//! own, and one gateway after the other is read, so memory does not grow with their number.

mod stored;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use futures_util::TryStreamExt;
use mongodb::bson::{Document as Fields, doc};
use protocol::{Epoch, GatewayId, RecordId, Topic};
use serde::{Deserialize, de::DeserializeOwned};

use self::stored::{
    StoredCheckpoint, StoredCoverage, StoredEpoch, StoredGap, StoredHeartbeat, StoredLoss, covered,
    loss, parsed, stated, time,
};
use super::{
    Outage, Store,
    checkpoints::{CHECKPOINTS, COVERAGE},
    incidents,
    series::aside,
};
use crate::{
    audit::{Evidence, Found, Position, Positions},
    config::{Kind, Route},
    coverage::Ranges,
};

#[derive(Deserialize)]
struct Id {
    #[serde(rename = "_id")]
    id: String,
}

/// Ids that begin with `name` and the separator.
fn of(name: &str, separator: char) -> Fields {
    let next = char::from_u32(u32::from(separator) + 1).unwrap_or(separator);
    doc! { "_id": { "$gte": format!("{name}{separator}"), "$lt": format!("{name}{next}") } }
}

impl Store {
    /// Every gateway of which anything is known; with the collections of readings, also those of which
    /// there are only readings.
    ///
    /// # Errors
    /// [`Outage`].
    pub async fn gateways(&self, collections: &[&str]) -> Result<BTreeSet<GatewayId>, Outage> {
        let mut names = BTreeSet::new();
        for (collection, separator) in [("gateways", None), ("epochs", Some('/'))] {
            self.prefixes(collection, separator, &mut names).await?;
        }
        self.prefixes("losses", Some('/'), &mut names).await?;
        self.prefixes(COVERAGE, Some('/'), &mut names).await?;
        for collection in collections {
            self.prefixes(collection, Some(':'), &mut names).await?;
        }
        // What is no gateway's has ids of another form, and is passed by.
        Ok(names
            .into_iter()
            .filter_map(|n| GatewayId::new(n).ok())
            .collect())
    }

    /// What ids of a collection begin with: one query for each, through the index of `_id`.
    async fn prefixes(
        &self,
        collection: &str,
        separator: Option<char>,
        names: &mut BTreeSet<String>,
    ) -> Result<(), Outage> {
        let ids = self.database.collection::<Id>(collection);
        let mut after = String::new();
        loop {
            let next = doc! { "_id": { "$gt": &after } };
            let found = self
                .within(async {
                    ids.find_one(next)
                        .sort(doc! { "_id": 1 })
                        .projection(doc! { "_id": 1 })
                        .await
                })
                .await?;
            let Some(Id { id }) = found else {
                return Ok(());
            };
            match separator.and_then(|by| Some((by, id.split_once(by)?.0))) {
                Some((by, name)) => {
                    // Past everything that begins with it.
                    after = format!("{name}{by}\u{10ffff}");
                    names.insert(name.to_owned());
                }
                None => {
                    after.clone_from(&id);
                    names.insert(id);
                }
            }
        }
    }

    /// What is known of a gateway, and how far the sink is, in the order that [`crate::audit`] asks for.
    ///
    /// # Errors
    /// [`Outage`].
    pub async fn evidence(&self, gateway: &GatewayId) -> Result<(Evidence, Positions), Outage> {
        let heartbeat = doc! { "_id": gateway.as_str() };
        let heartbeats: Vec<StoredHeartbeat> = self.all("gateways", heartbeat).await?;
        let mine = of(gateway.as_str(), '/');
        let epochs: Vec<StoredEpoch> = self.all("epochs", mine.clone()).await?;
        let positions = self.positions().await?;
        let coverage: Vec<StoredCoverage> = self.all(COVERAGE, mine.clone()).await?;
        let losses: Vec<StoredLoss> = self.all("losses", mine).await?;

        let epochs = epochs
            .into_iter()
            .map(|stored| stated(gateway, stored))
            .collect::<Result<Vec<_>, _>>()?;
        let coverage = coverage.into_iter().map(covered);
        let coverage = coverage.collect::<Result<Vec<_>, _>>()?;
        let losses = losses.into_iter().map(|stored| loss(gateway, stored));
        let losses = losses.collect::<Result<Vec<_>, _>>()?;
        let mut live = BTreeMap::new();
        for lane in heartbeats.iter().flat_map(|heartbeat| &heartbeat.lanes) {
            if let Some(epoch) = &lane.epoch {
                live.insert(lane.lane.clone(), parsed(epoch)?);
            }
        }
        let beats = heartbeats
            .iter()
            .map(|beat| time(beat.seen.unwrap_or(beat.at)));
        let heard = beats
            .chain(epochs.iter().map(|stated| stated.seen))
            .chain(coverage.iter().map(|covered| covered.at))
            .max();
        let evidence = Evidence {
            gateway: gateway.clone(),
            heard,
            live,
            epochs,
            losses,
            coverage,
            found: None,
        };
        Ok((evidence, positions))
    }

    async fn positions(&self) -> Result<Positions, Outage> {
        let mut stored: Vec<StoredCheckpoint> = self.all(CHECKPOINTS, doc! {}).await?;
        // Of several clusters the one that was read last is the one that counts.
        stored.sort_by_key(|checkpoint| checkpoint.at);
        let mut positions: BTreeMap<(String, i32), Position> = BTreeMap::new();
        for checkpoint in stored {
            let key = (checkpoint.topic, checkpoint.partition);
            let position = positions.entry(key).or_default();
            if position.began.is_some() {
                position.former.push(position.next);
            }
            let lives = checkpoint.lives.iter().map(|life| life.next);
            position.former.extend(lives);
            position.next = checkpoint.next.unwrap_or(0);
            position.began = checkpoint.began.map(time);
        }
        let gaps: Vec<StoredGap> = self
            .all(incidents::COLLECTION, doc! { "kind": "gap" })
            .await?;
        // After a crash a gap may be told again, longer.
        let mut removed: BTreeMap<(String, i32), Ranges> = BTreeMap::new();
        for gap in gaps {
            let key = (gap.topic, gap.partition);
            let first = u64::try_from(gap.first_offset).unwrap_or(0);
            let next = u64::try_from(gap.next_offset).unwrap_or(0);
            removed
                .entry(key)
                .or_default()
                .insert(first, next.saturating_sub(1));
        }
        for (key, offsets) in removed {
            if let Some(position) = positions.get_mut(&key) {
                position.removed = offsets.count();
            }
        }
        Ok(Positions(positions))
    }

    async fn all<T: DeserializeOwned + Send + Sync>(
        &self,
        collection: &str,
        filter: Fields,
    ) -> Result<Vec<T>, Outage> {
        let collection = self.database.collection::<T>(collection);
        self.within(async { collection.find(filter).await?.try_collect().await })
            .await
    }

    /// Counts the documents of a gateway in a collection, in the order of their ids; `tick` hears of every
    /// thousand. Returns them by epoch, and how many are other producers'.
    ///
    /// # Errors
    /// [`Outage`].
    pub async fn count(
        &self,
        gateway: &GatewayId,
        route: &Route,
        mut tick: impl FnMut(u64),
    ) -> Result<(Vec<Found>, u64), Outage> {
        let mut counted = Counted::default();
        let is_series = route.kind == Kind::TimeSeries;
        // What waits for its time beside a time series is there as well.
        let beside = is_series.then(|| aside(&route.collection));
        for collection in beside.iter().chain([&route.collection]) {
            let ids = self.database.collection::<Id>(collection);
            let mut mine = of(gateway.as_str(), ':');
            if is_series {
                // It has no index of ids, but one of what is in `meta`.
                mine.insert("meta.gateway", gateway.as_str());
            }
            let query = ids
                .find(mine)
                .sort(doc! { "_id": 1 })
                .allow_disk_use(true)
                .projection(doc! { "_id": 1 })
                .batch_size(10_000);
            let mut found = self.within(async { query.await }).await?;
            let mut seen = 0;
            while let Some(Id { id }) = self.within(found.try_next()).await? {
                counted.add(&id);
                seen += 1;
                if seen % 1000 == 0 {
                    tick(1000);
                }
            }
            counted.end_run();
        }
        Ok((counted.found(&route.topic), counted.foreign))
    }

    /// Collections of routes that are not there.
    ///
    /// # Errors
    /// [`Outage`].
    pub async fn absent(&self, routes: &[Route]) -> Result<BTreeSet<String>, Outage> {
        let there = self
            .within(async { self.database.list_collection_names().await })
            .await?;
        let wanted = routes.iter().map(|route| route.collection.to_string());
        Ok(wanted.filter(|name| !there.contains(name)).collect())
    }

    /// How many documents a collection has, about.
    ///
    /// # Errors
    /// [`Outage`].
    pub async fn size(&self, collection: &str) -> Result<u64, Outage> {
        let collection = self.database.collection::<Fields>(collection);
        self.within(async { collection.estimated_document_count().await })
            .await
    }
}

/// Ids in their order, folded into ranges.
#[derive(Default)]
struct Counted {
    epochs: BTreeMap<Epoch, (Ranges, Ranges)>,
    run: Option<(Epoch, Range<u64>)>,
    foreign: u64,
}

impl Counted {
    fn add(&mut self, id: &str) {
        let Ok(RecordId {
            epoch, sequence, ..
        }) = id.parse::<RecordId>()
        else {
            self.foreign += 1;
            return;
        };
        match &mut self.run {
            Some((of, run)) if *of == epoch && run.end == sequence => run.end += 1,
            Some((of, run)) if *of == epoch && run.end == sequence + 1 => {
                let (_, duplicated) = self.epochs.entry(epoch).or_default();
                duplicated.insert(sequence, sequence);
            }
            _ => {
                self.end_run();
                self.run = Some((epoch, sequence..sequence + 1));
            }
        }
    }

    fn end_run(&mut self) {
        if let Some((epoch, run)) = self.run.take() {
            let (ranges, _) = self.epochs.entry(epoch).or_default();
            ranges.insert(run.start, run.end - 1);
        }
    }

    fn found(&mut self, lane: &Topic) -> Vec<Found> {
        self.end_run();
        let epochs = std::mem::take(&mut self.epochs);
        epochs
            .into_iter()
            .map(|(epoch, (ranges, duplicated))| Found {
                lane: lane.clone(),
                epoch,
                ranges,
                duplicated,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_order_become_ranges_per_epoch() {
        let mut counted = Counted::default();
        let ids = [
            "gw7:000000000001:000000000000",
            "gw7:000000000001:000000000001",
            "gw7:000000000001:000000000001",
            "gw7:000000000001:000000000005",
            "gw7:000000000002:000000000006",
            "gw7:telemetry:0:5:-1",
        ];
        ids.iter().for_each(|id| counted.add(id));
        let found = counted.found(&"t".parse().unwrap());
        let text: Vec<_> = found
            .iter()
            .map(|found| {
                let ranges: Vec<_> = found.ranges.iter().collect();
                let duplicated: Vec<_> = found.duplicated.iter().collect();
                (found.epoch.get(), ranges, duplicated)
            })
            .collect();
        assert_eq!(
            text,
            [
                (1, vec![(0, 1), (5, 5)], vec![(1, 1)]),
                (2, vec![(6, 6)], vec![])
            ]
        );
        assert_eq!(counted.foreign, 1);
    }
}
