//! What people leave around a value, or in its place, when they fill in a template. It would reach the cluster as part
//! of the value, and come back as a wrong key.

use super::super::document::Mistake;

/// `<API_KEY>` or `${API_KEY}` where a value belongs: alone, or as a part between `/`, `,` and `:`. (`{{ API_KEY }}` is
/// found everywhere.) Not repeated, since it may be a secret after all.
pub fn left_in(value: &str) -> Option<Mistake> {
    let scheme = value.find("://").map_or(0, |at| at + 3);
    let mut parts = value[scheme..].split(['/', ',', ':']);
    parts.any(is_left_in).then(|| {
        Mistake::fix(
            "still holds a placeholder, in < > or ${ }",
            "put the real value in its place",
        )
    })
}

fn is_left_in(part: &str) -> bool {
    let part = part.trim();
    let inner = [("<", ">"), ("${", "}")]
        .into_iter()
        .find_map(|(open, close)| {
            let inner = part.strip_prefix(open)?;
            inner.strip_suffix(close)
        });
    inner.is_some_and(|inner| {
        let letter = |c: char| c.is_ascii_alphanumeric() || " _.-".contains(c);
        !inner.is_empty() && inner.chars().all(letter)
    })
}

/// Quotation marks around a value, a comment behind it, a character that nobody sees.
pub fn decorated(name: &str, value: &str) -> Option<Mistake> {
    if value.contains(char::is_control) {
        return Some(Mistake::fix(
            "holds a control character",
            "write the line again by hand",
        ));
    }
    // Java's login has quotation marks of its own, and whatever is within them.
    if name == "sasl.jaas.config" {
        return None;
    }
    let quoted =
        |quote: char| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
    if quoted('"') || quoted('\'') {
        return Some(Mistake::fix(
            "stands in quotation marks, which would be a part of it",
            "write the value without them",
        ));
    }
    value.contains(" #").then(|| {
        Mistake::fix(
            "is followed by a comment, which would be a part of it",
            "put the comment into a line of its own; a secret that holds such a # is set in the TOML file, under kafka.properties",
        )
    })
}
