//! A TOML text, read table by table, that collects every mistake with its place.
//!
//! [`Table`] is the only way in: a key is *asked for* with the rule it has to keep, what was never
//! asked for is unknown, and each failure notes a [`Problem`] and reads on. So one run finds all of
//! them, and the set of keys is closed without being written down a second time.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};
use tracing::error;

use super::syntax;

/// Of this target no line is held back: somebody has asked, and waits for all of the answer.
const EVERY: &str = "protocol_host::config::document::every";
/// Mistakes that are told one by one.
const TOLD: usize = 50;

/// A mistake in a configuration, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Line and column, counted from 1, the column in characters; none when the file cannot be read.
    pub at: Option<(usize, usize)>,
    /// What is wrong, beginning with the key.
    pub message: String,
    /// What to do, where the message alone does not say it.
    pub fix: Option<String>,
    /// What there should have been, where the rule is one that can be told so; for [`super::schema`].
    pub expected: Option<Box<Expected>>,
}

/// Tells the first of them in the log, a line each: of a configuration that was read while the process runs.
pub fn tell(problems: &[Problem]) {
    for problem in problems.iter().take(TOLD) {
        let file = problem.file.display();
        let at = problem.at.map(|(line, column)| format!("{line}:{column}"));
        let (problem, fix) = (&*problem.message, problem.fix.as_deref());
        error!(target: EVERY, %file, at, problem, fix, "mistake in the configuration");
    }
}

/// What a rule takes, as far as a schema can say it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expected {
    /// Something, where nothing is.
    Present,
    /// A text that is not empty.
    Text,
    /// One of these texts.
    Words(Vec<&'static str>),
    /// `true` or `false`.
    Boolean,
    /// A whole number between these.
    Integer(i64, i64),
    /// A number.
    Number,
    /// A time span with its unit.
    Duration,
    /// An amount of bytes with its unit.
    Bytes,
    /// Where a secret is found.
    Secret,
    /// A table with keys of the user's own.
    Table,
    /// A list of texts.
    Texts,
    /// One or the other.
    Or(Box<Expected>, Box<Expected>),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        match &self.fix {
            Some(fix) => write!(f, "\n  fix: {fix}"),
            None => Ok(()),
        }
    }
}

/// What a rule says against a value: the message goes on after the key's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    message: String,
    fix: Option<String>,
    expected: Option<Box<Expected>>,
}

impl Mistake {
    /// A message that says all.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            fix: None,
            expected: None,
        }
    }

    /// The same, with what there should have been.
    pub fn expects(self, expected: Expected) -> Self {
        let expected = Some(Box::new(expected));
        Self { expected, ..self }
    }

    /// The same, where something else would have been right as well.
    pub fn or_expects(self, other: Expected) -> Self {
        let either = |one| Box::new(Expected::Or(one, Box::new(other)));
        let expected = self.expected.map(either);
        Self { expected, ..self }
    }

    /// The same, said of a key.
    pub fn of(self, key: &str) -> Self {
        Self {
            message: format!("{key} {}", self.message),
            ..self
        }
    }

    /// The same with one more thing that can be done about it.
    pub fn or(self, other: &str) -> Self {
        let fix = self.fix.map(|fix| format!("{fix}, {other}"));
        Self { fix, ..self }
    }

    /// The same, at its place.
    pub fn at(self, file: &Path, at: Option<(usize, usize)>) -> Problem {
        Problem {
            file: file.to_owned(),
            at,
            message: self.message,
            fix: self.fix,
            expected: self.expected,
        }
    }

    /// A message and its remedy.
    pub fn fix(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            fix: Some(fix.into()),
            expected: None,
        }
    }
}

/// The text of a configuration of `program`.
///
/// # Errors
/// It cannot be read.
pub fn read(file: &Path, program: &str) -> Result<String, Vec<Problem>> {
    let bytes = fs::read(file).map_err(|error| {
        let message = format!("cannot be read: {error}");
        let fix =
            format!("name the file with -c; `{program} config sample` prints one to start from");
        vec![Mistake::fix(message, fix).at(file, None)]
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..good]).into_owned();
        let at = Document::new(file, &before).place(before.len());
        let mistake = Mistake::fix("is no text in UTF-8", "save the file as UTF-8");
        vec![mistake.at(file, Some(at))]
    })
}

/// A value with its place, as a rule sees it.
pub type Value<'t> = Spanned<DeValue<'t>>;

/// The text being read and what was found wrong with it.
pub struct Document<'t> {
    file: &'t Path,
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
    /// Where the text is no TOML: what was read there all the same is nobody's mistake.
    broken: RefCell<BTreeSet<(usize, usize)>>,
    asked: RefCell<BTreeSet<String>>,
    /// Of [`Self::asked`], the lists of tables at the top of the file.
    lists: RefCell<BTreeSet<&'static str>>,
    /// Keys that nobody asked for and that resemble nothing beside them: which problem, and the key.
    strays: RefCell<Vec<(usize, String)>>,
    /// Problems of keys that are missing, where a misspelt one stands for them and is told.
    misspelt: RefCell<Vec<usize>>,
}

impl<'t> Document<'t> {
    /// A text that was read from `file`.
    pub fn new(file: &'t Path, text: &'t str) -> Self {
        Self {
            file,
            text,
            problems: RefCell::default(),
            broken: RefCell::default(),
            asked: RefCell::default(),
            lists: RefCell::default(),
            strays: RefCell::default(),
            misspelt: RefCell::default(),
        }
    }

    /// Reads the syntax; what is wrong is noted and the rest read as far as possible.
    pub fn parse(&self) -> Spanned<DeTable<'t>> {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let at = error.span().unwrap_or_default();
            let message = error.message().replace('\n', ", ");
            let mistake = match syntax::remedy(self.text, at.start, &message) {
                Some(fix) => Mistake::fix(message, fix),
                None => Mistake::new(message),
            };
            let at = self.place(at.start);
            self.add(mistake.at(self.file, Some(at)));
            self.broken.borrow_mut().insert(at);
        }
        root
    }

    /// Notes a mistake.
    pub fn note(&self, at: Range<usize>, mistake: Mistake) {
        let at = self.place(at.start);
        if !self.broken.borrow().contains(&at) {
            self.add(mistake.at(self.file, Some(at)));
        }
    }

    /// Adds a problem that lies elsewhere, in a file this one names.
    pub fn add(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Line and column of a byte, both from 1.
    pub fn place(&self, byte: usize) -> (usize, usize) {
        let before = self.text.get(..byte).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    /// Whether nothing is wrong so far.
    pub fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// Everything found, in the order of the file.
    pub fn into_problems(self) -> Vec<Problem> {
        let strays = self.strays.take();
        let homes: Vec<_> = strays
            .iter()
            .map(|(at, key)| (*at, self.home_of(key)))
            .collect();
        let mut problems = self.problems.into_inner();
        for (at, home) in homes {
            if let (Some(problem), Some(home)) = (problems.get_mut(at), home) {
                problem.fix = Some(match (home, problem.fix.take()) {
                    (Home::Top(heading), _) => {
                        format!("it is a table of its own at the top of the file: write {heading}")
                    }
                    (Home::In(tables), Some(fix)) => format!("{fix}; it is a setting of {tables}"),
                    (Home::In(tables), None) => format!("it is a setting of {tables}"),
                });
            }
        }
        // Where a key is misspelt, that it is missing is the same mistake told twice.
        let misspelt = self.misspelt.into_inner();
        let told = problems.into_iter().enumerate();
        let told = told.filter(|(at, _)| !misspelt.contains(at));
        let mut problems: Vec<_> = told.map(|(_, problem)| problem).collect();
        problems.sort();
        problems.dedup();
        problems
    }

    /// Where a key that stands in the wrong table belongs, as far as the tables of this file tell: known only
    /// when all of it has been read.
    fn home_of(&self, key: &str) -> Option<Home> {
        let asked = self.asked.borrow();
        if asked.contains(key) {
            let is_list = self.lists.borrow().contains(key);
            return Some(Home::Top(if is_list {
                format!("[[{key}]]")
            } else {
                format!("[{key}]")
            }));
        }
        let tables = asked.iter().filter_map(|name| name.rsplit_once('.'));
        let tables: Vec<String> = tables
            .filter(|(_, setting)| *setting == key)
            .map(|(table, _)| format!("[{table}]"))
            .collect();
        (!tables.is_empty()).then(|| Home::In(tables.join(", ")))
    }

    /// Every key that was asked for, as `table.key`: what a sample file has to show.
    pub fn asked(&self) -> BTreeSet<String> {
        self.asked.borrow().clone()
    }
}

/// Where a key belongs.
enum Home {
    /// It is a table at the top of the file, under this heading.
    Top(String),
    /// These tables have such a setting.
    In(String),
}

/// A table being read.
pub struct Table<'d, 't> {
    doc: &'d Document<'t>,
    /// Its name for people, such as `mqtt`.
    name: String,
    span: Range<usize>,
    map: &'d DeTable<'t>,
    asked: RefCell<BTreeSet<&'static str>>,
    /// Keys that ought to be there: which problem tells of it.
    absent: RefCell<Vec<(&'static str, usize)>>,
    /// A rule that reads all keys itself has been applied.
    open: Cell<bool>,
}

impl<'d, 't> Table<'d, 't> {
    /// The whole file.
    pub fn root(doc: &'d Document<'t>, root: &'d Spanned<DeTable<'t>>) -> Self {
        Self::new(doc, String::new(), 0..0, root.get_ref())
    }

    fn new(doc: &'d Document<'t>, name: String, span: Range<usize>, map: &'d DeTable<'t>) -> Self {
        Self {
            doc,
            name,
            span,
            map,
            asked: RefCell::default(),
            absent: RefCell::default(),
            open: Cell::new(false),
        }
    }

    /// Where it stands.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The document it belongs to.
    pub fn doc(&self) -> &'d Document<'t> {
        self.doc
    }

    /// A key of it, for people: `mqtt.name`.
    #[must_use]
    pub fn named(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    fn ask(&self, key: &'static str) -> Option<&'d Value<'t>> {
        self.asked.borrow_mut().insert(key);
        self.doc.asked.borrow_mut().insert(self.named(key));
        self.map.get(key)
    }

    /// Notes a mistake of this key: at its value, or at the table where it is missing.
    pub fn wrong(&self, key: &'static str, mistake: Mistake) {
        match self.map.get(key) {
            Some(value) => self.wrong_at(value.span(), key, mistake),
            None => self.absent(key, mistake.of(&self.named(key))),
        }
    }

    /// Notes that a key is not there, and which problem that is.
    fn absent(&self, key: &'static str, mistake: Mistake) {
        let before = self.doc.problems.borrow().len();
        self.doc.note(self.span(), mistake);
        if self.doc.problems.borrow().len() > before {
            self.absent.borrow_mut().push((key, before));
        }
    }

    fn wrong_at(&self, at: Range<usize>, key: &str, mistake: Mistake) {
        self.doc.note(at, mistake.of(&self.named(key)));
    }

    /// Where the key's value stands, if it is there.
    pub fn span_of(&self, key: &'static str) -> Option<Range<usize>> {
        self.map.get(key).map(Spanned::span)
    }

    /// Whether the key's value is a list without entries.
    pub fn is_empty_list(&self, key: &'static str) -> bool {
        let list = self
            .map
            .get(key)
            .and_then(|value| value.get_ref().as_array());
        list.is_some_and(|list| list.is_empty())
    }

    /// A key that may be absent. `None` also when it breaks its rule, which is noted.
    pub fn optional<T>(
        &self,
        key: &'static str,
        rule: impl FnOnce(&Value<'t>) -> Result<T, Mistake>,
    ) -> Option<T> {
        let value = self.ask(key)?;
        match rule(value) {
            Ok(read) => Some(read),
            Err(mistake) => {
                self.wrong_at(value.span(), key, mistake);
                None
            }
        }
    }

    /// A key with a default. The default also stands in for a value that breaks its rule.
    pub fn or<T>(
        &self,
        key: &'static str,
        default: T,
        rule: impl FnOnce(&Value<'t>) -> Result<T, Mistake>,
    ) -> T {
        self.optional(key, rule).unwrap_or(default)
    }

    /// A key that has to be there. `remedy` shows how it could look.
    pub fn required<T>(
        &self,
        key: &'static str,
        remedy: &str,
        rule: impl FnOnce(&Value<'t>) -> Result<T, Mistake>,
    ) -> Option<T> {
        if !self.map.contains_key(key) {
            let missing = Mistake::fix("is missing", remedy);
            self.wrong(key, missing.expects(Expected::Present));
        }
        self.optional(key, rule)
    }

    /// A key that has no meaning beside what else is set: `reason` says why.
    pub fn refuse(&self, key: &'static str, reason: &str) {
        if let Some(value) = self.ask(key) {
            self.wrong_at(value.span(), key, Mistake::fix(reason, "remove the line"));
        }
    }

    /// A table that has to be there. `example` shows a line of it.
    pub fn section(&self, key: &'static str, example: &str) -> Option<Table<'d, 't>> {
        if self.span_of(key).is_none() {
            let fix = format!("add [{key}] with {example}");
            let mistake = Mistake::fix(format!("[{key}] is missing"), fix);
            let mistake = mistake.expects(Expected::Present);
            self.absent(key, mistake);
        }
        self.table(key)
    }

    /// A table inside this one, if it is there.
    pub fn table(&self, key: &'static str) -> Option<Table<'d, 't>> {
        let value = self.ask(key)?;
        self.as_table(key, value)
    }

    /// An array of tables inside this one, written `[[key]]` or `key = [ { … } ]`.
    pub fn tables(&self, key: &'static str) -> Vec<Table<'d, 't>> {
        if self.name.is_empty() {
            self.doc.lists.borrow_mut().insert(key);
        }
        let Some(value) = self.ask(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            let shape = format!("is a list of tables: write [[{}]]", self.named(key));
            self.wrong_at(value.span(), key, Mistake::new(shape));
            return Vec::new();
        };
        array
            .iter()
            .filter_map(|element| self.as_table(key, element))
            .collect()
    }

    fn as_table(&self, key: &'static str, value: &'d Value<'t>) -> Option<Table<'d, 't>> {
        match value.get_ref() {
            DeValue::Table(map) => Some(Self::new(self.doc, self.named(key), value.span(), map)),
            other => {
                let message = format!("must be a table, not {}", kind(other));
                let mistake = Mistake::new(message).expects(Expected::Table);
                self.wrong_at(value.span(), key, mistake);
                None
            }
        }
    }

    /// Every entry, for tables whose keys are the user's own. Each mistake is noted at its value.
    pub fn entries<T>(
        &self,
        mut rule: impl FnMut(&str, &Value<'t>) -> Result<T, Mistake>,
    ) -> BTreeMap<String, (Range<usize>, T)> {
        self.open.set(true);
        let mut read = BTreeMap::new();
        for (key, value) in self.map {
            match rule(key.get_ref(), value) {
                Ok(entry) => {
                    read.insert(key.get_ref().clone().into_owned(), (key.span(), entry));
                }
                Err(mistake) => self.wrong_at(value.span(), key.get_ref(), mistake),
            }
        }
        read
    }
}

/// A key that nobody asked for is unknown.
impl Drop for Table<'_, '_> {
    fn drop(&mut self) {
        if self.open.get() {
            return;
        }
        let asked = self.asked.borrow();
        let unknown = |key: &&Spanned<DeString<'_>>| !asked.contains(&**key.get_ref());
        // An empty name is what is left of a line that was no TOML.
        for key in self
            .map
            .keys()
            .filter(unknown)
            .filter(|key| !key.get_ref().is_empty())
        {
            let (message, place) = match self.name.as_str() {
                "" => ("is not a table of this file".to_owned(), "it".to_owned()),
                name => (format!("is not a setting of [{name}]"), format!("[{name}]")),
            };
            let meant = nearest(key.get_ref(), asked.iter().copied());
            let fix = match meant {
                Some(meant) => format!("did you mean {meant}?"),
                None => {
                    let known: Vec<&str> = asked.iter().copied().collect();
                    format!("{place} has {}", known.join(", "))
                }
            };
            let before = self.doc.problems.borrow().len();
            self.wrong_at(key.span(), key.get_ref(), Mistake::fix(message, fix));
            let is_noted = self.doc.problems.borrow().len() > before;
            if is_noted && let Some(meant) = meant {
                let absent = self.absent.borrow();
                let told = absent.iter().filter(|(key, _)| *key == meant);
                let told = told.map(|(_, problem)| *problem);
                self.doc.misspelt.borrow_mut().extend(told);
            }
            if meant.is_none() && is_noted {
                let stray = (before, key.get_ref().clone().into_owned());
                self.doc.strays.borrow_mut().push(stray);
            }
        }
    }
}

/// The word that was probably meant; large letters are no other word.
pub fn nearest<'w>(given: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let given = given.to_lowercase();
    known
        .map(|word| {
            (
                strsim::damerau_levenshtein(&given, &word.to_lowercase()),
                word,
            )
        })
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min()
        .map(|(_, word)| word)
}

/// What a value is, for people.
pub fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a decimal point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
