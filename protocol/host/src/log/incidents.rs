//! The last lines of `warn` and `error`, for the status page: what it shows is what the log says, in the words
//! that `docs/operations.md` explains.
//!
//! The ring is the process's, as the log is. It holds [`MOST`] incidents, of one text at most [`OF_ONE_TEXT`]: a
//! place that repeats itself does not push the others out. The same text with the same fields is one incident,
//! counted. `RUST_LOG` does not change what is kept.

use std::{
    collections::VecDeque,
    fmt::Debug,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use super::line::{Line, MAX_VALUE, excerpt, message};

/// Incidents kept.
pub const MOST: usize = 32;
/// Of one text.
pub const OF_ONE_TEXT: usize = 4;

static RECENT: Mutex<Ring> = Mutex::new(Ring(VecDeque::new()));

fn recent_ring() -> MutexGuard<'static, Ring> {
    // Each change leaves it whole.
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was logged as `warn` or `error` lately, the newest first.
#[must_use]
pub fn recent() -> Vec<Incident> {
    let now = Instant::now();
    let ring = recent_ring();
    ring.0.iter().rev().map(|kept| kept.seen(now)).collect()
}

/// One incident as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Incident {
    /// `warn` or `error`.
    pub level: &'static str,
    /// The line's text, one of docs/operations.md.
    pub message: String,
    /// Its fields as logfmt, bounded as the line is.
    pub detail: String,
    /// How often.
    pub count: u64,
    /// Since it was seen first.
    pub first_age_s: u64,
    /// Since it was seen last.
    pub age_s: u64,
}

#[derive(Debug)]
struct Kept {
    level: &'static str,
    message: String,
    detail: String,
    count: u64,
    first: Instant,
    last: Instant,
}

impl Kept {
    fn seen(&self, now: Instant) -> Incident {
        Incident {
            level: self.level,
            message: self.message.clone(),
            detail: self.detail.clone(),
            count: self.count,
            first_age_s: now.saturating_duration_since(self.first).as_secs(),
            age_s: now.saturating_duration_since(self.last).as_secs(),
        }
    }
}

/// In the order of their last moment.
#[derive(Debug, Default)]
struct Ring(VecDeque<Kept>);

impl Ring {
    fn note(&mut self, level: &'static str, message: String, detail: String, now: Instant) {
        let same = |kept: &Kept| kept.message == message && kept.detail == detail;
        let mut new = Kept {
            level,
            message: String::new(),
            detail: String::new(),
            count: 1,
            first: now,
            last: now,
        };
        if let Some(known) = self
            .0
            .iter()
            .position(same)
            .and_then(|at| self.0.remove(at))
        {
            (new.count, new.first) = (known.count + 1, known.first);
        } else {
            let of_text = |kept: &Kept| kept.message == message;
            let crowded = self.0.iter().filter(|kept| of_text(kept)).count() >= OF_ONE_TEXT;
            let oldest = match crowded {
                true => self.0.iter().position(of_text),
                false => (self.0.len() >= MOST).then_some(0),
            };
            drop(oldest.and_then(|at| self.0.remove(at)));
        }
        (new.message, new.detail) = (message, detail);
        self.0.push_back(new);
    }
}

/// Feeds the ring.
pub(super) struct Incidents;

impl<S: Subscriber> Layer<S> for Incidents {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => return,
        };
        let mut fields = Fields(Line::fields());
        event.record(&mut fields);
        let detail = fields.0.end().trim().to_owned();
        let message = excerpt(&message(event), MAX_VALUE).to_owned();
        recent_ring().note(level, message, detail, Instant::now());
    }
}

/// A line of everything but the text.
struct Fields(Line);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() != "message" {
            self.0.record_debug(field, value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.record_str(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.record_u64(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.record_i64(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.record_f64(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.record_bool(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracing::{error, info, subscriber::with_default, warn};
    use tracing_subscriber::{layer::SubscriberExt, registry::Registry};

    use super::*;

    #[test]
    fn the_ring_counts_what_is_the_same_and_lets_no_text_push_out_the_others() {
        let start = Instant::now();
        let mut ring = Ring::default();
        let at = |second| start + Duration::from_secs(second);
        ring.note("warn", "away".into(), "name=a".into(), at(0));
        ring.note("warn", "away".into(), "name=b".into(), at(1));
        ring.note("warn", "away".into(), "name=a".into(), at(2));
        let seen: Vec<Incident> = ring.0.iter().map(|kept| kept.seen(at(5))).collect();
        let brief = |one: &Incident| (one.detail.clone(), one.count, one.first_age_s, one.age_s);
        assert_eq!(
            seen.iter().map(brief).collect::<Vec<_>>(),
            [("name=b".into(), 1, 4, 4), ("name=a".into(), 2, 5, 3)]
        );
        for n in 0..1000 {
            ring.note("warn", "noisy".into(), format!("n={n}"), at(n));
        }
        assert_eq!(ring.0.len(), 2 + OF_ONE_TEXT);
        assert_eq!(ring.0.back().unwrap().detail, "n=999");
        for n in 0..1000 {
            ring.note("warn", format!("text {n}"), String::new(), at(n));
        }
        assert_eq!(ring.0.len(), MOST);
    }

    #[test]
    fn incidents_are_the_lines_of_warn_and_error_without_their_text_twice() {
        let unique = format!("name {}", std::process::id());
        with_default(Registry::default().with(Incidents), || {
            info!(name = unique, "link up of the incidents' test");
            warn!(name = unique, tries = 3, "link down of the incidents' test");
            error!(reason = "x".repeat(5000), "lost by the incidents' test");
        });
        let found = |text: &str| recent().into_iter().find(|one| one.message == text);
        assert_eq!(found("link up of the incidents' test"), None);
        let down = found("link down of the incidents' test").unwrap();
        assert_eq!((down.level, down.count), ("warn", 1));
        assert_eq!(down.detail, format!("name=\"{unique}\" tries=3"));
        let lost = found("lost by the incidents' test").unwrap();
        assert_eq!(lost.level, "error");
        assert!(
            lost.detail.len() < 400 && lost.detail.ends_with("cut=true"),
            "{}",
            lost.detail
        );
    }
}
