//! SenML in CBOR (RFC 8428, section 6; RFC 8949), written as the JSON it is equivalent to.
//!
//! Both representations say the same, so one reader serves both: labels that are integers become the words
//! they stand for, octets become base64url without padding, as in JSON, and a decimal fraction (tag 4) becomes
//! the decimal it is. Other tags change nothing. A number that a single float holds is written with that
//! float's shortest digits: 21.4, not 21.399999618530273.
//!
//! Nothing is sized by what a header announces: the text grows with the bytes that are there.

use std::fmt::Write;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ciborium_ll::{Decoder, Error, Header, simple};

use crate::decode::DecodeError;

/// Deepest array or map; a pack has two levels.
const MAX_DEPTH: usize = 8;
/// A fraction, `[exponent, mantissa]`.
const DECIMAL_FRACTION: u64 = 4;
/// Labels from -6 to 8: RFC 8428, table 4. The last one only names the unit of a time to come.
const LABELS: [&str; 15] = [
    "bs", "bv", "bu", "bt", "bn", "bver", "n", "u", "v", "vs", "vb", "s", "t", "ut", "vd",
];

/// Whether these bytes can be a pack in CBOR; no JSON begins so.
pub(super) fn is_pack(payload: &[u8]) -> bool {
    // An array, a map, or the tag that says "CBOR" (55799).
    matches!(payload.first(), Some(0x80..=0xbf | 0xd9))
}

/// The pack as JSON.
///
/// # Errors
/// [`DecodeError::NotCbor`].
pub(super) fn to_json(payload: &[u8]) -> Result<String, DecodeError> {
    let mut transcript = Transcript {
        decoder: payload.into(),
        json: String::with_capacity(payload.len() * 2),
    };
    let whole = transcript
        .item(0)
        .map_err(|at| at.unwrap_or(payload.len()))
        .and_then(|()| match transcript.decoder.offset() {
            end if end == payload.len() => Ok(()),
            end => Err(end),
        });
    whole.map_err(DecodeError::NotCbor)?;
    Ok(transcript.json)
}

struct Transcript<'p> {
    decoder: Decoder<&'p [u8]>,
    json: String,
}

/// Where it is no CBOR; `None` where it ends too early.
type Place = Option<usize>;

impl Transcript<'_> {
    fn item(&mut self, depth: usize) -> Result<(), Place> {
        let at = self.decoder.offset();
        let header = self.header()?;
        self.value(header, at, depth)
    }

    fn header(&mut self) -> Result<Header, Place> {
        self.decoder.pull().map_err(place)
    }

    /// An item whose header, at `at`, has been read.
    fn value(&mut self, header: Header, at: usize, depth: usize) -> Result<(), Place> {
        match header {
            Header::Array(_) | Header::Map(_) if depth == MAX_DEPTH => Err(Some(at)),
            Header::Array(len) => {
                self.json.push('[');
                self.elements(len, |this, at, header| this.value(header, at, depth + 1))?;
                self.json.push(']');
                Ok(())
            }
            Header::Map(len) => {
                self.json.push('{');
                self.elements(len, |this, at, header| {
                    this.label(header, at)?;
                    this.json.push(':');
                    this.item(depth + 1)
                })?;
                self.json.push('}');
                Ok(())
            }
            Header::Tag(DECIMAL_FRACTION) => self.fraction(),
            Header::Tag(_) if depth == MAX_DEPTH => Err(Some(at)),
            Header::Tag(_) => self.item(depth + 1),
            Header::Text(len) => {
                let text = self.text(len)?;
                self.quoted(&text);
                Ok(())
            }
            Header::Bytes(len) => {
                let octets = self.octets(len)?;
                let text = BASE64_URL_SAFE_NO_PAD.encode(octets);
                self.quoted(&text);
                Ok(())
            }
            Header::Simple(simple::TRUE) => self.word("true"),
            Header::Simple(simple::FALSE) => self.word("false"),
            Header::Simple(_) => self.word("null"),
            Header::Float(number) => self.word(float(number)),
            Header::Positive(_) | Header::Negative(_) => self.word(whole(header).ok_or(Some(at))?),
            Header::Break => Err(Some(at)),
        }
    }

    /// All elements of an array or members of a map, whether it says their number or ends with a break.
    fn elements(
        &mut self,
        len: Option<usize>,
        mut each: impl FnMut(&mut Self, usize, Header) -> Result<(), Place>,
    ) -> Result<(), Place> {
        let mut count = 0;
        while len != Some(count) {
            let at = self.decoder.offset();
            let header = self.header()?;
            if len.is_none() && header == Header::Break {
                break;
            }
            if count > 0 {
                self.json.push(',');
            }
            each(self, at, header)?;
            count += 1;
        }
        Ok(())
    }

    fn label(&mut self, header: Header, at: usize) -> Result<(), Place> {
        if let Header::Text(len) = header {
            let text = self.text(len)?;
            self.quoted(&text);
            return Ok(());
        }
        let number = whole(header).ok_or(Some(at))?;
        let known = usize::try_from(number + 6)
            .ok()
            .and_then(|index| LABELS.get(index));
        match known {
            Some(label) => self.quoted(label),
            None => self.quoted(&number.to_string()),
        }
        Ok(())
    }

    fn fraction(&mut self) -> Result<(), Place> {
        let at = self.decoder.offset();
        if self.header()? != Header::Array(Some(2)) {
            return Err(Some(at));
        }
        let mut part = || {
            let at = self.decoder.offset();
            whole(self.header()?).ok_or(Some(at))
        };
        let (exponent, mantissa) = (part()?, part()?);
        self.word(format_args!("{mantissa}e{exponent}"))
    }

    fn text(&mut self, len: Option<usize>) -> Result<String, Place> {
        let mut text = String::new();
        let mut buffer = [0; 256];
        let mut segments = self.decoder.text(len);
        while let Some(mut segment) = segments.pull().map_err(place)? {
            while let Some(part) = segment.pull(&mut buffer).map_err(place)? {
                text.push_str(part);
            }
        }
        Ok(text)
    }

    fn octets(&mut self, len: Option<usize>) -> Result<Vec<u8>, Place> {
        let mut octets = Vec::new();
        let mut buffer = [0; 256];
        let mut segments = self.decoder.bytes(len);
        while let Some(mut segment) = segments.pull().map_err(place)? {
            while let Some(part) = segment.pull(&mut buffer).map_err(place)? {
                octets.extend_from_slice(part);
            }
        }
        Ok(octets)
    }

    fn quoted(&mut self, text: &str) {
        self.word(serde_json::Value::from(text)).unwrap_or_default();
    }

    /// Writing to a text cannot fail.
    fn word(&mut self, word: impl std::fmt::Display) -> Result<(), Place> {
        write!(self.json, "{word}").map_err(|_| None)
    }
}

fn place<E>(error: Error<E>) -> Place {
    match error {
        Error::Syntax(at) => Some(at),
        Error::Io(_) => None,
    }
}

fn whole(header: Header) -> Option<i128> {
    match header {
        Header::Positive(number) => Some(number.into()),
        Header::Negative(number) => Some(!i128::from(number)),
        _ => None,
    }
}

/// `NaN` and infinities are told as the reader of JSON takes them, and refused there by name.
fn float(number: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "compared with the whole")]
    let single = number as f32;
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        "1e999".to_owned()
    } else if f64::from(single) == number {
        format!("{single:e}")
    } else {
        format!("{number:e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::stream::tests::hex;

    fn json(digits: &str) -> Result<String, DecodeError> {
        let bytes = hex(digits);
        assert!(is_pack(&bytes));
        to_json(&bytes)
    }

    #[test]
    fn each_label_and_type_has_its_json() {
        for (hex, expected) in [
            ("81 a2 00 61 61 02 f9 3e00", r#"[{"n":"a","v":1.5e0}]"#),
            ("9f bf 02 fa 41ab3333 ff ff", r#"[{"v":2.14e1}]"#),
            ("81 a1 02 fb 403567ae147ae148", r#"[{"v":2.1405e1}]"#),
            ("81 a1 02 c4 82 21 19 0d66", r#"[{"v":3430e-2}]"#),
            (
                "81 a1 02 3b ffffffffffffffff",
                r#"[{"v":-18446744073709551616}]"#,
            ),
            ("81 a2 03 7f 61 c3 ff", "not CBOR at byte 4"),
            (
                "81 a2 03 7f 62 c3a4 61 62 ff 04 f5",
                r#"[{"vs":"äb","vb":true}]"#,
            ),
            ("81 a1 08 43 ff ff ff", r#"[{"vd":"____"}]"#),
            ("81 a1 08 5f 41 ff 42 ff ff ff", r#"[{"vd":"____"}]"#),
            (
                "d9d9f7 81 a7 20 05 21 61 62 22 c1 1a 6a000000 23 61 41 24 01 25 02 07 0a",
                r#"[{"bver":5,"bn":"b","bt":1778384896,"bu":"A","bv":1,"bs":2,"ut":10}]"#,
            ),
            ("81 a2 63 785f22 01 18 63 f6", r#"[{"x_\"":1,"99":null}]"#),
            ("81 a1 02 f9 7e00", r#"[{"v":NaN}]"#),
        ] {
            let read = json(hex).unwrap_or_else(|error| error.to_string());
            assert_eq!(read, expected, "{hex}");
        }
    }

    #[test]
    fn what_is_no_cbor_is_told_by_its_byte() {
        for (hex, at) in [
            ("81 a1 02", 3),
            ("81 a1 02 1c", 3),
            ("81 a1 f5 01", 2),
            ("81 a1 02 05 00", 4),
            ("81 a1 02 c4 82 01 61", 6),
            ("81 a1 02 ff", 3),
            ("9b ffffffffffffffff", 9),
            ("81 81 81 81 81 81 81 81 81 81 01", 8),
        ] {
            assert_eq!(json(hex), Err(DecodeError::NotCbor(at)), "{hex}");
        }
    }
}
