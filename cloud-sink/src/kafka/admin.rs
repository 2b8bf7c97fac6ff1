//! What the command line asks of Kafka, and changes there.
//!
//! Nothing here joins the group, moves an offset or writes a record.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use protocol_host::remedy::{Grant, Resource, principal};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic,
        ResourceSpecifier, TopicReplication,
    },
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{
    Settings,
    asking::{Asking, heard, metadata},
    plain_config,
    watermarks::watermarks,
};
use crate::topics::{Change, Found, Seen, Setting};

/// How long an answer may take.
const ASK: Duration = Duration::from_secs(6);
/// How long a look for the permission to read may take, where nothing is there to be read.
const LOOK: Duration = Duration::from_secs(3);

/// Why Kafka could not be asked or told.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No broker answers, or none will have us; with what librdkafka said of it.
    #[error("kafka does not answer: {0}")]
    Unreachable(String),
    /// A permission is missing.
    #[error("not allowed: {grant}")]
    Denied {
        /// Which.
        grant: String,
    },
    /// Kafka refuses it.
    #[error("kafka refuses: {0}")]
    Refused(KafkaErrorText),
}

/// An error of Kafka's as text.
pub type KafkaErrorText = String;

/// Kafka, as seen by an operator.
pub struct Admin {
    client: AdminClient<Asking>,
    consumer: BaseConsumer<Asking>,
    user: Option<String>,
}

impl Admin {
    /// Makes the clients; nothing is asked yet. Blocks, as all methods do.
    ///
    /// # Errors
    /// Settings that librdkafka refuses.
    pub fn new(settings: &Settings) -> Result<Self, AdminError> {
        let refused = |error: KafkaError| AdminError::Refused(error.to_string());
        let mut config: ClientConfig = plain_config(&settings.properties);
        let client = config
            .create_with_context(Asking::default())
            .map_err(refused)?;
        config
            .set("group.id", &settings.group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("allow.auto.create.topics", "false")
            .set("fetch.wait.max.ms", "100");
        let consumer = config
            .create_with_context(Asking::default())
            .map_err(refused)?;
        Ok(Self {
            client,
            consumer,
            user: principal(&settings.properties),
        })
    }

    /// Who may do what to what, as a command.
    #[must_use]
    pub fn grant(&self, operation: &str, on: Resource<'_>) -> String {
        let user = self.user.as_deref();
        Grant {
            operation,
            on,
            user,
        }
        .to_string()
    }

    fn failed(&self, error: &KafkaError) -> AdminError {
        let heard = heard(&self.consumer).map(|(_, reason)| reason);
        AdminError::Unreachable(heard.unwrap_or_else(|| error.to_string()))
    }

    /// What a topic is like.
    ///
    /// # Errors
    /// No answer.
    pub async fn look(&self, topic: &str) -> Result<Seen, AdminError> {
        let metadata = metadata(&self.consumer, topic).map_err(AdminError::Unreachable)?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(Seen::Missing);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                return Ok(Seen::Missing);
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => return Ok(Seen::Denied),
            Some(code) => return Err(AdminError::Refused(code.to_string())),
        }
        let partitions = found.partitions();
        Ok(Seen::There(Found {
            partitions: partitions.len(),
            replication: partitions.first().map_or(0, |first| first.replicas().len()),
            settings: self.settings(topic).await?,
        }))
    }

    /// A topic's settings; `None` when they may not be seen.
    async fn settings(&self, topic: &str) -> Result<Option<BTreeMap<String, Setting>>, AdminError> {
        let described = self
            .client
            .describe_configs([&ResourceSpecifier::Topic(topic)], &options())
            .await;
        let resource = match described.map(|mut all| all.pop()) {
            Ok(Some(Ok(resource))) => resource,
            Ok(_) => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
        };
        // The binding passes the error of a single topic by; every topic that may be seen has settings.
        if resource.entries.is_empty() {
            return Ok(None);
        }
        let entries = resource.entries.into_iter();
        Ok(Some(
            entries
                .filter_map(|entry| {
                    let setting = Setting {
                        value: entry.value?,
                        is_own: entry.source == ConfigSource::DynamicTopic,
                    };
                    Some((entry.name, setting))
                })
                .collect(),
        ))
    }

    /// Makes a change.
    ///
    /// # Errors
    /// What Kafka has against it.
    pub async fn make(&self, topic: &str, change: &Change) -> Result<(), AdminError> {
        let (operation, result) = match change {
            Change::Create {
                partitions,
                replication,
                settings,
            } => {
                let copies = TopicReplication::Fixed(replication.map_or(-1, i32::from));
                let new = NewTopic::new(topic, i32::from(*partitions), copies);
                let new = settings
                    .iter()
                    .fold(new, |new, (name, value)| new.set(name, value));
                let made = self.client.create_topics([&new], &options()).await;
                ("Create", made.map(first_error))
            }
            Change::Set { all, .. } => {
                let altered = AlterConfig::new(ResourceSpecifier::Topic(topic));
                let altered = all
                    .iter()
                    .fold(altered, |altered, (name, value)| altered.set(name, value));
                let made = self.client.alter_configs([&altered], &options()).await;
                ("AlterConfigs", made.map(first_error))
            }
            Change::Partitions { to, .. } => {
                let more = NewPartitions::new(topic, usize::from(*to));
                let made = self.client.create_partitions([&more], &options()).await;
                ("Alter", made.map(first_error))
            }
        };
        match result {
            Ok(None) => Ok(()),
            Ok(Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed,
            )) => Err(AdminError::Denied {
                grant: self.grant(operation, Resource::Topic(topic)),
            }),
            Ok(Some(code)) => Err(AdminError::Refused(code.to_string())),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Whether records may be read: looks at the end of a partition without moving anything.
    ///
    /// # Errors
    /// [`AdminError::Denied`], or no answer.
    pub fn may_read(&self, topic: &str) -> Result<(), AdminError> {
        let mut end = TopicPartitionList::new();
        let asked = end
            .add_partition_offset(topic, 0, Offset::End)
            .and_then(|()| self.consumer.assign(&end));
        asked.map_err(|error| AdminError::Refused(error.to_string()))?;
        let until = Instant::now() + LOOK;
        let mut result = Ok(());
        while Instant::now() < until {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::TopicAuthorizationFailed,
                ))) => {
                    let grant = self.grant("Read", Resource::Topic(topic));
                    result = Err(AdminError::Denied { grant });
                    break;
                }
                // A record or the end: both take permission.
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(_)) | None => {}
            }
        }
        drop(self.consumer.unassign());
        result
    }

    /// Whether the group may be joined; and by partition of a topic, the next record it wants.
    ///
    /// # Errors
    /// [`AdminError::Denied`], or no answer.
    pub fn committed(
        &self,
        group: &str,
        topic: &str,
        partitions: usize,
    ) -> Result<Vec<Option<i64>>, AdminError> {
        let mut list = TopicPartitionList::new();
        for number in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
            list.add_partition(topic, number);
        }
        match self.consumer.committed_offsets(list, ASK) {
            Ok(committed) => Ok(committed
                .elements()
                .iter()
                .map(|element| element.offset().to_raw().filter(|offset| *offset >= 0))
                .collect()),
            // Without the permission no coordinator is found, so the question itself only times out.
            Err(error) => match heard(&self.consumer) {
                Some((RDKafkaErrorCode::GroupAuthorizationFailed, _)) => {
                    let grant = self.grant("Read", Resource::Group(group));
                    Err(AdminError::Denied { grant })
                }
                Some((_, reason)) => Err(AdminError::Unreachable(reason)),
                None => Err(AdminError::Unreachable(error.to_string())),
            },
        }
    }

    /// By partition: the first record not older than `since_ms`, and the earliest there is.
    ///
    /// # Errors
    /// No answer.
    pub fn first_since(
        &self,
        topic: &str,
        partitions: usize,
        since_ms: i64,
    ) -> Result<Vec<(i64, i64)>, AdminError> {
        let mut times = TopicPartitionList::new();
        for number in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
            let added = times.add_partition_offset(topic, number, Offset::Offset(since_ms));
            added.map_err(|error| AdminError::Refused(error.to_string()))?;
        }
        let found = self
            .consumer
            .offsets_for_times(times, ASK)
            .map_err(|error| self.failed(&error))?;
        found
            .elements()
            .iter()
            .map(|element| {
                let marks = watermarks(&self.consumer, topic, element.partition());
                let (low, high) = marks.map_err(|error| self.failed(&error))?;
                // Where all are older there is none, which is the end.
                let since = element.offset().to_raw().filter(|offset| *offset >= 0);
                Ok((since.unwrap_or(high), low))
            })
            .collect()
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ASK))
        .operation_timeout(Some(ASK))
}

fn first_error<T, N>(results: Vec<Result<T, (N, RDKafkaErrorCode)>>) -> Option<RDKafkaErrorCode> {
    results
        .into_iter()
        .find_map(Result::err)
        .map(|(_, code)| code)
}
