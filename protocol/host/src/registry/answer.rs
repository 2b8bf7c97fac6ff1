//! What an answer means, and what can be done about it. Pure.

use serde_json::Value;

use crate::remedy;

/// Longest text of the registry's that is repeated, in bytes.
const MAX_SAID: usize = 500;

/// Why a question has no good answer. Whatever the registry says in it is its own text, bounded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing answers, or only to say that it cannot now.
    #[error("schema registry {url} does not answer: {reason}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// In one line.
        reason: String,
    },
    /// Not with this key.
    #[error("schema registry {url} does not let {user} do this: {said}")]
    Unauthorised {
        /// Where it is.
        url: String,
        /// The key's name, or `nobody`.
        user: String,
        /// What it says.
        said: String,
    },
    /// There is no such subject.
    #[error("the registry has no subject {subject}")]
    UnknownSubject {
        /// Its name.
        subject: String,
    },
    /// The subject is there, and does not hold the schema.
    #[error("subject {subject} does not hold this schema")]
    NotRegistered {
        /// Its name.
        subject: String,
    },
    /// There is no such schema.
    #[error("the registry has no schema with id {id}")]
    UnknownId {
        /// The number.
        id: u32,
    },
    /// The subject's level of compatibility forbids it.
    #[error("the registry refuses the schema in subject {subject} as incompatible: {said}")]
    Incompatible {
        /// Its name.
        subject: String,
        /// What it says.
        said: String,
    },
    /// It is no schema.
    #[error("the registry refuses the schema as invalid: {said}")]
    Invalid {
        /// What it says.
        said: String,
    },
    /// This is not how a registry answers.
    #[error("{url} answers like no schema registry, with status {status}: {said}")]
    Odd {
        /// Where it is.
        url: String,
        /// Of HTTP.
        status: u16,
        /// What it says.
        said: String,
    },
}

impl Error {
    /// Waiting may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Unreachable { reason, .. } => match remedy::of_certificate(reason) {
                Some((what, fix)) if remedy::is_about_ours(what) => {
                    format!("{fix} (registry.certificate, registry.key)")
                }
                Some((_, fix)) => format!("{fix} (registry.ca)"),
                None => "check schema.registry.url and the way to it".to_owned(),
            },
            Self::Unauthorised { .. } => "check basic.auth.user.info: a key of the Schema Registry, which is not the cluster's, \
                 and may read the subject (and write it, to register)"
                .to_owned(),
            Self::UnknownSubject { .. } | Self::NotRegistered { .. } => {
                "cloud-sink schema register, or registry.auto_register = true".to_owned()
            }
            Self::UnknownId { .. } => {
                "it was written with another registry, or deleted there for good".to_owned()
            }
            Self::Incompatible { .. } => {
                "cloud-sink schema diff shows what has changed; take it back, or write to another topic"
                    .to_owned()
            }
            Self::Invalid { .. } => "report it, with cloud-sink schema show".to_owned(),
            Self::Odd { .. } => "check schema.registry.url: Confluent's API is at its root, Apicurio's at /apis/ccompat/v7"
                .to_owned(),
        }
    }
}

/// What was asked about.
#[derive(Debug)]
pub enum Asked<'a> {
    /// A schema's number.
    Id(u32),
    /// A subject.
    Subject(&'a str),
}

/// The answer, or what it means that there is none.
pub fn judge(
    status: u16,
    body: &[u8],
    asked: &Asked<'_>,
    url: &str,
    user: Option<&str>,
) -> Result<Value, Error> {
    let text = String::from_utf8_lossy(body);
    let answer: Option<Value> = serde_json::from_str(&text).ok();
    let said = answer
        .as_ref()
        .and_then(|answer| answer["message"].as_str());
    let said = excerpt(said.unwrap_or(&text));
    let code = answer
        .as_ref()
        .and_then(|answer| answer["error_code"].as_u64());
    let url = url.to_owned();
    match (status, asked) {
        (200..300, _) => answer.ok_or(Error::Odd { url, status, said }),
        (401 | 403, _) => Err(Error::Unauthorised {
            url,
            user: user.unwrap_or("nobody").to_owned(),
            said: if said.is_empty() {
                format!("status {status}")
            } else {
                said
            },
        }),
        (404, Asked::Id(id)) if code == Some(40403) => Err(Error::UnknownId { id: *id }),
        (404, Asked::Subject(subject)) if code == Some(40403) => Err(Error::NotRegistered {
            subject: (*subject).to_owned(),
        }),
        // No such subject, no such version: a subject all of whose versions are deleted.
        (404, Asked::Subject(subject)) if matches!(code, Some(40401 | 40402)) => {
            Err(Error::UnknownSubject {
                subject: (*subject).to_owned(),
            })
        }
        (409, Asked::Subject(subject)) => Err(Error::Incompatible {
            subject: (*subject).to_owned(),
            said,
        }),
        (422, _) => Err(Error::Invalid { said }),
        (408 | 429 | 500.., _) => Err(Error::Unreachable {
            url,
            reason: format!("status {status} {said}"),
        }),
        _ => Err(Error::Odd { url, status, said }),
    }
}

/// The beginning of a text of the registry's, in one line.
#[must_use]
pub fn excerpt(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if line.len() + word.len() > MAX_SAID {
            let mut room = MAX_SAID.saturating_sub(line.len());
            while !word.is_char_boundary(room.min(word.len())) {
                room -= 1;
            }
            line.push_str(&word[..room.min(word.len())]);
            line.push('…');
            break;
        }
        line.push_str(word);
        line.push(' ');
    }
    line.trim_end().to_owned()
}

/// Why no answer came, without OpenSSL's file names.
pub fn transport(error: &ureq::Error) -> String {
    let text = error.to_string();
    match remedy::of_certificate(&text) {
        Some((what, _)) => what.to_owned(),
        None => excerpt(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str, asked: &Asked<'_>) -> Result<Value, Error> {
        judge(status, body.as_bytes(), asked, "https://r", Some("KEY"))
    }

    #[test]
    fn each_answer_is_told_by_what_can_be_done_about_it() {
        let error = |code: u32| format!(r#"{{"error_code":{code},"message":"said"}}"#);
        let (id, subject) = (Asked::Id(7), Asked::Subject("t-value"));
        for (status, body, asked, expected) in [
            (
                401,
                error(401),
                &id,
                "schema registry https://r does not let KEY do this: said",
            ),
            (
                403,
                String::new(),
                &id,
                "schema registry https://r does not let KEY do this: status 403",
            ),
            (
                404,
                error(40403),
                &id,
                "the registry has no schema with id 7",
            ),
            (
                404,
                error(40403),
                &subject,
                "subject t-value does not hold this schema",
            ),
            (
                404,
                error(40401),
                &subject,
                "the registry has no subject t-value",
            ),
            (
                404,
                error(40402),
                &subject,
                "the registry has no subject t-value",
            ),
            (
                404,
                "<html>\n not here </html>".to_owned(),
                &subject,
                "https://r answers like no schema registry, with status 404: <html> not here </html>",
            ),
            (
                409,
                error(409),
                &subject,
                "the registry refuses the schema in subject t-value as incompatible: said",
            ),
            (
                422,
                error(42201),
                &subject,
                "the registry refuses the schema as invalid: said",
            ),
            (
                429,
                error(429),
                &id,
                "schema registry https://r does not answer: status 429 said",
            ),
            (
                503,
                "busy".to_owned(),
                &id,
                "schema registry https://r does not answer: status 503 busy",
            ),
            (
                200,
                "[".to_owned(),
                &id,
                "https://r answers like no schema registry, with status 200: [",
            ),
        ] {
            let got = answer(status, &body, asked).unwrap_err();
            assert_eq!(got.to_string(), expected);
            assert_eq!(got.is_transient(), matches!(status, 429 | 503), "{got}");
            assert!(!got.remedy().is_empty());
        }
        assert_eq!(answer(200, r#"{"id":3}"#, &id).unwrap()["id"], 3);
    }

    #[test]
    fn what_the_registry_says_is_repeated_in_one_bounded_line() {
        assert_eq!(excerpt("a\n  b\tc "), "a b c");
        let long = excerpt(&"ä".repeat(4000));
        assert!(long.len() <= MAX_SAID + 3 && long.ends_with('…'), "{long}");
        let words = excerpt(&"word ".repeat(4000));
        assert!(words.len() <= MAX_SAID + 3, "{words}");
    }
}
