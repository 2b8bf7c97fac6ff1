//! Where a secret becomes a text, at the last moment and never in a log.

use std::{env, fmt, fs, io, path::PathBuf};

use crate::config::Secret;

/// A secret's text. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Revealed(String);

impl Revealed {
    /// The text, for the one library that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Revealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Not started by systemd, or without `LoadCredential=`.
    #[error("credential {0}: $CREDENTIALS_DIRECTORY is not set; start under systemd with LoadCredential={0}")]
    NoCredentials(String),
    /// The variable is not set or not UTF-8.
    #[error("environment variable {0} is not set")]
    NoVariable(String),
    /// The file cannot be read.
    #[error("secret file {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads the secret; one line end behind it is not part of it.
///
/// # Errors
/// [`SecretError`], which names the place and never the text.
pub fn reveal(secret: &Secret) -> Result<Revealed, SecretError> {
    let path = match secret {
        Secret::Env(name) => {
            return env::var(name)
                .map(Revealed)
                .map_err(|_| SecretError::NoVariable(name.clone()));
        }
        Secret::File(path) => path.clone(),
        Secret::Credential(name) => env::var_os("CREDENTIALS_DIRECTORY")
            .map(|directory| PathBuf::from(directory).join(name))
            .ok_or_else(|| SecretError::NoCredentials(name.clone()))?,
    };
    let mut text =
        fs::read_to_string(&path).map_err(|source| SecretError::Read { path, source })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(Revealed(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_without_its_line_end_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        fs::write(&path, "hunter2\r\n").unwrap();
        let secret = reveal(&Secret::File(path)).unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert!(!format!("{secret:?}").contains("hunter"));
        let missing = reveal(&Secret::File(directory.path().join("none"))).unwrap_err();
        assert!(missing.to_string().contains("none"));
    }
}
