//! MongoDB's wire protocol, as little of it as measuring needs: a server that discards, and a tap that
//! sees when a real one has acknowledged what.
//!
//! ```text
//! message   length i32 | request i32 | response to i32 | opcode i32 | body
//! OP_MSG    flags u32, then sections: 00 document | 01 size i32, name, 00, documents …
//! OP_QUERY  only for the driver's first hello: flags i32, name, 00, skip i32, count i32, document
//! ```
//!
//! By hand, because no library speaks the server's side of it. Documents are read by the driver's own
//! BSON, but for the inserts: of those only the `_id` is looked at, so that neither side of a pair waits
//! for the server.

mod null;
mod tap;

use std::io::{self, Read};

pub use self::{null::NullServer, tap::Tap};

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;
/// The driver never sends more.
const MOST_BYTES: usize = 64 << 20;

/// One message.
pub struct Message {
    /// Header and body, as they came.
    bytes: Vec<u8>,
}

impl Message {
    /// Reads the next one; `None` at the end of the connection.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut header = [0; 16];
        match from.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let length = usize::try_from(int(&header, 0).unwrap_or(0)).unwrap_or(0);
        if !(16..=MOST_BYTES).contains(&length) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "length of a message",
            ));
        }
        let mut bytes = vec![0; length];
        bytes[..16].copy_from_slice(&header);
        from.read_exact(&mut bytes[16..])?;
        Ok(Some(Self { bytes }))
    }

    fn request(&self) -> i32 {
        int(&self.bytes, 4).unwrap_or(0)
    }

    fn response_to(&self) -> i32 {
        int(&self.bytes, 8).unwrap_or(0)
    }

    fn opcode(&self) -> i32 {
        int(&self.bytes, 12).unwrap_or(0)
    }

    /// The command's document.
    fn command(&self) -> Option<&[u8]> {
        match self.opcode() {
            OP_QUERY => {
                let name = self.bytes.get(20..)?;
                let end = name.iter().position(|&byte| byte == 0)?;
                document(name.get(end + 9..)?)
            }
            OP_MSG => match self.bytes.get(20..)? {
                [0, rest @ ..] => document(rest),
                _ => None,
            },
            _ => None,
        }
    }

    /// The documents beside the command, in a section of their own.
    fn documents(&self) -> Documents<'_> {
        let beside = || {
            let command = self.command()?;
            let rest = self.bytes.get(21 + command.len()..)?;
            let [1, rest @ ..] = rest else { return None };
            let size = usize::try_from(int(rest, 0)?).ok()?;
            let section = rest.get(4..size)?;
            let end = section.iter().position(|&byte| byte == 0)?;
            section.get(end + 1..)
        };
        Documents(beside().unwrap_or_default())
    }

    /// The sequences of an insert of readings; empty for anything else.
    pub fn inserted(&self) -> Vec<u64> {
        match self.command().and_then(name) {
            Some(b"insert") => self.documents().filter_map(sequence).collect(),
            _ => Vec::new(),
        }
    }
}

/// Documents one behind the other.
struct Documents<'a>(&'a [u8]);

impl<'a> Iterator for Documents<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        let first = document(self.0)?;
        self.0 = &self.0[first.len()..];
        Some(first)
    }
}

fn int(bytes: &[u8], at: usize) -> Option<i32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(i32::from_le_bytes(bytes.try_into().ok()?))
}

fn document(bytes: &[u8]) -> Option<&[u8]> {
    let length = usize::try_from(int(bytes, 0)?).ok()?;
    bytes.get(..length).filter(|document| document.len() >= 5)
}

/// The name of the first element, which is that of the command.
fn name(document: &[u8]) -> Option<&[u8]> {
    let name = document.get(5..)?;
    name.get(..name.iter().position(|&byte| byte == 0)?)
}

/// The sequence in the `_id` of a reading, its first element.
fn sequence(document: &[u8]) -> Option<u64> {
    let rest = document.get(4..)?.strip_prefix(b"\x02_id\0")?;
    let length = usize::try_from(int(rest, 0)?).ok()?;
    let id = rest.get(4..4 + length.checked_sub(1)?)?;
    let hex = std::str::from_utf8(id.last_chunk::<12>()?).ok()?;
    u64::from_str_radix(hex, 16).ok()
}

fn reply(opcode: i32, to: i32, document: &[u8]) -> Vec<u8> {
    let before: &[u8] = match opcode {
        // Flags, cursor, first, and one document.
        OP_REPLY => &[8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        _ => &[0, 0, 0, 0, 0],
    };
    let length = 16 + before.len() + document.len();
    let mut bytes = Vec::with_capacity(length);
    for number in [i32::try_from(length).unwrap_or(i32::MAX), 1, to, opcode] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(before);
    bytes.extend_from_slice(document);
    bytes
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Document, doc};

    use super::*;

    fn insert(documents: &[Document]) -> Message {
        let mut body = vec![0; 4];
        body.push(0);
        body.extend(doc! { "insert": "readings", "$db": "t" }.to_vec().unwrap());
        let mut section = b"documents\0".to_vec();
        for document in documents {
            section.extend(document.to_vec().unwrap());
        }
        body.push(1);
        body.extend(i32::try_from(section.len() + 4).unwrap().to_le_bytes());
        body.extend(section);
        let mut bytes = Vec::new();
        for number in [i32::try_from(body.len() + 16).unwrap(), 7, 0, OP_MSG] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(body);
        Message::read(&mut bytes.as_slice()).unwrap().unwrap()
    }

    #[test]
    fn the_readings_of_an_insert_are_known_by_their_sequence() {
        let message = insert(&[
            doc! { "_id": "gw7:1f3a9c04d2be:00000001584d", "x": 1.5 },
            doc! { "x": 1 },
            doc! { "_id": "gw7:1f3a9c04d2be:000000000000" },
        ]);
        assert_eq!(message.request(), 7);
        assert_eq!(message.inserted(), [88141, 0]);
    }

    #[test]
    fn a_length_that_cannot_be_is_refused() {
        let bytes = [0xff; 32];
        assert!(Message::read(&mut bytes.as_slice()).is_err());
        assert!(Message::read(&mut [].as_slice()).unwrap().is_none());
    }
}
