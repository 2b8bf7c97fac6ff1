//! What a page of the documentation points to is there: files, folders, headings.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::documentation::{pages, root};

/// What stands in a page outside of its blocks of code.
fn prose(page: &str) -> String {
    let parts = page.split("```").step_by(2);
    parts.collect()
}

/// `a/{b,c}*` is `a/b*` and `a/c*`.
fn alternatives(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let Some((inner, after)) = rest.split_once('}') else {
        return vec![path.to_owned()];
    };
    let each = inner.split(',');
    each.flat_map(|one| alternatives(&format!("{before}{one}{after}")))
        .collect()
}

/// A path, in whose name one `*` stands for anything.
fn is_there(path: &Path) -> Result<bool> {
    let name = path.file_name().context("no name")?.to_string_lossy();
    let Some((beginning, end)) = name.split_once('*') else {
        return Ok(path.exists());
    };
    let Ok(entries) = fs::read_dir(path.parent().context("no folder")?) else {
        return Ok(false);
    };
    for entry in entries {
        let entry = entry?.file_name();
        let entry = entry.to_string_lossy();
        if entry.starts_with(beginning) && entry.ends_with(end) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The tree's own folders, such as `docs`, but for those that git does not keep.
fn folders() -> Result<BTreeSet<String>> {
    let mut folders = BTreeSet::new();
    for entry in fs::read_dir(root())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !name.starts_with('.') && name != "target" {
            folders.insert(name);
        }
    }
    Ok(folders)
}

/// Whether a word between backticks is a path in this tree, and not a topic, a command or one on another machine.
fn is_path(word: &str, folders: &BTreeSet<String>) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/*{},".contains(c);
    let first = word.split('/').next().unwrap_or_default();
    word.contains('/') && word.chars().all(is_plain) && folders.contains(first)
}

#[test]
fn every_path_that_the_documentation_names_exists() -> Result<()> {
    let (folders, mut found) = (folders()?, 0);
    for (name, page) in pages()? {
        for words in prose(&page).split('`').skip(1).step_by(2) {
            // Of a command the program: `dev/demo --keep`.
            let word = words.split_whitespace().next().unwrap_or_default();
            if !is_path(word, &folders) {
                continue;
            }
            for path in alternatives(word.trim_end_matches('/')) {
                ensure!(is_there(&root().join(&path))?, "{name} names {path}");
                found += 1;
            }
        }
    }
    ensure!(
        found > 50,
        "{found} paths were found: have the pages changed?"
    );
    Ok(())
}

/// In the map of ARCHITECTURE.md what has no folder of its own stands in that of the path before it.
#[test]
fn every_place_on_the_code_map_exists() -> Result<()> {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    let (_, map) = page.split_once("## Code map").context("no code map")?;
    let rows = map.lines().filter(|line| line.starts_with("| `"));
    let mut found = 0;
    for row in rows {
        let cell = row.split('|').nth(1).context("no cell")?;
        let mut folder = PathBuf::new();
        for word in cell.split('`').skip(1).step_by(2) {
            for path in alternatives(word.trim_end_matches('/')) {
                let near = root().join(&folder).join(&path);
                let path = Path::new(&path);
                ensure!(is_there(&near)? || is_there(&root().join(path))?, "{row}");
                folder = path.parent().map_or(folder, |parent| match parent {
                    own if own != Path::new("") => own.to_owned(),
                    _ if path.is_dir() => path.to_owned(),
                    _ => near.parent().unwrap_or(path).to_owned(),
                });
                found += 1;
            }
        }
    }
    ensure!(found > 30, "{found} places were found");
    Ok(())
}

/// The name by which a heading is pointed to, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let letters = heading.trim_start_matches('#').trim().to_lowercase();
    let letters: String = letters.chars().filter(|c| kept(*c)).collect();
    letters.replace(' ', "-")
}

fn has_heading(page: &str, wanted: &str) -> bool {
    let text = prose(page);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(anchor).any(|anchor| anchor == wanted)
}

#[test]
fn every_link_of_the_documentation_leads_somewhere() -> Result<()> {
    let mut found = 0;
    for (name, page) in pages()? {
        let here = root().join(&name);
        for rest in prose(&page).split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default();
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => here.clone(),
                _ => here.parent().context("no folder")?.join(file),
            };
            ensure!(file.exists(), "{name}: {target} is not there");
            ensure!(
                !file
                    .components()
                    .any(|part| part == Component::Normal("target".as_ref())),
                "{name}: {target} is built"
            );
            if !heading.is_empty() {
                let there = fs::read_to_string(&file)?;
                ensure!(
                    has_heading(&there, heading),
                    "{name}: {target} has no such heading"
                );
            }
            found += 1;
        }
    }
    ensure!(found > 50, "{found} links were found");
    Ok(())
}
