//! InfluxDB line protocol: `weather,room=cellar temperature=21.5,ok=t 1465839830100400200`.
//!
//! Source: InfluxData, "Line protocol reference" (docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol).
//!
//! Fields are the values; a field called `value` says nothing, so it takes the measurement's name. Tags
//! describe the device, or name it where the configuration says so. Numbers are floats, with `i` and `u` too, for
//! a field keeps its type. The time is in nanoseconds; senders that set another precision do
//! not say so, but a time of this century has 19 digits in nanoseconds, 16 in micro-, 13 in milliseconds and
//! 10 in seconds.
//!
//! Written by hand: `influxdb-line-protocol` (2.0) comes from an archived repository, with nom and snafu, and one bad
//! field costs the line.

use std::{borrow::Cow, str};

use protocol::Timestamp;

use super::{DecodeError, Decoded, Members, Problem, Scalar};
use crate::config::Roles;

/// Reads one line.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(line: &[u8], roles: &Roles) -> Result<Decoded, DecodeError> {
    let text = str::from_utf8(line).map_err(|error| DecodeError::NotUtf8(error.valid_up_to()))?;
    let mut rest = Rest {
        text: text.trim(),
        at: text.len() - text.trim_start().len(),
    };
    let mut members = Members::new(roles);
    let measurement = rest.word(&[',', ' '])?;
    while rest.skip(',') {
        let key = rest.word(&['=', ',', ' '])?;
        rest.need('=')?;
        let value = rest.word(&[',', ' '])?;
        members.tag(&key, &value)?;
    }
    rest.need(' ')?;
    rest.blanks();
    loop {
        let key = rest.word(&['=', ',', ' '])?;
        rest.need('=')?;
        let name = if key == "value" { &measurement } else { &key };
        match rest.value()? {
            Ok(scalar) => members.put(name, scalar)?,
            Err(problem) => members.reject(name, problem)?,
        }
        if !rest.skip(',') {
            break;
        }
    }
    rest.blanks();
    if !rest.text.is_empty() {
        members.measured_at(time(rest.text).ok_or(DecodeError::NotInflux(rest.at))?);
    }
    Ok(members.finish())
}

/// What is not read yet, and where it begins.
struct Rest<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Rest<'t> {
    fn advance(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.text.split_at(bytes);
        self.text = rest;
        self.at += bytes;
        taken
    }

    fn skip(&mut self, c: char) -> bool {
        let there = self.text.starts_with(c);
        if there {
            self.advance(c.len_utf8());
        }
        there
    }

    fn need(&mut self, c: char) -> Result<(), DecodeError> {
        if self.skip(c) {
            Ok(())
        } else {
            Err(DecodeError::NotInflux(self.at))
        }
    }

    fn blanks(&mut self) {
        self.advance(self.text.len() - self.text.trim_start_matches(' ').len());
    }

    /// Everything up to one of `ends` that no backslash precedes; not empty.
    fn word(&mut self, ends: &[char]) -> Result<Cow<'t, str>, DecodeError> {
        let mut escaped = false;
        let end = self.text.find(|c| {
            let ends = !escaped && ends.contains(&c);
            escaped = !escaped && c == '\\';
            ends
        });
        let word = self.advance(end.unwrap_or(self.text.len()));
        if word.is_empty() {
            return Err(DecodeError::NotInflux(self.at));
        }
        Ok(unescape(word, &[',', '=', ' ', '\\']))
    }

    fn value(&mut self) -> Result<Result<Scalar<'t>, Problem>, DecodeError> {
        if self.skip('"') {
            let mut escaped = false;
            let end = self.text.find(|c| {
                let ends = !escaped && c == '"';
                escaped = !escaped && c == '\\';
                ends
            });
            let text = self.advance(end.ok_or(DecodeError::NotInflux(self.at))?);
            self.advance(1);
            return Ok(Ok(Scalar::Text(unescape(text, &['"', '\\']))));
        }
        let end = self.text.find([',', ' ']).unwrap_or(self.text.len());
        let at = self.at;
        Ok(match self.advance(end) {
            "" => return Err(DecodeError::NotInflux(at)),
            "t" | "T" | "true" | "True" | "TRUE" => Ok(Scalar::Bool(true)),
            "f" | "F" | "false" | "False" | "FALSE" => Ok(Scalar::Bool(false)),
            number => {
                let digits = number.strip_suffix(['i', 'u']).unwrap_or(number);
                match digits.parse::<f64>() {
                    Ok(_) => Ok(Scalar::Number(digits)),
                    Err(_) => Err(Problem::NoNumber),
                }
            }
        })
    }
}

fn unescape<'t>(text: &'t str, special: &[char]) -> Cow<'t, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(next) if c == '\\' && special.contains(next) => out.extend(chars.next()),
            _ => out.push(c),
        }
    }
    out.into()
}

fn time(digits: &str) -> Option<Timestamp> {
    let number: i64 = digits.parse().ok()?;
    let micros = match number.unsigned_abs() {
        100_000_000_000_000_000.. => number / 1000,
        100_000_000_000_000.. => number,
        100_000_000_000.. => number.checked_mul(1000)?,
        _ => number.checked_mul(1_000_000)?,
    };
    Timestamp::from_micros(micros).ok()
}

#[cfg(test)]
mod tests {
    use super::{super::DeviceTime, *};

    fn shown(line: &str, roles: &Roles) -> (Vec<String>, Option<String>, Option<String>) {
        let decoded = decode(line.as_bytes(), roles).unwrap();
        let fields = decoded.fields.iter().map(|(n, v)| format!("{n}={v:?}"));
        let time = decoded.time.map(|time| match time {
            DeviceTime::At(time) => time.to_string(),
            DeviceTime::Age(_) => unreachable!(),
        });
        (fields.collect(), time, decoded.device)
    }

    #[test]
    fn the_lines_of_the_reference_are_read() {
        let (fields, time, _) = shown(
            "myMeasurement,tag1=value1,tag2=value2 fieldKey=\"fieldValue\" 1556813561098000000",
            &Roles::default(),
        );
        assert_eq!(fields, [r#"fieldkey=Text("fieldValue")"#]);
        assert_eq!(time.as_deref(), Some("2019-05-02T16:12:41.098Z"));
        let (fields, time, device) = shown(
            r#"weather\ data,host=a\,b value=21.5,n=12i,u=3u,ok=t,off=FALSE,s="a \"b\" \\ c,d e" 1465839830"#,
            &Roles {
                device: Some("host".into()),
                ..Roles::default()
            },
        );
        assert_eq!(
            fields,
            [
                "n=Float(12.0)",
                "off=Bool(false)",
                "ok=Bool(true)",
                r#"s=Text("a \"b\" \\ c,d e")"#,
                "u=Float(3.0)",
                "weather_data=Float(21.5)",
            ]
        );
        assert_eq!(time.as_deref(), Some("2016-06-13T17:43:50Z"));
        assert_eq!(device.as_deref(), Some("a,b"));
    }

    #[test]
    fn damage_is_named_with_its_place_and_one_bad_field_costs_only_itself() {
        let at = |line: &str| decode(line.as_bytes(), &Roles::default()).unwrap_err();
        assert_eq!(at("m"), DecodeError::NotInflux(1));
        assert_eq!(at("m,t a=1"), DecodeError::NotInflux(3));
        assert_eq!(at("m a="), DecodeError::NotInflux(4));
        assert_eq!(at("m a=\"x"), DecodeError::NotInflux(5));
        assert_eq!(at("m a=1 soon"), DecodeError::NotInflux(6));
        let decoded = decode(b"m a=1,b=x,c=18446744073709551615u", &Roles::default()).unwrap();
        assert_eq!((decoded.fields.len(), decoded.rejected.len()), (1, 2));
    }
}
