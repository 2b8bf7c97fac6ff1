//! The collections `fields` and `devices`.
//!
//! ```text
//! fields    { _id: "readings/voltage_v", collection, field, type: "double", unit: "V", first_seen, first_device }
//! devices   { _id: "gw7/meter-1", gateway, device, first_seen, last_seen,
//!             fields: { voltage_v: { type: "double", unit: "V", min: 228.9, max: 231.2 } } }
//! ```

use std::collections::HashMap;

use mongodb::bson::{Bson, DateTime, Document as Fields, doc};
use protocol::FieldName;
use serde::Deserialize;

use super::{Outage, Store};
use crate::{
    catalogue::{FirstSight, Kind, Seen, unit},
    document::column,
};

const DUPLICATE_KEY: i32 = 11000;
/// Updates of one command.
const MOST: usize = 500;

#[derive(Deserialize)]
struct Known {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Store {
    /// Fixes the types of fields unless they are fixed already; the types in force.
    ///
    /// # Errors
    /// [`Outage`]; again is harmless.
    pub async fn fix_types(
        &self,
        collection: &str,
        new: &[FirstSight],
    ) -> Result<HashMap<FieldName, Kind>, Outage> {
        let id = |name: &FieldName| format!("{collection}/{}", column(name));
        let mut fixed = HashMap::new();
        for new in new.chunks(MOST) {
            let updates = new.iter().map(|first| {
                let mut fields = doc! {
                    "collection": collection,
                    "field": &*column(&first.name),
                    "type": first.kind.as_str(),
                    "first_seen": DateTime::now(),
                    "first_device": &first.device,
                };
                if let Some(unit) = unit(first.name.as_str()) {
                    fields.insert("unit", unit);
                }
                let set = doc! { "$setOnInsert": fields };
                doc! { "q": { "_id": id(&first.name) }, "u": set, "upsert": true }
            });
            self.update("fields", updates.map(Bson::from).collect())
                .await?;
            let ids: Vec<String> = new.iter().map(|first| id(&first.name)).collect();
            let known = self.types(ids).await?;
            for first in new {
                // What the majority has not confirmed could still be another's.
                let kind = known.get(&id(&first.name)).copied().ok_or_else(|| {
                    Outage::new("the type of a field is not confirmed by the majority yet")
                })?;
                fixed.insert(first.name.clone(), kind);
            }
        }
        Ok(fixed)
    }

    async fn types(&self, ids: Vec<String>) -> Result<HashMap<String, Kind>, Outage> {
        let fields = self.database.collection::<Known>("fields");
        self.within(async {
            let filter = doc! { "_id": { "$in": ids } };
            let mut found = fields.find(filter).projection(doc! { "type": 1 }).await?;
            let mut types = HashMap::new();
            while found.advance().await? {
                let Known { id, kind } = found.deserialize_current()?;
                if let Ok(kind) = kind.parse() {
                    types.insert(id, kind);
                }
            }
            Ok(types)
        })
        .await
    }

    /// Widens what is known of devices.
    ///
    /// # Errors
    /// [`Outage`]; again is harmless.
    pub async fn note_devices(&self, devices: &[Seen]) -> Result<(), Outage> {
        let updates = devices.iter().map(|seen| {
            let update = doc! { "q": { "_id": seen.key() }, "u": widening(seen), "upsert": true };
            Bson::from(update)
        });
        self.update("devices", updates.collect()).await
    }

    /// One command for many updates: the driver's own needs a server of version 8.
    async fn update(&self, collection: &str, updates: Vec<Bson>) -> Result<(), Outage> {
        let wtimeout = i64::try_from(self.deadline.as_millis()).unwrap_or(i64::MAX);
        let command = doc! {
            "update": collection,
            "updates": updates,
            "ordered": false,
            // A command takes nothing from the client's settings.
            "writeConcern": { "w": "majority", "j": true, "wtimeout": wtimeout },
        };
        let reply = self
            .within(async { self.database.run_command(command).await })
            .await?;
        judge(&reply)
    }
}

fn widening(seen: &Seen) -> Fields {
    let mut first = doc! { "device": &seen.device };
    if let Some(gateway) = &seen.gateway {
        first.insert("gateway", gateway);
    }
    let mut min = doc! { "first_seen": DateTime::from_millis(seen.first_ms) };
    let mut max = doc! { "last_seen": DateTime::from_millis(seen.last_ms) };
    let mut set = Fields::new();
    for (name, range) in &seen.columns {
        set.insert(format!("fields.{name}.type"), range.kind.as_str());
        if let Some(unit) = unit(name) {
            set.insert(format!("fields.{name}.unit"), unit);
        }
        if let Some((low, high)) = range.min_max {
            min.insert(format!("fields.{name}.min"), low);
            max.insert(format!("fields.{name}.max"), high);
        }
    }
    let mut update = doc! { "$setOnInsert": first, "$min": min, "$max": max };
    if !set.is_empty() {
        update.insert("$set", set);
    }
    update
}

/// Two sinks that upsert one key at once: one of them loses, and both go on.
fn judge(reply: &Fields) -> Result<(), Outage> {
    let errors = reply.get_array("writeErrors").into_iter().flatten();
    for error in errors.filter_map(Bson::as_document) {
        let code = error.get_i32("code").unwrap_or(0);
        if code != DUPLICATE_KEY {
            let text = error.get_str("errmsg").unwrap_or("no reason given");
            return Err(Outage::new(format_args!("{text} ({code})")));
        }
    }
    match reply.get_document("writeConcernError") {
        Ok(concern) => {
            let text = concern.get_str("errmsg").unwrap_or("no reason given");
            Err(Outage::new(format_args!("write concern not met: {text}")))
        }
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_race_is_no_trouble_and_anything_else_is() {
        let refused = |code: i32| doc! { "ok": 1, "writeErrors": [{ "index": 0, "code": code, "errmsg": "x" }] };
        assert!(judge(&doc! { "ok": 1, "n": 2 }).is_ok());
        assert!(judge(&refused(11000)).is_ok());
        assert!(judge(&refused(13)).is_err());
        let concern = doc! { "ok": 1, "writeConcernError": { "code": 64, "errmsg": "slow" } };
        assert!(judge(&concern).is_err());
    }
}
