//! What somebody with the right to do so has to allow, in the words of their tools.

use std::fmt;

/// A permission that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant<'a> {
    /// `Write` or `DescribeConfigs`.
    pub operation: &'a str,
    /// On which topic.
    pub topic: &'a str,
    /// Who asks: the user or key of `sasl.username`, where there is one.
    pub user: Option<&'a str>,
}

impl fmt::Display for Grant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operation, topic, ..
        } = self;
        let user = self.user.unwrap_or("ANONYMOUS");
        // Confluent's command line writes its words with hyphens.
        let hyphened = match *operation {
            "DescribeConfigs" => "describe-configs".to_owned(),
            other => other.to_lowercase(),
        };
        write!(
            f,
            "kafka-acls --add --allow-principal User:{user} --operation {operation} --topic {topic}; on Confluent Cloud: \
             confluent kafka acl create --allow --service-account ACCOUNT --operations {hyphened} --topic {topic}"
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
            topic: "readings",
            user: Some("KEY"),
        };
        assert_eq!(
            grant.to_string(),
            "kafka-acls --add --allow-principal User:KEY --operation DescribeConfigs --topic readings; on Confluent Cloud: \
             confluent kafka acl create --allow --service-account ACCOUNT --operations describe-configs --topic readings"
        );
        let grant = Grant {
            operation: "Write",
            topic: "readings",
            user: None,
        };
        let said = grant.to_string();
        assert!(
            said.contains("User:ANONYMOUS --operation Write --topic readings"),
            "{said}"
        );
    }
}
