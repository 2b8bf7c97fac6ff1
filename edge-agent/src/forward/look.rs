//! What `check --online` asks of Kafka: whether the topics are there, and are what the agent needs.
//!
//! Everything here takes no more rights than sending does, but for a topic's settings, which are shown
//! where they may be seen. Whether we may write is not asked: Kafka only answers that to a record.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use protocol_host::remedy::{Grant, Resource, principal};
use rdkafka::{
    ClientContext,
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};
use tracing::debug;

use super::producer::settings_for_questions;
use crate::config;

/// How long an answer may take.
const ASK: Duration = Duration::from_secs(6);

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// There is one.
    There {
        /// How many partitions.
        partitions: usize,
        /// Kafka's settings by name; `None` when they may not be seen.
        settings: Option<BTreeMap<String, String>>,
    },
    /// There is none.
    Missing,
    /// We may not write there, else we could see it; the command that would allow it.
    Denied(String),
}

/// Kafka, as far as the agent has to do with it.
pub struct Look {
    consumer: BaseConsumer<Asking>,
    admin: AdminClient<Asking>,
    user: Option<String>,
}

/// Remembers what went wrong last: the errors of questions only say that no answer came.
#[derive(Default)]
struct Asking(Mutex<Option<String>>);

impl ClientContext for Asking {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        debug!(?level, fac, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // "All brokers are down" follows each of them and says nothing.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            let line = reason.lines().next().unwrap_or_default();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(line.to_owned());
        }
    }
}

impl ConsumerContext for Asking {}

impl Look {
    /// Makes the clients; nothing is asked yet.
    ///
    /// # Errors
    /// What librdkafka says against the settings.
    pub fn new(kafka: &config::Kafka) -> Result<Self, String> {
        let settings = settings_for_questions(kafka);
        let told = |error: KafkaError| error.to_string();
        Ok(Self {
            consumer: settings
                .create_with_context(Asking::default())
                .map_err(told)?,
            admin: settings
                .create_with_context(Asking::default())
                .map_err(told)?,
            user: principal(&kafka.client.properties),
        })
    }

    /// Looks at one topic. Blocks for at most some seconds.
    ///
    /// # Errors
    /// Why Kafka does not answer.
    pub async fn at(&self, topic: &str) -> Result<Seen, String> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(topic), ASK)
            .map_err(|error| self.reason(&error))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(Seen::Missing);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                return Ok(Seen::Missing);
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                return Ok(Seen::Denied(self.grant("Write", topic)));
            }
            Some(code) => return Err(code.to_string()),
        }
        Ok(Seen::There {
            partitions: found.partitions().len(),
            settings: self.settings(topic).await,
        })
    }

    /// A permission as the command that gives it.
    #[must_use]
    pub fn grant(&self, operation: &str, topic: &str) -> String {
        let user = self.user.as_deref();
        let grant = Grant {
            operation,
            on: Resource::Topic(topic),
            user,
        };
        grant.to_string()
    }

    fn reason(&self, error: &KafkaError) -> String {
        // What the client has to say is only said when it is polled; bounded, for it may repeat itself.
        for _ in 0..20 {
            if self.consumer.poll(Duration::from_millis(100)).is_none() {
                break;
            }
        }
        let reason = &self.consumer.context().0;
        let reason = reason.lock().unwrap_or_else(PoisonError::into_inner);
        reason.clone().unwrap_or_else(|| error.to_string())
    }

    async fn settings(&self, topic: &str) -> Option<BTreeMap<String, String>> {
        let options = AdminOptions::new().request_timeout(Some(ASK));
        let topic = ResourceSpecifier::Topic(topic);
        let mut described = self.admin.describe_configs([&topic], &options).await.ok()?;
        let entries = described.pop()?.ok()?.entries;
        // The binding passes the error of a single topic by; every topic that may be seen has settings.
        let settings: BTreeMap<String, String> = entries
            .into_iter()
            .filter_map(|entry| Some((entry.name, entry.value?)))
            .collect();
        (!settings.is_empty()).then_some(settings)
    }
}
