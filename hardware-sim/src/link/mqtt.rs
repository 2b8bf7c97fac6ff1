//! A device that publishes: QoS 1, a client of its own.
//!
//! Each connection is a new client with a clean session, and what was not acknowledged is published
//! again by us, oldest first, with the sequence it had. So there is one list of what is on its way, ours,
//! and none in the client. A client reports the packet ids of its publishes in the order they were
//! given to it; that ties a PUBACK to its reading.
//!
//! A PUBACK is the broker's word: what it confirms is an obligation only if the agent's session was
//! there before. So the agent is started first, and a broker that is killed must not forget.

use std::{
    collections::{HashMap, VecDeque},
    str::FromStr,
    time::Duration,
};

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{Phase, Station, pty::settle_unacknowledged};
use crate::{
    device::{
        outbox::{FIRST_RETRY, Outbox},
        text::Format,
    },
    fault::{Action, OVERSIZED_BYTES, Occasion},
    truth::State,
};

/// Publishes given to the client and not acknowledged.
const WINDOW: usize = 100;
const TICK: Duration = Duration::from_millis(20);
const RECONNECT: Duration = Duration::from_millis(300);

/// Where the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    host: String,
    port: u16,
}

impl Broker {
    /// Name or address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Broker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no broker; write it like mqtt://127.0.0.1:1883");
        let place = text.strip_prefix("mqtt://").ok_or_else(wrong)?;
        let place = place.trim_end_matches('/');
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong())?)
            }
            _ => (place, 1883),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

enum Notice {
    Connected,
    Given(u16),
    Acknowledged(u16),
    Broken(String),
}

/// One connection; dropping it cuts it.
struct Connection {
    client: AsyncClient,
    notices: mpsc::Receiver<Notice>,
    polling: JoinHandle<()>,
    up: bool,
    /// Given to the client, not yet numbered; `None` for what is no reading.
    given: VecDeque<Option<(u32, u32)>>,
    numbered: HashMap<u16, Option<(u32, u32)>>,
}

impl Connection {
    fn open(broker: &Broker, device: &str) -> Self {
        let mut options = MqttOptions::new(format!("sim-{device}"), &broker.host, broker.port);
        options.set_keep_alive(Duration::from_secs(10));
        options.set_clean_session(true);
        options.set_inflight(1000);
        options.set_max_packet_size(64 * 1024, 64 * 1024);
        let (client, eventloop) = AsyncClient::new(options, 2 * WINDOW);
        let (sender, notices) = mpsc::channel(4 * WINDOW);
        Self {
            client,
            notices,
            polling: tokio::spawn(poll(eventloop, sender)),
            up: false,
            given: VecDeque::new(),
            numbered: HashMap::new(),
        }
    }

    fn has_room(&self) -> bool {
        self.up && self.given.len() + self.numbered.len() < WINDOW
    }

    fn publish(&mut self, topic: &str, payload: Vec<u8>, reading: Option<(u32, u32)>) {
        match self
            .client
            .try_publish(topic, QoS::AtLeastOnce, false, payload)
        {
            Ok(()) => self.given.push_back(reading),
            // The outbox still has it; it is due again after the next connection.
            Err(error) => tracing::warn!(%error, topic, "publish refused by the client"),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.polling.abort();
    }
}

/// The client wants to be polled without a break, so it has a task of its own.
async fn poll(mut eventloop: EventLoop, notices: mpsc::Sender<Notice>) {
    loop {
        let notice = match eventloop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => Notice::Connected,
            Ok(Event::Incoming(Packet::PubAck(ack))) => Notice::Acknowledged(ack.pkid),
            Ok(Event::Outgoing(Outgoing::Publish(pkid))) => Notice::Given(pkid),
            Ok(_) => continue,
            Err(error) => Notice::Broken(error.to_string()),
        };
        let broken = matches!(notice, Notice::Broken(_));
        if notices.send(notice).await.is_err() || broken {
            return;
        }
    }
}

/// A device and its broker.
pub(crate) struct Player {
    station: Station,
    broker: Broker,
    topic: String,
    outbox: Outbox,
    held: Option<(u32, u32)>,
}

impl Player {
    pub fn new(station: Station, broker: Broker, topic: &str) -> Self {
        Self {
            topic: topic.replace("{device}", &station.plan.id),
            outbox: Outbox::new(station.plan.ring),
            station,
            broker,
            held: None,
        }
    }

    /// Plays until the run ended, or settled.
    pub async fn play(mut self) {
        let mut connection: Option<Connection> = None;
        let mut connect_at = Duration::ZERO;
        loop {
            let now = self.station.shared.now();
            match self.station.shared.phase() {
                Phase::Ended => break,
                Phase::Settling if self.outbox.is_empty() => break,
                Phase::Playing | Phase::Settling => {}
            }
            while let Some(occasion) = self.station.occasion(now) {
                match occasion {
                    Occasion::Unplug(lasts) => {
                        connection = None;
                        connect_at = now + lasts;
                    }
                    Occasion::Reboot => {
                        connection = None;
                        self.forget(now);
                    }
                    Occasion::Stall(_) | Occasion::ClockJump(_) => {}
                }
            }
            while let Some(reading) = self.station.measure(now, self.outbox.is_full()) {
                self.outbox.push(reading, now);
            }
            let wait = self.station.next_at().saturating_sub(now);
            let wait = wait.clamp(Duration::from_millis(1), TICK);
            match &mut connection {
                Some(open) => {
                    self.publish_due(open, now);
                    let notice = tokio::time::timeout(wait, open.notices.recv()).await;
                    let now = self.station.shared.now();
                    let lost = match notice {
                        Err(_) => None,
                        Ok(None) => Some("client ended".to_owned()),
                        Ok(Some(notice)) => self.note(open, notice, now),
                    };
                    if let Some(error) = lost {
                        tracing::warn!(device = %self.station.plan.id, error, "broker lost");
                        connection = None;
                        connect_at = now + RECONNECT;
                    }
                }
                None if now >= connect_at => {
                    self.held = None;
                    self.outbox.all_due(now);
                    connection = Some(Connection::open(&self.broker, &self.station.plan.id));
                }
                None => tokio::time::sleep(wait).await,
            }
        }
        self.forget(self.station.shared.now());
    }

    fn forget(&mut self, now: Duration) {
        self.held = None;
        for entry in self.outbox.clear() {
            settle_unacknowledged(&self.station, entry, now);
        }
    }

    /// Acts on what the client says; returns why the connection is over, if it is.
    fn note(&mut self, open: &mut Connection, notice: Notice, now: Duration) -> Option<String> {
        match notice {
            Notice::Broken(error) => return Some(error),
            Notice::Connected => {
                tracing::info!(device = %self.station.plan.id, "connected to broker");
                open.up = true;
            }
            Notice::Given(pkid) => {
                if let Some(reading) = open.given.pop_front() {
                    open.numbered.insert(pkid, reading);
                }
            }
            Notice::Acknowledged(pkid) => {
                let (boot, sequence) = open.numbered.remove(&pkid)??;
                if self.station.loses_ack(now) {
                    self.outbox.postpone(boot, sequence, now + FIRST_RETRY);
                } else if let Some(entry) = self.outbox.settle(boot, sequence) {
                    self.station.settle(entry, State::Acknowledged, now);
                }
            }
        }
        None
    }

    fn publish_due(&mut self, open: &mut Connection, now: Duration) {
        while open.has_room() && !self.station.stalled(now) {
            let Some(entry) = self.outbox.next_due(now) else {
                break;
            };
            let again = entry.sends > 0;
            let id = (entry.reading.boot, entry.reading.sequence);
            let payload = Format::Json.write(&entry.reading).into_bytes();
            let action = self.station.action(now);
            match action {
                Action::Drop => {
                    entry.sent(now, FIRST_RETRY);
                    self.station.count_sent(again);
                    continue;
                }
                // Its successor overtakes it.
                Action::Reorder => {
                    entry.reordered = true;
                    self.outbox
                        .postpone(id.0, id.1, now + self.station.plan.every * 2);
                    continue;
                }
                _ => {}
            }
            // The transport is reliable: only a new connection, or a lost PUBACK, makes it due again.
            entry.sent(now, Duration::MAX);
            self.station.count_sent(again);
            if let Some(extra) = self.extra(action, &payload) {
                open.publish(&self.topic, extra, None);
            }
            if action == Action::Duplicate {
                open.publish(&self.topic, payload.clone(), None);
            }
            open.publish(&self.topic, payload, Some(id));
        }
    }

    /// What a fault publishes beside the good payload.
    fn extra(&mut self, action: Action, payload: &[u8]) -> Option<Vec<u8>> {
        let faults = &mut self.station.faults;
        let mut bad = payload.to_vec();
        match action {
            Action::Corrupt => faults.spoil_text(&mut bad),
            Action::Truncate => faults.cut(&mut bad),
            Action::Garbage => bad = faults.garbage(40),
            Action::Oversized => bad = faults.garbage(OVERSIZED_BYTES),
            _ => return None,
        }
        Some(bad)
    }
}

#[cfg(test)]
mod tests;
