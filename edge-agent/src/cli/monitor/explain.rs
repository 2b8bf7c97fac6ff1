//! What each byte between two zeros means, member by member, up to the one that is wrong. Pure.
//!
//! [`Frame::decode`](protocol::frame::Frame::decode) says that a frame is wrong; whoever writes an encoder wants to
//! know at which byte, and what is there instead. Neither `cobs` nor `postcard` tells a place, so both are walked here
//! once more, with the tables of `docs/protocol.md` in hand. The judgement stays `decode`'s: a test holds the two
//! against each other, byte for byte.

use protocol::{
    FieldName, MAX_FIELDS, MAX_TEXT_BYTES,
    frame::{MAX_FRAME_BYTES, OVERHEAD_BYTES, VERSION},
};

use super::{excerpt, time};

/// The bytes of the CRC.
const CRC: usize = 4;

/// Bytes that belong together.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// How many.
    pub len: usize,
    /// What they say, or what is wrong with them.
    pub meaning: String,
}

/// What stood between two zeros.
#[derive(Debug, Default)]
pub struct Explained {
    /// Where in it the codes of COBS stand.
    pub codes: Vec<usize>,
    /// The frame before COBS, as far as that could be undone.
    pub plain: Vec<u8>,
    /// All of `plain`, in order.
    pub parts: Vec<Part>,
    /// Whether something is wrong.
    pub is_wrong: bool,
}

/// Why a member cannot be read.
struct Wrong(String);

type Step<T> = Result<T, Wrong>;

/// Explains the bytes between two zeros.
#[must_use]
pub fn explain(stuffed: &[u8]) -> Explained {
    let mut out = Explained::default();
    let cobs = unstuff(stuffed, &mut out.codes, &mut out.plain);
    if cobs.is_err() || out.plain.len() > MAX_FRAME_BYTES || out.plain.len() < OVERHEAD_BYTES {
        let meaning = match cobs {
            Err(Wrong(why)) => why,
            Ok(()) if out.plain.len() < OVERHEAD_BYTES => {
                format!(
                    "{} bytes; version, kind and CRC alone take {OVERHEAD_BYTES}",
                    out.plain.len()
                )
            }
            Ok(()) => format!(
                "{} bytes; at most {MAX_FRAME_BYTES} are a frame",
                out.plain.len()
            ),
        };
        let len = out.plain.len();
        out.parts.push(Part { len, meaning });
        out.is_wrong = true;
        return out;
    }
    let (checked, crc) = out.plain.split_at(out.plain.len() - CRC);
    let mut walk = Walk {
        body: checked,
        at: 0,
        parts: Vec::new(),
    };
    if let Err(Wrong(why)) = walk.frame() {
        let len = checked.len() - walk.told();
        walk.parts.push(Part { len, meaning: why });
        out.is_wrong = true;
    }
    let mut parts = walk.parts;
    let (meaning, is_right) = judge_crc(checked, crc);
    parts.push(Part { len: CRC, meaning });
    out.is_wrong |= !is_right;
    out.parts = parts;
    out
}

/// Undoes COBS, as far as that goes.
fn unstuff(stuffed: &[u8], codes: &mut Vec<usize>, plain: &mut Vec<u8>) -> Step<()> {
    let mut at = 0;
    while let Some(&code) = stuffed.get(at) {
        codes.push(at);
        let rest = &stuffed[at + 1..];
        let len = usize::from(code).saturating_sub(1);
        let Some(piece) = rest.get(..len) else {
            plain.extend_from_slice(rest);
            return Err(Wrong(format!(
                "not COBS: the code {code:02x}, byte {at} on the line, promises {len} bytes and {} follow",
                rest.len()
            )));
        };
        plain.extend_from_slice(piece);
        at += 1 + len;
        if code < 0xff && at < stuffed.len() {
            plain.push(0);
        }
    }
    Ok(())
}

/// What the CRC is, and when it is not right, whether it is one that people make by mistake.
fn judge_crc(checked: &[u8], crc: &[u8]) -> (String, bool) {
    let got = crc
        .iter()
        .rev()
        .fold(0, |number: u32, byte| number << 8 | u32::from(*byte));
    let expected = crc32fast::hash(checked);
    if got == expected {
        return (format!("CRC-32 {got:08x}, right"), true);
    }
    let body = checked.get(2..).unwrap_or_default();
    let mistakes = [
        (
            expected.swap_bytes(),
            "the right one, most significant byte first",
        ),
        (!expected, "not inverted at the end"),
        (
            !reflected(0xedb8_8320, 0, checked),
            "begun with 0, not ffffffff",
        ),
        (
            reflected(0xedb8_8320, 0, checked),
            "begun with 0, not ffffffff, and not inverted at the end",
        ),
        (
            !reflected(0x82f6_3b78, u32::MAX, checked),
            "CRC-32C, of another polynomial",
        ),
        (
            crc32fast::hash(body),
            "of the body alone, without version and kind",
        ),
        (crc32fast::hash(&checked[1..]), "without the version"),
    ];
    let mistake = mistakes.iter().find(|(wrong, _)| *wrong == got);
    let mistake = mistake.map_or_else(String::new, |(_, how)| format!(": {how}"));
    let n = checked.len();
    (
        format!("CRC-32: got {got:08x}, expected {expected:08x} over the {n} bytes above{mistake}"),
        false,
    )
}

/// A CRC of 32 bits, reflected, not inverted at the end.
fn reflected(polynomial: u32, start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { polynomial } else { 0 }
        })
    })
}

/// A frame without its CRC, member by member.
struct Walk<'a> {
    body: &'a [u8],
    at: usize,
    parts: Vec<Part>,
}

impl<'a> Walk<'a> {
    /// The first byte that no part has yet.
    fn told(&self) -> usize {
        self.parts.iter().map(|part| part.len).sum()
    }

    /// All bytes since the last part are this.
    fn tell(&mut self, meaning: String) {
        let len = self.at - self.told();
        self.parts.push(Part { len, meaning });
    }

    fn take(&mut self, len: usize, what: &str) -> Step<&'a [u8]> {
        let rest = &self.body[self.at..];
        let taken = rest.get(..len).ok_or_else(|| {
            Wrong(format!(
                "{what} takes {len} bytes, {} are left before the CRC",
                rest.len()
            ))
        })?;
        self.at += len;
        Ok(taken)
    }

    fn byte(&mut self, what: &str) -> Step<u8> {
        self.take(1, what).map(|taken| taken[0])
    }

    /// LEB128 of so many bits.
    fn unsigned(&mut self, bits: u32, what: &str) -> Step<u64> {
        let mut number = 0;
        for n in 0..bits.div_ceil(7) {
            let Ok(byte) = self.byte(what) else {
                return Err(Wrong(format!(
                    "{what}: an integer that does not end before the CRC"
                )));
            };
            let part = u64::from(byte & 0x7f);
            let room = bits - 7 * n;
            if room < 7 && part >> room != 0 {
                return Err(Wrong(format!("{what}: larger than a u{bits}")));
            }
            number |= part << (7 * n);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        let most = bits.div_ceil(7);
        Err(Wrong(format!(
            "{what}: a u{bits} has at most {most} bytes, the last without its top bit"
        )))
    }

    fn text(&mut self, what: &str) -> Step<&'a str> {
        let len = self.unsigned(64, &format!("the length of {what}"))?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes)
            .map_err(|_| Wrong(format!("{what}: {len} bytes that are not UTF-8")))
    }

    fn flag(&mut self, what: &str) -> Step<bool> {
        match self.byte(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Wrong(format!("{what} is 00 or 01, not {other:02x}"))),
        }
    }

    /// The number of a variant, which is an integer like any other.
    fn choice(&mut self, what: &str, among: &str) -> Step<(u64, Wrong)> {
        let number = self.unsigned(32, what)?;
        Ok((
            number,
            Wrong(format!("{what} is {among}, not {number:02x}")),
        ))
    }

    fn frame(&mut self) -> Step<()> {
        let version = self.byte("the version")?;
        if version != VERSION {
            return Err(Wrong(format!(
                "version {version}; this program speaks {VERSION}, and reads no further"
            )));
        }
        self.tell(format!("version {version}"));
        let kind = self.byte("the kind")?;
        let name = match kind {
            1 => "hello",
            2 => "reading",
            3 => "ack",
            4 => "status",
            _ => {
                return Err(Wrong(format!(
                    "kind {kind}; there are 01 hello, 02 reading, 03 ack, 04 status"
                )));
            }
        };
        self.tell(format!("kind {kind}, {name}"));
        match kind {
            1 => self.hello()?,
            2 => self.reading()?,
            3 => self.ack()?,
            _ => self.status()?,
        }
        match self.body.len() - self.at {
            0 => Ok(()),
            left => Err(Wrong(format!(
                "{left} bytes too many, behind the last member"
            ))),
        }
    }

    fn named_text(&mut self, name: &str) -> Step<()> {
        let text = self.text(name)?;
        let len = text.len();
        self.tell(format!("{name}, {len} bytes: {}", excerpt(text)));
        Ok(())
    }

    fn named_u32(&mut self, name: &str) -> Step<()> {
        let number = self.unsigned(32, name)?;
        self.tell(format!("{name} {number}"));
        Ok(())
    }

    fn hello(&mut self) -> Step<()> {
        for name in ["device", "model", "firmware"] {
            self.named_text(name)?;
        }
        self.named_u32("boot")?;
        if self.flag("the option of time_us")? {
            let micros = self.unsigned(64, "time_us")?;
            self.tell(format!("time_us, there is one: {}", time(micros)));
        } else {
            self.tell("time_us, there is none".to_owned());
        }
        let reply = self.flag("reply")?;
        self.tell(
            if reply {
                "reply: yes, please answer"
            } else {
                "reply: no"
            }
            .to_owned(),
        );
        Ok(())
    }

    fn reading(&mut self) -> Step<()> {
        self.named_u32("boot")?;
        self.named_u32("sequence")?;
        let meaning = match self.choice("the time", "00 arrival, 01 Unix or 02 age")? {
            (0, _) => "time: arrival, now".to_owned(),
            (1, _) => format!("time: Unix, {}", time(self.unsigned(64, "the Unix time")?)),
            (2, _) => format!("time: age, {} ms", self.unsigned(32, "the age")?),
            (_, wrong) => return Err(wrong),
        };
        self.tell(meaning);
        let count = self.unsigned(64, "the number of fields")?;
        let judgement = match usize::try_from(count) {
            Ok(1..=MAX_FIELDS) => String::new(),
            _ => format!("; a reading has 1 to {MAX_FIELDS}"),
        };
        self.tell(format!("fields: {count}{judgement}"));
        for n in 1..=count {
            self.name(&format!("the name of field {n}"))?;
            self.value(&format!("the value of field {n}"))?;
        }
        Ok(())
    }

    fn name(&mut self, what: &str) -> Step<()> {
        let name = self.text(what)?;
        let stored = match FieldName::normalise(name) {
            Ok(stored) if stored.as_str() == name => String::new(),
            Ok(stored) => format!(", stored as {stored}"),
            Err(error) => format!(", left out: {error}"),
        };
        let len = name.len();
        self.tell(format!("name, {len} bytes: {}{stored}", excerpt(name)));
        Ok(())
    }

    fn value(&mut self, what: &str) -> Step<()> {
        let among = "00 float, 01 i64, 02 bool or 03 text";
        let meaning = match self.choice(&format!("the type of {what}"), among)? {
            (0, _) => {
                let bytes = self.take(8, "a float")?;
                let number = <[u8; 8]>::try_from(bytes).map_or(f64::NAN, f64::from_le_bytes);
                let kept = if number.is_finite() {
                    ""
                } else {
                    ", left out: not finite"
                };
                format!("float: {number}{kept}")
            }
            (1, _) => {
                let folded = self.unsigned(64, what)?;
                let sign = if folded & 1 == 1 { u64::MAX } else { 0 };
                format!("i64: {}", ((folded >> 1) ^ sign).cast_signed())
            }
            (2, _) => format!("bool: {}", self.flag(what)?),
            (3, _) => {
                let text = self.text(what)?;
                let kept = if text.len() > MAX_TEXT_BYTES {
                    format!(", left out: over {MAX_TEXT_BYTES} bytes")
                } else {
                    String::new()
                };
                format!("text, {} bytes: {}{kept}", text.len(), excerpt(text))
            }
            (_, wrong) => return Err(wrong),
        };
        self.tell(meaning);
        Ok(())
    }

    fn ack(&mut self) -> Step<()> {
        self.named_u32("boot")?;
        self.named_u32("sequence")?;
        let meaning = match self.choice("the verdict", "00 stored or 01 rejected")? {
            (0, _) => "verdict: stored",
            (1, _) => "verdict: rejected",
            (_, wrong) => return Err(wrong),
        };
        self.tell(meaning.to_owned());
        Ok(())
    }

    fn status(&mut self) -> Step<()> {
        self.named_u32("boot")?;
        let uptime = self.unsigned(64, "uptime_ms")?;
        self.tell(format!("uptime_ms {uptime}"));
        self.named_u32("dropped")?;
        self.named_text("text")
    }
}

#[cfg(test)]
mod tests;
