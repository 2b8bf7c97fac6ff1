//! One log line: pairs of a name and a value in the order of the call, bounded.
//!
//! ```text
//! ts=2026-11-23T21:04:07.113Z level=info msg=written docs=9871 lag=312 window=10s
//! ```
//!
//! Written here because the formatters at hand call the text `message` and bound nothing: a driver's
//! error of some kilobytes would be a line of some kilobytes. A value is cut at [`MAX_VALUE`], a line
//! holds at most [`MAX_LINE`] bytes; what has no room is left out, and `cut=true` says so.

use std::fmt::{self, Debug, Display, Write as _};

use jiff::Timestamp;
use tracing::{
    Event, Level,
    field::{Field, Visit},
};

/// Bytes of a line, with its end.
pub const MAX_LINE: usize = 1000;
/// Bytes of a text before it is quoted.
pub const MAX_VALUE: usize = 300;
/// Kept free for the mark that something was left out, and the end.
const RESERVE: usize = 24;

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `name=value`, quoted where needed.
    Logfmt,
    /// One JSON object.
    Json,
    /// For eyes, with colours.
    Terminal,
    /// An entry of the journal: the line as logfmt, and each pair as a field of its own.
    Journal,
}

/// A line being written.
pub struct Line {
    form: Form,
    written: String,
    /// What the journal gets beside the line.
    fields: String,
    cut: bool,
}

impl Line {
    /// Begins with the time, if it is wanted, and the level.
    pub fn begin(form: Form, level: Level, time: Option<Timestamp>) -> Self {
        let mut line = Self {
            form,
            written: String::with_capacity(256),
            fields: String::new(),
            cut: false,
        };
        match form {
            Form::Journal => {
                line.fields = format!("PRIORITY={}\n", priority(level));
                let level = level.as_str().to_ascii_lowercase();
                line.written = format!("level={level}");
            }
            Form::Logfmt | Form::Json => {
                if let Some(time) = time {
                    line.text("ts", &format!("{time:.3}"));
                }
                line.text("level", &level.as_str().to_ascii_lowercase());
            }
            Form::Terminal => {
                let colour = match level {
                    Level::ERROR => "31",
                    Level::WARN => "33",
                    Level::INFO => "32",
                    _ => "34",
                };
                line.written = match time {
                    Some(time) => format!("{time:.0} \x1b[{colour}m{level:>5}\x1b[0m"),
                    None => format!("\x1b[{colour}m{level:>5}\x1b[0m"),
                };
            }
        }
        line
    }

    /// Only fields, as logfmt.
    pub fn fields() -> Self {
        Self {
            form: Form::Logfmt,
            written: String::new(),
            fields: String::new(),
            cut: false,
        }
    }

    /// Adds a text.
    pub fn text(&mut self, name: &str, value: &str) {
        let shown = excerpt(value, MAX_VALUE);
        self.cut |= shown.len() < value.len();
        let value = match self.form {
            Form::Terminal if name == "msg" => shown.to_owned(),
            Form::Logfmt | Form::Terminal | Form::Journal if !needs_quotes(shown) => {
                shown.to_owned()
            }
            // JSON's quotes are logfmt's as well.
            _ => serde_json::Value::from(shown).to_string(),
        };
        if self.pair(name, &value) && self.form == Form::Journal {
            self.field(name, shown);
        }
    }

    /// Adds a number or a truth value.
    pub fn bare(&mut self, name: &str, value: &dyn Display) {
        let value = value.to_string();
        if self.pair(name, &value) && self.form == Form::Journal {
            self.field(name, &value);
        }
    }

    /// A field of the journal's: its names have no other letters, and a line that ends inside of a value would
    /// begin another field.
    fn field(&mut self, name: &str, value: &str) {
        let letter = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        };
        self.fields.push_str("F_");
        self.fields.extend(name.chars().map(letter));
        self.fields.push('=');
        self.fields
            .extend(value.chars().map(|c| if c.is_control() { ' ' } else { c }));
        self.fields.push('\n');
    }

    /// Whether there was room.
    fn pair(&mut self, name: &str, value: &str) -> bool {
        let pair = match (self.form, name) {
            (Form::Json, _) if self.written.is_empty() => format!("{{\"{name}\":{value}"),
            (Form::Json, _) => format!(",\"{name}\":{value}"),
            (Form::Logfmt, _) if self.written.is_empty() => format!("{name}={value}"),
            (Form::Terminal, "msg") => format!(" \x1b[1m{value}\x1b[0m"),
            (Form::Logfmt | Form::Terminal | Form::Journal, _) => format!(" {name}={value}"),
        };
        if self.written.len() + pair.len() + RESERVE > MAX_LINE {
            self.cut = true;
            return false;
        }
        self.written.push_str(&pair);
        true
    }

    /// The line with its end.
    pub fn end(mut self) -> String {
        if self.cut {
            self.pair("cut", "true");
        }
        self.written.push_str(match self.form {
            Form::Json => "}\n",
            Form::Logfmt | Form::Terminal => "\n",
            // An empty line ends an entry.
            Form::Journal => return format!("{}MESSAGE={}\n\n", self.fields, self.written),
        });
        self.written
    }
}

/// As syslog counts.
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

fn needs_quotes(value: &str) -> bool {
    let special = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=' | '\\');
    value.is_empty() || value.contains(special)
}

/// The beginning of a text, at most `max` bytes.
pub fn excerpt(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev();
    let end = end.into_iter().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut bounded = Bounded(String::new());
        // Its only error is "full", and then the beginning is there.
        let whole = write!(bounded, "{value:?}");
        self.cut |= whole.is_err();
        self.text(named(field), &bounded.0);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(named(field), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(named(field), &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(named(field), &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match self.form {
            // JSON has no infinities.
            Form::Json => self.bare(named(field), &serde_json::Value::from(value)),
            Form::Logfmt | Form::Terminal | Form::Journal => self.bare(named(field), &value),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(named(field), &value);
    }
}

fn named(field: &Field) -> &str {
    match field.name() {
        "message" => "msg",
        name => name,
    }
}

/// A value's text as far as a line could need it: an error may hold the picture of a whole cluster.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = MAX_VALUE.saturating_sub(self.0.len());
        let shown = excerpt(part, room);
        self.0.push_str(shown);
        if shown.len() < part.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// The text of an event.
pub fn message(event: &Event<'_>) -> String {
    struct Message(String);
    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            if field.name() == "message" {
                self.0 = format!("{value:?}");
            }
        }
    }
    let mut message = Message(String::new());
    event.record(&mut message);
    message.0
}

/// Which link an event is of: one that has a `link` has its `name` beside it, out of the configuration.
pub fn link_name(event: &Event<'_>) -> Option<String> {
    #[derive(Default)]
    struct Name {
        is_link: bool,
        name: Option<String>,
    }
    impl Visit for Name {
        fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}

        fn record_str(&mut self, field: &Field, value: &str) {
            match field.name() {
                "link" => self.is_link = true,
                "name" => self.name = Some(value.to_owned()),
                _ => {}
            }
        }
    }
    let mut name = Name::default();
    event.record(&mut name);
    name.name.filter(|_| name.is_link)
}
