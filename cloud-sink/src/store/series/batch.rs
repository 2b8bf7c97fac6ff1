//! A batch on its way into a time series.

use std::collections::BTreeMap;

use super::known::StreamKey;
use crate::{
    message::Partition,
    store::readings::{Entry, Verdict},
};

/// A batch on its way: what is decided of each entry so far.
pub(super) struct Batch<'a> {
    pub collection: &'a str,
    pub entries: &'a [Entry],
    pub verdicts: Vec<Option<Verdict>>,
}

impl Batch<'_> {
    pub fn decide(&mut self, at: usize, verdict: Verdict) {
        if let Some(slot) = self.verdicts.get_mut(at) {
            *slot = Some(verdict);
        }
    }

    pub fn open(&self) -> Vec<usize> {
        let open = self.verdicts.iter().enumerate();
        open.filter(|(_, verdict)| verdict.is_none())
            .map(|(at, _)| at)
            .collect()
    }

    pub fn entry(&self, at: usize) -> &Entry {
        &self.entries[at]
    }

    /// Of some entries, the highest offset in each partition.
    pub fn reach(&self, some: &[usize]) -> BTreeMap<Partition, i64> {
        let mut reach = BTreeMap::new();
        for &at in some {
            let place = &self.entry(at).message.at;
            let last = reach.entry(place.partition.clone()).or_insert(place.offset);
            *last = place.offset.max(*last);
        }
        reach
    }

    pub fn stream(&self, at: usize) -> Option<(StreamKey, u64)> {
        let entry = self.entry(at);
        let id = entry.document.record()?;
        let partition = entry.message.at.partition.clone();
        Some(((partition, id.gateway.clone(), id.epoch), id.sequence))
    }
}
