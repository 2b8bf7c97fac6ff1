//! librdkafka: its settings, one producer's life, and what its error codes mean.
//!
//! What the settings promise, and what the operator's own may therefore not change:
//! - `enable.idempotence`, `acks=all`: no doubles and no disorder within a producer's life.
//! - `enable.gapless.guarantee`: once a record fails for good, the producer ends instead of sending what
//!   stands behind it. This is what keeps the order when a failed record is sent again by the next one.
//! - `message.timeout.ms=0`: librdkafka never gives up by itself (its default drops after five minutes
//!   and lets later records pass). Reconnecting and its back-off are librdkafka's.
//! - small buffers: the queue on disk is the buffer.
//! - `partitioner=murmur2_random`: the partition that Java tools would choose for the same key.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    time::{Duration, Instant},
};

use protocol_host::{config::kafka::SettingError, remedy};
use rdkafka::{
    ClientConfig, ClientContext, Message as _,
    config::{FromClientConfigAndContext as _, RDKafkaLogLevel},
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, ProducerContext},
};
use serde::Deserialize;
use tracing::debug;

use super::{
    failure::{Failure, told},
    polled::Polled,
    window::FULL_BATCH_BYTES,
};
use crate::{
    config,
    link::{LinkKind, LinkState, Links},
};

/// Settings of ours that an operator may overrule.
const DEFAULTS: [(&str, &str); 6] = [
    ("client.id", "edge-agent"),
    ("compression.type", "zstd"),
    ("linger.ms", "5"),
    ("reconnect.backoff.max.ms", "3000"),
    // Connections through mobile networks and NAT die silently.
    ("socket.keepalive.enable", "true"),
    // How often the state of the link is looked at while nothing is sent.
    ("statistics.interval.ms", "2000"),
];

/// How long what was found out about a certificate is believed.
const CERTIFICATE_AGAIN: Duration = Duration::from_secs(60);

const LINGER: &str = "linger.ms";
/// How long a batch of a metered lane waits for more: a batch a second instead of one for each reading.
const METERED_LINGER: Duration = Duration::from_secs(1);

/// Settings that the promises rest on.
const FIXED: [(&str, &str); 8] = [
    ("enable.idempotence", "true"),
    ("enable.gapless.guarantee", "true"),
    ("acks", "all"),
    ("message.timeout.ms", "0"),
    ("partitioner", "murmur2_random"),
    ("queue.buffering.max.messages", "8000"),
    ("queue.buffering.max.kbytes", "8192"),
    ("allow.auto.create.topics", "false"),
];

/// What happened to a producer.
#[derive(Debug)]
pub enum Event {
    /// The record is in Kafka.
    Delivered {
        /// The number it was sent with.
        ticket: usize,
        /// Where.
        partition: i32,
        /// Where.
        offset: i64,
    },
    /// A record, or the producer as a whole, has failed.
    Failed {
        /// What it means.
        failure: Failure,
        /// What Kafka said.
        reason: String,
    },
    /// What went over the wire since this producer was made, both ways, as the sockets saw it.
    Wire {
        /// After compression, with Kafka's protocol, without TLS and TCP.
        bytes: u64,
        /// Whether there is a connection.
        connected: bool,
    },
}

/// What became of the attempt to hand a record over.
pub enum Sent {
    /// It is on its way.
    Yes,
    /// The producer's buffer is full: again, after some reports.
    Later,
    /// As [`Event::Failed`].
    Failed(Failure, String),
}

/// One producer, from its making to its first failure.
pub struct Session {
    producer: Polled<Context>,
    /// Reports, in the order of the partition. Bounded by what is under way.
    pub events: Receiver<Event>,
}

/// What a lane's limits say about its batches: few bytes where they cost money or time, soon where it is an
/// alarm. What the operator has set for all lanes goes before it, but for the lane's own `linger`.
pub fn tuning(
    own: &BTreeMap<String, String>,
    limits: &config::Limits,
) -> Vec<(&'static str, String)> {
    let is_metered = limits.budget_per_day.is_some() || !limits.windows.is_empty();
    let unless_set = (is_metered && !own.contains_key(LINGER)).then_some(METERED_LINGER);
    let linger = limits.linger.or(unless_set);
    let millis = |linger: Duration| (LINGER, linger.as_millis().to_string());
    linger.map(millis).into_iter().collect()
}

/// All settings for a producer whose batches have at most `batch_bytes`.
fn settings(
    own: &BTreeMap<String, String>,
    tuning: &[(&'static str, String)],
    batch_bytes: usize,
) -> ClientConfig {
    let mut settings = ClientConfig::new();
    for (key, value) in DEFAULTS {
        settings.set(key, value);
    }
    for (key, value) in own {
        settings.set(key, value);
    }
    for (key, value) in tuning {
        settings.set(*key, value);
    }
    for (key, value) in FIXED {
        settings.set(key, value);
    }
    settings.set(
        "batch.size",
        batch_bytes.min(full_batch_bytes(own)).to_string(),
    );
    trust_the_system(&mut settings);
    settings
}

/// The OpenSSL built in has no path of its own to the system's authorities.
fn trust_the_system(settings: &mut ClientConfig) {
    let is_tls = settings
        .get("security.protocol")
        .is_some_and(|protocol| protocol.to_ascii_lowercase().contains("ssl"));
    if is_tls && settings.get("ssl.ca.location").is_none() && settings.get("ssl.ca.pem").is_none() {
        settings.set("ssl.ca.location", "probe");
    }
}

/// Settings for questions, which need nothing of a producer's.
pub(super) fn settings_for_questions(kafka: &config::Kafka) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("client.id", "edge-agent-check");
    for (key, value) in &kafka.client.properties {
        settings.set(key, value);
    }
    settings.set("allow.auto.create.topics", "false");
    trust_the_system(&mut settings);
    settings
}

/// The operator's `batch.size`, or librdkafka's.
pub fn full_batch_bytes(own: &BTreeMap<String, String>) -> usize {
    let own = own.get("batch.size");
    own.and_then(|size| size.parse().ok())
        .unwrap_or(FULL_BATCH_BYTES)
}

/// Checks the settings as librdkafka does, without connecting.
///
/// # Errors
/// The first setting it refuses.
pub fn check(own: &BTreeMap<String, String>) -> Result<(), SettingError> {
    match settings(own, &[], FULL_BATCH_BYTES).create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(_, reason, key, _)) => Err(SettingError { key, reason }),
        Err(error) => Err(SettingError {
            key: "?".into(),
            reason: error.to_string(),
        }),
    }
}

impl Session {
    /// Makes a producer, with `tuning` before the settings of all; connecting goes on behind it. `link` is reported under that name, as up already
    /// when it is connected if `trusts_connection`.
    ///
    /// # Errors
    /// What librdkafka says: a file it cannot read, no thread.
    pub fn open(
        kafka: &config::Kafka,
        tuning: &[(&'static str, String)],
        batch_bytes: usize,
        links: &Links,
        link: &str,
        trusts_connection: bool,
    ) -> Result<Self, String> {
        let (to, events) = mpsc::channel();
        let context = Context {
            events: to,
            links: links.clone(),
            link: link.into(),
            user: remedy::principal(&kafka.client.properties),
            trusts_connection,
            trouble: Mutex::new(None),
            certificate: Mutex::new(None),
            properties: kafka.client.properties.clone(),
        };
        let settings = settings(&kafka.client.properties, tuning, batch_bytes);
        let producer = BaseProducer::from_config_and_context(&settings, context).map_err(
            |error| match error {
                KafkaError::ClientConfig(_, reason, key, _) => {
                    SettingError { key, reason }.to_string()
                }
                error => error.to_string(),
            },
        )?;
        let producer = Polled::new(producer).map_err(|error| format!("no thread: {error}"))?;
        Ok(Self { producer, events })
    }

    /// Hands a record over; returns at once.
    pub fn send(
        &self,
        topic: &str,
        key: &str,
        value: &[u8],
        headers: OwnedHeaders,
        timestamp_ms: i64,
        ticket: usize,
    ) -> Sent {
        let record = BaseRecord::with_opaque_to(topic, ticket)
            .key(key)
            .payload(value)
            .headers(headers)
            .timestamp(timestamp_ms);
        match self.producer.send(record) {
            Ok(()) => Sent::Yes,
            Err(error) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => Sent::Later,
                Some(code) => {
                    let user = self.producer.context().user.as_deref();
                    Sent::Failed(Failure::of(code), told(code, topic, user))
                }
                None => Sent::Failed(Failure::Broken, error.to_string()),
            },
        }
    }
}

/// Takes librdkafka's callbacks, on the producer's own thread.
struct Context {
    events: Sender<Event>,
    links: Links,
    link: String,
    /// Who we are to Kafka.
    user: Option<String>,
    /// Whether a connection is as good as a delivery: not while Kafka denies what we send.
    trusts_connection: bool,
    /// What went wrong last, since the link was up.
    trouble: Mutex<Option<String>>,
    /// The broker whose certificate was asked for last, when, and what is wrong with it.
    certificate: Mutex<Option<(Instant, String, String)>>,
    /// To find it out with.
    properties: BTreeMap<String, String>,
}

impl Context {
    fn up(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.links.set(LinkKind::Kafka, &self.link, LinkState::Up);
    }

    fn down(&self, reason: String) {
        self.links
            .set(LinkKind::Kafka, &self.link, LinkState::Down(reason));
    }

    fn troubled(&self, reason: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// The reason with what is wrong with the broker's certificate, where that is all that librdkafka says. It is
    /// asked for here, on the thread that reports deliveries: none come from a broker that is not trusted.
    fn with_certificate(&self, reason: String) -> String {
        let is_refused = remedy::is_certificate_refused(&reason);
        let broker = remedy::broker_of(&reason).filter(|_| is_refused);
        let Some(broker) = broker.map(str::to_owned) else {
            return reason;
        };
        let mut known = self
            .certificate
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((since, of, told)) if *of == broker && since.elapsed() < CERTIFICATE_AGAIN => {
                told.clone()
            }
            _ => {
                let told = remedy::of_connection(&reason, &self.properties);
                let told = format!("{broker}: {told}");
                *known = Some((Instant::now(), broker, told.clone()));
                told
            }
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listens when the session is being thrown away.
        drop(self.events.send(event));
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        self.tell(match result {
            Ok(message) => Event::Delivered {
                ticket,
                partition: message.partition(),
                offset: message.offset(),
            },
            Err((error, message)) => {
                let code = error.rdkafka_error_code();
                let told = |code| told(code, message.topic(), self.user.as_deref());
                Event::Failed {
                    failure: code.map_or(Failure::Broken, Failure::of),
                    reason: code.map_or_else(|| error.to_string(), told),
                }
            }
        });
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        // What matters comes as an event too and is told by us, once; librdkafka repeats itself for ever.
        debug!(?level, fac, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(code @ RDKafkaErrorCode::Fatal) => self.tell(Event::Failed {
                failure: Failure::of(code),
                reason: reason.into(),
            }),
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
                // librdkafka counts here what is no broker: "0/2 brokers are down".
                let nothing_more = || "no broker is connected".to_owned();
                self.down(trouble.clone().unwrap_or_else(nothing_more));
            }
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) => {
                let reason = self.with_certificate(in_short(reason));
                // "All brokers are down" follows, and would take the place of a reason that says more.
                self.troubled(reason.clone());
                self.down(reason);
            }
            _ => self.troubled(self.with_certificate(in_short(reason))),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let statistics: Statistics = match serde_json::from_slice(statistics) {
            Ok(statistics) => statistics,
            Err(error) => return debug!(%error, "statistics of librdkafka's not understood"),
        };
        let bytes = statistics.tx_bytes.saturating_add(statistics.rx_bytes);
        let mut brokers = statistics.brokers.values();
        let connected = brokers.any(|broker| broker.state == "UP");
        self.tell(Event::Wire { bytes, connected });
        if self.trusts_connection && connected {
            self.up();
        }
    }
}

/// What is asked of librdkafka's statistics: little of many kilobytes.
#[derive(Deserialize)]
struct Statistics {
    tx_bytes: u64,
    rx_bytes: u64,
    brokers: BTreeMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    state: String,
}

/// librdkafka's reasons end with durations and counts that differ from try to try, which would make each
/// of them news.
fn in_short(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    let line = line.split(" (after ").next().unwrap_or_default();
    line.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(properties: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        properties.iter().map(owned).collect()
    }

    #[test]
    fn promises_are_not_up_to_the_operator_the_rest_is() {
        let settings = settings(
            &own(&[
                ("acks", "0"),
                ("message.timeout.ms", "1000"),
                ("compression.type", "none"),
                ("batch.size", "50000"),
                ("security.protocol", "SASL_SSL"),
            ]),
            &[],
            FULL_BATCH_BYTES,
        );
        for (key, value) in [
            ("acks", "all"),
            ("message.timeout.ms", "0"),
            ("enable.gapless.guarantee", "true"),
            ("compression.type", "none"),
            ("batch.size", "50000"),
            ("ssl.ca.location", "probe"),
        ] {
            assert_eq!(settings.get(key), Some(value), "{key}");
        }
        let plain = super::settings(&own(&[]), &[], 20_000);
        assert_eq!(plain.get("ssl.ca.location"), None);
        assert_eq!(plain.get("batch.size"), Some("20000"));
    }

    #[test]
    fn a_metered_lane_makes_large_batches_unless_the_operator_says_otherwise() {
        let metered = config::Limits {
            budget_per_day: Some(1 << 20),
            ..config::Limits::default()
        };
        let soon = config::Limits {
            linger: Some(Duration::ZERO),
            ..metered.clone()
        };
        let none = config::Limits::default();
        for (own_linger, limits, linger) in [
            (None, &none, "5"),
            (Some("20"), &none, "20"),
            (None, &metered, "1000"),
            (Some("20"), &metered, "20"),
            (Some("20"), &soon, "0"),
        ] {
            let own = own_linger.map(|own| ("linger.ms", own));
            let own = self::own(own.as_slice());
            let settings = settings(&own, &tuning(&own, limits), FULL_BATCH_BYTES);
            assert_eq!(settings.get("linger.ms"), Some(linger), "{limits:?}");
            assert_eq!(settings.get("compression.type"), Some("zstd"));
        }
    }

    #[test]
    fn a_setting_that_does_not_exist_is_named_without_its_value() {
        check(&own(&[("bootstrap.servers", "127.0.0.1:9")])).unwrap();
        let error = check(&own(&[("sasl.pasword", "hunter2")])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sasl.pasword"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
