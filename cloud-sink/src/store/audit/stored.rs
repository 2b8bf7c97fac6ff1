//! Documents as they are stored, and what they mean.

use std::collections::BTreeMap;

use mongodb::bson::DateTime;
use protocol::{
    GatewayId, Timestamp, Topic,
    control::{EpochFact, Loss, LossReason, Predecessor},
};
use serde::Deserialize;

use super::super::{Outage, checkpoints::StoredStream};
use crate::audit::{Covered, Stated};

#[derive(Deserialize)]
pub(super) struct StoredEpoch {
    pub lane: Topic,
    pub epoch: String,
    pub previous: Option<StoredLink>,
    pub committed: Option<i64>,
    pub acknowledged: Option<i64>,
    pub offsets: BTreeMap<String, i64>,
    pub closed: bool,
    pub at: DateTime,
    pub seen: Option<DateTime>,
}

#[derive(Deserialize)]
pub(super) struct StoredLink {
    pub epoch: String,
    pub last: Option<i64>,
}

#[derive(Deserialize)]
pub(super) struct StoredLoss {
    pub lane: Topic,
    pub epoch: String,
    pub first: i64,
    pub last: Option<i64>,
    pub reason: LossReason,
    pub merged: bool,
    pub possibly_delivered: bool,
    pub at: DateTime,
}

#[derive(Deserialize)]
pub(super) struct StoredCoverage {
    pub lane: Topic,
    pub epoch: String,
    pub partition: i32,
    pub at: DateTime,
    #[serde(flatten)]
    pub stream: StoredStream,
}

#[derive(Deserialize)]
pub(super) struct StoredHeartbeat {
    pub at: DateTime,
    pub seen: Option<DateTime>,
    #[serde(default)]
    pub lanes: Vec<StoredLane>,
}

#[derive(Deserialize)]
pub(super) struct StoredLane {
    pub lane: Topic,
    pub epoch: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct StoredCheckpoint {
    pub topic: String,
    pub partition: i32,
    pub next: Option<i64>,
    pub began: Option<DateTime>,
    pub at: Option<DateTime>,
    #[serde(default)]
    pub lives: Vec<StoredLife>,
}

#[derive(Deserialize)]
pub(super) struct StoredLife {
    pub next: i64,
}

#[derive(Deserialize)]
pub(super) struct StoredGap {
    pub topic: String,
    pub partition: i32,
    pub first_offset: i64,
    pub next_offset: i64,
}

pub(super) fn time(at: DateTime) -> Timestamp {
    let micros = at.timestamp_millis().saturating_mul(1000);
    Timestamp::from_micros(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(super) fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, Outage> {
    let wrong = || Outage::new(format_args!("stored fact cannot be read: {text:?}"));
    text.parse().map_err(|_| wrong())
}

pub(super) fn stated(gateway: &GatewayId, stored: StoredEpoch) -> Result<Stated, Outage> {
    let previous = match stored.previous {
        Some(link) => Some(Predecessor {
            epoch: parsed(&link.epoch)?,
            last: link.last.map(i64::cast_unsigned),
        }),
        None => None,
    };
    let offsets = stored
        .offsets
        .iter()
        .map(|(partition, offset)| Ok((parsed(partition)?, *offset)))
        .collect::<Result<_, Outage>>()?;
    Ok(Stated {
        fact: EpochFact {
            gateway: gateway.clone(),
            lane: stored.lane,
            epoch: parsed(&stored.epoch)?,
            previous,
            committed: stored.committed.map(i64::cast_unsigned),
            acknowledged: stored.acknowledged.map(i64::cast_unsigned),
            offsets,
            closed: stored.closed,
            at: time(stored.at),
        },
        seen: time(stored.seen.unwrap_or(stored.at)),
    })
}

pub(super) fn loss(gateway: &GatewayId, stored: StoredLoss) -> Result<Loss, Outage> {
    Ok(Loss {
        gateway: gateway.clone(),
        lane: stored.lane,
        epoch: parsed(&stored.epoch)?,
        first: stored.first.cast_unsigned(),
        last: stored.last.map(i64::cast_unsigned),
        reason: stored.reason,
        merged: stored.merged,
        possibly_delivered: stored.possibly_delivered,
        at: time(stored.at),
    })
}

pub(super) fn covered(stored: StoredCoverage) -> Result<Covered, Outage> {
    Ok(Covered {
        epoch: parsed(&stored.epoch)?,
        lane: stored.lane,
        partition: stored.partition,
        stream: stored.stream.stream(),
        at: time(stored.at),
    })
}
