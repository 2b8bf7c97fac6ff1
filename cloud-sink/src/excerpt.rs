//! Cutting texts to what may appear in a log line or a header.

/// The beginning of a text, at most `max` bytes, whole characters.
#[must_use]
pub fn excerpt(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let end = (0..=max).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_never_cut_in_two() {
        assert_eq!(excerpt("aäb", 2), "a");
        assert_eq!(excerpt("aäb", 3), "aä");
        assert_eq!(excerpt("ab", 2), "ab");
        assert_eq!(excerpt("€", 2), "");
    }
}
