//! The last values of devices, for the status page: what a source says, before `[[process]]`.
//!
//! A bounded picture, not a store: [`MAX_DEVICES`] devices, of each [`MAX_FIELDS`] fields, of each number
//! [`POINTS`] points of a curve. A device more is shown once another has been silent for [`FORGET`]; until then
//! [`Snapshot::more`] says that there are others. Everything counted elsewhere counts them all.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use protocol::{DeviceId, FieldName, Reading, Value};
use serde::Serialize;

/// Devices shown.
pub const MAX_DEVICES: usize = 100;
/// Fields shown of each, those it had first.
pub const MAX_FIELDS: usize = 8;
/// Points of a curve.
pub const POINTS: usize = 32;
/// Who is silent for so long makes room for another.
pub const FORGET: Duration = Duration::from_secs(600);
/// Characters of a text that are shown.
const MAX_TEXT: usize = 64;
/// Time between the points of a young curve; it doubles whenever the curve is full.
const FINE: Duration = Duration::from_secs(1);
/// Between those of an old one, which then forgets its beginning: half an hour and more in all.
const COARSE: Duration = Duration::from_secs(64);

/// Shared by all sources; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Devices(Arc<Mutex<Table>>);

impl Devices {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Only shown: a panic elsewhere at worst leaves a device without its last value.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A source has a reading of a device.
    pub fn heard(&self, source: &str, reading: &Reading, now: Instant) {
        self.lock().heard(source, reading, now);
    }

    /// A source was removed.
    pub fn forget(&self, source: &str) {
        self.lock()
            .devices
            .retain(|_, entry| entry.source != source);
    }

    /// Everything that is shown.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        self.lock().snapshot(now)
    }
}

/// All devices at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// By their names.
    pub devices: Vec<Device>,
    /// There are devices that are not shown.
    #[serde(rename = "more_devices")]
    pub more: bool,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Device {
    /// Its name.
    pub device: DeviceId,
    /// Which source heard it last.
    pub source: String,
    /// Since its last reading, in seconds.
    pub age_s: u64,
    /// How many since it is shown.
    pub readings: u64,
    /// Its values, those it had first.
    pub fields: Vec<Field>,
    /// It has fields that are not shown.
    pub more_fields: bool,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Field {
    /// Its name, with the unit.
    pub name: FieldName,
    /// The last one; texts are cut.
    pub value: Shown,
    /// Since it came, in seconds.
    pub age_s: u64,
    /// Of a number its course, from old to new, the last point the last value.
    pub curve: Vec<f32>,
}

/// A value as JSON has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Shown {
    /// A quantity.
    Float(f64),
    /// A counter.
    Int(i64),
    /// A state.
    Bool(bool),
    /// A text, or its beginning.
    Text(String),
}

impl Shown {
    fn of(value: &Value) -> Self {
        match value {
            Value::Float(number) => Self::Float(*number),
            Value::Int(number) => Self::Int(*number),
            Value::Bool(state) => Self::Bool(*state),
            Value::Text(text) => Self::Text(text.chars().take(MAX_TEXT).collect()),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a curve of some pixels"
    )]
    fn point(&self) -> Option<f32> {
        match self {
            Self::Float(number) => Some(*number as f32),
            Self::Int(number) => Some(*number as f32),
            Self::Bool(state) => Some(f32::from(u8::from(*state))),
            Self::Text(_) => None,
        }
        // Beyond an f32's range, where JSON has no word for it.
        .filter(|point| point.is_finite())
    }
}

#[derive(Debug, Default)]
struct Table {
    devices: BTreeMap<DeviceId, Entry>,
    /// When a device that is not shown was heard last.
    turned_away: Option<Instant>,
    /// Before this moment nobody can have been silent for long enough.
    full_until: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    source: String,
    heard: Instant,
    readings: u64,
    values: Vec<Kept>,
    more: bool,
}

#[derive(Debug)]
struct Kept {
    name: FieldName,
    value: Shown,
    at: Instant,
    curve: Curve,
}

impl Table {
    fn heard(&mut self, source: &str, reading: &Reading, now: Instant) {
        if !self.devices.contains_key(&reading.device) {
            if self.devices.len() >= MAX_DEVICES && !self.make_room(now) {
                self.turned_away = Some(now);
                return;
            }
            let entry = Entry {
                source: source.to_owned(),
                heard: now,
                readings: 0,
                values: Vec::new(),
                more: false,
            };
            self.devices.insert(reading.device.clone(), entry);
        }
        if let Some(entry) = self.devices.get_mut(&reading.device) {
            entry.heard(source, reading, now);
        }
    }

    /// Forgets the device that was silent for longest, if that is long enough. Looked for only when there can
    /// be one, so that a thousand devices more cost nothing.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.full_until.is_some_and(|until| now < until) {
            return false;
        }
        let silent = self.devices.iter().min_by_key(|(_, entry)| entry.heard);
        let Some((device, entry)) = silent else {
            return true;
        };
        if now < entry.heard + FORGET {
            self.full_until = Some(entry.heard + FORGET);
            return false;
        }
        let device = device.clone();
        self.devices.remove(&device);
        true
    }

    fn snapshot(&self, now: Instant) -> Snapshot {
        let since = |then: Instant| now.saturating_duration_since(then);
        let device = |(device, entry): (&DeviceId, &Entry)| Device {
            device: device.clone(),
            source: entry.source.clone(),
            age_s: since(entry.heard).as_secs(),
            readings: entry.readings,
            fields: entry.values.iter().map(|kept| kept.shown(now)).collect(),
            more_fields: entry.more,
        };
        Snapshot {
            devices: self.devices.iter().map(device).collect(),
            more: self.turned_away.is_some_and(|then| since(then) < FORGET),
        }
    }
}

impl Entry {
    fn heard(&mut self, source: &str, reading: &Reading, now: Instant) {
        if self.source != source {
            source.clone_into(&mut self.source);
        }
        self.heard = now;
        self.readings += 1;
        for (at, (name, value)) in reading.fields.iter().enumerate() {
            // Mostly the same fields in the same order.
            let same = |kept: &Kept| kept.name == *name;
            let known = match self.values.get(at) {
                Some(kept) if same(kept) => Some(at),
                _ => self.values.iter().position(same),
            };
            match known {
                Some(at) => self.values[at].take(value, now),
                None if self.values.len() < MAX_FIELDS => {
                    self.values.push(Kept::new(name, value, now));
                }
                None => self.more = true,
            }
        }
    }
}

impl Kept {
    fn new(name: &FieldName, value: &Value, now: Instant) -> Self {
        let mut kept = Self {
            name: name.clone(),
            value: Shown::Bool(false),
            at: now,
            curve: Curve::new(),
        };
        kept.take(value, now);
        kept
    }

    fn take(&mut self, value: &Value, now: Instant) {
        self.value = Shown::of(value);
        self.at = now;
        if let Some(point) = self.value.point() {
            self.curve.note(point, now);
        }
    }

    fn shown(&self, now: Instant) -> Field {
        Field {
            name: self.name.clone(),
            value: self.value.clone(),
            age_s: now.saturating_duration_since(self.at).as_secs(),
            curve: self.curve.points.clone(),
        }
    }
}

/// The course of a number: fine while it is young, coarser as it grows, at last a window.
#[derive(Debug)]
struct Curve {
    points: Vec<f32>,
    spacing: Duration,
    /// When the newest point was begun; until `spacing` later it follows the value.
    begun: Option<Instant>,
}

impl Curve {
    fn new() -> Self {
        Self {
            points: Vec::new(),
            spacing: FINE,
            begun: None,
        }
    }

    fn note(&mut self, value: f32, now: Instant) {
        let young = |begun: Instant| now.saturating_duration_since(begun) < self.spacing;
        if self.begun.is_some_and(young)
            && let Some(last) = self.points.last_mut()
        {
            *last = value;
            return;
        }
        if self.points.len() >= POINTS {
            if self.spacing < COARSE {
                let mut odd = true;
                // The newest of each pair stays.
                self.points.retain(|_| {
                    odd = !odd;
                    odd
                });
                self.spacing *= 2;
            } else {
                self.points.remove(0);
            }
        }
        self.points.push(value);
        self.begun = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Clock, Fields, Metadata, Timestamp};

    use super::*;

    fn reading(device: &str, fields: &[(&str, Value)]) -> Reading {
        let fields = fields.iter();
        let fields = fields.map(|(name, value)| (FieldName::new(*name).unwrap(), value.clone()));
        Reading {
            device: DeviceId::new(device).unwrap(),
            time: Timestamp::UNIX_EPOCH,
            clock: Clock::Synced,
            fields: Fields::new(fields.collect()).unwrap(),
            source: None,
            meta: Metadata::default(),
        }
    }

    #[test]
    fn a_device_shows_the_last_value_of_each_of_its_fields() {
        let (devices, start) = (Devices::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let text = |text: &str| Value::Text(text.into());
        for (second, fields) in [
            (
                0,
                vec![("power_w", Value::Float(1.0)), ("state", text("on"))],
            ),
            (3, vec![("power_w", Value::Float(2.5))]),
            (
                4,
                vec![
                    ("rssi_dbm", Value::Int(-60)),
                    ("state", text(&"x".repeat(200))),
                ],
            ),
        ] {
            devices.heard("house", &reading("plug", &fields), at(second));
        }
        let shown = devices.snapshot(at(10));
        let [plug] = shown.devices.as_slice() else {
            panic!("{shown:?}");
        };
        assert_eq!((plug.age_s, plug.readings, plug.more_fields), (6, 3, false));
        let fields: Vec<_> = plug
            .fields
            .iter()
            .map(|field| {
                (
                    field.name.as_str(),
                    field.value.clone(),
                    field.age_s,
                    field.curve.clone(),
                )
            })
            .collect();
        assert_eq!(
            fields,
            [
                ("power_w", Shown::Float(2.5), 7, vec![1.0, 2.5]),
                ("state", Shown::Text("x".repeat(MAX_TEXT)), 6, vec![]),
                ("rssi_dbm", Shown::Int(-60), 6, vec![-60.0]),
            ]
        );
    }

    #[test]
    fn devices_and_fields_are_bounded_and_a_silent_one_makes_room() {
        let (devices, start) = (Devices::default(), Instant::now());
        let names: Vec<String> = (0..20).map(|n| format!("f{n:02}")).collect();
        let many: Vec<(&str, Value)> = names
            .iter()
            .map(|name| (name.as_str(), Value::Float(1e300)))
            .collect();
        for n in 0..3 * MAX_DEVICES {
            devices.heard("house", &reading(&format!("d{n:04}"), &many), start);
        }
        let shown = devices.snapshot(start);
        assert!(shown.more);
        assert_eq!(shown.devices.len(), MAX_DEVICES);
        let first = &shown.devices[0];
        assert_eq!((first.fields.len(), first.more_fields), (MAX_FIELDS, true));
        assert!(
            first.fields[0].curve.is_empty(),
            "no point that JSON cannot say"
        );

        let later = start + FORGET;
        devices.heard("house", &reading("new", &many), later);
        let shown = devices.snapshot(later);
        assert_eq!(shown.devices.len(), MAX_DEVICES);
        assert!(
            shown
                .devices
                .iter()
                .any(|device| device.device.as_str() == "new")
        );
        assert!(!shown.more, "nobody was turned away lately");
    }

    #[test]
    fn a_curve_is_fine_while_young_then_coarser_and_never_longer_than_its_bound() {
        let start = Instant::now();
        let mut curve = Curve::new();
        let mut value = 0.0;
        for tenth in 0..100_000_u32 {
            value += 0.5;
            curve.note(value, start + Duration::from_millis(100) * tenth);
            assert!(curve.points.len() <= POINTS);
            assert_eq!(curve.points.last(), Some(&value));
            assert!(curve.points.is_sorted());
            if tenth == 99 {
                assert_eq!(curve.points.len(), 10, "a point a second");
            }
        }
        assert_eq!((curve.spacing, curve.points.len()), (COARSE, POINTS));
    }
}
