//! How a payload is read: which members are not values, and the text modes of a serial line.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use protocol::DeviceId;

use super::{
    LineFormat, Lines, Polled, PolledDevice, Roles, SerialDevice, SerialMode, TimeFormat,
    document::{Expected, Mistake, Table, Value},
    sections::{Unique, each},
    value,
};
use crate::decode::{
    modbus::Map,
    preset::{self, Preset},
    time::TimePattern,
};

/// Where a device's name comes from.
enum DeviceFrom {
    Config(DeviceId),
    Payload(String),
}

fn device(value: &Value<'_>) -> Result<DeviceFrom, Mistake> {
    let Some(table) = value.get_ref().as_table() else {
        let or_member = |mistake: Mistake| mistake.or_expects(Expected::Table);
        let device = value::parsed(value).map(DeviceFrom::Config);
        return device.map_err(or_member);
    };
    match table.get("field") {
        Some(field) if table.len() == 1 => value::text(field).map(DeviceFrom::Payload),
        _ => Err(Mistake::new(
            "must be a name in quotes, or { field = \"id\" } where the payload has it",
        )),
    }
}

/// Keys of [`roles`] beside `device`.
pub const ROLE_KEYS: [&str; 4] = ["time", "time_format", "sequence", "boot"];

/// Reads which members of a payload are not values, `device` among them.
pub fn roles(table: &Table<'_, '_>) -> (Option<DeviceId>, Roles) {
    let (fixed, member) = match table.optional("device", device) {
        Some(DeviceFrom::Config(device)) => (Some(device), None),
        Some(DeviceFrom::Payload(field)) => (None, Some(field)),
        None => (None, None),
    };
    let roles = Roles {
        device: member,
        time: table.optional("time", value::text),
        time_format: table.or("time_format", TimeFormat::Rfc3339, time_format),
        sequence: table.optional("sequence", value::text),
        boot: table.optional("boot", value::text),
    };
    if roles.time.is_none() && table.span_of("time_format").is_some() {
        let fix = "name the member that holds it: time = \"ts\"";
        table.wrong("time_format", Mistake::fix("has no time to read", fix));
    }
    if roles.boot.is_some() && table.span_of("sequence").is_none() {
        let fix = "name the member that counts: sequence = \"seq\"";
        table.wrong(
            "boot",
            Mistake::fix("means nothing without a sequence", fix),
        );
    }
    (fixed, roles)
}

fn time_format(value: &Value<'_>) -> Result<TimeFormat, Mistake> {
    let Some(table) = value.get_ref().as_table() else {
        let word = value::one_of([
            ("rfc3339", 0),
            ("unix-seconds", 1),
            ("unix-millis", 2),
            ("unix-micros", 3),
            ("unix-nanos", 4),
        ]);
        let or_pattern = |mistake: Mistake| mistake.or_expects(Expected::Table);
        return Ok(match word(value).map_err(or_pattern)? {
            0 => TimeFormat::Rfc3339,
            1 => TimeFormat::UnixSeconds,
            2 => TimeFormat::UnixMillis,
            3 => TimeFormat::UnixMicros,
            _ => TimeFormat::UnixNanos,
        });
    };
    let known = |key: &str| matches!(key, "pattern" | "zone");
    let (Some(pattern), true) = (
        table.get("pattern"),
        table.keys().all(|key| known(key.get_ref())),
    ) else {
        return Err(Mistake::new(
            "must be a word, or { pattern = \"%d.%m.%Y %H:%M:%S\", zone = \"Europe/Berlin\" }",
        ));
    };
    let zone = table.get("zone").map(value::text).transpose()?;
    TimePattern::new(&value::text(pattern)?, zone.as_deref().unwrap_or("UTC"))
        .map(TimeFormat::Pattern)
        .map_err(|error| Mistake::new(error.to_string()))
}

const LINES_KEYS: [&str; 6] = [
    "device",
    "format",
    "columns",
    "separator",
    "pattern",
    "max_line_bytes",
];

const POLL_KEYS: [&str; 4] = ["timeout", "turnaround", "retries", "every"];
const SERIAL_TIMEOUT: Duration = Duration::from_millis(300);
const SHORTEST: Duration = Duration::from_millis(1);

fn every(table: &Table<'_, '_>) -> Duration {
    let bounds = Duration::from_millis(50)..=Duration::from_secs(86_400);
    table.or("every", Duration::from_secs(10), value::duration(bounds))
}

fn polled(
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

/// What `[[modbus]]` asks. The unit of a server that is a device itself is 1 by custom; 255 and 0 by rule.
pub fn modbus_tcp(table: &Table<'_, '_>) -> Option<Polled> {
    let fix = "add [[modbus.device]] with id, unit and profile";
    let devices = modbus_devices(table, fix, 0..=255, Preset::ModbusTcp);
    polled(table, "modbus-tcp", Duration::from_secs(1), devices)
}

/// The list `device`, which has to have one at least.
fn modbus_devices(
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
        map.map(preset_of)
            .map_err(|error| Mistake::new(format!("cannot be used: {error}")))
    });
    let every = every(table);
    Some(PolledDevice {
        id: id?,
        unit,
        preset: preset?,
        every,
    })
}

/// `mode` and what belongs to it.
pub fn serial_mode(table: &Table<'_, '_>) -> Option<SerialMode> {
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
            lines(table).map(SerialMode::Lines)
        }
        Some(Mode::Modbus) => {
            refuse(&["device"], "needs mode = \"lines\"");
            table.refuse("every", "belongs to each [[serial.device]]");
            let fix = "add [[serial.device]] with id, unit and profile";
            let devices = modbus_devices(table, fix, 1..=248, Preset::Modbus);
            polled(table, "modbus", SERIAL_TIMEOUT, devices).map(SerialMode::Polled)
        }
        Some(Mode::MhZ19) => {
            refuse(&["device"], "needs mode = \"lines\"");
            let id = table.required("device", "write device = \"co2-1\"", value::parsed);
            let every = every(table);
            let device = id.map(|id| PolledDevice {
                id,
                unit: 1,
                preset: Preset::MhZ19,
                every,
            });
            let devices = device.map(|device| vec![device]);
            polled(table, "mh-z19", SERIAL_TIMEOUT, devices).map(SerialMode::Polled)
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

fn lines(table: &Table<'_, '_>) -> Option<Lines> {
    if table.span_of("device").is_none() {
        let fix =
            "write device = \"meter-1\", or device = { field = \"id\" } where each line names it";
        table.wrong("device", Mistake::fix("is missing", fix));
    }
    let remedy = "write format = \"json\", \"key-value\", \"csv\", \"influx\" or \"regex\"";
    let format = table.required("format", remedy, value::one_of(FORMATS));
    read_lines(table, format)
}

/// The keys of a line where the format is chosen elsewhere, and nobody has to be named.
pub fn lines_of(table: &Table<'_, '_>, format: &'static str) -> Option<Lines> {
    let (_, format) = FORMATS.into_iter().find(|(word, _)| *word == format)?;
    read_lines(table, Some(format))
}

fn read_lines(table: &Table<'_, '_>, format: Option<Format>) -> Option<Lines> {
    let (device, roles) = roles(table);
    let format = format.and_then(|format| line_format(table, format, &roles));
    let max_line_bytes = table.or("max_line_bytes", 4096, value::integer(16..=1 << 20));
    Some(Lines {
        device,
        format: format?,
        roles,
        max_line_bytes,
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Json,
    KeyValue,
    Csv,
    Influx,
    Regex,
}

const FORMATS: [(&str, Format); 5] = [
    ("json", Format::Json),
    ("key-value", Format::KeyValue),
    ("csv", Format::Csv),
    ("influx", Format::Influx),
    ("regex", Format::Regex),
];

fn line_format(table: &Table<'_, '_>, format: Format, roles: &Roles) -> Option<LineFormat> {
    if format != Format::Csv {
        table.refuse("columns", "needs format = \"csv\"");
        table.refuse("separator", "needs format = \"csv\"");
    }
    if format != Format::Regex {
        table.refuse("pattern", "needs format = \"regex\"");
    }
    match format {
        Format::Json => Some(LineFormat::Json),
        Format::KeyValue => Some(LineFormat::KeyValue),
        Format::Influx => Some(LineFormat::Influx),
        Format::Regex => {
            let remedy = "write pattern = '^T:(?<temperature_c>\\S+)', naming each value";
            table
                .required("pattern", remedy, value::parsed)
                .map(LineFormat::Regex)
        }
        Format::Csv => {
            let separator = table.or("separator", b',', value::separator);
            let remedy =
                "name them in order: columns = [\"temperature_c\", \"\"]; an empty name is skipped";
            let columns = table.required("columns", remedy, value::columns)?;
            for (key, member) in [
                ("device", &roles.device),
                ("time", &roles.time),
                ("sequence", &roles.sequence),
                ("boot", &roles.boot),
            ] {
                if let Some(member) = member.as_ref().filter(|m| !columns.contains(m)) {
                    let message =
                        format!("names the column \"{member}\", which columns does not have");
                    table.wrong(key, Mistake::new(message));
                }
            }
            Some(LineFormat::Csv { separator, columns })
        }
    }
}
