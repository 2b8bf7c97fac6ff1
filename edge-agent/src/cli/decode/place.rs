//! Where in a JSON payload a member stands that was rejected.
//!
//! Decoders name what they reject in the words of the reading, not by its place, for nobody in `run` needs one.
//! So the payload is walked once more. A value shows itself what is wrong with it (`1e400`, a text of 5000 bytes),
//! and where one value only shows it, its member is the place, whatever the reading calls it. Where several
//! do, or none, names decide: the member whose path, from one of its levels on, is the longest
//! beginning of the rejected name; case and separators do not count. Among equals it is the first that was not yet told.
//!
//! The walk is no parser. It is for text that a decoder has read already, `NaN` included, which is
//! why no JSON library will do; of any other bytes the place is that of the name itself, or 0.

use protocol::FieldName;

use crate::decode::Problem;

/// Deepest level that is looked at; decoders reject what is deeper as one member.
const MAX_DEPTH: usize = 16;
/// From here on a whole number may not be exact as a float: 2^53.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

/// One object or list that is not closed yet.
struct Level {
    /// Where the member at hand begins, and what it is called; a list's elements by their number.
    member: Option<(usize, String)>,
    /// Of a list, the number of the element at hand.
    element: Option<usize>,
}

/// The places of one payload; each culprit is told once.
pub(super) struct Places<'p> {
    payload: &'p [u8],
    told: Vec<usize>,
}

impl<'p> Places<'p> {
    pub(super) fn of(payload: &'p [u8]) -> Self {
        Self {
            payload,
            told: Vec::new(),
        }
    }

    /// The first byte of the member that `name` is about; 0 when none is.
    pub(super) fn of_member(&mut self, name: &str, problem: &Problem) -> usize {
        let wanted = plain(name);
        let mut culprit: Option<(usize, usize)> = None;
        walk(self.payload, |levels, value| {
            let Some((at, key)) = levels.last().and_then(|level| level.member.as_ref()) else {
                return;
            };
            if shows(problem, key, value) && !self.told.contains(at) {
                let len = longest(levels, &wanted).map_or(0, |(len, _)| len);
                if culprit.is_none_or(|(best, _)| len > best) {
                    culprit = Some((len, *at));
                }
            }
        });
        let Some((_, at)) = culprit else {
            return self.named(name);
        };
        self.told.push(at);
        at
    }

    /// The same by the name alone, at least half of which a path has to say.
    pub(super) fn named(&self, name: &str) -> usize {
        let wanted = plain(name.strip_prefix("record ").unwrap_or(name));
        let (mut best, mut found) = (0, 0);
        walk(self.payload, |levels, _| {
            if let Some((len, place)) = longest(levels, &wanted)
                && len > best
                && 2 * len >= wanted.len()
            {
                (best, found) = (len, place);
            }
        });
        if found == 0 {
            self.as_it_stands(name)
        } else {
            found
        }
    }

    /// Where another format than JSON (Sparkplug's) holds the very bytes of the name.
    fn as_it_stands(&self, name: &str) -> usize {
        let is_json = matches!(self.payload.trim_ascii_start().first(), Some(b'{' | b'['));
        if is_json || name.is_empty() {
            return 0;
        }
        let mut windows = self.payload.windows(name.len());
        windows
            .position(|bytes| bytes == name.as_bytes())
            .unwrap_or(0)
    }
}

/// Whether a member cannot but be rejected for this.
fn shows(problem: &Problem, key: &str, value: &[u8]) -> bool {
    let text = String::from_utf8_lossy(value);
    let bare = text.trim_matches('"');
    match problem {
        Problem::NotFinite => bare.parse::<f64>().is_ok_and(|number| !number.is_finite()),
        Problem::TooManyDigits => {
            let huge = bare.parse::<f64>().is_ok_and(|n| n.abs() >= EXACT_BELOW);
            huge && !bare.contains(['.', 'e', 'E'])
        }
        Problem::NoNumber | Problem::Word => text.starts_with('"') && bare.parse::<f64>().is_err(),
        Problem::TextTooLong(len) => text.starts_with('"') && value.len() >= *len,
        Problem::Name => FieldName::normalise(key).is_err(),
        _ => false,
    }
}

/// Tells of each value its bytes (of an object or list the first one) and the levels it stands in.
fn walk(payload: &[u8], mut tell: impl FnMut(&[Level], &[u8])) {
    let mut levels: Vec<Level> = Vec::new();
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
        if is_value {
            tell(&levels, payload.get(begins..at).unwrap_or_default());
        }
        match byte {
            b'{' | b'[' if levels.len() < MAX_DEPTH => levels.push(Level {
                member: None,
                element: (byte == b'[').then_some(0),
            }),
            b'{' | b'[' => return,
            b'}' | b']' => {
                levels.pop();
            }
            _ if levels.is_empty() => return,
            _ => {}
        }
    }
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
            let at = Places::of(payload.as_bytes()).named(name);
            assert!(
                payload[at..].starts_with(expected),
                "{name}: {}",
                &payload[at..]
            );
        }
    }

    #[test]
    fn a_member_that_shows_what_is_wrong_is_found_whatever_the_reading_calls_it() {
        for (payload, name, problem, expected) in [
            (
                r#"[{"n":"voltage","v":1},{"n":"current","u":"A","v":1e400}]"#,
                "current",
                Problem::NotFinite,
                "\"v\":1e400",
            ),
            (
                r#"{"em:0":{"a_current":1,"a_act_power":NaN}}"#,
                "em_0_power_l1",
                Problem::NotFinite,
                "\"a_act",
            ),
            (
                r#"{"main":{"temp":9007199254740993}}"#,
                "inside_c",
                Problem::TooManyDigits,
                "\"temp",
            ),
            (r#"{"energy":1,"":2}"#, "", Problem::Name, "\"\":2"),
            (
                r#"{"a":{"x":1e999},"b":{"x":1e999}}"#,
                "b_x",
                Problem::NotFinite,
                "\"x\":1e999}}",
            ),
        ] {
            let at = Places::of(payload.as_bytes()).of_member(name, &problem);
            let found = &payload[at..];
            assert!(found.starts_with(expected), "{name}: {found}");
        }
    }

    #[test]
    fn of_two_that_show_the_same_under_names_of_their_own_each_is_told() {
        let payload = br#"[{"n":"p","v":1e400},{"n":"p","t":3,"v":NaN}]"#;
        let mut places = Places::of(payload);
        let told = [(); 3].map(|()| places.of_member("p", &Problem::NotFinite));
        assert_eq!(told, [10, 36, 0]);
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
            assert_eq!(Places::of(payload).named(name), 0, "{name}");
        }
        let metric = b"\x12\x0e\x0a\x08Inputs/A\x20\x09";
        assert_eq!(Places::of(metric).named("Inputs/A"), 4);
        let deep = [b"{\"a\":".repeat(200), b"1".to_vec()].concat();
        assert_eq!(Places::of(&deep).named("zz"), 0);
    }
}
