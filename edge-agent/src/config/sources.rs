//! `[[serial]]` and `[[mqtt]]`, and what they have to agree on.

use std::collections::BTreeSet;

use protocol::{DeviceId, GatewayId, Metadata, Topic};

use super::{
    LineFormat, Lines, Mqtt, MqttPreset, Roles, Secrets, Serial, SerialMode, Subscription,
    TimeFormat, WhenFull,
    document::{Mistake, Table, Value},
    sections::{Unique, each},
    value,
};
use crate::decode::template::Template;

/// What the sources have to agree with, and among each other.
pub struct Sources<'a> {
    /// `agent.gateway`, where it is right.
    pub gateway: Option<&'a GatewayId>,
    /// `kafka.topic`, where it is right.
    pub topic: Option<&'a Topic>,
    /// `kafka.control_topic`.
    pub control_topic: Option<&'a Topic>,
    /// `queue.when_full`.
    pub when_full: WhenFull,
    /// Whether to read secrets.
    pub secrets: Secrets,
    /// Names of sources.
    pub names: Unique,
    /// Serial ports.
    pub ports: Unique,
    /// MQTT sessions.
    pub sessions: Unique,
}

/// Where a device's name comes from.
enum DeviceFrom {
    Config(DeviceId),
    Payload(String),
}

fn device(value: &Value<'_>) -> Result<DeviceFrom, Mistake> {
    let Some(table) = value.get_ref().as_table() else {
        return value::parsed(value).map(DeviceFrom::Config);
    };
    match table.get("field") {
        Some(field) if table.len() == 1 => value::text(field).map(DeviceFrom::Payload),
        _ => Err(Mistake::new(
            "must be a name in quotes, or { field = \"id\" } where the payload has it",
        )),
    }
}

const ROLE_KEYS: [&str; 4] = ["time", "time_format", "sequence", "boot"];

/// Reads which members of a payload are not values, `device` among them.
fn roles(table: &Table<'_, '_>) -> (Option<DeviceId>, Roles) {
    let (fixed, member) = match table.optional("device", device) {
        Some(DeviceFrom::Config(device)) => (Some(device), None),
        Some(DeviceFrom::Payload(field)) => (None, Some(field)),
        None => (None, None),
    };
    let roles = Roles {
        device: member,
        time: table.optional("time", value::text),
        time_format: table.or(
            "time_format",
            TimeFormat::Rfc3339,
            value::one_of([
                ("rfc3339", TimeFormat::Rfc3339),
                ("unix-seconds", TimeFormat::UnixSeconds),
                ("unix-millis", TimeFormat::UnixMillis),
            ]),
        ),
        sequence: table.optional("sequence", value::text),
        boot: table.optional("boot", value::text),
    };
    if roles.time.is_none() && table.span_of("time_format").is_some() {
        let fix = "name the member that holds it: time = \"ts\"";
        table.wrong("time_format", Mistake::fix("has no time to read", fix));
    }
    if roles.boot.is_some() && table.span_of("sequence").is_none() {
        let fix = "name the member that counts: sequence = \"seq\"";
        table.wrong(
            "boot",
            Mistake::fix("means nothing without a sequence", fix),
        );
    }
    (fixed, roles)
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
        let mode = serial_mode(table);
        let topic = self.lane(table, "topic");
        let meta = table.or("meta", Metadata::default(), value::metadata);
        Some(Serial {
            name: name?,
            port: port?,
            baud,
            mode: mode?,
            topic: topic?,
            meta,
        })
    }

    /// One of `[[mqtt]]`.
    pub fn mqtt(&mut self, table: &Table<'_, '_>) -> Option<Mqtt> {
        let name = self.name(table, "write name = \"house\"");
        let url = table.required("url", "write url = \"mqtt://host:1883\"", value::mqtt_url);
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
        let tls_ca = table.optional("tls_ca", value::path);
        if let (Some(_), Some(false)) = (&tls_ca, url.as_ref().map(|url| url.tls)) {
            let message = "means nothing without TLS";
            table.wrong("tls_ca", Mistake::fix(message, "write mqtts:// in url"));
        }
        let max_packet_bytes =
            table.or("max_packet_bytes", 1 << 20, value::bytes(1 << 10..=1 << 20));
        let max_inflight = table.or("max_inflight", 1000, value::integer(1..=u16::MAX));
        let mut filters = Unique::default();
        let subscribe = each(table, "subscribe", |entry| {
            self.subscription(entry, &mut filters)
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
        self.check_lanes(table, subscribe.as_deref().unwrap_or_default());
        Some(Mqtt {
            name: name?,
            url: url?,
            client_id: client_id?,
            username,
            password,
            tls_ca,
            max_packet_bytes,
            max_inflight,
            subscribe: subscribe?,
        })
    }

    /// Acknowledgements go out in the order of arrival, so one lane that blocks would stop the others.
    fn check_lanes(&self, table: &Table<'_, '_>, subscriptions: &[Subscription]) {
        let lanes: BTreeSet<&str> = subscriptions
            .iter()
            .map(|s| s.kafka_topic.as_str())
            .collect();
        if self.when_full == WhenFull::Block && lanes.len() > 1 {
            let lanes: Vec<&str> = lanes.into_iter().collect();
            let message = format!(
                "feeds {} lanes ({}), but with queue.when_full = \"block\" one full lane would stop the others",
                lanes.len(),
                lanes.join(", ")
            );
            let fix = "give each kafka_topic a [[mqtt]] of its own";
            table.wrong("subscribe", Mistake::fix(message, fix));
        }
    }

    fn subscription(&self, table: &Table<'_, '_>, filters: &mut Unique) -> Option<Subscription> {
        let remedy = "write topic = \"plant/{device}/{field}\"";
        let topic = table.required("topic", remedy, value::template);
        if let Some((_, template)) = &topic {
            filters.check(table, "topic", &template.filter());
        }
        let preset = table.or(
            "preset",
            MqttPreset::Json,
            value::one_of([("json", MqttPreset::Json), ("number", MqttPreset::Number)]),
        );
        let (device, roles) = roles(table);
        let field = table.optional("field", value::parsed);
        if preset == MqttPreset::Number {
            for key in ROLE_KEYS {
                table.refuse(key, "needs preset = \"json\": a bare number has no members");
            }
        } else if field.is_some() {
            let message = "needs preset = \"number\": JSON names its own fields";
            table.wrong("field", Mistake::fix(message, "remove the line"));
        }
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
        let kafka_topic = self.lane(table, "kafka_topic");
        let meta = table.or("meta", Metadata::default(), value::metadata);
        Some(Subscription {
            topic: topic?.0,
            preset,
            roles,
            qos,
            retained,
            device,
            field,
            kafka_topic: kafka_topic?,
            meta,
        })
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
    if !template.has_device() && !device_known {
        let fix =
            "write {device} in the topic, or set device = \"…\" or device = { field = \"…\" }";
        table.wrong("topic", Mistake::fix("names no device", fix));
    }
    if preset == MqttPreset::Json && template.has_field() {
        let fix = "set preset = \"number\", or give the level another name";
        let message = "has {field}, but JSON names its own fields";
        table.wrong("topic", Mistake::fix(message, fix));
    }
    if preset == MqttPreset::Number && !template.has_field() && !field_known {
        let fix = "write {field} in the topic, or set field = \"temperature_c\"";
        let message = "names no field for a bare number";
        table.wrong("topic", Mistake::fix(message, fix));
    }
}

const LINES_KEYS: [&str; 5] = ["device", "format", "columns", "separator", "max_line_bytes"];

fn serial_mode(table: &Table<'_, '_>) -> Option<SerialMode> {
    #[derive(Clone, Copy)]
    enum Mode {
        Frames,
        Lines,
    }
    let words = [("frames", Mode::Frames), ("lines", Mode::Lines)];
    let remedy = "write mode = \"frames\" (our protocol) or mode = \"lines\" (text)";
    match table.required("mode", remedy, value::one_of(words)) {
        Some(Mode::Frames) => {
            for key in LINES_KEYS.into_iter().chain(ROLE_KEYS) {
                table.refuse(key, "needs mode = \"lines\": frames carry it themselves");
            }
            Some(SerialMode::Frames)
        }
        Some(Mode::Lines) => lines(table).map(SerialMode::Lines),
        None => {
            // Which keys belong is not known, so none of them is called unknown.
            for key in LINES_KEYS.into_iter().chain(ROLE_KEYS) {
                table.optional(key, |_| Ok(()));
            }
            None
        }
    }
}

fn lines(table: &Table<'_, '_>) -> Option<Lines> {
    let (device, roles) = roles(table);
    if table.span_of("device").is_none() {
        let fix =
            "write device = \"meter-1\", or device = { field = \"id\" } where each line names it";
        table.wrong("device", Mistake::fix("is missing", fix));
    }
    let format = line_format(table, &roles);
    let max_line_bytes = table.or("max_line_bytes", 4096, value::integer(16..=1 << 20));
    Some(Lines {
        device,
        format: format?,
        roles,
        max_line_bytes,
    })
}

fn line_format(table: &Table<'_, '_>, roles: &Roles) -> Option<LineFormat> {
    #[derive(Clone, Copy, PartialEq)]
    enum Format {
        Json,
        KeyValue,
        Csv,
    }
    let words = [
        ("json", Format::Json),
        ("key-value", Format::KeyValue),
        ("csv", Format::Csv),
    ];
    let remedy = "write format = \"json\", \"key-value\" or \"csv\"";
    let format = table.required("format", remedy, value::one_of(words))?;
    if format != Format::Csv {
        table.refuse("columns", "needs format = \"csv\"");
        table.refuse("separator", "needs format = \"csv\"");
    }
    match format {
        Format::Json => Some(LineFormat::Json),
        Format::KeyValue => Some(LineFormat::KeyValue),
        Format::Csv => {
            let separator = table.or("separator", b',', value::separator);
            let remedy =
                "name them in order: columns = [\"temperature_c\", \"\"]; an empty name is skipped";
            let columns = table.required("columns", remedy, value::columns)?;
            for (key, member) in [
                ("device", &roles.device),
                ("time", &roles.time),
                ("sequence", &roles.sequence),
                ("boot", &roles.boot),
            ] {
                if let Some(member) = member.as_ref().filter(|m| !columns.contains(m)) {
                    let message =
                        format!("names the column \"{member}\", which columns does not have");
                    table.wrong(key, Mistake::new(message));
                }
            }
            Some(LineFormat::Csv { separator, columns })
        }
    }
}
