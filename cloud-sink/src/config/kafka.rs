//! `[kafka]`: librdkafka's settings from three places, checked for what would break a promise.
//!
//! `properties` goes before `bootstrap`, which goes before `properties_file`.

use std::{collections::BTreeMap, fmt};

use protocol::Topic;
use toml::de::DeValue;

use super::{
    Kafka, Secret, Secrets,
    document::{Mistake, Table, Value, kind},
    properties::{self, breaks_promise, is_secret},
    value,
};

/// What stands for a secret where secrets are not read or not shown.
pub const HIDDEN: &str = "(hidden)";

const DEFAULT_CONTROL_TOPIC: &str = "edge.control.v1";
const DEFAULT_DEAD_LETTER_TOPIC: &str = "edge.dead-letters.v1";

/// A value of `properties`.
enum Setting {
    Plain(String),
    Secret(Secret),
}

fn setting(name: &str, value: &Value<'_>) -> Result<Setting, Mistake> {
    let plain = match value.get_ref() {
        DeValue::Table(_) => return value::secret(value).map(Setting::Secret),
        // An empty text is a value to librdkafka.
        DeValue::String(text) if text.is_empty() => String::new(),
        DeValue::String(_) => value::text(value)?,
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        other => return Err(Mistake::new(format!("must be a text, not {}", kind(other)))),
    };
    if is_secret(name) {
        return value::secret(value).map(Setting::Secret);
    }
    match breaks_promise(name, &plain) {
        Some(mistake) => Err(mistake),
        None => Ok(Setting::Plain(plain)),
    }
}

/// `host:9092,host:9092`.
fn bootstrap(value: &Value<'_>) -> Result<String, Mistake> {
    const EXAMPLE: &str = "write bootstrap = \"host:9092\", several with commas";
    let given = value::text(value)?;
    if given.contains("://") {
        return Err(Mistake::fix("is a list of hosts, not a url", EXAMPLE));
    }
    for server in given.split(',') {
        let port = server.trim().rsplit_once(':').map(|(_, port)| port);
        if !port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port != 0)) {
            let message = format!("has a server without a port: \"{}\"", server.trim());
            return Err(Mistake::fix(message, EXAMPLE));
        }
    }
    Ok(given)
}

/// Reads `[kafka]`.
pub fn read(table: &Table<'_, '_>, secrets: Secrets) -> Option<Kafka> {
    let mut gathered = BTreeMap::new();
    // A file that cannot be read may well name the servers.
    let broken_file = !from_file(table, &mut gathered);
    let servers = table.optional("bootstrap", bootstrap);
    let broken_bootstrap = servers.is_none() && table.span_of("bootstrap").is_some();
    if let Some(servers) = servers {
        gathered.insert("bootstrap.servers".to_owned(), servers);
    }
    let mut secret_properties: Vec<String> = gathered
        .keys()
        .filter(|name| is_secret(name))
        .cloned()
        .collect();
    if let Some(inner) = table.table("properties") {
        for (name, (at, setting)) in inner.entries(setting) {
            let text = match setting {
                Setting::Plain(text) => text,
                Setting::Secret(secret) => {
                    secret_properties.push(name.clone());
                    match secrets {
                        Secrets::Leave => HIDDEN.to_owned(),
                        Secrets::Read => secret.read().unwrap_or_else(|error| {
                            let message = format!("kafka.properties.{name} cannot be had: {error}");
                            table.doc().note(at, Mistake::new(message));
                            String::new()
                        }),
                    }
                }
            };
            gathered.insert(name, text);
        }
    }
    if !gathered.contains_key("bootstrap.servers") && !broken_file && !broken_bootstrap {
        let fix = "write bootstrap = \"host:9092\", or properties_file = \"/etc/cloud-sink/client.properties\"";
        table.wrong("bootstrap", Mistake::fix("is missing", fix));
    }
    let group = table.or("group", String::from("cloud-sink"), value::text);
    let control_topic = topic(table, "control_topic", DEFAULT_CONTROL_TOPIC);
    let dead_letter_topic = topic(table, "dead_letter_topic", DEFAULT_DEAD_LETTER_TOPIC);
    secret_properties.sort();
    secret_properties.dedup();
    Some(Kafka {
        properties: gathered,
        secret_properties,
        group,
        control_topic: control_topic?,
        dead_letter_topic: dead_letter_topic?,
    })
}

fn topic(table: &Table<'_, '_>, key: &'static str, default: &str) -> Option<Topic> {
    table
        .optional(key, value::parsed::<Topic>)
        .or_else(|| Topic::new(default).ok())
}

/// Whether the file, if there is one, could be read.
fn from_file(table: &Table<'_, '_>, gathered: &mut BTreeMap<String, String>) -> bool {
    let Some(file) = table.optional("properties_file", value::path) else {
        return true;
    };
    match properties::read(&file) {
        Ok(read) => {
            for (name, (line, value)) in read {
                if let Some(mistake) = breaks_promise(&name, &value) {
                    table
                        .doc()
                        .add(properties::problem(&file, line, &name, mistake));
                }
                gathered.insert(name, value);
            }
            true
        }
        Err(problems) => {
            problems
                .into_iter()
                .for_each(|problem| table.doc().add(problem));
            false
        }
    }
}

/// Shows everything but secrets.
impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("properties", &self.shown())
            .field("group", &self.group)
            .field("control_topic", &self.control_topic)
            .field("dead_letter_topic", &self.dead_letter_topic)
            .finish_non_exhaustive()
    }
}

impl Kafka {
    /// The settings, with secrets replaced.
    #[must_use]
    pub fn shown(&self) -> BTreeMap<&str, &str> {
        self.properties
            .iter()
            .map(|(name, value)| {
                let hidden = self.secret_properties.contains(name) || is_secret(name);
                (name.as_str(), if hidden { HIDDEN } else { value.as_str() })
            })
            .collect()
    }
}
