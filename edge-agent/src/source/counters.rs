//! What one source has seen, counted since the start.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{
    ingest::Rejection,
    link::LinkKind,
    process::{Tally, Touched},
};

/// Every reason, in the order of the counters.
pub const REJECTIONS: [Rejection; 7] = [
    Rejection::Damaged,
    Rejection::TooLarge,
    Rejection::Malformed,
    Rejection::UnknownVersion,
    Rejection::NoFields,
    Rejection::NoDevice,
    Rejection::BadValue,
];

/// The counters of one source. Retransmissions are recognised by ingest and counted there.
#[derive(Debug)]
pub struct Counters {
    /// The name from the configuration.
    pub name: String,
    /// What kind of link it is.
    pub kind: LinkKind,
    /// Off a serial line that speaks by itself, whatever they are.
    bytes: AtomicU64,
    received: AtomicU64,
    rejected: [AtomicU64; REJECTIONS.len()],
    fields_rejected: AtomicU64,
    skipped: AtomicU64,
    deferred: AtomicU64,
    reconnects: AtomicU64,
    device_dropped: AtomicU64,
    devices_online: AtomicU64,
    devices_offline: AtomicU64,
    devices_forgotten: AtomicU64,
    overruns: AtomicU64,
    touched: [AtomicU64; Touched::ALL.len()],
}

/// The counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Seen {
    /// Bytes off a serial line that speaks by itself, whether or not they are readings.
    pub bytes: u64,
    /// Readings handed over.
    pub received: u64,
    /// Inputs that are no reading, in the order of [`REJECTIONS`].
    pub rejected: [u64; REJECTIONS.len()],
    /// Single values left out of readings that were kept otherwise.
    pub fields_rejected: u64,
    /// Passed by on purpose: retained messages, topics nobody subscribes to any more, a line whose
    /// beginning was not seen.
    pub skipped: u64,
    /// Not taken now, to be sent again by the device: before its hello, or beyond the window.
    pub deferred: u64,
    /// Times the link came up again after the first.
    pub reconnects: u64,
    /// Readings a framed device says it had to drop itself.
    pub device_dropped: u64,
    /// Devices whose availability topic says that they can be reached.
    pub devices_online: u64,
    /// Devices whose availability topic says that they cannot.
    pub devices_offline: u64,
    /// Devices whose availability was forgotten for others, because there were too many names.
    pub devices_forgotten: u64,
    /// Rounds of questions that could not begin in time, because the line was busy.
    pub overruns: u64,
    /// Values that `[[process]]` left out, bounded or marked, in the order of [`Touched::ALL`].
    pub touched: Tally,
}

impl Counters {
    /// All zero.
    #[must_use]
    pub fn new(name: &str, kind: LinkKind) -> Self {
        Self {
            name: name.into(),
            kind,
            bytes: AtomicU64::new(0),
            received: AtomicU64::new(0),
            rejected: Default::default(),
            fields_rejected: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            deferred: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            device_dropped: AtomicU64::new(0),
            devices_online: AtomicU64::new(0),
            devices_offline: AtomicU64::new(0),
            devices_forgotten: AtomicU64::new(0),
            overruns: AtomicU64::new(0),
            touched: Default::default(),
        }
    }

    /// All of them.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen {
            bytes: self.bytes.load(Relaxed),
            received: self.received.load(Relaxed),
            rejected: std::array::from_fn(|at| self.rejected[at].load(Relaxed)),
            fields_rejected: self.fields_rejected.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            deferred: self.deferred.load(Relaxed),
            reconnects: self.reconnects.load(Relaxed),
            device_dropped: self.device_dropped.load(Relaxed),
            devices_online: self.devices_online.load(Relaxed),
            devices_offline: self.devices_offline.load(Relaxed),
            devices_forgotten: self.devices_forgotten.load(Relaxed),
            overruns: self.overruns.load(Relaxed),
            touched: std::array::from_fn(|at| self.touched[at].load(Relaxed)),
        }
    }

    pub(super) fn heard(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Inputs that were whole, whether or not a reading came of them.
    pub(super) fn understood(&self) -> u64 {
        let whole = |reason: &Rejection| {
            use Rejection::{BadValue, NoDevice, NoFields, UnknownVersion};
            matches!(reason, BadValue | NoDevice | NoFields | UnknownVersion)
        };
        let rejected = REJECTIONS.iter().zip(&self.rejected);
        let rejected = rejected.filter(|(reason, _)| whole(reason));
        let rejected: u64 = rejected.map(|(_, count)| count.load(Relaxed)).sum();
        rejected + self.received.load(Relaxed)
    }

    pub(super) fn received(&self, readings: u64) {
        self.received.fetch_add(readings, Relaxed);
    }

    pub(super) fn rejected(&self, reason: Rejection) {
        if let Some(at) = REJECTIONS.iter().position(|known| *known == reason) {
            self.rejected[at].fetch_add(1, Relaxed);
        }
    }

    pub(super) fn fields_rejected(&self, fields: u64) {
        self.fields_rejected.fetch_add(fields, Relaxed);
    }

    pub(super) fn touched(&self, values: &Tally) {
        for (counter, more) in self.touched.iter().zip(values) {
            counter.fetch_add(*more, Relaxed);
        }
    }

    pub(super) fn skipped(&self) {
        self.skipped.fetch_add(1, Relaxed);
    }

    pub(super) fn overran(&self, rounds: u64) {
        self.overruns.fetch_add(rounds, Relaxed);
    }

    pub(super) fn deferred(&self) {
        self.deferred.fetch_add(1, Relaxed);
    }

    pub(super) fn reconnected(&self) {
        self.reconnects.fetch_add(1, Relaxed);
    }

    pub(super) fn devices(&self, online: u64, offline: u64, forgotten: u64) {
        self.devices_online.store(online, Relaxed);
        self.devices_offline.store(offline, Relaxed);
        self.devices_forgotten.store(forgotten, Relaxed);
    }

    pub(super) fn device_dropped(&self, more: u64) {
        self.device_dropped.fetch_add(more, Relaxed);
    }
}
