//! A Schema Registry, as far as readings need one: Confluent's API over HTTP, one question at a time.
//!
//! The client is `ureq`: it blocks, which is what a thread of the agent, a command and a blocking task of
//! the sink want, and brings ten crates, none of them a TLS library (it shares OpenSSL with librdkafka and
//! rumqttc). hyper, which both daemons carry for their status pages, would have been two crates and,
//! written here, the connection, the pool, the time-outs, proxies and redirects; the crate made for
//! registries would have been eighty.
//!
//! - The base URL may have a path, which questions are appended to.
//! - What the registry has said of an id or of a schema in a subject is true for ever and kept in memory;
//!   [`known`] keeps it on disk. What is newest in a subject is asked anew each time.
//! - A failure is an [`Error`] by what can be done about it. Neither key nor secret is ever in one.
//! - Transient failures are tried again after the pauses the caller gave; who has a loop of its own gives
//!   none.

mod answer;
pub mod known;
mod schema;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use ureq::Agent;

use answer::{Asked, judge, transport};
pub use answer::{Error, excerpt};
pub use schema::{Language, Registered, Schema, Standing, Verdict, declared};
pub use tls::SettingsError;

use crate::config::registry::Settings;

/// Pauses of a command: a proxy that is being restarted, a lost packet.
pub const BRIEFLY: &[Duration] = &[Duration::from_millis(300), Duration::from_secs(1)];
/// No pauses: one question, one answer.
pub const ONCE: &[Duration] = &[];

/// Largest answer that is read. A schema of a thousand fields is some 100 kB.
const MAX_ANSWER: u64 = 4 << 20;
/// Schemas kept in memory; beyond it all are forgotten, and asked for again.
const MAX_KEPT: usize = 1000;
/// How far references of references are followed, and how many of a schema there may be in all.
const MAX_DEPTH: usize = 10;
const MAX_REFERENCES: usize = 100;

/// A Schema Registry. Its `Debug` hides the secret.
pub struct Registry {
    agent: Agent,
    url: String,
    user: Option<String>,
    /// The header, which is as secret as the password.
    authorization: Option<String>,
    pauses: &'static [Duration],
    by_id: Mutex<HashMap<u32, Arc<Schema>>>,
    by_text: Mutex<HashMap<(String, Schema), Registered>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("url", &self.url)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// A client; nothing is connected yet. `pauses` are those between tries of one question.
    ///
    /// # Errors
    /// A file of certificates cannot be used.
    pub fn new(settings: &Settings, pauses: &'static [Duration]) -> Result<Self, SettingsError> {
        let config = Agent::config_builder()
            .tls_config(tls::config(settings)?)
            .http_status_as_error(false)
            .timeout_global(Some(settings.timeout))
            .user_agent(concat!("edge-pipeline/", env!("CARGO_PKG_VERSION")))
            .accept("application/vnd.schemaregistry.v1+json, application/json")
            .build();
        let authorization = settings.username.as_ref().map(|user| {
            let password = settings.password.as_deref().unwrap_or_default();
            format!(
                "Basic {}",
                BASE64_STANDARD.encode(format!("{user}:{password}"))
            )
        });
        Ok(Self {
            agent: config.new_agent(),
            url: settings.url.trim_end_matches('/').to_owned(),
            user: settings.username.clone(),
            authorization,
            pauses,
            by_id: Mutex::default(),
            by_text: Mutex::default(),
        })
    }

    /// Where it is, for people.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The schema of an id; asked for once.
    ///
    /// # Errors
    /// [`Error::UnknownId`] and the others.
    pub fn schema(&self, id: u32) -> Result<Arc<Schema>, Error> {
        if let Some(schema) = lock(&self.by_id).get(&id) {
            return Ok(Arc::clone(schema));
        }
        let answer = self.ask(&format!("/schemas/ids/{id}"), None, &Asked::Id(id))?;
        let mut schema = self.read_schema(&answer)?;
        self.follow(&answer, MAX_DEPTH, &mut schema.references)?;
        let schema = Arc::new(schema);
        keep(&self.by_id, id, Arc::clone(&schema));
        Ok(schema)
    }

    /// The schemas that an answer refers to, those that they refer to first.
    fn follow(&self, answer: &Value, depth: usize, into: &mut Vec<String>) -> Result<(), Error> {
        let references = answer["references"].as_array().map(Vec::as_slice);
        for reference in references.unwrap_or_default() {
            let subject = reference["subject"].as_str();
            let (Some(subject), Ok(version)) = (subject, self.number(reference, "version")) else {
                return Err(self.odd("a reference without subject and version"));
            };
            if depth == 0 || into.len() >= MAX_REFERENCES {
                return Err(self.odd("a schema with more references than are followed"));
            }
            let path = format!("/subjects/{}/versions/{version}", encoded(subject));
            let found = self.ask(&path, None, &Asked::Subject(subject))?;
            self.follow(&found, depth - 1, into)?;
            let text = self.read_schema(&found)?.text;
            if !into.contains(&text) {
                into.push(text);
            }
        }
        Ok(())
    }

    /// Where the subject has this very schema; asked for once.
    ///
    /// # Errors
    /// [`Error::UnknownSubject`], [`Error::NotRegistered`] and the others.
    pub fn find(
        &self,
        subject: &str,
        schema: &Schema,
        normalize: bool,
    ) -> Result<Registered, Error> {
        let key = (subject.to_owned(), schema.clone());
        if let Some(found) = lock(&self.by_text).get(&key) {
            return Ok(found.clone());
        }
        let path = format!("/subjects/{}?normalize={normalize}", encoded(subject));
        let answer = self.ask(&path, Some(schema), &Asked::Subject(subject))?;
        let registered = self.read_registered(&answer)?;
        keep(&self.by_text, key, registered.clone());
        Ok(registered)
    }

    /// The newest schema of a subject.
    ///
    /// # Errors
    /// [`Error::UnknownSubject`] and the others.
    pub fn latest(&self, subject: &str) -> Result<Registered, Error> {
        let path = format!("/subjects/{}/versions/latest", encoded(subject));
        let answer = self.ask(&path, None, &Asked::Subject(subject))?;
        self.read_registered(&answer)
    }

    /// Registers a schema, or finds it where it is registered already; the id.
    ///
    /// # Errors
    /// [`Error::Incompatible`], [`Error::Invalid`] and the others.
    pub fn register(&self, subject: &str, schema: &Schema, normalize: bool) -> Result<u32, Error> {
        let path = format!(
            "/subjects/{}/versions?normalize={normalize}",
            encoded(subject)
        );
        let answer = self.ask(&path, Some(schema), &Asked::Subject(subject))?;
        self.number(&answer, "id")
    }

    /// Whether the subject would take the schema, by the level of compatibility that holds for it.
    ///
    /// # Errors
    /// [`Error::Invalid`] and the others.
    pub fn judge(&self, subject: &str, schema: &Schema) -> Result<Verdict, Error> {
        let path = format!(
            "/compatibility/subjects/{}/versions/latest?verbose=true",
            encoded(subject)
        );
        let answer = match self.ask(&path, Some(schema), &Asked::Subject(subject)) {
            Ok(answer) => answer,
            Err(Error::UnknownSubject { .. } | Error::NotRegistered { .. }) => {
                return Ok(Verdict::NewSubject);
            }
            Err(error) => return Err(error),
        };
        match answer["is_compatible"].as_bool() {
            Some(true) => Ok(Verdict::Compatible),
            Some(false) => {
                let messages = answer["messages"].as_array().into_iter().flatten();
                let messages: Vec<&str> = messages.filter_map(Value::as_str).collect();
                let said = excerpt(&messages.join("; "));
                Ok(Verdict::Incompatible(if said.is_empty() {
                    "it says no more, but to who registers it".to_owned()
                } else {
                    said
                }))
            }
            None => Err(self.odd("no is_compatible in the answer")),
        }
    }

    /// How the subject stands to the schema; nothing is changed.
    ///
    /// # Errors
    /// [`Error::Invalid`], and what keeps it from being asked.
    pub fn standing(
        &self,
        subject: &str,
        schema: &Schema,
        normalize: bool,
    ) -> Result<Standing, Error> {
        match self.find(subject, schema, normalize) {
            Ok(registered) => Ok(Standing::Registered(registered)),
            Err(Error::UnknownSubject { .. }) => Ok(Standing::Taken { is_new: true }),
            Err(Error::NotRegistered { .. }) => Ok(match self.judge(subject, schema)? {
                Verdict::Compatible => Standing::Taken { is_new: false },
                Verdict::NewSubject => Standing::Taken { is_new: true },
                Verdict::Incompatible(said) => Standing::Refused(said),
            }),
            Err(error) => Err(error),
        }
    }

    /// The level of compatibility that holds for a subject, such as `BACKWARD`.
    ///
    /// # Errors
    /// Any.
    pub fn level(&self, subject: &str) -> Result<String, Error> {
        let path = format!("/config/{}?defaultToGlobal=true", encoded(subject));
        let answer = self.ask(&path, None, &Asked::Subject(subject))?;
        let level = answer["compatibilityLevel"].as_str();
        let level = level.or_else(|| answer["compatibility"].as_str());
        level
            .map(str::to_owned)
            .ok_or_else(|| self.odd("no compatibilityLevel in the answer"))
    }

    fn ask(&self, path: &str, schema: Option<&Schema>, asked: &Asked<'_>) -> Result<Value, Error> {
        let mut pauses = self.pauses.iter();
        loop {
            match (self.ask_once(path, schema, asked), pauses.next()) {
                (Err(error), Some(pause)) if error.is_transient() => thread::sleep(*pause),
                (answer, _) => return answer,
            }
        }
    }

    fn ask_once(
        &self,
        path: &str,
        schema: Option<&Schema>,
        asked: &Asked<'_>,
    ) -> Result<Value, Error> {
        let uri = format!("{}{path}", self.url);
        let answered = match schema {
            Some(schema) => {
                let mut request = self.agent.post(&uri);
                if let Some(authorization) = &self.authorization {
                    request = request.header("Authorization", authorization);
                }
                let mut body = json!({ "schema": schema.text });
                if schema.language != Language::Avro {
                    body["schemaType"] = schema.language.as_str().into();
                }
                request
                    .content_type("application/vnd.schemaregistry.v1+json")
                    .send(body.to_string())
            }
            None => {
                let mut request = self.agent.get(&uri);
                if let Some(authorization) = &self.authorization {
                    request = request.header("Authorization", authorization);
                }
                request.call()
            }
        };
        let unreachable = |error: &ureq::Error| Error::Unreachable {
            url: self.url.clone(),
            reason: transport(error),
        };
        let mut response = answered.map_err(|error| unreachable(&error))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(MAX_ANSWER);
        let body = body.read_to_vec().map_err(|error| unreachable(&error))?;
        judge(status, &body, asked, &self.url, self.user.as_deref())
    }

    fn odd(&self, what: &str) -> Error {
        Error::Odd {
            url: self.url.clone(),
            status: 200,
            said: what.to_owned(),
        }
    }

    fn number(&self, answer: &Value, name: &str) -> Result<u32, Error> {
        let number = answer[name].as_u64().and_then(|id| id.try_into().ok());
        number.ok_or_else(|| self.odd(&format!("no {name} in the answer")))
    }

    fn read_schema(&self, answer: &Value) -> Result<Schema, Error> {
        let text = answer["schema"].as_str();
        Ok(Schema {
            // Avro goes without saying.
            language: Language::from_word(answer["schemaType"].as_str().unwrap_or("AVRO")),
            text: text
                .ok_or_else(|| self.odd("no schema in the answer"))?
                .into(),
            references: Vec::new(),
        })
    }

    fn read_registered(&self, answer: &Value) -> Result<Registered, Error> {
        Ok(Registered {
            id: self.number(answer, "id")?,
            version: self.number(answer, "version").ok(),
            schema: Arc::new(self.read_schema(answer)?),
        })
    }
}

/// A name as a part of a path.
fn encoded(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                path.push(char::from(byte));
            }
            other => path.push_str(&format!("%{other:02X}")),
        }
    }
    path
}

fn lock<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is one insertion: a panic elsewhere leaves the map whole.
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep<K: Eq + std::hash::Hash, V>(map: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut map = lock(map);
    if map.len() >= MAX_KEPT {
        map.clear();
    }
    map.insert(key, value);
}
