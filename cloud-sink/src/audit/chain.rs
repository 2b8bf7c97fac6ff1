//! How the epochs of a lane hang together.
//!
//! Each run of a lane's writer names the run before it and the last sequence that was recovered of that.
//! One card in one box makes one chain. Two runs behind one, or two without a run before, mean that the
//! state of one box was used twice or thrown away: a cloned card, a restored image, a replaced box.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{Epoch, control::EpochFact};

#[derive(Debug, Default)]
pub(super) struct Chain {
    previous: BTreeMap<Epoch, Epoch>,
    /// Who links to an epoch, and up to where it was recovered.
    successors: BTreeMap<Epoch, Vec<(Epoch, Option<u64>)>>,
    roots: Vec<Epoch>,
}

impl Chain {
    pub fn of<'a>(facts: impl Iterator<Item = &'a EpochFact>) -> Self {
        let mut chain = Self::default();
        for fact in facts {
            match fact.previous {
                Some(before) => {
                    chain.previous.insert(fact.epoch, before.epoch);
                    let successors = chain.successors.entry(before.epoch).or_default();
                    successors.push((fact.epoch, before.last));
                }
                None => chain.roots.push(fact.epoch),
            }
        }
        chain.roots.sort_unstable();
        chain
    }

    /// Epochs that only a link names.
    pub fn linked(&self) -> impl Iterator<Item = Epoch> {
        self.successors.keys().copied()
    }

    /// Every root, if there are several.
    pub fn roots(&self) -> Option<&[Epoch]> {
        (self.roots.len() > 1).then_some(&self.roots)
    }

    /// Epochs that several runs claim as the one before.
    pub fn forks(&self) -> impl Iterator<Item = (Epoch, Vec<Epoch>)> {
        let forks = self.successors.iter().filter(|(_, all)| all.len() > 1);
        forks.map(|(epoch, all)| (*epoch, all.iter().map(|(next, _)| *next).collect()))
    }

    pub fn has_successor(&self, epoch: Epoch) -> bool {
        self.successors.contains_key(&epoch)
    }

    /// The number of readings of the epoch that a later run has recovered.
    pub fn recovered(&self, epoch: Epoch) -> u64 {
        let successors = self.successors.get(&epoch);
        let lasts = successors.into_iter().flatten().map(|(_, last)| *last);
        lasts.max().flatten().map_or(0, |last| last + 1)
    }

    /// The epoch and all before it.
    pub fn ancestry(&self, epoch: Epoch) -> BTreeSet<Epoch> {
        let mut seen = BTreeSet::new();
        let mut next = Some(epoch);
        // A link that leads back ends the walk: nobody made it but a forger.
        while let Some(epoch) = next.filter(|epoch| seen.insert(*epoch)) {
            next = self.previous.get(&epoch).copied();
        }
        seen
    }
}
