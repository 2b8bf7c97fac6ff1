//! What devices that talk MQTT send, by the names people know them by.
//!
//! A preset turns topic and payload into readings, availability and rejections. It does no I/O and,
//! but for [`sparkplug`], keeps nothing from one message to the next, so `run`, `probe` and `decode`
//! give the same. Each format has its module, with its sources.
//!
//! What is common to them:
//! - A field is `quantity_unit` in the catalogue's unit ([`units`](super::units)); where the format does
//!   not say the unit there is none in the name. A name nobody knows is normalised by rule.
//! - `ON` and `OFF` are states (`true`, `false`). An empty text says nothing.
//! - A topic about availability is no reading but a [`Link`]. What is neither (commands, discovery,
//!   logs, answers) gives nothing at all, and no error.
//! - An empty payload is how MQTT deletes a retained message: it says nothing.
//! - A time without a zone is read in `timezone`; without that it is not believed, and arrival counts.

pub mod esphome;
mod gather;
pub mod mbmd;
pub mod paths;
pub mod rtl_433;
pub mod senml;
pub mod shelly;
pub mod sparkplug;
pub mod tasmota;
pub mod thin_edge;
mod time;
mod tree;
pub mod zigbee2mqtt;

use jiff::tz::TimeZone;
use protocol::Timestamp;

use super::{DecodeError, Decoded};

/// Whose messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preset {
    /// Tasmota firmware.
    Tasmota,
    /// Zigbee2MQTT.
    Zigbee2mqtt,
    /// ESPHome.
    Esphome,
    /// rtl_433, a receiver of radio sensors.
    Rtl433,
    /// mbmd, a reader of Modbus meters.
    Mbmd,
    /// thin-edge.io measurements.
    ThinEdge,
    /// Shelly, both generations.
    Shelly,
    /// SenML in JSON or CBOR, RFC 8428.
    Senml,
    /// Eclipse Sparkplug B.
    SparkplugB,
}

/// One message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'m> {
    /// The whole topic.
    pub topic: &'m str,
    /// The device, if the topic template names it.
    pub device: Option<&'m str>,
    /// As it arrived.
    pub payload: &'m [u8],
    /// When.
    pub at: Timestamp,
    /// Whether the broker sends it again on the next connection unless it is acknowledged (QoS 1).
    pub again: bool,
}

/// What the user declares about the senders.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    /// The zone of times that name none.
    pub timezone: Option<TimeZone>,
}

/// Somebody came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The device by its own name; `None` for the bridge everything behind this broker goes through.
    pub device: Option<String>,
    /// Whether it can be reached.
    pub online: bool,
}

/// What one message says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// Readings, in the order of the message.
    pub readings: Vec<Decoded>,
    /// Who came or went.
    pub links: Vec<Link>,
    /// Parts of the message that are no readings, by their place in it; the rest was read.
    pub rejected: Vec<(Box<str>, DecodeError)>,
    /// Messages to be published in answer.
    pub requests: Vec<Request>,
    /// This message waits for another to be understood: it is neither a reading yet nor rejected.
    pub held: bool,
}

/// A message a decoder needs somebody to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// To this topic, at QoS 0, not retained.
    pub topic: String,
    /// With this payload.
    pub payload: Vec<u8>,
}

/// The preset of one subscription, and what it remembers.
#[derive(Debug)]
pub struct Decoder {
    preset: Preset,
    options: Options,
    sparkplug: sparkplug::Host,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Tasmota,
        Self::Zigbee2mqtt,
        Self::Esphome,
        Self::Rtl433,
        Self::Mbmd,
        Self::ThinEdge,
        Self::Shelly,
        Self::Senml,
        Self::SparkplugB,
    ];

    /// The word in configuration and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tasmota => "tasmota",
            Self::Zigbee2mqtt => "zigbee2mqtt",
            Self::Esphome => "esphome",
            Self::Rtl433 => "rtl_433",
            Self::Mbmd => "mbmd",
            Self::ThinEdge => "thin-edge",
            Self::Shelly => "shelly",
            Self::Senml => "senml",
            Self::SparkplugB => "sparkplug-b",
        }
    }

    /// The topics it is found under when nobody moved it; `None` for SenML, which has none.
    #[must_use]
    pub const fn default_topic(self) -> Option<&'static str> {
        match self {
            Self::Tasmota => Some("tele/{device}/+"),
            Self::Zigbee2mqtt => Some("zigbee2mqtt/{device:**}"),
            Self::Esphome => Some("+/#"),
            Self::Rtl433 => Some("rtl_433/#"),
            Self::Mbmd => Some("mbmd/{device}/#"),
            Self::ThinEdge => Some("te/#"),
            Self::Shelly => Some("shellies/{device}/#"),
            Self::Senml => None,
            Self::SparkplugB => Some("spBv1.0/#"),
        }
    }

    /// Whether availability topics are retained there, as wills are everywhere but in Sparkplug.
    #[must_use]
    pub const fn retains_availability(self) -> bool {
        !matches!(self, Self::SparkplugB | Self::Senml)
    }

    /// Whether its messages name the device without help of the topic template.
    #[must_use]
    pub const fn names_device(self) -> bool {
        matches!(
            self,
            Self::Esphome | Self::Rtl433 | Self::ThinEdge | Self::Senml | Self::SparkplugB
        )
    }
}

impl Decoder {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(preset: Preset, options: Options) -> Self {
        Self {
            preset,
            options,
            sparkplug: sparkplug::Host::default(),
        }
    }

    /// How many messages wait for another to be understood. When this falls to 0, what was held is in the
    /// outcome of that message.
    #[must_use]
    pub fn holding(&self) -> usize {
        self.sparkplug.holding()
    }

    /// The connection broke: what was missed is not known, and what was not acknowledged comes again.
    pub fn disconnected(&mut self) {
        self.sparkplug.disconnected();
    }

    /// Reads one message.
    ///
    /// # Errors
    /// Nothing of it can be read.
    pub fn read(&mut self, message: &Message<'_>) -> Result<Outcome, DecodeError> {
        let options = &self.options;
        if message.payload.is_empty() && self.preset != Preset::SparkplugB {
            return Ok(Outcome::default());
        }
        match self.preset {
            Preset::Tasmota => tasmota::decode(message, options),
            Preset::Zigbee2mqtt => zigbee2mqtt::decode(message, options),
            Preset::Esphome => esphome::decode(message),
            Preset::Rtl433 => rtl_433::decode(message, options),
            Preset::Mbmd => mbmd::decode(message),
            Preset::ThinEdge => thin_edge::decode(message, options),
            Preset::Shelly => shelly::decode(message),
            Preset::Senml => senml::decode(message),
            Preset::SparkplugB => self.sparkplug.read(message),
        }
    }
}

impl Outcome {
    /// Of one reading or none.
    #[must_use]
    pub fn reading(reading: Option<Decoded>) -> Self {
        Self {
            readings: reading.into_iter().collect(),
            ..Self::default()
        }
    }

    fn link(device: Option<&str>, online: bool) -> Self {
        Self {
            links: vec![Link {
                device: device.map(Into::into),
                online,
            }],
            ..Self::default()
        }
    }
}

/// Words for "here" and "gone", in whatever case, bare or as `{"state": …}`.
fn availability(payload: &[u8]) -> Option<bool> {
    fn word(text: &str) -> Option<bool> {
        let word = text.trim().trim_matches('"').to_ascii_lowercase();
        match word.as_str() {
            "online" | "true" | "connected" | "up" | "1" | "ready" => Some(true),
            "offline" | "false" | "disconnected" | "down" | "0" | "lost" | "sleeping" => {
                Some(false)
            }
            _ => None,
        }
    }
    if payload.len() > 4096 {
        return None;
    }
    let text = std::str::from_utf8(payload).ok()?;
    if !text.trim_start().starts_with('{') {
        return word(text);
    }
    tree::read_object(payload, |members| {
        let said = ["state", "status", "online"]
            .iter()
            .find_map(|name| tree::get(members, name));
        Ok(match said {
            Some(tree::Node::Leaf(super::Scalar::Bool(online))) => Some(*online),
            Some(node) => node.word().and_then(word),
            None => None,
        })
    })
    .ok()
    .flatten()
}

/// A topic about availability whose payload says neither.
const NEITHER: DecodeError =
    DecodeError::NotAsPreset("availability that is neither online nor offline");

#[cfg(test)]
mod tests;
