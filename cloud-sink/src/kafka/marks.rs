//! Whether a topic is the one its checkpoint was made of.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    topic_partition_list::Offset,
};
use tracing::debug;

use super::{Quiet, Settings, consumer_config, watermarks::watermarks};
use crate::{
    checkpoint::{Found, Gap, Mark, Taken},
    message::Partition,
};

/// One question, or all records of a topic together.
const ASK: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

type Reader = BaseConsumer<Quiet>;

/// Looks at marks again and again, with connections of its own that it keeps.
pub struct Witness {
    settings: Settings,
    reader: Mutex<Option<Reader>>,
}

impl Witness {
    /// Connects with the first look.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            reader: Mutex::default(),
        }
    }

    /// What lies where these marks were; those of which it cannot be told now are left out. Blocks.
    pub fn look(&self, marks: &[(Partition, Mark)]) -> HashMap<Partition, Found> {
        let mut kept = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = kept.take().map_or_else(|| reader(&self.settings), Ok);
        let found = reader.and_then(|reader| Ok((look(&reader, marks)?, reader)));
        match found {
            Ok((found, reader)) => {
                // A client may hold on to what it once knew of a topic: without every answer the next look
                // begins with a new one.
                *kept = (found.len() == marks.len()).then_some(reader);
                found
            }
            Err(error) => {
                debug!(%error, "marks not looked at");
                HashMap::new()
            }
        }
    }
}

/// The partitions whose topic was made anew, with where the former life had come to and the earliest offset
/// there is now. Blocks.
///
/// # Errors
/// The brokers do not answer.
pub(super) fn remade(
    settings: &Settings,
    taken: &[Taken],
) -> Result<HashMap<Partition, Gap>, KafkaError> {
    let mut remade = HashMap::new();
    if taken.iter().all(|taken| taken.next.is_none()) {
        return Ok(remade);
    }
    let reader = reader(settings)?;
    let mut marks = Vec::new();
    let mut lows = HashMap::new();
    for Taken {
        partition,
        next,
        mark,
        ..
    } in taken
    {
        let Some(next) = *next else { continue };
        let (low, high) = watermarks(&reader, &partition.topic, partition.number)?;
        let read_to = mark.map_or(next, |mark| next.max(mark.offset + 1));
        match *mark {
            _ if high < read_to => {
                let gap = Gap {
                    from: read_to,
                    to: low,
                };
                remade.insert(partition.clone(), gap);
            }
            Some(mark) if mark.offset >= low => {
                marks.push((partition.clone(), mark));
                lows.insert(partition.clone(), low);
            }
            _ => {}
        }
    }
    let found = look(&reader, &marks)?;
    if found.len() < marks.len() {
        return Err(KafkaError::MessageConsumption(
            RDKafkaErrorCode::OperationTimedOut,
        ));
    }
    for (partition, mark) in marks {
        if found.get(&partition) == Some(&Found::Another)
            && let Some(&to) = lows.get(&partition)
        {
            let from = mark.offset + 1;
            remade.insert(partition, Gap { from, to });
        }
    }
    Ok(remade)
}

/// A reader outside of the group: it never subscribes and never commits, and fetches no more than one batch
/// of a partition.
pub(super) fn reader(settings: &Settings) -> Result<Reader, KafkaError> {
    consumer_config(&settings.properties, &settings.group)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        // Where the topic ends before a mark, its first record says so.
        .set("auto.offset.reset", "earliest")
        .set("fetch.message.max.bytes", "1")
        .set("queued.min.messages", "1")
        .set("statistics.interval.ms", "0")
        .create_with_context(Quiet)
}

/// Topic by topic, because librdkafka names only the number of a partition that ends.
fn look(
    reader: &Reader,
    marks: &[(Partition, Mark)],
) -> Result<HashMap<Partition, Found>, KafkaError> {
    let mut topics: BTreeMap<&str, HashMap<i32, Mark>> = BTreeMap::new();
    for (partition, mark) in marks {
        let topic = topics.entry(&partition.topic).or_default();
        topic.insert(partition.number, *mark);
    }
    let mut found = HashMap::new();
    for (topic, mut open) in topics {
        let mut list = TopicPartitionList::new();
        for (number, mark) in &open {
            list.add_partition_offset(topic, *number, Offset::Offset(mark.offset))?;
        }
        let partition = |number| Partition {
            topic: topic.into(),
            number,
        };
        reader.assign(&list)?;
        let until = Instant::now() + ASK;
        while !open.is_empty() && Instant::now() < until {
            match reader.poll(POLL) {
                None => {}
                // The mark and all after it are gone.
                Some(Err(KafkaError::PartitionEOF(number))) => {
                    let asked = open.remove(&number);
                    found.extend(asked.map(|_| (partition(number), Found::Gone)));
                }
                Some(Err(error)) => debug!(%error, topic, "mark not read yet"),
                Some(Ok(record)) => {
                    let number = record.partition();
                    if let Some(mark) = open.remove(&number) {
                        let timestamp = record.timestamp().to_millis();
                        let (key, value) = (record.key(), record.payload());
                        let there = Mark::new(record.offset(), timestamp, key, value);
                        found.insert(partition(number), Found::at(mark, there));
                    }
                }
            }
        }
        reader.unassign()?;
        // What it still had of this topic must not be taken for news of the next one.
        while reader.poll(Duration::ZERO).is_some() {}
    }
    Ok(found)
}
