//! What to do about what Kafka refuses, in the words of the tools of somebody with the right to do so.

use std::fmt;

/// A permission that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant<'a> {
    /// `Read`, `Write`, `Create`, `Alter`, `AlterConfigs`, `DescribeConfigs`.
    pub operation: &'a str,
    /// On what.
    pub on: Resource<'a>,
    /// Who asks: the user or key of `sasl.username`, where there is one.
    pub user: Option<&'a str>,
}

/// What is to be allowed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A topic.
    Topic(&'a str),
    /// A consumer group.
    Group(&'a str),
}

impl fmt::Display for Grant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self { operation, .. }, user) = (self, self.user.unwrap_or("ANONYMOUS"));
        let (kafkas, confluents, name) = match self.on {
            Resource::Topic(name) => ("--topic", "--topic", name),
            Resource::Group(name) => ("--group", "--consumer-group", name),
        };
        // Confluent's command line writes its words with hyphens.
        let hyphened = match *operation {
            "AlterConfigs" => "alter-configs".to_owned(),
            "DescribeConfigs" => "describe-configs".to_owned(),
            other => other.to_lowercase(),
        };
        write!(
            f,
            "kafka-acls --add --allow-principal User:{user} --operation {operation} {kafkas} {name}; on Confluent Cloud: \
             confluent kafka acl create --allow --service-account ACCOUNT --operations {hyphened} {confluents} {name}"
        )
    }
}

/// What to do about what librdkafka says of a connection.
#[must_use]
pub fn of_connection(reason: &str) -> &'static str {
    if reason.contains("certificate verify failed") {
        "the broker's certificate has expired, is of another host, or of an authority that ssl.ca.location does not have: \
         openssl s_client -connect HOST:PORT -verify_hostname HOST -CAfile CA.pem says which"
    } else if reason.to_lowercase().contains("authentication failed") {
        "check sasl.username and sasl.password: the key of the cluster, which is not that of the Schema Registry"
    } else {
        "check kafka.bootstrap and the way to the brokers"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_named_as_the_command_that_gives_it() {
        let grant = Grant {
            operation: "DescribeConfigs",
            on: Resource::Topic("readings"),
            user: Some("KEY"),
        };
        assert_eq!(
            grant.to_string(),
            "kafka-acls --add --allow-principal User:KEY --operation DescribeConfigs --topic readings; on Confluent Cloud: \
             confluent kafka acl create --allow --service-account ACCOUNT --operations describe-configs --topic readings"
        );
        let grant = Grant {
            operation: "Read",
            on: Resource::Group("cloud-sink"),
            user: None,
        };
        let said = grant.to_string();
        assert!(
            said.contains("User:ANONYMOUS --operation Read --group cloud-sink"),
            "{said}"
        );
        assert!(
            said.ends_with("--operations read --consumer-group cloud-sink"),
            "{said}"
        );
    }
}
