//! What is measured: the type of every field, and the devices with their units and ranges.
//!
//! **Types.** Whoever writes a field first fixes its type, in the collection `fields`, by an upsert of
//! which one wins; so two sinks agree. A value of another type goes to `raw.<name>` of the same
//! document, with an incident: no column changes its type, no reading is lost. A whole number fits a
//! column of floats, and a float without a fraction one of whole numbers, where the value stays exactly
//! the same. Only the first sight of a field asks MongoDB.
//!
//! **Devices.** First and last seen, ranges and units are gathered in memory and written once a
//! [`Catalogue::FLUSH`] as minima and maxima, which do not care about order, repetition or a second
//! sink. A crash forgets what the last interval added: the catalogue is a help, the readings are the
//! truth.
//!
//! Everything is bounded: what has no room is stored in `raw`, or not noted.

mod devices;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use protocol::{FieldName, Value};
use tracing::warn;

pub use devices::{Devices, Range, Seen};
pub use protocol::{schema::Kind, unit};

use crate::{
    document::{Document, column},
    store::{Outage, Store, incidents::Incident, readings::Entry},
};

/// How a value goes into a column of this type.
#[must_use]
pub fn fit(column: Kind, value: &Value) -> Fit {
    // Whole numbers up to 2^53 are the same in both types.
    const EXACT: i64 = 1 << 53;
    match (column, value) {
        (Kind::Double, Value::Int(number)) if number.abs_diff(0) <= EXACT.unsigned_abs() => {
            #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
            let float = *number as f64;
            Fit::Double(float)
        }
        (Kind::Long, Value::Float(number))
            if number.fract() == 0.0 && number.abs() <= EXACT as f64 =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
            let whole = *number as i64;
            Fit::Long(whole)
        }
        _ if column == Kind::of(value) => Fit::AsIs,
        _ => Fit::Raw,
    }
}

/// How a value is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fit {
    /// In its column, as it is.
    AsIs,
    /// In its column, as the same float.
    Double(f64),
    /// In its column, as the same integer.
    Long(i64),
    /// In `raw`.
    Raw,
}

/// Columns of a collection whose types are known; more go to `raw`.
const MAX_COLUMNS: usize = 10_000;
/// Incidents of one process about types; more are only counted.
const MAX_INCIDENTS: usize = 10_000;

type Columns = HashMap<FieldName, Kind>;

/// Types and devices, as far as this process needs them.
#[derive(Debug, Default)]
pub struct Catalogue {
    types: RwLock<HashMap<Arc<str>, Columns>>,
    said: Mutex<HashSet<String>>,
    /// Devices since the last flush.
    pub devices: Devices,
}

impl Catalogue {
    /// How often devices are written.
    pub const FLUSH: Duration = Duration::from_secs(60);

    /// Makes documents fit the columns of their collection; fixes types that nobody has fixed.
    ///
    /// # Errors
    /// [`Outage`]; all of it again is harmless.
    pub async fn fit(
        &self,
        store: &Store,
        collection: &Arc<str>,
        entries: &mut [Entry],
    ) -> Result<(), Outage> {
        let new = self.unknown(collection, entries);
        if !new.is_empty() {
            let fixed = store.fix_types(collection, &new).await?;
            let mut types = self.types.write().unwrap_or_else(PoisonError::into_inner);
            types.entry(collection.clone()).or_default().extend(fixed);
        }
        for (key, incident) in self.apply(collection, entries) {
            store.keep_incident(&incident).await?;
            // Only now: a job that is held comes back and complains again.
            self.said().insert(key);
        }
        Ok(())
    }

    /// Fields without a type, with what their first value has, as long as there is room for more.
    fn unknown(&self, collection: &str, entries: &[Entry]) -> Vec<FirstSight> {
        let types = self.types.read().unwrap_or_else(PoisonError::into_inner);
        let none = Columns::new();
        let known = types.get(collection).unwrap_or(&none);
        let mut new: HashMap<&FieldName, FirstSight> = HashMap::new();
        for entry in entries {
            for (name, value) in entry.document.fields() {
                if !known.contains_key(name) && known.len() + new.len() < MAX_COLUMNS {
                    new.entry(name).or_insert_with(|| FirstSight {
                        name: name.clone(),
                        kind: Kind::of(value),
                        device: entry.document.device(),
                    });
                }
            }
        }
        new.into_values().collect()
    }

    /// Says of each value where it goes; the incidents that are new, by their keys.
    fn apply(&self, collection: &str, entries: &mut [Entry]) -> BTreeMap<String, Incident> {
        let types = self.types.read().unwrap_or_else(PoisonError::into_inner);
        let none = Columns::new();
        let known = types.get(collection).unwrap_or(&none);
        let mut incidents = BTreeMap::new();
        for entry in entries {
            entry.document.fit(|name, value| match known.get(name) {
                Some(kind) => fit(*kind, value),
                None => Fit::Raw,
            });
            for (name, value) in entry.document.raw() {
                let misfit = Misfit {
                    collection,
                    column: &column(name),
                    expected: known.get(name).map_or("no room", |kind| kind.as_str()),
                    found: Kind::of(value).as_str(),
                };
                self.complain(&misfit, &entry.document, &mut incidents);
            }
        }
        incidents
    }

    fn complain(
        &self,
        misfit: &Misfit<'_>,
        document: &Document,
        incidents: &mut BTreeMap<String, Incident>,
    ) {
        let device = document.device();
        let Misfit {
            collection,
            column,
            expected,
            found,
        } = misfit;
        let key = format!("field_type:{collection}:{column}:{device}");
        let said = self.said();
        if said.contains(&key)
            || incidents.contains_key(&key)
            || said.len() + incidents.len() >= MAX_INCIDENTS
        {
            return;
        }
        let id = &document.id;
        warn!(
            collection,
            column,
            device,
            expected,
            found,
            id,
            "value of another type than its field, kept in raw"
        );
        let incident = Incident::field_type(key.clone(), misfit, document);
        incidents.insert(key, incident);
    }

    fn said(&self) -> MutexGuard<'_, HashSet<String>> {
        // A set that a panic left is whole.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A document is stored, at that time in milliseconds since 1970.
    pub fn stored(&self, document: &Document, now_ms: i64) {
        self.devices.note(document, now_ms);
    }

    /// Writes what the devices gathered.
    ///
    /// # Errors
    /// [`Outage`]; it is kept for the next time.
    pub async fn flush(&self, store: &Store) -> Result<(), Outage> {
        let mut gathered = self.devices.take();
        while !gathered.is_empty() {
            if let Err(outage) = store
                .note_devices(&gathered[..gathered.len().min(500)])
                .await
            {
                self.devices.put_back(gathered);
                return Err(outage);
            }
            gathered.drain(..gathered.len().min(500));
        }
        Ok(())
    }
}

/// A value in a column of another type.
#[derive(Debug)]
pub struct Misfit<'a> {
    /// Where.
    pub collection: &'a str,
    /// Which column.
    pub column: &'a str,
    /// Its type.
    pub expected: &'a str,
    /// The value's.
    pub found: &'a str,
}

/// A field nobody knows, as it was seen first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstSight {
    /// Its name.
    pub name: FieldName,
    /// The type of its value.
    pub kind: Kind,
    /// Whose it was.
    pub device: String,
}

/// Writes devices every [`Catalogue::FLUSH`]. Without MongoDB they wait: the pipeline says that it is
/// away.
pub async fn keep_flushing(catalogue: &Catalogue, store: &Store) {
    loop {
        tokio::time::sleep(Catalogue::FLUSH).await;
        if let Err(outage) = catalogue.flush(store).await {
            tracing::debug!(%outage, "devices not written yet");
        }
    }
}

#[cfg(test)]
mod tests;
