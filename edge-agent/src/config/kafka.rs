//! `[kafka]`: librdkafka's settings from three places, checked for what would break a promise.
//!
//! `properties` goes before `bootstrap`, which goes before `properties_file`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use protocol::Topic;
use toml::de::DeValue;

use super::{
    Kafka, Registry, Secret, Secrets, ValueFormat,
    document::{Mistake, Table, Value, kind},
    properties::{self, Properties, breaks_promise, is_secret, names},
    value,
};

/// What stands for a secret where secrets are not read or not shown.
pub const HIDDEN: &str = "(hidden)";

const DEFAULT_CONTROL_TOPIC: &str = "edge.control.v1";

/// A value of `properties`.
enum Setting {
    Plain(String),
    Secret(Secret),
}

fn setting(name: &str, value: &Value<'_>) -> Result<(&'static str, Setting), Mistake> {
    let name = names::librdkafkas(name)?;
    read_setting(name, value).map(|setting| (name, setting))
}

fn read_setting(name: &str, value: &Value<'_>) -> Result<Setting, Mistake> {
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

/// Where a setting stands, for what librdkafka has against it.
enum Origin {
    Here(Range<usize>),
    File(PathBuf, usize),
}

/// The settings gathered so far.
#[derive(Default)]
struct Gathered {
    settings: BTreeMap<String, (Origin, String)>,
    secrets: BTreeSet<String>,
    /// Some place could not be read, so what is missing may stand there.
    is_partial: bool,
    registry: Option<Registry>,
}

/// Reads `[kafka]`.
pub fn read(table: &Table<'_, '_>, secrets: Secrets) -> Option<Kafka> {
    let mut gathered = Gathered::default();
    let file = gathered.take_file(table);
    gathered.take_bootstrap(table);
    gathered.take_properties(table, secrets);
    if let Some((path, properties)) = file {
        gathered.take_registry(table, &path, &properties);
    }
    if !gathered.settings.contains_key("bootstrap.servers") && !gathered.is_partial {
        let fix = "write bootstrap = \"host:9092\", or properties_file = \"/etc/edge-agent/client.properties\"";
        table.wrong("bootstrap", Mistake::fix("is missing", fix));
    }
    let remedy = "write topic = \"telemetry.readings.v1\"";
    let topic = table.required("topic", remedy, value::parsed::<Topic>);
    let control_topic = table
        .optional("control_topic", value::parsed::<Topic>)
        .or_else(|| Topic::new(DEFAULT_CONTROL_TOPIC).ok());
    if topic.is_some() && topic == control_topic {
        let message = "is the control topic, which is compacted and would lose readings";
        table.wrong(
            "topic",
            Mistake::fix(message, "choose two different topics"),
        );
    }
    let words = [
        ("json", ValueFormat::Json),
        ("postcard", ValueFormat::Postcard),
    ];
    let value = table.or("value", ValueFormat::Json, value::one_of(words));
    let properties = gathered.settings.iter();
    let kafka = Kafka {
        properties: properties
            .map(|(name, (_, value))| (name.clone(), value.clone()))
            .collect(),
        secret_properties: gathered.secrets.iter().cloned().collect(),
        topic: topic?,
        control_topic: control_topic?,
        value,
        registry: gathered.registry.take(),
    };
    gathered.ask_librdkafka(table, &kafka);
    Some(kafka)
}

impl Gathered {
    fn set(&mut self, origin: Origin, name: String, value: String) {
        if is_secret(&name) {
            self.secrets.insert(name.clone());
        }
        self.settings.insert(name, (origin, value));
    }

    fn take_file(&mut self, table: &Table<'_, '_>) -> Option<(PathBuf, Properties)> {
        let file = table.optional("properties_file", value::path)?;
        let read = match properties::read(&file) {
            Ok(read) => read,
            Err(problems) => {
                self.is_partial = true;
                problems
                    .into_iter()
                    .for_each(|problem| table.doc().add(problem));
                return None;
            }
        };
        for (name, placed) in &read.kafka {
            match breaks_promise(name, &placed.value) {
                Some(mistake) => {
                    let problem = properties::problem(&file, placed.line, &placed.name, mistake);
                    table.doc().add(problem);
                }
                None => {
                    let origin = Origin::File(file.clone(), placed.line);
                    self.set(origin, name.clone(), placed.value.clone());
                }
            }
        }
        Some((file, read))
    }

    /// After all else: the registry may take Kafka's key, wherever that was found.
    fn take_registry(&mut self, table: &Table<'_, '_>, file: &Path, read: &Properties) {
        let setting = |name| self.settings.get(name).map(|(_, value)| value.clone());
        let inherited = setting("sasl.username").zip(setting("sasl.password"));
        match read.registry(inherited) {
            Ok(registry) => self.registry = registry,
            Err((placed, mistake)) => {
                let problem = properties::problem(file, placed.line, &placed.name, mistake);
                table.doc().add(problem);
            }
        }
    }

    fn take_bootstrap(&mut self, table: &Table<'_, '_>) {
        let servers = table.optional("bootstrap", bootstrap);
        match (servers, table.span_of("bootstrap")) {
            (Some(servers), Some(at)) => {
                self.set(Origin::Here(at), "bootstrap.servers".to_owned(), servers);
            }
            (None, Some(_)) => self.is_partial = true,
            (_, None) => {}
        }
    }

    fn take_properties(&mut self, table: &Table<'_, '_>, secrets: Secrets) {
        let Some(inner) = table.table("properties") else {
            return;
        };
        for (given, (at, (name, setting))) in inner.entries(setting) {
            let text = match (setting, secrets) {
                (Setting::Plain(text), _) => text,
                (Setting::Secret(_), Secrets::Leave) => {
                    self.secrets.insert(name.to_owned());
                    HIDDEN.to_owned()
                }
                (Setting::Secret(secret), Secrets::Read) => {
                    self.secrets.insert(name.to_owned());
                    secret.read().unwrap_or_else(|error| {
                        let message = format!("kafka.properties.{given} cannot be had: {error}");
                        table.doc().note(at.clone(), Mistake::new(message));
                        String::new()
                    })
                }
            };
            self.set(Origin::Here(at), name.to_owned(), text);
        }
    }

    /// librdkafka names one setting at a time; without it, the next.
    fn ask_librdkafka(&self, table: &Table<'_, '_>, kafka: &Kafka) {
        let mut left = kafka.clone();
        // What is hidden has not been read, so it cannot be judged.
        left.properties.retain(|_, value| value != HIDDEN);
        while let Err(error) = crate::forward::check(&left) {
            let mistake = Mistake::new(format!("is refused by librdkafka: {}", error.reason));
            match self.settings.get(&error.key) {
                Some((Origin::Here(at), _)) => {
                    let name = format!("kafka.properties.{}", &error.key);
                    table.doc().note(at.clone(), mistake.of(&name));
                }
                Some((Origin::File(file, line), _)) => {
                    let problem = properties::problem(file, *line, &error.key, mistake);
                    table.doc().add(problem);
                }
                None => table.doc().note(table.span(), mistake.of(&error.key)),
            }
            if left.properties.remove(&error.key).is_none() {
                break;
            }
        }
    }
}

/// Shows everything but secrets.
impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("properties", &self.shown())
            .field("topic", &self.topic)
            .field("control_topic", &self.control_topic)
            .field("value", &self.value)
            .field("registry", &self.registry)
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

/// Shows everything but the secret.
impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("url", &self.url)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
