//! What happens to a reading between its decoder and the queue: `[[process]]`; pure, `now` is given.
//!
//! Rules are applied in the order of the file, and within a rule in this one, which never changes:
//!
//! ```text
//! rename ▶ scale, offset ▶ unit ▶ min, max ▶ drop ▶ meta      of each rule, field by field
//! on_change ▶ window                                          then, the reading as a whole
//! ```
//!
//! A rule is for the fields of one name, or of all; of one source and device, or of all. Later rules see what
//! earlier ones made, new names included; only numbers are scaled, converted, bounded, compared and aggregated.
//!
//! # What is left out is counted
//! A reading that has no field left is suppressed by the filter, or by the range if a field was outside of it; one whose fields are all under `on_change` and
//! did not move by the dead band of their rule is suppressed by it, unless the heartbeat is due; one that went into a
//! window is aggregated. Each of them is acknowledged at once: the obligation is what comes out, not what
//! went in. So a window that was not finished when the power failed is gone, and a dead band begins anew after a
//! start. What comes out of a window is a new reading, received like others. Single values that were left out,
//! bounded or marked are counted as such ([`Touched`]).
//!
//! # Bounds
//! At most [`MAX_DEVICES`] devices are remembered by dead bands and by windows. One more makes the dead band that was
//! used longest ago begin anew, and closes the oldest window early: nothing is lost by either.

mod change;
mod window;

use std::time::{Duration, Instant};

use protocol::{DeviceId, FieldName, Fields, MAX_FIELDS, Metadata, Reading, Topic, Value};

use crate::decode::{merge, units};
use change::Changes;
pub use window::Statistic;
use window::Windows;

/// Most devices remembered at once.
pub const MAX_DEVICES: usize = 10_000;

/// One of `[[process]]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rule {
    /// Only readings of this source; default all.
    pub source: Option<String>,
    /// Only readings of this device; default all.
    pub device: Option<DeviceId>,
    /// Only this field; default all.
    pub field: Option<FieldName>,
    /// A new name for it.
    pub rename: Option<FieldName>,
    /// Multiplies numbers.
    pub scale: Option<f64>,
    /// Is added, after scaling.
    pub offset: Option<f64>,
    /// The unit the number is in: converted to the catalogue's, which becomes part of the name.
    pub unit: Option<String>,
    /// Least number that is plausible.
    pub min: Option<f64>,
    /// Largest number that is plausible.
    pub max: Option<f64>,
    /// What becomes of others; default `drop`.
    pub outside: Outside,
    /// Leave the field out; default false.
    pub drop: bool,
    /// Static metadata of the readings that are matched; default none.
    pub meta: Metadata,
    /// Let a value pass only when it changed.
    pub on_change: Option<OnChange>,
    /// Of a window of time let only statistics pass.
    pub window: Option<Window>,
}

/// What becomes of a number outside of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outside {
    /// The field is left out.
    #[default]
    Drop,
    /// It becomes the bound.
    Clamp,
    /// It stays, and a field `NAME_suspect` says so.
    Flag,
}

/// `on_change = { dead_band = 0.5, heartbeat = "5m" }`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnChange {
    /// A number passes when it is this far from the last one that passed; at 0 when it differs.
    pub dead_band: f64,
    /// After this long it passes anyway.
    pub heartbeat: Duration,
}

/// `window = { every = "1m", keep = ["mean", "max"] }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Its length; windows begin at multiples of it.
    pub every: Duration,
    /// What of the numbers in it; other values are the last.
    pub keep: Vec<Statistic>,
}

/// What became of a value that was not passed on as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// Left out by `drop`, or because an earlier one had its name.
    Filter,
    /// Left out because it was outside of its range.
    Range,
    /// Put to the bound.
    Clamped,
    /// Passed on, and marked.
    Flagged,
}

impl Touched {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 4] = [Self::Filter, Self::Range, Self::Clamped, Self::Flagged];

    /// The word used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Range => "range",
            Self::Clamped => "clamped",
            Self::Flagged => "flagged",
        }
    }
}

/// How many values, by [`Touched`] in the order of [`Touched::ALL`].
pub type Tally = [u64; Touched::ALL.len()];

/// Why a reading is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suppression {
    /// No field was left.
    Filter,
    /// No field was left, and at least one of them was outside of its range.
    Range,
    /// Nothing moved.
    DeadBand,
    /// It is part of a window.
    Aggregated,
}

impl Suppression {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 4] = [Self::Filter, Self::Range, Self::DeadBand, Self::Aggregated];

    /// The word used in metrics and on the status page.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Range => "range",
            Self::DeadBand => "deadband",
            Self::Aggregated => "aggregated",
        }
    }
}

/// What came of one reading.
#[derive(Debug, Default)]
pub struct Applied {
    /// It is passed on, as it is now.
    pub kept: Option<Reading>,
    /// It is not.
    pub suppressed: Option<Suppression>,
    /// Windows that were closed.
    pub closed: Vec<(Topic, Reading)>,
    /// Its values that were left out or changed for their size.
    pub touched: Tally,
}

/// The rules, and what they remember.
#[derive(Debug)]
pub struct Process {
    rules: Vec<Rule>,
    changes: Changes,
    windows: Windows,
}

impl Process {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self {
            rules,
            changes: Changes::default(),
            windows: Windows::default(),
        }
    }

    /// Whether there is nothing to do for any reading.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Applies every rule to a reading of `source` on its way to `lane`.
    pub fn apply(&mut self, source: &str, lane: &Topic, reading: Reading, now: Instant) -> Applied {
        let rules: Vec<&Rule> = self
            .rules
            .iter()
            .filter(|rule| rule.is_for(source, &reading.device))
            .collect();
        let mut applied = Applied::default();
        if rules.is_empty() {
            applied.kept = Some(reading);
            return applied;
        }
        let Some(reading) = fields(&rules, reading, &mut applied.touched) else {
            let outside = applied.touched[Touched::Range as usize] > 0;
            applied.suppressed = Some(match outside {
                true => Suppression::Range,
                false => Suppression::Filter,
            });
            return applied;
        };
        if !self.changes.pass(&rules, source, &reading, now) {
            applied.suppressed = Some(Suppression::DeadBand);
            return applied;
        }
        match rules.iter().find_map(|rule| rule.window.as_ref()) {
            None => applied.kept = Some(reading),
            Some(window) => {
                applied.suppressed = Some(Suppression::Aggregated);
                applied.closed = self.windows.take(window, source, lane, reading, now);
            }
        }
        applied
    }

    /// Closes the windows that are over.
    pub fn due(&mut self, now: Instant) -> Vec<(Topic, Reading)> {
        self.windows.due(now)
    }

    /// Closes every window: nothing follows.
    pub fn drain(&mut self) -> Vec<(Topic, Reading)> {
        self.windows.drain()
    }
}

impl Rule {
    fn is_for(&self, source: &str, device: &DeviceId) -> bool {
        self.source.as_deref().is_none_or(|only| only == source)
            && self.device.as_ref().is_none_or(|only| only == device)
    }

    fn is_about(&self, field: &FieldName) -> bool {
        self.field.as_ref().is_none_or(|only| only == field)
    }

    /// What it makes of one field: none, one, or one and its flag.
    fn field(
        &self,
        name: FieldName,
        value: Value,
        out: &mut Vec<(FieldName, Value)>,
        touched: &mut Tally,
    ) {
        let mut count = |what: Touched| touched[what as usize] += 1;
        let mut name = self.rename.clone().unwrap_or(name);
        let Value::Float(mut number) = as_number(self, value.clone()) else {
            match self.drop {
                true => count(Touched::Filter),
                false => out.push((name, value)),
            }
            return;
        };
        number = number * self.scale.unwrap_or(1.0) + self.offset.unwrap_or(0.0);
        if let Some(unit) = &self.unit
            && let Some(canonical) = units::canonical(name.as_str(), unit)
        {
            number = canonical.conversion.apply(number);
            name = canonical.name;
        }
        let (least, most) = (self.min, self.max);
        let low = least.is_some_and(|least| number < least);
        let high = most.is_some_and(|most| number > most);
        let mut suspect = false;
        match (low || high, self.outside) {
            (true, Outside::Drop) => return count(Touched::Range),
            (true, Outside::Clamp) => {
                count(Touched::Clamped);
                number = if low { least } else { most }.unwrap_or(number);
            }
            (true, Outside::Flag) => {
                count(Touched::Flagged);
                suspect = true;
            }
            (false, _) => {}
        }
        if self.drop || !number.is_finite() {
            return count(Touched::Filter);
        }
        if suspect && let Ok(flag) = FieldName::new(format!("{name}_suspect")) {
            out.push((flag, Value::Bool(true)));
        }
        out.push((name, Value::Float(number)));
    }
}

/// A whole number becomes a float only where it is changed: it keeps its type otherwise.
fn as_number(rule: &Rule, value: Value) -> Value {
    let changes = rule.scale.is_some() || rule.offset.is_some() || rule.unit.is_some();
    let bounded = rule.min.is_some() || rule.max.is_some();
    match value {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a count that is scaled is a quantity"
        )]
        Value::Int(number) if changes || bounded => Value::Float(number as f64),
        other => other,
    }
}

/// Field by field, rule by rule; `None` when nothing is left. What cannot be, such as two fields renamed to
/// one, is left out: the first counts.
fn fields(rules: &[&Rule], mut reading: Reading, touched: &mut Tally) -> Option<Reading> {
    let mut fields: Vec<(FieldName, Value)> = reading.fields.into();
    for rule in rules {
        let mut made = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            if rule.is_about(&name) && rule.is_about_fields() {
                rule.field(name, value, &mut made, touched);
            } else {
                made.push((name, value));
            }
        }
        fields = made;
        if !rule.meta.is_empty() {
            let added = rule.meta.iter();
            let added = added.map(|(name, text)| (name.clone(), text.into()));
            if let Ok(meta) = merge(&reading.meta, added.collect()) {
                reading.meta = meta;
            }
        }
    }
    let made = fields.len();
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields.dedup_by(|later, first| later.0 == first.0);
    fields.truncate(MAX_FIELDS);
    touched[Touched::Filter as usize] += u64::try_from(made - fields.len()).unwrap_or(u64::MAX);
    reading.fields = Fields::new(fields).ok()?;
    Some(reading)
}

impl Rule {
    /// Whether it changes fields at all.
    fn is_about_fields(&self) -> bool {
        self.drop
            || self.rename.is_some()
            || self.scale.is_some()
            || self.offset.is_some()
            || self.unit.is_some()
            || self.min.is_some()
            || self.max.is_some()
    }
}

#[cfg(test)]
mod tests;
