//! `[[serial]]`: a line, and how it speaks.

use std::path::PathBuf;

use protocol::{DeviceId, Metadata, Topic};

use super::{
    Lines, Polled, PolledDevice,
    document::{Mistake, Table},
    lines::{self, LINES_KEYS},
    modbus::{self, POLL_KEYS},
    roles::ROLE_KEYS,
    sources::Sources,
    value,
};
use crate::decode::preset::Preset;

/// One of `[[serial]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Serial {
    /// Names the source in logs and metrics; required, unique.
    pub name: String,
    /// Device file; prefer `/dev/serial/by-id/…`, which survives replugging.
    pub port: PathBuf,
    /// Speed in baud; default 115 200.
    pub baud: u32,
    /// Data bits, parity and stop bits, default `8N1`; meters of DSMR 2.2 and 3 speak `7E1`.
    pub framing: Framing,
    /// Whether the driver switches the direction of an RS-485 line; default false, for most adapters do it
    /// themselves.
    pub rs485: bool,
    /// How the line speaks; required.
    pub mode: SerialMode,
    /// Where its readings go; default `kafka.topic`.
    pub topic: Topic,
    /// Static metadata of its readings; default none.
    pub meta: Metadata,
}

/// How a byte is sent on a serial line: `8N1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    /// 5 to 8.
    pub data_bits: u8,
    /// None, even or odd.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// The parity of a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// `N`.
    None,
    /// `E`.
    Even,
    /// `O`.
    Odd,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            data_bits: 8,
            parity: Parity::None,
            stop_bits: 1,
        }
    }
}

impl std::str::FromStr for Framing {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let &[data @ b'5'..=b'8', parity, stop @ b'1'..=b'2'] = text.as_bytes() else {
            return Err(framing_rule(text));
        };
        let parity = match parity {
            b'N' | b'n' => Parity::None,
            b'E' | b'e' => Parity::Even,
            b'O' | b'o' => Parity::Odd,
            _ => return Err(framing_rule(text)),
        };
        Ok(Self {
            data_bits: data - b'0',
            parity,
            stop_bits: stop - b'0',
        })
    }
}

fn framing_rule(text: &str) -> String {
    format!(
        "must be data bits 5 to 8, parity N, E or O, and stop bits 1 or 2, as in \"8N1\", not \"{text}\""
    )
}

impl std::fmt::Display for Framing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parity = match self.parity {
            Parity::None => 'N',
            Parity::Even => 'E',
            Parity::Odd => 'O',
        };
        write!(f, "{}{parity}{}", self.data_bits, self.stop_bits)
    }
}

/// How a serial line speaks.
#[derive(Debug, Clone, PartialEq)]
pub enum SerialMode {
    /// `mode = "frames"`: our protocol, docs/protocol.md.
    Frames,
    /// `mode = "lines"`: one reading a line of text.
    Lines(Lines),
    /// `mode = "nmea" | "dsmr" | "ve-direct" | "pms5003" | …`: what such a device says by itself, docs/devices.md.
    Device(SerialDevice),
    /// `mode = "modbus" | "mh-z19"`: devices that speak when they are asked.
    Polled(Polled),
}

/// A mode that is the name of what a device speaks.
#[derive(Debug, Clone, PartialEq)]
pub struct SerialDevice {
    /// The word after `mode`.
    pub name: &'static str,
    /// What it stands for.
    pub preset: Preset,
    /// Who measures; required. Meters behind a DSMR meter keep their own names.
    pub device: DeviceId,
}

impl Sources<'_> {
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
        let framing = table.or("framing", Framing::default(), |value| {
            value::text(value)?
                .parse()
                .map_err(|rule: String| Mistake::new(rule))
        });
        let rs485 = table.or("rs485", false, value::boolean);
        let mode = serial_mode(table);
        let topic = self.lane(table, "topic");
        let meta = table.or("meta", Metadata::default(), value::metadata);
        Some(Serial {
            name: name?,
            port: port?,
            baud,
            framing,
            rs485,
            mode: mode?,
            topic: topic?,
            meta,
        })
    }
}

/// `mode` and what belongs to it.
fn serial_mode(table: &Table<'_, '_>) -> Option<SerialMode> {
    #[derive(Clone, Copy)]
    enum Mode {
        Frames,
        Lines,
        Device(&'static str),
        Modbus,
        MhZ19,
    }
    let words = [
        ("frames", Mode::Frames),
        ("lines", Mode::Lines),
        ("nmea", Mode::Device("nmea")),
        ("dsmr", Mode::Device("dsmr")),
        ("ve-direct", Mode::Device("ve-direct")),
        ("pms5003", Mode::Device("pms5003")),
        ("pms5003s", Mode::Device("pms5003s")),
        ("pms5003t", Mode::Device("pms5003t")),
        ("sds011", Mode::Device("sds011")),
        ("mh-z19", Mode::MhZ19),
        ("modbus", Mode::Modbus),
    ];
    let remedy =
        "write mode = \"frames\" (our protocol), \"lines\" (text) or a device: docs/devices.md";
    let refuse = |but: &[&str], reason: &str| {
        for key in LINES_KEYS.into_iter().chain(ROLE_KEYS) {
            if !but.contains(&key) {
                table.refuse(key, reason);
            }
        }
    };
    let no_polling = || {
        for key in POLL_KEYS {
            table.refuse(key, "needs mode = \"modbus\" or \"mh-z19\"");
        }
    };
    match table.required("mode", remedy, value::one_of(words)) {
        Some(Mode::Frames) => {
            refuse(&[], "needs mode = \"lines\": frames carry it themselves");
            no_polling();
            Some(SerialMode::Frames)
        }
        Some(Mode::Lines) => {
            no_polling();
            lines::read(table).map(SerialMode::Lines)
        }
        Some(Mode::Modbus) => {
            refuse(&["device"], "needs mode = \"lines\"");
            table.refuse("every", "belongs to each [[serial.device]]");
            let fix = "add [[serial.device]] with id, unit and profile";
            let devices = modbus::modbus_devices(table, fix, 1..=248, Preset::Modbus);
            modbus::polled(table, "modbus", modbus::SERIAL_TIMEOUT, devices).map(SerialMode::Polled)
        }
        Some(Mode::MhZ19) => {
            refuse(&["device"], "needs mode = \"lines\"");
            let id = table.required("device", "write device = \"co2-1\"", value::parsed);
            let every = modbus::every(table);
            let device = id.map(|id| PolledDevice {
                id,
                unit: 1,
                preset: Preset::MhZ19,
                every,
            });
            let devices = device.map(|device| vec![device]);
            modbus::polled(table, "mh-z19", modbus::SERIAL_TIMEOUT, devices).map(SerialMode::Polled)
        }
        Some(Mode::Device(name)) => {
            refuse(&["device"], "needs mode = \"lines\"");
            no_polling();
            let device = table.required("device", "write device = \"meter-1\"", value::parsed);
            Some(SerialMode::Device(SerialDevice {
                name,
                preset: name.parse().ok()?,
                device: device?,
            }))
        }
        None => {
            // Which keys belong is not known, so none of them is called unknown.
            for key in LINES_KEYS.into_iter().chain(ROLE_KEYS).chain(POLL_KEYS) {
                table.optional(key, |_| Ok(()));
            }
            None
        }
    }
}
