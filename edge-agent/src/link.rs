//! The state of every link to the outside: what the status page shows and readiness is made of.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::{info, warn};

/// How many reasons of one outage are remembered.
const REASONS: usize = 16;

/// All links of the process; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Links(Arc<Mutex<BTreeMap<(LinkKind, String), Link>>>);

#[derive(Debug)]
struct Link {
    state: LinkState,
    /// The reasons of the lines "link down" since it was last up, at most [`REASONS`] of them: several brokers
    /// that fail by turns, each for its own reason, are one outage with as many lines.
    reported: Vec<String>,
    /// Since when the link has not been up.
    away_since: Instant,
    /// Since when it is as it is.
    since: Instant,
}

/// What a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// A serial line.
    Serial,
    /// A Modbus server.
    Modbus,
    /// An MQTT broker.
    Mqtt,
    /// Kafka.
    Kafka,
    /// The queue's disk.
    Disk,
    /// The schema registry, for a topic.
    Registry,
}

impl LinkKind {
    /// The word used in logs, metrics and the status page.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Modbus => "modbus",
            Self::Mqtt => "mqtt",
            Self::Kafka => "kafka",
            Self::Disk => "disk",
            Self::Registry => "registry",
        }
    }
}

/// How a link is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "detail")]
pub enum LinkState {
    /// Works.
    Up,
    /// Being made.
    Connecting,
    /// Does not work; why, in one line, without secrets.
    Down(String),
}

impl LinkState {
    /// The word used in logs, metrics and the status page.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Connecting => "connecting",
            Self::Down(_) => "down",
        }
    }
}

/// What is worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Up { outage: Option<Duration> },
    Down { reason: String },
}

impl Link {
    fn new(now: Instant) -> Self {
        Self {
            state: LinkState::Connecting,
            reported: Vec::new(),
            away_since: now,
            since: now,
        }
    }

    /// Takes the new state and says what is worth a line. A link that fails, is tried again and fails
    /// for a reason that was told already is one outage and one line.
    fn note(&mut self, state: LinkState, now: Instant) -> Option<Line> {
        let was_up = self.state == LinkState::Up;
        if was_up && state != LinkState::Up {
            self.away_since = now;
        }
        if self.state.as_str() != state.as_str() {
            self.since = now;
        }
        let line = match &state {
            LinkState::Up if was_up => None,
            LinkState::Up => Some(Line::Up {
                outage: (!mem::take(&mut self.reported).is_empty()).then(|| now - self.away_since),
            }),
            LinkState::Connecting => None,
            LinkState::Down(reason) if self.reported.contains(reason) => None,
            LinkState::Down(reason) => {
                if self.reported.len() == REASONS {
                    self.reported.remove(0);
                }
                self.reported.push(reason.clone());
                Some(Line::Down {
                    reason: reason.clone(),
                })
            }
        };
        self.state = state;
        line
    }
}

impl Links {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(LinkKind, String), Link>> {
        // Each change is plain assignment: a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the state of a link, and logs it if it changed: once, however often it is noted.
    pub fn set(&self, kind: LinkKind, name: &str, state: LinkState) {
        let now = Instant::now();
        let line = self
            .lock()
            .entry((kind, name.to_owned()))
            .or_insert_with(|| Link::new(now))
            .note(state, now);
        let link = kind.as_str();
        match line {
            None => {}
            Some(Line::Up { outage: None }) => info!(link, name, "link up"),
            Some(Line::Up {
                outage: Some(outage),
            }) => info!(link, name, outage_s = outage.as_secs(), "link back"),
            Some(Line::Down { reason }) => warn!(link, name, reason, "link down, trying again"),
        }
    }

    /// A link is no longer wanted.
    pub fn forget(&self, kind: LinkKind, name: &str) {
        self.lock().remove(&(kind, name.to_owned()));
    }

    /// Every link with its state, in a fixed order.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(LinkKind, String, LinkState)> {
        let shown = self.shown(Instant::now()).into_iter();
        shown
            .map(|(kind, name, state, _)| (kind, name, state))
            .collect()
    }

    /// The same, and for how long it has been up, connecting or down.
    #[must_use]
    pub fn shown(&self, now: Instant) -> Vec<(LinkKind, String, LinkState, Duration)> {
        let links = self.lock();
        let one = |((kind, name), link): (&(LinkKind, String), &Link)| {
            let since = now.saturating_duration_since(link.since);
            (*kind, name.clone(), link.state.clone(), since)
        };
        links.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LinkState::{Connecting, Up};

    fn down(reason: &str) -> LinkState {
        LinkState::Down(reason.into())
    }

    fn is_down(reason: &str) -> Option<Line> {
        Some(Line::Down {
            reason: reason.into(),
        })
    }

    fn is_up(outage_s: Option<u64>) -> Option<Line> {
        Some(Line::Up {
            outage: outage_s.map(Duration::from_secs),
        })
    }

    #[test]
    fn a_link_is_logged_once_per_change_however_often_it_is_noted() {
        let start = Instant::now();
        let mut link = Link::new(start);
        for (second, state, expected) in [
            (0, Connecting, None),
            (1, down("refused"), is_down("refused")),
            (2, Connecting, None),
            (3, down("refused"), None),
            (4, down("no such host"), is_down("no such host")),
            (4, down("refused"), None),
            (4, down("no such host"), None),
            (5, Up, is_up(Some(5))),
            (6, Up, None),
            (7, Connecting, None),
            (8, Up, is_up(None)),
            (9, down("refused"), is_down("refused")),
            (12, Up, is_up(Some(3))),
        ] {
            let line = link.note(state.clone(), start + Duration::from_secs(second));
            assert_eq!(line, expected, "at {second} s: {state:?}");
        }
    }

    #[test]
    fn a_link_tells_for_how_long_it_is_as_it_is() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut link = Link::new(start);
        for (second, state, since) in [
            (1, Connecting, 0),
            (2, down("refused"), 2),
            (3, down("no such host"), 2),
            (4, Up, 4),
            (5, Up, 4),
        ] {
            link.note(state.clone(), at(second));
            assert_eq!(link.since, at(since), "at {second} s: {state:?}");
        }
    }

    #[test]
    fn links_are_listed_in_a_fixed_order() {
        let links = Links::default();
        links.set(LinkKind::Kafka, "kafka", Up);
        links.set(LinkKind::Serial, "b", Connecting);
        links.set(LinkKind::Serial, "a", down("gone"));
        let names: Vec<String> = links.snapshot().into_iter().map(|(_, n, _)| n).collect();
        assert_eq!(names, ["a", "b", "kafka"]);
    }
}
