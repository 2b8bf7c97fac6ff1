//! Where a partition begins and ends.
//!
//! Not the plain call of librdkafka: that asks for both ends at once, and where one of the two questions alone
//! fails it takes the answer of the other for both (`rd_kafka_query_watermark_offsets`, 2.12). Everything from
//! the beginning to the end would look expired, and be passed over unread. A partition that seems to be empty is
//! therefore asked for each end by itself.

use std::time::Duration;

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode,
};

/// How long an answer may take.
const ASK: Duration = Duration::from_secs(10);

/// The first offset there is, and the next one to be written.
///
/// # Errors
/// One of the two is not known.
pub(super) fn watermarks<C: ConsumerContext>(
    reader: &impl Consumer<C>,
    topic: &str,
    partition: i32,
) -> KafkaResult<(i64, i64)> {
    let (low, high) = reader.fetch_watermarks(topic, partition, ASK)?;
    if low < high {
        return Ok((low, high));
    }
    let low = end(reader, topic, partition, Offset::Beginning)?;
    let high = end(reader, topic, partition, Offset::End)?;
    Ok((low, high))
}

fn end<C: ConsumerContext>(
    reader: &impl Consumer<C>,
    topic: &str,
    partition: i32,
    which: Offset,
) -> KafkaResult<i64> {
    let mut question = TopicPartitionList::new();
    question.add_partition_offset(topic, partition, which)?;
    let answer = reader.offsets_for_times(question, ASK)?;
    for element in answer.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            return Ok(offset);
        }
    }
    Err(KafkaError::OffsetFetch(
        RDKafkaErrorCode::OffsetNotAvailable,
    ))
}
