//! Writes dead letters.

use std::time::Duration;

use protocol_host::remedy::principal;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, future_producer::OwnedDeliveryResult},
    util::Timeout,
};

use super::{Quiet, Settings, producer_config};
use crate::dead_letter::DeadLetter;

/// Why a dead letter is not written yet. The record stays where it is, and its partition waits.
#[derive(Debug, thiserror::Error)]
#[error("dead letter not written to {topic}: {cause}")]
pub struct DeadLetterError {
    topic: String,
    cause: KafkaError,
}

impl DeadLetterError {
    /// No try will help: the topic takes no record of this size. (Of a batch, perhaps of another's.)
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        let code = self.cause.rdkafka_error_code();
        code == Some(RDKafkaErrorCode::MessageSizeTooLarge)
            || code == Some(RDKafkaErrorCode::MessageBatchTooLarge)
    }

    /// What a person can do about it.
    #[must_use]
    pub fn fix(&self) -> &'static str {
        match self.cause.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition,
            ) => "create the topic kafka.dead_letter_topic names",
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed,
            ) => "allow the sink to write to kafka.dead_letter_topic",
            _ => "see to the brokers, and that kafka.dead_letter_topic exists",
        }
    }
}

/// Writes to the dead-letter topic.
pub struct Producer {
    producer: FutureProducer<Quiet>,
    topic: String,
    user: Option<String>,
}

impl Producer {
    /// Makes the producer; connects when it is first used.
    ///
    /// # Errors
    /// Settings that librdkafka refuses.
    pub fn new(settings: &Settings) -> Result<Self, super::ConsumerError> {
        let producer = producer_config(&settings.properties)
            .create_with_context(Quiet)
            .map_err(super::ConsumerError::Settings)?;
        Ok(Self {
            producer,
            topic: settings.dead_letter_topic.clone(),
            user: principal(&settings.properties),
        })
    }

    /// Who it is to Kafka, where it is somebody.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Returns when the brokers have it, with all acknowledgements.
    ///
    /// # Errors
    /// After some seconds; the caller tries again.
    pub async fn send(&self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        let record = FutureRecord {
            topic: &self.topic,
            partition: None,
            key: letter.message.key(),
            payload: letter.message.value(),
            timestamp: None,
            headers: Some(headers(letter.message.headers(), &letter.headers())),
        };
        match self.deliver(record).await {
            Ok(_) => Ok(()),
            Err((cause, _)) => Err(DeadLetterError {
                topic: self.topic.clone(),
                cause,
            }),
        }
    }

    pub(super) async fn deliver(
        &self,
        record: FutureRecord<'_, [u8], [u8]>,
    ) -> OwnedDeliveryResult {
        // Zero: a full queue is an answer too, the caller waits and tries again.
        let no_wait = Timeout::After(Duration::ZERO);
        self.producer.send(record, no_wait).await
    }
}

/// The record's own headers, and what is added.
pub(super) fn headers<'a>(
    own: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    added: &[(&'static str, String)],
) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new();
    for (key, value) in own {
        headers = headers.insert(Header { key, value });
    }
    for (key, value) in added {
        let value = Some(value.as_bytes());
        headers = headers.insert(Header { key, value });
    }
    headers
}
