//! Dead letters that the dead-letter topic cannot take for their size: kept whole in `incidents`, in
//! parts that fit into documents.
//!
//! ```text
//! { _id: "dead_letter:t:3:118821", kind: "dead_letter", reason, detail, topic, partition, offset,
//!   timestamp, key, headers: [{ name, value }], parts: 2, at }
//! { _id: "dead_letter:t:3:118821:000000", kind: "dead_letter_part", data }
//! ```
//!
//! The parts come first, so a letter that is there is whole.

use futures_util::TryStreamExt as _;
use mongodb::bson::{Binary, Bson, Document as Fields, doc, spec::BinarySubtype};

use super::{
    Outage, Store,
    incidents::{COLLECTION, Incident},
};
use crate::{
    dead_letter::DeadLetter,
    message::{Coordinates, Message, Partition},
};

/// Of a value in one document; MongoDB takes 16 MiB.
const PART: usize = 8 << 20;

fn binary(bytes: &[u8]) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    })
}

fn optional(bytes: Option<&[u8]>) -> Bson {
    bytes.map_or(Bson::Null, binary)
}

fn bytes(value: Option<&Bson>) -> Option<Vec<u8>> {
    match value {
        Some(Bson::Binary(binary)) => Some(binary.bytes.clone()),
        _ => None,
    }
}

impl Store {
    /// Keeps a dead letter whole.
    ///
    /// # Errors
    /// [`Outage`]; again is harmless.
    pub async fn keep_dead_letter(&self, letter: &DeadLetter) -> Result<(), Outage> {
        let Coordinates {
            partition,
            offset,
            timestamp_ms,
        } = &letter.message.at;
        let key = format!(
            "dead_letter:{}:{}:{offset}",
            partition.topic, partition.number
        );
        let value = letter.message.value();
        let parts = value.map_or(0, |value| value.chunks(PART).len());
        for (number, part) in value.unwrap_or_default().chunks(PART).enumerate() {
            let fields = doc! { "kind": "dead_letter_part", "data": binary(part) };
            let part = Incident::new(format!("{key}:{number:06}"), fields);
            self.keep_incident(&part).await?;
        }
        let own = letter.message.headers();
        let own = own.map(|(name, value)| doc! { "name": name, "value": optional(value) });
        let added = letter.headers().into_iter();
        let added =
            added.map(|(name, value)| doc! { "name": name, "value": binary(value.as_bytes()) });
        let fields = doc! {
            "kind": "dead_letter",
            "reason": letter.cause.reason.as_str(),
            "detail": &letter.cause.detail,
            "topic": &*partition.topic,
            "partition": partition.number,
            "offset": offset,
            "timestamp": timestamp_ms,
            "key": optional(letter.message.key()),
            "headers": own.chain(added).collect::<Vec<_>>(),
            "parts": i64::try_from(parts).unwrap_or(i64::MAX),
            // An empty value is not a tombstone.
            "empty": value.is_some_and(<[u8]>::is_empty),
        };
        self.keep_incident(&Incident::new(key, fields)).await
    }

    /// The dead letters kept here, without their values, at most `limit`.
    ///
    /// # Errors
    /// [`Outage`].
    pub async fn kept_dead_letters(&self, limit: usize) -> Result<Vec<(String, Message)>, Outage> {
        let incidents = self.database.collection::<Fields>(COLLECTION);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let letters: Vec<Fields> = self
            .within(async {
                let kept = incidents.find(doc! { "kind": "dead_letter" });
                kept.sort(doc! { "at": 1 })
                    .limit(limit)
                    .await?
                    .try_collect()
                    .await
            })
            .await?;
        let named = letters.into_iter().map(|letter| {
            let key = letter.get_str("_id").unwrap_or_default().to_owned();
            let message = message(&letter, None);
            (key, message)
        });
        Ok(named.collect())
    }

    /// One of them, whole; `None` where there is none.
    ///
    /// # Errors
    /// [`Outage`].
    pub async fn kept_dead_letter(&self, key: &str) -> Result<Option<Message>, Outage> {
        let incidents = self.database.collection::<Fields>(COLLECTION);
        let one = self.within(async { incidents.find_one(doc! { "_id": key }).await });
        let Some(letter) = one.await? else {
            return Ok(None);
        };
        let parts = letter.get_i64("parts").unwrap_or(0);
        let is_empty = letter.get_bool("empty").unwrap_or(false);
        let mut value = (parts > 0 || is_empty).then(Vec::new);
        for number in 0..parts {
            let id = doc! { "_id": format!("{key}:{number:06}") };
            let part = self.within(async { incidents.find_one(id).await }).await?;
            let Some(data) = bytes(part.as_ref().and_then(|part| part.get("data"))) else {
                return Err(Outage::new("a part of the dead letter is missing"));
            };
            value.get_or_insert_default().extend(data);
        }
        Ok(Some(message(&letter, value.as_deref())))
    }
}

fn message(letter: &Fields, value: Option<&[u8]>) -> Message {
    let at = Coordinates {
        partition: Partition {
            topic: letter.get_str("topic").unwrap_or_default().into(),
            number: letter.get_i32("partition").unwrap_or(0),
        },
        offset: letter.get_i64("offset").unwrap_or(0),
        timestamp_ms: letter.get_i64("timestamp").ok(),
    };
    let headers: Vec<(String, Option<Vec<u8>>)> = letter
        .get_array("headers")
        .into_iter()
        .flatten()
        .filter_map(Bson::as_document)
        .map(|header| {
            let name = header.get_str("name").unwrap_or_default().to_owned();
            (name, bytes(header.get("value")))
        })
        .collect();
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()));
    Message::new(at, bytes(letter.get("key")).as_deref(), value, headers)
}
