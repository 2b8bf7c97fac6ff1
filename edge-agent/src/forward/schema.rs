//! How the values of each topic are written, and by which schema: known before the first one is sent.
//!
//! JSON and postcard are known from the configuration. A registered form needs the number that the registry
//! gave the schema. One thread asks for it, topic by topic, and until it is known the forwarder of the
//! topic sends nothing and the readings wait in the queue, where they are safe:
//!
//! | the registry | number known from before | what happens |
//! |---|---|---|
//! | gives a number | | readings are written by it; it is kept on disk for the next start |
//! | is away, or refuses | yes | readings are written by it, and the registry is asked again until it answers |
//! | is away, or refuses | no | readings wait, the link says why, and the registry is asked again |
//!
//! A number names one schema for ever, so one from before is right as long as the question is the same:
//! registry, subject, and text (or the newest). What is newest is looked up once per start.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use protocol::{
    Topic,
    schema::{Declaration, RECORD_NAME, SchemaId, avro::AvroSchema},
};
use protocol_host::registry::{
    Error, Language, ONCE, Registered, Registry, Schema, declared,
    known::{Known, Question},
};
use tracing::{debug, info, warn};

use crate::{
    config::{self, Config, ValueFormat},
    link::{LinkKind, LinkState, Links},
    stage::{Stage, Stop},
};

/// Between two tries of a topic: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long the thread sleeps when everything is answered, until it is asked to end.
const LONG: Duration = Duration::from_secs(3600);
/// File of numbers that are known, in `agent.state_dir`.
pub const FILE: &str = "schemas.json";

/// How a value is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// As readable JSON.
    Json,
    /// Compact.
    Postcard,
    /// By this schema, which has this number.
    Avro(SchemaId, AvroSchema),
    /// As JSON, behind the number of its schema.
    JsonSchema(SchemaId),
}

/// What a topic needs of the registry.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    /// Where its schema is.
    pub subject: String,
    /// In which language.
    pub language: Language,
    /// What readings are declared to have.
    pub declaration: Declaration,
    /// How the schema comes into the registry.
    pub how: config::Schemas,
    /// Whether the registry is to compare it in its own form.
    pub normalize: bool,
}

impl Need {
    /// Of a topic, where its form has a schema and there is a registry.
    #[must_use]
    pub fn of(config: &Config, topic: &Topic) -> Option<Self> {
        let (value, declaration) = config.value_of(topic);
        let registry = config.kafka.client.registry.as_ref()?;
        Some(Self {
            subject: registry.subject.of(topic.as_str(), RECORD_NAME),
            language: value.language()?,
            declaration,
            how: config.schemas,
            normalize: registry.normalize,
        })
    }

    /// The schema that readings are declared to have.
    #[must_use]
    pub fn schema(&self) -> Schema {
        declared(&self.language, &self.declaration)
    }

    fn question(&self, url: &str) -> Question {
        Question {
            url: url.to_owned(),
            subject: self.subject.clone(),
            text: (!self.how.use_latest).then(|| self.schema().text),
            language: self.language.clone(),
        }
    }

    fn ask(&self, registry: &Registry) -> Result<Registered, Error> {
        let (subject, schema) = (&self.subject, self.schema());
        if self.how.use_latest {
            return registry.latest(subject);
        }
        if self.how.auto_register {
            let id = registry.register(subject, &schema, self.normalize)?;
            return Ok(Registered {
                id,
                version: None,
                schema: Arc::new(schema),
            });
        }
        registry.find(subject, &schema, self.normalize)
    }

    /// The form by what is registered.
    ///
    /// # Errors
    /// The newest schema of the subject is none that this agent could write by.
    pub fn form(&self, found: &Registered) -> Result<Form, String> {
        let id = SchemaId(found.id);
        if self.language == Language::Json {
            return match &found.schema.language {
                Language::Json => Ok(Form::JsonSchema(id)),
                other => Err(format!(
                    "schema {id} of {} is {other}, not JSON",
                    self.subject
                )),
            };
        }
        let schema = if self.how.use_latest {
            AvroSchema::parse(&found.schema.text)
                .map_err(|error| format!("schema {id} of {}: {error}", self.subject))?
        } else {
            AvroSchema::of(&self.declaration)
        };
        Ok(Form::Avro(id, schema))
    }
}

/// The forms of all topics; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Schemas(Arc<Mutex<BTreeMap<Topic, Place>>>);

#[derive(Debug)]
struct Place {
    form: Option<Arc<Form>>,
    need: Option<Need>,
}

impl Schemas {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Topic, Place>> {
        // Each change is plain assignment: a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A topic that will be written to.
    pub fn add(&self, config: &Config, topic: &Topic) {
        let form = match config.value_of(topic).0 {
            ValueFormat::Json => Some(Arc::new(Form::Json)),
            ValueFormat::Postcard => Some(Arc::new(Form::Postcard)),
            ValueFormat::Avro | ValueFormat::JsonSchema => None,
        };
        let need = Need::of(config, topic);
        let place = Place { form, need };
        self.lock().entry(topic.clone()).or_insert(place);
    }

    /// How the values of a topic are written, once that is known.
    #[must_use]
    pub fn form(&self, topic: &Topic) -> Option<Arc<Form>> {
        self.lock().get(topic)?.form.clone()
    }

    fn know(&self, topic: &Topic, form: Form) {
        if let Some(place) = self.lock().get_mut(topic) {
            place.form = Some(Arc::new(form));
        }
    }

    fn needs(&self) -> BTreeMap<Topic, Need> {
        let places = self.lock();
        let needs = places.iter().filter_map(|(topic, place)| {
            let need = place.need.clone()?;
            Some((topic.clone(), need))
        });
        needs.collect()
    }

    /// The form of every topic is this one.
    #[cfg(test)]
    pub fn always(topic: &Topic, form: Form) -> Self {
        let schemas = Self::default();
        let form = Some(Arc::new(form));
        schemas
            .lock()
            .insert(topic.clone(), Place { form, need: None });
        schemas
    }
}

/// Starts asking for what the topics added so far need; `None` when that is nothing. What is known is kept
/// in `state_dir`.
///
/// # Errors
/// A file of the registry's certificates cannot be used, or the system gives no thread.
pub fn start(
    schemas: &Schemas,
    config: &Config,
    state_dir: &Path,
    links: &Links,
) -> anyhow::Result<Option<Stage>> {
    let needs = schemas.needs();
    let Some(settings) = config
        .kafka
        .client
        .registry
        .as_ref()
        .filter(|_| !needs.is_empty())
    else {
        return Ok(None);
    };
    for topic in needs.keys() {
        links.set(LinkKind::Registry, topic.as_str(), LinkState::Connecting);
    }
    let now = Instant::now();
    let open = needs
        .into_iter()
        .map(|(topic, need)| (topic, Open::new(need, now)));
    let resolver = Resolver {
        schemas: schemas.clone(),
        registry: Registry::new(settings, ONCE)?,
        known: Known::open(&state_dir.join(FILE)),
        links: links.clone(),
        open: open.collect(),
    };
    let stage = Stage::spawn("registry", move |stop| {
        resolver.run(&stop);
        Ok(())
    })?;
    Ok(Some(stage))
}

/// Asks until every question is answered.
struct Resolver {
    schemas: Schemas,
    registry: Registry,
    known: Known,
    links: Links,
    /// Not answered yet in this run.
    open: BTreeMap<Topic, Open>,
}

struct Open {
    need: Need,
    due: Instant,
    pause: Duration,
}

impl Open {
    fn new(need: Need, now: Instant) -> Self {
        Self {
            need,
            due: now,
            pause: PAUSE.0,
        }
    }
}

impl Resolver {
    fn run(mut self, stop: &Stop) {
        while stop.deadline().is_none() {
            let now = Instant::now();
            let due = self.open.iter().filter(|(_, open)| open.due <= now);
            let due: Vec<Topic> = due.map(|(topic, _)| topic.clone()).collect();
            for topic in due {
                // An answer may take as long as a time-out.
                if stop.deadline().is_none() {
                    self.ask(&topic);
                }
            }
            let next = self.open.values().map(|open| open.due).min();
            let next = next.map_or(LONG, |due| due.saturating_duration_since(Instant::now()));
            thread::park_timeout(next);
        }
    }

    fn ask(&mut self, topic: &Topic) {
        let Some(mut open) = self.open.remove(topic) else {
            return;
        };
        let answer = open.need.ask(&self.registry);
        let refusal = match &answer {
            Ok(found) => match open.need.form(found) {
                Ok(form) => return self.settle(topic, &open.need, found, form),
                Err(reason) => reason,
            },
            Err(error) => format!("{error}; {}", error.remedy()),
        };
        self.go_on_without(topic, &open.need, refusal);
        open.due = Instant::now() + open.pause;
        open.pause = (2 * open.pause).min(PAUSE.1);
        self.open.insert(topic.clone(), open);
    }

    fn settle(&mut self, topic: &Topic, need: &Need, found: &Registered, form: Form) {
        let (id, subject) = (found.id, need.subject.as_str());
        info!(%topic, subject, id, "schema known");
        self.schemas.know(topic, form);
        self.up(topic);
        let question = need.question(self.registry.url());
        if let Err(error) = self.known.keep(question, found) {
            warn!(%topic, %error, "schema id not kept, the next start needs the registry");
        }
    }

    /// By a number from before, if there is one; the readings wait otherwise.
    fn go_on_without(&self, topic: &Topic, need: &Need, reason: String) {
        if self.schemas.form(topic).is_some() {
            debug!(%topic, reason, "schema registry asked again in vain");
            return;
        }
        let known = self.known.get(&need.question(self.registry.url()));
        let Some((id, form)) = known.and_then(|found| Some((found.id, need.form(found).ok()?)))
        else {
            let state = LinkState::Down(reason);
            self.links.set(LinkKind::Registry, topic.as_str(), state);
            return;
        };
        warn!(%topic, id, reason, "schema registry does not confirm, going on with the id known from before");
        self.schemas.know(topic, form);
        self.up(topic);
    }

    fn up(&self, topic: &Topic) {
        self.links
            .set(LinkKind::Registry, topic.as_str(), LinkState::Up);
    }
}

#[cfg(test)]
mod tests;
