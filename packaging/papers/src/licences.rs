//! The licence texts of everything that is in a program, each once.

use std::{collections::BTreeMap, fmt::Write as _, fs, io, path::Path};

use anyhow::{Context, Result};

use crate::tree::Tree;

/// How files are named that hold a licence, or what it wants to be told.
const NAMES: [&str; 6] = [
    "license",
    "licence",
    "copying",
    "copyright",
    "notice",
    "unlicense",
];
/// Crates around C sources have their licence a few folders deeper.
const DEPTH: usize = 3;

/// All texts, with the crates that they are of.
///
/// # Errors
/// A crate's folder cannot be read.
pub fn texts(tree: &Tree) -> Result<String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut list = String::new();
    let others = tree
        .packages
        .iter()
        .filter(|(package, _)| package.source.is_some());
    for (package, _) in others {
        let name = format!("{} {}", package.name, package.version);
        let license = package.license.as_deref().unwrap_or("see below");
        writeln!(list, "  {name}: {license}")?;
        let folder = package.manifest_path.parent().unwrap_or(Path::new("/"));
        let mut found = Vec::new();
        let depth = if package.name.ends_with("-sys") || package.name.ends_with("-src") {
            DEPTH
        } else {
            0
        };
        collect(folder, depth, &mut found).with_context(|| folder.display().to_string())?;
        for text in found {
            let crates = texts.entry(text).or_default();
            if crates.last() != Some(&name) {
                crates.push(name.clone());
            }
        }
    }
    let mut all =
        format!("What is in this program beside its own sources, and on which terms:\n\n{list}");
    for (text, crates) in texts {
        let rule = "-".repeat(78);
        write!(
            all,
            "\n{rule}\nOf {}:\n\n{}\n",
            crates.join(", "),
            text.trim_end()
        )?;
    }
    Ok(all)
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<String>) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().to_lowercase();
        let is_dir = entry.file_type()?.is_dir();
        let is_licence = NAMES.iter().any(|licence| name.starts_with(licence));
        if is_dir && (depth > 0 || is_licence) {
            collect(&entry.path(), depth.saturating_sub(1), found)?;
        } else if is_licence && !name.ends_with(".rs") {
            found.push(String::from_utf8_lossy(&fs::read(entry.path())?).into_owned());
        }
    }
    Ok(())
}
