//! What the group has not read of partitions that this sink has not got.
//!
//! Without MongoDB no partition is taken, since where each goes on is known there, and what is not taken has no age.
//! Retention goes on meanwhile. Kafka has a mirror of the places, the group's committed offsets, which is good enough
//! for a warning: behind the place where it is not, and at the earliest record where it has expired, so the warning comes
//! too early rather than too late.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use tracing::debug;

use super::{Quiet, Settings, marks::reader, watermarks::watermarks};
use crate::message::Partition;

/// One question, or the first records of a topic together.
const ASK: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// What waits in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Records that the group has not read.
    pub lag: u64,
    /// Kafka's time of the first of them, in milliseconds since 1970.
    pub oldest_ms: i64,
}

/// What waits of these topics; nothing of a partition where nothing does, or where it cannot be told. Blocks, and
/// joins no group.
///
/// # Errors
/// The brokers do not answer.
pub fn backlog(
    settings: &Settings,
    topics: &[impl AsRef<str>],
) -> Result<HashMap<Partition, Waiting>, KafkaError> {
    let reader = reader(settings)?;
    let mut found = HashMap::new();
    for topic in topics.iter().map(AsRef::as_ref) {
        let unread = unread(&reader, topic)?;
        let times = first_times(&reader, topic, &unread)?;
        found.extend(times.into_iter().filter_map(|(number, oldest_ms)| {
            let (_, lag) = *unread.get(&number)?;
            let topic = topic.into();
            Some((Partition { topic, number }, Waiting { lag, oldest_ms }))
        }));
    }
    Ok(found)
}

/// By partition: the first offset that is unread and there, and how many there are from it on.
fn unread(
    reader: &BaseConsumer<Quiet>,
    topic: &str,
) -> Result<HashMap<i32, (i64, u64)>, KafkaError> {
    let metadata = reader.fetch_metadata(Some(topic), ASK)?;
    let mut list = TopicPartitionList::new();
    for known in metadata.topics().iter().flat_map(|it| it.partitions()) {
        list.add_partition(topic, known.id());
    }
    let mut unread = HashMap::new();
    for element in reader.committed_offsets(list, ASK)?.elements() {
        let number = element.partition();
        let (low, high) = watermarks(reader, topic, number)?;
        let from = match element.offset() {
            // One beyond the end is of a topic that was here before.
            Offset::Offset(next) if next <= high => next.max(low),
            _ => low,
        };
        let lag = u64::try_from(high - from).unwrap_or(0);
        if lag > 0 {
            unread.insert(number, (from, lag));
        }
    }
    Ok(unread)
}

/// Of one topic, because librdkafka names only the number of a partition that ends.
fn first_times(
    reader: &BaseConsumer<Quiet>,
    topic: &str,
    unread: &HashMap<i32, (i64, u64)>,
) -> Result<HashMap<i32, i64>, KafkaError> {
    let mut times = HashMap::new();
    let mut list = TopicPartitionList::new();
    for (number, (from, _)) in unread {
        list.add_partition_offset(topic, *number, Offset::Offset(*from))?;
    }
    reader.assign(&list)?;
    let mut open = unread.len();
    let until = Instant::now() + ASK;
    while open > 0 && Instant::now() < until {
        match reader.poll(POLL) {
            None => {}
            // Only what is no record, such as the end of a transaction.
            Some(Err(KafkaError::PartitionEOF(number))) if !times.contains_key(&number) => {
                open -= 1
            }
            Some(Err(error)) => debug!(%error, topic, "first record not read yet"),
            Some(Ok(record)) => {
                let number = record.partition();
                if let (false, Some(time)) =
                    (times.contains_key(&number), record.timestamp().to_millis())
                {
                    times.insert(number, time);
                    open -= 1;
                }
            }
        }
    }
    reader.unassign()?;
    // What it still had of this topic must not be taken for news of the next one.
    while reader.poll(Duration::ZERO).is_some() {}
    Ok(times)
}
