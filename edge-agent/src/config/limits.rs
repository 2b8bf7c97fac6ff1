//! The keys of `[[topic]]` about its lane: how much of the disk it has, and what holds it back in front of Kafka.

use std::time::Duration;

use jiff::tz::TimeZone;
use protocol_host::config::show::Keys;
use toml::Table as Toml;

use super::{
    Queue, WhenFull,
    document::{Mistake, Table, Value},
    queue::{check_segments, policies},
    value::{self, show_bytes, show_duration},
};

const DAY: Duration = Duration::from_secs(86_400);
/// As old as a reading may become that has no `max_age`.
const LONGEST_AGE: Duration = Duration::from_secs(3650 * 86_400);
/// Keys that hold a lane back; an alarm has none of them.
const HOLDING: [&str; 6] = [
    "priority",
    "max_rate",
    "budget_per_day",
    "windows",
    "timezone",
    "max_age",
];
const EXAMPLE: &str = "write windows = [{ opens = \"0 1 * * *\", for = \"4h\" }]";

/// Bounds of a lane, where not as `[queue]` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Most bytes on disk; default `queue.max_bytes`.
    pub max_bytes: Option<u64>,
    /// Oldest reading kept; default `queue.max_age`. An alarm has no age.
    pub max_age: Option<Duration>,
    /// What gives way at `max_bytes`; default `queue.when_full`.
    pub when_full: Option<WhenFull>,
}

impl Bounds {
    /// `[queue]`, with what is different here.
    #[must_use]
    pub fn over(&self, queue: &Queue) -> Queue {
        Queue {
            max_bytes: self.max_bytes.unwrap_or(queue.max_bytes),
            max_age: self.max_age.unwrap_or(queue.max_age),
            when_full: self.when_full.unwrap_or(queue.when_full),
            ..queue.clone()
        }
    }
}

/// What holds a lane back in front of Kafka; by default nothing does.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Passes every limit, and every other lane makes way for it; default false.
    pub alarm: bool,
    /// 0 (default) to 9: while a lane is sending, those below it make way.
    pub priority: u8,
    /// Most readings a second, after a second's worth at once; default none.
    pub max_rate: Option<f64>,
    /// Most bytes a day, up and down together; default none.
    pub budget_per_day: Option<u64>,
    /// Only while one of these is open; default always.
    pub windows: Vec<Window>,
    /// Of the windows, and of the day of the budget; default UTC.
    pub timezone: TimeZone,
    /// How long a batch waits for more readings; default `linger.ms` of `kafka.properties`, else 5 ms, or 1 s
    /// with a budget or windows.
    pub linger: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            alarm: false,
            priority: 0,
            max_rate: None,
            budget_per_day: None,
            windows: Vec::new(),
            timezone: TimeZone::UTC,
            linger: None,
        }
    }
}

/// A time at which the uplink is open.
#[derive(Debug, Clone)]
pub struct Window {
    /// Five fields of cron: the minutes at which it opens.
    pub opens: String,
    /// For how long.
    pub lasts: Duration,
    zone: String,
    cron: cronexpr::Crontab,
}

/// What was written says it all.
impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        (&self.opens, self.lasts, &self.zone) == (&other.opens, other.lasts, &other.zone)
    }
}

impl Window {
    /// Opens by `opens` in the zone of this name.
    ///
    /// # Errors
    /// What is wrong with the expression, in one line.
    pub fn parse(opens: &str, zone: &str, lasts: Duration) -> Result<Self, String> {
        if opens.split_whitespace().count() != 5 {
            return Err("must have five fields: minute, hour, day of month, month, weekday".into());
        }
        let cron = cronexpr::parse_crontab(&format!("{opens} {zone}")).map_err(|error| {
            let text = error.to_string();
            let reason = text.lines().next_back().unwrap_or_default();
            format!(
                "is no time of cron: {}",
                reason.trim_start_matches([' ', '^'])
            )
        })?;
        let window = Self {
            opens: opens.to_owned(),
            lasts,
            zone: zone.to_owned(),
            cron,
        };
        match window.next_opening(jiff::Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(window),
            None => Err("never comes".into()),
        }
    }

    /// The first opening after this moment.
    #[must_use]
    pub fn next_opening(&self, after: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let next = self.cron.find_next(after).ok()?;
        Some(next.timestamp())
    }
}

/// Reads the bounds of one `[[topic]]`; of an alarm only bytes are bounded.
pub fn bounds(table: &Table<'_, '_>, queue: &Queue, alarm: bool) -> Bounds {
    let second = Duration::from_secs(1);
    let max_age = table.optional("max_age", value::duration(second..=LONGEST_AGE));
    let bounds = Bounds {
        max_bytes: table.optional("max_bytes", value::bytes(1 << 20..=1 << 42)),
        max_age: if alarm { Some(LONGEST_AGE) } else { max_age },
        when_full: table.optional("when_full", value::one_of(policies())),
    };
    if let Some(max_bytes) = bounds.max_bytes {
        check_segments(table, max_bytes, queue.segment_bytes);
    }
    bounds
}

/// Reads what holds it back.
pub fn limits(table: &Table<'_, '_>) -> Limits {
    let alarm = table.or("alarm", false, value::boolean);
    let priority = table.or("priority", 0, value::integer(0..=9));
    let max_rate = table.optional("max_rate", rate);
    let budget_per_day = table.optional("budget_per_day", value::bytes(64 << 10..=1 << 42));
    let timezone = table.or("timezone", TimeZone::UTC, value::timezone);
    let windows = windows(table, &timezone);
    let longest = Duration::from_secs(60);
    let linger = table.optional("linger", value::duration(Duration::ZERO..=longest));
    if alarm {
        for key in HOLDING.iter().filter(|key| table.span_of(key).is_some()) {
            let message = "contradicts alarm = true: an alarm passes every limit";
            table.wrong(key, Mistake::fix(message, "remove one of the two lines"));
        }
    }
    Limits {
        alarm,
        priority,
        max_rate,
        budget_per_day,
        windows,
        timezone,
        linger,
    }
}

fn rate(value: &Value<'_>) -> Result<f64, Mistake> {
    let rate = value::number(value)?;
    match (0.001..=1e6).contains(&rate) {
        true => Ok(rate),
        false => Err(Mistake::new("must be 0.001 to 1000000 readings a second")),
    }
}

fn windows(table: &Table<'_, '_>, timezone: &TimeZone) -> Vec<Window> {
    let zone = timezone.iana_name().unwrap_or("UTC");
    let windows: Vec<Window> = table
        .tables("windows")
        .iter()
        .filter_map(|entry| {
            let lasts = Duration::from_secs(60)..=7 * DAY;
            let lasts = entry.required("for", EXAMPLE, value::duration(lasts));
            let opens = entry.required("opens", EXAMPLE, |opens| {
                let opens = value::text(opens)?;
                // Whether the expression is right does not depend on how long it is open.
                Window::parse(&opens, zone, Duration::ZERO)
                    .map_err(|wrong| Mistake::fix(wrong, EXAMPLE))
            });
            Some(Window {
                lasts: lasts?,
                ..opens?
            })
        })
        .collect();
    if table.is_empty_list("windows") {
        let message = "is empty: nothing would ever be sent";
        table.wrong("windows", Mistake::fix(message, EXAMPLE));
    }
    windows
}

/// As they would be read again.
pub fn show(keys: Keys, bounds: &Bounds, limits: &Limits) -> Keys {
    let windows = limits.windows.iter().map(|window| {
        Keys::default()
            .set("opens", window.opens.clone())
            .set("for", show_duration(window.lasts))
            .0
    });
    let windows: Vec<Toml> = windows.collect();
    let needs_zone = !windows.is_empty() || limits.budget_per_day.is_some();
    let zone = limits.timezone.iana_name().unwrap_or("UTC").to_owned();
    let max_age = bounds.max_age.filter(|_| !limits.alarm);
    keys.maybe("max_bytes", bounds.max_bytes.map(show_bytes))
        .maybe("max_age", max_age.map(show_duration))
        .maybe("when_full", bounds.when_full.map(WhenFull::as_str))
        .maybe("alarm", limits.alarm.then_some(true))
        .maybe(
            "priority",
            (limits.priority > 0).then_some(i64::from(limits.priority)),
        )
        .maybe("max_rate", limits.max_rate)
        .maybe("budget_per_day", limits.budget_per_day.map(show_bytes))
        .maybe("windows", (!windows.is_empty()).then_some(windows))
        .maybe("timezone", needs_zone.then_some(zone))
        .maybe("linger", limits.linger.map(show_duration))
}

impl Limits {
    /// In a few words: `at most 20MiB a day, from "0 1 * * *" for 4h (Europe/Berlin)`; empty without limits.
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut words = Vec::new();
        if self.alarm {
            words.push("alarm, before all others".to_owned());
        }
        if self.priority > 0 {
            words.push(format!("priority {}", self.priority));
        }
        if let Some(rate) = self.max_rate {
            words.push(format!("at most {rate} readings/s"));
        }
        if let Some(bytes) = self.budget_per_day {
            words.push(format!("at most {} a day", show_bytes(bytes)));
        }
        let windows = self.windows.iter();
        words.extend(windows.map(|window| {
            let zone = &window.zone;
            format!(
                "from \"{}\" for {} ({zone})",
                window.opens,
                show_duration(window.lasts)
            )
        }));
        words.join(", ")
    }
}
