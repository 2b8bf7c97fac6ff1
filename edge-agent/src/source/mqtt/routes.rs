//! From a topic and a payload to a reading, by the subscriptions of one broker; pure.

use protocol::{DeviceId, FieldName, Metadata, Topic};

use crate::{
    config::{MqttPreset, Roles, Subscription},
    decode::{
        self, DecodeError, Decoded,
        template::{Captures, Template, TemplateError},
    },
};

/// The subscriptions of one broker, in the order of the configuration: the first that fits counts.
#[derive(Debug, Clone)]
pub struct Routes(Vec<Route>);

/// One subscription, compiled.
#[derive(Debug, Clone)]
pub struct Route {
    template: Template,
    preset: MqttPreset,
    roles: Roles,
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
    /// What the payload says.
    pub decoded: Decoded,
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
        let roles = match subscription.preset {
            MqttPreset::Json if template.has_field() => return Err(RouteError::FieldWithJson),
            MqttPreset::Json => subscription.roles.clone(),
            MqttPreset::Number if !template.has_field() && subscription.field.is_none() => {
                return Err(RouteError::NoField);
            }
            MqttPreset::Number => Roles::default(),
        };
        if !template.has_device() && subscription.device.is_none() && roles.device.is_none() {
            return Err(RouteError::NoDevice);
        }
        Ok(Self {
            filter: template.filter(),
            template,
            preset: subscription.preset,
            roles,
            device: subscription.device.clone(),
            field: subscription.field.clone(),
            meta: super::source_meta(box_wide, &subscription.meta).map_err(RouteError::Meta)?,
            qos: subscription.qos,
            retained: subscription.retained,
            lane: subscription.kafka_topic.clone(),
        })
    }

    /// Reads a payload of this subscription.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn read(&self, captures: Captures<'_>, payload: &[u8]) -> Result<Routed, DecodeError> {
        let device = captures.device_id()?.or_else(|| self.device.clone());
        let decoded = match self.preset {
            MqttPreset::Json => decode::json::decode(payload, &self.roles)?,
            MqttPreset::Number => {
                let field = captures.field_name()?.or_else(|| self.field.clone());
                decode::number::decode(payload, &field.ok_or(DecodeError::FieldName)?)?
            }
        };
        Ok(Routed {
            decoded,
            device,
            meta: decode::merge(&self.meta, captures.meta)?,
        })
    }
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Value;

    fn subscription(topic: &str, preset: MqttPreset) -> Subscription {
        Subscription {
            topic: topic.into(),
            preset,
            roles: Roles::default(),
            qos: 1,
            retained: false,
            device: None,
            field: None,
            kafka_topic: Topic::new("t").unwrap(),
            meta: Metadata::default(),
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
        let routed = route.read(captures, b" 21 ").unwrap();
        assert_eq!(routed.device.unwrap().as_str(), "m%201");
        assert_eq!(routed.meta.iter().next().unwrap().1, "berlin");
        let (name, value) = &routed.decoded.fields[0];
        assert_eq!((name.as_str(), value), ("temp_c", &Value::Float(21.0)));

        let (route, captures) = routes.find("zigbee2mqtt/kitchen/door").unwrap();
        let routed = route.read(captures, br#"{"contact":true}"#).unwrap();
        assert_eq!(routed.device.unwrap().as_str(), "kitchen/door");
        assert!(routes.find("plant/berlin/m1").is_none());
        assert!(routes.find("zigbee2mqtt").is_none());
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
