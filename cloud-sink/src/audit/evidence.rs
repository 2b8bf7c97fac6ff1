//! What is known, before it is judged.

use std::collections::BTreeMap;

use protocol::{
    Epoch, GatewayId, Timestamp, Topic,
    control::{EpochFact, Loss},
};

use crate::coverage::{Ranges, Stream};

/// All that is known of one gateway.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Whose.
    pub gateway: GatewayId,
    /// When its last sign of life was seen, by the sink's clock; `None` is never.
    pub heard: Option<Timestamp>,
    /// The epoch each lane writes now, as far as its last sign of life says.
    pub live: BTreeMap<Topic, Epoch>,
    /// What it stated of its epochs.
    pub epochs: Vec<Stated>,
    /// What it declared lost.
    pub losses: Vec<Loss>,
    /// What the sink has seen.
    pub coverage: Vec<Covered>,
    /// With `--full`: what is in the collections.
    pub found: Option<Vec<Found>>,
}

impl Evidence {
    /// Nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heard.is_none()
            && self.epochs.is_empty()
            && self.losses.is_empty()
            && self.coverage.is_empty()
            && self.found.as_ref().is_none_or(Vec::is_empty)
    }
}

/// A fact, and when the sink saw it.
#[derive(Debug, Clone)]
pub struct Stated {
    /// The newest statement of it.
    pub fact: EpochFact,
    /// By the sink's clock.
    pub seen: Timestamp,
}

/// Coverage of one epoch in one partition.
#[derive(Debug, Clone)]
pub struct Covered {
    /// The lane, named by its topic.
    pub lane: Topic,
    /// The partition.
    pub partition: i32,
    /// The run.
    pub epoch: Epoch,
    /// What became of its readings.
    pub stream: Stream,
    /// When it was last added to, by the sink's clock.
    pub at: Timestamp,
}

/// Documents of one epoch, counted in the collection.
#[derive(Debug, Clone)]
pub struct Found {
    /// The lane whose topic goes to the collection.
    pub lane: Topic,
    /// The run.
    pub epoch: Epoch,
    /// Those that are there.
    pub ranges: Ranges,
    /// Those that are there more than once.
    pub duplicated: Ranges,
}

/// How far the sink is in one partition.
#[derive(Debug, Clone, Default)]
pub struct Position {
    /// The next offset of the checkpoint.
    pub next: i64,
    /// When this life of the topic was first read, by the sink's clock.
    pub began: Option<Timestamp>,
    /// Where former lives of the topic, or other clusters, had come to.
    pub former: Vec<i64>,
    /// Offsets that Kafka removed before they were read.
    pub removed: u64,
}

/// How an offset stands to a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Passed {
    /// Everything up to it was read.
    Yes,
    /// It was of a former life of the topic, which ended before it was read.
    Remade,
    /// It is still to be read.
    No,
}

impl Position {
    fn passed(&self, offset: i64, seen: Timestamp) -> Passed {
        let is_remade = !self.former.is_empty();
        if offset < self.next || self.former.iter().any(|next| offset < *next) {
            Passed::Yes
        } else if is_remade && self.began.is_some_and(|began| seen < began) {
            Passed::Remade
        } else {
            Passed::No
        }
    }
}

/// How far the sink is, by topic and partition.
#[derive(Debug, Clone, Default)]
pub struct Positions(pub BTreeMap<(String, i32), Position>);

impl Positions {
    pub(super) fn passed(&self, stated: &Stated) -> Passed {
        let lane = stated.fact.lane.as_str();
        let offsets = stated.fact.offsets.iter();
        offsets
            .map(|(partition, offset)| match self.get(lane, *partition) {
                Some(position) => position.passed(*offset, stated.seen),
                None => Passed::No,
            })
            .max()
            .unwrap_or(Passed::Yes)
    }

    pub(super) fn removed(&self, lane: &str, partition: i32) -> u64 {
        self.get(lane, partition)
            .map_or(0, |position| position.removed)
    }

    fn get(&self, lane: &str, partition: i32) -> Option<&Position> {
        self.0.get(&(lane.to_owned(), partition))
    }
}
