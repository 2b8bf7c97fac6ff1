//! `edge-agent queue stat | peek`: look into the queue, also while the agent runs; nothing is changed.

use clap::Subcommand;

use super::{ConfigFile, Exit};

/// Commands of `queue`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What waits, since when, and how much room is left
    Stat(ConfigFile),
}

/// Looks.
///
/// # Errors
/// [`Exit`].
pub fn queue(_command: &Command) -> Result<(), Exit> {
    Ok(())
}
