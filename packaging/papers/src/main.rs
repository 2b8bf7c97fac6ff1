//! What a package has beside its program, made by `dev/package`:
//!
//! ```text
//! cargo metadata | papers edge-agent ROOT       ROOT/usr/share/man/man1/…            from the clap definitions
//!                                               ROOT/usr/share/bash-completion/… , zsh, fish
//!                                               ROOT/usr/share/doc/edge-agent/sbom.cdx.json
//!                                               ROOT/usr/share/doc/edge-agent/licences.txt
//! ```
//!
//! A program of its own, since a daemon on a gateway has no use for any of it. The bill of materials and the
//! licences come out of what cargo says anyway: the tools that do the same bring some two hundred crates to
//! be compiled first.

mod licences;
mod materials;
mod tree;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::{Command, CommandFactory, Parser};
use clap_complete::Shell;

use crate::tree::Tree;

/// Writes what a package has beside its program. Reads what `cargo metadata` says from stdin
#[derive(Debug, Parser)]
struct Arguments {
    /// edge-agent or cloud-sink
    package: String,
    /// The root of the package's files
    root: PathBuf,
}

fn main() -> Result<()> {
    let Arguments { package, root } = Arguments::parse();
    let command = match package.as_str() {
        "edge-agent" => edge_agent::cli::Cli::command(),
        "cloud-sink" => cloud_sink::cli::Cli::command(),
        _ => bail!("{package} is neither edge-agent nor cloud-sink"),
    };
    let metadata = io::read_to_string(io::stdin()).context("stdin")?;
    let tree = Tree::new(&metadata, &package)?;
    let share = root.join("usr/share");
    manual(command.clone(), &folder(&share, "man/man1")?)?;
    completions(command, &package, &share)?;
    let doc = folder(&share, &format!("doc/{package}"))?;
    fs::write(doc.join("sbom.cdx.json"), materials::cyclonedx(&tree)?)?;
    fs::write(doc.join("licences.txt"), licences::texts(&tree)?)?;
    Ok(())
}

fn folder(root: &Path, name: &str) -> Result<PathBuf> {
    let folder = root.join(name);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// A page for every command.
fn manual(command: Command, folder: &Path) -> Result<()> {
    Ok(clap_mangen::generate_to(command, folder)?)
}

fn completions(mut command: Command, package: &str, share: &Path) -> Result<()> {
    let shells = [
        (
            Shell::Bash,
            "bash-completion/completions",
            package.to_owned(),
        ),
        (Shell::Zsh, "zsh/vendor-completions", format!("_{package}")),
        (
            Shell::Fish,
            "fish/vendor_completions.d",
            format!("{package}.fish"),
        ),
    ];
    for (shell, place, name) in shells {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, package, &mut text);
        fs::write(folder(share, place)?.join(name), text)?;
    }
    Ok(())
}
