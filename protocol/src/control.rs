//! Facts: what a gateway tells the sink about its stream, beside the readings.
//!
//! Facts live in a compacted topic of small JSON values, **one key per fact**, so compaction can never
//! eat one:
//!
//! ```text
//! gateway                      heartbeat: I live, this is what I hold
//! gateway/boot                 the clock of that boot was wrong by so much
//! gateway/lane/epoch           what that run of the lane's writer committed, and how far Kafka has it
//! gateway/lane/epoch/first     readings first..=last are lost, and why
//! ```
//!
//! A fact with `"v"` above 1 is newer than this build: keep it, do not guess.

use alloc::{boxed::Box, collections::BTreeMap, format, string::String, vec::Vec};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{BootId, Epoch, GatewayId, Timestamp, Topic, record::json_reason};

/// The version this build writes.
pub const VERSION: u64 = 1;

/// Something a gateway states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// About one run of a lane's writer.
    Epoch(EpochFact),
    /// Readings that will never come.
    Loss(Loss),
    /// A clock put right.
    ClockCorrection(ClockCorrection),
    /// A sign of life.
    Heartbeat(Heartbeat),
}

/// What one run of a lane's writer committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochFact {
    /// Whose.
    pub gateway: GatewayId,
    /// The lane, named by its topic.
    pub lane: Topic,
    /// The run.
    #[serde(with = "crate::as_text")]
    pub epoch: Epoch,
    /// The run before it, unless this is the lane's first.
    pub previous: Option<Predecessor>,
    /// Highest sequence made durable; `None` before the first.
    pub committed: Option<u64>,
    /// Highest sequence up to which Kafka has, or a loss names, every reading.
    pub acknowledged: Option<u64>,
    /// Highest offset Kafka acknowledged, by partition.
    #[serde(deserialize_with = "offsets")]
    pub offsets: BTreeMap<i32, i64>,
    /// No further reading will be committed in this epoch.
    pub closed: bool,
    /// When this was stated.
    #[serde(with = "crate::as_text")]
    pub at: Timestamp,
}

/// JSON's member names are texts, and behind serde's `tag` nobody turns them back into numbers.
fn offsets<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<i32, i64>, D::Error> {
    BTreeMap::<Box<str>, i64>::deserialize(from)?
        .into_iter()
        .map(|(partition, offset)| match partition.parse() {
            Ok(partition) => Ok((partition, offset)),
            Err(_) => Err(de::Error::custom("a partition is no number")),
        })
        .collect()
}

/// The link to the run before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predecessor {
    /// That run.
    #[serde(with = "crate::as_text")]
    pub epoch: Epoch,
    /// The last sequence that was recovered of it; `None` when it left nothing.
    pub last: Option<u64>,
}

/// An exact range of readings that will never come, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Whose.
    pub gateway: GatewayId,
    /// The lane, named by its topic.
    pub lane: Topic,
    /// The run of the writer.
    #[serde(with = "crate::as_text")]
    pub epoch: Epoch,
    /// First sequence lost.
    pub first: u64,
    /// Last sequence lost; `None` when the end is not known.
    pub last: Option<u64>,
    /// Why.
    pub reason: LossReason,
    /// Neighbouring losses were merged: some readings of the range may be there, others may have been
    /// lost for another reason.
    pub merged: bool,
    /// Some of them may have reached Kafka before the loss was recorded. Present beats declared.
    pub possibly_delivered: bool,
    /// When the loss was recorded.
    #[serde(with = "crate::as_text")]
    pub at: Timestamp,
}

/// Why readings were lost. Numbers are on disk: variants are only ever appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossReason {
    /// The queue was full and `when_full = "drop-oldest"` made room.
    DropOldest,
    /// The queue was full and `when_full = "drop-newest"` refused the new ones.
    DropNewest,
    /// Older than `max_age`.
    TooOld,
    /// The stored bytes were damaged.
    Unreadable,
    /// Kafka refused exactly these, for their size or content; their bytes are in the quarantine.
    Refused,
    /// Kafka's retention removed them before the sink read them.
    Retention,
}

impl LossReason {
    /// Every reason, in the order of the numbers on disk.
    pub const ALL: [Self; 6] = [
        Self::DropOldest,
        Self::DropNewest,
        Self::TooOld,
        Self::Unreadable,
        Self::Refused,
        Self::Retention,
    ];

    /// The word used in facts, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DropOldest => "drop_oldest",
            Self::DropNewest => "drop_newest",
            Self::TooOld => "too_old",
            Self::Unreadable => "unreadable",
            Self::Refused => "refused",
            Self::Retention => "retention",
        }
    }
}

/// The true time at which a boot began, found out once its clock was synchronised: with it, readings of
/// that boot taken before can be dated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockCorrection {
    /// Whose.
    pub gateway: GatewayId,
    /// The boot.
    #[serde(with = "crate::as_text")]
    pub boot: BootId,
    /// True time = monotonic time of the boot + this, in microseconds since 1970.
    pub boot_time_us: i64,
    /// When this was found out.
    #[serde(with = "crate::as_text")]
    pub at: Timestamp,
}

/// A sign of life, unconditional, once a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Whose.
    pub gateway: GatewayId,
    /// The agent's version.
    pub version: Box<str>,
    /// Whether the gateway's clock is synchronised.
    pub clock_synced: bool,
    /// What each lane holds.
    pub lanes: Vec<LaneState>,
    /// When.
    #[serde(with = "crate::as_text")]
    pub at: Timestamp,
}

/// What one lane holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneState {
    /// The lane, named by its topic.
    pub lane: Topic,
    /// The run that writes now; `None` before its first commit.
    #[serde(with = "crate::as_text::option")]
    pub epoch: Option<Epoch>,
    /// Highest sequence made durable in it.
    pub committed: Option<u64>,
    /// Readings waiting.
    pub queued: u64,
}

/// Why bytes are no fact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// A version this build does not know.
    #[error("control fact version {0} is newer than this program knows (1)")]
    UnknownVersion(u64),
    /// Not what the version promises.
    #[error("malformed control fact: {0}")]
    Malformed(Box<str>),
}

#[derive(Serialize)]
struct Writing<'a> {
    v: u64,
    #[serde(flatten)]
    fact: &'a Fact,
}

#[derive(Deserialize)]
struct Version {
    v: u64,
}

impl Fact {
    /// The Kafka key: the same for each statement of the same fact, different for different facts.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Heartbeat(fact) => format!("{}", fact.gateway),
            Self::ClockCorrection(fact) => format!("{}/{}", fact.gateway, fact.boot),
            Self::Epoch(fact) => format!("{}/{}/{}", fact.gateway, fact.lane, fact.epoch),
            Self::Loss(fact) => {
                format!(
                    "{}/{}/{}/{:012x}",
                    fact.gateway, fact.lane, fact.epoch, fact.first
                )
            }
        }
    }

    /// Whose fact it is.
    #[must_use]
    pub fn gateway(&self) -> &GatewayId {
        match self {
            Self::Heartbeat(fact) => &fact.gateway,
            Self::ClockCorrection(fact) => &fact.gateway,
            Self::Epoch(fact) => &fact.gateway,
            Self::Loss(fact) => &fact.gateway,
        }
    }

    /// The Kafka value.
    ///
    /// # Errors
    /// Never for a fact made of this crate's types.
    pub fn encode(&self) -> Result<Vec<u8>, FactError> {
        serde_json::to_vec(&Writing {
            v: VERSION,
            fact: self,
        })
        .map_err(malformed)
    }

    /// Reads a Kafka value.
    ///
    /// # Errors
    /// [`FactError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FactError> {
        match serde_json::from_slice::<Version>(bytes)
            .map_err(malformed)?
            .v
        {
            VERSION => serde_json::from_slice(bytes).map_err(malformed),
            0 => Err(FactError::Malformed("there is no version 0".into())),
            version => Err(FactError::UnknownVersion(version)),
        }
    }
}

fn malformed(error: serde_json::Error) -> FactError {
    FactError::Malformed(json_reason(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(text: &str) -> Epoch {
        text.parse().unwrap()
    }

    fn at() -> Timestamp {
        Timestamp::from_micros(0).unwrap()
    }

    fn run() -> EpochFact {
        EpochFact {
            gateway: "gw7".parse().unwrap(),
            lane: "telemetry.readings.v1".parse().unwrap(),
            epoch: epoch("1f3a9c04d2be"),
            previous: None,
            committed: Some(5),
            acknowledged: None,
            offsets: [(0, 17), (11, i64::MAX)].into(),
            closed: false,
            at: at(),
        }
    }

    fn loss(first: u64, last: u64) -> Fact {
        Fact::Loss(Loss {
            gateway: "gw7".parse().unwrap(),
            lane: "telemetry.readings.v1".parse().unwrap(),
            epoch: epoch("1f3a9c04d2be"),
            first,
            last: Some(last),
            reason: LossReason::TooOld,
            merged: false,
            possibly_delivered: false,
            at: at(),
        })
    }

    #[test]
    fn an_epoch_with_offsets_reads_back() {
        let fact = Fact::Epoch(run());
        assert_eq!(Fact::decode(&fact.encode().unwrap()), Ok(fact));
    }

    #[test]
    fn a_partition_that_is_no_number_is_malformed() {
        let text = String::from_utf8(Fact::Epoch(run()).encode().unwrap()).unwrap();
        let text = text.replace("\"11\"", "\"x\"");
        assert!(matches!(
            Fact::decode(text.as_bytes()),
            Err(FactError::Malformed(_))
        ));
    }

    #[test]
    fn the_same_fact_keeps_its_key_and_another_has_another() {
        let mut later = run();
        (later.committed, later.closed, later.at) =
            (Some(9), true, Timestamp::from_micros(1).unwrap());
        assert_eq!(Fact::Epoch(run()).key(), Fact::Epoch(later).key());
        assert_eq!(loss(7, 8).key(), loss(7, 12).key(), "a loss may widen");

        let keys = [
            Fact::Epoch(run()).key(),
            loss(7, 8).key(),
            loss(8, 8).key(),
            Fact::ClockCorrection(ClockCorrection {
                gateway: "gw7".parse().unwrap(),
                boot: BootId(7),
                boot_time_us: 0,
                at: at(),
            })
            .key(),
            Fact::Heartbeat(Heartbeat {
                gateway: "gw7".parse().unwrap(),
                version: "0.1.0".into(),
                clock_synced: true,
                lanes: Vec::new(),
                at: at(),
            })
            .key(),
        ];
        assert_eq!(
            keys,
            [
                "gw7/telemetry.readings.v1/1f3a9c04d2be",
                "gw7/telemetry.readings.v1/1f3a9c04d2be/000000000007",
                "gw7/telemetry.readings.v1/1f3a9c04d2be/000000000008",
                "gw7/0000000000000007",
                "gw7",
            ]
        );
    }

    #[test]
    fn every_reason_is_written_as_its_word() {
        for reason in LossReason::ALL {
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(json, format!("\"{}\"", reason.as_str()));
        }
    }
}
