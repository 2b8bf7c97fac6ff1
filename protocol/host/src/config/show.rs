//! The effective configuration as TOML, without secrets.

use protocol::schema::Declaration;
use toml::{Table, Value};

use crate::secret::Secret;

/// Collects the keys that have a value.
#[derive(Default)]
pub struct Keys(pub Table);

impl Keys {
    /// With a key.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// With a key that may have no value.
    #[must_use]
    pub fn maybe(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }
}

/// A declaration, as it is written.
#[must_use]
pub fn fields(declaration: &Declaration) -> Table {
    let fields = declaration.iter();
    fields
        .map(|(name, kind)| (name.to_string(), kind.as_str().into()))
        .collect()
}

/// Where a secret is, as it is written.
#[must_use]
pub fn secret(secret: &Secret) -> Table {
    let (key, place) = match secret {
        Secret::Credential(name) => ("credential", name.clone()),
        Secret::File(path) => ("file", path.display().to_string()),
        Secret::Env(name) => ("env", name.clone()),
    };
    Keys::default().set(key, place).0
}
