//! What an answer of MongoDB to an unordered insert means. Pure.
//!
//! An error of **one document** is about the data, unless its code says that the server was in
//! trouble. An error of the **whole command** is about the server, unless its code says that the data
//! was bad. So an outage is never taken for bad data, and bad data never holds the pipeline for ever.

use std::collections::BTreeMap;

use mongodb::{
    bson::Document as Fields,
    error::{Error, ErrorKind},
};

use super::Outage;

/// `E11000 duplicate key`.
const DUPLICATE_KEY: i32 = 11000;

/// Codes of the server's own troubles: elections, shutdown, deadlines, rights, space, cancelled
/// operations, write conflicts, sharding metadata in motion.
const SERVER: [i32; 37] = [
    6, 7, 13, 18, 20, 24, 46, 50, 63, 64, 70, 74, 82, 83, 89, 91, 100, 112, 117, 129, 133, 134,
    150, 189, 202, 209, 215, 234, 238, 262, 317, 358, 10107, 11600, 11602, 13435, 14031,
];

/// Those of them that speak of time: `MaxTimeMSExpired`, `WriteConcernFailed` (its timeout), `ExceededTimeLimit`.
const LATE: [i32; 3] = [50, 64, 262];

/// Codes by which a whole command is refused for what it holds: bad value, cannot be parsed, type
/// mismatch, bad key names, invalid BSON, key or object too large, validation.
const DATA: [i32; 11] = [2, 9, 14, 22, 52, 55, 57, 121, 10334, 17280, 17419];

/// What became of each document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// All are durable but these, by their place in the batch.
    Done(BTreeMap<usize, Refusal>),
    /// The whole batch was refused for its data: bisect.
    Bad(String),
    /// Nothing is known.
    Outage(Outage),
}

/// Why a document was not inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its `_id` is taken: compare the digests.
    IdTaken,
    /// The server refuses exactly this document.
    Bad(String),
}

/// One write error, without what is not needed.
struct WriteError<'a> {
    index: usize,
    code: i32,
    message: &'a str,
}

/// Reads the server's answer to an insert command.
pub(super) fn read_answer(answer: &Fields) -> Reply {
    let code = |error: &Fields| error.get_i32("code").unwrap_or_default();
    let message = |error: &Fields| error.get_str("errmsg").unwrap_or_default().to_owned();
    if let Ok(concern) = answer.get_document("writeConcernError") {
        let (code, message) = (code(concern), message(concern));
        let text = format!("write concern not met: {message} ({code})");
        return Reply::Outage(trouble(code, text));
    }
    let Ok(errors) = answer.get_array("writeErrors") else {
        return Reply::Done(BTreeMap::new());
    };
    let errors: Vec<(usize, i32, String)> = errors
        .iter()
        .filter_map(|error| {
            let error = error.as_document()?;
            let index = usize::try_from(error.get_i32("index").ok()?).ok()?;
            Some((index, code(error), message(error)))
        })
        .collect();
    of_documents(errors.iter().map(|(index, code, message)| WriteError {
        index: *index,
        code: *code,
        message,
    }))
}

/// Reads the driver's error.
pub(super) fn read(error: &Error) -> Reply {
    match error.kind.as_ref() {
        ErrorKind::InsertMany(many) => {
            if let Some(concern) = &many.write_concern_error {
                let text = format!(
                    "write concern not met: {} ({})",
                    concern.message, concern.code
                );
                return Reply::Outage(trouble(concern.code, text));
            }
            let errors = many.write_errors.iter().flatten().map(|one| WriteError {
                index: one.index,
                code: one.code,
                message: &one.message,
            });
            of_documents(errors)
        }
        ErrorKind::Command(command) if DATA.contains(&command.code) => {
            Reply::Bad(format!("{} ({})", command.message, command.code))
        }
        ErrorKind::Command(command) => Reply::Outage(trouble(command.code, error)),
        ErrorKind::BsonSerialization(cause) => Reply::Bad(cause.to_string()),
        ErrorKind::Bson(cause) => Reply::Bad(cause.to_string()),
        ErrorKind::InvalidArgument { message, .. } => Reply::Bad(message.clone()),
        _ => Reply::Outage(Outage::new(error)),
    }
}

fn trouble(code: i32, text: impl std::fmt::Display) -> Outage {
    if LATE.contains(&code) {
        Outage::late(text)
    } else {
        Outage::new(text)
    }
}

fn of_documents<'a>(errors: impl Iterator<Item = WriteError<'a>>) -> Reply {
    let mut refused = BTreeMap::new();
    for WriteError {
        index,
        code,
        message,
    } in errors
    {
        let refusal = match code {
            code if SERVER.contains(&code) => {
                return Reply::Outage(trouble(code, format_args!("{message} ({code})")));
            }
            DUPLICATE_KEY if names_id_index(message) => Refusal::IdTaken,
            _ => Refusal::Bad(format!("{message} ({code})")),
        };
        refused.insert(index, refusal);
    }
    if refused.is_empty() {
        // An error that names no document says nothing about any.
        return Reply::Outage(Outage::new("insert failed without a write error"));
    }
    Reply::Done(refused)
}

/// A unique index that somebody else made is no proof that the reading is there.
fn names_id_index(message: &str) -> bool {
    message.contains("index: _id_") || message.contains("index: _id ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(errors: &[(usize, i32, &str)]) -> Reply {
        of_documents(errors.iter().map(|&(index, code, message)| WriteError {
            index,
            code,
            message,
        }))
    }

    #[test]
    fn a_taken_id_is_told_from_other_unique_indexes_and_bad_data_from_trouble() {
        let id =
            "E11000 duplicate key error collection: t.readings index: _id_ dup key: { _id: \"a\" }";
        let other =
            "E11000 duplicate key error collection: t.readings index: seq_1 dup key: { seq: 1 }";
        let Reply::Done(refused) =
            judge(&[(0, 11000, id), (2, 11000, other), (3, 121, "validation")])
        else {
            panic!("documents were refused");
        };
        assert_eq!(refused[&0], Refusal::IdTaken);
        assert!(matches!(&refused[&2], Refusal::Bad(text) if text.contains("seq_1")));
        assert!(matches!(&refused[&3], Refusal::Bad(text) if text.contains("121")));
        assert!(!refused.contains_key(&1));
    }

    #[test]
    fn one_error_of_the_server_makes_the_whole_batch_unknown() {
        for code in [91, 189, 10107, 11600, 13, 50, 14031, 112] {
            let reply = judge(&[(0, 121, "validation"), (1, code, "trouble")]);
            assert!(matches!(reply, Reply::Outage(_)), "{code}");
        }
        assert!(matches!(judge(&[]), Reply::Outage(_)));
    }

    #[test]
    fn only_codes_that_speak_of_time_make_an_outage_late() {
        for (code, late) in [
            (91, false),
            (13, false),
            (50, true),
            (64, true),
            (262, true),
        ] {
            let Reply::Outage(outage) = judge(&[(0, code, "trouble")]) else {
                panic!("{code} is trouble");
            };
            assert_eq!(outage.is_late(), late, "{code}");
        }
    }

    #[test]
    fn network_and_selection_errors_are_outages_and_oversize_is_data() {
        let io = Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        assert!(matches!(read(&io), Reply::Outage(_)));
        assert!(matches!(read(&Error::custom("anything")), Reply::Outage(_)));
    }

    #[test]
    fn the_answer_to_a_command_is_read_as_the_drivers_error_is() {
        use mongodb::bson::doc;
        let done = doc! { "n": 2, "ok": 1.0 };
        assert_eq!(read_answer(&done), Reply::Done(BTreeMap::new()));
        let bad =
            doc! { "n": 1, "ok": 1.0, "writeErrors": [{ "index": 1, "code": 2, "errmsg": "bad" }] };
        let Reply::Done(refused) = read_answer(&bad) else {
            panic!("one was refused");
        };
        assert!(matches!(&refused[&1], Refusal::Bad(text) if text.contains("bad")));
        let unsure =
            doc! { "n": 1, "ok": 1.0, "writeConcernError": { "code": 64, "errmsg": "late" } };
        let Reply::Outage(outage) = read_answer(&unsure) else {
            panic!("nothing is known");
        };
        assert!(outage.is_late());
    }

    #[test]
    fn no_code_is_both_trouble_and_data() {
        assert!(SERVER.iter().all(|code| !DATA.contains(code)));
    }
}
