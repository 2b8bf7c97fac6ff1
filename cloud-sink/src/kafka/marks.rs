//! Whether a topic is the one its checkpoint was made of.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    topic_partition_list::Offset,
};

use super::{Quiet, Settings, consumer_config};
use crate::{
    checkpoint::{Mark, Taken},
    message::Partition,
};

/// One question, or all records together.
const ASK: Duration = Duration::from_secs(10);

/// The partitions whose topic was made anew, with the earliest offset there is now. A topic is another
/// one if it ends before the checkpoint, or if it has another record where the mark was. A mark that
/// retention or compaction has removed proves nothing, and the topic counts as the same. Blocks.
///
/// # Errors
/// The brokers do not answer.
pub(super) fn remade(
    settings: &Settings,
    taken: &[Taken],
) -> Result<HashMap<Partition, i64>, KafkaError> {
    let mut remade = HashMap::new();
    if taken.iter().all(|taken| taken.next.is_none()) {
        return Ok(remade);
    }
    // A reader of its own, outside of the group: it never subscribes and never commits.
    let reader: BaseConsumer<Quiet> = consumer_config(&settings.properties, &settings.group)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create_with_context(Quiet)?;
    let mut list = TopicPartitionList::new();
    let mut waiting: HashMap<Partition, (Mark, i64)> = HashMap::new();
    for Taken {
        partition,
        next,
        mark,
        ..
    } in taken
    {
        let Some(next) = *next else { continue };
        let (low, high) = reader.fetch_watermarks(&partition.topic, partition.number, ASK)?;
        match *mark {
            _ if high < next => {
                remade.insert(partition.clone(), low);
            }
            Some(mark) if mark.offset >= low => {
                let at = Offset::Offset(mark.offset);
                list.add_partition_offset(&partition.topic, partition.number, at)?;
                waiting.insert(partition.clone(), (mark, low));
            }
            _ => {}
        }
    }
    reader.assign(&list)?;
    let until = Instant::now() + ASK;
    while !waiting.is_empty() {
        if Instant::now() > until {
            return Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::OperationTimedOut,
            ));
        }
        match reader.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(number))) => {
                // The mark and all after it are gone. It does not name the topic: another of the same
                // number that is still to be read is then taken for the same, as without a mark.
                waiting.retain(|partition, _| partition.number != number);
            }
            Some(Err(error)) => return Err(error),
            Some(Ok(record)) => {
                let partition = Partition {
                    topic: record.topic().into(),
                    number: record.partition(),
                };
                let Some((mark, low)) = waiting.remove(&partition) else {
                    continue;
                };
                let timestamp = record.timestamp().to_millis();
                let found = Mark::new(record.offset(), timestamp, record.key(), record.payload());
                if found.offset == mark.offset && found != mark {
                    remade.insert(partition, low);
                }
            }
        }
    }
    Ok(remade)
}
