//! What the brokers say of the topics' settings.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    error::KafkaError,
};

use super::{Quiet, Settings, producer_config};
use crate::unread::Retention;

/// Longest wait for the brokers.
const ASK: Duration = Duration::from_secs(10);

/// Asks for settings of topics.
pub struct Topics {
    admin: AdminClient<Quiet>,
    topics: Vec<Arc<str>>,
}

/// What is known of the topics' retention.
#[derive(Debug, Default)]
pub struct Retentions {
    /// By topic.
    pub known: HashMap<Arc<str>, Retention>,
    /// Topics that keep a limited number of bytes, so that time alone does not tell.
    pub by_size: Vec<Arc<str>>,
    /// Topics the brokers do not tell about, with the reason.
    pub unknown: Vec<(Arc<str>, String)>,
}

impl Topics {
    /// Connects when it is first asked.
    ///
    /// # Errors
    /// Settings that librdkafka refuses.
    pub fn new(settings: &Settings) -> Result<Self, super::ConsumerError> {
        let admin = producer_config(&settings.properties)
            .create_with_context(Quiet)
            .map_err(super::ConsumerError::Settings)?;
        let topics = settings.topics.iter().map(|topic| Arc::from(&**topic));
        Ok(Self {
            admin,
            topics: topics.collect(),
        })
    }

    /// How long each consumed topic keeps its records.
    ///
    /// # Errors
    /// When no broker answers; a topic that cannot be described is none.
    pub async fn retentions(&self) -> Result<Retentions, KafkaError> {
        let options = AdminOptions::new().request_timeout(Some(ASK));
        let asked: Vec<_> = self
            .topics
            .iter()
            .map(|topic| ResourceSpecifier::Topic(topic))
            .collect();
        let answers = self.admin.describe_configs(&asked, &options).await?;
        let mut retentions = Retentions::default();
        for (topic, answer) in self.topics.iter().zip(answers) {
            let resource = match answer {
                Ok(resource) => resource,
                Err(code) => {
                    retentions.unknown.push((topic.clone(), code.to_string()));
                    continue;
                }
            };
            let setting = |name| resource.get(name).and_then(|entry| entry.value.as_deref());
            let policy = setting("cleanup.policy").unwrap_or("delete");
            match setting("retention.ms").and_then(|ms| Retention::of(policy, ms)) {
                Some(retention) => {
                    retentions.known.insert(topic.clone(), retention);
                }
                None => {
                    let why = "there is no such topic, or it may not be described: cloud-sink check --online says which";
                    retentions.unknown.push((topic.clone(), why.to_owned()));
                }
            }
            let bytes = setting("retention.bytes").and_then(|bytes| bytes.parse::<i64>().ok());
            if policy.contains("delete") && bytes.is_some_and(|bytes| bytes >= 0) {
                retentions.by_size.push(topic.clone());
            }
        }
        Ok(retentions)
    }
}
