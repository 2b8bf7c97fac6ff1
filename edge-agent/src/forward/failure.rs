//! What Kafka's errors ask for.
//!
//! Only size is a fault of the record itself. Every other refusal is a fault of the settings around it,
//! which people put right: until then everything is held and nothing dropped. What is not known passes.

use protocol_host::remedy::{Grant, Resource};
use rdkafka::error::RDKafkaErrorCode;

/// Why a record did not get into Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The producer has ended, or purged the record because it has: a consequence, whose cause is about
    /// to be reported for another record.
    Ended,
    /// Something that passes.
    Broken,
    /// Its batch is larger than the topic takes.
    TooLarge,
    /// We may not, or there is no such topic: somebody has to change something.
    Denied,
}

impl Failure {
    /// What an error code asks for.
    pub fn of(code: RDKafkaErrorCode) -> Self {
        use RDKafkaErrorCode as E;
        match code {
            E::MessageSizeTooLarge | E::InvalidMessageSize | E::MessageBatchTooLarge => {
                Failure::TooLarge
            }
            E::TopicAuthorizationFailed
            | E::ClusterAuthorizationFailed
            | E::SaslAuthenticationFailed
            | E::Authentication
            | E::UnknownTopic
            | E::UnknownTopicOrPartition
            | E::UnknownPartition
            | E::InvalidTopic
            | E::InvalidRecord
            | E::InvalidTimestamp
            | E::PolicyViolation
            | E::UnsupportedForMessageFormat
            | E::UnsupportedCompressionType
            | E::InvalidRequiredAcks => Failure::Denied,
            E::Fatal | E::GaplessGuarantee | E::PurgeQueue | E::PurgeInflight => Failure::Ended,
            _ => Failure::Broken,
        }
    }
}

/// The error of a record for this topic for people, with the remedy where it is theirs.
pub fn told(code: RDKafkaErrorCode, topic: &str, user: Option<&str>) -> String {
    use RDKafkaErrorCode as E;
    let remedy = match code {
        E::UnknownTopic | E::UnknownTopicOrPartition | E::UnknownPartition => {
            ": create the topic (cloud-sink topics apply), the agent never does"
        }
        E::TopicAuthorizationFailed | E::ClusterAuthorizationFailed => {
            let operation = "Write";
            let grant = Grant {
                operation,
                on: Resource::Topic(topic),
                user,
            };
            return format!("{code}: {grant}");
        }
        E::SaslAuthenticationFailed | E::Authentication => {
            ": check the agent's user and password or key"
        }
        E::InvalidTimestamp => ": check the gateway's clock",
        E::MessageSizeTooLarge | E::MessageBatchTooLarge => ": raise the topic's max.message.bytes",
        _ => "",
    };
    format!("{code}{remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_size_or_a_matter_for_people_or_a_consequence_or_passes() {
        use RDKafkaErrorCode as E;
        for (code, failure) in [
            (E::MessageSizeTooLarge, Failure::TooLarge),
            (E::MessageBatchTooLarge, Failure::TooLarge),
            (E::TopicAuthorizationFailed, Failure::Denied),
            (E::UnknownTopic, Failure::Denied),
            (E::InvalidRecord, Failure::Denied),
            (E::PurgeQueue, Failure::Ended),
            (E::PurgeInflight, Failure::Ended),
            (E::Fatal, Failure::Ended),
            (E::GaplessGuarantee, Failure::Ended),
            (E::OutOfOrderSequenceNumber, Failure::Broken),
            (E::MessageTimedOut, Failure::Broken),
            (E::NotEnoughReplicas, Failure::Broken),
            (E::Unknown, Failure::Broken),
        ] {
            assert_eq!(Failure::of(code), failure, "{code:?}");
        }
    }
}
