//! What is played: devices, their links, and faults; a TOML file.
//!
//! ```toml
//! [[device]]
//! id = "meter-1"                       # with count > 1 the first of meter-1-1, meter-1-2, …
//! kind = "meter"                       # meter | climate | air-quality | machine
//! every = "100ms"                      # one reading each; default 1s
//! count = 1
//! ring = 512                           # readings kept until acknowledged, then it stops measuring
//! link = { pty = { mode = "frames" } } # or { pty = { mode = "lines", format = "json" } }
//!                                      # or { mqtt = { topic = "plant/hall-1/{device}/state" } }
//!                                      # or, as they are bought: { line = { speaks = "nmea" } },
//!                                      # { modbus = { slaves = [ { unit = 1, profile = "sdm120" } ] } },
//!                                      # { publish = { as = "tasmota" } }
//! [[fault]]
//! kind = "duplicate"                   # fault.rs lists them
//! devices = ["meter-*"]                # default all
//! rate = 0.02                          # of the transmissions; or every = "20s", lasts = "2s"
//! from = "5s"
//! until = "40s"
//! ```

use std::{collections::BTreeSet, str::FromStr, time::Duration};

use protocol::DeviceId;
use serde::Deserialize;

use crate::{
    device::{Kind, text::Format},
    fault::Rule,
    native::{line::Speech, modbus::Slaves, publish::Publisher},
};

/// Why a text is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Not TOML, or a key or value that is not expected; says line and column.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// Two devices of the same name.
    #[error("device id {0} appears twice; give each device an id of its own")]
    DuplicateDevice(String),
    /// A fault that strikes nothing.
    #[error("fault {number} ({kind}) concerns no device of this scenario: {devices:?}")]
    IdleFault {
        /// Counted from 1.
        number: usize,
        /// Its kind.
        kind: String,
        /// Its patterns.
        devices: Vec<String>,
    },
    /// Nothing to play.
    #[error("the scenario has no [[device]]")]
    Empty,
}

/// What is played.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Seed of signals and faults; default 0; `--seed` overrides it.
    pub seed: u64,
    /// Each single device.
    pub devices: Vec<Device>,
    /// What goes wrong.
    pub faults: Vec<Rule>,
}

/// One device.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Its name, on every link.
    pub id: String,
    /// What it measures.
    pub kind: Kind,
    /// Time from one reading to the next.
    pub every: Duration,
    /// Readings kept until acknowledged.
    pub ring: usize,
    /// How it is connected.
    pub link: Link,
}

/// How a device is connected.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Link {
    /// A serial line: a pseudo terminal with the device's name in the pty directory.
    Pty(Pty),
    /// A broker; QoS 1.
    Mqtt(Mqtt),
    /// A serial line, with what such a device says; no part of the truth.
    Line(Line),
    /// A serial line or a server with Modbus slaves; no part of the truth.
    Modbus(Slaves),
    /// A broker, in the words of such a firmware; no part of the truth.
    Publish(Publisher),
}

/// `link = { line = { speaks = "nmea" } }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// What.
    pub speaks: Speech,
}

/// What is spoken on a serial line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Pty {
    /// Our protocol: acknowledged, sent again.
    Frames {},
    /// One reading a line; nothing can be acknowledged.
    Lines {
        /// How a line is written.
        #[serde(default)]
        format: Format,
    },
}

/// Where a device publishes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mqtt {
    /// Topic; `{device}` stands for the id.
    pub topic: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioText {
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    device: Vec<DeviceText>,
    #[serde(default)]
    fault: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceText {
    id: DeviceId,
    kind: Kind,
    every: Option<Span>,
    count: Option<std::num::NonZeroU32>,
    ring: Option<std::num::NonZeroU32>,
    link: Link,
}

/// A time span as people write it: `200ms`, `30s`, `2m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|span| Duration::try_from(span).ok())
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no time span; write it like 200ms, 30s or 2m"))
    }
}

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Scenario {
    type Err = ScenarioError;

    fn from_str(text: &str) -> Result<Self, ScenarioError> {
        let read: ScenarioText = toml::from_str(text)?;
        let devices: Vec<Device> = read.device.into_iter().flat_map(single_devices).collect();
        if devices.is_empty() {
            return Err(ScenarioError::Empty);
        }
        let mut ids = BTreeSet::new();
        if let Some(twice) = devices.iter().find(|device| !ids.insert(&device.id)) {
            return Err(ScenarioError::DuplicateDevice(twice.id.clone()));
        }
        for (at, rule) in read.fault.iter().enumerate() {
            if !devices.iter().any(|device| rule.concerns(&device.id)) {
                return Err(ScenarioError::IdleFault {
                    number: at + 1,
                    kind: format!("{:?}", rule.kind).to_lowercase(),
                    devices: rule.devices.clone(),
                });
            }
        }
        Ok(Self {
            seed: read.seed,
            devices,
            faults: read.fault,
        })
    }
}

impl Scenario {
    /// One device on a serial line of its name: a [`Kind`] speaks our frames, a [`Speech`] as it is bought.
    ///
    /// # Errors
    /// It is neither; says what there is.
    pub fn one_line(name: &str) -> Result<Self, String> {
        let (kind, link) = if let Ok(kind) = word(name) {
            (kind, Link::Pty(Pty::Frames {}))
        } else {
            let speaks: Speech = word(name).map_err(|_| {
                "is not played on a line; write meter, climate, air-quality, machine, nmea, dsmr, ve-direct, pms5003, \
                 sds011 or mh-z19"
            })?;
            (Kind::Climate, Link::Line(Line { speaks }))
        };
        let device = Device {
            id: name.to_owned(),
            kind,
            every: Duration::from_secs(1),
            ring: 512,
            link,
        };
        Ok(Self {
            seed: 0,
            devices: vec![device],
            faults: Vec::new(),
        })
    }
}

/// A value by the word that a scenario has for it.
fn word<'w, T: Deserialize<'w>>(word: &'w str) -> Result<T, serde::de::value::Error> {
    T::deserialize(serde::de::value::StrDeserializer::new(word))
}

fn single_devices(text: DeviceText) -> impl Iterator<Item = Device> {
    let count = text.count.map_or(1, |count| count.get());
    let ring = text.ring.map_or(512, |ring| ring.get());
    (1..=count).map(move |number| Device {
        id: match count {
            1 => text.id.to_string(),
            _ => format!("{}-{number}", text.id),
        },
        kind: text.kind,
        every: text.every.map_or(Duration::from_secs(1), |span| span.0),
        ring: usize::try_from(ring).unwrap_or(usize::MAX),
        link: text.link.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_scenarios_are_valid() {
        for text in [
            include_str!("../scenarios/demo.toml"),
            include_str!("../scenarios/faults.toml"),
            include_str!("../scenarios/house.toml"),
        ] {
            let scenario: Scenario = text.parse().unwrap();
            assert!(scenario.devices.len() >= 4);
        }
    }

    #[test]
    fn one_device_needs_no_scenario() {
        for kind in Kind::ALL {
            let scenario = Scenario::one_line(kind.as_str()).unwrap();
            let [device] = scenario.devices.as_slice() else {
                panic!("{scenario:?}");
            };
            assert_eq!((&*device.id, device.kind), (kind.as_str(), kind));
            assert_eq!(device.link, Link::Pty(Pty::Frames {}));
        }
        let scenario = Scenario::one_line("ve-direct").unwrap();
        let speaks = Speech::VeDirect;
        assert_eq!(scenario.devices[0].link, Link::Line(Line { speaks }));
        let error = Scenario::one_line("toaster").unwrap_err();
        for name in ["meter", "air-quality", "nmea", "mh-z19"] {
            assert!(error.contains(name) && Scenario::one_line(name).is_ok());
        }
    }

    #[test]
    fn a_count_makes_devices_with_numbers() {
        let text = r#"
            [[device]]
            id = "m"
            kind = "meter"
            count = 2
            every = "200ms"
            link = { mqtt = { topic = "plant/{device}" } }
        "#;
        let scenario: Scenario = text.parse().unwrap();
        let ids: Vec<_> = scenario.devices.iter().map(|device| &*device.id).collect();
        assert_eq!(ids, ["m-1", "m-2"]);
        assert_eq!(scenario.devices[0].every, Duration::from_millis(200));
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let device =
            "[[device]]\nid = \"m\"\nkind = \"meter\"\nlink = { pty = { mode = \"frames\" } }\n";
        for (addition, expected) in [
            ("evry = \"1s\"\n", "line 5, column 1"),
            ("every = \"soon\"\n", "soon"),
            ("[[fault]]\nkind = \"drop\"\n", "drop needs rate"),
            (
                "[[fault]]\nkind = \"drop\"\nrate = 1.5\n",
                "drop needs rate",
            ),
            (
                "[[fault]]\nkind = \"reboot\"\nrate = 0.5\n",
                "reboot needs every",
            ),
            ("[[fault]]\nkind = \"smoke\"\nrate = 0.5\n", "smoke"),
            (
                "[[fault]]\nkind = \"drop\"\nrate = 0.5\ndevices = [\"x\"]\n",
                "fault 1 (drop) concerns no device",
            ),
            (device, "m appears twice"),
        ] {
            let error = format!("{device}{addition}")
                .parse::<Scenario>()
                .unwrap_err();
            let error = error.to_string();
            assert!(error.contains(expected), "{addition:?} gave {error}");
        }
        assert!(matches!("".parse::<Scenario>(), Err(ScenarioError::Empty)));
    }
}
