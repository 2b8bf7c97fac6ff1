//! The Schema Registry's part of the file.

use std::collections::BTreeMap;

use super::{
    super::{
        document::Mistake,
        registry::{Settings, check_url, without_tls},
    },
    Placed,
};

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
    allow_plaintext: bool,
) -> Result<Option<Settings>, (Placed, Mistake)> {
    let Some(url) = lines.get(URL) else {
        return Ok(None);
    };
    let (example, key) = (
        "schema.registry.url=https://host",
        "basic.auth.user.info=KEY:SECRET",
    );
    check_url(&url.value, example, key).map_err(|mistake| (url.clone(), mistake))?;
    if let (false, Some(mistake)) = (allow_plaintext, without_tls(&url.value, "[kafka]")) {
        return Err((url.clone(), mistake));
    }
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
    Ok(Some(Settings {
        allow_plaintext,
        ..Settings::new(&url.value, login)
    }))
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
