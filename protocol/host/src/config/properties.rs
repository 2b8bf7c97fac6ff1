//! `client.properties`, unchanged from Confluent's console: the form for librdkafka, and the one for Java.
//!
//! One `name=value` a line; a `\` at the end of a line carries on in the next, as in Java's files. Java
//! would also resolve `\` within a value, librdkafka's tools would not, and secrets are full of characters
//! that would mean something: so a `\` there is refused instead of guessed at. (The libraries that read
//! this format resolve them, and so change a secret in silence.)
//!
//! Everything leaves here under one name of librdkafka's: [`names`] translates Java's and both sides'
//! aliases, [`jaas`] takes user and password out of `sasl.jaas.config`, [`registry`] what is the Schema
//! Registry's. A name that nobody knows is a mistake: it would be a setting somebody believes in.

mod jaas;
pub mod names;
mod registry;

use std::{collections::BTreeMap, fs, path::Path};

use super::{
    document::{Mistake, Problem},
    kafka::Daemon,
    registry::Settings,
    value::placeholder,
};
use names::Meaning;

/// A value, the line it stands on, and the name it has there.
#[derive(Clone, PartialEq)]
pub struct Placed {
    /// From 1.
    pub line: usize,
    /// As written, which may be Java's.
    pub name: String,
    /// Perhaps a secret.
    pub value: String,
}

/// What a file says.
#[derive(Default)]
pub struct Properties {
    /// For librdkafka, by its names.
    pub kafka: BTreeMap<String, Placed>,
    /// Of the Schema Registry, by the names in [`registry::NAMES`].
    registry: BTreeMap<&'static str, Placed>,
}

/// Reads a file.
///
/// # Errors
/// Everything that is wrong with it. Values are never repeated: they may be secrets.
pub fn read(file: &Path, daemon: &Daemon) -> Result<Properties, Vec<Problem>> {
    match fs::read_to_string(file) {
        Ok(text) => parse(file, &text, daemon),
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

fn parse(file: &Path, text: &str, daemon: &Daemon) -> Result<Properties, Vec<Problem>> {
    let mut read = Properties::default();
    let mut problems = Vec::new();
    // Windows' editors begin a file with a byte order mark, which nobody sees.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, text) in logical_lines(text) {
        let Some((name, value)) = text.split_once('=') else {
            let mistake = Mistake::new("is not of the form name=value");
            problems.push(problem(file, line, "the line", mistake));
            continue;
        };
        let placed = Placed {
            line,
            name: name.trim().to_owned(),
            value: value.trim().to_owned(),
        };
        let name = placed.name.clone();
        if let Err(mistake) = read.take(placed, daemon) {
            problems.push(problem(file, line, &name, mistake));
        }
    }
    if problems.is_empty() {
        Ok(read)
    } else {
        Err(problems)
    }
}

/// Lines joined where one ends in `\`, with the number of the first; without comments and empty ones.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if !goes_on && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        let (part, carries_on) = match line.strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        match lines.last_mut() {
            Some((_, begun)) if goes_on => begun.push_str(part),
            _ => lines.push((number, part.to_owned())),
        }
        goes_on = carries_on;
    }
    lines
}

impl Properties {
    fn take(&mut self, placed: Placed, daemon: &Daemon) -> Result<(), Mistake> {
        let registrys = registry::NAMES.iter().find(|name| **name == placed.name);
        if let Some(mistake) = placeholder(&placed.value) {
            return Err(match registrys {
                Some(_) => mistake.or("or remove the line where no Schema Registry is used"),
                None => mistake,
            });
        }
        if placed.value.contains('\\') {
            let message = "holds a \\, which Java and librdkafka read differently";
            let fix = format!(
                "set it in the TOML file, under kafka.properties: \"{}\" = {{ file = \"/path\" }}",
                placed.name
            );
            return Err(Mistake::fix(message, fix));
        }
        if let Some(&name) = registrys {
            return match self.registry.insert(registry::canonical(name), placed) {
                Some(first) => Err(twice(&first)),
                None => Ok(()),
            };
        }
        match names::meaning(&placed.name, &placed.value, daemon) {
            Meaning::Setting(name) => self.set(name, placed),
            Meaning::Jaas => {
                let login = jaas::read(&placed.value)?;
                for (name, value) in login.settings() {
                    let placed = Placed {
                        value,
                        ..placed.clone()
                    };
                    self.set(name, placed)?;
                }
                Ok(())
            }
            Meaning::Nothing => Ok(()),
            Meaning::Wrong(mistake) => Err(mistake),
        }
    }

    fn set(&mut self, name: &str, placed: Placed) -> Result<(), Mistake> {
        let value = names::value(name, &placed.value);
        let placed = Placed {
            value: value.unwrap_or(placed.value),
            ..placed
        };
        match self.kafka.insert(name.to_owned(), placed) {
            Some(first) => Err(twice(&first)),
            None => Ok(()),
        }
    }

    /// The Schema Registry, if the file names one; `inherited` is the user and password of Kafka.
    ///
    /// # Errors
    /// The line that is wrong, its name, and what is wrong with it.
    pub fn registry(
        &self,
        inherited: Option<(String, String)>,
        allow_plaintext: bool,
    ) -> Result<Option<Settings>, (Placed, Mistake)> {
        registry::read(&self.registry, inherited, allow_plaintext)
    }
}

fn twice(first: &Placed) -> Mistake {
    let Placed { line, name, .. } = first;
    Mistake::new(format!(
        "stands here a second time, after {name} on line {line}"
    ))
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
            | "sasl.oauthbearer.client.credentials.client.secret"
            | "sasl.oauthbearer.assertion.private.key.passphrase"
            | "sasl.oauthbearer.assertion.private.key.pem"
            | "sasl.oauthbearer.config"
    )
}

#[cfg(test)]
mod tests;
