//! `[[modbus]]`, and whoever else speaks when it is asked, on a serial line as well.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use protocol::{DeviceId, Metadata, Topic};

use super::{
    document::{Mistake, Table, nearest},
    sections::{Unique, each},
    sources::Sources,
    value,
};
use crate::decode::{
    modbus::{Map, Profile},
    preset::{self, Preset},
};

/// Keys of whoever is asked on a serial line.
pub const POLL_KEYS: [&str; 4] = ["timeout", "turnaround", "retries", "every"];

/// `timeout` on a serial line.
pub const SERIAL_TIMEOUT: Duration = Duration::from_millis(300);

const SHORTEST: Duration = Duration::from_millis(1);

/// One of `[[modbus]]`: a Modbus TCP server, or a gateway to a serial line.
#[derive(Debug, Clone, PartialEq)]
pub struct ModbusTcp {
    /// Names the source in logs and metrics; required, unique.
    pub name: String,
    /// Name or address, from `address = "10.0.0.7:502"`; required.
    pub host: String,
    /// Default 502.
    pub port: u16,
    /// Who is asked, and how: `[[modbus.device]]`; `timeout` is 1 s by default.
    pub polled: Polled,
    /// Where its readings go; default `kafka.topic`.
    pub topic: Topic,
    /// Static metadata of its readings; default none.
    pub meta: Metadata,
}

/// `mode = "modbus" | "mh-z19"`: devices that speak when they are asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Polled {
    /// The word after `mode`.
    pub name: &'static str,
    /// How long a device may take to begin its answer; default 300 ms.
    pub timeout: Duration,
    /// Silence between an answer and the next question; default 20 ms.
    pub turnaround: Duration,
    /// How often a question is put again; default 1.
    pub retries: u8,
    /// Who is asked, at least one.
    pub devices: Vec<PolledDevice>,
}

/// One of `[[serial.device]]`, or the device of a `mode` that has only one.
#[derive(Debug, Clone, PartialEq)]
pub struct PolledDevice {
    /// Who measures; required.
    pub id: DeviceId,
    /// Modbus address; default 1.
    pub unit: u8,
    /// The registers of `profile`, required for Modbus, or what else the device speaks.
    pub preset: Preset,
    /// Time from one round of questions to the next; default 10 s.
    pub every: Duration,
}

impl Sources<'_> {
    /// One of `[[modbus]]`.
    pub fn modbus(&mut self, table: &Table<'_, '_>) -> Option<ModbusTcp> {
        let name = self.name(table, "write name = \"inverter\"");
        let remedy = "write address = \"10.0.0.7:502\"";
        let address = table.required("address", remedy, value::host_and_port(502));
        if let Some((host, port)) = &address {
            // Many servers serve one client at a time.
            self.ports
                .check(table, "address", &format!("{host}:{port}"));
        }
        let polled = modbus_tcp(table);
        let topic = self.lane(table, "topic");
        let meta = table.or("meta", Metadata::default(), value::metadata);
        let (host, port) = address?;
        Some(ModbusTcp {
            name: name?,
            host,
            port,
            polled: polled?,
            topic: topic?,
            meta,
        })
    }
}

/// What `[[modbus]]` asks. The unit of a server that is a device itself is 1 by custom; 255 and 0 by rule.
fn modbus_tcp(table: &Table<'_, '_>) -> Option<Polled> {
    let fix = "add [[modbus.device]] with id, unit and profile";
    let devices = modbus_devices(table, fix, 0..=255, Preset::ModbusTcp);
    polled(table, "modbus-tcp", Duration::from_secs(1), devices)
}

/// What all that are asked have.
pub fn polled(
    table: &Table<'_, '_>,
    name: &'static str,
    usual: Duration,
    devices: Option<Vec<PolledDevice>>,
) -> Option<Polled> {
    let timeout = value::duration(SHORTEST..=Duration::from_secs(10));
    let turnaround = value::duration(SHORTEST..=Duration::from_secs(1));
    let timeout = table.or("timeout", usual, timeout);
    let turnaround = table.or("turnaround", Duration::from_millis(20), turnaround);
    let retries = table.or("retries", 1, value::integer(0..=5));
    Some(Polled {
        name,
        timeout,
        turnaround,
        retries,
        devices: devices?,
    })
}

/// The list `device`, which has to have one at least.
pub fn modbus_devices(
    table: &Table<'_, '_>,
    fix: &str,
    units: RangeInclusive<u8>,
    preset: fn(Arc<Map>) -> Preset,
) -> Option<Vec<PolledDevice>> {
    let mut ids = Unique::default();
    let read = |entry: &Table<'_, '_>| modbus_device(entry, &mut ids, units.clone(), preset);
    let devices = each(table, "device", read);
    if table.span_of("device").is_none() || table.is_empty_list("device") {
        table.wrong("device", Mistake::fix("is missing", fix));
    }
    devices
}

/// One of `[[serial.device]]` or `[[modbus.device]]`.
fn modbus_device(
    table: &Table<'_, '_>,
    ids: &mut Unique,
    units: RangeInclusive<u8>,
    preset_of: fn(Arc<Map>) -> Preset,
) -> Option<PolledDevice> {
    let id = table.required("id", "write id = \"meter-1\"", value::parsed::<DeviceId>);
    if let Some(id) = &id {
        ids.check(table, "id", id.as_str());
    }
    let unit = table.or("unit", 1, value::integer(units));
    let preset = table.required("profile", "write profile = \"sdm120\"", |value| {
        let name = value::text(value)?;
        let map = match name.ends_with(".toml") {
            false => preset::built_in(&name),
            true => {
                let text = std::fs::read_to_string(&name)
                    .map_err(|error| Mistake::new(format!("cannot be read: {error}")))?;
                preset::profile(&name, &text)
            }
        };
        map.map(preset_of).map_err(|error| {
            let message = format!("cannot be used: {error}");
            match nearest(&name, Profile::names()) {
                Some(meant) => Mistake::fix(message, format!("did you mean \"{meant}\"?")),
                None => Mistake::new(message),
            }
        })
    });
    let every = every(table);
    Some(PolledDevice {
        id: id?,
        unit,
        preset: preset?,
        every,
    })
}

/// Time from one round of questions to the next.
pub fn every(table: &Table<'_, '_>) -> Duration {
    let bounds = Duration::from_millis(50)..=Duration::from_secs(86_400);
    table.or("every", Duration::from_secs(10), value::duration(bounds))
}
