//! A topic read to its end, beside every group; and records sent back to where they died.

use std::{collections::HashSet, ops::ControlFlow, time::Duration};

use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::BorrowedMessage,
    producer::FutureRecord,
    topic_partition_list::Offset,
};

use super::{ConsumerError, Producer, Quiet, Settings, consumer::copy, consumer_config};
use crate::{dead_letter::Replay, message::Message};

const POLL: Duration = Duration::from_millis(200);
const ASK: Duration = Duration::from_secs(10);
/// Brokers that say nothing for so long are away.
const SILENCE: Duration = Duration::from_secs(30);

/// Shows the records of a topic to `visit`, in the order of each partition, until it breaks off or the
/// end of every partition is reached: those that Kafka stamped at `since_ms` (since 1970) or later, else
/// all. Joins no group and commits nothing. Blocks.
///
/// # Errors
/// No such topic, or no broker answers.
pub fn scan(
    settings: &Settings,
    topic: &str,
    since_ms: Option<i64>,
    mut visit: impl FnMut(Message) -> ControlFlow<()>,
) -> Result<(), ConsumerError> {
    let mut config = consumer_config(&settings.properties, &settings.group);
    config
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true");
    let consumer: BaseConsumer<Quiet> = config
        .create_with_context(Quiet)
        .map_err(ConsumerError::Settings)?;
    let metadata = consumer
        .fetch_metadata(Some(topic), ASK)
        .map_err(ConsumerError::Unreachable)?;
    let partitions: Vec<i32> = metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions().iter().map(|partition| partition.id()))
        .collect();
    if partitions.is_empty() {
        return Err(ConsumerError::NoTopic(topic.to_owned()));
    }
    let mut list = TopicPartitionList::new();
    let mut open = HashSet::new();
    for number in partitions {
        // Asked for times, the offset is a time.
        let start = since_ms.map_or(Offset::Beginning, Offset::Offset);
        list.add_partition_offset(topic, number, start)
            .map_err(ConsumerError::Settings)?;
        open.insert(number);
    }
    if since_ms.is_some() {
        let found = consumer.offsets_for_times(list, ASK);
        list = found.map_err(ConsumerError::Unreachable)?;
    }
    consumer.assign(&list).map_err(ConsumerError::Settings)?;
    let mut silent = Duration::ZERO;
    while !open.is_empty() {
        match consumer.poll(POLL) {
            Some(Ok(record)) => {
                silent = Duration::ZERO;
                if visit(whole(&record)).is_break() {
                    return Ok(());
                }
            }
            Some(Err(KafkaError::PartitionEOF(number))) => {
                open.remove(&number);
            }
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                return Err(ConsumerError::Fatal(error));
            }
            Some(Err(error)) if silent >= SILENCE => return Err(ConsumerError::Unreachable(error)),
            Some(Err(_)) => {}
            None if silent >= SILENCE => {
                let error = rdkafka::error::RDKafkaErrorCode::AllBrokersDown;
                return Err(ConsumerError::Unreachable(KafkaError::MetadataFetch(error)));
            }
            None => silent += POLL,
        }
    }
    Ok(())
}

fn whole(record: &BorrowedMessage<'_>) -> Message {
    copy(record, record.topic().into())
}

impl Producer {
    /// Sends a record back to the partition where it died first; returns when the brokers have it.
    ///
    /// # Errors
    /// Why they have not.
    pub async fn replay(&self, letter: &Replay) -> Result<(), KafkaError> {
        let partition = &letter.origin.partition;
        let record = FutureRecord {
            topic: &partition.topic,
            partition: Some(partition.number),
            key: letter.message.key(),
            payload: letter.message.value(),
            // Of now: retention by the old one could take it at once.
            timestamp: None,
            headers: Some(super::producer::headers(
                letter.own_headers(),
                &letter.headers(),
            )),
        };
        match self.deliver(record).await {
            Ok(_) => Ok(()),
            Err((cause, _)) => Err(cause),
        }
    }
}
