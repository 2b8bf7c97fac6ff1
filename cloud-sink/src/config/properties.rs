//! `client.properties`, as Confluent's console hands it out for librdkafka: `name=value` lines.
//!
//! Not the whole of Java's properties format (escapes, continued lines): no such file holds any, and a
//! value is taken as it stands, because secrets are full of characters that would mean something.

use std::{collections::BTreeMap, fs, path::Path};

use super::{
    document::{Mistake, Problem},
    value::placeholder,
};
use crate::kafka::FIXED_CONSUMER;

/// Settings of the Schema Registry that stand in the same file: not librdkafka's.
fn is_registrys(name: &str) -> bool {
    name.starts_with("schema.registry.") || name.starts_with("basic.auth.")
}

/// A value and the line it stands on.
pub type Properties = BTreeMap<String, (usize, String)>;

/// Reads a file.
///
/// # Errors
/// Everything that is wrong with it. Values are never repeated: they may be secrets.
pub fn read(file: &Path) -> Result<Properties, Vec<Problem>> {
    match fs::read_to_string(file) {
        Ok(text) => parse(file, &text),
        Err(error) => {
            let message = format!("cannot be read: {error}");
            let fix = "check kafka.properties_file, and that the service may read it";
            Err(vec![Mistake::fix(message, fix).at(file, None)])
        }
    }
}

/// A problem on one line of the file.
pub fn problem(file: &Path, line: usize, name: &str, mistake: Mistake) -> Problem {
    mistake.of(name).at(file, Some((line, 1)))
}

fn parse(file: &Path, text: &str) -> Result<Properties, Vec<Problem>> {
    let mut read = Properties::new();
    let mut problems = Vec::new();
    for (line, text) in text
        .lines()
        .enumerate()
        .map(|(at, text)| (at + 1, text.trim()))
    {
        if text.is_empty() || text.starts_with(['#', '!']) {
            continue;
        }
        let Some((name, value)) = text.split_once('=') else {
            let mistake = Mistake::new("is not of the form name=value");
            problems.push(problem(file, line, "the line", mistake));
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        if is_registrys(name) {
            continue;
        }
        let mistake = if name == "sasl.jaas.config" {
            Some(Mistake::fix(
                "is for Java clients",
                "download the file for C/C++ clients, with sasl.username and sasl.password",
            ))
        } else if read.contains_key(name) {
            Some(Mistake::new("stands here a second time"))
        } else {
            placeholder(value)
        };
        match mistake {
            Some(mistake) => problems.push(problem(file, line, name, mistake)),
            None => {
                read.insert(name.to_owned(), (line, value.to_owned()));
            }
        }
    }
    if problems.is_empty() {
        Ok(read)
    } else {
        Err(problems)
    }
}

/// Whether a librdkafka setting's value is a secret.
pub fn is_secret(name: &str) -> bool {
    matches!(
        name,
        "sasl.password"
            | "ssl.key.password"
            | "ssl.keystore.password"
            | "ssl.key.pem"
            | "sasl.oauthbearer.client.secret"
            | "sasl.oauthbearer.config"
    )
}

/// Whether a setting would break a promise: those are [`FIXED_CONSUMER`], and what names our group or is
/// the producer's business.
pub fn breaks_promise(name: &str, value: &str) -> Option<Mistake> {
    if name == "group.id" {
        return Some(Mistake::fix(
            "cannot be set here",
            "set kafka.group = \"…\"",
        ));
    }
    if matches!(
        (name, value),
        ("acks", "all" | "-1") | ("enable.idempotence", "true")
    ) {
        return None;
    }
    if PRODUCERS.contains(&name) {
        return Some(Mistake::fix(
            "is for producers: the sink sets it for its dead letters itself",
            "remove the line",
        ));
    }
    let (_, fixed, why) = FIXED_CONSUMER
        .iter()
        .find(|(promised, ..)| *promised == name)?;
    if *fixed == value {
        return None;
    }
    Some(Mistake::fix(
        format!("must be {fixed}: {why}"),
        "remove the line",
    ))
}

const PRODUCERS: [&str; 12] = [
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "message.send.max.retries",
    "retries",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "transactional.id",
    "delivery.report.only.error",
    "partitioner",
];
