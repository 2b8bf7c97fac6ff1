//! A client that asks, and knows why it gets no answer.
//!
//! The errors of librdkafka's questions only say that no answer came. Why not (nobody listens, a certificate is over,
//! a key is wrong) it tells beside them, with the broker's address, to whoever polls.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::Metadata,
};
use tracing::debug;

/// How long brokers may be silent at first: with TLS, over a slow link, a connection takes seconds.
const PATIENCE: Duration = Duration::from_secs(9);
/// Where they were heard to refuse, it is not awaited: time for several tries, of each of several brokers.
const REFUSED: Duration = Duration::from_secs(3);

/// Remembers what went wrong last.
#[derive(Default)]
pub(super) struct Asking(Mutex<Option<(RDKafkaErrorCode, String)>>);

impl ClientContext for Asking {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka");
        let code = error.rdkafka_error_code();
        let code = code.unwrap_or(RDKafkaErrorCode::Unknown);
        // The first follows each of the others and says nothing, the second is no error.
        if !matches!(
            code,
            RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::PartitionEOF
        ) {
            let line = reason.lines().next().unwrap_or_default().to_owned();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((code, line));
        }
    }
}

impl ConsumerContext for Asking {}

/// What a client had to say last.
pub(super) fn heard(consumer: &BaseConsumer<Asking>) -> Option<(RDKafkaErrorCode, String)> {
    // It is only said when it is polled; bounded, for it may repeat itself.
    for _ in 0..20 {
        if consumer.poll(Duration::from_millis(100)).is_none() {
            break;
        }
    }
    told(consumer)
}

/// The same of a client that is polled anyway.
pub(super) fn told(consumer: &BaseConsumer<Asking>) -> Option<(RDKafkaErrorCode, String)> {
    let told = &consumer.context().0;
    told.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// What the brokers say of a topic. For a client that is not assigned anything: what it polls is lost.
///
/// # Errors
/// Why they do not answer.
pub(super) fn metadata(consumer: &BaseConsumer<Asking>, topic: &str) -> Result<Metadata, String> {
    let since = Instant::now();
    loop {
        let error = match consumer.fetch_metadata(Some(topic), REFUSED) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        if let Some((_, reason)) = heard(consumer) {
            return Err(reason);
        }
        if since.elapsed() >= PATIENCE {
            return Err(format!("no answer within {PATIENCE:?}: {error}"));
        }
    }
}
