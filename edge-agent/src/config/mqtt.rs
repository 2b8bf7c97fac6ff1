//! `[[mqtt]]`: a broker, and the session with it.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use protocol::{GatewayId, Topic};
use protocol_host::{config::plaintext, secret::Secret};

use super::{
    Secrets, Subscription, WhenFull,
    document::{Mistake, Table},
    sections::each,
    sources::Sources,
    subscription::overlap,
    value,
};

/// Largest `max_inflight`: what the queue remembers to recognise a repetition holds one such window.
pub const MAX_INFLIGHT: u16 = 4000;

/// One of `[[mqtt]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mqtt {
    /// Names the source in logs and metrics; required, unique.
    pub name: String,
    /// `mqtt://host:1883` or `mqtts://host:8883`; required.
    pub url: MqttUrl,
    /// Session name at the broker; default `edge-agent-{gateway}-{name}`; must stay the same.
    pub client_id: String,
    /// User, default none.
    pub username: Option<String>,
    /// `{ credential = "name" } | { file = "/path" } | { env = "NAME" }`, default none.
    pub password: Option<Secret>,
    /// PEM file of the authority that signed the broker's certificate; default the system's.
    pub tls_ca: Option<PathBuf>,
    /// PEM file of our own certificate, where the broker asks for one; default none.
    pub tls_cert: Option<PathBuf>,
    /// PEM file of its key, PKCS#8 without a password; default none.
    pub tls_key: Option<PathBuf>,
    /// Whether a broker on another machine may be reached without TLS; default false.
    pub allow_plaintext: bool,
    /// Of the protocol: `3.1.1` (default) or `5`.
    pub version: MqttVersion,
    /// Version 5: how long the broker keeps messages for us while we are away; default 30 d.
    pub session_expiry: Duration,
    /// Largest packet taken; larger ones are refused without stopping the others; default 1 MiB.
    pub max_packet_bytes: usize,
    /// Messages taken but not yet acknowledged; at most [`MAX_INFLIGHT`], default 1000.
    pub max_inflight: u16,
    /// Where the gateway leaves a retained message on how it is, with a will; `{gateway}` stands for its name;
    /// default none: it only listens.
    pub status_topic: Option<String>,
    /// What to listen to; at least one.
    pub subscribe: Vec<Subscription>,
}

/// Version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MqttVersion {
    /// 3.1.1.
    #[default]
    V3,
    /// 5.
    V5,
}

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttUrl {
    /// `mqtts`.
    pub tls: bool,
    /// Name or address.
    pub host: String,
    /// Default 1883, with TLS 8883.
    pub port: u16,
}

impl Sources<'_> {
    /// One of `[[mqtt]]`.
    pub fn mqtt(&mut self, table: &Table<'_, '_>) -> Option<Mqtt> {
        let name = self.name(table, "write name = \"house\"");
        let url = table.required("url", "write url = \"mqtts://host:8883\"", value::mqtt_url);
        let client_id = table.optional("client_id", value::text);
        let client_id =
            client_id.or_else(|| Some(format!("edge-agent-{}-{}", self.gateway?, name.as_ref()?)));
        if let (Some(url), Some(id)) = (&url, &client_id) {
            // A broker cuts the older of two sessions with one id, for ever in turn.
            let session = format!("{id} at {}:{}", url.host, url.port);
            self.sessions.check(table, "client_id", &session);
        }
        let username = table.optional("username", value::text);
        let password = table.optional("password", |value| {
            let secret = value::secret(value)?;
            if self.secrets == Secrets::Read {
                secret
                    .read()
                    .map_err(|error| Mistake::new(format!("cannot be had: {error}")))?;
            }
            Ok(secret)
        });
        if password.is_some() && username.is_none() {
            table.wrong(
                "password",
                Mistake::fix("has no user", "set username as well"),
            );
        }
        let allow_plaintext = plaintext::is_allowed(table);
        if let (Some(url), false) = (&url, allow_plaintext)
            && !url.tls
            && !plaintext::is_this_machine(&url.host)
        {
            let mistake = plaintext::mistake(&url.host, "write mqtts://", "this [[mqtt]]");
            table.wrong("url", mistake);
        }
        let tls_ca = table.optional("tls_ca", value::path);
        if let (Some(_), Some(false)) = (&tls_ca, url.as_ref().map(|url| url.tls)) {
            let message = "means nothing without TLS";
            table.wrong("tls_ca", Mistake::fix(message, "write mqtts:// in url"));
        }
        let (tls_cert, tls_key) = (
            table.optional("tls_cert", value::path),
            table.optional("tls_key", value::path),
        );
        for (key, file) in [("tls_cert", &tls_cert), ("tls_key", &tls_key)] {
            if let (Some(_), Some(false)) = (file, url.as_ref().map(|url| url.tls)) {
                let message = "means nothing without TLS";
                table.wrong(key, Mistake::fix(message, "write mqtts:// in url"));
            }
        }
        match (&tls_cert, &tls_key) {
            (Some(_), None) => {
                table.wrong(
                    "tls_cert",
                    Mistake::fix("has no key", "set tls_key as well"),
                );
            }
            (None, Some(_)) => {
                let fix = "set tls_cert as well";
                table.wrong("tls_key", Mistake::fix("has no certificate", fix));
            }
            _ => {}
        }
        let words = [("3.1.1", MqttVersion::V3), ("5", MqttVersion::V5)];
        let version = table.or("version", MqttVersion::default(), value::one_of(words));
        if version == MqttVersion::V3 {
            table.refuse("session_expiry", "needs version = \"5\"");
        }
        let longest = Duration::from_secs(u64::from(u32::MAX) - 1);
        let session_expiry = table.or(
            "session_expiry",
            Duration::from_secs(30 * 86_400),
            value::duration(Duration::from_secs(60)..=longest),
        );
        let max_packet_bytes =
            table.or("max_packet_bytes", 1 << 20, value::bytes(1 << 10..=1 << 20));
        let max_inflight = table.or("max_inflight", 1000, value::integer(1..=MAX_INFLIGHT));
        let status_topic = self.status_topic(table, url.as_ref());
        let mut filters = Vec::new();
        let subscribe = each(table, "subscribe", |entry| {
            self.subscription(entry, version, &mut filters)
        });
        if table.span_of("subscribe").is_none() {
            let fix =
                "write subscribe = [ { topic = \"plant/{device}/{field}\", preset = \"number\" } ]";
            table.wrong("subscribe", Mistake::fix("is missing", fix));
        } else if table.is_empty_list("subscribe") {
            table.wrong(
                "subscribe",
                Mistake::new("is empty: there is nothing to listen to"),
            );
        }
        if let Some(topic) = &status_topic
            && let Some(filter) = filters.iter().find(|filter| overlap(filter, topic))
        {
            let message =
                format!("is {topic}, to which {filter} listens: it would be read as readings");
            let fix = "choose a topic that no subscription fits";
            table.wrong("status_topic", Mistake::fix(message, fix));
        }
        self.check_lanes(table, subscribe.as_deref().unwrap_or_default());
        Some(Mqtt {
            name: name?,
            url: url?,
            client_id: client_id?,
            username,
            password,
            tls_ca,
            tls_cert,
            tls_key,
            allow_plaintext,
            version,
            session_expiry,
            max_packet_bytes,
            max_inflight,
            status_topic,
            subscribe: subscribe?,
        })
    }

    /// Where the gateway says how it is, with its name in it.
    fn status_topic(&mut self, table: &Table<'_, '_>, url: Option<&MqttUrl>) -> Option<String> {
        let gateway = self.gateway.map_or("gateway", GatewayId::as_str);
        let topic = table.optional("status_topic", |value| {
            let topic = value::text(value)?.replace("{gateway}", gateway);
            if topic.contains(['+', '#', '{', '}', '\0']) || topic.starts_with('$') {
                let message =
                    format!("must be one topic, which may hold {{gateway}}, not \"{topic}\"");
                let fix = "write status_topic = \"edge/{gateway}/status\"";
                return Err(Mistake::fix(message, fix));
            }
            Ok(topic)
        })?;
        if let Some(url) = url {
            // The will of the one session would be told while the other is there.
            let place = format!("{topic} at {}:{}", url.host, url.port);
            self.statuses.check(table, "status_topic", &place);
        }
        Some(topic)
    }

    /// Acknowledgements go out in the order of arrival, so one lane that blocks would stop the others.
    fn check_lanes(&self, table: &Table<'_, '_>, subscriptions: &[Subscription]) {
        let lanes: BTreeSet<&Topic> = subscriptions.iter().map(|s| &s.kafka_topic).collect();
        let blocks = |lane: &&&Topic| {
            let set = self.topics.iter().find(|set| set.name == ***lane);
            let own = set.and_then(|set| set.bounds.when_full);
            own.unwrap_or(self.queue.when_full) == WhenFull::Block
        };
        if let Some(blocking) = lanes.iter().find(blocks)
            && lanes.len() > 1
        {
            let names: Vec<&str> = lanes.iter().map(|lane| lane.as_str()).collect();
            let message = format!(
                "feeds {} lanes ({}), but {blocking} has when_full = \"block\", and full it would stop the others",
                names.len(),
                names.join(", ")
            );
            let fix = "give each kafka_topic a [[mqtt]] of its own";
            table.wrong("subscribe", Mistake::fix(message, fix));
        }
    }
}
