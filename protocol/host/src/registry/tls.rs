//! The registry's certificates, and ours.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider};

use crate::config::registry::Settings;

/// Why there is no client: a file of its certificates.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Cannot be read.
    #[error("registry.{key} {path} cannot be read: {source}")]
    File {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// Holds something else.
    #[error("registry.{key} {path} holds no {what} in PEM form")]
    Pem {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
}

/// How to trust the registry, and how it can trust us.
pub fn config(settings: &Settings) -> Result<TlsConfig, SettingsError> {
    let roots = match &settings.ca {
        Some(path) => {
            let found = certificates("ca", path)?;
            RootCerts::new_with_certs(&found)
        }
        None => RootCerts::PlatformVerifier,
    };
    let client = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates("certificate", certificate)?;
            Some(ClientCert::new_with_certs(&chain, private_key(key)?))
        }
        _ => None,
    };
    Ok(TlsConfig::builder()
        .provider(TlsProvider::NativeTls)
        .root_certs(roots)
        .client_cert(client)
        .build())
}

fn read_pem(key: &'static str, path: &Path) -> Result<Vec<PemItem<'static>>, SettingsError> {
    let pem = fs::read(path).map_err(|source| SettingsError::File {
        key,
        path: path.to_owned(),
        source,
    })?;
    Ok(ureq::tls::parse_pem(&pem).filter_map(Result::ok).collect())
}

fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<Certificate<'static>>, SettingsError> {
    let items = read_pem(key, path)?.into_iter();
    let found: Vec<_> = items
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        let (path, what) = (path.to_owned(), "certificate");
        return Err(SettingsError::Pem { key, path, what });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKey<'static>, SettingsError> {
    let mut items = read_pem("key", path)?.into_iter();
    let found = items.find_map(|item| match item {
        PemItem::PrivateKey(key) => Some(key),
        _ => None,
    });
    found.ok_or_else(|| SettingsError::Pem {
        key: "key",
        path: path.to_owned(),
        what: "private key",
    })
}
