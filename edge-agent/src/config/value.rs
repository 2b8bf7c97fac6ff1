//! Rules for values that only the agent has, beside those of both daemons.

use protocol::{FieldName, MAX_FIELDS, Metadata};
pub use protocol_host::config::value::*;

use super::{
    MqttUrl,
    document::{Expected, Mistake, Value, nearest},
};
use crate::decode::template::Template;

/// The names of CSV columns, in order; an empty one is skipped, any other stands once.
pub fn columns(value: &Value<'_>) -> Result<Vec<String>, Mistake> {
    let columns = texts(value)?;
    let mut named: Vec<&String> = columns.iter().filter(|name| !name.is_empty()).collect();
    named.sort();
    if named.is_empty() {
        return Err(Mistake::new("names no column"));
    }
    match named.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(twice) => Err(Mistake::new(format!("has \"{}\" twice", twice[0]))),
        None => Ok(columns),
    }
}

/// `host`, `host:port` or `[v6]:port`; the port is `usual` where none is written.
pub fn host_and_port(usual: u16) -> impl Fn(&Value<'_>) -> Result<(String, u16), Mistake> {
    move |value| {
        let text = text(value)?;
        let shape = || Mistake::fix("must be host:port", format!("write \"10.0.0.7:{usual}\""));
        let (host, port) = match text.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']').ok_or_else(shape)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| shape())?;
                (
                    host,
                    rest.strip_prefix(':').or((!rest.is_empty()).then_some("")),
                )
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text.as_str(), None),
            },
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        let port = port.map_or(Ok(usual), |port| port.parse().map_err(|_| shape()))?;
        if host.is_empty() || port == 0 || !host.chars().all(plain) {
            return Err(shape());
        }
        Ok((host.to_owned(), port))
    }
}

/// A finite number, whole or not.
pub fn number(value: &Value<'_>) -> Result<f64, Mistake> {
    let read = value.get_ref();
    let digits = match (read.as_float(), read.as_integer()) {
        (Some(number), _) => Some(number.as_str()),
        (None, Some(number)) => Some(number.as_str()),
        (None, None) => None,
    };
    let number = digits.and_then(|digits| digits.replace('_', "").parse().ok());
    number
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| Mistake::new("must be a number").expects(Expected::Number))
}

/// The name of a group of clients that share a subscription.
pub fn share_group(value: &Value<'_>) -> Result<String, Mistake> {
    let group = text(value)?;
    if group.is_empty() || group.len() > 64 || group.contains(['/', '+', '#', '\0']) {
        return Err(Mistake::new(
            "must be 1 to 64 bytes without / + # and NUL: a group of clients",
        ));
    }
    Ok(group)
}

/// Names of fields, as `["line", "shift"]`.
pub fn field_names(value: &Value<'_>) -> Result<Vec<FieldName>, Mistake> {
    let names = texts(value)?.into_iter().map(|name| {
        let wrong = |error| Mistake::new(format!("has {name:?}, which is no field name: {error}"));
        FieldName::new(name.as_str()).map_err(wrong)
    });
    names.collect()
}

/// One character between CSV values.
pub fn separator(value: &Value<'_>) -> Result<u8, Mistake> {
    match text(value)?.as_bytes() {
        [byte] if byte.is_ascii_punctuation() && *byte != b'"' || matches!(byte, b' ' | b'\t') => {
            Ok(*byte)
        }
        _ => Err(Mistake::fix(
            "must be one character",
            "write \",\", \";\", \"|\" or \"\\t\"",
        )),
    }
}

fn texts(value: &Value<'_>) -> Result<Vec<String>, Mistake> {
    let shape = || {
        let shape = Mistake::new("must be a list of texts, such as [\"a\", \"b\"]");
        shape.expects(Expected::Texts)
    };
    let array = value.get_ref().as_array().ok_or_else(shape)?;
    array
        .iter()
        .map(|entry| {
            entry
                .get_ref()
                .as_str()
                .map(str::to_owned)
                .ok_or_else(shape)
        })
        .collect()
}

/// `{ site = "berlin-2" }`.
pub fn metadata(value: &Value<'_>) -> Result<Metadata, Mistake> {
    let table = value.get_ref().as_table().ok_or_else(|| {
        Mistake::new("must be a table of texts, such as { site = \"berlin-2\" }")
            .expects(Expected::Table)
    })?;
    let mut entries = Vec::new();
    for (key, entry) in table {
        let key = key.get_ref();
        let name = FieldName::new(&**key)
            .map_err(|error| Mistake::new(format!("is not valid: {error}")))?;
        if matches!(name.as_str(), "gateway" | "device") {
            return Err(Mistake::new(format!(
                "cannot set {name}: every reading has one already"
            )));
        }
        let text = text(entry).map_err(|mistake| mistake.of(&format!("is not valid: {name}")))?;
        entries.push((name, text.into()));
    }
    Metadata::new(entries).map_err(|error| Mistake::new(format!("is not valid: {error}")))
}

/// A zone by its name in the system's database.
pub fn timezone(value: &Value<'_>) -> Result<jiff::tz::TimeZone, Mistake> {
    let name = text(value)?;
    jiff::tz::TimeZone::get(&name).map_err(|_| {
        let message = format!("is no time zone: {name:?}");
        let known: Vec<String> = jiff::tz::db()
            .available()
            .map(|zone| zone.to_string())
            .collect();
        match zone_meant(&name, &known) {
            Some(meant) => Mistake::fix(message, format!("did you mean {meant:?}?")),
            None => Mistake::fix(
                message,
                "write a name of the IANA database, such as \"Europe/Berlin\" or \"UTC\"",
            ),
        }
    })
}

/// A zone by what its name resembles, or by its city alone.
fn zone_meant<'z>(given: &str, known: &'z [String]) -> Option<&'z str> {
    let is_city = |zone: &&str| {
        let city = zone.rsplit_once('/').map(|(_, city)| city);
        city.is_some_and(|city| city.eq_ignore_ascii_case(&given.replace(' ', "_")))
    };
    let known = || known.iter().map(String::as_str);
    known().find(is_city).or_else(|| nearest(given, known()))
}

/// `{ temperature_c = "main.temp" }`.
pub fn paths(value: &Value<'_>) -> Result<Vec<(FieldName, String)>, Mistake> {
    let wrong = || {
        Mistake::new("must be names and paths, as in { temperature_c = \"main.temp\" }")
            .expects(Expected::Table)
    };
    let table = value.get_ref().as_table().ok_or_else(wrong)?;
    let mut fields = Vec::new();
    for (name, path) in table {
        let name = FieldName::new(name.get_ref().as_ref())
            .map_err(|error| Mistake::new(error.to_string()))?;
        let path = text(path)?;
        fields.push((name, path));
    }
    if fields.is_empty() || fields.len() > MAX_FIELDS {
        return Err(Mistake::new(format!("must name 1 to {MAX_FIELDS} fields")));
    }
    Ok(fields)
}

/// The template of an MQTT topic, as text and compiled.
pub fn template(value: &Value<'_>) -> Result<(String, Template), Mistake> {
    let given = text(value)?;
    match Template::parse(&given) {
        Ok(template) => Ok((given, template)),
        Err(error) => Err(Mistake::new(format!("is not valid: {error}"))),
    }
}

/// `mqtt://host:1883`, `mqtts://host:8883`.
pub fn mqtt_url(value: &Value<'_>) -> Result<MqttUrl, Mistake> {
    const EXAMPLES: &str = "write mqtts://host:8883, or mqtt://localhost:1883";
    let given = text(value)?;
    let (tls, rest) = match given.split_once("://") {
        Some(("mqtt" | "tcp", rest)) => (false, rest),
        Some(("mqtts" | "ssl", rest)) => (true, rest),
        Some((scheme, _)) => {
            return Err(Mistake::fix(
                format!("has the scheme {scheme}, which is not mqtt or mqtts"),
                EXAMPLES,
            ));
        }
        None => return Err(Mistake::fix("has no scheme", EXAMPLES)),
    };
    if rest.contains('@') {
        return Err(Mistake::fix(
            "must not hold a user or password",
            "set username = \"…\" and password = { credential = \"…\" }",
        ));
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    // An address in brackets is IPv6; its colons are not the port's.
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    if host.is_empty() || host.contains(['/', ' ', '?']) {
        return Err(Mistake::fix("names no host", EXAMPLES));
    }
    let port = match port.map(str::parse) {
        None => 1883 + 7000 * u16::from(tls),
        Some(Ok(port)) if port != 0 => port,
        Some(_) => return Err(Mistake::fix("has no valid port", EXAMPLES)),
    };
    let host = host.to_owned();
    Ok(MqttUrl { tls, host, port })
}
