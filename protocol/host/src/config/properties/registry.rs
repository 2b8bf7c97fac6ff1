//! The Schema Registry's part of the file.

use std::collections::BTreeMap;

use super::{super::document::Mistake, super::kafka::Registry, Placed};

const URL: &str = "schema.registry.url";
const SOURCE: &str = "basic.auth.credentials.source";
const USER_INFO: &str = "basic.auth.user.info";

/// Every name. Clients differ in whether the last two begin like the first.
pub const NAMES: [&str; 5] = [
    URL,
    SOURCE,
    USER_INFO,
    "schema.registry.basic.auth.credentials.source",
    "schema.registry.basic.auth.user.info",
];

/// One name for both forms.
pub fn canonical(name: &'static str) -> &'static str {
    match name.strip_prefix("schema.registry.") {
        Some(short) if short != "url" => short,
        _ => name,
    }
}

/// Reads what the file says; `None` when it names no registry.
pub fn read(
    lines: &BTreeMap<&'static str, Placed>,
    inherited: Option<(String, String)>,
) -> Result<Option<Registry>, (Placed, Mistake)> {
    let Some(url) = lines.get(URL) else {
        return Ok(None);
    };
    check_url(&url.value).map_err(|mistake| (url.clone(), mistake))?;
    let login = match (lines.get(SOURCE), lines.get(USER_INFO)) {
        (Some(source), info) => match (source.value.as_str(), info) {
            ("SASL_INHERIT", _) => Some(inherited.ok_or_else(|| {
                let message = "is SASL_INHERIT, but Kafka has no user and password to inherit";
                let fix = "set sasl.username and sasl.password, or basic.auth.credentials.source=USER_INFO";
                (source.clone(), Mistake::fix(message, fix))
            })?),
            ("USER_INFO", Some(info)) => Some(user_info(info)?),
            ("USER_INFO", None) => {
                let message = "is USER_INFO, but basic.auth.user.info is missing";
                let fix = "write basic.auth.user.info=KEY:SECRET with a key of the Schema Registry";
                return Err((source.clone(), Mistake::fix(message, fix)));
            }
            _ => {
                let message = "must be USER_INFO or SASL_INHERIT";
                let fix = "write basic.auth.credentials.source=USER_INFO and basic.auth.user.info=KEY:SECRET";
                return Err((source.clone(), Mistake::fix(message, fix)));
            }
        },
        (None, Some(info)) => Some(user_info(info)?),
        (None, None) => None,
    };
    let (username, password) = login.unzip();
    Ok(Some(Registry {
        url: url.value.trim_end_matches('/').to_owned(),
        username,
        password,
    }))
}

/// A URL is shown in logs: it must not hold a secret.
fn check_url(url: &str) -> Result<(), Mistake> {
    const EXAMPLE: &str = "write schema.registry.url=https://host";
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Err(Mistake::fix("must begin with https:// or http://", EXAMPLE));
    };
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        let fix = "write basic.auth.user.info=KEY:SECRET and the url without them";
        return Err(Mistake::fix("must not hold a user or password", fix));
    }
    if host.is_empty() {
        return Err(Mistake::fix("names no host", EXAMPLE));
    }
    if url.contains(',') {
        return Err(Mistake::fix("names several registries", "name one"));
    }
    Ok(())
}

fn user_info(info: &Placed) -> Result<(String, String), (Placed, Mistake)> {
    match info.value.split_once(':') {
        Some((user, password)) if !user.is_empty() && !password.is_empty() => {
            Ok((user.to_owned(), password.to_owned()))
        }
        _ => {
            let fix = "write basic.auth.user.info=KEY:SECRET with a key of the Schema Registry, which is not the cluster's";
            let mistake = Mistake::fix("is not of the form KEY:SECRET", fix);
            Err((info.clone(), mistake))
        }
    }
}
