//! What a device speaks, by name: the formats that need no more than their name.
//!
//! `mode` of a serial line, `decode --as` and `probe` all come here, so they cannot differ.

use std::{str::FromStr, sync::Arc};

use protocol_host::config::document::nearest;

pub use super::pms::Variant;
use super::{
    dsmr::Dsmr,
    mhz19::{self, MhZ19},
    modbus::{self, Asked, Map, Profile, ProfileError},
    nmea::Nmea,
    pms::Pms,
    sds011::Sds011,
    stream::Stream,
    text::Text,
    ve_direct::VeDirect,
};
use crate::config::{LineFormat, Roles};

/// Longest line where nothing else is configured.
const MAX_LINE: usize = 1 << 20;

/// A format.
#[derive(Debug, Clone, PartialEq)]
pub enum Preset {
    /// `nmea`: satellite receivers.
    Nmea,
    /// `dsmr`: smart meters.
    Dsmr,
    /// `ve-direct`: Victron.
    VeDirect,
    /// `pms5003` and its family: particles.
    Pms(Variant),
    /// `sds011`: particles.
    Sds011,
    /// `mh-z19`: CO₂.
    MhZ19,
    /// `modbus:PROFILE`: RTU frames on a serial line.
    Modbus(Arc<Map>),
    /// `modbus-tcp:PROFILE`: frames of a TCP connection.
    ModbusTcp(Arc<Map>),
    /// `json`, `key-value`, `csv`, `influx`: a reading a line.
    Lines(LineFormat),
}

/// Why a name is no preset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PresetError {
    /// Nobody knows it.
    #[error(
        "no preset is called {0:?}{meant}; there are nmea, dsmr, ve-direct, pms5003, pms5003s, pms5003t, \
         pms5003st, sds011, mh-z19, modbus:PROFILE, modbus-tcp:PROFILE, json, key-value, csv, influx; of \
         one MQTT payload number, tasmota, zigbee2mqtt, esphome, rtl_433, mbmd, thin-edge, shelly, senml, \
         sparkplug-b",
        meant = meant(.0)
    )]
    Unknown(String),
    /// Modbus without knowing which registers.
    #[error("modbus needs the name of a profile, as in modbus:sdm120")]
    NoProfile,
    /// Modbus with a profile nobody knows.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A pattern has to come from somewhere.
    #[error("regex needs --config with a pattern")]
    NoPattern,
}

/// What `decode --as` takes, for who mistypes it.
const NAMES: [&str; 26] = [
    "nmea",
    "dsmr",
    "ve-direct",
    "pms5003",
    "pms5003s",
    "pms5003t",
    "pms5003st",
    "sds011",
    "mh-z19",
    "modbus",
    "modbus-tcp",
    "json",
    "key-value",
    "csv",
    "influx",
    "regex",
    "number",
    "tasmota",
    "zigbee2mqtt",
    "esphome",
    "rtl_433",
    "mbmd",
    "thin-edge",
    "shelly",
    "senml",
    "sparkplug-b",
];

fn meant(given: &str) -> String {
    let (name, profile) = match given.split_once(':') {
        Some((name, profile)) => (name, format!(":{profile}")),
        None => (given, String::new()),
    };
    match nearest(name, NAMES.into_iter()) {
        Some(meant) if meant.starts_with("modbus") => format!(", did you mean {meant}{profile}?"),
        Some(meant) => format!(", did you mean {meant}?"),
        None => String::new(),
    }
}

impl FromStr for Preset {
    type Err = PresetError;

    /// Dots, dashes, underscores and case do not matter: `VE.Direct` is `ve-direct`.
    fn from_str(text: &str) -> Result<Self, PresetError> {
        let (name, profile) = match text.split_once(':') {
            Some((name, profile)) => (name, Some(profile)),
            None => (text, None),
        };
        let plain: String = name
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .collect();
        if let Some(profile) = profile {
            return match plain.as_str() {
                "modbus" | "modbusrtu" => built_in(profile).map(Self::Modbus),
                "modbustcp" => built_in(profile).map(Self::ModbusTcp),
                _ => Err(PresetError::Unknown(text.to_owned())),
            };
        }
        Ok(match plain.as_str() {
            "nmea" | "nmea0183" | "gps" | "gnss" => Self::Nmea,
            "dsmr" | "dsmrp1" | "p1" => Self::Dsmr,
            "vedirect" => Self::VeDirect,
            "pms" | "pms5003" | "pms1003" | "pms2003" | "pms3003" | "pms6003" | "pms7003"
            | "pmsa003" | "pms5003st" | "pms5003family" => Self::Pms(Variant::Plain),
            "pms5003s" => Self::Pms(Variant::Formaldehyde),
            "pms5003t" => Self::Pms(Variant::Climate),
            "sds" | "sds011" | "sds018" | "sds021" | "sds198" => Self::Sds011,
            "mhz" | "mhz19" | "mhz19b" | "mhz19c" | "mhz14" | "mhz14a" | "mhz16" => Self::MhZ19,
            "modbus" | "modbusrtu" | "modbustcp" => return Err(PresetError::NoProfile),
            "json" | "lines" => Self::Lines(LineFormat::Json),
            "keyvalue" | "kv" => Self::Lines(LineFormat::KeyValue),
            "csv" => Self::Lines(LineFormat::Csv {
                separator: b',',
                columns: Vec::new(),
            }),
            "influx" | "influxlineprotocol" | "lineprotocol" => Self::Lines(LineFormat::Influx),
            "regex" => return Err(PresetError::NoPattern),
            _ => return Err(PresetError::Unknown(text.to_owned())),
        })
    }
}

impl Preset {
    /// Whether a stream tells several devices apart, so that one configured name cannot stand for all.
    #[must_use]
    pub fn has_many_devices(&self) -> bool {
        matches!(
            self,
            Self::Dsmr | Self::Modbus(_) | Self::ModbusTcp(_) | Self::Lines(_)
        )
    }

    /// What to send to a device that speaks only when asked; `unit` is its Modbus address. Empty for all
    /// others.
    #[must_use]
    pub fn questions(&self, unit: u8) -> Vec<Vec<u8>> {
        match self {
            Self::MhZ19 => vec![mhz19::REQUEST.to_vec()],
            Self::Modbus(map) => map
                .requests()
                .into_iter()
                .map(|request| Asked { unit, request }.frame().to_vec())
                .collect(),
            Self::ModbusTcp(map) => map
                .requests()
                .into_iter()
                .map(|request| Asked { unit, request }.tcp_frame(0).to_vec())
                .collect(),
            _ => Vec::new(),
        }
    }

    /// A stream of this format, at its beginning.
    #[must_use]
    pub fn stream(&self) -> Stream {
        match self {
            Self::Nmea => Stream::new(Nmea::default()),
            Self::Dsmr => Stream::new(Dsmr::default()),
            Self::VeDirect => Stream::new(VeDirect::default()),
            Self::Pms(variant) => Stream::new(Pms(*variant)),
            Self::Sds011 => Stream::new(Sds011),
            Self::MhZ19 => Stream::new(MhZ19::default()),
            Self::Modbus(map) => Stream::new(modbus::Rtu::new(Arc::clone(map))),
            Self::ModbusTcp(map) => Stream::new(modbus::Tcp::new(Arc::clone(map))),
            Self::Lines(format) => lines(format.clone(), Roles::default(), MAX_LINE),
        }
    }
}

/// The registers of a profile that comes with the agent.
///
/// # Errors
/// [`PresetError::Profile`].
pub fn built_in(name: &str) -> Result<Arc<Map>, PresetError> {
    Ok(Arc::new(Profile::built_in(name)?.map))
}

/// The registers of a profile in a file; `name` names its devices.
///
/// # Errors
/// [`PresetError::Profile`].
pub fn profile(name: &str, text: &str) -> Result<Arc<Map>, PresetError> {
    Ok(Arc::new(Profile::parse(name, text)?.map))
}

/// A stream of lines read as configured.
#[must_use]
pub fn lines(format: LineFormat, roles: Roles, max_line_bytes: usize) -> Stream {
    Stream::new(Text::new(format, roles, max_line_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_preset_is_told_what_was_meant() {
        for (given, meant) in [
            ("tasmotta", Some("tasmota")),
            ("zigbe2mqtt", Some("zigbee2mqtt")),
            ("nema", Some("nmea")),
            ("modbuss:sdm120", Some("modbus:sdm120")),
            ("toaster", None),
        ] {
            let said = given.parse::<Preset>().unwrap_err().to_string();
            match meant {
                Some(meant) => assert!(said.contains(&format!("did you mean {meant}?")), "{said}"),
                None => assert!(!said.contains("did you mean"), "{said}"),
            }
        }
    }

    #[test]
    fn every_name_that_may_be_meant_is_one() {
        for name in NAMES {
            let is_stream = !matches!(name.parse::<Preset>(), Err(PresetError::Unknown(_)));
            let is_payload = name == "number"
                || super::super::mqtt::Preset::ALL
                    .into_iter()
                    .any(|preset| preset.as_str() == name);
            assert!(is_stream || is_payload, "{name}");
        }
    }
}
