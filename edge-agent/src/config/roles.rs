//! Which members of a payload are not values: who measured, when, and under which number.

use protocol::{DeviceId, FieldName};

use super::{
    document::{Expected, Mistake, Table, Value},
    value,
};
use crate::decode::time::TimePattern;

/// Which members of a payload are not values. Each is the member's name, absent by default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Roles {
    /// `device = { field = "id" }`: the device's name.
    pub device: Option<String>,
    /// `time = "ts"`: when it was measured.
    pub time: Option<String>,
    /// `time_format`: how to read it; default RFC 3339.
    pub time_format: TimeFormat,
    /// `sequence = "seq"`: the device's own number, by which a retransmission is recognised.
    pub sequence: Option<String>,
    /// `boot = "boot"`: what changes from start to start of the device; without it boot is 0.
    pub boot: Option<String>,
}

/// How a time is written.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum TimeFormat {
    /// `"rfc3339"`: `2026-11-23T21:04:07.113Z`.
    #[default]
    Rfc3339,
    /// `"unix-seconds"`: since 1970, with decimals or without.
    UnixSeconds,
    /// `"unix-millis"`: since 1970.
    UnixMillis,
    /// `"unix-micros"`: since 1970.
    UnixMicros,
    /// `"unix-nanos"`: since 1970.
    UnixNanos,
    /// `{ pattern = "%d.%m.%Y %H:%M:%S", zone = "Europe/Berlin" }`: strftime's letters; the zone counts where
    /// the text has no offset of its own, default UTC.
    Pattern(TimePattern),
}

/// What may be said of one MQTT message that is read by itself: the keys of `[[mqtt.subscribe]]` that are about
/// reading.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MessageKeys {
    /// The template its topic is of.
    pub topic: Option<String>,
    /// The zone of times that name none.
    pub timezone: Option<jiff::tz::TimeZone>,
    /// Which members of JSON are not values.
    pub roles: Roles,
    /// Only these members of JSON, by path.
    pub fields: Vec<(FieldName, String)>,
    /// The device, where nothing else names it.
    pub device: Option<DeviceId>,
    /// The field of a `number`.
    pub field: Option<FieldName>,
}

/// Keys of [`roles`] beside `device`.
pub const ROLE_KEYS: [&str; 4] = ["time", "time_format", "sequence", "boot"];

/// Where a device's name comes from.
enum DeviceFrom {
    Config(DeviceId),
    Payload(String),
}

fn device(value: &Value<'_>) -> Result<DeviceFrom, Mistake> {
    let Some(table) = value.get_ref().as_table() else {
        let or_member = |mistake: Mistake| mistake.or_expects(Expected::Table);
        let device = value::parsed(value).map(DeviceFrom::Config);
        return device.map_err(or_member);
    };
    match table.get("field") {
        Some(field) if table.len() == 1 => value::text(field).map(DeviceFrom::Payload),
        _ => Err(Mistake::new(
            "must be a name in quotes, or { field = \"id\" } where the payload has it",
        )),
    }
}

/// Reads which members of a payload are not values, `device` among them.
pub fn roles(table: &Table<'_, '_>) -> (Option<DeviceId>, Roles) {
    let (fixed, member) = match table.optional("device", device) {
        Some(DeviceFrom::Config(device)) => (Some(device), None),
        Some(DeviceFrom::Payload(field)) => (None, Some(field)),
        None => (None, None),
    };
    let roles = Roles {
        device: member,
        time: table.optional("time", value::text),
        time_format: table.or("time_format", TimeFormat::Rfc3339, time_format),
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

fn time_format(value: &Value<'_>) -> Result<TimeFormat, Mistake> {
    let Some(table) = value.get_ref().as_table() else {
        let word = value::one_of([
            ("rfc3339", 0),
            ("unix-seconds", 1),
            ("unix-millis", 2),
            ("unix-micros", 3),
            ("unix-nanos", 4),
        ]);
        let or_pattern = |mistake: Mistake| mistake.or_expects(Expected::Table);
        return Ok(match word(value).map_err(or_pattern)? {
            0 => TimeFormat::Rfc3339,
            1 => TimeFormat::UnixSeconds,
            2 => TimeFormat::UnixMillis,
            3 => TimeFormat::UnixMicros,
            _ => TimeFormat::UnixNanos,
        });
    };
    let known = |key: &str| matches!(key, "pattern" | "zone");
    let (Some(pattern), true) = (
        table.get("pattern"),
        table.keys().all(|key| known(key.get_ref())),
    ) else {
        return Err(Mistake::new(
            "must be a word, or { pattern = \"%d.%m.%Y %H:%M:%S\", zone = \"Europe/Berlin\" }",
        ));
    };
    let zone = table.get("zone").map(value::text).transpose()?;
    TimePattern::new(&value::text(pattern)?, zone.as_deref().unwrap_or("UTC"))
        .map(TimeFormat::Pattern)
        .map_err(|error| Mistake::new(error.to_string()))
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
