//! What both daemons have in `[kafka]`: librdkafka's settings from three places, checked for what would
//! break a promise, and the Schema Registry that the file may name.
//!
//! `properties` goes before `bootstrap`, which goes before `properties_file`.

mod login;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::de::DeValue;

use super::{
    Secrets,
    document::{Expected, Mistake, Table, Value, kind},
    plaintext,
    properties::{self, Properties, is_secret, names},
    registry, value,
};
use crate::secret::Secret;

/// What stands for a secret where secrets are not read or not shown.
pub const HIDDEN: &str = "(hidden)";

/// A daemon, as far as its Kafka client goes.
#[derive(Clone, Copy)]
pub struct Daemon {
    /// Its program, which names the directory of its files.
    pub program: &'static str,
    /// Whether a setting, by the one name it has here, would break a promise of this daemon.
    pub breaks_promise: fn(&str, &str) -> Option<Mistake>,
    /// Whether librdkafka takes every setting with its value, without connecting: the first it refuses.
    pub verify: fn(&BTreeMap<String, String>) -> Result<(), SettingError>,
    /// What to do about Java's settings that mean nothing here.
    pub instead: Instead,
}

/// What replaces settings of Java clients, where that depends on the daemon.
#[derive(Debug, Clone, Copy)]
pub struct Instead {
    /// Of serializers and deserializers.
    pub serializers: &'static str,
    /// Of the producer's memory.
    pub buffers: &'static str,
    /// Of `max.poll.records`.
    pub polls: &'static str,
}

/// A setting librdkafka refuses. Its value is not told: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("kafka setting {key}: {reason}")]
pub struct SettingError {
    /// Its name.
    pub key: String,
    /// What librdkafka says.
    pub reason: String,
}

/// How to reach the cluster and its Schema Registry. Its `Debug` hides secrets.
#[derive(Clone, PartialEq, Default)]
pub struct Client {
    /// Settings for librdkafka, in its own names: from `bootstrap`, `properties_file` and `properties`.
    /// Each has one name, whichever of its aliases was written.
    pub properties: BTreeMap<String, String>,
    /// Names in `properties` whose values are never shown.
    pub secret_properties: Vec<String>,
    /// The Schema Registry, where `properties_file` or `[registry]` names one.
    pub registry: Option<registry::Settings>,
    /// Whether other machines may be reached without TLS; default false.
    pub allow_plaintext: bool,
}

impl Client {
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

/// Shows everything but secrets.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("properties", &self.shown())
            .field("registry", &self.registry)
            .field("allow_plaintext", &self.allow_plaintext)
            .finish()
    }
}

/// A value of `properties`.
enum Setting {
    Plain(String),
    Secret(Secret),
}

fn setting(
    daemon: &Daemon,
    name: &str,
    value: &Value<'_>,
) -> Result<(&'static str, Setting), Mistake> {
    let name = names::in_configuration(name)?;
    read_setting(daemon, name, value).map(|setting| (name, setting))
}

fn read_setting(daemon: &Daemon, name: &str, value: &Value<'_>) -> Result<Setting, Mistake> {
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
    match (daemon.breaks_promise)(name, &plain) {
        Some(mistake) => Err(mistake),
        None => Ok(Setting::Plain(plain)),
    }
}

/// `host:9092,host:9092`.
fn bootstrap(value: &Value<'_>) -> Result<String, Mistake> {
    const EXAMPLE: &str = "write bootstrap = \"host:9092\", several with commas";
    if value.get_ref().is_array() {
        let mistake = Mistake::fix("must be one text in quotes, not a list", EXAMPLE);
        return Err(mistake.expects(Expected::Text));
    }
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

/// Notes a mistake in a setting where it stands.
fn note(table: &Table<'_, '_>, origin: &Origin, name: &str, mistake: Mistake) {
    match origin {
        Origin::Here(at) => {
            let name = format!("kafka.properties.{name}");
            table.doc().note(at.clone(), mistake.of(&name));
        }
        Origin::File(file, line) => {
            table
                .doc()
                .add(properties::problem(file, *line, name, mistake));
        }
    }
}

/// The settings gathered so far.
#[derive(Default)]
struct Gathered {
    settings: BTreeMap<String, (Origin, String)>,
    secrets: BTreeSet<String>,
    /// Some place could not be read, so what is missing may stand there.
    is_partial: bool,
    /// Something of `properties` could not be read, so a login may be among it.
    has_unread: bool,
    registry: Option<registry::Settings>,
    allow_plaintext: bool,
}

/// Reads what is the client's of `[kafka]`.
pub fn read(table: &Table<'_, '_>, secrets: Secrets, daemon: &Daemon) -> Client {
    let mut gathered = Gathered {
        allow_plaintext: plaintext::is_allowed(table),
        ..Gathered::default()
    };
    let file = gathered.take_file(table, daemon);
    gathered.take_bootstrap(table);
    gathered.take_properties(table, secrets, daemon);
    if let Some((path, properties)) = file {
        gathered.take_registry(table, &path, &properties);
    }
    if !gathered.settings.contains_key("bootstrap.servers") && !gathered.is_partial {
        let fix = format!(
            "write bootstrap = \"host:9092\", or properties_file = \"/etc/{}/client.properties\"",
            daemon.program
        );
        table.wrong("bootstrap", Mistake::fix("is missing", fix));
    }
    let settings = gathered.settings.iter();
    let client = Client {
        properties: settings
            .map(|(name, (_, value))| (name.clone(), value.clone()))
            .collect(),
        secret_properties: gathered.secrets.iter().cloned().collect(),
        registry: gathered.registry.take(),
        allow_plaintext: gathered.allow_plaintext,
    };
    gathered.ask_for_tls(table);
    gathered.ask_for_login(table);
    gathered.ask_librdkafka(table, &client.properties, daemon);
    client
}

impl Gathered {
    fn set(&mut self, origin: Origin, name: String, value: String) {
        if is_secret(&name) {
            self.secrets.insert(name.clone());
        }
        self.settings.insert(name, (origin, value));
    }

    fn take_file(
        &mut self,
        table: &Table<'_, '_>,
        daemon: &Daemon,
    ) -> Option<(PathBuf, Properties)> {
        let file = table.optional("properties_file", value::path)?;
        let read = match properties::read(&file, daemon) {
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
            match (daemon.breaks_promise)(name, &placed.value) {
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
        match read.registry(inherited, self.allow_plaintext) {
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

    fn take_properties(&mut self, table: &Table<'_, '_>, secrets: Secrets, daemon: &Daemon) {
        let Some(inner) = table.table("properties") else {
            return;
        };
        let entries = inner.entries(|name, value| {
            let read = setting(daemon, name, value);
            self.has_unread |= read.is_err();
            read
        });
        for (given, (at, (name, setting))) in entries {
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
                        HIDDEN.to_owned()
                    })
                }
            };
            self.set(Origin::Here(at), name.to_owned(), text);
        }
    }

    /// librdkafka's own default is plain text.
    fn ask_for_tls(&self, table: &Table<'_, '_>) {
        let protocol = self.settings.get("security.protocol");
        let is_plain = protocol.is_none_or(|(_, protocol)| {
            ["plaintext", "sasl_plaintext"].contains(&protocol.to_ascii_lowercase().as_str())
        });
        let Some((origin, servers)) = self.settings.get("bootstrap.servers") else {
            return;
        };
        // Where something could not be read it may have been this.
        if self.allow_plaintext || !is_plain || self.is_partial {
            return;
        }
        let Some(host) = plaintext::other_machine(servers) else {
            return;
        };
        let tls = "set \"security.protocol\" = \"SASL_SSL\" or \"SSL\" in kafka.properties or properties_file";
        let mistake = plaintext::mistake(host, tls, "[kafka]");
        match origin {
            Origin::Here(at) => {
                let key = match table.span_of("bootstrap") {
                    Some(bootstrap) if bootstrap == *at => "kafka.bootstrap",
                    _ => "kafka.properties.bootstrap.servers",
                };
                table.doc().note(at.clone(), mistake.of(key));
            }
            Origin::File(..) => note(table, origin, "bootstrap.servers", mistake),
        }
    }

    fn ask_for_login(&self, table: &Table<'_, '_>) {
        if self.is_partial || self.has_unread {
            return;
        }
        let found = login::mistakes(|name| {
            let setting = self.settings.get(name);
            setting.map(|(_, value)| value.as_str())
        });
        for (name, mistake) in found {
            if let Some((origin, _)) = self.settings.get(name) {
                note(table, origin, name, mistake);
            }
        }
    }

    /// librdkafka names one setting at a time; without it, the next.
    fn ask_librdkafka(
        &self,
        table: &Table<'_, '_>,
        settings: &BTreeMap<String, String>,
        daemon: &Daemon,
    ) {
        let mut left = settings.clone();
        // What is hidden has not been read, so it cannot be judged.
        left.retain(|_, value| value != HIDDEN);
        while let Err(error) = (daemon.verify)(&left) {
            let mistake = Mistake::new(format!("is refused by librdkafka: {}", error.reason));
            match self.settings.get(&error.key) {
                Some((origin, _)) => note(table, origin, &error.key, mistake),
                None => table.doc().note(table.span(), mistake.of(&error.key)),
            }
            if left.remove(&error.key).is_none() {
                break;
            }
        }
    }
}
