//! What to do about a text that is no TOML. The parser says what it expected; who copied the line from a web page,
//! or has written YAML all his life, does not see from that what is wrong.

/// The remedy for the mistake at `at`, where it is one of those that people make.
pub fn remedy(text: &str, at: usize, message: &str) -> Option<String> {
    let rest = text.get(at..)?;
    let first = rest.chars().next()?;
    let line = line_at(text, at);
    if let Some(typographic) = line.chars().find(|c| "“”„‟‘’‚«»".contains(*c))
        && !first.is_ascii()
    {
        return Some(format!(
            "{typographic} is a quote of a word processor: write \" on both sides"
        ));
    }
    if first == '\u{a0}' || (message.contains("unquoted key") && line.contains('\u{a0}')) {
        return Some(
            "there is a no-break space, which only looks like one: type it anew".to_owned(),
        );
    }
    if message == "duplicate key" {
        return Some(
            "what stands in both places belongs together in the first, or one of them goes"
                .to_owned(),
        );
    }
    if message.starts_with("missing escaped value") {
        return Some("write \\\\ for each \\, or put the text in single quotes".to_owned());
    }
    if message.starts_with("invalid boolean") {
        return Some("write true or false, in small letters".to_owned());
    }
    if message.starts_with("string values must be quoted") {
        let word = rest
            .split(['\n', '\r', '#', ','])
            .next()
            .unwrap_or(rest)
            .trim();
        let is_plain = word.len() <= 60 && !word.contains(['"', '\'', '{', '}', '[', ']']);
        return is_plain.then(|| format!("write \"{word}\""));
    }
    if message.starts_with("key with no value")
        && line.trim_start().split(' ').next()?.contains(':')
    {
        return Some("this is TOML, not YAML: write [table], and key = value below it".to_owned());
    }
    if message.starts_with("invalid key-value pair") && line.trim_start().starts_with('{') {
        return Some("this is TOML, not JSON: write [table], and key = value below it".to_owned());
    }
    None
}

fn line_at(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    text[start..].lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::document::Document;

    #[test]
    fn what_is_no_toml_is_told_with_the_remedy() {
        for (text, at, fix) in [
            (
                "a = \u{201c}x\u{201d}\n",
                (1, 5),
                "quote of a word processor",
            ),
            ("a\u{a0}= 1\n", (1, 2), "no-break space"),
            ("[a]\nb = 1\n[a]\n", (3, 2), "belongs together"),
            ("a = \"C:\\dev\"\n", (1, 9), "single quotes"),
            ("a = True\n", (1, 5), "true or false"),
            ("a = gw7  # here\n", (1, 5), "write \"gw7\""),
            ("agent:\n", (1, 7), "not YAML"),
            ("{\"agent\": 1}\n", (1, 1), "not JSON"),
        ] {
            let doc = Document::new(Path::new("a.toml"), text);
            doc.parse();
            let problems = doc.into_problems();
            let found = problems
                .iter()
                .find(|p| p.at == Some(at) && p.fix.as_ref().is_some_and(|f| f.contains(fix)));
            assert!(found.is_some(), "{text:?}: {problems:?}");
        }
    }
}
