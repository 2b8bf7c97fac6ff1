//! `on_change`: what passed last, of each field under a dead band.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use protocol::{FieldName, Reading, Value};

use super::{MAX_DEVICES, OnChange, Rule};

/// By source and device.
#[derive(Debug, Default)]
pub(super) struct Changes {
    devices: HashMap<(String, String), Device>,
}

#[derive(Debug)]
struct Device {
    passed: HashMap<FieldName, (Value, Instant)>,
    used: Instant,
}

impl Changes {
    /// Whether the reading passes: one of its fields is under no dead band, moved, or has its heartbeat.
    pub(super) fn pass(
        &mut self,
        rules: &[&Rule],
        source: &str,
        reading: &Reading,
        now: Instant,
    ) -> bool {
        let band = |name: &FieldName| {
            let about = rules.iter().filter(|rule| rule.is_about(name));
            about.filter_map(|rule| rule.on_change).next_back()
        };
        if rules.iter().all(|rule| rule.on_change.is_none()) {
            return true;
        }
        let device = self.device(source, reading, now);
        let passes = reading.fields.iter().any(|(name, value)| {
            let Some(band) = band(name) else {
                return true;
            };
            match device.passed.get(name) {
                None => true,
                Some((last, at)) => {
                    moved(last, value, band) || now.saturating_duration_since(*at) >= band.heartbeat
                }
            }
        });
        if passes {
            for (name, value) in reading.fields.iter() {
                if band(name).is_some() {
                    device.passed.insert(name.clone(), (value.clone(), now));
                }
            }
        }
        passes
    }

    fn device(&mut self, source: &str, reading: &Reading, now: Instant) -> &mut Device {
        let key = (source.to_owned(), reading.device.to_string());
        if self.devices.len() >= MAX_DEVICES && !self.devices.contains_key(&key) {
            let oldest = self.devices.iter().min_by_key(|(_, device)| device.used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.devices.remove(&oldest);
            }
        }
        let device = self.devices.entry(key).or_insert_with(|| Device {
            passed: HashMap::new(),
            used: now,
        });
        device.used = now;
        // A heartbeat of years is no reason to remember fields that are gone.
        if device.passed.len() > 2 * protocol::MAX_FIELDS {
            device.passed.clear();
        }
        device
    }
}

fn moved(last: &Value, value: &Value, band: OnChange) -> bool {
    match (last, value) {
        (Value::Float(last), Value::Float(value)) if band.dead_band > 0.0 => {
            (value - last).abs() >= band.dead_band
        }
        (last, value) => last != value,
    }
}

impl OnChange {
    /// A dead band without a heartbeat would make a silent device of a steady one.
    pub const HEARTBEAT: Duration = Duration::from_secs(300);
}
