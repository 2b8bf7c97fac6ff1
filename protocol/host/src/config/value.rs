//! Rules: what one value has to be.
//!
//! Each takes a value and gives what it means or the mistake in it; [`super::document::Table`] adds the
//! key and the place.

use std::{
    fmt::Display, net::SocketAddr, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration,
};

use super::document::{Expected, Mistake, Value, kind, nearest};
use crate::secret::Secret;
use jiff::{SignedDuration, Span, SpanRelativeTo};

/// A text, not empty.
pub fn text(value: &Value<'_>) -> Result<String, Mistake> {
    match value.get_ref().as_str() {
        None => Err(Mistake::new(format!(
            "must be a text in quotes, not {}",
            kind(value.get_ref())
        ))
        .expects(Expected::Text)),
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
        .expects(Expected::Boolean)
    })
}

/// A whole number within bounds.
pub fn integer<T>(bounds: RangeInclusive<T>) -> impl FnOnce(&Value<'_>) -> Result<T, Mistake>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    move |value| {
        let Some(integer) = value.get_ref().as_integer() else {
            let bound = |bound: &T| bound.to_string().parse();
            let least = bound(bounds.start()).unwrap_or(i64::MIN);
            let most = bound(bounds.end()).unwrap_or(i64::MAX);
            return Err(Mistake::new(format!(
                "must be a whole number without quotes, not {}",
                kind(value.get_ref())
            ))
            .expects(Expected::Integer(least, most)));
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
        let all = || Expected::Words(words.iter().map(|(word, _)| *word).collect());
        let given = text(value).map_err(|mistake| mistake.expects(all()))?;
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
        let given = text(value).map_err(|mistake| mistake.expects(Expected::Duration))?;
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
        let given = text(value).map_err(|mistake| mistake.expects(Expected::Bytes))?;
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

/// An address to listen at, or `"off"`; `default` is shown to who wrote neither.
pub fn address_or_off(
    default: Option<SocketAddr>,
) -> impl FnOnce(&Value<'_>) -> Result<Option<SocketAddr>, Mistake> {
    move |value| match text(value)?.as_str() {
        "off" => Ok(None),
        address => address.parse().map(Some).map_err(|_| {
            let message = format!("is not an address with a port: \"{address}\"");
            let fix = match default {
                Some(default) => format!("write \"{default}\" or \"off\""),
                None => "write \"off\"".to_owned(),
            };
            Mistake::fix(message, fix)
        }),
    }
}

/// `{ credential = "name" }`, `{ file = "/path" }` or `{ env = "NAME" }`; the secret itself is refused,
/// and not repeated.
pub fn secret(value: &Value<'_>) -> Result<Secret, Mistake> {
    const FORMS: &str =
        "write { credential = \"name\" }, { file = \"/path\" } or { env = \"NAME\" }";
    let Some(table) = value.get_ref().as_table() else {
        return Err(
            Mistake::fix("must not stand in the file: only where it is found", FORMS)
                .expects(Expected::Secret),
        );
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
