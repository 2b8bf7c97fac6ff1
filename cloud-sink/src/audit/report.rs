//! What the audit says. `docs/audit.md` has the form in JSON.

use protocol::{Epoch, GatewayId, Timestamp, Topic, control::LossReason};
use serde::{Serialize, Serializer, ser::SerializeSeq};

use crate::coverage::Ranges;

/// What is known of a reading. In the order in which one beats the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// In MongoDB.
    Present,
    /// Was in MongoDB until it expired.
    Expired,
    /// Was in MongoDB, and somebody removed it before it expired.
    Deleted,
    /// In the dead-letter topic.
    DeadLettered,
    /// Declared lost by its gateway.
    Declared {
        /// Why.
        reason: LossReason,
        /// Several losses were joined: others of the range were perhaps lost for another reason.
        merged: bool,
        /// When it was declared, by the gateway's clock.
        #[serde(serialize_with = "time")]
        at: Timestamp,
    },
    /// Kafka removed it before it was read.
    Retention,
    /// The topic was made anew before it was read.
    TopicRemade,
    /// On the way from Kafka to MongoDB.
    InFlight,
    /// Kafka had it, the sink is past it, and nobody knows why it is not there.
    Missing,
    /// Still at the gateway.
    Queued,
    /// Was at a gateway and no live run goes on with it.
    Abandoned,
    /// Perhaps at a gateway that nobody hears of.
    Unverifiable,
    /// There was no room to note whether it is there.
    Uncounted,
}

impl State {
    /// The word for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Expired => "expired",
            Self::Deleted => "deleted",
            Self::DeadLettered => "dead-lettered",
            Self::Declared { .. } => "declared lost",
            Self::Retention => "lost to retention",
            Self::TopicRemade => "lost with topic",
            Self::InFlight => "in flight",
            Self::Missing => "missing",
            Self::Queued => "queued",
            Self::Abandoned => "abandoned",
            Self::Unverifiable => "unverifiable",
            Self::Uncounted => "uncounted",
        }
    }

    /// Whether somebody has to find out.
    #[must_use]
    pub const fn is_unexplained(self) -> bool {
        matches!(
            self,
            Self::Deleted | Self::Missing | Self::Abandoned | Self::Unverifiable | Self::Uncounted
        )
    }
}

/// Readings in one state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Which.
    #[serde(flatten)]
    pub state: State,
    /// Those.
    #[serde(serialize_with = "pairs")]
    pub ranges: Ranges,
}

/// One epoch: every sequence from 0 to its end is in exactly one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EpochReport {
    /// The run.
    #[serde(serialize_with = "text")]
    pub epoch: Epoch,
    /// How many readings it has.
    pub expected: u64,
    /// What became of them.
    pub parts: Vec<Part>,
    /// Ids for which a second, different reading came.
    #[serde(serialize_with = "pairs")]
    pub conflicts: Ranges,
    /// Ids that are in the collection more than once; only `--full` can tell.
    #[serde(serialize_with = "pairs")]
    pub duplicated: Ranges,
    /// When the gateway last stated it, by the gateway's clock.
    #[serde(serialize_with = "maybe_time")]
    pub as_of: Option<Timestamp>,
    /// When anything of it last came, by the sink's clock.
    #[serde(skip)]
    pub news: Option<Timestamp>,
}

impl EpochReport {
    /// Everything is present, or was until it expired.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let stored = |part: &Part| matches!(part.state, State::Present | State::Expired);
        self.parts.iter().all(stored) && self.conflicts.is_empty() && self.duplicated.is_empty()
    }
}

/// Something that a person has to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// Several runs claim the same run before them.
    Fork {
        /// That run.
        #[serde(serialize_with = "text")]
        epoch: Epoch,
        /// The claimants.
        #[serde(serialize_with = "texts")]
        successors: Vec<Epoch>,
    },
    /// Several runs claim to be the first.
    Roots {
        /// The claimants.
        #[serde(serialize_with = "texts")]
        epochs: Vec<Epoch>,
    },
    /// Readings came of a run that its gateway never stated.
    Unstated {
        /// The run.
        #[serde(serialize_with = "text")]
        epoch: Epoch,
    },
}

/// Sums over epochs. `expected` is the sum of all others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "named like the states")]
pub struct Totals {
    pub expected: u64,
    pub present: u64,
    pub expired: u64,
    pub dead_lettered: u64,
    pub declared: u64,
    pub retention: u64,
    pub topic_remade: u64,
    pub in_flight: u64,
    pub queued: u64,
    pub missing: u64,
    pub deleted: u64,
    pub abandoned: u64,
    pub unverifiable: u64,
    pub uncounted: u64,
    /// Beside the sum: ids for which a second reading came.
    pub conflicts: u64,
    /// Beside the sum: ids that are there more than once.
    pub duplicated: u64,
}

impl Totals {
    /// Adds an epoch.
    pub fn add(&mut self, epoch: &EpochReport) {
        self.expected += epoch.expected;
        self.conflicts += epoch.conflicts.count();
        self.duplicated += epoch.duplicated.count();
        for Part { state, ranges } in &epoch.parts {
            *match state {
                State::Present => &mut self.present,
                State::Expired => &mut self.expired,
                State::Deleted => &mut self.deleted,
                State::DeadLettered => &mut self.dead_lettered,
                State::Declared { .. } => &mut self.declared,
                State::Retention => &mut self.retention,
                State::TopicRemade => &mut self.topic_remade,
                State::InFlight => &mut self.in_flight,
                State::Missing => &mut self.missing,
                State::Queued => &mut self.queued,
                State::Abandoned => &mut self.abandoned,
                State::Unverifiable => &mut self.unverifiable,
                State::Uncounted => &mut self.uncounted,
            } += ranges.count();
        }
    }

    /// How many nobody can explain.
    #[must_use]
    pub fn unexplained(&self) -> u64 {
        self.missing
            + self.deleted
            + self.abandoned
            + self.unverifiable
            + self.uncounted
            + self.conflicts
            + self.duplicated
    }
}

/// One lane of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaneReport {
    /// The lane, named by its topic.
    #[serde(serialize_with = "lane")]
    pub lane: Topic,
    /// How many epochs.
    pub epochs: u64,
    /// Of these, how many have every reading in MongoDB; they are not listed.
    pub complete: u64,
    /// Over all epochs.
    pub totals: Totals,
    /// Epochs of which there is anything to say.
    pub open: Vec<EpochReport>,
    /// What a person has to look at.
    pub findings: Vec<Finding>,
}

/// One gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GatewayReport {
    /// Whose.
    #[serde(serialize_with = "gateway")]
    pub gateway: GatewayId,
    /// Nobody has heard of it since; nothing can be said of what it did after that.
    #[serde(serialize_with = "maybe_time")]
    pub silent_since: Option<Timestamp>,
    /// Its lanes.
    pub lanes: Vec<LaneReport>,
}

impl GatewayReport {
    /// Whether nothing of it needs a person.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let clean = |lane: &LaneReport| lane.findings.is_empty() && lane.totals.unexplained() == 0;
        self.silent_since.is_none() && self.lanes.iter().all(clean)
    }
}

/// Where readings are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Hosts of the server.
    pub server: String,
    /// `mongodb.database`.
    pub database: String,
}

/// Why nothing was judged: whoever asks in the wrong place must not take that for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unaudited {
    /// No sink has ever noted a place in this database, and no gateway is known in it.
    NoSink,
    /// A sink has; no gateway has sent anything.
    NoGateway,
    /// Gateways are known, and none had news in the time that was asked for.
    NoNews,
}

/// The whole audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// 1.
    pub v: u32,
    /// When it was made.
    #[serde(serialize_with = "time")]
    pub at: Timestamp,
    /// Whether the collections were counted.
    pub full: bool,
    /// Whether something was audited and nothing of it is unexplained.
    pub clean: bool,
    /// Why nothing was audited, where it is so.
    pub unaudited: Option<Unaudited>,
    /// Gateways, in order.
    pub gateways: Vec<GatewayReport>,
    /// Gateways of which nothing came in the time that was asked for.
    pub left_out: u64,
    /// Documents of other producers, which no audit covers; only counted with `--full`.
    pub foreign: Option<u64>,
}

fn text<S: Serializer>(epoch: &Epoch, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(epoch)
}

fn lane<S: Serializer>(lane: &Topic, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(lane)
}

fn gateway<S: Serializer>(gateway: &GatewayId, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(gateway)
}

fn texts<S: Serializer>(epochs: &[Epoch], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(epochs.iter().map(ToString::to_string))
}

fn time<S: Serializer>(at: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(at)
}

#[expect(clippy::ref_option, reason = "the shape serde wants")]
fn maybe_time<S: Serializer>(at: &Option<Timestamp>, out: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => out.collect_str(at),
        None => out.serialize_none(),
    }
}

fn pairs<S: Serializer>(ranges: &Ranges, out: S) -> Result<S::Ok, S::Error> {
    let mut seq = out.serialize_seq(Some(ranges.len()))?;
    for (first, last) in ranges.iter() {
        seq.serialize_element(&[first, last])?;
    }
    seq.end()
}
