//! `edge-agent config sample | show | schema`.

use clap::Subcommand;

use super::{ConfigFile, Exit, print};
use crate::config::{SAMPLE, Secrets, schema};

/// Commands of `config`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// An annotated file to start from, with every setting and its default
    Sample,
    /// The configuration in force, defaults included, without secrets
    Show(ConfigFile),
    /// A JSON Schema for editors, which then complete settings and underline mistakes
    Schema,
}

/// Prints it.
///
/// # Errors
/// [`Exit`].
pub fn config(command: &Command) -> Result<(), Exit> {
    match command {
        Command::Sample => print(SAMPLE),
        Command::Schema => print(&format!("{:#}\n", schema())),
        Command::Show(file) => print(&file.load(Secrets::Leave)?.show()),
    }
}
