//! What a run found: one object of JSON, in which everything that must be zero is zero.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// The last line of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Repeats the run's decisions, as far as the machine lets it.
    pub seed: u64,
    /// Faults altogether.
    pub cycles: u64,
    /// How often each.
    pub faults: BTreeMap<String, u64>,
    /// Readings somebody was told are safe.
    pub obligations: u64,
    /// Different readings found at the end of the way.
    pub stored: u64,
    /// Readings that an exact loss names and that are in fact gone.
    pub declared_lost: u64,
    /// I1: obligations neither found nor declared.
    pub lost: u64,
    /// I2: one reading under two identities.
    pub duplicated: u64,
    /// I8: other values than were sent, or one identity for two readings.
    pub altered: u64,
    /// I3: a reading found after a later one of its device.
    pub disordered: u64,
    /// I6: a start that did not lead to a daemon that takes readings, in time.
    pub failed_starts: u64,
    /// I4, I5, I7, I9 and whatever else was not as it should be; `notes` says what.
    pub unexplained: u64,
    /// Wall time.
    pub seconds: u64,
    /// The longest time from a start until the daemon took readings.
    pub worst_start_ms: u64,
    /// Most memory of a daemon that was looked at.
    pub peak_memory_mib: u64,
    /// The first findings, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

const NOTES: usize = 12;

impl Report {
    /// A run that begins.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// One fault more.
    pub fn fault(&mut self, name: &str) {
        self.cycles += 1;
        *self.faults.entry(name.to_owned()).or_default() += 1;
    }

    /// Keeps a finding for people.
    pub fn note(&mut self, text: impl Into<String>) {
        if self.notes.len() < NOTES {
            self.notes.push(text.into());
        }
    }

    /// Something that should not be.
    pub fn unexplained(&mut self, text: impl Into<String>) {
        self.unexplained += 1;
        self.note(text);
    }

    /// I4: what a daemon had at most, and what it may have, in bytes.
    pub fn memory(&mut self, peak: u64, bound: u64) {
        self.peak_memory_mib = self.peak_memory_mib.max(peak >> 20);
        if peak > bound {
            self.unexplained(format!("I4: {} MiB of memory", peak >> 20));
        }
    }

    /// Adds what another part of the run found.
    pub fn add(&mut self, other: Self) {
        self.cycles += other.cycles;
        for (name, count) in other.faults {
            *self.faults.entry(name).or_default() += count;
        }
        self.obligations += other.obligations;
        self.stored += other.stored;
        self.declared_lost += other.declared_lost;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.altered += other.altered;
        self.disordered += other.disordered;
        self.failed_starts += other.failed_starts;
        self.unexplained += other.unexplained;
        self.seconds += other.seconds;
        self.worst_start_ms = self.worst_start_ms.max(other.worst_start_ms);
        self.peak_memory_mib = self.peak_memory_mib.max(other.peak_memory_mib);
        for note in other.notes {
            self.note(note);
        }
    }

    /// Whether the zeros are zeros, and there was something to lose.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let zeros = [
            self.lost,
            self.duplicated,
            self.altered,
            self.disordered,
            self.failed_starts,
            self.unexplained,
        ];
        self.obligations > 0 && zeros.iter().all(|&count| count == 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        f.write_str(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn a_run_without_obligations_proves_nothing() {
        let mut report = Report::new(1);
        assert!(!report.is_clean());
        report.obligations = 1;
        assert!(report.is_clean());
        report.unexplained("memory");
        assert!(!report.is_clean());
    }
}
