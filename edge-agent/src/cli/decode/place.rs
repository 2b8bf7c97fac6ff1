//! Where in a JSON payload a member stands that was rejected.
//!
//! Decoders name what they reject in the words of the reading, not by its place, for nobody in `run` needs one.
//! So the payload is walked once more, and the place is that of the member whose path, from one of its levels
//! on, is the longest beginning of that name, at least half of it; case and separators do not count. `switch_0_power` is found at
//! `apower` by its component: `switch:0`.
//!
//! The walk is no parser. It is for text that a decoder has read already, `NaN` included, which is
//! why no JSON library will do; of any other bytes the place is 0.

/// Deepest level that is looked at; decoders reject what is deeper as one member.
const MAX_DEPTH: usize = 16;

/// One object or list that is not closed yet.
struct Level {
    /// Where the member at hand begins, and what it is called; a list's elements by their number.
    member: Option<(usize, String)>,
    /// Of a list, the number of the element at hand.
    element: Option<usize>,
}

/// The first byte of the member that `name` is about; 0 when none is.
pub(super) fn place(payload: &[u8], name: &str) -> usize {
    let wanted = plain(name.strip_prefix("record ").unwrap_or(name));
    let mut levels: Vec<Level> = Vec::new();
    let (mut best, mut found) = (0, 0);
    let mut at = 0;
    while let Some(&byte) = payload.get(at) {
        let begins = at;
        match byte {
            b'"' => at = behind_text(payload, at),
            b'{' | b'[' | b'}' | b']' | b',' | b':' => at += 1,
            _ if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            _ => at = behind_word(payload, at),
        }
        let is_value = !matches!(byte, b'}' | b']' | b',' | b':');
        if let Some(level) = levels.last_mut() {
            match (level.element, byte) {
                (Some(element), _) if is_value => {
                    level.member = Some((begins, element.to_string()));
                }
                (None, b'"') if level.member.is_none() => {
                    let key = String::from_utf8_lossy(&payload[begins..at]);
                    level.member = Some((begins, plain(&key)));
                    continue;
                }
                (element, b',') => {
                    level.element = element.map(|element| element + 1);
                    level.member = None;
                }
                _ => {}
            }
        }
        if is_value
            && let Some((len, place)) = longest(&levels, &wanted)
            && len > best
            && 2 * len >= wanted.len()
        {
            (best, found) = (len, place);
        }
        match byte {
            b'{' | b'[' if levels.len() < MAX_DEPTH => levels.push(Level {
                member: None,
                element: (byte == b'[').then_some(0),
            }),
            b'{' | b'[' => return found,
            b'}' | b']' => {
                levels.pop();
            }
            _ if levels.is_empty() => return found,
            _ => {}
        }
    }
    found
}

/// How much of the name the path of the member at hand says, and where the member begins.
fn longest(levels: &[Level], wanted: &str) -> Option<(usize, usize)> {
    let path: Vec<&(usize, String)> = levels
        .iter()
        .filter_map(|level| level.member.as_ref())
        .collect();
    let (place, _) = path.last()?;
    (0..path.len())
        .map(|from| path[from..].iter().map(|(_, key)| key.as_str()).collect())
        .filter(|text: &String| wanted.starts_with(text.as_str()))
        .map(|text| (text.len(), *place))
        .max()
}

/// Letters and digits, in lower case.
fn plain(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

fn behind_text(payload: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while let Some(&byte) = payload.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    payload.len()
}

fn behind_word(payload: &[u8], from: usize) -> usize {
    let ends = |byte: &u8| b",:{}[]\"".contains(byte) || byte.is_ascii_whitespace();
    let rest = payload[from..].iter().position(ends);
    rest.map_or(payload.len(), |len| from + len.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_by_the_name_of_its_reading() {
        for (payload, name, expected) in [
            (r#"{"a":1,"b":NaN}"#, "b", "\"b\""),
            (r#"{"a":1, "A b" : 1e400}"#, "a_b", "\"A b\""),
            (
                r#"{"am2301":{"Hum":1},"AM2301":{"Humidity":NaN}}"#,
                "AM2301_Humidity",
                "\"Humidity",
            ),
            (r#"{"x":"a\"b:{","y":[1,{"z":2}]}"#, "y_1_z", "\"z\""),
            (r#"{"y":[1,1e999]}"#, "y_1", "1e999"),
            (
                r#"{"ENERGY":{"Total":[1,NaN]}}"#,
                "energy_total_l2",
                "\"Total",
            ),
            (
                r#"{"params":{"ts":1,"switch:0":{"id":0,"apower":NaN}}}"#,
                "switch_0_power",
                "\"switch:0",
            ),
            (r#"[{"n":"a","v":1},{"n":"b"}]"#, "record 1", "{\"n\":\"b\""),
        ] {
            let at = place(payload.as_bytes(), name);
            assert!(
                payload[at..].starts_with(expected),
                "{name}: {}",
                &payload[at..]
            );
        }
    }

    #[test]
    fn what_is_no_member_or_no_json_has_no_place() {
        for (payload, name) in [
            (&br#"{"a":1}"#[..], "b"),
            (b"21.5", "temp"),
            (b"", "temp"),
            (b"\x00\xff[[[", "0"),
            (br#"{"a"#, "a"),
            (br#"{"a":"\"#, "b"),
        ] {
            assert_eq!(place(payload, name), 0, "{name}");
        }
        let deep = [b"{\"a\":".repeat(200), b"1".to_vec()].concat();
        assert_eq!(place(&deep, "zz"), 0);
    }
}
