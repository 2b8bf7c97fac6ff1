//! `fields`: what the readings of a topic are declared to have.
//!
//! The agents that write a topic and the sink that reads it have to declare the same, so the declaration
//! can be a file of its own that is laid beside both: `fields = "/etc/edge-agent/readings.fields.toml"`.
//! A few fields can stand where the file would be named.
//!
//! ```toml
//! voltage_v = "double"
//! energy_wh = "long"
//! relay_on = "bool"
//! state = "string"
//! ```

use std::{fs, path::Path};

use protocol::{
    FieldName,
    schema::{Declaration, Kind},
};
use toml::de::DeValue;

use super::{
    document::{Document, Expected, Mistake, Problem, Table, Value},
    value,
};

const EXAMPLE: &str = "write fields = { voltage_v = \"double\" }, or the path of a file with lines like voltage_v = \"double\"";

/// Reads the key `fields`; `None` when it is absent or wrong.
pub fn read(table: &Table<'_, '_>) -> Option<Declaration> {
    let mut problems = Vec::new();
    let declared = table.optional("fields", |value| match value.get_ref() {
        DeValue::Table(inline) => {
            let fields = inline.iter().map(|(name, kind)| {
                let name = name.get_ref();
                field(name, kind).map_err(|mistake| mistake.of(&format!("has {name}, which")))
            });
            declare(fields.collect::<Result<Vec<_>, _>>()?).map(Some)
        }
        DeValue::String(_) => match of_file(&value::path(value)?) {
            Ok(declared) => Ok(Some(declared)),
            Err(found) => {
                problems = found;
                Ok(None)
            }
        },
        _ => Err(
            Mistake::fix("is neither fields nor a file of them", EXAMPLE)
                .expects(Expected::Text)
                .or_expects(Expected::Table),
        ),
    });
    for problem in problems {
        table.doc().add(problem);
    }
    declared.flatten()
}

fn field(name: &str, kind: &Value<'_>) -> Result<(FieldName, Kind), Mistake> {
    let field = FieldName::new(name)
        .map_err(|error| Mistake::new(format!("is no name of a field: {error}")))?;
    match value::text(kind)?.parse() {
        Ok(kind) => Ok((field, kind)),
        Err(_) => Err(Mistake::new(
            "must be \"double\", \"long\", \"bool\" or \"string\"",
        )),
    }
}

fn declare(fields: Vec<(FieldName, Kind)>) -> Result<Declaration, Mistake> {
    Declaration::new(fields).map_err(|error| Mistake::new(format!("is not valid: {error}")))
}

fn of_file(file: &Path) -> Result<Declaration, Vec<Problem>> {
    let text = fs::read_to_string(file).map_err(|error| {
        let message = format!("cannot be read: {error}");
        vec![
            Mistake::fix(
                message,
                "check topic.fields, and that the service may read it",
            )
            .at(file, None),
        ]
    })?;
    let doc = Document::new(file, &text);
    let root = doc.parse();
    let fields = Table::root(&doc, &root).entries(field);
    let declared = declare(fields.into_values().map(|(_, field)| field).collect());
    match declared {
        Ok(declared) if doc.is_clean() => Ok(declared),
        Ok(_) => Err(doc.into_problems()),
        Err(mistake) => {
            doc.note(0..0, mistake.of("the file"));
            Err(doc.into_problems())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Option<Declaration>, String> {
        let doc = Document::new(Path::new("f"), text);
        let root = doc.parse();
        let declared = read(&Table::root(&doc, &root));
        let problems: Vec<String> = doc
            .into_problems()
            .iter()
            .map(ToString::to_string)
            .collect();
        if problems.is_empty() {
            Ok(declared)
        } else {
            Err(problems.join("\n"))
        }
    }

    fn two() -> Declaration {
        let field = |name: &str, kind| (FieldName::new(name).unwrap(), kind);
        Declaration::new([
            field("voltage_v", Kind::Double),
            field("state", Kind::String),
        ])
        .unwrap()
    }

    #[test]
    fn fields_stand_in_the_table_or_in_a_file_of_their_own() {
        assert_eq!(read_text(""), Ok(None));
        let inline = "fields = { voltage_v = \"double\", state = \"string\" }";
        assert_eq!(read_text(inline), Ok(Some(two())));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("fields.toml");
        fs::write(
            &file,
            "# what a meter says\nvoltage_v = \"double\"\nstate = \"string\"\n",
        )
        .unwrap();
        assert_eq!(read_text(&format!("fields = {file:?}")), Ok(Some(two())));
    }

    #[test]
    fn mistakes_are_placed_where_they_stand() {
        for (text, expected) in [
            ("fields = 7", "f:1:10: fields is neither fields nor a file"),
            (
                "fields = { \"A b\" = \"double\" }",
                "f:1:10: fields has A b, which is no name of a field: ",
            ),
            (
                "fields = { a = \"float\" }",
                "f:1:10: fields has a, which must be \"double\", ",
            ),
            (
                "fields = \"/nowhere/f.toml\"",
                "/nowhere/f.toml: cannot be read",
            ),
        ] {
            let said = read_text(text).unwrap_err();
            assert!(said.starts_with(expected), "{said}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("fields.toml");
        fs::write(&file, "a = \"double\"\nb = \"number\"\n").unwrap();
        let said = read_text(&format!("fields = {file:?}")).unwrap_err();
        let expected = format!("{}:2:5: b must be \"double\"", file.display());
        assert!(said.starts_with(&expected), "{said}");
    }
}
