//! `vectors/v1.json`, the bytes published for firmware authors. If this fails, do not edit the vectors,
//! revert the change.

use std::sync::LazyLock;

use protocol::frame::{Decoder, Frame, FrameError};
use serde::Deserialize;

use crate::hex::{bytes, hex};

#[derive(Deserialize)]
pub struct Vectors {
    pub valid: Vec<Valid>,
    pub invalid: Vec<Invalid>,
    pub streams: Vec<Stream>,
}

#[derive(Deserialize)]
pub struct Valid {
    pub name: String,
    kind: String,
    message: serde_json::Value,
    body: String,
    crc: String,
    pub frame: String,
}

#[derive(Deserialize)]
pub struct Invalid {
    pub name: String,
    pub frame: String,
    pub error: String,
}

#[derive(Deserialize)]
pub struct Stream {
    pub name: String,
    pub bytes: String,
    /// Names of valid frames and of errors.
    pub expected: Vec<String>,
}

pub static VECTORS: LazyLock<Vectors> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../vectors/v1.json")).unwrap());

impl Vectors {
    pub fn valid(&self, name: &str) -> &Valid {
        let found = self.valid.iter().find(|valid| valid.name == name);
        found.unwrap_or_else(|| panic!("no vector {name}"))
    }
}

impl Valid {
    pub fn message(&self) -> Frame {
        let message = self.message.clone();
        match self.kind.as_str() {
            "hello" => Frame::Hello(serde_json::from_value(message).unwrap()),
            "reading" => Frame::Reading(serde_json::from_value(message).unwrap()),
            "ack" => Frame::Ack(serde_json::from_value(message).unwrap()),
            "status" => Frame::Status(serde_json::from_value(message).unwrap()),
            kind => panic!("kind {kind}"),
        }
    }
}

/// The error's name in the vectors.
pub fn name_of(error: &FrameError) -> &'static str {
    match error {
        FrameError::TooLong => "too_long",
        FrameError::Cobs => "cobs",
        FrameError::TooShort(_) => "too_short",
        FrameError::Crc { .. } => "crc",
        FrameError::UnknownVersion(_) => "unknown_version",
        FrameError::UnknownKind(_) => "unknown_kind",
        FrameError::Body { .. } => "body",
        FrameError::CannotSend(_) => "cannot_send",
    }
}

/// What the zeros of a stream complete.
pub fn decode(line: &[u8]) -> Vec<Result<Frame, FrameError>> {
    let mut decoder = Decoder::new();
    line.iter().filter_map(|byte| decoder.push(*byte)).collect()
}

#[test]
fn valid_vectors_are_what_is_sent_and_what_is_understood() {
    for valid in &VECTORS.valid {
        let mut line = Vec::new();
        valid.message().encode(&mut line).unwrap();
        assert_eq!(hex(&line), valid.frame, "{}", valid.name);
        assert_eq!(decode(&line), [Ok(valid.message())], "{}", valid.name);

        let plain = cobs::decode_vec(&line[1..line.len() - 1]).unwrap();
        let (checked, crc) = plain.split_at(plain.len() - 4);
        assert_eq!(hex(&checked[2..]), valid.body, "{}", valid.name);
        assert_eq!(hex(crc), valid.crc, "{}", valid.name);
    }
}

#[test]
fn invalid_vectors_are_refused_for_the_reason_given() {
    for invalid in &VECTORS.invalid {
        let outcomes = decode(&bytes(&invalid.frame));
        let names: Vec<_> = outcomes
            .iter()
            .map(|outcome| outcome.as_ref().map_or_else(name_of, |_| "accepted"))
            .collect();
        assert_eq!(names, [invalid.error.as_str()], "{}", invalid.name);
    }
}

#[test]
fn damage_in_a_stream_costs_what_the_vectors_say() {
    for stream in &VECTORS.streams {
        let outcomes = decode(&bytes(&stream.bytes));
        let names: Vec<_> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Ok(frame) => VECTORS
                    .valid
                    .iter()
                    .find(|valid| valid.message() == *frame)
                    .map_or("unknown", |valid| valid.name.as_str()),
                Err(error) => name_of(error),
            })
            .collect();
        assert_eq!(names, stream.expected, "{}", stream.name);
    }
}

#[test]
fn a_frame_beyond_the_bound_is_refused_before_it_is_sent() {
    let Frame::Reading(mut reading) = VECTORS.valid("reading-largest").message() else {
        panic!("no reading");
    };
    reading.fields[0].0.push('x');
    let mut out = vec![7];
    assert_eq!(
        Frame::Reading(reading).encode(&mut out),
        Err(FrameError::CannotSend(1025))
    );
    assert_eq!(out, [7]);
}

#[test]
fn cobs_with_or_without_an_empty_last_block_is_one_frame() {
    let valid = VECTORS.valid("reading-ends-with-full-block");
    let mut line = bytes(&valid.frame);
    line.insert(line.len() - 1, 1);
    assert_eq!(decode(&line), [Ok(valid.message())]);
}
