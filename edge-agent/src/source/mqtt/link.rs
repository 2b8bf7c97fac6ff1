//! What the poller and the receipts share: which messages wait, and the way back to the broker.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use rumqttc::{AsyncClient, ConnectionError, EventLoop, Publish, QoS, StateError, mqttbytes};
use tokio::sync::{Notify, mpsc::UnboundedReceiver};

use super::acks::Acks;
use crate::ingest::Receipt;

/// What the poller and the receipts share.
pub(super) struct Link {
    pub(super) client: AsyncClient,
    acks: Mutex<Acks>,
    /// A slot became free, or the last one while draining.
    pub(super) room: Notify,
    draining: AtomicBool,
}

impl Link {
    pub(super) fn new(client: AsyncClient) -> Self {
        Self {
            client,
            acks: Mutex::default(),
            room: Notify::new(),
            draining: AtomicBool::new(false),
        }
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
        let mut acks = self.acks();
        for token in tokens {
            acks.done(token);
        }
        while let Some(packet_id) = acks.ready() {
            let mut publish = Publish::new("", QoS::AtLeastOnce, Vec::new());
            publish.pkid = packet_id;
            // Cannot be full; if a broker breaks the rules the slot stays and is tried with the next.
            if self.client.try_ack(&publish).is_err() {
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
        if self.client.try_disconnect().is_err() {
            tracing::warn!("mqtt request queue is full, leaving without a disconnect");
        }
    }

    /// Forgets the slots and drops the acknowledgements that were not written, at once: between the two
    /// a receipt could put one behind.
    pub(super) fn broken(&self, eventloop: &mut EventLoop) {
        let mut acks = self.acks();
        acks.broken();
        eventloop.clean();
        drop(acks);
        self.room.notify_one();
    }
}

/// The error in our words where it has a remedy.
pub(super) fn explain(error: &ConnectionError) -> String {
    match error {
        ConnectionError::MqttState(StateError::Deserialization(
            mqttbytes::Error::PayloadSizeLimitExceeded(bytes),
        )) => format!(
            "the broker sends a packet of {bytes} bytes and would send it for ever; remove it there and \
             set the broker's limit (message_size_limit) to max_packet_bytes"
        ),
        ConnectionError::ConnectionRefused(code) => {
            format!("broker refuses the connection: {code:?}; see username, password and client_id")
        }
        error => error.to_string(),
    }
}
