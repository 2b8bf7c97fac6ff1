//! The effective configuration as TOML: what [`super::load`] would read the same again, but for secrets.

use std::collections::BTreeMap;

use protocol::Metadata;
use protocol_host::config::show::{self, Keys};
use toml::{Table, Value};

use super::{
    Config, LineFormat, ModbusTcp, Mqtt, MqttVersion, Polled, PolledDevice, Roles, Serial,
    SerialMode, Subscription, TimeFormat, TopicSettings, limits,
    value::{show_bytes, show_duration},
};
use crate::{
    decode::preset::Preset,
    process::{Outside, Rule},
};

fn meta(meta: &Metadata) -> Option<Table> {
    let entries: Table = meta
        .iter()
        .map(|(name, text)| (name.to_string(), text.into()))
        .collect();
    (!entries.is_empty()).then_some(entries)
}

fn roles(keys: Keys, roles: &Roles) -> Keys {
    let format: Value = match &roles.time_format {
        TimeFormat::Rfc3339 => "rfc3339".into(),
        TimeFormat::UnixSeconds => "unix-seconds".into(),
        TimeFormat::UnixMillis => "unix-millis".into(),
        TimeFormat::UnixMicros => "unix-micros".into(),
        TimeFormat::UnixNanos => "unix-nanos".into(),
        TimeFormat::Pattern(pattern) => Table::from_iter([
            ("pattern".to_owned(), pattern.pattern().into()),
            ("zone".to_owned(), pattern.zone().into()),
        ])
        .into(),
    };
    let member = |name: &String| Table::from_iter([("field".to_owned(), name.clone().into())]);
    keys.maybe("device", roles.device.as_ref().map(member))
        .maybe("time", roles.time.clone())
        .maybe("time_format", roles.time.as_ref().map(|_| format))
        .maybe("sequence", roles.sequence.clone())
        .maybe("boot", roles.boot.clone())
}

impl Config {
    /// As TOML, without secrets.
    #[must_use]
    pub fn show(&self) -> String {
        let agent = Keys::default()
            .set("gateway", self.agent.gateway.as_str())
            .set("state_dir", text(&self.agent.state_dir))
            .set(
                "shutdown_timeout",
                show_duration(self.agent.shutdown_timeout),
            )
            .maybe("meta", meta(&self.agent.meta));
        let listen = match self.status.listen {
            Some(address) => address.to_string(),
            None => "off".to_owned(),
        };
        let serial: Vec<Value> = self.serial.iter().map(|s| show_serial(s).into()).collect();
        let modbus: Vec<Value> = self.modbus.iter().map(|m| show_modbus(m).into()).collect();
        let process: Vec<Value> = self.process.iter().map(|r| show_rule(r).into()).collect();
        let mqtt: Vec<Value> = self.mqtt.iter().map(|m| show_mqtt(m).into()).collect();
        let topics: Vec<Value> = self.topics.iter().map(|t| show_topic(t).into()).collect();
        Keys::default()
            .set("agent", agent.0)
            .maybe("serial", (!serial.is_empty()).then_some(serial))
            .maybe("modbus", (!modbus.is_empty()).then_some(modbus))
            .maybe("mqtt", (!mqtt.is_empty()).then_some(mqtt))
            .maybe("process", (!process.is_empty()).then_some(process))
            .set("queue", self.show_queue())
            .set("kafka", self.show_kafka())
            .maybe("registry", self.show_registry())
            .maybe("topic", (!topics.is_empty()).then_some(topics))
            .set("status", Keys::default().set("listen", listen).0)
            .0
            .to_string()
    }

    fn show_queue(&self) -> Table {
        let queue = &self.queue;
        Keys::default()
            .set("max_bytes", show_bytes(queue.max_bytes))
            .set("max_age", show_duration(queue.max_age))
            .set("min_free_bytes", show_bytes(queue.min_free_bytes))
            .set("when_full", queue.when_full.as_str())
            .set("commit_every", show_duration(queue.commit_every))
            .set("segment_bytes", show_bytes(queue.segment_bytes))
            .set("segment_age", show_duration(queue.segment_age))
            .0
    }

    fn show_registry(&self) -> Option<Table> {
        let keys = self.kafka.client.registry.as_ref()?.show();
        let keys = keys
            .set("auto_register", self.schemas.auto_register)
            .set("use_latest", self.schemas.use_latest);
        Some(keys.0)
    }

    fn show_kafka(&self) -> Table {
        let properties: BTreeMap<&str, &str> = self.kafka.client.shown();
        let properties: Table = properties
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        Keys::default()
            .set("topic", self.kafka.topic.as_str())
            .set("control_topic", self.kafka.control_topic.as_str())
            .set("value", self.kafka.value.as_str())
            .set("allow_plaintext", self.kafka.client.allow_plaintext)
            .set("properties", properties)
            .0
    }
}

fn show_topic(topic: &TopicSettings) -> Table {
    let keys = Keys::default()
        .set("name", topic.name.as_str())
        .maybe("value", topic.value.map(|value| value.as_str()))
        .set("fields", show::fields(&topic.fields));
    limits::show(keys, &topic.bounds, &topic.limits).0
}

fn text(path: &std::path::Path) -> String {
    path.display().to_string()
}

fn show_serial(serial: &Serial) -> Table {
    let keys = Keys::default()
        .set("name", serial.name.clone())
        .set("port", text(&serial.port))
        .set("baud", i64::from(serial.baud))
        .set("framing", serial.framing.to_string())
        .set("rs485", serial.rs485)
        .set("topic", serial.topic.as_str())
        .maybe("meta", meta(&serial.meta));
    let lines = match &serial.mode {
        SerialMode::Frames => return keys.set("mode", "frames").0,
        SerialMode::Device(device) => {
            return keys
                .set("mode", device.name)
                .set("device", device.device.as_str())
                .0;
        }
        SerialMode::Polled(polled) => return show_polled(keys.set("mode", polled.name), polled),
        SerialMode::Lines(lines) => lines,
    };
    let keys = roles(keys.set("mode", "lines"), &lines.roles)
        .maybe(
            "device",
            lines.device.as_ref().map(|device| device.as_str()),
        )
        .set(
            "max_line_bytes",
            i64::try_from(lines.max_line_bytes).unwrap_or(i64::MAX),
        );
    match &lines.format {
        LineFormat::Json => keys.set("format", "json").0,
        LineFormat::KeyValue => keys.set("format", "key-value").0,
        LineFormat::Influx => keys.set("format", "influx").0,
        LineFormat::Regex(pattern) => {
            keys.set("format", "regex")
                .set("pattern", pattern.as_str())
                .0
        }
        LineFormat::Csv { separator, columns } => {
            keys.set("format", "csv")
                .set("separator", char::from(*separator).to_string())
                .set("columns", columns.clone())
                .0
        }
    }
}

fn show_modbus(modbus: &ModbusTcp) -> Table {
    let host = match modbus.host.contains(':') {
        true => format!("[{}]", modbus.host),
        false => modbus.host.clone(),
    };
    let keys = Keys::default()
        .set("name", modbus.name.clone())
        .set("address", format!("{host}:{}", modbus.port))
        .set("topic", modbus.topic.as_str())
        .maybe("meta", meta(&modbus.meta));
    show_polled(keys, &modbus.polled)
}

fn show_rule(rule: &Rule) -> Table {
    let outside = match rule.outside {
        Outside::Drop => "drop",
        Outside::Clamp => "clamp",
        Outside::Flag => "flag",
    };
    let bounded = rule.min.is_some() || rule.max.is_some();
    let on_change = rule.on_change.map(|on_change| {
        Keys::default()
            .set("dead_band", on_change.dead_band)
            .set("heartbeat", show_duration(on_change.heartbeat))
            .0
    });
    let window = rule.window.as_ref().map(|window| {
        let keep: Vec<&str> = window.keep.iter().map(|kept| kept.as_str()).collect();
        Keys::default()
            .set("every", show_duration(window.every))
            .set("keep", keep)
            .0
    });
    let name = |name: &protocol::FieldName| name.to_string();
    Keys::default()
        .maybe("source", rule.source.clone())
        .maybe("device", rule.device.as_ref().map(ToString::to_string))
        .maybe("field", rule.field.as_ref().map(name))
        .maybe("rename", rule.rename.as_ref().map(name))
        .maybe("scale", rule.scale)
        .maybe("offset", rule.offset)
        .maybe("unit", rule.unit.clone())
        .maybe("min", rule.min)
        .maybe("max", rule.max)
        .maybe("outside", bounded.then_some(outside))
        .set("drop", rule.drop)
        .maybe("meta", meta(&rule.meta))
        .maybe("on_change", on_change)
        .maybe("window", window)
        .0
}

fn show_polled(keys: Keys, polled: &Polled) -> Table {
    let keys = keys
        .set("timeout", show_duration(polled.timeout))
        .set("turnaround", show_duration(polled.turnaround))
        .set("retries", i64::from(polled.retries));
    let device = |device: &PolledDevice| match &device.preset {
        Preset::Modbus(map) | Preset::ModbusTcp(map) => {
            Keys::default()
                .set("id", device.id.as_str())
                .set("unit", i64::from(device.unit))
                .set("profile", map.name.as_str())
                .set("every", show_duration(device.every))
                .0
        }
        _ => Table::new(),
    };
    match &polled.devices[..] {
        [only] if !matches!(only.preset, Preset::Modbus(_) | Preset::ModbusTcp(_)) => keys
            .set("device", only.id.as_str())
            .set("every", show_duration(only.every)),
        devices => keys.set("device", devices.iter().map(device).collect::<Vec<Table>>()),
    }
    .0
}

fn show_mqtt(mqtt: &Mqtt) -> Table {
    let url = &mqtt.url;
    let scheme = if url.tls { "mqtts" } else { "mqtt" };
    let v5 = mqtt.version == MqttVersion::V5;
    let host = if url.host.contains(':') {
        format!("[{}]", url.host)
    } else {
        url.host.clone()
    };
    let subscribe: Vec<Value> = mqtt
        .subscribe
        .iter()
        .map(|subscription| show_subscription(subscription).into())
        .collect();
    Keys::default()
        .set("name", mqtt.name.clone())
        .set("url", format!("{scheme}://{host}:{}", url.port))
        .set("client_id", mqtt.client_id.clone())
        .maybe("username", mqtt.username.clone())
        .maybe("password", mqtt.password.as_ref().map(show::secret))
        .maybe("tls_ca", mqtt.tls_ca.as_deref().map(text))
        .maybe("tls_cert", mqtt.tls_cert.as_deref().map(text))
        .maybe("tls_key", mqtt.tls_key.as_deref().map(text))
        .set("allow_plaintext", mqtt.allow_plaintext)
        .set("version", if v5 { "5" } else { "3.1.1" })
        .maybe(
            "session_expiry",
            v5.then(|| show_duration(mqtt.session_expiry)),
        )
        .set("max_packet_bytes", show_bytes(mqtt.max_packet_bytes as u64))
        .set("max_inflight", i64::from(mqtt.max_inflight))
        .maybe("status_topic", mqtt.status_topic.clone())
        .set("subscribe", subscribe)
        .0
}

fn show_subscription(subscription: &Subscription) -> Table {
    let fields: Table = subscription
        .fields
        .iter()
        .map(|(name, path)| (name.to_string(), path.clone().into()))
        .collect();
    let fields = (!fields.is_empty()).then_some(fields);
    let timezone = subscription
        .timezone
        .as_ref()
        .and_then(jiff::tz::TimeZone::iana_name);
    let keys = Keys::default()
        .set("topic", subscription.topic.clone())
        .set("preset", subscription.preset.as_str());
    roles(keys, &subscription.roles)
        .maybe("fields", fields)
        .maybe("timezone", timezone)
        .maybe(
            "device",
            subscription.device.as_ref().map(|device| device.as_str()),
        )
        .maybe(
            "field",
            subscription.field.as_ref().map(|field| field.as_str()),
        )
        .set("qos", i64::from(subscription.qos))
        .set("retained", subscription.retained)
        .maybe("share", subscription.share.clone())
        .maybe(
            "user_properties",
            (!subscription.user_properties.is_empty()).then(|| {
                let names = subscription.user_properties.iter();
                names.map(ToString::to_string).collect::<Vec<_>>()
            }),
        )
        .set("kafka_topic", subscription.kafka_topic.as_str())
        .maybe("meta", meta(&subscription.meta))
        .0
}
