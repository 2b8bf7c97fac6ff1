//! Writes dead letters.

use rdkafka::{
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
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

/// Writes to the dead-letter topic.
pub struct Producer {
    producer: FutureProducer<Quiet>,
    topic: String,
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
        })
    }

    /// Returns when the brokers have it, with all acknowledgements.
    ///
    /// # Errors
    /// After some seconds; the caller tries again.
    pub async fn send(&self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        let mut headers = OwnedHeaders::new();
        for (key, value) in letter.message.headers() {
            headers = headers.insert(Header { key, value });
        }
        for (key, value) in letter.headers() {
            let value = Some(value.as_bytes());
            headers = headers.insert(Header { key, value });
        }
        let record = FutureRecord {
            topic: &self.topic,
            partition: None,
            key: letter.message.key(),
            payload: letter.message.value(),
            timestamp: None,
            headers: Some(headers),
        };
        // Zero: a full queue is an answer too, the caller waits and tries again.
        match self
            .producer
            .send(record, Timeout::After(std::time::Duration::ZERO))
            .await
        {
            Ok(_) => Ok(()),
            Err((cause, _)) => Err(DeadLetterError {
                topic: self.topic.clone(),
                cause,
            }),
        }
    }
}
