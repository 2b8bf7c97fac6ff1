//! Rules: what one value has to be.
//!
//! Each takes a value and gives what it means or the mistake in it; [`super::document::Table`] adds the
//! key and the place.

use std::{fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use jiff::{SignedDuration, Span, SpanRelativeTo};
use protocol::{FieldName, MAX_FIELDS, Metadata};

use super::{
    MqttUrl, Secret,
    document::{Mistake, Value, kind, nearest},
};
use crate::decode::template::Template;

/// A text, not empty.
pub fn text(value: &Value<'_>) -> Result<String, Mistake> {
    match value.get_ref().as_str() {
        None => Err(Mistake::new(format!(
            "must be a text in quotes, not {}",
            kind(value.get_ref())
        ))),
        Some("") => Err(Mistake::new("is empty")),
        Some(text) => match placeholder(text) {
            Some(mistake) => Err(mistake),
            None => Ok(text.to_owned()),
        },
    }
}

/// `{{ CLUSTER_API_KEY }}`, left in from a downloaded template.
pub fn placeholder(text: &str) -> Option<Mistake> {
    let start = text.find("{{")?;
    let end = text[start..].find("}}")? + start + 2;
    Some(Mistake::fix(
        format!("still holds the placeholder {}", &text[start..end]),
        "put the real value in its place",
    ))
}

/// A path.
pub fn path(value: &Value<'_>) -> Result<PathBuf, Mistake> {
    text(value).map(PathBuf::from)
}

/// A text that is checked by its own type.
pub fn parsed<T: FromStr<Err: Display>>(value: &Value<'_>) -> Result<T, Mistake> {
    text(value)?
        .parse()
        .map_err(|error| Mistake::new(format!("is not valid: {error}")))
}

/// `true` or `false`.
pub fn boolean(value: &Value<'_>) -> Result<bool, Mistake> {
    value.get_ref().as_bool().ok_or_else(|| {
        Mistake::new(format!(
            "must be true or false, not {}",
            kind(value.get_ref())
        ))
    })
}

/// A whole number within bounds.
pub fn integer<T>(bounds: RangeInclusive<T>) -> impl FnOnce(&Value<'_>) -> Result<T, Mistake>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    move |value| {
        let Some(integer) = value.get_ref().as_integer() else {
            return Err(Mistake::new(format!(
                "must be a whole number without quotes, not {}",
                kind(value.get_ref())
            )));
        };
        i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| bounds.contains(number))
            .ok_or_else(|| {
                Mistake::new(format!(
                    "must be {} to {}, not {}",
                    bounds.start(),
                    bounds.end(),
                    integer.as_str()
                ))
            })
    }
}

/// One of a few words.
pub fn one_of<T: Copy, const N: usize>(
    words: [(&'static str, T); N],
) -> impl FnOnce(&Value<'_>) -> Result<T, Mistake> {
    move |value| {
        let given = text(value)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == given) {
            return Ok(*meaning);
        }
        let known = words.iter().map(|(word, _)| *word);
        let list: Vec<String> = known.clone().map(|word| format!("\"{word}\"")).collect();
        let message = format!("must be {}, not \"{given}\"", list.join(" or "));
        Err(match nearest(&given, known) {
            Some(meant) => Mistake::fix(message, format!("did you mean \"{meant}\"?")),
            None => Mistake::new(message),
        })
    }
}

/// A time span with its unit, `"100ms"`, `"10s"`, `"5m"`, `"1h"`, `"30d"`, within bounds. A day has 24
/// hours.
pub fn duration(
    bounds: RangeInclusive<Duration>,
) -> impl FnOnce(&Value<'_>) -> Result<Duration, Mistake> {
    const EXAMPLES: &str =
        "write a number and its unit, such as \"100ms\", \"10s\", \"5m\", \"1h\" or \"30d\"";
    move |value| {
        if value.get_ref().is_integer() || value.get_ref().is_float() {
            return Err(Mistake::fix("has no unit", EXAMPLES));
        }
        let given = text(value)?;
        let span: Option<SignedDuration> = given
            .parse::<Span>()
            .ok()
            .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
        let Some(duration) = span.and_then(|span| Duration::try_from(span).ok()) else {
            return Err(Mistake::fix(
                format!("is not a time span: \"{given}\""),
                EXAMPLES,
            ));
        };
        if bounds.contains(&duration) {
            return Ok(duration);
        }
        Err(Mistake::new(format!(
            "must be {} to {}, not {given}",
            show_duration(*bounds.start()),
            show_duration(*bounds.end())
        )))
    }
}

/// The shortest exact form that [`duration`] reads.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
    ];
    match units
        .iter()
        .find(|(_, size)| millis >= *size && millis.is_multiple_of(*size))
    {
        Some((unit, size)) => format!("{}{unit}", millis / size),
        None => format!("{millis}ms"),
    }
}

const SIZES: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// An amount of bytes with its unit, `"512B"`, `"64MiB"`, `"2GiB"`, within bounds. (Four units: less
/// than the dependency that would read forty.)
pub fn bytes<T>(bounds: RangeInclusive<T>) -> impl FnOnce(&Value<'_>) -> Result<T, Mistake>
where
    T: TryFrom<u64> + TryInto<u64> + PartialOrd + Copy,
{
    const EXAMPLES: &str =
        "write a number and its unit B, KiB, MiB or GiB, such as \"64MiB\" or \"2GiB\"";
    move |value| {
        if value.get_ref().is_integer() || value.get_ref().is_float() {
            return Err(Mistake::fix("has no unit", EXAMPLES));
        }
        let given = text(value)?;
        let number = SIZES.iter().find_map(|(unit, size)| {
            let number: u64 = given.strip_suffix(unit)?.trim_end().parse().ok()?;
            number.checked_mul(*size)
        });
        let Some(number) = number else {
            return Err(Mistake::fix(
                format!("is not an amount of bytes: \"{given}\""),
                EXAMPLES,
            ));
        };
        T::try_from(number)
            .ok()
            .filter(|number| bounds.contains(number))
            .ok_or_else(|| {
                let show = |bound: &T| show_bytes((*bound).try_into().unwrap_or(u64::MAX));
                Mistake::new(format!(
                    "must be {} to {}, not {given}",
                    show(bounds.start()),
                    show(bounds.end())
                ))
            })
    }
}

/// The shortest exact form that [`bytes`] reads.
pub fn show_bytes(bytes: u64) -> String {
    match SIZES
        .iter()
        .find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size))
    {
        Some((unit, size)) => format!("{}{unit}", bytes / size),
        None => format!("{bytes}B"),
    }
}

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
    let shape = || Mistake::new("must be a list of texts, such as [\"a\", \"b\"]");
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
    let table = value
        .get_ref()
        .as_table()
        .ok_or_else(|| Mistake::new("must be a table of texts, such as { site = \"berlin-2\" }"))?;
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
        Mistake::fix(
            format!("is no time zone: {name:?}"),
            "write a name of the IANA database, such as \"Europe/Berlin\" or \"UTC\"",
        )
    })
}

/// `{ temperature_c = "main.temp" }`.
pub fn paths(value: &Value<'_>) -> Result<Vec<(FieldName, String)>, Mistake> {
    let wrong = || Mistake::new("must be names and paths, as in { temperature_c = \"main.temp\" }");
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
    const EXAMPLES: &str = "write mqtt://host:1883 or mqtts://host:8883";
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

/// `{ credential = "name" }`, `{ file = "/path" }` or `{ env = "NAME" }`; the secret itself is refused,
/// and not repeated.
pub fn secret(value: &Value<'_>) -> Result<Secret, Mistake> {
    const FORMS: &str =
        "write { credential = \"name\" }, { file = \"/path\" } or { env = \"NAME\" }";
    let Some(table) = value.get_ref().as_table() else {
        return Err(Mistake::fix(
            "must not stand in the file: only where it is found",
            FORMS,
        ));
    };
    let mut entries = table.iter();
    let (Some((key, place)), None) = (entries.next(), entries.next()) else {
        return Err(Mistake::fix("must name one place", FORMS));
    };
    let place = text(place)?;
    match key.get_ref().as_ref() {
        "credential" if place.contains('/') => Err(Mistake::fix(
            "has a credential with a / in its name",
            "name the file without its directory, or write { file = \"/path\" }",
        )),
        "credential" => Ok(Secret::Credential(place)),
        "file" => Ok(Secret::File(place.into())),
        "env" => Ok(Secret::Env(place)),
        other => Err(Mistake::fix(format!("cannot be found by {other}"), FORMS)),
    }
}
