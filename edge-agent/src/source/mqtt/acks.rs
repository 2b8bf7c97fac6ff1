//! The order of PUBACKs, as a state machine.
//!
//! The protocol demands them in the order of arrival, receipts come in any. So each message gets a slot
//! when it arrives; a receipt marks it; what is marked at the front may be acknowledged. A connection
//! that breaks empties the slots: its packet ids mean nothing on the next one, and a receipt that comes
//! late finds its slot gone. Tokens are never used twice.

use std::collections::VecDeque;

/// The messages of one connection that are not acknowledged yet.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// The token of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// Acknowledgements on their way to the network.
    unwritten: usize,
}

#[derive(Debug)]
struct Slot {
    packet_id: u16,
    done: bool,
}

impl Acks {
    /// A message arrived; returns its token.
    pub(super) fn arrived(&mut self, packet_id: u16) -> u64 {
        let token = self.end();
        self.slots.push_back(Slot {
            packet_id,
            done: false,
        });
        token
    }

    /// Nothing more is to be waited for before this one may be acknowledged. Tokens of earlier
    /// connections are ignored.
    pub(super) fn done(&mut self, token: u64) {
        let slot = token
            .checked_sub(self.first)
            .and_then(|at| usize::try_from(at).ok())
            .and_then(|at| self.slots.get_mut(at));
        if let Some(slot) = slot {
            slot.done = true;
        }
    }

    /// The packet id to acknowledge next, if it may be; [`Acks::sent`] once it is.
    pub(super) fn ready(&self) -> Option<u16> {
        self.slots
            .front()
            .filter(|slot| slot.done)
            .map(|slot| slot.packet_id)
    }

    /// The front one is on its way.
    pub(super) fn sent(&mut self) {
        if self.slots.pop_front().is_some() {
            self.first += 1;
            self.unwritten += 1;
        }
    }

    /// One that was on its way is on the network.
    pub(super) fn written(&mut self) {
        self.unwritten = self.unwritten.saturating_sub(1);
    }

    /// The connection broke.
    pub(super) fn broken(&mut self) {
        self.first = self.end();
        self.slots.clear();
        self.unwritten = 0;
    }

    /// Whether polling must wait for receipts. While acknowledgements are on their way it must not: only
    /// polling writes them, so a few messages more than `window` may be taken meanwhile.
    pub(super) fn full(&self, window: usize) -> bool {
        self.slots.len() >= window && self.unwritten == 0
    }

    /// Messages not acknowledged.
    pub(super) fn waiting(&self) -> usize {
        self.slots.len()
    }

    fn end(&self) -> u64 {
        self.first + u64::try_from(self.slots.len()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(acks: &mut Acks) -> Vec<u16> {
        let mut sent = Vec::new();
        while let Some(packet_id) = acks.ready() {
            sent.push(packet_id);
            acks.sent();
        }
        sent
    }

    #[test]
    fn receipts_in_any_order_give_acknowledgements_in_the_order_of_arrival() {
        let mut acks = Acks::default();
        let tokens = [7, 9, 8, 1].map(|id| acks.arrived(id));
        for (done, expected) in [
            (tokens[2], vec![]),
            (tokens[0], vec![7]),
            (tokens[3], vec![]),
            (tokens[1], vec![9, 8, 1]),
        ] {
            acks.done(done);
            assert_eq!(drain(&mut acks), expected);
        }
        assert_eq!(acks.waiting(), 0);
    }

    #[test]
    fn a_receipt_of_an_earlier_connection_acknowledges_nothing_on_the_next() {
        let mut acks = Acks::default();
        let old = acks.arrived(1);
        acks.broken();
        let new = acks.arrived(1);
        assert_ne!(old, new);
        acks.done(old);
        assert!(drain(&mut acks).is_empty());
        acks.done(new);
        assert_eq!(drain(&mut acks), [1]);
    }

    #[test]
    fn a_receipt_given_twice_acknowledges_once() {
        let mut acks = Acks::default();
        let one = acks.arrived(1);
        acks.arrived(2);
        acks.done(one);
        assert_eq!(drain(&mut acks), [1]);
        acks.done(one);
        assert!(drain(&mut acks).is_empty());
        assert_eq!(acks.waiting(), 1);
    }

    #[test]
    fn a_full_window_does_not_hold_back_an_acknowledgement() {
        let mut acks = Acks::default();
        let first = acks.arrived(1);
        assert!(acks.full(1));
        acks.done(first);
        assert_eq!(drain(&mut acks), [1]);
        acks.arrived(2);
        assert!(!acks.full(1));
        acks.written();
        assert!(acks.full(1));
    }
}
