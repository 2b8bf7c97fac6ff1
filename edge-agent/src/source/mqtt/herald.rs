//! What the gateway says of itself at a broker: one retained message, and the broker's word if we vanish.
//!
//! Whoever listens to devices there sees the gateway in the same way: `state` is `online` or `offline`, as with
//! theirs. The message is made anew when a link comes or goes, and once a minute; a clean stop says so itself; for
//! anything else there is the will, which the broker keeps from our CONNECT on and publishes when it loses us.
//!
//! **It is in nobody's way.** At QoS 0 it takes no packet id and waits for no answer; it goes into the request queue
//! only if there is room; what it tells is read from two short locks that no disk or network is behind. One that does
//! not get through is made again a minute later. It is made only where `status_topic` is set: many brokers let a
//! reader only read, and some refuse a connection for its will.

use std::{sync::Arc, time::Duration};

use protocol::GatewayId;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::link::Link;
use crate::{
    clock::Moment,
    conservation::{Balance, Conservation},
    ingest::Connection,
    link::{LinkState, Links},
};

/// How soon a change is told.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is told all the same: who listens knows by `at` whether it is still true.
const REPEAT: Duration = Duration::from_secs(60);

/// Tells one broker how the gateway is.
#[derive(Debug)]
pub(super) struct Herald {
    topic: String,
    gateway: GatewayId,
    links: Links,
    conservation: Arc<Conservation>,
}

/// What was told last.
struct Told {
    connection: Connection,
    at: Instant,
    down: Vec<String>,
}

/// The message.
#[derive(Debug, Serialize)]
struct Status<'s> {
    state: &'static str,
    /// Why it is offline.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    gateway: &'s GatewayId,
    version: &'static str,
    #[serde(flatten)]
    health: Option<Health>,
}

/// How the gateway is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Health {
    /// When, where the clock is synchronised.
    at: Option<String>,
    /// As `/readyz`.
    ready: bool,
    /// Links that are not up.
    down: Vec<String>,
    /// Readings on the disk that Kafka has not got.
    queued: u64,
    /// Readings recorded as lost since the start.
    dropped: u64,
}

impl Herald {
    pub(super) const fn new(
        topic: String,
        gateway: GatewayId,
        links: Links,
        conservation: Arc<Conservation>,
    ) -> Self {
        Self {
            topic,
            gateway,
            links,
            conservation,
        }
    }

    /// What the broker is to say when it loses us.
    pub(super) fn will(&self) -> (String, Vec<u8>) {
        self.offline("connection lost")
    }

    /// What we say when we go.
    pub(super) fn farewell(&self) -> (String, Vec<u8>) {
        self.offline("stopped")
    }

    fn offline(&self, reason: &'static str) -> (String, Vec<u8>) {
        let message = self.message("offline", Some(reason), None);
        (self.topic.clone(), message)
    }

    fn message(
        &self,
        state: &'static str,
        reason: Option<&'static str>,
        health: Option<Health>,
    ) -> Vec<u8> {
        let status = Status {
            state,
            reason,
            gateway: &self.gateway,
            version: env!("CARGO_PKG_VERSION"),
            health,
        };
        // Names and numbers: nothing in it can fail.
        serde_json::to_vec(&status).unwrap_or_default()
    }

    /// Tells for as long as the connection is wanted. Never ends.
    pub(super) async fn tell(&self, link: &Link, now: impl Fn() -> Moment) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told: Option<Told> = None;
        loop {
            tokio::select! {
                () = link.settled.notified() => {}
                _ = look.tick() => {}
            }
            let connection = link.connection();
            let health = Health::of(&self.links, &self.conservation.snapshot(), &now());
            let is_known = |told: &Told| {
                // Before a new connection the broker has told our will.
                told.connection == connection
                    && told.down == health.down
                    && told.at.elapsed() < REPEAT
            };
            if told.as_ref().is_some_and(is_known) {
                continue;
            }
            let down = health.down.clone();
            if link.tell(&self.topic, self.message("online", None, Some(health))) {
                let at = Instant::now();
                told = Some(Told {
                    connection,
                    at,
                    down,
                });
            }
        }
    }
}

impl Health {
    fn of(links: &Links, balance: &Balance, now: &Moment) -> Self {
        let away = links.snapshot().into_iter();
        let down: Vec<String> = away
            .filter(|(_, _, state)| *state != LinkState::Up)
            .map(|(kind, name, _)| format!("{} {name}", kind.as_str()))
            .collect();
        Self {
            at: now.synced.then(|| now.wall.to_string()),
            ready: down.is_empty(),
            down,
            queued: balance.queued,
            dropped: balance.dropped.iter().sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Clock, link::LinkKind};

    #[test]
    fn the_message_has_the_shape_that_others_rely_on() {
        let links = Links::default();
        links.set(LinkKind::Mqtt, "house", LinkState::Up);
        links.set(
            LinkKind::Kafka,
            "readings",
            LinkState::Down("refused".into()),
        );
        let conservation = Arc::new(Conservation::default());
        conservation.recovered(7);
        let gateway = GatewayId::new("gw7").unwrap();
        let herald = Herald::new("s".into(), gateway, links.clone(), conservation.clone());
        let mut now = Clock::new().now();
        now.synced = false;
        let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        let health = Health::of(&links, &conservation.snapshot(), &now);
        assert_eq!(
            json(&herald.message("online", None, Some(health))),
            serde_json::json!({
                "state": "online", "gateway": "gw7", "version": env!("CARGO_PKG_VERSION"), "at": null,
                "ready": false, "down": ["kafka readings"], "queued": 7, "dropped": 0,
            })
        );
        assert_eq!(
            json(&herald.will().1),
            serde_json::json!({
                "state": "offline", "reason": "connection lost", "gateway": "gw7",
                "version": env!("CARGO_PKG_VERSION"),
            })
        );
    }
}
