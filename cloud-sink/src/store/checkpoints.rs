//! Checkpoints and coverage in MongoDB, both behind a fence (see [`crate::checkpoint`]).
//!
//! ```text
//! checkpoints   { _id: "cluster/topic/3", cluster, topic, partition: 3, generation: 7, next: 118822,
//!                 mark: { offset: 118640, timestamp_ms, crc }, began, at, reserved (see lease.rs),
//!                 lives: [{ next: 5000, ended }] }                          topics made anew, newest last
//! coverage      { _id: "gw7/topic/1f3a9c04d2be/3/cluster", gateway, lane, epoch, partition: 3, cluster,
//!                 generation: 7, at, present: [{ day: 20780, ranges: [0, 88100, 88141, 90000] }],
//!                 dead_lettered: [88101, 88101], conflicting: [], overflowed: false, told: 90001 }
//! ```
//!
//! Ranges are pairs of first and last sequence. `day` counts days since 1970, `null` is never. Gaps below
//! `told` were named in the log.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use mongodb::{
    bson::{Bson, DateTime, Document as Fields, doc},
    options::ReturnDocument,
};
use protocol::{Epoch, GatewayId};
use serde::Deserialize;

use super::{Outage, Store, incidents::Incident};
use crate::{
    checkpoint::{Mark, Progress, Taken, Written},
    coverage::{Day, Missing, Ranges, Stream},
    message::Partition,
};

pub(super) const CHECKPOINTS: &str = "checkpoints";
pub(super) const COVERAGE: &str = "coverage";

/// Streams written by one command.
const STREAMS: usize = 200;
/// Former lives kept of a partition.
const LIVES: i32 = 16;
/// `E11000`: the filter did not match what is there, so its fence is higher.
const DUPLICATE_KEY: i32 = 11000;

/// Of the partition that is checkpointed.
#[derive(Clone, Copy)]
struct Settled {
    fence: i64,
    to: Option<i64>,
}

#[derive(Deserialize)]
struct Stored {
    generation: i64,
    next: Option<i64>,
    mark: Option<StoredMark>,
    reserved: Option<i64>,
}

#[derive(Deserialize)]
struct StoredMark {
    offset: i64,
    timestamp_ms: i64,
    crc: i64,
}

/// A document of coverage.
#[derive(Debug, Deserialize)]
pub(super) struct StoredStream {
    #[serde(rename = "_id")]
    id: String,
    #[serde(default)]
    present: Vec<PresentUntil>,
    #[serde(default)]
    dead_lettered: Vec<i64>,
    #[serde(default)]
    conflicting: Vec<i64>,
    #[serde(default)]
    overflowed: bool,
    /// `None` in what a sink wrote that told of no gaps.
    told: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct PresentUntil {
    day: Option<i64>,
    ranges: Vec<i64>,
}

impl StoredStream {
    pub(super) fn stream(&self) -> Stream {
        let present = self.present.iter();
        Stream {
            present: present
                .map(|until| (until.day.map(Day), ranges(&until.ranges)))
                .collect(),
            dead_lettered: ranges(&self.dead_lettered),
            conflicting: ranges(&self.conflicting),
            overflowed: self.overflowed,
            newest_offset: None,
        }
    }
}

fn ranges(pairs: &[i64]) -> Ranges {
    pairs
        .chunks_exact(2)
        .map(|pair| (pair[0].cast_unsigned(), pair[1].cast_unsigned()))
        .collect()
}

fn pairs(ranges: &Ranges) -> Vec<i64> {
    // Below 2^48, so the sign is never touched.
    let ends = ranges.iter().flat_map(|(first, last)| [first, last]);
    ends.map(u64::cast_signed).collect()
}

pub(super) fn checkpoint_id(cluster: &str, partition: &Partition) -> String {
    format!("{cluster}/{}/{}", partition.topic, partition.number)
}

impl Store {
    /// Takes partitions: from now on nobody who took them before can write their checkpoints.
    ///
    /// # Errors
    /// [`Outage`]: some may be taken; taking them again is harmless.
    pub async fn take(
        &self,
        cluster: &str,
        partitions: &[Partition],
    ) -> Result<Vec<Taken>, Outage> {
        let checkpoints = self.database.collection::<Stored>(CHECKPOINTS);
        let mut taken = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let now = DateTime::now();
            let update = doc! {
                "$inc": { "generation": 1_i64 },
                "$set": { "at": now },
                "$setOnInsert": {
                    "cluster": cluster,
                    "topic": &*partition.topic,
                    "partition": partition.number,
                    "began": now,
                },
            };
            let id = doc! { "_id": checkpoint_id(cluster, partition) };
            let stored = self
                .within(async {
                    checkpoints
                        .find_one_and_update(id, update)
                        .upsert(true)
                        .return_document(ReturnDocument::After)
                        .await
                })
                .await?;
            let Some(stored) = stored else {
                return Err(Outage::new("a checkpoint was taken and is not there"));
            };
            let mark = stored.mark.and_then(|mark| {
                Some(Mark {
                    offset: mark.offset,
                    timestamp_ms: mark.timestamp_ms,
                    crc: u32::try_from(mark.crc).ok()?,
                })
            });
            taken.push(Taken {
                partition: partition.clone(),
                fence: stored.generation,
                next: stored.next,
                mark,
                reserved: stored.reserved,
            });
        }
        Ok(taken)
    }

    /// Writes a checkpoint: incidents and coverage, then the offset. Gaps among the readings that nobody has
    /// told of are left in `missing`.
    ///
    /// # Errors
    /// [`Outage`]: some may be written; the same again is harmless.
    pub async fn checkpoint(
        &self,
        cluster: &str,
        progress: &mut Progress,
    ) -> Result<Written, Outage> {
        let Partition { topic, number } = &progress.partition;
        for gap in &progress.gaps {
            let incident = Incident::gap(&progress.partition, *gap, progress.fence);
            self.keep_incident(&incident).await?;
        }
        let streams: Vec<(Fields, &Stream)> = progress
            .coverage
            .iter()
            .map(|(gateway, epoch, stream)| {
                let fields = doc! {
                    "_id": format!("{gateway}/{topic}/{epoch}/{number}/{cluster}"),
                    "gateway": gateway.as_str(),
                    "lane": &**topic,
                    "epoch": epoch.to_string(),
                    "partition": number,
                    "cluster": cluster,
                };
                (fields, stream)
            })
            .collect();
        let settled = Settled {
            fence: progress.fence,
            to: progress.settled_to,
        };
        for some in streams.chunks(STREAMS) {
            if self.cover(settled, some, &mut progress.missing).await? == Written::Fenced {
                return Ok(Written::Fenced);
            }
        }
        self.advance(cluster, progress).await
    }

    /// Adds to what is stored. Between reading and writing nobody else writes who has a lower fence; who
    /// has a higher one reads the same records again and adds them itself.
    async fn cover(
        &self,
        Settled { fence, to }: Settled,
        streams: &[(Fields, &Stream)],
        missing: &mut Vec<Missing>,
    ) -> Result<Written, Outage> {
        let mut known = self.covered(streams).await?;
        let mut updates = Vec::with_capacity(streams.len());
        for (fields, stream) in streams {
            let id = fields.get_str("_id").unwrap_or_default();
            let (mut sum, mut told) = known.remove(id).unwrap_or_default();
            let was_whole = !sum.overflowed;
            sum.merge(stream);
            let sum = sum.bounded();
            if stream.is_settled_to(to) {
                let gaps = sum.gaps(told);
                told = told.max(sum.end());
                if !gaps.is_empty() && !sum.overflowed {
                    self.tell(fields, gaps, missing).await?;
                }
            }
            if was_whole && sum.overflowed {
                self.keep_incident(&Incident::coverage_full(id, fields))
                    .await?;
            }
            let mut set = fields.clone();
            set.remove("_id");
            set.extend(stored(&sum));
            set.insert("told", told.cast_signed());
            set.insert("generation", fence);
            set.insert("at", DateTime::now());
            updates.push(Bson::Document(doc! {
                "q": { "_id": id, "generation": { "$lte": fence } },
                "u": { "$set": set },
                "upsert": true,
            }));
        }
        // One command for all: the driver's own helper sends one for each.
        let command = doc! {
            "update": COVERAGE,
            "updates": updates,
            "ordered": false,
            "writeConcern": { "w": "majority", "j": true },
        };
        let reply = self
            .within(async { self.database.run_command(command).await })
            .await?;
        outcome(&reply)
    }

    /// Notes as missing what no partition has: the gateway may have moved when partitions were added.
    async fn tell(
        &self,
        stream: &Fields,
        mut gaps: Ranges,
        missing: &mut Vec<Missing>,
    ) -> Result<(), Outage> {
        let text = |name| stream.get_str(name).unwrap_or_default();
        let (Ok(gateway), Ok(epoch)) = (text("gateway").parse(), text("epoch").parse()) else {
            return Ok(());
        };
        for elsewhere in self.covered_anywhere(&gateway, text("lane"), epoch).await? {
            gaps = gaps.without(&elsewhere.all_present());
            gaps = gaps.without(&elsewhere.dead_lettered);
        }
        for (first, last) in gaps.iter() {
            let gap = Missing {
                gateway: gateway.clone(),
                epoch,
                first,
                last,
            };
            // A checkpoint that is written again finds them again.
            if !missing.contains(&gap) {
                missing.push(gap);
            }
        }
        Ok(())
    }

    /// What is noted of one epoch, in whatever partition.
    ///
    /// # Errors
    /// [`Outage`].
    pub(super) async fn covered_anywhere(
        &self,
        gateway: &GatewayId,
        lane: &str,
        epoch: Epoch,
    ) -> Result<Vec<Stream>, Outage> {
        let prefix = format!("{gateway}/{lane}/{epoch}/");
        // The slash is followed by the zero in ASCII: everything that begins with the prefix.
        let end = format!("{gateway}/{lane}/{epoch}0");
        let coverage = self.database.collection::<StoredStream>(COVERAGE);
        let found: Vec<StoredStream> = self
            .within(async {
                let found = coverage.find(doc! { "_id": { "$gte": prefix, "$lt": end } });
                found.await?.try_collect().await
            })
            .await?;
        Ok(found.iter().map(StoredStream::stream).collect())
    }

    /// What is stored of streams, and up to where gaps were told.
    async fn covered(
        &self,
        streams: &[(Fields, &Stream)],
    ) -> Result<HashMap<String, (Stream, u64)>, Outage> {
        let ids: Vec<&str> = streams
            .iter()
            .filter_map(|(fields, _)| fields.get_str("_id").ok())
            .collect();
        let coverage = self.database.collection::<StoredStream>(COVERAGE);
        self.within(async {
            let mut found = coverage.find(doc! { "_id": { "$in": ids } }).await?;
            let mut known = HashMap::new();
            while found.advance().await? {
                let stored = found.deserialize_current()?;
                let stream = stored.stream();
                // Of what an older sink noted nothing is told late.
                let told = stored.told.map_or(stream.end(), i64::cast_unsigned);
                known.insert(stored.id, (stream, told));
            }
            Ok(known)
        })
        .await
    }

    async fn advance(&self, cluster: &str, progress: &Progress) -> Result<Written, Outage> {
        let now = DateTime::now();
        let mut set = doc! { "at": now };
        if let Some(next) = progress.next {
            set.insert("next", next);
            let mark = progress.mark.map(|mark| {
                let Mark {
                    offset,
                    timestamp_ms,
                    crc,
                } = mark;
                doc! { "offset": offset, "timestamp_ms": timestamp_ms, "crc": i64::from(crc) }
            });
            set.insert("mark", mark);
        }
        let mut update = doc! {};
        if let Some(next) = progress.ended() {
            set.insert("began", now);
            let life = doc! { "next": next, "ended": now };
            update.insert(
                "$push",
                doc! { "lives": { "$each": [life], "$slice": -LIVES } },
            );
        }
        update.insert("$set", set);
        if progress.release {
            update.insert("$unset", doc! { "reserved": "" });
        }
        let mine = doc! {
            "_id": checkpoint_id(cluster, &progress.partition),
            "generation": progress.fence,
        };
        let checkpoints = self.database.collection::<Fields>(CHECKPOINTS);
        let updated = self
            .within(async { checkpoints.update_one(mine, update).await })
            .await?;
        Ok(match updated.matched_count {
            0 => Written::Fenced,
            _ => Written::Yes,
        })
    }
}

fn stored(stream: &Stream) -> Fields {
    let present: Vec<Bson> = stream
        .present
        .iter()
        .map(|(day, ranges)| {
            let day = day.map(|day| day.0);
            Bson::Document(doc! { "day": day, "ranges": pairs(ranges) })
        })
        .collect();
    doc! {
        "present": present,
        "dead_lettered": pairs(&stream.dead_lettered),
        "conflicting": pairs(&stream.conflicting),
        "overflowed": stream.overflowed,
    }
}

/// What the server says of an update command.
fn outcome(reply: &Fields) -> Result<Written, Outage> {
    if let Ok(concern) = reply.get_document("writeConcernError") {
        return Err(Outage::new(format_args!(
            "write concern not met: {concern}"
        )));
    }
    let errors = reply.get_array("writeErrors").map(Vec::as_slice);
    let mut written = Written::Yes;
    for error in errors.unwrap_or_default() {
        let error = error.as_document();
        match error.and_then(|error| error.get_i32("code").ok()) {
            Some(DUPLICATE_KEY) => written = Written::Fenced,
            _ => return Err(Outage::new(format_args!("coverage not written: {error:?}"))),
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::{deserialize_from_document, doc};

    #[test]
    fn a_stream_reads_back_as_it_was_stored() {
        let mut stream = Stream::default();
        stream.present.insert(None, Ranges::of(0, 7));
        stream
            .present
            .insert(Some(Day(20_780)), [(9, 9), (11, 20)].into_iter().collect());
        stream.dead_lettered.insert(8, 8);
        stream.conflicting.insert(3, 3);
        let mut fields = stored(&stream);
        fields.insert("_id", "gw7/t/000000000001/0/c");
        let read: StoredStream = deserialize_from_document(fields).unwrap();
        assert_eq!(read.stream(), stream);
    }

    #[test]
    fn a_taken_id_means_a_higher_fence_and_any_other_error_an_outage() {
        let error = |code: i32| doc! { "writeErrors": [{ "index": 0, "code": code }] };
        assert_eq!(outcome(&doc! { "ok": 1 }), Ok(Written::Yes));
        assert_eq!(outcome(&error(DUPLICATE_KEY)), Ok(Written::Fenced));
        assert!(outcome(&error(91)).is_err());
        assert!(outcome(&doc! { "writeConcernError": { "code": 64 } }).is_err());
    }
}
