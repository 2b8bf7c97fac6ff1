//! A topic read to its end, beside every group; and records sent back to where they died.

use std::{collections::HashSet, ops::ControlFlow, time::Duration};

use protocol_host::remedy::{Grant, Resource, principal};
use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
    producer::FutureRecord,
    topic_partition_list::Offset,
};

use super::{
    ConsumerError, Producer, Settings,
    asking::{Asking, metadata, told},
    consumer::copy,
    consumer_config, plain_config,
};
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
/// No such topic, it may not be read, or no broker answers.
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
    let consumer: BaseConsumer<Asking> = config
        .create_with_context(Asking::default())
        .map_err(ConsumerError::Settings)?;
    let partitions = partitions(&consumer, settings, topic)?;
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
        list = found.map_err(|error| unreachable(&consumer, error.to_string()))?;
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
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::TopicAuthorizationFailed,
            ))) => return Err(may_not_read(settings, topic)),
            Some(Err(_)) => {}
            None if silent >= SILENCE => {
                let silence = format!("no answer within {SILENCE:?}");
                return Err(unreachable(&consumer, silence));
            }
            None => silent += POLL,
        }
    }
    Ok(())
}

/// The partitions of a topic.
fn partitions(
    consumer: &BaseConsumer<Asking>,
    settings: &Settings,
    topic: &str,
) -> Result<Vec<i32>, ConsumerError> {
    let metadata = metadata(consumer, topic).map_err(ConsumerError::Unreachable)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let refused = found.and_then(|found| found.error().map(RDKafkaErrorCode::from));
    if refused == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
        return Err(may_not_read(settings, topic));
    }
    let partitions = found.into_iter().flat_map(|found| found.partitions());
    let partitions: Vec<i32> = partitions.map(|partition| partition.id()).collect();
    if partitions.is_empty() {
        return Err(ConsumerError::NoTopic(topic.to_owned()));
    }
    Ok(partitions)
}

/// Whether brokers answer these settings. Blocks.
///
/// # Errors
/// Why they do not.
pub fn answers(settings: &Settings) -> Result<(), ConsumerError> {
    let consumer: BaseConsumer<Asking> = plain_config(&settings.properties)
        .set("group.id", &settings.group)
        .create_with_context(Asking::default())
        .map_err(ConsumerError::Settings)?;
    let metadata = metadata(&consumer, &settings.dead_letter_topic);
    metadata.map(drop).map_err(ConsumerError::Unreachable)
}

fn unreachable(consumer: &BaseConsumer<Asking>, otherwise: String) -> ConsumerError {
    ConsumerError::Unreachable(told(consumer).map_or(otherwise, |(_, reason)| reason))
}

fn may_not_read(settings: &Settings, topic: &str) -> ConsumerError {
    denied(principal(&settings.properties).as_deref(), "Read", topic)
}

fn denied(user: Option<&str>, operation: &str, topic: &str) -> ConsumerError {
    let grant = Grant {
        operation,
        on: Resource::Topic(topic),
        user,
    };
    ConsumerError::Denied {
        grant: grant.to_string(),
    }
}

fn whole(record: &BorrowedMessage<'_>) -> Message {
    copy(record, record.topic().into())
}

impl Producer {
    /// Sends a record back to the partition where it died first; returns when the brokers have it.
    ///
    /// # Errors
    /// Why they have not.
    pub async fn replay(&self, letter: &Replay) -> Result<(), ConsumerError> {
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
            Err((cause, _))
                if cause.rdkafka_error_code()
                    == Some(RDKafkaErrorCode::TopicAuthorizationFailed) =>
            {
                Err(denied(self.user(), "Write", &partition.topic))
            }
            Err((cause, _)) => Err(ConsumerError::NotSent(cause)),
        }
    }
}
