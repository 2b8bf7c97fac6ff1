//! Data that waits for its birth certificate, bounded.

use std::collections::VecDeque;

use super::{metrics, payload};
use crate::decode::{DecodeError, excerpt};

/// Most messages that wait, and their bytes.
pub(super) const MAX_HELD: usize = 256;
const MAX_HELD_BYTES: usize = 1 << 20;

/// One message as it came.
#[derive(Debug)]
pub(super) struct Held {
    /// `GROUP/NODE`.
    pub node: String,
    /// `GROUP/NODE/DEVICE`.
    pub device: Option<String>,
    pub payload: Vec<u8>,
    /// The broker sends it again on the next connection.
    pub again: bool,
}

/// The messages in the order of arrival; within one node it is never changed.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    messages: VecDeque<Held>,
    bytes: usize,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn any_of(&self, node: &str) -> bool {
        self.messages.iter().any(|held| held.node == node)
    }

    /// Adds one; returns those that give way, the oldest first.
    pub(super) fn push(&mut self, held: Held) -> Vec<Held> {
        self.bytes += held.payload.len();
        self.messages.push_back(held);
        let mut over = Vec::new();
        while self.messages.len() > MAX_HELD || self.bytes > MAX_HELD_BYTES {
            let Some(oldest) = self.messages.pop_front() else {
                break;
            };
            self.bytes -= oldest.payload.len();
            over.push(oldest);
        }
        over
    }

    /// Takes out those that are meant, in order.
    pub(super) fn take(&mut self, meant: impl Fn(&Held) -> bool) -> Vec<Held> {
        let all = std::mem::take(&mut self.messages);
        let (taken, kept): (VecDeque<_>, VecDeque<_>) = all.into_iter().partition(meant);
        self.messages = kept;
        self.bytes = self.messages.iter().map(|held| held.payload.len()).sum();
        taken.into()
    }
}

impl Held {
    /// Whether one of its metrics is called by one of these aliases. What cannot be read may be.
    pub(super) fn uses(&self, aliases: &[u64]) -> bool {
        let Ok(body) = payload::read(&self.payload) else {
            return true;
        };
        body.metrics
            .iter()
            .filter_map(|bytes| metrics::open(bytes).ok()?.alias)
            .any(|alias| aliases.contains(&alias))
    }

    /// Why it is given up, and whose it was.
    pub(super) fn unborn(&self) -> (Box<str>, DecodeError) {
        let device = self.device.as_deref().unwrap_or(&self.node);
        let error = DecodeError::NotAsPreset("data whose birth certificate never came");
        (excerpt(device), error)
    }
}
