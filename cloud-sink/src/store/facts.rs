//! Facts of the control topic: one document per fact, the newest by offset.
//!
//! A fact's key always lies in the same partition, so offsets order its statements; a statement that is
//! older than the one stored changes nothing. In a control topic that was deleted and made anew offsets begin
//! again: there it is Kafka's timestamp that tells the newer statement. Where gateways stamp, and a clock ran
//! ahead, a statement read once more may so come before a later one for a moment, which is then read once more
//! as well.

use mongodb::{
    bson::{Bson, DateTime, Document as Fields, doc, serialize_to_bson},
    error::{Error, ErrorKind, WriteFailure},
};
use protocol::{Timestamp, control::Fact};

use super::{Outage, Store};
use crate::{dead_letter::origin, message::Message};

/// A fact with the record it came from.
#[derive(Debug)]
pub struct FactEntry {
    /// The record.
    pub message: Message,
    /// The stamp of the assignment it was read in.
    pub generation: u64,
    /// What it states.
    pub fact: Fact,
}

/// Where a fact is kept.
#[must_use]
pub fn collection(fact: &Fact) -> &'static str {
    match fact {
        Fact::Epoch(_) => "epochs",
        Fact::Loss(_) => "losses",
        Fact::ClockCorrection(_) => "clock_corrections",
        Fact::Heartbeat(_) => "gateways",
    }
}

fn stated_at(fact: &Fact) -> Timestamp {
    match fact {
        Fact::Epoch(fact) => fact.at,
        Fact::Loss(fact) => fact.at,
        Fact::ClockCorrection(fact) => fact.at,
        Fact::Heartbeat(fact) => fact.at,
    }
}

fn fields(entry: &FactEntry) -> Result<Fields, Outage> {
    // By way of JSON, the frozen form of a fact: its maps have text keys, as BSON needs.
    let json = serde_json::to_value(&entry.fact).map_err(Outage::new)?;
    let Bson::Document(mut fields) = serialize_to_bson(&json).map_err(Outage::new)? else {
        return Err(Outage::new("a fact is no document"));
    };
    fields.remove("fact");
    let at = DateTime::from_millis(stated_at(&entry.fact).as_millis());
    fields.insert("at", at);
    // By the sink's clock: a gateway's may be wrong.
    fields.insert("seen", DateTime::now());
    // A replay states nothing newer than it did at first.
    let place = origin(&entry.message);
    fields.insert(
        "from",
        doc! {
            "topic": &*place.partition.topic,
            "partition": place.partition.number,
            "offset": place.offset,
            "timestamp_ms": place.timestamp_ms,
        },
    );
    Ok(fields)
}

impl Store {
    /// Applies facts in their order.
    ///
    /// # Errors
    /// [`Outage`]: some may be applied; all of them again is harmless.
    pub async fn apply(&self, entries: &[FactEntry]) -> Result<(), Outage> {
        for entry in entries {
            let facts = self.database.collection::<Fields>(collection(&entry.fact));
            let place = origin(&entry.message);
            let mut older = vec![doc! { "from.offset": { "$lt": place.offset } }];
            if let Some(time) = place.timestamp_ms {
                older.push(doc! { "from.timestamp_ms": { "$lt": time } });
            }
            let older = doc! { "_id": entry.fact.key(), "$or": older };
            let set = doc! { "$set": fields(entry)? };
            let applied = self
                .within(async {
                    match facts.update_one(older, set).upsert(true).await {
                        Ok(_) => Ok(()),
                        // The filter found no older statement and the id is taken: ours is not newer.
                        Err(error) if is_duplicate(&error) => Ok(()),
                        Err(error) => Err(error),
                    }
                })
                .await;
            applied?;
        }
        Ok(())
    }
}

fn is_duplicate(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Write(WriteFailure::WriteError(error)) => error.code == 11000,
        ErrorKind::Command(error) => error.code == 11000,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Coordinates, Partition};

    #[test]
    fn a_loss_becomes_a_document_of_its_own_key() {
        let json =
            br#"{"v":1,"fact":"loss","gateway":"gw7","lane":"t","epoch":"1f3a9c04d2be","first":3,
            "last":9,"reason":"drop_oldest","merged":false,"possibly_delivered":false,
            "at":"2026-11-23T21:04:07Z"}"#;
        let fact = Fact::decode(json).unwrap();
        assert_eq!(collection(&fact), "losses");
        let at = Coordinates {
            partition: Partition {
                topic: "edge.control.v1".into(),
                number: 0,
            },
            offset: 5,
            timestamp_ms: None,
        };
        let message = Message::new(at, None, Some(json), std::iter::empty());
        let entry = FactEntry {
            message,
            generation: 1,
            fact,
        };
        let fields = fields(&entry).unwrap();
        assert_eq!(fields.get_str("reason").unwrap(), "drop_oldest");
        assert_eq!(fields.get_i64("first").unwrap(), 3);
        assert!(fields.get_datetime("at").is_ok());
        assert_eq!(
            fields
                .get_document("from")
                .unwrap()
                .get_i64("offset")
                .unwrap(),
            5
        );
    }
}
