//! `cloud-sink schema show | check | diff | register`: the schemas of declared fields, and the registry's.
//!
//! For people and for CI: exit code 0 is as it should be, 1 is not, 69 is a registry that does not answer
//! or does not let us in. Only `register` changes anything, and each question is one HTTP request, so these
//! commands block.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use protocol::{
    Topic,
    schema::{RECORD_NAME, avro::AvroSchema},
};
use protocol_host::registry::{
    BRIEFLY, Error, Language, Registered, Registry, Schema, Standing, declared,
};
use serde_json::Value;

use super::{Ended, File, exit, plural, refuse};
use crate::config::{Config, Secrets};

/// Commands of `schema`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the schema of each topic's declared fields; asks nobody
    Show(Arguments),
    /// Whether the registry has each schema or would take it; exit code 1 when it would not
    Check(Arguments),
    /// What has changed since the newest registered schema; exit code 1 when something has
    Diff(Arguments),
    /// Register each schema; one that is registered stays as it is
    Register(Arguments),
}

/// Arguments of all.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where the configuration is.
    #[command(flatten)]
    file: File,
    /// Only this topic
    #[arg(long)]
    topic: Option<Topic>,
}

/// A topic's schema, and where it belongs.
struct Declared {
    subject: String,
    schema: Schema,
}

/// What a topic's command comes to.
pub(super) enum Outcome {
    /// As it should be.
    Good(String),
    /// Not so: what, and what to do.
    Bad(String, String),
    /// The registry cannot be asked.
    Away(String, String),
}

/// Does what was asked; returns the exit code.
///
/// # Errors
/// The registry's certificates cannot be used.
#[expect(clippy::print_stdout, reason = "a command line prints its answer")]
pub fn schema(command: Command) -> Ended {
    let (Command::Show(arguments)
    | Command::Check(arguments)
    | Command::Diff(arguments)
    | Command::Register(arguments)) = &command;
    let secrets = match command {
        Command::Show(_) => Secrets::Leave,
        _ => Secrets::Read,
    };
    let config = match arguments.file.load(secrets) {
        Ok(config) => config,
        Err(problems) => return Ok(refuse(&problems)),
    };
    let all = all(&config, arguments.topic.as_ref());
    if all.is_empty() {
        println!("no topic declares fields: add fields = … to a [[topic]]");
        return Ok(exit::CONFIG);
    }
    if let Command::Show(_) = command {
        for declared in &all {
            println!("{}", pretty(&declared.schema.text));
        }
        return Ok(0);
    }
    let Some(settings) = &config.kafka.client.registry else {
        println!(
            "no schema registry: add [registry] with url, or schema.registry.url to kafka.properties_file"
        );
        return Ok(exit::CONFIG);
    };
    let registry = Registry::new(settings, BRIEFLY)?;
    let ask = match command {
        Command::Register(_) => register,
        Command::Diff(_) => diff,
        _ => check,
    };
    let outcomes = all.iter().map(|declared| {
        let outcome =
            ask(&registry, declared, settings.normalize).unwrap_or_else(|error| away(&error));
        tell(&declared.subject, &outcome);
        outcome
    });
    Ok(code(&outcomes.collect::<Vec<_>>()))
}

/// How the registry stands to each declared schema.
pub(super) fn standings(registry: &Registry, config: &Config) -> Vec<(String, Outcome)> {
    let normalize = config
        .kafka
        .client
        .registry
        .as_ref()
        .is_some_and(|set| set.normalize);
    let standing = |declared: Declared| {
        let outcome = check(registry, &declared, normalize).unwrap_or_else(|error| away(&error));
        (declared.subject, outcome)
    };
    all(config, None).into_iter().map(standing).collect()
}

/// Each topic with declared fields. What a subject is named after may make two topics one question.
fn all(config: &Config, only: Option<&Topic>) -> Vec<Declared> {
    let settings = config.kafka.client.registry.as_ref();
    let subject = settings.map_or(
        protocol_host::config::registry::Subject::Topic,
        |settings| settings.subject,
    );
    let chosen = config
        .topics
        .iter()
        .filter(|topic| only.is_none_or(|only| topic.name == *only));
    chosen
        .filter_map(|topic| {
            Some(Declared {
                subject: subject.of(topic.name.as_str(), RECORD_NAME),
                schema: declared(&topic.value, topic.fields.as_ref()?),
            })
        })
        .collect()
}

fn code(outcomes: &[Outcome]) -> u8 {
    let any = |is: fn(&Outcome) -> bool| outcomes.iter().any(is);
    if any(|outcome| matches!(outcome, Outcome::Away(..))) {
        exit::UNAVAILABLE
    } else {
        u8::from(any(|outcome| matches!(outcome, Outcome::Bad(..))))
    }
}

#[expect(clippy::print_stdout, reason = "a command line prints its answer")]
fn tell(subject: &str, outcome: &Outcome) {
    match outcome {
        Outcome::Good(state) => println!("{subject}   ok   {state}"),
        Outcome::Bad(message, fix) | Outcome::Away(message, fix) => {
            println!("{subject}   FAIL {message}");
            println!("    fix: {fix}");
        }
    }
}

/// An error that is no answer to the question.
fn away(error: &Error) -> Outcome {
    let (message, fix) = (error.to_string(), error.remedy());
    match error {
        Error::Incompatible { .. } | Error::Invalid { .. } => Outcome::Bad(message, fix),
        _ => Outcome::Away(message, fix),
    }
}

/// Reading the level may need a permission that nothing else does.
fn level(registry: &Registry, subject: &str) -> String {
    match registry.level(subject) {
        Ok(level) => format!(", {level}"),
        Err(_) => String::new(),
    }
}

fn check(registry: &Registry, declared: &Declared, normalize: bool) -> Result<Outcome, Error> {
    let Declared { subject, schema } = declared;
    let level = level(registry, subject);
    Ok(match registry.standing(subject, schema, normalize)? {
        Standing::Registered(found) => Outcome::Good(format!("{}{level}", place(&found))),
        Standing::Taken { is_new: true } => {
            Outcome::Good(format!("not registered yet, the subject is new{level}"))
        }
        Standing::Taken { is_new: false } => {
            Outcome::Good(format!("not registered yet, compatible{level}"))
        }
        Standing::Refused(said) => {
            let subject = subject.clone();
            away(&Error::Incompatible { subject, said })
        }
    })
}

fn register(registry: &Registry, declared: &Declared, normalize: bool) -> Result<Outcome, Error> {
    let Declared { subject, schema } = declared;
    let before = registry.standing(subject, schema, normalize);
    if let Ok(Standing::Registered(found)) = before {
        return Ok(Outcome::Good(format!("{}, as before", place(&found))));
    }
    let id = registry.register(subject, schema, normalize)?;
    Ok(Outcome::Good(format!("id {id}, registered")))
}

fn place(found: &Registered) -> String {
    match found.version {
        Some(version) => format!("id {}, version {version}", found.id),
        None => format!("id {}", found.id),
    }
}

fn diff(registry: &Registry, declared: &Declared, _: bool) -> Result<Outcome, Error> {
    let Declared { subject, schema } = declared;
    let newest = match registry.latest(subject) {
        Ok(newest) => newest,
        Err(error @ Error::UnknownSubject { .. }) => {
            return Ok(Outcome::Bad(error.to_string(), error.remedy()));
        }
        Err(error) => return Err(error),
    };
    let changes = match (fields(&newest.schema), fields(schema)) {
        (Some(old), Some(new)) => changes(&old, &new),
        _ => vec!["its newest schema is not one of readings".to_owned()],
    };
    if changes.is_empty() {
        return Ok(Outcome::Good(format!("as {}", place(&newest))));
    }
    let count = changes.len();
    let message = format!(
        "{count} change{} since {}\n    {}",
        plural(count),
        place(&newest),
        changes.join("\n    ")
    );
    let fix =
        "cloud-sink schema check says whether the registry would take it, register brings it there";
    Ok(Outcome::Bad(message, fix.to_owned()))
}

/// The declared fields of a schema of ours, each with its type; `None` for another's.
fn fields(schema: &Schema) -> Option<BTreeMap<String, String>> {
    match &schema.language {
        Language::Avro => {
            let schema = AvroSchema::parse(&schema.text).ok()?;
            let columns = schema.columns();
            Some(
                columns
                    .map(|(name, kind)| (name.to_string(), kind.to_string()))
                    .collect(),
            )
        }
        Language::Json => {
            let schema: Value = serde_json::from_str(&schema.text).ok()?;
            let fields = schema["properties"]["fields"]["properties"].as_object()?;
            let word = |field: &Value| field["description"].as_str().unwrap_or_default().to_owned();
            Some(
                fields
                    .iter()
                    .map(|(name, field)| (name.clone(), word(field)))
                    .collect(),
            )
        }
        Language::Other(_) => None,
    }
}

fn changes(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let change = |name: &String| match (old.get(name), new.get(name)) {
        (None, Some(kind)) => Some(format!("+ {name} {kind}")),
        (Some(kind), None) => Some(format!("- {name} {kind}")),
        (Some(was), Some(is)) if was != is => Some(format!("~ {name} {was} -> {is}")),
        _ => None,
    };
    names.into_iter().filter_map(change).collect()
}

/// For reading; the order of members is the schema's own only where it says something.
fn pretty(text: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(text).ok();
    let pretty = parsed.and_then(|schema| serde_json::to_string_pretty(&schema).ok());
    pretty.unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use protocol::{
        FieldName,
        schema::{Declaration, Kind},
    };

    use super::*;

    fn schema(language: &Language, named: &[(&str, Kind)]) -> Schema {
        let named = named
            .iter()
            .map(|(name, kind)| (FieldName::new(*name).unwrap(), *kind));
        declared(language, &Declaration::new(named).unwrap())
    }

    #[test]
    fn what_has_changed_is_told_field_by_field() {
        let old = [
            ("a", Kind::Double),
            ("temperature_c", Kind::Long),
            ("off", Kind::Bool),
        ];
        let new = [
            ("a", Kind::Double),
            ("temperature_c", Kind::Double),
            ("z", Kind::String),
        ];
        for (language, expected) in [
            (
                Language::Avro,
                ["- off bool", "~ temperature_c long -> double", "+ z string"],
            ),
            (
                Language::Json,
                [
                    "- off boolean",
                    "~ temperature_c integer, °C -> float, °C",
                    "+ z text",
                ],
            ),
        ] {
            let of = |named: &[_]| fields(&schema(&language, named)).unwrap();
            let told = changes(&of(&old), &of(&new));
            assert_eq!(told, expected, "{language}");
            assert!(changes(&of(&old), &of(&old)).is_empty());
        }
        let foreign = Schema::new(Language::Avro, "\"string\"");
        assert_eq!(fields(&foreign), None);
    }

    #[test]
    fn a_registry_that_is_away_weighs_more_than_a_schema_that_is_refused() {
        let good = || Outcome::Good(String::new());
        let bad = || Outcome::Bad(String::new(), String::new());
        let away = || Outcome::Away(String::new(), String::new());
        assert_eq!(code(&[good(), good()]), 0);
        assert_eq!(code(&[good(), bad()]), 1);
        assert_eq!(code(&[bad(), away(), good()]), exit::UNAVAILABLE);
    }
}
