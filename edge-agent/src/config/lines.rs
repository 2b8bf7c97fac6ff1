//! `mode = "lines"` of `[[serial]]`: one reading a line of text.

use protocol::DeviceId;

use super::{
    Roles,
    document::{Mistake, Table},
    roles::roles,
    value,
};
use crate::decode::pattern::Pattern;

/// Keys that only lines of text have.
pub const LINES_KEYS: [&str; 6] = [
    "device",
    "format",
    "columns",
    "separator",
    "pattern",
    "max_line_bytes",
];

/// `mode = "lines"`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lines {
    /// Who measures on this line; required unless `fields.device` names a member that says so.
    pub device: Option<DeviceId>,
    /// How a line is read: `format = "json" | "key-value" | "csv" | "influx" | "regex"`.
    pub format: LineFormat,
    /// Which members of a line are not values.
    pub roles: Roles,
    /// Longest line in bytes; longer ones are rejected; default 4 096.
    pub max_line_bytes: usize,
}

/// How a line of text is read.
#[derive(Debug, Clone, PartialEq)]
pub enum LineFormat {
    /// One JSON object.
    Json,
    /// `temperature_c=21.5 humidity_pct=40`, separated by spaces or commas.
    KeyValue,
    /// Values only, in the order of `columns`; an empty column name is skipped.
    Csv {
        /// `separator`, default `,`.
        separator: u8,
        /// `columns`, required.
        columns: Vec<String>,
    },
    /// InfluxDB line protocol: `weather,room=cellar temperature=21.5 1465839830100400200`.
    Influx,
    /// Whatever `pattern`, a regular expression, has named groups for.
    Regex(Pattern),
}

/// The keys of a line, who measures and the format required.
pub fn read(table: &Table<'_, '_>) -> Option<Lines> {
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
