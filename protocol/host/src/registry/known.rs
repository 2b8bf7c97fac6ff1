//! Schemas that were known before, on disk: so that a restart without the registry goes on.
//!
//! One small JSON file, written whole to a new file that then takes its name. It holds no secret and
//! nothing that cannot be asked again: one that is damaged or of another version counts as empty.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{Language, Registered, Schema};

const VERSION: u64 = 1;
/// Questions kept; each is a topic's, so there are a few.
const MAX: usize = 100;

/// What was asked, as far as the answer depends on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// The registry.
    pub url: String,
    /// In which subject.
    pub subject: String,
    /// For which text; none for the newest.
    pub text: Option<String>,
    /// In which language.
    pub language: Language,
}

/// Answers by question.
#[derive(Debug)]
pub struct Known {
    file: PathBuf,
    answers: BTreeMap<Question, Registered>,
}

impl Known {
    /// What `file` holds, which may be nothing.
    #[must_use]
    pub fn open(file: &Path) -> Self {
        let text = fs::read(file).unwrap_or_default();
        let answers = serde_json::from_slice(&text).ok().as_ref().and_then(read);
        Self {
            file: file.to_owned(),
            answers: answers.unwrap_or_default(),
        }
    }

    /// The answer of before.
    #[must_use]
    pub fn get(&self, question: &Question) -> Option<&Registered> {
        self.answers.get(question)
    }

    /// Keeps an answer for the next start.
    ///
    /// # Errors
    /// The file cannot be written; the answer is kept for this run.
    pub fn keep(&mut self, question: Question, answer: &Registered) -> io::Result<()> {
        if self.answers.get(&question) == Some(answer) {
            return Ok(());
        }
        // A declaration that changed leaves its old question behind.
        self.answers
            .retain(|old, _| old.subject != question.subject || old.url != question.url);
        if self.answers.len() >= MAX {
            self.answers.clear();
        }
        self.answers.insert(question, answer.clone());
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        let answers: Vec<Value> = self.answers.iter().map(show).collect();
        let text = json!({ "version": VERSION, "schemas": answers }).to_string();
        let new = self.file.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.file)?;
        match self.file.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }
}

fn show((question, answer): (&Question, &Registered)) -> Value {
    json!({
        "registry": question.url,
        "subject": question.subject,
        "type": question.language.as_str(),
        "wanted": question.text,
        "id": answer.id,
        "schema": answer.schema.text,
    })
}

fn read(file: &Value) -> Option<BTreeMap<Question, Registered>> {
    if file["version"] != VERSION {
        return None;
    }
    let text = |entry: &Value, name: &str| entry[name].as_str().map(str::to_owned);
    let entries = file["schemas"].as_array()?.iter();
    entries
        .map(|entry| {
            let language = Language::from_word(entry["type"].as_str()?);
            let schema = Schema::new(language.clone(), text(entry, "schema")?);
            let question = Question {
                url: text(entry, "registry")?,
                subject: text(entry, "subject")?,
                text: text(entry, "wanted"),
                language,
            };
            let answer = Registered {
                id: entry["id"].as_u64()?.try_into().ok()?,
                version: None,
                schema: Arc::new(schema),
            };
            Some((question, answer))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(subject: &str, text: Option<&str>) -> Question {
        Question {
            url: "https://r".into(),
            subject: subject.into(),
            text: text.map(str::to_owned),
            language: Language::Avro,
        }
    }

    fn answer(id: u32) -> Registered {
        Registered {
            id,
            version: None,
            schema: Arc::new(Schema::new(Language::Avro, "\"string\"")),
        }
    }

    #[test]
    fn what_was_known_is_known_again_and_only_to_the_same_question() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("schemas.json");
        let mut known = Known::open(&file);
        known.keep(question("a", Some("1")), &answer(1)).unwrap();
        known.keep(question("b", None), &answer(2)).unwrap();
        let known = Known::open(&file);
        assert_eq!(known.get(&question("a", Some("1"))), Some(&answer(1)));
        assert_eq!(known.get(&question("b", None)), Some(&answer(2)));
        assert_eq!(known.get(&question("a", Some("2"))), None);
        let other = Question {
            url: "https://other".into(),
            ..question("a", Some("1"))
        };
        assert_eq!(known.get(&other), None);
    }

    #[test]
    fn a_new_declaration_takes_the_place_of_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("schemas.json");
        let mut known = Known::open(&file);
        known.keep(question("a", Some("1")), &answer(1)).unwrap();
        known.keep(question("a", Some("2")), &answer(2)).unwrap();
        let known = Known::open(&file);
        assert_eq!(known.get(&question("a", Some("1"))), None);
        assert_eq!(known.get(&question("a", Some("2"))), Some(&answer(2)));
    }

    #[test]
    fn a_damaged_file_or_one_of_another_version_counts_as_empty() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("schemas.json");
        for text in [
            "",
            "{\"version\":1,\"schemas\":[{\"id\":",
            "{\"version\":2,\"schemas\":[]}",
            "{\"version\":1,\"schemas\":[{\"id\":-1}]}",
        ] {
            fs::write(&file, text).unwrap();
            let mut known = Known::open(&file);
            assert_eq!(known.get(&question("a", None)), None);
            known.keep(question("a", None), &answer(9)).unwrap();
            let again = Known::open(&file);
            assert_eq!(again.get(&question("a", None)), Some(&answer(9)));
        }
    }
}
