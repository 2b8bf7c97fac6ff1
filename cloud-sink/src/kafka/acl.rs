//! What somebody with the right to do so has to allow, in the words of their tools.

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
