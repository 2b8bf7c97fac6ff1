//! Devices between two flushes: when they were seen, and what they measured.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use protocol::{GatewayId, Value};

use super::Kind;
use crate::document::{Document, column};

/// Devices between two flushes; others are noted in the next interval.
const MAX_DEVICES: usize = 10_000;
/// Columns of all devices together.
const MAX_RANGES: usize = 200_000;

/// What was gathered.
#[derive(Debug, Default)]
pub struct Devices(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    devices: HashMap<String, Seen>,
    ranges: usize,
    /// Where the key of each document is put together.
    key: String,
}

/// A device in one interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Where known.
    pub gateway: Option<String>,
    /// Its id.
    pub device: String,
    /// By the sink's clock, in milliseconds since 1970.
    pub first_ms: i64,
    /// The same.
    pub last_ms: i64,
    /// By column.
    pub columns: BTreeMap<String, Range>,
}

/// What a column held.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Its type.
    pub kind: Kind,
    /// Of numbers.
    pub min_max: Option<(f64, f64)>,
}

impl Range {
    fn of(value: &Value) -> Self {
        let number = match value {
            Value::Float(number) => Some(*number),
            #[expect(clippy::cast_precision_loss, reason = "a range for people")]
            Value::Int(number) => Some(*number as f64),
            Value::Bool(_) | Value::Text(_) => None,
        };
        Self {
            kind: Kind::of(value),
            min_max: number.map(|number| (number, number)),
        }
    }

    fn widen(&mut self, other: &Self) {
        self.min_max = match (self.min_max, other.min_max) {
            (Some((min, max)), Some((low, high))) => Some((min.min(low), max.max(high))),
            (one, other) => one.or(other),
        };
    }
}

impl Devices {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A note is a help: one that a panic left half done is still true.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A document is stored.
    pub fn note(&self, document: &Document, now_ms: i64) {
        let gateway = document.gateway().map(GatewayId::as_str);
        let id = document.reading_device().as_str();
        let mut state = self.lock();
        let State {
            devices,
            ranges,
            key,
        } = &mut *state;
        write_key(key, gateway, id);
        let known = match devices.get_mut(key.as_str()) {
            Some(known) => Some(known),
            None => device(
                devices,
                Seen {
                    gateway: gateway.map(Into::into),
                    device: id.into(),
                    first_ms: now_ms,
                    last_ms: now_ms,
                    columns: BTreeMap::new(),
                },
            ),
        };
        let Some(device) = known else { return };
        device.first_ms = device.first_ms.min(now_ms);
        device.last_ms = device.last_ms.max(now_ms);
        for (name, value) in document.columns() {
            note(&mut device.columns, ranges, &column(name), Range::of(value));
        }
    }

    /// Everything gathered; nothing is left.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.lock())
            .devices
            .into_values()
            .collect()
    }

    /// What could not be written, beside what came meanwhile.
    pub fn put_back(&self, gathered: Vec<Seen>) {
        let mut state = self.lock();
        let State {
            devices, ranges, ..
        } = &mut *state;
        for mut seen in gathered {
            let columns = std::mem::take(&mut seen.columns);
            let Some(device) = device(devices, seen) else {
                return;
            };
            for (name, range) in columns {
                note(&mut device.columns, ranges, &name, range);
            }
        }
    }
}

/// The device's place, if there is room.
fn device(devices: &mut HashMap<String, Seen>, seen: Seen) -> Option<&mut Seen> {
    let key = seen.key();
    if !devices.contains_key(&key) && devices.len() >= MAX_DEVICES {
        return None;
    }
    let (first, last) = (seen.first_ms, seen.last_ms);
    let device = devices.entry(key).or_insert(seen);
    device.first_ms = device.first_ms.min(first);
    device.last_ms = device.last_ms.max(last);
    Some(device)
}

fn note(columns: &mut BTreeMap<String, Range>, ranges: &mut usize, name: &str, range: Range) {
    if let Some(known) = columns.get_mut(name) {
        known.widen(&range);
    } else if *ranges < MAX_RANGES {
        *ranges += 1;
        columns.insert(name.to_owned(), range);
    }
}

impl Seen {
    /// `gateway/device`; a device without a gateway begins with the slash.
    #[must_use]
    pub fn key(&self) -> String {
        let mut key = String::new();
        write_key(&mut key, self.gateway.as_deref(), &self.device);
        key
    }
}

fn write_key(key: &mut String, gateway: Option<&str>, device: &str) {
    key.clear();
    key.push_str(gateway.unwrap_or_default());
    key.push('/');
    key.push_str(device);
}
