//! MQTT brokers; the only module that names rumqttc.
//!
//! One task per broker: it polls, decodes, and hands over; beside it, in the same task, receipts become
//! PUBACKs in the order of arrival. The session is persistent and acknowledgements are ours, so the
//! broker keeps what is not durable here. What rumqttc asks of its user, and where it is done:
//!
//! - `poll` is never dropped half-way (cancel safety is unknown) nor kept from running by an
//!   acknowledgement: those only go into its request queue. The queue has room for every packet id
//!   there is, so it cannot be full ([`REQUESTS`]).
//! - Packet ids mean nothing on the next connection. When one breaks, slots and requests are emptied
//!   under one lock ([`Link::broken`]), so that no old acknowledgement slips in behind. Messages that
//!   arrived with the break are still handed over, but have nobody to tell; the broker sends them again.
//! - Subscriptions are made anew at the first connection of a process (the list may have changed) and
//!   whenever the broker does not know the session.
//! - A packet above rumqttc's limit breaks the connection, and the broker sends it again, for ever. So
//!   that limit is [`TAKEN_BYTES`] at least, and what is above `max_packet_bytes` is quarantined and
//!   acknowledged like any other bad message. A packet even larger cannot be passed: the link is down
//!   with the remedy, the broker's own limit.
//!
//! While ingest cannot take more, or `max_inflight` messages wait for receipts, nothing is polled: TCP
//! holds the broker back. If that lasts longer than the keep-alive, the broker ends the connection and
//! keeps the messages of QoS 1; those of QoS 0 are its to drop.

mod acks;
mod link;
pub(super) mod routes;

use std::{pin::pin, time::Duration};

use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, MqttOptions, Outgoing, Publish, QoS,
    SubAck, SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
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
    config::{Agent, Mqtt},
    decode::Defaults,
    ingest::{Answer, Closed, Origin, Receipt, Rejection},
    link::LinkState,
};
use link::{Link, explain};
use routes::{Route, Routes};

/// Room for an acknowledgement of each of the 65 535 packet ids, and for our own few requests.
const REQUESTS: usize = 65_535 + 64;
/// Packets up to this size are taken in, if only to be rejected.
const TAKEN_BYTES: usize = 16 << 20;
/// Largest packet we send: a SUBSCRIBE with all filters.
const SENT_BYTES: usize = 1 << 20;
/// Longest wait before the next attempt.
const RECONNECT: Duration = Duration::from_secs(5);
/// A connection that lived this long counts as a success for the back-off.
const STEADY: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// One broker, not connected yet.
#[derive(Debug)]
pub(super) struct Broker {
    settings: Mqtt,
    routes: Routes,
    intake: Intake,
    shutdown: CancellationToken,
    patience: Duration,
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
        Ok(Self {
            settings: settings.clone(),
            routes: Routes::new(routes),
            intake,
            shutdown,
            patience: agent.shutdown_timeout,
        })
    }

    /// Runs until the shutdown or the end of ingest.
    pub(super) async fn run(self) -> Result<(), SourceError> {
        let (client, mut eventloop) = AsyncClient::new(self.options(), REQUESTS);
        let link = Link::new(client);
        // Many small packets: waiting for company would only delay the broker's window.
        eventloop.network_options.set_tcp_nodelay(true);
        let (to, receipts) = unbounded_channel();
        let result = tokio::select! {
            result = self.poll(&mut eventloop, &link, &to) => result,
            // Ends only with the last sender, which is ours.
            () = link.acknowledge(receipts) => Ok(()),
        };
        match result {
            Err(Closed) if !self.shutdown.is_cancelled() => Err(Closed.into()),
            _ => Ok(()),
        }
    }

    fn options(&self) -> MqttOptions {
        let url = &self.settings.url;
        let mut options = MqttOptions::new(&self.settings.client_id, &url.host, url.port);
        options
            .set_clean_session(false)
            .set_manual_acks(true)
            .set_keep_alive(KEEP_ALIVE)
            .set_max_packet_size(TAKEN_BYTES.max(self.settings.max_packet_bytes), SENT_BYTES);
        options
    }

    /// Reads secrets and certificates again, for they may have been renewed.
    fn refresh(&self, options: &mut MqttOptions) -> Result<(), String> {
        if let Some(username) = &self.settings.username {
            let password = match &self.settings.password {
                Some(secret) => secret.read().map_err(|error| error.to_string())?,
                None => String::new(),
            };
            options.set_credentials(username, password);
        }
        if self.settings.url.tls {
            let tls = match &self.settings.tls_ca {
                None => TlsConfiguration::Native,
                Some(path) => TlsConfiguration::SimpleNative {
                    ca: std::fs::read(path)
                        .map_err(|error| format!("tls_ca {}: {error}", path.display()))?,
                    client_auth: None,
                },
            };
            options.set_transport(Transport::tls_with_config(tls));
        }
        Ok(())
    }

    async fn poll(
        &self,
        eventloop: &mut EventLoop,
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
                if let Err(why) = self.refresh(&mut eventloop.mqtt_options) {
                    self.wait(&mut progress, why).await;
                    continue;
                }
            }
            self.room(link, &mut progress).await;
            let Some(polled) = self.next(eventloop, link, &mut progress).await else {
                return Ok(());
            };
            let next = match polled {
                Ok(event) => self.event(event, link, to, &mut progress).await?,
                Err(error) => self.lost(&error, eventloop, link, &mut progress).await?,
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
            tokio::select! {
                () = link.room.notified() => {}
                () = self.shutdown.cancelled() => self.stop(link, progress),
            }
        }
    }

    /// Polls once; the shutdown may come meanwhile. `None` when there is nothing left to wait for.
    async fn next(
        &self,
        eventloop: &mut EventLoop,
        link: &Link,
        progress: &mut Progress,
    ) -> Option<Result<Event, ConnectionError>> {
        let mut poll = pin!(eventloop.poll());
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
            Event::Incoming(Incoming::ConnAck(ack)) => {
                progress.connected = Some(Instant::now());
                if std::mem::replace(&mut progress.connected_before, true) {
                    self.intake.counters.reconnected();
                }
                progress.subscribed &= ack.session_present;
                if progress.subscribed {
                    self.intake.link(LinkState::Up);
                } else {
                    self.subscribe(link);
                }
            }
            Event::Incoming(Incoming::SubAck(ack)) => {
                progress.subscribed = self.subscribed(&ack);
                // Not before: what is published before the first subscription, the broker forgets.
                if progress.subscribed {
                    self.intake.link(LinkState::Up);
                }
            }
            Event::Incoming(Incoming::Publish(publish)) if progress.stop_by.is_none() => {
                let answer = (publish.qos != QoS::AtMostOnce).then(|| Answer {
                    token: link.acks().arrived(publish.pkid),
                    to: to.clone(),
                });
                self.take(&publish, answer, link).await?;
            }
            Event::Outgoing(Outgoing::PubAck(_)) => link.acks().written(),
            Event::Outgoing(Outgoing::Disconnect) => return Ok(Next::Finished),
            _ => {}
        }
        Ok(Next::On)
    }

    fn subscribe(&self, link: &Link) {
        let filters = self.routes.iter().map(|route| {
            let qos = match route.qos {
                0 => QoS::AtMostOnce,
                _ => QoS::AtLeastOnce,
            };
            SubscribeFilter::new(route.filter.clone(), qos)
        });
        if let Err(error) = link.client.try_subscribe_many(filters) {
            // The queue has room, so the broker was not even asked: a filter must be wrong.
            self.intake
                .link(LinkState::Down(format!("cannot subscribe: {error}")));
        }
    }

    fn subscribed(&self, ack: &SubAck) -> bool {
        let refused: Vec<&str> = self
            .routes
            .iter()
            .zip(&ack.return_codes)
            .filter(|(_, code)| matches!(code, SubscribeReasonCode::Failure))
            .map(|(route, _)| &*route.filter)
            .collect();
        if !refused.is_empty() {
            let refused = refused.join(", ");
            self.intake.link(LinkState::Down(format!(
                "broker refuses the subscription of {refused}; grant it in the broker's ACL"
            )));
            return false;
        }
        for filter in downgraded(&self.routes, &ack.return_codes) {
            let source = self.intake.counters.name.as_str();
            tracing::warn!(
                source,
                filter,
                "broker grants qos 0 where 1 was asked, what it sends while we are away is lost; raise the \
                 broker's maximum qos"
            );
        }
        true
    }

    /// One message: into the queue, or counted out.
    async fn take(
        &self,
        publish: &Publish,
        answer: Option<Answer>,
        link: &Link,
    ) -> Result<(), Closed> {
        let token = answer.as_ref().map(|answer| answer.token);
        let now = self.intake.now();
        let max = self.settings.max_packet_bytes;
        let route = self.routes.find(&publish.topic);
        match route {
            None => self.intake.counters.skipped(),
            Some((route, _)) if publish.retain && !route.retained => {
                self.intake.counters.skipped();
            }
            Some(_) if publish.payload.len() > max => {
                let detail = format!("payload is larger than max_packet_bytes = {max}");
                self.intake
                    .reject(Rejection::TooLarge, &detail, &publish.payload);
            }
            Some((route, captures)) => {
                let reading = route.read(captures, &publish.payload).and_then(|routed| {
                    let defaults = Defaults {
                        device: routed.device.as_ref(),
                        meta: &routed.meta,
                        max_age: self.intake.max_age,
                    };
                    self.intake.reading(routed.decoded, &defaults, &now)
                });
                match reading {
                    Ok(reading) => {
                        let origin = origin(publish);
                        return self
                            .intake
                            .send(&route.lane, reading, origin, &now, answer)
                            .await;
                    }
                    Err(error) => {
                        self.intake
                            .reject(error.rejection(), &error, &publish.payload);
                    }
                }
            }
        }
        if let Some(token) = token {
            link.done([token]);
        }
        Ok(())
    }

    /// The connection broke, or was not made.
    async fn lost(
        &self,
        error: &ConnectionError,
        eventloop: &mut EventLoop,
        link: &Link,
        progress: &mut Progress,
    ) -> Result<Next, Closed> {
        link.broken(eventloop);
        let rest = std::mem::take(&mut eventloop.state.events);
        if progress.stop_by.is_some() {
            return Ok(Next::Finished);
        }
        for event in rest {
            if let Event::Incoming(Incoming::Publish(publish)) = event {
                self.take(&publish, None, link).await?;
            }
        }
        if progress
            .connected
            .take()
            .is_some_and(|since| since.elapsed() >= STEADY)
        {
            progress.backoff.reset();
        }
        self.wait(progress, explain(error)).await;
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
fn downgraded<'r>(
    routes: &'r Routes,
    granted: &'r [SubscribeReasonCode],
) -> impl Iterator<Item = &'r str> {
    let at_0 = SubscribeReasonCode::Success(QoS::AtMostOnce);
    routes
        .iter()
        .zip(granted)
        .filter(move |(route, granted)| route.qos > 0 && **granted == at_0)
        .map(|(route, _)| &*route.filter)
}

fn origin(publish: &Publish) -> Origin {
    if publish.qos == QoS::AtMostOnce {
        return Origin::Unknown;
    }
    Origin::Mqtt {
        packet_id: publish.pkid,
        topic_hash: xxhash_rust::xxh3::xxh3_64(publish.topic.as_bytes()),
        // A broker sets DUP only on what it sent on an earlier connection: every connection follows a
        // break, so each is the first one after it.
        may_repeat: publish.dup,
    }
}

#[cfg(test)]
mod tests;
