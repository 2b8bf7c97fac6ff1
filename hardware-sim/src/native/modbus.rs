//! Modbus slaves with the registers of the agent's own profiles, and with what real ones do wrong.
//!
//! The profile files are the agent's; reading and encoding them is this module's own.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Deserialize;

use super::{line::crc16, plausible};
use crate::{scenario::Span, signal::Moment};

/// A profile by its name, as the agent ships it.
macro_rules! profiles {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_str!(concat!("../../../edge-agent/src/profiles/", $name, ".toml")))),+]
    };
}

/// Every profile the agent ships.
const PROFILES: [(&str, &str); 22] = profiles![
    "abb-b23",
    "ddsu666",
    "deye-sg04lp3",
    "dtsu666",
    "em111",
    "em340",
    "epever-tracer",
    "iem3155",
    "or-we-504",
    "or-we-514",
    "pro380",
    "pzem-004t-v3",
    "pzem-017",
    "renogy-rover",
    "sdm120",
    "sdm220",
    "sdm230",
    "sdm630",
    "sdm72",
    "sdm72-v2",
    "ws100",
    "xy-md02",
];

/// The names of the profiles that can be played.
pub fn profiles() -> impl Iterator<Item = &'static str> {
    PROFILES.iter().map(|(name, _)| *name)
}

/// `link = { modbus = { slaves = [ { unit = 1, profile = "sdm120" } ] } }`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slaves {
    /// Who answers.
    pub slaves: Vec<Slave>,
    /// An address for Modbus TCP; without it a serial line under the device's name.
    #[serde(default)]
    pub listen: Option<std::net::SocketAddr>,
    /// What goes wrong.
    #[serde(default)]
    pub misbehave: Misbehave,
}

/// One slave.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slave {
    /// Its address.
    pub unit: u8,
    /// Whose registers it has.
    pub profile: String,
}

/// Shares of the requests, and a delay of all.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Misbehave {
    /// Answered with "server device busy".
    pub exception: f64,
    /// Not answered.
    pub silence: f64,
    /// Answered in the name of another unit.
    pub wrong_unit: f64,
    /// Before each answer.
    pub delay: Option<Span>,
}

/// Why a profile cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// No such name.
    #[error("profile {0:?} is not among those that can be played: {list}", list = names())]
    Unknown(String),
    /// Not what the agent reads.
    #[error("profile {0}: {1}")]
    Toml(String, String),
    /// A field whose registers cannot be made here.
    #[error("profile {0}: registers of type {1} cannot be played")]
    Type(String, String),
}

fn names() -> String {
    PROFILES.map(|(name, _)| name).join(", ")
}

/// What [`Point::words`] can make.
const KINDS: [&str; 12] = [
    "INT16",
    "UINT16",
    "BOOL",
    "BIT",
    "INT32",
    "UINT32",
    "INT64",
    "UINT64",
    "FLOAT32",
    "FLOAT32-IEEE",
    "FLOAT64",
    "FLOAT64-IEEE",
];

#[derive(Deserialize)]
struct File {
    register: Option<String>,
    r#type: Option<String>,
    order: Option<String>,
    #[serde(default)]
    either: bool,
    fields: Vec<Field>,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    address: u16,
    register: Option<String>,
    r#type: Option<String>,
    order: Option<String>,
    scale: Option<f64>,
    offset: Option<f64>,
}

/// The registers of one slave.
#[derive(Debug)]
pub struct Registers {
    either: bool,
    points: Vec<Point>,
}

#[derive(Debug)]
struct Point {
    name: String,
    input: bool,
    address: u16,
    kind: String,
    order: String,
    scale: f64,
    offset: f64,
}

impl Registers {
    /// Those of a profile.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn of(profile: &str) -> Result<Self, ProfileError> {
        let known = PROFILES.iter().find(|(name, _)| *name == profile);
        let (_, text) = known.ok_or_else(|| ProfileError::Unknown(profile.to_owned()))?;
        let file: File = toml::from_str(text)
            .map_err(|error| ProfileError::Toml(profile.to_owned(), error.to_string()))?;
        let or = |own: &Option<String>, all: &Option<String>, usual: &str| {
            let said = own.as_ref().or(all.as_ref());
            said.map_or_else(|| usual.to_owned(), Clone::clone)
        };
        let points = file.fields.iter().map(|field| {
            let kind = or(&field.r#type, &file.r#type, "UINT16");
            let space = or(&field.register, &file.register, "holding");
            let known = KINDS.contains(&kind.as_str());
            if !known || !matches!(space.as_str(), "holding" | "input") {
                let what = format!("{kind} in {space}");
                return Err(ProfileError::Type(profile.to_owned(), what));
            }
            Ok(Point {
                name: field.name.clone(),
                input: space == "input",
                address: field.address,
                kind,
                order: or(&field.order, &file.order, "ABCD"),
                scale: field.scale.unwrap_or(1.0),
                offset: field.offset.unwrap_or(0.0),
            })
        });
        Ok(Self {
            either: file.either,
            points: points.collect::<Result<_, _>>()?,
        })
    }

    /// The words from `first` on; `None` where one is asked for that no value is near.
    fn read(&self, input: bool, first: u16, count: u16, at: &Moment) -> Option<Vec<u8>> {
        let mut data = vec![0; usize::from(count) * 2];
        let mut any = false;
        for point in &self.points {
            if point.input != input && !self.either {
                continue;
            }
            let words = point.words(at);
            let Some(from) = point.address.checked_sub(first).map(usize::from) else {
                continue;
            };
            if let Some(place) = data.get_mut(from * 2..from * 2 + words.len()) {
                place.copy_from_slice(&words);
                any = true;
            }
        }
        any.then_some(data)
    }
}

impl Point {
    fn words(&self, at: &Moment) -> Vec<u8> {
        let number = (plausible(&self.name, at) - self.offset) / self.scale;
        let whole = number.round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a meter saturates as well"
        )]
        let mut bytes = match self.kind.as_str() {
            "INT16" => (whole as i16).to_be_bytes().to_vec(),
            "BOOL" | "BIT" => vec![0, 0],
            "INT32" => (whole as i32).to_be_bytes().to_vec(),
            "UINT32" => (whole as u32).to_be_bytes().to_vec(),
            "INT64" => (whole as i64).to_be_bytes().to_vec(),
            "UINT64" => (whole as u64).to_be_bytes().to_vec(),
            "FLOAT32" | "FLOAT32-IEEE" => (number as f32).to_be_bytes().to_vec(),
            "FLOAT64" | "FLOAT64-IEEE" => number.to_be_bytes().to_vec(),
            _ => (whole as u16).to_be_bytes().to_vec(),
        };
        if matches!(self.order.as_str(), "CDAB" | "DCBA") {
            bytes.reverse();
            bytes.chunks_exact_mut(2).for_each(<[u8]>::reverse);
        }
        if matches!(self.order.as_str(), "BADC" | "DCBA") {
            bytes.chunks_exact_mut(2).for_each(<[u8]>::reverse);
        }
        bytes
    }
}

/// The slaves of one line or server.
#[derive(Debug)]
pub struct Bus {
    slaves: Vec<(u8, Registers)>,
    misbehave: Misbehave,
    dice: SmallRng,
}

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nobody is meant, or nobody answers.
    Silence,
    /// This, after the delay: unit, function, data.
    Say(Vec<u8>, Duration),
}

impl Bus {
    /// # Errors
    /// [`ProfileError`].
    pub fn new(settings: &Slaves, seed: u64) -> Result<Self, ProfileError> {
        let slaves = settings.slaves.iter();
        let slaves: Result<Vec<_>, ProfileError> = slaves
            .map(|slave| Ok((slave.unit, Registers::of(&slave.profile)?)))
            .collect();
        Ok(Self {
            slaves: slaves?,
            misbehave: settings.misbehave.clone(),
            dice: SmallRng::seed_from_u64(seed),
        })
    }

    /// Answers unit, function, address and count.
    pub fn answer(&mut self, request: &[u8], at: &Moment) -> Reply {
        let &[unit, function, a0, a1, c0, c1] = request else {
            return Reply::Silence;
        };
        let Some((_, registers)) = self.slaves.iter().find(|(own, _)| *own == unit) else {
            return Reply::Silence;
        };
        let first = u16::from_be_bytes([a0, a1]);
        let count = u16::from_be_bytes([c0, c1]);
        let delay = self.misbehave.delay.map_or(Duration::ZERO, |span| span.0);
        if falls(&mut self.dice, self.misbehave.silence) {
            return Reply::Silence;
        }
        if falls(&mut self.dice, self.misbehave.exception) {
            return Reply::Say(vec![unit, function | 0x80, 6], delay);
        }
        let data = match function {
            3 | 4 if (1..=125).contains(&count) => registers.read(function == 4, first, count, at),
            3 | 4 => None,
            _ => return Reply::Say(vec![unit, function | 0x80, 1], delay),
        };
        let Some(data) = data else {
            return Reply::Say(vec![unit, function | 0x80, 2], delay);
        };
        let unit = match falls(&mut self.dice, self.misbehave.wrong_unit) {
            true => unit.wrapping_add(1),
            false => unit,
        };
        let bytes = u8::try_from(data.len()).unwrap_or(u8::MAX);
        let mut reply = vec![unit, function, bytes];
        reply.extend(data);
        Reply::Say(reply, delay)
    }
}

fn falls(dice: &mut SmallRng, share: f64) -> bool {
    dice.random_bool(share.clamp(0.0, 1.0))
}

/// Cuts a request off the front of what was heard on a serial line; bytes that are none are dropped.
pub fn cut_rtu(heard: &mut Vec<u8>) -> Option<Vec<u8>> {
    while heard.len() >= 8 {
        let (body, sum) = (&heard[..6], [heard[6], heard[7]]);
        if crc16(0xffff, body).to_le_bytes() == sum {
            let request = body.to_vec();
            heard.drain(..8);
            return Some(request);
        }
        heard.remove(0);
    }
    None
}

/// A frame of a serial line.
#[must_use]
pub fn rtu(mut body: Vec<u8>) -> Vec<u8> {
    let sum = crc16(0xffff, &body).to_le_bytes();
    body.extend(sum);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> Moment {
        Moment::new(7, "d", 1_800_000_000, 5, 1000)
    }

    fn bus(misbehave: Misbehave) -> Bus {
        let settings = Slaves {
            slaves: vec![Slave {
                unit: 3,
                profile: "sdm120".into(),
            }],
            listen: None,
            misbehave,
        };
        Bus::new(&settings, 1).unwrap()
    }

    #[test]
    fn a_slave_has_the_registers_of_its_profile_and_says_no_to_others() {
        let mut bus = bus(Misbehave::default());
        let Reply::Say(reply, _) = bus.answer(&[3, 4, 0, 0, 0, 2], &moment()) else {
            panic!("no answer");
        };
        let volts = f32::from_be_bytes([reply[3], reply[4], reply[5], reply[6]]);
        assert!((220.0..240.0).contains(&volts), "{volts}");
        let refused = |code| Reply::Say(vec![3, 0x84, code], Duration::ZERO);
        assert_eq!(bus.answer(&[3, 4, 0x50, 0, 0, 2], &moment()), refused(2));
        assert_eq!(bus.answer(&[4, 4, 0, 0, 0, 2], &moment()), Reply::Silence);
    }

    #[test]
    fn what_real_ones_do_wrong_can_be_ordered() {
        let at = moment();
        let ask = [3, 4, 0, 0, 0, 2];
        let all = |change: fn(&mut Misbehave)| {
            let mut misbehave = Misbehave::default();
            change(&mut misbehave);
            bus(misbehave).answer(&ask, &at)
        };
        assert_eq!(all(|m| m.silence = 1.0), Reply::Silence);
        let busy = Reply::Say(vec![3, 0x84, 6], Duration::ZERO);
        assert_eq!(all(|m| m.exception = 1.0), busy);
        let Reply::Say(reply, _) = all(|m| m.wrong_unit = 1.0) else {
            panic!("no answer");
        };
        assert_eq!(reply[0], 4);
    }

    #[test]
    fn every_profile_of_the_agent_can_be_played() {
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../edge-agent/src/profiles");
        let mut files: Vec<String> = std::fs::read_dir(shipped)
            .unwrap()
            .map(|file| {
                file.unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        files.sort_unstable();
        assert!(files.iter().map(String::as_str).eq(profiles()), "{files:?}");
        for name in profiles() {
            Registers::of(name).unwrap();
        }
    }

    #[test]
    fn requests_are_found_behind_noise() {
        let request = [3, 4, 0, 0, 0, 2];
        let mut heard = [vec![0xff, 0x00], rtu(request.to_vec())].concat();
        assert_eq!(cut_rtu(&mut heard), Some(request.to_vec()));
        assert!(heard.is_empty());
    }
}
