//! `edge-agent check --online`, the other side: whether each source can be read.
//!
//! Each is opened by the very code of `run`, all at once, as `probe` does: a port that another process has, a broker
//! that refuses a subscription, a meter that does not answer show here with the words they have in the log. Nothing
//! is kept and nothing is acknowledged, and at a broker the check has a session of its own. An agent that runs has
//! its serial lines open, so they fail here: look at its status page instead.

use std::{
    collections::BTreeSet,
    sync::mpsc::RecvTimeoutError,
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;

use super::online::Report;
use crate::{
    cli::Exit,
    config::{Config, Polled, SerialMode},
    link::{LinkKind, LinkState},
    reload::{self, Settings},
    source::look::{self, Probe, Probed},
};

/// Longest wait for one source: a broker far away, a bus with some devices that do not answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
const TICK: Duration = Duration::from_millis(20);

/// A source that is being looked at.
struct Asked<'c> {
    kind: LinkKind,
    name: String,
    place: String,
    /// Devices that are asked and have not answered.
    polled: BTreeSet<&'c str>,
    good: &'static str,
    probe: Probe,
}

/// Asks every source.
///
/// # Errors
/// A source that cannot be made.
pub fn ask(config: &Config, report: &mut Report) -> Result<(), Exit> {
    let mut asked = Vec::new();
    for settings in reload::sources(config) {
        let (kind, name) = settings.key();
        let probe = look::probe(config, &name).map_err(|error| anyhow!(error))?;
        let probe = probe.ok_or_else(|| anyhow!("no source is called {name:?}"))?;
        let (place, polled) = place(settings);
        asked.push(Asked {
            kind,
            name,
            good: good(kind, !polled.is_empty()),
            place,
            polled,
            probe,
        });
    }
    let until = Instant::now() + PATIENCE;
    for source in asked {
        source.report(until, report);
    }
    Ok(())
}

/// Where a source is, and which devices are asked there.
fn place(settings: Settings<'_>) -> (String, BTreeSet<&str>) {
    match settings {
        Settings::Serial(serial) => {
            let polled = match &serial.mode {
                SerialMode::Polled(polled) => ids(polled),
                _ => BTreeSet::new(),
            };
            (serial.port.display().to_string(), polled)
        }
        Settings::Modbus(modbus) => (
            format!("{}:{}", modbus.host, modbus.port),
            ids(&modbus.polled),
        ),
        Settings::Mqtt(mqtt) => (
            format!("{}:{}", mqtt.url.host, mqtt.url.port),
            BTreeSet::new(),
        ),
    }
}

const fn good(kind: LinkKind, is_polled: bool) -> &'static str {
    match (kind, is_polled) {
        (LinkKind::Mqtt, _) => "subscribed",
        (_, true) => "every device answers",
        (_, false) => "opened",
    }
}

fn ids(polled: &Polled) -> BTreeSet<&str> {
    polled.devices.iter().map(|one| one.id.as_str()).collect()
}

impl Asked<'_> {
    fn report(mut self, until: Instant, report: &mut Report) {
        let begun = Instant::now();
        let state = self.wait(until);
        self.probe.shutdown.cancel();
        let part = format!("{:<10}", self.kind.as_str());
        let what = format!("{}  {}", self.name, self.place);
        match state {
            LinkState::Down(why) => {
                // The line begins with the place already, and most reasons end with their remedy.
                let why = why
                    .strip_prefix(&*self.place)
                    .and_then(|why| why.strip_prefix(": "))
                    .unwrap_or(&why);
                let (why, fix) = why.split_once("; ").unwrap_or((why, self.remedy()));
                report.fail_at(&part, &what, why, fix);
            }
            _ if !self.polled.is_empty() => {
                let silent: Vec<&str> = self.polled.iter().copied().collect();
                let message = format!("no answer of {}", silent.join(", "));
                report.fail_at(&part, &what, &message, self.remedy());
            }
            LinkState::Connecting => {
                let message = format!("no answer within {} s", begun.elapsed().as_secs());
                report.fail_at(&part, &what, &message, self.remedy());
            }
            LinkState::Up => report.line(format_args!("{part} {what}  ok   {}", self.good)),
        }
    }

    /// How the link is once all that is asked has answered, or the time is over.
    fn wait(&mut self, until: Instant) -> LinkState {
        loop {
            match self.probe.seen.recv_timeout(TICK) {
                Ok(Probed::Reading { before, .. }) => {
                    self.polled.remove(before.device.as_str());
                }
                Ok(Probed::Rejected { .. }) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => thread::sleep(TICK),
            }
            let links = self.probe.links.snapshot();
            let state = links.into_iter().map(|(_, _, state)| state).next();
            let state = state.unwrap_or(LinkState::Connecting);
            let is_over = Instant::now() >= until;
            match state {
                LinkState::Up if self.polled.is_empty() || is_over => return state,
                LinkState::Down(_) => return state,
                LinkState::Connecting if is_over => return state,
                LinkState::Up | LinkState::Connecting => {}
            }
        }
    }

    const fn remedy(&self) -> &'static str {
        match self.kind {
            LinkKind::Serial => {
                "edge-agent scan serial lists the ports, scan modbus PORT who answers there"
            }
            LinkKind::Modbus => "edge-agent scan modbus HOST:PORT shows who answers there",
            _ => "see url, username, password and the broker's log",
        }
    }
}
