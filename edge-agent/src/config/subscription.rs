//! `[[mqtt.subscribe]]`: what a topic means, and how its payloads are read.

use protocol::{DeviceId, FieldName, Metadata, Topic};

use super::{
    MqttVersion, Roles,
    document::{Mistake, Table},
    roles::{ROLE_KEYS, roles},
    sources::Sources,
    value,
};
use crate::decode::{mqtt::Preset, template::Template};

/// One of `subscribe = [ … ]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    /// `plant/{site}/{device}/{field}`: what the levels of the topic mean. `{device}` is one level,
    /// `{device:**}` the rest, `{field}` names the value, any other word is metadata; `+` and `#` as ever.
    /// Required, but for presets of devices that have a usual topic.
    pub topic: String,
    /// How a payload is read: `json` (default), `number`, or as a device speaks: `tasmota` …
    pub preset: MqttPreset,
    /// Which members of a JSON payload are not values.
    pub roles: Roles,
    /// `fields = { temperature_c = "main.temp" }`: take only these members of a JSON payload, by path;
    /// default all of them.
    pub fields: Vec<(FieldName, String)>,
    /// The zone of times that name none, for the presets of devices; default none: such times are not
    /// believed.
    pub timezone: Option<jiff::tz::TimeZone>,
    /// 0 or 1, default 1. 2 is refused: at 1 the effect here is the same.
    pub qos: u8,
    /// Retained messages are state, not readings, and are passed by; default false.
    pub retained: bool,
    /// The device, when neither topic nor payload names it.
    pub device: Option<DeviceId>,
    /// The field of a `number`, when the topic does not name it.
    pub field: Option<FieldName>,
    /// A shared subscription: of all clients with this group, the broker gives each message to one; default
    /// none. Order is then nobody's promise.
    pub share: Option<String>,
    /// Version 5: user properties that become metadata; default none.
    pub user_properties: Vec<FieldName>,
    /// Where its readings go; default `kafka.topic`.
    pub kafka_topic: Topic,
    /// Static metadata of its readings; default none.
    pub meta: Metadata,
}

/// How an MQTT payload is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MqttPreset {
    /// One JSON object; nested objects become `outer_inner`.
    #[default]
    Json,
    /// One bare number, boolean or text.
    Number,
    /// What these devices send, by their own topics.
    Devices(crate::decode::mqtt::Preset),
}

impl MqttPreset {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Number => "number",
            Self::Devices(preset) => preset.as_str(),
        }
    }
}

impl Sources<'_> {
    pub fn subscription(
        &self,
        table: &Table<'_, '_>,
        version: MqttVersion,
        filters: &mut Vec<String>,
    ) -> Option<Subscription> {
        let preset = table.optional("preset", value::one_of(presets()));
        // What a preset that nobody knows would have allowed is not known either.
        let is_known = preset.is_some() || table.span_of("preset").is_none();
        let preset = preset.unwrap_or_default();
        let topic = topic(table, preset);
        if let Some((_, template)) = &topic {
            check_overlap(table, template.filter(), filters);
        }
        let (device, roles) = roles(table);
        let field = table.optional("field", value::parsed);
        let fields = table.or("fields", Vec::new(), value::paths);
        let timezone = table.optional("timezone", value::timezone);
        if is_known {
            check_keys(table, preset, &roles);
        }
        if let Some((_, template)) = topic.as_ref().filter(|_| is_known) {
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
pub fn overlap(a: &str, b: &str) -> bool {
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
