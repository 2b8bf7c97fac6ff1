//! `edge-agent config sample | show`.

use clap::Subcommand;

use super::{ConfigFile, Exit, print};
use crate::config::{SAMPLE, Secrets};

/// Commands of `config`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// An annotated file to start from, with every setting and its default
    Sample,
    /// The configuration in force, defaults included, without secrets
    Show(ConfigFile),
}

/// Prints it.
///
/// # Errors
/// [`Exit`].
pub fn config(command: &Command) -> Result<(), Exit> {
    match command {
        Command::Sample => print(SAMPLE),
        Command::Show(file) => print(&file.load(Secrets::Leave)?.show()),
    }
}
