//! One client for both versions of the protocol: rumqttc has a module for each, with types of their own.
//!
//! What comes in is the same for both but for what only version 5 has: user properties, and a reason where
//! something is refused. What goes out differs only in how a session is kept: by a flag in 3.1.1, by an expiry
//! in 5, where the broker is told as well how many messages we take before the first is acknowledged.

use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectionError, EventLoop, Incoming, LastWill, MqttOptions, Outgoing, Publish,
    QoS, StateError, SubscribeFilter, SubscribeReasonCode, Transport, mqttbytes,
    v5::{self, mqttbytes::v5 as packets},
};

use crate::config::{Mqtt, MqttVersion};

/// Room for an acknowledgement of each of the 65 535 packet ids, and for our own few requests.
const REQUESTS: usize = 65_535 + 64;
/// Packets up to this size are taken in, if only to be rejected.
const TAKEN_BYTES: usize = 16 << 20;
/// Largest packet we send: a SUBSCRIBE with all filters.
const SENT_BYTES: usize = 1 << 20;
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// What we ask for.
pub(super) enum Client {
    V3(AsyncClient),
    V5(v5::AsyncClient),
}

/// What is polled.
pub(super) enum Connection {
    V3(Box<EventLoop>),
    V5(Box<v5::EventLoop>),
}

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The broker let us in.
    Connected {
        /// It knows us still.
        session_present: bool,
    },
    /// For each filter that was asked for, in order.
    Subscribed(Vec<Granted>),
    /// A message, with the user properties of version 5.
    Arrived(Publish, Vec<(String, String)>),
    /// One of our acknowledgements is on the network.
    Acknowledged,
    /// One of our requests is on the network.
    Asked,
    /// So is our goodbye.
    Goodbye,
    /// Nothing of interest.
    Other,
}

/// What became of one filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Granted {
    AtMostOnce,
    AtLeastOnce,
    /// Why, where the broker says so.
    Refused(Option<String>),
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Lost {
    V3(ConnectionError),
    V5(v5::ConnectionError),
}

/// With `once` the broker forgets us when we go. `will` is a topic and what the broker leaves there when it
/// loses us.
pub(super) fn connection(
    settings: &Mqtt,
    once: bool,
    will: Option<(String, Vec<u8>)>,
) -> (Client, Connection) {
    let url = &settings.url;
    let taken = TAKEN_BYTES.max(settings.max_packet_bytes);
    match settings.version {
        MqttVersion::V3 => {
            let mut options = MqttOptions::new(&settings.client_id, &url.host, url.port);
            options
                .set_clean_session(once)
                .set_manual_acks(true)
                .set_keep_alive(KEEP_ALIVE)
                .set_max_packet_size(taken, SENT_BYTES);
            if let Some((topic, message)) = will {
                options.set_last_will(LastWill::new(topic, message, QoS::AtLeastOnce, true));
            }
            let (client, mut connection) = AsyncClient::new(options, REQUESTS);
            // Many small packets: waiting for company would only delay the broker's window.
            connection.network_options.set_tcp_nodelay(true);
            (Client::V3(client), Connection::V3(Box::new(connection)))
        }
        MqttVersion::V5 => {
            let mut options = v5::MqttOptions::new(&settings.client_id, &url.host, url.port);
            let expiry = u32::try_from(settings.session_expiry.as_secs()).unwrap_or(u32::MAX);
            let expiry = if once { 0 } else { expiry };
            let mut network = options.network_options();
            network.set_tcp_nodelay(true);
            options
                .set_clean_start(once)
                .set_session_expiry_interval(Some(expiry))
                .set_receive_maximum(Some(settings.max_inflight.max(1)))
                .set_manual_acks(true)
                .set_keep_alive(KEEP_ALIVE)
                .set_max_packet_size(Some(u32::try_from(taken).unwrap_or(u32::MAX)))
                .set_network_options(network);
            if let Some((topic, message)) = will {
                let qos = v5::mqttbytes::QoS::AtLeastOnce;
                options.set_last_will(packets::LastWill::new(topic, message, qos, true, None));
            }
            let (client, connection) = v5::AsyncClient::new(options, REQUESTS);
            (Client::V5(client), Connection::V5(Box::new(connection)))
        }
    }
}

impl Client {
    /// Whether it found its place.
    pub(super) fn acknowledge(&self, packet_id: u16) -> bool {
        match self {
            Self::V3(client) => {
                let mut publish = Publish::new("", QoS::AtLeastOnce, Vec::new());
                publish.pkid = packet_id;
                client.try_ack(&publish).is_ok()
            }
            Self::V5(client) => {
                let qos = v5::mqttbytes::QoS::AtLeastOnce;
                let mut publish = packets::Publish::new("", qos, Vec::new(), None);
                publish.pkid = packet_id;
                client.try_ack(&publish).is_ok()
            }
        }
    }

    /// At QoS 0; whether it found its place.
    pub(super) fn publish(&self, topic: &str, payload: Vec<u8>, retain: bool) -> bool {
        match self {
            Self::V3(client) => client
                .try_publish(topic, QoS::AtMostOnce, retain, payload)
                .is_ok(),
            Self::V5(client) => client
                .try_publish(topic, v5::mqttbytes::QoS::AtMostOnce, retain, payload)
                .is_ok(),
        }
    }

    /// Asks for filters at QoS 0 or 1.
    pub(super) fn subscribe<'f>(
        &self,
        filters: impl Iterator<Item = (&'f str, u8)>,
    ) -> Result<(), String> {
        match self {
            Self::V3(client) => {
                let filters = filters.map(|(filter, qos)| {
                    let qos = if qos == 0 {
                        QoS::AtMostOnce
                    } else {
                        QoS::AtLeastOnce
                    };
                    SubscribeFilter::new(filter.to_owned(), qos)
                });
                let asked = client.try_subscribe_many(filters);
                asked.map_err(|error| error.to_string())
            }
            Self::V5(client) => {
                let filters = filters.map(|(filter, qos)| {
                    let qos = match qos {
                        0 => v5::mqttbytes::QoS::AtMostOnce,
                        _ => v5::mqttbytes::QoS::AtLeastOnce,
                    };
                    packets::Filter::new(filter, qos)
                });
                let asked = client.try_subscribe_many(filters);
                asked.map_err(|error| error.to_string())
            }
        }
    }

    /// Whether it found its place.
    pub(super) fn goodbye(&self) -> bool {
        match self {
            Self::V3(client) => client.try_disconnect().is_ok(),
            Self::V5(client) => client.try_disconnect().is_ok(),
        }
    }
}

impl Connection {
    /// The next event. Never to be dropped half-way.
    pub(super) async fn poll(&mut self) -> Result<Event, Lost> {
        match self {
            Self::V3(connection) => connection.poll().await.map(third).map_err(Lost::V3),
            Self::V5(connection) => connection.poll().await.map(fifth).map_err(Lost::V5),
        }
    }

    pub(super) fn set_credentials(&mut self, username: &str, password: String) {
        match self {
            Self::V3(connection) => {
                connection.mqtt_options.set_credentials(username, password);
            }
            Self::V5(connection) => {
                connection.options.set_credentials(username, password);
            }
        }
    }

    pub(super) fn set_transport(&mut self, transport: Transport) {
        match self {
            Self::V3(connection) => {
                connection.mqtt_options.set_transport(transport);
            }
            Self::V5(connection) => {
                connection.options.set_transport(transport);
            }
        }
    }

    /// Drops what was not written.
    pub(super) fn clean(&mut self) {
        match self {
            Self::V3(connection) => connection.clean(),
            Self::V5(connection) => connection.clean(),
        }
    }

    /// Messages that came with the break.
    pub(super) fn rest(&mut self) -> Vec<Event> {
        match self {
            Self::V3(connection) => std::mem::take(&mut connection.state.events)
                .into_iter()
                .map(third)
                .collect(),
            Self::V5(connection) => std::mem::take(&mut connection.state.events)
                .into_iter()
                .map(fifth)
                .collect(),
        }
    }
}

fn third(event: rumqttc::Event) -> Event {
    use rumqttc::Event::{Incoming as In, Outgoing as Out};
    match event {
        In(Incoming::ConnAck(ack)) => Event::Connected {
            session_present: ack.session_present,
        },
        In(Incoming::SubAck(ack)) => Event::Subscribed(
            ack.return_codes
                .into_iter()
                .map(|code| match code {
                    SubscribeReasonCode::Success(QoS::AtMostOnce) => Granted::AtMostOnce,
                    SubscribeReasonCode::Success(_) => Granted::AtLeastOnce,
                    SubscribeReasonCode::Failure => Granted::Refused(None),
                })
                .collect(),
        ),
        In(Incoming::Publish(publish)) => Event::Arrived(publish, Vec::new()),
        Out(outgoing) => sent(&outgoing),
        In(_) => Event::Other,
    }
}

fn fifth(event: v5::Event) -> Event {
    use packets::{Packet, SubscribeReasonCode as Code};
    use v5::Event::{Incoming as In, Outgoing as Out};
    match event {
        In(Packet::ConnAck(ack)) => Event::Connected {
            session_present: ack.session_present,
        },
        In(Packet::SubAck(ack)) => {
            let reason = ack.properties.and_then(|all| all.reason_string);
            let granted = ack.return_codes.into_iter().map(|code| match code {
                Code::Success(v5::mqttbytes::QoS::AtMostOnce) => Granted::AtMostOnce,
                Code::Success(_) => Granted::AtLeastOnce,
                code => Granted::Refused(Some(match &reason {
                    Some(reason) => format!("{code:?}: {reason}"),
                    None => format!("{code:?}"),
                })),
            });
            Event::Subscribed(granted.collect())
        }
        In(Packet::Publish(publish)) => {
            let properties = publish.properties.map(|all| all.user_properties);
            let same = Publish {
                dup: publish.dup,
                qos: match publish.qos {
                    v5::mqttbytes::QoS::AtMostOnce => QoS::AtMostOnce,
                    v5::mqttbytes::QoS::AtLeastOnce => QoS::AtLeastOnce,
                    v5::mqttbytes::QoS::ExactlyOnce => QoS::ExactlyOnce,
                },
                retain: publish.retain,
                // A topic is UTF-8 by the protocol; one that is not is nobody's.
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                pkid: publish.pkid,
                payload: publish.payload,
            };
            Event::Arrived(same, properties.unwrap_or_default())
        }
        Out(outgoing) => sent(&outgoing),
        In(_) => Event::Other,
    }
}

fn sent(outgoing: &Outgoing) -> Event {
    match outgoing {
        Outgoing::PubAck(_) => Event::Acknowledged,
        Outgoing::Publish(_) => Event::Asked,
        Outgoing::Disconnect => Event::Goodbye,
        _ => Event::Other,
    }
}

impl Lost {
    /// In our words where it has a remedy, which is another where the broker had let us in.
    pub(super) fn explain(&self, was_let_in: bool) -> String {
        match self {
            Self::V3(ConnectionError::MqttState(StateError::Deserialization(
                mqttbytes::Error::PayloadSizeLimitExceeded(bytes),
            ))) => too_large(*bytes),
            Self::V3(ConnectionError::ConnectionRefused(code)) => refused(&format!("{code:?}")),
            // A certificate of ours that is refused shows only when the connection is used.
            Self::V3(error) => with_remedy(error.to_string(), was_let_in),
            Self::V5(v5::ConnectionError::MqttState(v5::StateError::Deserialization(
                v5::mqttbytes::Error::PayloadSizeLimitExceeded { pkt_size, .. },
            ))) => too_large(*pkt_size),
            Self::V5(
                v5::ConnectionError::ConnectionRefused(code)
                | v5::ConnectionError::MqttState(v5::StateError::ConnFail { reason: code }),
            ) => refused(&format!("{code:?}")),
            Self::V5(v5::ConnectionError::MqttState(v5::StateError::ServerDisconnect {
                reason_code,
                reason_string,
            })) => {
                let reason = reason_string.as_deref().unwrap_or_default();
                let colon = if reason.is_empty() { "" } else { ": " };
                format!("broker ends the connection: {reason_code:?}{colon}{reason}")
            }
            Self::V5(error) => with_remedy(error.to_string(), was_let_in),
        }
    }
}

fn too_large(bytes: usize) -> String {
    format!(
        "the broker sends a packet of {bytes} bytes and would send it for ever; remove it there and \
         set the broker's limit (message_size_limit) to max_packet_bytes"
    )
}

fn refused(code: &str) -> String {
    format!("broker refuses the connection: {code}; see username, password and client_id")
}

/// What the system or OpenSSL says, and what to do about it.
fn with_remedy(error: String, was_let_in: bool) -> String {
    let ended = ["Connection reset", "closed by peer", "Broken pipe", "EOF"];
    if was_let_in && ended.iter().any(|said| error.contains(said)) {
        return format!("the broker ended the connection, its log says why ({error})");
    }
    let remedies = [
        ("has expired", "renew the broker's certificate"),
        (
            "not yet valid",
            "set the clock of this box or of the broker",
        ),
        (
            "ostname mismatch",
            "url must name the host as the broker's certificate does",
        ),
        (
            "IP address mismatch",
            "url must name the host as the broker's certificate does",
        ),
        (
            "unable to get local issuer",
            "set tls_ca to who signed the broker's certificate",
        ),
        (
            "self-signed certificate",
            "set tls_ca to who signed the broker's certificate",
        ),
        (
            "certificate required",
            "the broker wants to know us: set tls_cert and tls_key",
        ),
        (
            "bad certificate",
            "the broker does not accept ours: see tls_cert and tls_key",
        ),
        (
            "Connection refused",
            "nothing listens there: see url, and whether the broker runs",
        ),
        (
            "failed to lookup",
            "no such host: see url, and the DNS of this box",
        ),
        (
            "No route to host",
            "see url, and the network between this box and the broker",
        ),
        (
            "unreachable",
            "see url, and the network between this box and the broker",
        ),
        (
            "timed out",
            "see url, and the network between this box and the broker",
        ),
        (
            "Connection reset",
            "it ends the connection: see whether this port of url speaks TLS (mqtts) or not (mqtt), and its log",
        ),
        (
            "unexpected EOF",
            "the broker ends the connection, its log says why",
        ),
        (
            "unknown ca",
            "the broker does not know who signed ours: see tls_cert",
        ),
    ];
    let remedy = remedies.iter().find(|(said, _)| error.contains(said));
    match remedy {
        Some((_, remedy)) => format!("{error}; {remedy}"),
        None => error,
    }
}
