//! docs/operations.md lists every line that either daemon may write, and no other.

use std::{collections::BTreeSet, fs, path::Path};

/// Daemon, level, text.
type Line = (String, String, String);

const DAEMONS: [&str; 2] = ["edge-agent", "cloud-sink"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn sources(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") && name != "tests" {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            found.push(code.to_owned());
        }
    }
}

/// What follows `level!(`, up to the parenthesis that closes it.
fn arguments(code: &str) -> &str {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    for (at, c) in code.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &code[..at];
        }
    }
    panic!("a macro without an end");
}

/// The text is the last argument, a literal.
fn text(arguments: &str) -> String {
    let arguments = arguments.trim().trim_end_matches(',');
    let literal = arguments.strip_suffix('"').and_then(|rest| {
        let (_, text) = rest.rsplit_once('"')?;
        Some(text)
    });
    literal
        .unwrap_or_else(|| panic!("no constant text: {arguments}"))
        .to_owned()
}

fn written() -> BTreeSet<Line> {
    let mut lines = BTreeSet::new();
    for daemon in DAEMONS {
        let mut files = Vec::new();
        sources(&root().join(daemon).join("src"), &mut files);
        // Both write what it writes.
        sources(&root().join("protocol/host/src"), &mut files);
        for code in files {
            for level in ["info", "warn", "error"] {
                let call = format!("{level}!(");
                for (at, _) in code.match_indices(&call) {
                    let before = code[..at].chars().next_back();
                    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                        continue;
                    }
                    let text = text(arguments(&code[at + call.len()..]));
                    lines.insert((daemon.into(), level.into(), text));
                }
            }
        }
    }
    lines
}

/// Rows of the tables: level, text in back quotes, what it means, what to do.
fn documented() -> BTreeSet<Line> {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let mut daemon = String::new();
    let mut lines = BTreeSet::new();
    for row in page.lines() {
        if let Some(named) = row.strip_prefix("## Lines of ") {
            daemon = named.to_owned();
        }
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [level @ ("info" | "warn" | "error"), text, meaning, remedy] = cells[..] else {
            continue;
        };
        assert!(!meaning.is_empty() && !remedy.is_empty(), "{row}");
        let text = text.trim_matches('`').to_owned();
        let new = lines.insert((daemon.clone(), level.to_owned(), text));
        assert!(new, "twice: {row}");
    }
    lines
}

#[test]
fn every_line_of_both_daemons_is_documented_and_no_other() {
    let (written, documented) = (written(), documented());
    assert!(written.len() > 50, "the source was not found");
    let missing: Vec<_> = written.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&written).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "docs/operations.md lacks {missing:#?}\nand lists what no daemon writes: {stale:#?}"
    );
}

#[test]
fn a_line_is_found_however_it_is_written() {
    for (code, found) in [
        (r#""ready")"#, "ready"),
        (r#"a = f(")"), "one, two: three",)"#, "one, two: three"),
        ("%error,\n    \"far away\"\n)", "far away"),
        (r#"a = "x\"y", "z")"#, "z"),
    ] {
        assert_eq!(text(arguments(code)), found);
    }
}
