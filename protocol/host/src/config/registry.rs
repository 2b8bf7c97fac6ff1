//! `[registry]`: the Schema Registry, where the properties file does not say it all.
//!
//! A `url` here goes before the file's, and takes nothing from it: a key of the one is not sent to the
//! other. Everything else here adds to what the file says.

use std::{fmt, path::PathBuf, time::Duration};

use super::{
    Secrets,
    document::{Mistake, Table, Value},
    kafka::HIDDEN,
    plaintext,
    show::Keys,
    value,
};

/// A Schema Registry, and how it is used. Its `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// `http://` or `https://`, without user, perhaps with a path.
    pub url: String,
    /// Key, where it needs one.
    pub username: Option<String>,
    /// Secret, where it needs one.
    pub password: Option<String>,
    /// PEM file of the authority that signed its certificate; default the system's.
    pub ca: Option<PathBuf>,
    /// PEM file of a certificate of our own, for registries that ask for one; default none.
    pub certificate: Option<PathBuf>,
    /// Its key, as PEM.
    pub key: Option<PathBuf>,
    /// Longest wait for one answer, 1 s to 15 s; default 5 s.
    pub timeout: Duration,
    /// What a subject is named after; default the topic.
    pub subject: Subject,
    /// Whether the registry is to bring schemas into its own form before it compares them; default false.
    pub normalize: bool,
    /// Whether another machine may be asked by `http://`; default false.
    pub allow_plaintext: bool,
}

/// Longest wait for one answer where nothing is set.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Settings {
    /// A registry that is reached so, and otherwise as by default.
    #[must_use]
    pub fn new(url: &str, login: Option<(String, String)>) -> Self {
        let (username, password) = login.unzip();
        Self {
            url: url.trim_end_matches('/').to_owned(),
            username,
            password,
            ca: None,
            certificate: None,
            key: None,
            timeout: TIMEOUT,
            subject: Subject::Topic,
            normalize: false,
            allow_plaintext: false,
        }
    }

    /// The table as it could be written, without the secret.
    #[must_use]
    pub fn show(&self) -> Keys {
        let path = |path: &PathBuf| path.display().to_string();
        let keys = Keys::default()
            .set("url", self.url.clone())
            .maybe("username", self.username.clone())
            .maybe("password", self.password.as_ref().map(|_| HIDDEN))
            .maybe("ca", self.ca.as_ref().map(path))
            .maybe("certificate", self.certificate.as_ref().map(path))
            .maybe("key", self.key.as_ref().map(path));
        keys.set("timeout", value::show_duration(self.timeout))
            .set("subject", self.subject.as_str())
            .set("normalize", self.normalize)
            .set(plaintext::KEY, self.allow_plaintext)
    }
}

/// Shows everything but the secret.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.url)
            .field("username", &self.username)
            .field("ca", &self.ca)
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .field("timeout", &self.timeout)
            .field("subject", &self.subject)
            .field("normalize", &self.normalize)
            .field("allow_plaintext", &self.allow_plaintext)
            .finish_non_exhaustive()
    }
}

/// What a subject is named after. Confluent's clients call these strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// `TopicNameStrategy`: `TOPIC-value`. One schema per topic.
    Topic,
    /// `RecordNameStrategy`: the record's full name. One schema for every topic with such records.
    Record,
    /// `TopicRecordNameStrategy`: `TOPIC-NAME`. Several kinds of records in a topic.
    TopicRecord,
}

impl Subject {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Record => "record",
            Self::TopicRecord => "topic-record",
        }
    }

    /// The subject of the values of a topic.
    #[must_use]
    pub fn of(self, topic: &str, record: &str) -> String {
        match self {
            Self::Topic => format!("{topic}-value"),
            Self::Record => record.to_owned(),
            Self::TopicRecord => format!("{topic}-{record}"),
        }
    }
}

/// Reads what both daemons have in `[registry]`, on top of what the properties file says.
pub fn read(
    table: Option<&Table<'_, '_>>,
    file: Option<Settings>,
    secrets: Secrets,
) -> Option<Settings> {
    let Some(table) = table else {
        return file;
    };
    let url = table.optional("url", url);
    let username = table.optional("username", value::text);
    let password = password(table, secrets);
    let (certificate, key) = (
        table.optional("certificate", value::path),
        table.optional("key", value::path),
    );
    let ca = table.optional("ca", value::path);
    let timeout = value::duration(Duration::from_secs(1)..=Duration::from_secs(15));
    let timeout = table.or("timeout", TIMEOUT, timeout);
    let words = [Subject::Topic, Subject::Record, Subject::TopicRecord];
    let words = words.map(|subject| (subject.as_str(), subject));
    let subject = table.or("subject", Subject::Topic, value::one_of(words));
    let normalize = table.or("normalize", false, value::boolean);

    if table.span_of("url").is_none() && file.is_none() {
        let fix = "write url = \"https://psrc-….confluent.cloud\", or schema.registry.url in kafka.properties_file";
        table.wrong("url", Mistake::fix("is missing", fix));
    }
    if username.is_some() && table.span_of("password").is_none() {
        let fix = "write password = { credential = \"schema_registry\" }";
        table.wrong("password", Mistake::fix("is missing", fix));
    }
    if table.span_of("password").is_some() && username.is_none() {
        let fix = "write username = \"KEY\", a key of the Schema Registry";
        table.wrong("username", Mistake::fix("is missing", fix));
    }
    if certificate.is_some() != key.is_some() {
        let (missing, fix) = if key.is_none() {
            ("key", "write key = \"/path/key.pem\"")
        } else {
            (
                "certificate",
                "write certificate = \"/path/certificate.pem\"",
            )
        };
        table.wrong(missing, Mistake::fix("is missing", fix));
    }
    let mut allow_plaintext = plaintext::is_allowed(table);
    let base = match url {
        Some(url) => {
            if let (false, Some(mistake)) = (allow_plaintext, without_tls(&url, "[registry]")) {
                table.wrong("url", mistake);
            }
            Settings::new(&url, None)
        }
        None => file?,
    };
    allow_plaintext |= base.allow_plaintext;
    let login = username.zip(password).or(base.username.zip(base.password));
    Some(Settings {
        ca,
        certificate,
        key,
        timeout,
        subject,
        normalize,
        allow_plaintext,
        ..Settings::new(&base.url, login)
    })
}

fn password(table: &Table<'_, '_>, secrets: Secrets) -> Option<String> {
    let secret = table.optional("password", value::secret)?;
    if secrets == Secrets::Leave {
        return Some(HIDDEN.to_owned());
    }
    match secret.read() {
        Ok(password) => Some(password),
        Err(error) => {
            table.wrong("password", Mistake::new(format!("cannot be had: {error}")));
            None
        }
    }
}

fn url(value: &Value<'_>) -> Result<String, Mistake> {
    let given = value::text(value)?;
    check_url(&given, "url = \"https://host\"", "username and password")?;
    Ok(given)
}

/// The mistake of a URL without TLS that is not this machine's; `table` is where that may be allowed.
pub(super) fn without_tls(url: &str, table: &str) -> Option<Mistake> {
    let authority = url.strip_prefix("http://")?.split('/').next()?;
    let host = plaintext::other_machine(authority)?;
    Some(plaintext::mistake(host, "write https://", table))
}

/// A URL is shown in logs: it must not hold a secret. `example` shows how it is written, `login` where a
/// key belongs.
pub(super) fn check_url(url: &str, example: &str, login: &str) -> Result<(), Mistake> {
    let example = format!("write {example}");
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Err(Mistake::fix("must begin with https:// or http://", example));
    };
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        let fix = format!("write {login} and the url without them");
        return Err(Mistake::fix("must not hold a user or password", fix));
    }
    if host.is_empty() {
        return Err(Mistake::fix("names no host", example));
    }
    if url.contains(',') {
        return Err(Mistake::fix("names several registries", "name one"));
    }
    if url.contains(['?', '#', ' ']) {
        return Err(Mistake::fix("is more than a host and a path", example));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{super::document::Document, *};

    fn read_text(text: &str, file: Option<Settings>) -> Result<Option<Settings>, String> {
        let doc = Document::new(Path::new("f"), text);
        let root = doc.parse();
        let settings = {
            let root = Table::root(&doc, &root);
            let table = root.table("registry");
            read(table.as_ref(), file, Secrets::Leave)
        };
        let problems: Vec<String> = doc
            .into_problems()
            .iter()
            .map(ToString::to_string)
            .collect();
        if problems.is_empty() {
            Ok(settings)
        } else {
            Err(problems.join("\n"))
        }
    }

    fn from_file() -> Settings {
        Settings::new("https://file/", Some(("FK".into(), "hunter2".into())))
    }

    #[test]
    fn what_stands_here_adds_to_the_file_and_its_url_goes_before_all_of_it() {
        assert_eq!(read_text("", None), Ok(None));
        assert_eq!(read_text("", Some(from_file())), Ok(Some(from_file())));
        let added = read_text(
            "[registry]\nsubject = \"record\"\nca = \"/ca.pem\"\ntimeout = \"9s\"\nnormalize = true",
            Some(from_file()),
        );
        let expected = Settings {
            ca: Some("/ca.pem".into()),
            timeout: Duration::from_secs(9),
            subject: Subject::Record,
            normalize: true,
            ..from_file()
        };
        assert_eq!(added, Ok(Some(expected)));
        let own = read_text("[registry]\nurl = \"https://own/sub/\"", Some(from_file()));
        assert_eq!(own, Ok(Some(Settings::new("https://own/sub", None))));
        let key = read_text(
            "[registry]\nusername = \"K\"\npassword = { env = \"NOWHERE\" }",
            Some(from_file()),
        );
        let login = Some(("K".into(), HIDDEN.into()));
        assert_eq!(key, Ok(Some(Settings::new("https://file", login))));
    }

    #[test]
    fn each_mistake_is_named_with_its_place_and_no_secret() {
        for (line, expected) in [
            ("timeout = \"9s\"", "f:1:1: registry.url is missing"),
            (
                "url = \"psrc\"",
                "f:2:7: registry.url must begin with https://",
            ),
            (
                "url = \"https://K:hunter2@h\"",
                "f:2:7: registry.url must not hold a user",
            ),
            (
                "url = \"http://registry:8080/apis\"",
                "f:2:7: registry.url goes to registry in plain text",
            ),
            (
                "url = \"https://h?a=b\"",
                "f:2:7: registry.url is more than a host",
            ),
            (
                "url = \"https://h\"\nusername = \"K\"",
                "registry.password is missing",
            ),
            (
                "url = \"https://h\"\nusername = \"K\"\npassword = \"hunter2\"",
                "f:4:12: registry.password must not stand in the file",
            ),
            (
                "url = \"https://h\"\npassword = { env = \"A\" }",
                "registry.username is missing",
            ),
            (
                "url = \"https://h\"\ncertificate = \"/c\"",
                "registry.key is missing",
            ),
            (
                "url = \"https://h\"\nkey = \"/c\"",
                "registry.certificate is missing",
            ),
            (
                "url = \"https://h\"\nsubject = \"TopicNameStrategy\"",
                "must be \"topic\" or \"record\" or \"topic-record\"",
            ),
        ] {
            let said = read_text(&format!("[registry]\n{line}\n"), None).unwrap_err();
            assert!(said.contains(expected), "{line}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn plain_text_needs_a_word_unless_it_stays_on_this_machine() {
        let allowed = "[registry]\nurl = \"http://registry:8080\"\nallow_plaintext = true";
        for text in [allowed, "[registry]\nurl = \"http://127.0.0.1:8080/apis\""] {
            assert!(read_text(text, None).is_ok(), "{text}");
        }
    }

    #[test]
    fn subjects_are_named_as_confluents_clients_name_them() {
        for (subject, expected) in [
            (Subject::Topic, "t.v1-value"),
            (Subject::Record, "edge.R"),
            (Subject::TopicRecord, "t.v1-edge.R"),
        ] {
            assert_eq!(subject.of("t.v1", "edge.R"), expected);
        }
    }

    #[test]
    fn the_secret_is_never_shown() {
        let settings = from_file();
        let shown = settings.show().0.to_string();
        for text in [format!("{settings:?}"), shown] {
            assert!(text.contains("FK") && !text.contains("hunter2"), "{text}");
        }
    }
}
