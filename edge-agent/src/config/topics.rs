//! `[[topic]]` and `[registry]`: how the values of a topic are written, and by which schema.

use std::collections::BTreeSet;

use protocol::{Topic, schema::Declaration};
use protocol_host::config::{fields, registry};

use super::{
    Bounds, Kafka, Limits, Queue, Secrets, ValueFormat,
    document::{Mistake, Table, nearest},
    limits, value,
};

/// How schemas come into the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Schemas {
    /// The agent registers what it needs; default false: `cloud-sink schema register` does.
    pub auto_register: bool,
    /// Readings are written by the newest schema of the subject, whatever `fields` says; default false.
    pub use_latest: bool,
}

/// One of `[[topic]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicSettings {
    /// One of the topics of this file; required, unique.
    pub name: Topic,
    /// Form of its values; default `kafka.value`.
    pub value: Option<ValueFormat>,
    /// What its readings are declared to have, in this file or one of its own; default nothing. What is not
    /// declared is sent as well.
    pub fields: Declaration,
    /// Bounds of its lane.
    pub bounds: Bounds,
    /// What holds its lane back.
    pub limits: Limits,
}

/// Reads `[registry]`: what both daemons have there into `kafka`, the rest is the agent's.
pub fn registry(root: &Table<'_, '_>, kafka: Option<&mut Kafka>, secrets: Secrets) -> Schemas {
    let table = root.table("registry");
    let client = kafka.map(|kafka| &mut kafka.client);
    let file = client.as_ref().and_then(|client| client.registry.clone());
    let settings = registry::read(table.as_ref(), file, secrets);
    if let Some(client) = client {
        client.registry = settings;
    }
    let Some(table) = table else {
        return Schemas::default();
    };
    let schemas = Schemas {
        auto_register: table.or("auto_register", false, value::boolean),
        use_latest: table.or("use_latest", false, value::boolean),
    };
    if schemas.auto_register && schemas.use_latest {
        let message = "contradicts auto_register: a schema is either taken from the registry or brought to it";
        table.wrong("use_latest", Mistake::fix(message, "set one of them"));
    }
    schemas
}

/// Words of `value`.
pub fn formats() -> [(&'static str, ValueFormat); 4] {
    ValueFormat::ALL.map(|format| (format.as_str(), format))
}

/// Reads `[[topic]]`.
pub fn read(tables: &[Table<'_, '_>], queue: &Queue) -> Option<Vec<TopicSettings>> {
    let mut seen = BTreeSet::new();
    let read: Vec<Option<TopicSettings>> = tables
        .iter()
        .map(|table| {
            let topic = one(table, queue)?;
            if !seen.insert(topic.name.clone()) {
                table.wrong("name", Mistake::new("is declared already"));
            }
            Some(topic)
        })
        .collect();
    read.into_iter().collect()
}

/// Every topic that is declared has to be one of those that sources write to.
pub fn check_names(tables: &[Table<'_, '_>], topics: &[TopicSettings], known: &BTreeSet<Topic>) {
    for (table, topic) in tables.iter().zip(topics) {
        if !known.is_empty() && !known.contains(&topic.name) {
            unknown(table, &topic.name, known);
        }
    }
}

fn one(table: &Table<'_, '_>, queue: &Queue) -> Option<TopicSettings> {
    let remedy = "write name = \"telemetry.readings.v1\"";
    let name = table.required("name", remedy, value::parsed::<Topic>);
    let value = table.optional("value", value::one_of(formats()));
    let fields = fields::read(table).unwrap_or_default();
    let limits = limits::limits(table);
    let bounds = limits::bounds(table, queue, limits.alarm);
    Some(TopicSettings {
        name: name?,
        value,
        fields,
        bounds,
        limits,
    })
}

/// A declaration that applies to nothing would be believed in.
fn unknown(table: &Table<'_, '_>, name: &Topic, known: &BTreeSet<Topic>) {
    let fix = match nearest(name.as_str(), known.iter().map(Topic::as_str)) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => {
            let all: Vec<&str> = known.iter().map(Topic::as_str).collect();
            format!("the topics of this file are {}", all.join(", "))
        }
    };
    table.wrong("name", Mistake::fix("is no topic of this file", fix));
}

/// A form with a schema needs a registry.
pub fn needs_registry(root: &Table<'_, '_>, kafka: &Kafka, topics: &[TopicSettings]) {
    // A registry that is there and wrong is told already.
    if kafka.client.registry.is_some() || root.span_of("registry").is_some() {
        return;
    }
    let topics = topics.iter().filter_map(|topic| topic.value);
    let forms = topics.map(|form| ("topic", form));
    for (table, form) in forms.chain([("kafka", kafka.value)]) {
        if form.language().is_some() {
            let message = format!(
                "{table}.value = \"{}\" needs a schema registry",
                form.as_str()
            );
            let fix = "add [registry] with url = \"https://…\", or schema.registry.url to kafka.properties_file";
            let at = root.span_of(table).unwrap_or(root.span());
            root.doc().note(at, Mistake::fix(message, fix));
        }
    }
}
