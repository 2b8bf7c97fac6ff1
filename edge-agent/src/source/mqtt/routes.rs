//! From a topic and a payload to readings, by the subscriptions of one broker; no I/O.

use std::sync::{Mutex, PoisonError};

use protocol::{DeviceId, FieldName, Metadata, Topic};

use crate::{
    config::{MqttPreset, Roles, Subscription},
    decode::{
        self, DecodeError,
        mqtt::{self, Decoder, Options, Outcome},
        template::{Captures, Template, TemplateError},
    },
};

/// The subscriptions of one broker, in the order of the configuration: the first that fits counts.
#[derive(Debug)]
pub struct Routes(Vec<Route>);

/// One subscription, compiled.
#[derive(Debug)]
pub struct Route {
    template: Template,
    reader: Reader,
    device: Option<DeviceId>,
    field: Option<FieldName>,
    meta: Metadata,
    /// What to subscribe to.
    pub filter: String,
    /// 0 or 1.
    pub qos: u8,
    /// Whether retained messages are readings.
    pub retained: bool,
    /// Where its readings go.
    pub lane: Topic,
    availability: bool,
    /// User properties that become metadata.
    properties: Vec<FieldName>,
}

impl Routed {
    /// Whether the message says nothing that could be a reading.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outcome.readings.is_empty()
    }
}

/// How payloads are read.
#[derive(Debug)]
enum Reader {
    Json(Roles),
    Paths(Roles, Vec<(FieldName, String)>),
    Number,
    /// What it remembers is only ever touched by the poller.
    Devices(Mutex<Decoder>),
}

/// Why a subscription cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The topic is no template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// QoS 2, or none at all.
    #[error("qos must be 0 or 1, not {0}; at 1 nothing is lost or doubled here")]
    Qos(u8),
    /// Nothing names the device.
    #[error(
        "nothing names the device; set {{device}} in the topic, device = \"…\" or device = {{ field = \"…\" }}"
    )]
    NoDevice,
    /// Nothing names the value.
    #[error("nothing names the value; set {{field}} in the topic or field = \"…\"")]
    NoField,
    /// A JSON object names its values itself.
    #[error("{{field}} in the topic needs preset = \"number\"")]
    FieldWithJson,
    /// Box, source and subscription together.
    #[error("{0}")]
    Meta(DecodeError),
}

/// A payload read, and what its topic adds.
#[derive(Debug)]
pub struct Routed {
    /// What the message says.
    pub outcome: Outcome,
    /// The device by topic or configuration.
    pub device: Option<DeviceId>,
    /// Static metadata and words of the topic.
    pub meta: Metadata,
}

impl Route {
    /// Compiles a subscription; `box_wide` is `agent.meta`.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn compile(subscription: &Subscription, box_wide: &Metadata) -> Result<Self, RouteError> {
        let template = Template::parse(&subscription.topic)?;
        if subscription.qos > 1 {
            return Err(RouteError::Qos(subscription.qos));
        }
        let roles = &subscription.roles;
        let (reader, by_message) = match subscription.preset {
            MqttPreset::Number if !template.has_field() && subscription.field.is_none() => {
                return Err(RouteError::NoField);
            }
            MqttPreset::Number => (Reader::Number, false),
            _ if template.has_field() => return Err(RouteError::FieldWithJson),
            MqttPreset::Json if subscription.fields.is_empty() => {
                (Reader::Json(roles.clone()), roles.device.is_some())
            }
            MqttPreset::Json => (
                Reader::Paths(roles.clone(), subscription.fields.clone()),
                roles.device.is_some(),
            ),
            MqttPreset::Devices(preset) => {
                let options = Options {
                    timezone: subscription.timezone.clone(),
                };
                let decoder = Mutex::new(Decoder::new(preset, options));
                (Reader::Devices(decoder), preset.names_device())
            }
        };
        if !template.has_device() && subscription.device.is_none() && !by_message {
            return Err(RouteError::NoDevice);
        }
        Ok(Self {
            filter: match &subscription.share {
                Some(group) => format!("$share/{group}/{}", template.filter()),
                None => template.filter(),
            },
            template,
            reader,
            device: subscription.device.clone(),
            field: subscription.field.clone(),
            meta: super::source_meta(box_wide, &subscription.meta).map_err(RouteError::Meta)?,
            qos: subscription.qos,
            retained: subscription.retained,
            lane: subscription.kafka_topic.clone(),
            properties: subscription.user_properties.clone(),
            availability: matches!(subscription.preset, MqttPreset::Devices(preset) if preset.retains_availability()),
        })
    }

    /// Reads a message of this subscription; `message.device` is filled in here.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn read(
        &self,
        captures: Captures<'_>,
        message: &mqtt::Message<'_>,
    ) -> Result<Routed, DecodeError> {
        let single = |decoded| Outcome {
            readings: vec![decoded],
            ..Outcome::default()
        };
        // What its topic says first: an error behind the decoder would lose what that held for this message.
        let field = captures.field_name()?;
        let device = captures.device_id()?.or_else(|| self.device.clone());
        let meta = decode::merge(&self.meta, captures.meta)?;
        let outcome = match &self.reader {
            Reader::Json(roles) => single(decode::json::decode(message.payload, roles)?),
            Reader::Paths(roles, fields) => {
                single(mqtt::paths::decode(message.payload, roles, fields)?)
            }
            Reader::Number => {
                let field = field.or_else(|| self.field.clone());
                let field = field.ok_or(DecodeError::FieldName)?;
                single(decode::number::decode(message.payload, &field)?)
            }
            Reader::Devices(decoder) => {
                let message = mqtt::Message {
                    device: captures.device,
                    ..*message
                };
                unpoisoned(decoder).read(&message)?
            }
        };
        Ok(Routed {
            outcome,
            device,
            meta,
        })
    }

    /// Adds the user properties that were asked for; what is too long or too much for metadata is left out, for
    /// it describes a reading and is none.
    pub fn keep_properties(&self, properties: &[(String, String)], meta: &mut Metadata) {
        for (name, text) in properties {
            let Ok(name) = FieldName::normalise(name) else {
                continue;
            };
            if self.properties.contains(&name)
                && let Ok(more) = decode::merge(meta, vec![(name, text.as_str().into())])
            {
                *meta = more;
            }
        }
    }

    const fn decoder(&self) -> Option<&Mutex<Decoder>> {
        match &self.reader {
            Reader::Devices(decoder) => Some(decoder),
            _ => None,
        }
    }

    /// How many messages of this subscription wait for another to be understood.
    #[must_use]
    pub fn holding(&self) -> usize {
        self.decoder()
            .map_or(0, |decoder| unpoisoned(decoder).holding())
    }

    /// Whether retained messages of this subscription tell who is there.
    #[must_use]
    pub const fn retained_availability(&self) -> bool {
        self.availability
    }

    /// The device the configuration names.
    #[must_use]
    pub const fn configured_device(&self) -> Option<&DeviceId> {
        self.device.as_ref()
    }
}

/// A decoder that panicked keeps plain data: the next message finds it whole.
fn unpoisoned(decoder: &Mutex<Decoder>) -> std::sync::MutexGuard<'_, Decoder> {
    decoder.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Routes {
    /// In this order.
    #[must_use]
    pub fn new(routes: Vec<Route>) -> Self {
        Self(routes)
    }

    /// The first subscription the topic belongs to, and what it says under its template.
    #[must_use]
    pub fn find<'r, 't>(&'r self, topic: &'t str) -> Option<(&'r Route, Captures<'t>)> {
        self.0
            .iter()
            .find_map(|route| Some((route, route.template.matches(topic)?)))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }

    /// The connection broke.
    pub fn disconnected(&self) {
        for decoder in self.0.iter().filter_map(Route::decoder) {
            unpoisoned(decoder).disconnected();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::subscription, *};
    use protocol::Value;

    fn message<'m>(topic: &'m str, payload: &'m [u8]) -> mqtt::Message<'m> {
        mqtt::Message {
            topic,
            device: None,
            payload,
            at: protocol::Timestamp::UNIX_EPOCH,
            again: false,
        }
    }

    #[test]
    fn a_topic_names_device_field_and_metadata() {
        let plant = subscription("plant/{site}/{device}/{field}", MqttPreset::Number);
        let house = subscription("zigbee2mqtt/{device:**}", MqttPreset::Json);
        let none = Metadata::default();
        let routes = Routes::new(
            [plant, house]
                .iter()
                .map(|one| Route::compile(one, &none).unwrap())
                .collect(),
        );
        let filters: Vec<&str> = routes.iter().map(|route| &*route.filter).collect();
        assert_eq!(filters, ["plant/+/+/+", "zigbee2mqtt/#"]);

        let (route, captures) = routes.find("plant/berlin/m 1/Temp.C").unwrap();
        let routed = route.read(captures, &message("", b" 21 ")).unwrap();
        assert_eq!(routed.device.unwrap().as_str(), "m%201");
        assert_eq!(routed.meta.iter().next().unwrap().1, "berlin");
        let (name, value) = &routed.outcome.readings[0].fields[0];
        assert_eq!((name.as_str(), value), ("temp_c", &Value::Float(21.0)));

        let (route, captures) = routes.find("zigbee2mqtt/kitchen/door").unwrap();
        let routed = route
            .read(captures, &message("", br#"{"contact":true}"#))
            .unwrap();
        assert_eq!(routed.device.unwrap().as_str(), "kitchen/door");
        assert!(routes.find("plant/berlin/m1").is_none());
        assert!(routes.find("zigbee2mqtt").is_none());
    }

    #[test]
    fn user_properties_that_were_asked_for_become_metadata_and_a_group_is_part_of_the_filter() {
        let subscription = Subscription {
            share: Some("edge".into()),
            user_properties: vec![FieldName::new("line").unwrap()],
            ..subscription("a/{device}", MqttPreset::Json)
        };
        let route = Route::compile(&subscription, &Metadata::default()).unwrap();
        assert_eq!(route.filter, "$share/edge/a/+");
        let mut meta = Metadata::default();
        let sent = [
            ("Line", "7"),
            ("secret", "x"),
            ("line", &"y".repeat(10_000)),
        ];
        let sent = sent.map(|(name, text)| (name.to_owned(), text.to_owned()));
        route.keep_properties(&sent, &mut meta);
        let kept: Vec<(&str, &str)> = meta.iter().map(|(n, t)| (n.as_str(), t)).collect();
        assert_eq!(kept, [("line", "7")]);
    }

    #[test]
    fn a_subscription_that_cannot_work_is_refused_with_the_remedy() {
        let number = |topic| subscription(topic, MqttPreset::Number);
        let json = |topic| subscription(topic, MqttPreset::Json);
        let twice = Subscription {
            qos: 2,
            ..json("a/{device}")
        };
        for (subscription, expected) in [
            (json("a/b"), RouteError::NoDevice),
            (number("a/{device}"), RouteError::NoField),
            (json("a/{device}/{field}"), RouteError::FieldWithJson),
            (twice, RouteError::Qos(2)),
        ] {
            let error = Route::compile(&subscription, &Metadata::default()).unwrap_err();
            assert_eq!(error, expected, "{}", subscription.topic);
        }
    }
}
