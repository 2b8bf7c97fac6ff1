//! A JSON Schema of a configuration, for editors, made from what there is already.
//!
//! Nothing is written down a second time. The annotated sample of a daemon shows every setting, which a test of each
//! daemon holds; here its reader is asked about each:
//!
//! - which keys there are, and in which tables: what the reader asks for, and the sample has;
//! - what a value has to be: what its rule says ([`Expected`]) when it is given a date, which no rule takes;
//! - which keys have to be there: those whose absence it notes, in each table of the sample that they are in;
//! - what it means: the comment above it.
//!
//! So the schema is what the reader takes, or less strict: an editor helps while one writes, `check` has the last
//! word on what one text cannot tell (names that are unique, keys that need each other, texts with rules of their own).

use std::{collections::BTreeMap, ops::Range, path::Path};

use serde_json::{Map, Value, json};
use toml::de::{DeTable, DeValue};

use super::document::{Document, Expected};

/// No setting is a date.
const DATE: &str = "1979-05-27";
/// No key has this name.
const NOBODY: &str = "zz_nobody";

/// The schema of what `read` reads; `sample` is annotated as those of the daemons: a line that begins with `#` and no
/// space is a setting that is not in force.
#[must_use]
pub fn of(title: &str, sample: &str, read: impl Fn(&Document<'_>)) -> Value {
    let text = in_force(sample);
    let mut root = Node::default();
    let doc = Document::new(Path::new(""), &text);
    let parsed = doc.parse();
    read(&doc);
    let asked = doc.asked();
    let reader = Reader { text: &text, read };
    let knows = |path: &str| asked.contains(path);
    reader.table(&mut root, "", parsed.get_ref(), &knows);
    let mut schema = root.schema();
    let head = [
        ("$schema", "https://json-schema.org/draft/2020-12/schema"),
        ("title", title),
    ];
    if let Value::Object(object) = &mut schema {
        for (name, value) in head {
            object.insert(name.to_owned(), value.into());
        }
        object.insert("$defs".to_owned(), json!({ "secret": secret() }));
    }
    schema
}

/// The sample with every setting in force.
#[must_use]
pub fn in_force(sample: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(toml) if !toml.starts_with(' ') => format!("{toml}\n"),
        _ => format!("{line}\n"),
    };
    sample.lines().map(line).collect()
}

/// Every key of a schema, as `table.key`.
#[must_use]
pub fn keys(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(schema, "", &mut found);
    found
}

fn collect(schema: &Value, path: &str, found: &mut Vec<String>) {
    let choices = schema.get("anyOf").and_then(Value::as_array);
    let choices = choices.into_iter().flatten();
    for inner in choices.chain(schema.get("items")) {
        collect(inner, path, found);
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (key, inner) in properties.into_iter().flatten() {
        let path = join(path, key);
        collect(inner, &path, found);
        found.push(path);
    }
}

/// Every key, as `table.key`, that may be anything: the schema gives it neither a type nor words nor a choice.
#[must_use]
pub fn untyped(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect_untyped(schema, "", &mut found);
    found
}

fn collect_untyped(schema: &Value, path: &str, found: &mut Vec<String>) {
    let tables = schema
        .get("items")
        .filter(|items| items.get("properties").is_some());
    let inner = tables.unwrap_or(schema);
    match inner.get("properties").and_then(Value::as_object) {
        Some(properties) => {
            for (key, inner) in properties {
                collect_untyped(inner, &join(path, key), found);
            }
        }
        None => {
            let says = ["type", "enum", "anyOf", "$ref"];
            if says.iter().all(|word| inner.get(word).is_none()) {
                found.push(path.to_owned());
            }
        }
    }
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        _ => format!("{path}.{key}"),
    }
}

/// What was learned of a key, or of a table when it has children.
#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<String, Node>,
    /// Written `[[key]]`.
    list: bool,
    expected: Option<Expected>,
    describes: Option<String>,
    examples: Vec<Value>,
    /// Tables of the sample that have it, and those that need it.
    there: usize,
    needed: usize,
    /// How often the table stands in the sample.
    tables: usize,
}

struct Reader<'t, R> {
    text: &'t str,
    read: R,
}

impl<R: Fn(&Document<'_>)> Reader<'_, R> {
    fn table(
        &self,
        node: &mut Node,
        path: &str,
        table: &DeTable<'_>,
        knows: &dyn Fn(&str) -> bool,
    ) {
        node.tables += 1;
        for (key, value) in table {
            let inner = join(path, key.get_ref());
            if !knows(&inner) {
                continue;
            }
            let child = node.children.entry(key.get_ref().to_string()).or_default();
            child.there += 1;
            child.needed += usize::from(self.needs(&inner, key.span()));
            if child.describes.is_none() {
                child.describes = comment(self.text, key.span().start);
            }
            match value.get_ref() {
                DeValue::Table(table) if has_known(table, &inner, knows) => {
                    self.table(child, &inner, table, knows);
                }
                DeValue::Array(array) if is_tables(array, &inner, knows) => {
                    child.list = true;
                    for element in array.iter() {
                        if let DeValue::Table(table) = element.get_ref() {
                            self.table(child, &inner, table, knows);
                        }
                    }
                }
                _ => {
                    if child.expected.is_none() {
                        child.expected = self.expected(value.span());
                    }
                    let example = toml_to_json(self.text.get(value.span()).unwrap_or_default());
                    child
                        .examples
                        .extend(example.filter(|one| !child.examples.contains(one)));
                }
            }
        }
    }

    /// What the rule of the value there says to a date.
    fn expected(&self, at: Range<usize>) -> Option<Expected> {
        let text = self.with(&at, DATE);
        let doc = Document::new(Path::new(""), &text);
        (self.read)(&doc);
        let place = doc.place(at.start);
        let problems = doc.into_problems().into_iter();
        let mut here = problems.filter(|problem| problem.at == Some(place));
        here.find_map(|problem| problem.expected.map(|expected| *expected))
    }

    /// Whether the reader misses the key there when it is not.
    fn needs(&self, path: &str, at: Range<usize>) -> bool {
        let text = self.with(&at, NOBODY);
        let doc = Document::new(Path::new(""), &text);
        (self.read)(&doc);
        let starts = [
            format!("{path} "),
            format!("[{path}] "),
            format!("[[{path}]] "),
        ];
        let mut problems = doc.into_problems().into_iter();
        problems.any(|problem| {
            problem.expected.as_deref() == Some(&Expected::Present)
                && starts
                    .iter()
                    .any(|start| problem.message.starts_with(start))
        })
    }

    fn with(&self, at: &Range<usize>, instead: &str) -> String {
        let mut text = self.text.to_owned();
        text.replace_range(at.clone(), instead);
        text
    }
}

fn has_known(table: &DeTable<'_>, path: &str, knows: &dyn Fn(&str) -> bool) -> bool {
    let mut keys = table.keys();
    keys.any(|key| knows(&join(path, key.get_ref())))
}

fn is_tables(array: &toml::de::DeArray<'_>, path: &str, knows: &dyn Fn(&str) -> bool) -> bool {
    array.iter().any(|element| match element.get_ref() {
        DeValue::Table(table) => has_known(table, path, knows),
        _ => false,
    })
}

/// The comment above a line of the sample, in one line.
fn comment(text: &str, at: usize) -> Option<String> {
    let before = text.get(..at)?;
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let lines = before.get(..line_start)?.lines().rev();
    let above: Vec<&str> = lines.map_while(|line| line.strip_prefix("# ")).collect();
    let comment: Vec<&str> = above.into_iter().rev().collect();
    (!comment.is_empty()).then(|| comment.join(" "))
}

/// A value of the sample as it is in JSON.
fn toml_to_json(value: &str) -> Option<Value> {
    let document = format!("v = {value}");
    let table: toml::Table = document.parse().ok()?;
    serde_json::to_value(table.get("v")?).ok()
}

impl Node {
    fn schema(&self) -> Value {
        let tables = (!self.children.is_empty()).then(|| match self.list {
            true => json!({ "type": "array", "items": self.object() }),
            false => self.object(),
        });
        let value = self.expected.as_ref().map(Expected::schema);
        let mut schema = match (value, tables) {
            // `device` of a [[serial]] is a name, or tables of its own.
            (Some(value), Some(tables)) => json!({ "anyOf": [value, tables] }),
            (value, tables) => value.or(tables).unwrap_or_else(|| json!({})),
        };
        if let Value::Object(object) = &mut schema {
            if let Some(text) = &self.describes {
                object.insert("description".to_owned(), text.as_str().into());
            }
            if !self.examples.is_empty() && !object.contains_key("enum") {
                object.insert("examples".to_owned(), self.examples.clone().into());
            }
        }
        schema
    }

    fn object(&self) -> Value {
        let children = self.children.iter();
        let properties: Map<String, Value> = children
            .clone()
            .map(|(key, node)| (key.clone(), node.schema()))
            .collect();
        let required =
            children.filter(|(_, node)| node.there == self.tables && node.needed == node.there);
        let required: Vec<&String> = required.map(|(key, _)| key).collect();
        json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        })
    }
}

/// Where a secret is found: one place.
fn secret() -> Value {
    let place = json!({ "type": "string", "minLength": 1 });
    json!({
        "type": "object",
        "properties": { "credential": place, "file": place, "env": place },
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
    })
}

impl Expected {
    fn schema(&self) -> Value {
        match self {
            Self::Present => json!({}),
            Self::Text => json!({ "type": "string", "minLength": 1 }),
            Self::Words(words) => json!({ "enum": words }),
            Self::Boolean => json!({ "type": "boolean" }),
            Self::Integer(least, most) => {
                json!({ "type": "integer", "minimum": least, "maximum": most })
            }
            Self::Number => json!({ "type": "number" }),
            Self::Duration => json!({ "type": "string", "pattern": "[0-9]" }),
            Self::Bytes => json!({ "type": "string", "pattern": "^[0-9]+ *([KMG]i)?B$" }),
            Self::Secret => json!({ "$ref": "#/$defs/secret" }),
            Self::Table => json!({ "type": "object" }),
            Self::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Self::Or(one, other) => json!({ "anyOf": [one.schema(), other.schema()] }),
        }
    }
}
