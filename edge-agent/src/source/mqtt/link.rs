//! What the poller and the receipts share: which messages wait, and the way back to the broker.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::{Notify, mpsc::UnboundedReceiver};

use super::{
    acks::Acks,
    wire::{Client, Connection},
};
use crate::ingest::{self, Answer, Receipt};

/// Most of our own requests on their way: the queue has few places beside the acknowledgements.
const MAX_ASKING: usize = 32;

/// What the poller and the receipts share.
pub(super) struct Link {
    pub(super) client: Client,
    acks: Mutex<Acks>,
    /// A slot became free, or the last one while draining.
    pub(super) room: Notify,
    /// A connection was made, and its subscriptions are answered.
    pub(super) settled: Notify,
    is_settled: AtomicBool,
    /// Topic and message to leave behind at the goodbye.
    farewell: Option<(String, Vec<u8>)>,
    draining: AtomicBool,
    waiting: Mutex<Waiting>,
    asking: AtomicUsize,
    /// Which of the process's clients it is.
    id: u32,
    connections: AtomicU32,
}

/// How many clients there have been.
static CLIENTS: AtomicU32 = AtomicU32::new(0);

/// Messages that are acknowledged with another.
#[derive(Default)]
struct Waiting {
    /// Not understood yet, with the filter of their subscription, in the order of arrival.
    held: Vec<(String, Answer)>,
    /// By the token of the one whose receipt counts for them.
    followers: HashMap<u64, Vec<u64>>,
}

impl Link {
    pub(super) fn new(client: Client, farewell: Option<(String, Vec<u8>)>) -> Self {
        Self {
            client,
            settled: Notify::new(),
            is_settled: AtomicBool::new(false),
            farewell,
            acks: Mutex::default(),
            room: Notify::new(),
            draining: AtomicBool::new(false),
            waiting: Mutex::default(),
            asking: AtomicUsize::new(0),
            id: CLIENTS.fetch_add(1, Relaxed),
            connections: AtomicU32::new(0),
        }
    }

    /// The connection there is, or was last.
    pub(super) fn connection(&self) -> ingest::Connection {
        ingest::Connection {
            client: self.id,
            number: self.connections.load(Relaxed),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Tokens are plain data; a panic elsewhere leaves them whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a message unacknowledged until it is understood.
    pub(super) fn hold(&self, filter: &str, answer: Option<Answer>) {
        let answer = answer.map(|answer| (filter.to_owned(), answer));
        self.waiting().held.extend(answer);
    }

    /// Acknowledges what is held, though it is in memory only: acknowledgements go out in order, so for
    /// ever the window would be full and the message they wait for could not come. Whether there was any.
    pub(super) fn give_way(&self) -> bool {
        let held = mem::take(&mut self.waiting().held);
        if held.is_empty() {
            return false;
        }
        self.done(held.into_iter().map(|(_, answer)| answer.token));
        true
    }

    /// All of one subscription that was held, in the order of arrival.
    pub(super) fn released(&self, filter: &str) -> Vec<Answer> {
        let mut waiting = self.waiting();
        let held = mem::take(&mut waiting.held).into_iter();
        let (released, held): (Vec<_>, Vec<_>) = held.partition(|(of, _)| of == filter);
        waiting.held = held;
        released.into_iter().map(|(_, answer)| answer).collect()
    }

    /// One answer whose receipt counts for all of them.
    pub(super) fn together(&self, mut answers: Vec<Answer>) -> Option<Answer> {
        let last = answers.pop()?;
        if !answers.is_empty() {
            let others = answers.into_iter().map(|answer| answer.token).collect();
            self.waiting().followers.insert(last.token, others);
        }
        Some(last)
    }

    /// Publishes a request at QoS 0. One that finds no place is made again by its decoder.
    pub(super) fn ask(&self, topic: &str, payload: Vec<u8>) {
        if self.asking.load(Relaxed) >= MAX_ASKING {
            return;
        }
        if self.client.publish(topic, payload, false) {
            self.asking.fetch_add(1, Relaxed);
        }
    }

    /// The broker let us in: another connection.
    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// The broker has answered our subscriptions, or knew them.
    pub(super) fn settled(&self) {
        self.is_settled.store(true, Relaxed);
        self.settled.notify_one();
    }

    /// Leaves a message for whoever comes, while there is a settled connection and nobody is saying goodbye.
    /// Whether it is on its way.
    pub(super) fn tell(&self, topic: &str, payload: Vec<u8>) -> bool {
        let is_idle = self.asking.load(Relaxed) < MAX_ASKING;
        if !self.is_settled.load(Relaxed) || self.draining.load(Relaxed) || !is_idle {
            return false;
        }
        let is_asked = self.client.publish(topic, payload, true);
        if is_asked {
            self.asking.fetch_add(1, Relaxed);
        }
        is_asked
    }

    /// A request is on the network.
    pub(super) fn asked(&self) {
        let one_less = |asking: usize| Some(asking.saturating_sub(1));
        let _before = self.asking.fetch_update(Relaxed, Relaxed, one_less);
    }

    pub(super) fn acks(&self) -> MutexGuard<'_, Acks> {
        // Slots are plain data; a panic elsewhere leaves them whole.
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns receipts into acknowledgements.
    pub(super) async fn acknowledge(&self, mut receipts: UnboundedReceiver<Receipt>) {
        let mut batch = Vec::new();
        while receipts.recv_many(&mut batch, 256).await > 0 {
            // Stored, dropped with a record, or rejected with a record: in each case it is done.
            self.done(batch.drain(..).map(|receipt| receipt.token));
        }
    }

    pub(super) fn done(&self, tokens: impl IntoIterator<Item = u64>) {
        let tokens: Vec<u64> = {
            let mut waiting = self.waiting();
            let with_followers = |token| {
                let followers = waiting.followers.remove(&token).unwrap_or_default();
                followers.into_iter().chain([token])
            };
            tokens.into_iter().flat_map(with_followers).collect()
        };
        let mut acks = self.acks();
        for token in tokens {
            acks.done(token);
        }
        while let Some(packet_id) = acks.ready() {
            // Cannot be full; if a broker breaks the rules the slot stays and is tried with the next.
            if !self.client.acknowledge(packet_id) {
                break;
            }
            acks.sent();
        }
        let empty = acks.waiting() == 0;
        drop(acks);
        self.room.notify_one();
        if empty && self.draining.load(Relaxed) {
            self.goodbye();
        }
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Relaxed);
        if self.acks().waiting() == 0 {
            self.goodbye();
        }
    }

    /// Behind the last acknowledgement in the request queue.
    fn goodbye(&self) {
        if let Some((topic, message)) = &self.farewell {
            // After a goodbye the broker keeps the will to itself. One without room ends without a word.
            self.client.publish(topic, message.clone(), true);
        }
        if !self.client.goodbye() {
            tracing::warn!("mqtt request queue is full, leaving without a disconnect");
        }
    }

    /// Forgets the slots and drops the acknowledgements that were not written, at once: between the two
    /// a receipt could put one behind.
    pub(super) fn broken(&self, connection: &mut Connection) {
        let mut acks = self.acks();
        acks.broken();
        *self.waiting() = Waiting::default();
        self.asking.store(0, Relaxed);
        self.is_settled.store(false, Relaxed);
        connection.clean();
        drop(acks);
        self.room.notify_one();
    }
}
