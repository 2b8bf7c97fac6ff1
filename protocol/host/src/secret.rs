//! Secrets: found where the configuration says, read when needed, never shown.

use std::{env, ffi::OsString, fs, io, path::PathBuf};

/// Where a secret is; never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// A file in systemd's `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// Why a secret cannot be had. Never holds the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Not started by systemd, or without `LoadCredential=`.
    #[error(
        "credential {0}: $CREDENTIALS_DIRECTORY is not set; it is where the service runs, with LoadCredential={0}:/path"
    )]
    NoCredentials(String),
    /// A file cannot be read.
    #[error("file {path}: {source}")]
    File {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The variable is not there, or no UTF-8.
    #[error("environment variable {0} is not set")]
    NotSet(String),
    /// Nothing but a line end.
    #[error("{0} is empty")]
    Empty(String),
}

impl Secret {
    /// Reads the secret; one line end at its end is not part of it.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn read(&self) -> Result<String, SecretError> {
        self.read_in(env::var_os("CREDENTIALS_DIRECTORY"))
    }

    fn read_in(&self, credentials: Option<OsString>) -> Result<String, SecretError> {
        let file = |path: PathBuf| {
            fs::read_to_string(&path).map_err(|source| SecretError::File { path, source })
        };
        let text = match self {
            Self::Credential(name) => {
                let directory =
                    credentials.ok_or_else(|| SecretError::NoCredentials(name.clone()))?;
                file(PathBuf::from(directory).join(name))?
            }
            Self::File(path) => file(path.clone())?,
            Self::Env(name) => env::var(name).map_err(|_| SecretError::NotSet(name.clone()))?,
        };
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err(SecretError::Empty(self.place()));
        }
        Ok(text.to_owned())
    }

    /// Where it is, for people.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Credential(name) => format!("credential {name}"),
            Self::File(path) => format!("file {}", path.display()),
            Self::Env(name) => format!("environment variable {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_from_its_place_without_the_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mqtt_house");
        fs::write(&path, "s3cret=\r\n").unwrap();
        let credentials = Some(dir.path().as_os_str().to_owned());
        let credential = Secret::Credential("mqtt_house".into());
        assert_eq!(credential.read_in(credentials).unwrap(), "s3cret=");
        assert_eq!(Secret::File(path).read().unwrap(), "s3cret=");
    }

    #[test]
    fn what_is_missing_is_named() {
        let credential = Secret::Credential("kafka".into());
        let error = credential.read_in(None).unwrap_err().to_string();
        assert!(error.contains("LoadCredential=kafka:"), "{error}");
        let variable = Secret::Env("EDGE_AGENT_NO_SUCH_VARIABLE".into());
        let error = variable.read().unwrap_err().to_string();
        assert_eq!(
            error,
            "environment variable EDGE_AGENT_NO_SUCH_VARIABLE is not set"
        );
    }

    #[test]
    fn an_empty_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty");
        fs::write(&path, "\n").unwrap();
        assert!(matches!(
            Secret::File(path).read(),
            Err(SecretError::Empty(_))
        ));
    }
}
