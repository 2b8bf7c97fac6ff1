//! What a device keeps until it is acknowledged, and when it sends it again. Pure.

use std::{collections::VecDeque, time::Duration};

use super::Reading;

/// First wait for an acknowledgement; doubles with each sending.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest wait.
pub const LAST_RETRY: Duration = Duration::from_secs(8);

/// Only so many readings from the oldest unacknowledged one on are sent. An agent remembers the newest
/// sequence of a boot and 64 below it: a retransmission from further back would be stored twice.
pub const WINDOW: usize = 60;

/// One reading on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The reading.
    pub reading: Reading,
    /// How often it was handed to the line.
    pub sends: u32,
    /// When it was first.
    pub first_sent: Option<Duration>,
    /// A fault put a later reading before it.
    pub reordered: bool,
    /// When to send it (again).
    due: Duration,
}

impl Entry {
    /// A reading nobody has seen yet.
    #[must_use]
    pub fn new(reading: Reading, now: Duration) -> Self {
        Self {
            reading,
            sends: 0,
            first_sent: None,
            reordered: false,
            due: now,
        }
    }

    /// Notes that the reading went out; it is due again after `wait`.
    pub fn sent(&mut self, now: Duration, wait: Duration) {
        self.sends = self.sends.saturating_add(1);
        self.first_sent.get_or_insert(now);
        self.due = now.saturating_add(wait);
    }

    /// How long to wait for the acknowledgement of the next sending.
    #[must_use]
    pub fn retry_wait(&self) -> Duration {
        let doublings = self.sends.min(8);
        (FIRST_RETRY * (1 << doublings)).min(LAST_RETRY)
    }
}

/// The ring of a device: readings in the order they were made, each until it is acknowledged.
///
/// A full ring takes nothing more: the device stops measuring, as one without flash would.
#[derive(Debug)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    capacity: usize,
}

impl Outbox {
    /// Holds up to `capacity` readings.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            capacity,
        }
    }

    /// Whether there is no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.capacity
    }

    /// Whether everything is acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes a reading; due at once. The caller asked [`Self::is_full`] before it measured.
    pub fn push(&mut self, reading: Reading, now: Duration) {
        self.entries.push_back(Entry::new(reading, now));
    }

    /// The oldest reading that is due, within the window.
    pub fn next_due(&mut self, now: Duration) -> Option<&mut Entry> {
        let window = self.window();
        (self.entries.iter_mut().take(window)).find(|entry| entry.due <= now)
    }

    /// How many of the entries are in the window: it counts sequences, not entries.
    fn window(&self) -> usize {
        let Some(oldest) = self.entries.front() else {
            return 0;
        };
        let first = oldest.reading.sequence;
        let inside = |entry: &Entry| {
            usize::try_from(entry.reading.sequence - first).is_ok_and(|ahead| ahead < WINDOW)
        };
        (self.entries.iter().take(WINDOW))
            .take_while(|entry| inside(entry))
            .count()
    }

    /// When the next one is due.
    #[must_use]
    pub fn due_at(&self) -> Option<Duration> {
        let window = self.window();
        self.entries
            .iter()
            .take(window)
            .map(|entry| entry.due)
            .min()
    }

    /// The peer may have forgotten everything: all of it again, oldest first.
    pub fn all_due(&mut self, now: Duration) {
        for entry in &mut self.entries {
            entry.due = now;
        }
    }

    /// Makes one due after `wait`, whatever was planned.
    pub fn postpone(&mut self, boot: u32, sequence: u32, until: Duration) {
        if let Some(at) = self.position(boot, sequence) {
            self.entries[at].due = until;
        }
    }

    /// Notes that a fault put a later reading before this one.
    pub fn mark_reordered(&mut self, boot: u32, sequence: u32) {
        if let Some(at) = self.position(boot, sequence) {
            self.entries[at].reordered = true;
        }
    }

    /// Takes out the acknowledged one; `None` when it was before.
    pub fn settle(&mut self, boot: u32, sequence: u32) -> Option<Entry> {
        let at = self.position(boot, sequence)?;
        self.entries.remove(at)
    }

    /// A power cut of the device: everything it held is gone.
    pub fn clear(&mut self) -> impl Iterator<Item = Entry> {
        std::mem::take(&mut self.entries).into_iter()
    }

    fn position(&self, boot: u32, sequence: u32) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| (entry.reading.boot, entry.reading.sequence) == (boot, sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(sequence: u32) -> Reading {
        Reading {
            boot: 1,
            sequence,
            time_us: 0,
            values: Vec::new(),
        }
    }

    #[test]
    fn what_is_not_acknowledged_is_due_again_after_doubling_waits() {
        let mut outbox = Outbox::new(2);
        outbox.push(reading(0), Duration::ZERO);
        let mut waits = Vec::new();
        let mut now = Duration::ZERO;
        for _ in 0..6 {
            let entry = outbox.next_due(now).unwrap();
            let wait = entry.retry_wait();
            entry.sent(now, wait);
            assert!(outbox.next_due(now).is_none());
            let due = outbox.due_at().unwrap();
            waits.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
    }

    #[test]
    fn nothing_is_sent_so_far_ahead_that_a_retransmission_is_not_recognised() {
        let mut outbox = Outbox::new(200);
        for sequence in 0..200 {
            outbox.push(reading(sequence), Duration::ZERO);
        }
        let send_all = |outbox: &mut Outbox| {
            let mut last = None;
            while let Some(entry) = outbox.next_due(Duration::ZERO) {
                entry.sent(Duration::ZERO, FIRST_RETRY);
                last = Some(entry.reading.sequence);
            }
            last
        };
        assert_eq!(send_all(&mut outbox), Some(59));
        for sequence in 1..60 {
            outbox.settle(1, sequence);
        }
        assert_eq!(send_all(&mut outbox), None, "the first is still open");
        outbox.settle(1, 0);
        assert_eq!(send_all(&mut outbox), Some(119));
    }

    #[test]
    fn a_full_outbox_says_so_and_has_room_after_an_ack() {
        let mut outbox = Outbox::new(2);
        outbox.push(reading(0), Duration::ZERO);
        outbox.push(reading(1), Duration::ZERO);
        assert!(outbox.is_full());
        assert_eq!(outbox.settle(1, 0).unwrap().reading.sequence, 0);
        assert!(outbox.settle(1, 0).is_none(), "only once");
        assert!(outbox.settle(2, 1).is_none(), "another boot");
        assert!(!outbox.is_full());
    }
}
