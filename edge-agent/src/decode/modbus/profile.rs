//! Profiles: the register maps of devices people own, one data file each.
//!
//! ```toml
//! model = "Eastron SDM120-Modbus"
//! source = "Eastron, SDM120-Modbus protocol V2.4, table 3X"    # where the numbers come from
//! register = "input"         # defaults of the fields: coil, discrete, holding or input;
//! type = "FLOAT32"           # INT16 UINT16 INT32 UINT32 INT64 UINT64 FLOAT32 FLOAT64 BOOL BCD STRING
//! order = "ABCD"             # ABCD DCBA BADC CDAB
//! either = true              # functions 3 and 4 read the same registers; default false
//! gap = 10                   # registers that may be read and left to join two neighbours; default 0
//! most = 80                  # registers in one request; default 60
//! fields = [
//!   { name = "voltage_v", address = 0x0000 },
//!   { name = "frequency_hz", address = 0x0046, scale = 0.1, offset = 0, absent = 0xffff },
//!   { name = "alarm", address = 8, type = "BOOL", bit = 0 },
//!   { name = "serial", address = 16, type = "STRING", length = 4 },        # in registers, also for BCD
//!   { name = "voltage_v", address = 0x2000, poll = false },    # understood, not asked for
//! ]
//! ```
//!
//! Adding a device is adding a file to `profiles/` and its line to [`BUILT_IN`].

use protocol::FieldName;
use serde::Deserialize;

use super::map::{Kind, Map, Order, Point, Scale, Space};

/// Every profile that comes with the agent.
pub const BUILT_IN: [(&str, &str); 22] = [
    ("abb-b23", include_str!("../../profiles/abb-b23.toml")),
    ("ddsu666", include_str!("../../profiles/ddsu666.toml")),
    (
        "deye-sg04lp3",
        include_str!("../../profiles/deye-sg04lp3.toml"),
    ),
    ("dtsu666", include_str!("../../profiles/dtsu666.toml")),
    ("em111", include_str!("../../profiles/em111.toml")),
    ("em340", include_str!("../../profiles/em340.toml")),
    (
        "epever-tracer",
        include_str!("../../profiles/epever-tracer.toml"),
    ),
    ("iem3155", include_str!("../../profiles/iem3155.toml")),
    ("or-we-504", include_str!("../../profiles/or-we-504.toml")),
    ("or-we-514", include_str!("../../profiles/or-we-514.toml")),
    ("pro380", include_str!("../../profiles/pro380.toml")),
    (
        "pzem-004t-v3",
        include_str!("../../profiles/pzem-004t-v3.toml"),
    ),
    ("pzem-017", include_str!("../../profiles/pzem-017.toml")),
    (
        "renogy-rover",
        include_str!("../../profiles/renogy-rover.toml"),
    ),
    ("sdm120", include_str!("../../profiles/sdm120.toml")),
    ("sdm220", include_str!("../../profiles/sdm220.toml")),
    ("sdm230", include_str!("../../profiles/sdm230.toml")),
    ("sdm630", include_str!("../../profiles/sdm630.toml")),
    ("sdm72", include_str!("../../profiles/sdm72.toml")),
    ("sdm72-v2", include_str!("../../profiles/sdm72-v2.toml")),
    ("ws100", include_str!("../../profiles/ws100.toml")),
    ("xy-md02", include_str!("../../profiles/xy-md02.toml")),
];

/// A device's description.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// What it is called on its front.
    pub model: String,
    /// Where the register table was found.
    pub source: String,
    /// The registers.
    pub map: Map,
}

/// Why a file is no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// No such name.
    #[error("no profile is called {0:?}; there are {list}", list = names())]
    Unknown(String),
    /// Not TOML, or not these keys.
    #[error("not a profile: {0}")]
    Toml(String),
    /// One field is wrong.
    #[error("field {name:?}: {why}")]
    Field {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

fn names() -> String {
    BUILT_IN.map(|(name, _)| name).join(", ")
}

impl Profile {
    /// The names that [`Profile::built_in`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    model: String,
    source: String,
    register: Option<Space>,
    r#type: Option<String>,
    order: Option<Order>,
    #[serde(default)]
    either: bool,
    #[serde(default)]
    gap: u16,
    #[serde(default = "most")]
    most: u16,
    fields: Vec<Field>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Field {
    name: String,
    address: u16,
    register: Option<Space>,
    r#type: Option<String>,
    order: Option<Order>,
    bit: Option<u8>,
    length: Option<u16>,
    scale: Option<f64>,
    offset: Option<f64>,
    absent: Option<u64>,
    #[serde(default = "yes")]
    poll: bool,
}

fn most() -> u16 {
    60
}

fn yes() -> bool {
    true
}

impl Profile {
    /// The profile of that name.
    ///
    /// # Errors
    /// [`ProfileError::Unknown`].
    pub fn built_in(name: &str) -> Result<Self, ProfileError> {
        let name = name.to_ascii_lowercase();
        let known = BUILT_IN.iter().find(|(have, _)| *have == name);
        let (name, text) = known.ok_or(ProfileError::Unknown(name))?;
        Self::parse(name, text)
    }

    /// Reads a profile; `name` names its devices.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        let file: File =
            toml::from_str(text).map_err(|error| ProfileError::Toml(error.to_string()))?;
        let mut points = Vec::with_capacity(file.fields.len());
        for field in &file.fields {
            let point = point(&file, field).map_err(|why| ProfileError::Field {
                name: field.name.clone(),
                why,
            })?;
            let twice = |have: &Point| have.poll && point.poll && have.name == point.name;
            if points.iter().any(twice) {
                return Err(ProfileError::Field {
                    name: field.name.clone(),
                    why: "appears twice",
                });
            }
            points.push(point);
        }
        points.sort_by_key(|point| (point.space, point.address));
        let map = Map {
            name: name.to_owned(),
            either: file.either,
            gap: file.gap,
            most: file.most.clamp(4, 125),
            points,
        };
        Ok(Self {
            model: file.model,
            source: file.source,
            map,
        })
    }
}

fn point(file: &File, field: &Field) -> Result<Point, &'static str> {
    let name = FieldName::new(field.name.as_str()).map_err(|_| "name is not a-z 0-9 _")?;
    let space = field.register.or(file.register);
    let space = space.ok_or("needs register = \"holding\" or \"input\"")?;
    let bits = matches!(space, Space::Coil | Space::Discrete);
    let word = field.r#type.as_deref().or(file.r#type.as_deref());
    let kind = match word {
        _ if bits => Kind::Bool(0),
        Some("BOOL" | "BIT") => Kind::Bool(field.bit.unwrap_or(0)),
        Some("INT16") => Kind::Int16,
        Some("UINT16") => Kind::Uint16,
        Some("INT32") => Kind::Int32,
        Some("UINT32") => Kind::Uint32,
        Some("INT64") => Kind::Int64,
        Some("UINT64") => Kind::Uint64,
        Some("FLOAT32" | "FLOAT32-IEEE") => Kind::Float32,
        Some("FLOAT64" | "FLOAT64-IEEE") => Kind::Float64,
        Some("BCD") => Kind::Bcd(field.length.unwrap_or(1)),
        Some("STRING") => Kind::Text(field.length.ok_or("needs length, in registers")?),
        Some(_) => return Err("type is not known"),
        None => return Err("needs a type"),
    };
    if matches!(kind, Kind::Bool(16..)) {
        return Err("bit is not 0 to 15");
    }
    let widest = if matches!(kind, Kind::Bcd(_)) { 4 } else { 125 };
    if !(1..=widest).contains(&kind.width()) {
        return Err("length is out of range");
    }
    if field.address.checked_add(kind.width() - 1).is_none() {
        return Err("goes beyond the last register");
    }
    let scale = field.scale.unwrap_or(1.0);
    if scale == 0.0 || !scale.is_finite() || !field.offset.unwrap_or(0.0).is_finite() {
        return Err("scale and offset must be finite, scale not 0");
    }
    Ok(Point {
        name,
        space,
        address: field.address,
        kind,
        order: field.order.or(file.order).unwrap_or_default(),
        scale: Scale::from(scale),
        offset: field.offset.unwrap_or(0.0),
        absent: field.absent,
        poll: field.poll,
    })
}
