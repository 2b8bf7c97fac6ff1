//! A broker as the agent sees it, for the model: one device behind it numbers its readings, and publishes some
//! of them once more, another does not number them; what is not acknowledged is delivered again, with DUP, on
//! the next connection.

use std::collections::VecDeque;

use super::*;

/// Most messages delivered and not acknowledged.
const WINDOW: usize = 250;
/// Values from here on are those of the device that numbers, below are those of others.
const FIRST: i64 = 1_000_000;
/// From here on, those of the device that does not.
const FIRST_PLAIN: i64 = 2_000_000;

/// See the module.
#[derive(Default)]
pub(super) struct Broker {
    waiting: VecDeque<Publication>,
    /// How many of the waiting are on their way, on this connection.
    in_flight: usize,
    connection: u32,
    next_sequence: u64,
    next_plain: i64,
    next_id: u16,
    published: u64,
}

struct Publication {
    id: u16,
    value: i64,
    source: Option<SourceId>,
    is_dup: bool,
}

impl Broker {
    /// The devices publish their next readings, then the one that numbers one of its last once more: it missed
    /// an answer.
    pub(super) fn publish(&mut self, count: u8, again: Option<u8>) {
        for _ in 0..count {
            self.push(self.next_sequence);
            self.next_sequence += 1;
            if self.next_sequence.is_multiple_of(3) {
                self.send(FIRST_PLAIN + self.next_plain, None);
                self.next_plain += 1;
            }
        }
        let again = again.and_then(|behind| (self.next_sequence - 1).checked_sub(behind.into()));
        if let Some(sequence) = again {
            self.push(sequence);
        }
    }

    fn push(&mut self, sequence: u64) {
        let source = SourceId { boot: 1, sequence };
        self.send(FIRST + sequence as i64, Some(source));
    }

    fn send(&mut self, value: i64, source: Option<SourceId>) {
        self.next_id = self.next_id.wrapping_add(1).max(1);
        self.published += 1;
        self.waiting.push_back(Publication {
            id: self.next_id,
            value,
            source,
            is_dup: false,
        });
    }

    /// The next messages and the values in them.
    pub(super) fn deliver(&mut self, count: usize) -> (Vec<i64>, Vec<Message>) {
        let count = count.min(WINDOW - self.in_flight);
        let mut values = Vec::new();
        let mut batch = Vec::new();
        for publication in self.waiting.iter_mut().skip(self.in_flight).take(count) {
            let device = publication.source.map_or("plain", |_| "m");
            values.push(publication.value);
            batch.push(Message {
                origin: came(publication.id, 7, self.connection, publication.is_dup),
                ..message(vec![reading(device, publication.value, publication.source)])
            });
            publication.is_dup = true;
        }
        self.in_flight += batch.len();
        (values, batch)
    }

    /// So much of what is on its way, of 255 parts, the agent's acknowledgements confirm.
    pub(super) fn confirmed(&mut self, part: u8) {
        let count = self.in_flight * usize::from(part) / 255;
        self.waiting.drain(..count);
        self.in_flight -= count;
    }

    /// Whatever was on its way is delivered again.
    pub(super) fn disconnected(&mut self) {
        self.in_flight = 0;
        self.connection += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn published(&self) -> u64 {
        self.published
    }

    /// Which of its devices says this value, if one does.
    pub(super) fn device(value: i64) -> Option<u8> {
        match value {
            FIRST_PLAIN.. => Some(1),
            FIRST.. => Some(0),
            _ => None,
        }
    }
}
