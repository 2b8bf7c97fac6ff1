//! `[[serial]]` and `[[mqtt]]`, and what they have to agree on.

use std::{collections::BTreeSet, time::Duration};

use protocol::{GatewayId, Metadata, Topic};

use protocol_host::config::plaintext;

use super::{
    Framing, MessageKeys, ModbusTcp, Mqtt, MqttPreset, MqttUrl, MqttVersion, Queue, Roles, Secrets,
    Serial, Subscription, TopicSettings, WhenFull,
    document::{Mistake, Table},
    payload::{ROLE_KEYS, modbus_tcp, roles, serial_mode},
    sections::{Unique, each},
    value,
};
use crate::decode::{mqtt::Preset, template::Template};

/// What the sources have to agree with, and among each other.
pub struct Sources<'a> {
    /// `agent.gateway`, where it is right.
    pub gateway: Option<&'a GatewayId>,
    /// `kafka.topic`, where it is right.
    pub topic: Option<&'a Topic>,
    /// `kafka.control_topic`.
    pub control_topic: Option<&'a Topic>,
    /// `[queue]`.
    pub queue: &'a Queue,
    /// `[[topic]]`, as far as they are right.
    pub topics: &'a [TopicSettings],
    /// Whether to read secrets.
    pub secrets: Secrets,
    /// Names of sources.
    pub names: Unique,
    /// Serial ports.
    pub ports: Unique,
    /// MQTT sessions.
    pub sessions: Unique,
    /// Where they say how the gateway is.
    pub statuses: Unique,
}

impl Sources<'_> {
    fn name(&mut self, table: &Table<'_, '_>, example: &str) -> Option<String> {
        let name = table.required("name", example, |value| {
            let name = value::text(value)?;
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            if name.len() > 64 || !name.bytes().all(plain) {
                let message = format!("may hold 1 to 64 of A-Z a-z 0-9 . _ -, not \"{name}\"");
                return Err(Mistake::new(message));
            }
            Ok(name)
        })?;
        self.names.check(table, "name", &name);
        Some(name)
    }

    /// The topic readings go to. The control topic is compacted: readings would vanish in it.
    fn lane(&self, table: &Table<'_, '_>, key: &'static str) -> Option<Topic> {
        let own = table.optional(key, value::parsed::<Topic>);
        if own.is_some() && own.as_ref() == self.control_topic {
            let fix = "choose another topic, or another kafka.control_topic";
            let message = "is the control topic, which is compacted and would lose readings";
            table.wrong(key, Mistake::fix(message, fix));
        }
        own.or_else(|| self.topic.cloned())
    }

    /// One of `[[serial]]`.
    pub fn serial(&mut self, table: &Table<'_, '_>) -> Option<Serial> {
        let name = self.name(table, "write name = \"meter\"");
        let port = table.required(
            "port",
            "write port = \"/dev/serial/by-id/…\", which survives replugging",
            value::path,
        );
        if let Some(port) = &port {
            self.ports.check(table, "port", &port.to_string_lossy());
        }
        let baud = table.or("baud", 115_200, value::integer(50..=4_000_000));
        let framing = table.or("framing", Framing::default(), |value| {
            value::text(value)?
                .parse()
                .map_err(|rule: String| Mistake::new(rule))
        });
        let rs485 = table.or("rs485", false, value::boolean);
        let mode = serial_mode(table);
        let topic = self.lane(table, "topic");
        let meta = table.or("meta", Metadata::default(), value::metadata);
        Some(Serial {
            name: name?,
            port: port?,
            baud,
            framing,
            rs485,
            mode: mode?,
            topic: topic?,
            meta,
        })
    }

    /// One of `[[modbus]]`.
    pub fn modbus(&mut self, table: &Table<'_, '_>) -> Option<ModbusTcp> {
        let name = self.name(table, "write name = \"inverter\"");
        let remedy = "write address = \"10.0.0.7:502\"";
        let address = table.required("address", remedy, value::host_and_port(502));
        if let Some((host, port)) = &address {
            // Many servers serve one client at a time.
            self.ports
                .check(table, "address", &format!("{host}:{port}"));
        }
        let polled = modbus_tcp(table);
        let topic = self.lane(table, "topic");
        let meta = table.or("meta", Metadata::default(), value::metadata);
        let (host, port) = address?;
        Some(ModbusTcp {
            name: name?,
            host,
            port,
            polled: polled?,
            topic: topic?,
            meta,
        })
    }

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
        let max_inflight = table.or("max_inflight", 1000, value::integer(1..=u16::MAX));
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

    fn subscription(
        &self,
        table: &Table<'_, '_>,
        version: MqttVersion,
        filters: &mut Vec<String>,
    ) -> Option<Subscription> {
        let preset = table.or("preset", MqttPreset::Json, value::one_of(presets()));
        let topic = topic(table, preset);
        if let Some((_, template)) = &topic {
            check_overlap(table, template.filter(), filters);
        }
        let (device, roles) = roles(table);
        let field = table.optional("field", value::parsed);
        let fields = table.or("fields", Vec::new(), value::paths);
        let timezone = table.optional("timezone", value::timezone);
        check_keys(table, preset, &roles);
        if let Some((_, template)) = &topic {
            let device_known = device.is_some() || roles.device.is_some();
            check_topic(table, template, preset, device_known, field.is_some());
        }
        let qos = table.or("qos", 1, |value| match value::integer(0..=2)(value)? {
            2 => Err(Mistake::fix(
                "cannot be 2: such a session cannot be resumed after a break",
                "write qos = 1: readings are stored exactly once all the same",
            )),
            qos => Ok(qos),
        });
        let retained = table.or("retained", false, value::boolean);
        let share = table.optional("share", value::share_group);
        if version == MqttVersion::V3 {
            table.refuse("user_properties", "needs version = \"5\" of [[mqtt]]");
        }
        let user_properties = table.or("user_properties", Vec::new(), value::field_names);
        let kafka_topic = self.lane(table, "kafka_topic");
        let meta = table.or("meta", Metadata::default(), value::metadata);
        Some(Subscription {
            topic: topic?.0,
            preset,
            roles,
            fields,
            timezone,
            qos,
            retained,
            device,
            field,
            share,
            user_properties,
            kafka_topic: kafka_topic?,
            meta,
        })
    }
}

/// What a file says of one message.
pub fn message(table: &Table<'_, '_>) -> MessageKeys {
    let (device, roles) = roles(table);
    MessageKeys {
        topic: table
            .optional("topic", value::template)
            .map(|(text, _)| text),
        timezone: table.optional("timezone", value::timezone),
        roles,
        fields: table.or("fields", Vec::new(), value::paths),
        device,
        field: table.optional("field", value::parsed),
    }
}

/// All presets by their words.
fn presets() -> [(&'static str, MqttPreset); 2 + Preset::ALL.len()] {
    std::array::from_fn(|at| {
        let preset = match at {
            0 => MqttPreset::Json,
            1 => MqttPreset::Number,
            at => MqttPreset::Devices(Preset::ALL[at - 2]),
        };
        (preset.as_str(), preset)
    })
}

/// The topic, or the one the preset's devices use when nobody moved them.
fn topic(table: &Table<'_, '_>, preset: MqttPreset) -> Option<(String, Template)> {
    if table.span_of("topic").is_none()
        && let MqttPreset::Devices(devices) = preset
        && let Some(usual) = devices.default_topic()
    {
        return Some((usual.to_owned(), Template::parse(usual).ok()?));
    }
    let remedy = "write topic = \"plant/{device}/{field}\"";
    table.required("topic", remedy, value::template)
}

/// Which settings mean something depends on the preset.
fn check_keys(table: &Table<'_, '_>, preset: MqttPreset, roles: &Roles) {
    match preset {
        MqttPreset::Json => {
            table.refuse(
                "field",
                "needs preset = \"number\": JSON names its own fields",
            );
            table.refuse("timezone", "needs a preset of devices, such as \"tasmota\"");
        }
        MqttPreset::Number => {
            for key in ROLE_KEYS {
                table.refuse(key, "needs preset = \"json\": a bare number has no members");
            }
            table.refuse(
                "fields",
                "needs preset = \"json\": a bare number has no members",
            );
            table.refuse("timezone", "needs a preset of devices, such as \"tasmota\"");
        }
        MqttPreset::Devices(devices) => {
            for key in ROLE_KEYS.into_iter().chain(["field", "fields"]) {
                table.refuse(key, "is known by the preset");
            }
            if roles.device.is_some() {
                let message = format!("is known by the preset {}", devices.as_str());
                table.wrong(
                    "device",
                    Mistake::fix(message, "name the device itself, or remove the line"),
                );
            }
        }
    }
}

/// A broker may send a message once for each subscription it fits: the reading would be stored twice.
fn check_overlap(table: &Table<'_, '_>, filter: String, filters: &mut Vec<String>) {
    if let Some(other) = filters.iter().find(|other| overlap(other, &filter)) {
        let message =
            format!("listens to {filter}, which overlaps {other}: readings could come twice");
        table.wrong(
            "topic",
            Mistake::fix(message, "make the topics differ in one word"),
        );
    }
    filters.push(filter);
}

/// Whether some topic fits both filters.
fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            // `a/#` also fits `a`.
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(x), Some(y)) if x == y || x == "+" || y == "+" => {}
            _ => return false,
        }
    }
}

/// What an MQTT topic has to say depends on what the payload and the settings do not.
fn check_topic(
    table: &Table<'_, '_>,
    template: &Template,
    preset: MqttPreset,
    device_known: bool,
    field_known: bool,
) {
    let by_message = matches!(preset, MqttPreset::Devices(devices) if devices.names_device());
    if !template.has_device() && !device_known && !by_message {
        let fix =
            "write {device} in the topic, or set device = \"…\" or device = { field = \"…\" }";
        table.wrong("topic", Mistake::fix("names no device", fix));
    }
    if preset != MqttPreset::Number && template.has_field() {
        let fix = "set preset = \"number\", or give the level another name";
        let message = "has {field}, but this preset names its own fields";
        table.wrong("topic", Mistake::fix(message, fix));
    }
    if preset == MqttPreset::Number && !template.has_field() && !field_known {
        let fix = "write {field} in the topic, or set field = \"temperature_c\"";
        let message = "names no field for a bare number";
        table.wrong("topic", Mistake::fix(message, fix));
    }
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn filters_overlap_when_a_topic_fits_both() {
        for (a, b, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/+", "a/b", true),
            ("a/+/c", "a/b/+", true),
            ("a/+/c", "a/b/d", false),
            ("a/+", "a/b/c", false),
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("a/#", "b/#", false),
            ("#", "x/y", true),
            ("a", "a/b", false),
        ] {
            assert_eq!(overlap(a, b), expected, "{a} {b}");
            assert_eq!(overlap(b, a), expected, "{b} {a}");
        }
    }
}
