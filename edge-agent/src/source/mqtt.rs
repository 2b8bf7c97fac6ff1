//! MQTT brokers, versions 3.1.1 and 5; the only module that names rumqttc.
//!
//! One task per broker: it polls, decodes, and hands over; beside it, in the same task, receipts become
//! PUBACKs in the order of arrival. The session is persistent and acknowledgements are ours, so the
//! broker keeps what is not durable here. What rumqttc asks of its user, and where it is done:
//!
//! - `poll` is never dropped half-way (cancel safety is unknown) nor kept from running by an
//!   acknowledgement: those only go into its request queue. The queue has room for every packet id
//!   there is, so it cannot be full (`wire`).
//! - Packet ids mean nothing on the next connection. When one breaks, slots and requests are emptied
//!   under one lock ([`Link::broken`]), so that no old acknowledgement slips in behind. Messages that
//!   arrived with the break are still handed over, but have nobody to tell; the broker sends them again.
//! - Subscriptions are made anew at the first connection of a process (the list may have changed) and
//!   whenever the broker does not know the session.
//! - A packet above rumqttc's limit breaks the connection, and the broker sends it again, for ever. So
//!   that limit is 16 MiB at least, and what is above `max_packet_bytes` is quarantined and
//!   acknowledged like any other bad message. A packet even larger cannot be passed: the link is down
//!   with the remedy, the broker's own limit.
//!
//! While ingest cannot take more, or `max_inflight` messages wait for receipts, nothing is polled: TCP
//! holds the broker back. If that lasts longer than the keep-alive, the broker ends the connection and
//! keeps the messages of QoS 1; those of QoS 0 are its to drop.

mod acks;
mod herald;
mod link;
mod presence;
pub(super) mod routes;
mod take;
mod wire;

use std::{
    future,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use protocol::GatewayId;
use rumqttc::{
    Publish, QoS, TlsConfiguration, Transport,
    tokio_native_tls::native_tls::{Certificate, Identity, TlsConnector},
};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    SourceError,
    backoff::{Backoff, random},
    intake::{Intake, source_meta},
};
use crate::{
    config::{Agent, Mqtt, MqttUrl},
    conservation::Conservation,
    ingest::{Answer, Closed, Connection, Delivery, Origin, Receipt},
    link::{LinkState, Links},
};
use herald::Herald;
use link::Link;
use presence::Presence;
use routes::{Route, Routes};
use wire::{Event, Granted, Lost};

/// Longest wait before the next attempt.
const RECONNECT: Duration = Duration::from_secs(5);
/// A connection that lived this long counts as a success for the back-off.
const STEADY: Duration = Duration::from_secs(10);

/// One broker, not connected yet.
#[derive(Debug)]
pub(super) struct Broker {
    settings: Mqtt,
    routes: Routes,
    presence: Mutex<Presence>,
    intake: Intake,
    shutdown: CancellationToken,
    patience: Duration,
    /// The session ends with this process.
    once: bool,
    /// Where the gateway is to say how it is.
    herald: Option<Herald>,
    gateway: GatewayId,
}

/// The poller's own state.
struct Progress {
    connected: Option<Instant>,
    connected_before: bool,
    subscribed: bool,
    stop_by: Option<Instant>,
    backoff: Backoff,
}

/// Whether to go on.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    On,
    Finished,
}

impl Broker {
    pub(super) fn new(
        settings: &Mqtt,
        agent: &Agent,
        intake: Intake,
        shutdown: CancellationToken,
    ) -> Result<Self, SourceError> {
        if settings.client_id.is_empty() {
            return Err(SourceError::NoClientId);
        }
        let routes = settings
            .subscribe
            .iter()
            .map(|subscription| {
                Route::compile(subscription, &agent.meta).map_err(|error| SourceError::Route {
                    topic: subscription.topic.clone(),
                    error,
                })
            })
            .collect::<Result<_, _>>()?;
        let routes = Routes::new(routes);
        let configured = routes.iter().filter_map(Route::configured_device);
        Ok(Self {
            presence: Mutex::new(Presence::new(configured.map(|device| device.as_str()))),
            settings: settings.clone(),
            routes,
            intake,
            shutdown,
            patience: agent.shutdown_timeout,
            once: false,
            herald: None,
            gateway: agent.gateway.clone(),
        })
    }

    /// Says at the broker how the gateway is, where it is to.
    pub(super) fn telling(self, links: Links, conservation: Arc<Conservation>) -> Self {
        let topic = self.settings.status_topic.clone();
        let gateway = self.gateway.clone();
        let herald = topic.map(|topic| Herald::new(topic, gateway, links, conservation));
        Self { herald, ..self }
    }

    /// With a session that ends with this process, for somebody who looks.
    pub(super) fn for_once(self) -> Self {
        Self { once: true, ..self }
    }

    /// Runs until the shutdown or the end of ingest.
    pub(super) async fn run(self) -> Result<(), SourceError> {
        let herald = self.herald.as_ref();
        let will = herald.map(Herald::will);
        let (client, mut connection) = wire::connection(&self.settings, self.once, will);
        let link = Link::new(client, herald.map(Herald::farewell));
        let told = async {
            match herald {
                Some(herald) => herald.tell(&link, || self.intake.now()).await,
                None => future::pending().await,
            }
        };
        let (to, receipts) = unbounded_channel();
        let result = tokio::select! {
            result = self.poll(&mut connection, &link, &to) => result,
            // Ends only with the last sender, which is ours.
            () = link.acknowledge(receipts) => Ok(()),
            () = told => Ok(()),
        };
        match result {
            Err(Closed) if !self.shutdown.is_cancelled() => Err(Closed.into()),
            _ => Ok(()),
        }
    }

    /// Reads secrets and certificates again, for they may have been renewed.
    fn refresh(&self, connection: &mut wire::Connection) -> Result<(), String> {
        if let Some(username) = &self.settings.username {
            let password = match &self.settings.password {
                Some(secret) => secret.read().map_err(|error| error.to_string())?,
                None => String::new(),
            };
            connection.set_credentials(username, password);
        }
        if self.settings.url.tls {
            let tls = TlsConfiguration::NativeConnector(self.tls()?);
            connection.set_transport(Transport::tls_with_config(tls));
        }
        Ok(())
    }

    fn tls(&self) -> Result<TlsConnector, String> {
        let read = |key: &str, path: &std::path::Path| {
            let file = std::fs::read(path);
            file.map_err(|error| format!("{key} {}: {error}", path.display()))
        };
        let mut connector = TlsConnector::builder();
        if let Some(path) = &self.settings.tls_ca {
            let wrong = |error| format!("tls_ca {}: {error}", path.display());
            // Who is named there, and nobody else.
            connector.disable_built_in_roots(true);
            let authorities = Certificate::stack_from_pem(&read("tls_ca", path)?);
            for authority in authorities.map_err(wrong)? {
                connector.add_root_certificate(authority);
            }
        }
        if let (Some(cert), Some(key)) = (&self.settings.tls_cert, &self.settings.tls_key) {
            let identity = Identity::from_pkcs8(&read("tls_cert", cert)?, &read("tls_key", key)?);
            connector.identity(identity.map_err(|error| {
                let (cert, key) = (cert.display(), key.display());
                format!(
                    "tls_cert {cert}, tls_key {key}: {error}; the key must be PKCS#8 without a password: \
                     openssl pkcs8 -topk8 -nocrypt"
                )
            })?);
        }
        connector.build().map_err(|error| format!("tls: {error}"))
    }

    async fn poll(
        &self,
        connection: &mut wire::Connection,
        link: &Link,
        to: &UnboundedSender<Receipt>,
    ) -> Result<(), Closed> {
        let mut progress = Progress {
            connected: None,
            connected_before: false,
            subscribed: false,
            stop_by: None,
            backoff: Backoff::new(RECONNECT),
        };
        self.intake.link(LinkState::Connecting);
        loop {
            if progress.connected.is_none() {
                if self.shutdown.is_cancelled() {
                    return Ok(());
                }
                if let Err(why) = self.refresh(connection) {
                    self.wait(&mut progress, why).await;
                    continue;
                }
            }
            self.room(link, &mut progress).await;
            let Some(polled) = self.next(connection, link, &mut progress).await else {
                return Ok(());
            };
            let next = match polled {
                Ok(event) => self.event(event, link, to, &mut progress).await?,
                Err(error) => self.lost(&error, connection, link, &mut progress).await?,
            };
            if next == Next::Finished {
                return Ok(());
            }
        }
    }

    /// Waits until one more message may wait for its receipt.
    async fn room(&self, link: &Link, progress: &mut Progress) {
        let window = usize::from(self.settings.max_inflight.max(1));
        while progress.stop_by.is_none() && link.acks().full(window) {
            if link.give_way() {
                continue;
            }
            tokio::select! {
                () = link.room.notified() => {}
                () = self.shutdown.cancelled() => self.stop(link, progress),
            }
        }
    }

    /// Polls once; the shutdown may come meanwhile. `None` when there is nothing left to wait for.
    async fn next(
        &self,
        connection: &mut wire::Connection,
        link: &Link,
        progress: &mut Progress,
    ) -> Option<Result<Event, Lost>> {
        let mut poll = pin!(connection.poll());
        if progress.stop_by.is_none() {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => {
                    // Not connected: nothing was taken that is not answered or to be sent again.
                    progress.connected?;
                    self.stop(link, progress);
                }
                polled = &mut poll => return Some(polled),
            }
        }
        timeout_at(progress.stop_by?, poll).await.ok()
    }

    /// Takes no more; what is taken is answered within the deadline, then we say goodbye.
    fn stop(&self, link: &Link, progress: &mut Progress) {
        progress.stop_by = Some(Instant::now() + self.patience);
        link.drain();
    }

    async fn event(
        &self,
        event: Event,
        link: &Link,
        to: &UnboundedSender<Receipt>,
        progress: &mut Progress,
    ) -> Result<Next, Closed> {
        match event {
            Event::Connected { session_present } => {
                progress.connected = Some(Instant::now());
                link.connected();
                if std::mem::replace(&mut progress.connected_before, true) {
                    self.intake.counters.reconnected();
                }
                progress.subscribed &= session_present;
                if progress.subscribed {
                    self.intake.link(LinkState::Up);
                    link.settled();
                } else {
                    self.subscribe(link);
                }
            }
            Event::Subscribed(granted) => {
                progress.subscribed = self.subscribed(&granted);
                // Not before: what is published before the first subscription, the broker forgets.
                if progress.subscribed {
                    self.intake.link(LinkState::Up);
                }
                link.settled();
            }
            Event::Arrived(publish, properties) if progress.stop_by.is_none() => {
                let answer = (publish.qos != QoS::AtMostOnce).then(|| Answer {
                    token: link.acks().arrived(publish.pkid),
                    to: to.clone(),
                });
                self.take(&publish, &properties, answer, link).await?;
            }
            Event::Acknowledged => link.acks().written(),
            Event::Asked => link.asked(),
            Event::Goodbye => return Ok(Next::Finished),
            Event::Arrived(..) | Event::Other => {}
        }
        Ok(Next::On)
    }

    fn subscribe(&self, link: &Link) {
        let filters = self.routes.iter().map(|route| (&*route.filter, route.qos));
        if let Err(error) = link.client.subscribe(filters) {
            // The queue has room, so the broker was not even asked: a filter must be wrong.
            self.intake
                .link(LinkState::Down(format!("cannot subscribe: {error}")));
        }
    }

    fn subscribed(&self, granted: &[Granted]) -> bool {
        let refused: Vec<String> = self
            .routes
            .iter()
            .zip(granted)
            .filter_map(|(route, granted)| match granted {
                Granted::Refused(None) => Some(route.filter.clone()),
                Granted::Refused(Some(why)) => Some(format!("{} ({why})", route.filter)),
                _ => None,
            })
            .collect();
        if !refused.is_empty() {
            let refused = refused.join(", ");
            self.intake.link(LinkState::Down(format!(
                "broker refuses the subscription of {refused}; grant it in the broker's ACL"
            )));
            return false;
        }
        for filter in downgraded(&self.routes, granted) {
            let source = self.intake.counters.name.as_str();
            tracing::warn!(
                source,
                filter,
                "broker grants qos 0 where 1 was asked, what it sends while we are away is lost"
            );
        }
        true
    }

    /// The connection broke, or was not made.
    async fn lost(
        &self,
        error: &Lost,
        connection: &mut wire::Connection,
        link: &Link,
        progress: &mut Progress,
    ) -> Result<Next, Closed> {
        link.broken(connection);
        let rest = connection.rest();
        if progress.stop_by.is_some() {
            return Ok(Next::Finished);
        }
        for event in rest {
            if let Event::Arrived(publish, properties) = event {
                self.take(&publish, &properties, None, link).await?;
            }
        }
        self.routes.disconnected();
        let connected = progress.connected.take();
        if connected.is_some_and(|since| since.elapsed() >= STEADY) {
            progress.backoff.reset();
        }
        let MqttUrl { host, port, .. } = &self.settings.url;
        let why = error.explain(connected.is_some());
        self.wait(progress, format!("{host}:{port}: {why}")).await;
        Ok(Next::On)
    }

    async fn wait(&self, progress: &mut Progress, why: String) {
        self.intake.link(LinkState::Down(why));
        let wait = progress.backoff.wait(random());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}

/// Filters that the broker took at a lower QoS than was asked: it need not keep their messages for us.
fn downgraded<'r>(routes: &'r Routes, granted: &'r [Granted]) -> impl Iterator<Item = &'r str> {
    routes
        .iter()
        .zip(granted)
        .filter(|(route, granted)| route.qos > 0 && **granted == Granted::AtMostOnce)
        .map(|(route, _)| &*route.filter)
}

fn origin(publish: &Publish, connection: Connection) -> Origin {
    if publish.qos == QoS::AtMostOnce {
        return Origin::Unknown;
    }
    Origin::Mqtt {
        packet_id: publish.pkid,
        topic_hash: xxhash_rust::xxh3::xxh3_64(publish.topic.as_bytes()),
        connection,
        // A broker sets DUP only on what it sent on an earlier connection.
        delivery: match publish.dup {
            true => Delivery::Again,
            false => Delivery::First,
        },
    }
}

/// The origin of the next part of the same packet.
fn further(origin: Origin) -> Origin {
    match origin {
        Origin::Mqtt {
            packet_id,
            topic_hash,
            connection,
            delivery: Delivery::First,
        } => Origin::Mqtt {
            packet_id,
            topic_hash,
            connection,
            delivery: Delivery::Further,
        },
        origin => origin,
    }
}

#[cfg(test)]
mod tests;
