//! What a person should look at: kept in `incidents`, by a key of its own, so that redelivery does not
//! double it.

use mongodb::bson::{Bson, DateTime, Document as Fields, doc, serialize_to_bson};

use super::{Outage, Store, readings::Entry};
use crate::{catalogue::Misfit, checkpoint::Gap, document::Document, message::Partition};

/// The collection.
pub const COLLECTION: &str = "incidents";

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    key: String,
    fields: Fields,
}

impl Incident {
    pub(super) fn new(key: String, fields: Fields) -> Self {
        Self { key, fields }
    }

    /// Two readings with one id: a cloned card, a restored image, or a fault of ours. The second is
    /// kept whole, for the first has the place.
    pub(super) fn conflict(collection: &str, entry: &Entry, existing: Option<i64>) -> Self {
        let at = &entry.message.at;
        let second = serialize_to_bson(&entry.document).unwrap_or(Bson::Null);
        Self {
            key: format!(
                "id_conflict:{}:{}:{}",
                at.partition.topic, at.partition.number, at.offset
            ),
            fields: doc! {
                "kind": "id_conflict",
                "id": &entry.document.id,
                "collection": collection,
                "digest": existing,
                "second": second,
                "topic": &*at.partition.topic,
                "partition": at.partition.number,
                "offset": at.offset,
            },
        }
    }

    /// An epoch with more holes than coverage has room for: only a full audit can tell what is missing.
    pub(super) fn coverage_full(coverage: &str, stream: &Fields) -> Self {
        let mut fields = stream.clone();
        fields.remove("_id");
        fields.insert("kind", "coverage_full");
        Self {
            key: format!("coverage_full:{coverage}"),
            fields,
        }
    }

    /// A value whose type is not its column's, kept in `raw` of the document; once per device and column.
    #[must_use]
    pub fn field_type(key: String, misfit: &Misfit<'_>, document: &Document) -> Self {
        let fields = doc! {
            "kind": "field_type",
            "collection": misfit.collection,
            "field": misfit.column,
            "device": document.device(),
            "expected": misfit.expected,
            "found": misfit.found,
            "id": &document.id,
        };
        Self { key, fields }
    }

    /// Records that were gone from Kafka before they were read, or a topic that was made anew; told by the
    /// holder of this generation, for several lives of a topic may end at one offset.
    #[must_use]
    pub fn gap(partition: &Partition, gap: Gap, fence: i64) -> Self {
        let Partition { topic, number } = partition;
        let Gap { from, to } = gap;
        let place = format!("{topic}:{number}:{from}:{to}");
        let (kind, key) = if gap.is_new_life() {
            let kind = "topic_recreated";
            (kind, format!("{kind}:{place}:{fence}"))
        } else {
            ("gap", format!("gap:{place}"))
        };
        Self {
            key,
            fields: doc! {
                "kind": kind,
                "topic": &**topic,
                "partition": number,
                "first_offset": from,
                "next_offset": to,
            },
        }
    }
}

impl Store {
    /// Keeps an incident once.
    ///
    /// # Errors
    /// [`Outage`].
    pub async fn keep_incident(&self, incident: &Incident) -> Result<(), Outage> {
        let incidents = self.database.collection::<Fields>(COLLECTION);
        let mut fields = incident.fields.clone();
        fields.insert("at", DateTime::now());
        self.within(async {
            incidents
                .update_one(
                    doc! { "_id": &incident.key },
                    doc! { "$setOnInsert": fields },
                )
                .upsert(true)
                .await
        })
        .await
        .map(|_| ())
    }
}
