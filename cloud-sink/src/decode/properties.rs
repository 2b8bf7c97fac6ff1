//! What must hold for any record in Kafka; for the fuzz target, and for the tests, which try some.
//!
//! Nothing here runs in the product.

use std::sync::Arc;

use protocol::record::postcard;
use protocol_host::registry::{self, Language};

use super::{MAX_DETAIL, Schema, Undecodable, fact, identity, reading};
use crate::message::{Coordinates, Message, Partition};

/// A record: lines `name: value` for its headers (`key` is its key, `schema` the Avro schema that the
/// registry has under any id), an empty line, its value. It becomes a document that can be written, under the gateway that its key names, or is refused in few words.
///
/// # Panics
/// The property does not hold.
pub fn record(bytes: &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (head, value) = match end {
        Some(at) => (&bytes[..at], &bytes[at + 2..]),
        None => (&[][..], bytes),
    };
    let head = String::from_utf8_lossy(head);
    let headers: Vec<(&str, &str)> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .collect();
    let key = headers.iter().find(|(name, _)| *name == "key");
    let key = key.map(|(_, value)| value.as_bytes());
    let schema = headers.iter().find(|(name, _)| *name == "schema");
    let schema = schema.map(|(_, text)| registry::Schema::new(Language::Avro, *text));
    let schema = schema.as_ref().map(Schema::new);
    let at = Coordinates {
        partition: Partition {
            topic: Arc::from("t"),
            number: 0,
        },
        offset: 7,
        timestamp_ms: Some(1_795_467_847_000),
    };
    let headers = headers
        .iter()
        .filter(|(name, _)| !matches!(*name, "key" | "schema"));
    let headers = headers.map(|(name, value)| (*name, Some(value.as_bytes())));
    let message = Message::new(at, key, Some(value), headers);
    match reading(&message, schema.as_ref(), true) {
        Err(error) => refused(&error),
        Ok(document) => {
            if let Some(gateway) = document.gateway() {
                assert_eq!(key, Some(gateway.as_str().as_bytes()));
            }
            assert!(serde_json::to_vec(&document).is_ok(), "{document:?}");
        }
    }
    if let Some(id) = identity(&message) {
        assert_eq!(key, Some(id.gateway.as_str().as_bytes()));
    }
    if let Err(error) = fact(&message) {
        refused(&error);
    }
    // A record of ours is either form of the same reading.
    if let Ok(record) = postcard::decode(value) {
        let mut again = Vec::new();
        assert!(postcard::encode(&record, &mut again).is_ok());
        assert_eq!(postcard::decode(&again), Ok(record));
    }
}

fn refused(error: &Undecodable) {
    assert!(error.detail.len() <= MAX_DETAIL, "{error}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::record;

    const OURS: &str = "key: gw7\nce_type: edge.reading.v1\nce_id: gw7:1f3a9c04d2be:00000001584d\n\
        content-type: application/json; charset=utf-8\n\n\
        {\"v\":1,\"gateway\":\"gw7\",\"device\":\"meter-1\",\"epoch\":\"1f3a9c04d2be\",\"seq\":88141,\
        \"digest\":\"4711fa3a9c04d2be\",\"time\":\"2026-11-23T21:04:07.113Z\",\"clock\":\"synced\",\
        \"fields\":{\"voltage_v\":230.2}}";
    const FOREIGN: &str = "key: x\n\n{\"device\":\"d\",\"time\":\"2026-11-23T21:04:07Z\",\"t\":21.5,\"n\":{\"a\":[1,true]}}";

    const REGISTERED: &str = "schema: {\"type\":\"record\",\"name\":\"P\",\"fields\":[{\"name\":\"device\",\"type\":\"string\"},\
        {\"name\":\"next\",\"type\":[\"null\",\"P\"]},{\"name\":\"t\",\"type\":\"double\"},{\"name\":\"m\",\"type\":{\"type\":\"map\",\"values\":\"P\"}}]}\n\n\
        \0\0\0\0\x07\x02d\0\0\0\0\0\0\0\0\0\0";

    proptest! {
        #[test]
        fn any_record_becomes_a_document_or_is_refused_in_few_words(
            any_bytes in proptest::collection::vec(any::<u8>(), 0..200),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            record(&any_bytes);
            for seed in [OURS, FOREIGN, REGISTERED] {
                let mut bytes = seed.as_bytes().to_vec();
                for (at, byte) in &changes {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                record(&bytes);
            }
        }
    }
}
