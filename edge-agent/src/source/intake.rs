//! What every source does with what it read: hand it over, or reject it, and count either.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use protocol::{Metadata, Reading, Topic};

use super::{
    counters::Counters,
    look::Tap,
    processing::{self, Processing},
};
use crate::{
    clock::{Clock, Moment},
    decode::{DecodeError, Decoded, Defaults, Problem},
    devices::Devices,
    ingest::{Answer, Closed, Gate, Message, Origin, Outcome, Rejection},
    link::{LinkState, Links},
};

/// At most one line a minute about single values that were left out.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// One source's way to the rest of the agent.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) outlet: Outlet,
    pub(super) links: Links,
    pub(super) clock: Clock,
    pub(super) counters: Arc<Counters>,
    pub(super) max_age: Duration,
    processing: Processing,
    devices: Devices,
    noted: Mutex<Option<Instant>>,
}

/// Where messages go.
#[derive(Debug)]
pub(super) enum Outlet {
    Gate(Gate),
    /// To somebody who looks.
    Probe(Tap),
    /// To a test, which gives the receipts itself.
    #[cfg(test)]
    Test {
        messages: std::sync::mpsc::Sender<Message>,
        rejected: std::sync::mpsc::Sender<(Rejection, String, Vec<u8>)>,
    },
}

impl Outlet {
    /// The gate, with what must go through it; nothing where somebody else took it.
    fn gate(&self, message: Message) -> Result<Option<(&Gate, Message)>, Closed> {
        match self {
            Self::Gate(gate) => Ok(Some((gate, message))),
            // Who looks was shown the reading before it became a message; nobody may wait for it.
            Self::Probe(_) => {
                if let Some(answer) = message.answer {
                    answer.give(Outcome::Stored);
                }
                Ok(None)
            }
            #[cfg(test)]
            Self::Test { messages, .. } => {
                messages.send(message).map_err(|_| Closed)?;
                Ok(None)
            }
        }
    }
}

impl Intake {
    pub(super) fn new(
        outlet: Outlet,
        links: Links,
        clock: Clock,
        counters: Arc<Counters>,
        max_age: Duration,
        processing: Processing,
        devices: Devices,
    ) -> Self {
        Self {
            outlet,
            links,
            clock,
            counters,
            max_age,
            processing,
            devices,
            noted: Mutex::new(None),
        }
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(super) fn link(&self, state: LinkState) {
        self.links
            .set(self.counters.kind, &self.counters.name, state);
    }

    /// Notes bytes as they come, for somebody who looks.
    pub(super) fn heard(&self, bytes: &[u8]) {
        if let Outlet::Probe(tap) = &self.outlet {
            tap.heard(bytes);
        }
    }

    /// Makes the reading, noting what had to be left out of it.
    pub(super) fn reading(
        &self,
        mut decoded: Decoded,
        defaults: &Defaults<'_>,
        at: &Moment,
    ) -> Result<Reading, DecodeError> {
        if decoded.fields.is_empty() {
            return Err(decoded.nothing());
        }
        let rejected = std::mem::take(&mut decoded.rejected);
        let reading = decoded.into_reading(defaults, at)?;
        self.note(&reading, &rejected);
        Ok(reading)
    }

    fn note(&self, reading: &Reading, rejected: &[(Box<str>, Problem)]) {
        let Some((name, problem)) = rejected.first() else {
            return;
        };
        self.counters
            .fields_rejected(u64::try_from(rejected.len()).unwrap_or(u64::MAX));
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.is_none_or(|then| then.elapsed() >= NOTE_EVERY) {
            *noted = Some(Instant::now());
            tracing::warn!(
                source = self.counters.name,
                device = %reading.device,
                member = ?name,
                %problem,
                total = self.counters.seen().fields_rejected,
                "member left out of a reading"
            );
        }
    }

    /// Hands over one reading from a thread; waits while ingest cannot take it.
    pub(super) fn hand_over(
        &self,
        lane: &Topic,
        reading: Reading,
        at: &Moment,
        answer: Option<Answer>,
    ) -> Result<(), Closed> {
        self.counters.received(1);
        for message in self.process(lane, vec![reading], Origin::Unknown, at, answer) {
            if let Some((gate, message)) = self.outlet.gate(message)? {
                gate.blocking_send(message)?;
            }
        }
        Ok(())
    }

    /// Hands over the readings of one message from a task; waits while ingest cannot take them.
    pub(super) async fn send(
        &self,
        lane: &Topic,
        readings: Vec<Reading>,
        origin: Origin,
        at: &Moment,
        answer: Option<Answer>,
    ) -> Result<(), Closed> {
        self.counters
            .received(u64::try_from(readings.len()).unwrap_or(u64::MAX));
        for message in self.process(lane, readings, origin, at, answer) {
            if let Some((gate, message)) = self.outlet.gate(message)? {
                gate.send(message).await?;
            }
        }
        Ok(())
    }

    /// What goes to the gate of these readings: first windows that they closed, then what is left of them. Where
    /// nothing is left, the source is answered at once.
    fn process(
        &self,
        lane: &Topic,
        readings: Vec<Reading>,
        origin: Origin,
        at: &Moment,
        answer: Option<Answer>,
    ) -> Vec<Message> {
        let mut kept = Vec::with_capacity(readings.len());
        let mut messages = Vec::new();
        for reading in readings {
            let name = &self.counters.name;
            self.devices.heard(name, &reading, Instant::now());
            let before = matches!(self.outlet, Outlet::Probe(_)).then(|| reading.clone());
            let applied = self.processing.apply(&self.counters.name, lane, reading);
            self.counters.touched(&applied.touched);
            if let (Some(before), Outlet::Probe(tap)) = (before, &self.outlet) {
                tap.reading(before, applied);
                continue;
            }
            kept.extend(applied.kept);
            if let (Some(reason), Outlet::Gate(gate)) = (applied.suppressed, &self.outlet) {
                gate.suppressed(reason);
            }
            let closed = applied.closed.into_iter();
            messages
                .extend(closed.map(|(lane, reading)| processing::message(lane, reading, at.wall)));
        }
        if !kept.is_empty() {
            messages.push(message(lane, kept, origin, at, answer));
        } else if let Some(answer) = answer {
            answer.give(Outcome::Stored);
        }
        messages
    }

    /// Counts an input that is no reading and gives its bytes to the quarantine.
    pub(super) fn reject(&self, reason: Rejection, detail: &dyn Display, bytes: &[u8]) {
        self.counters.rejected(reason);
        match &self.outlet {
            Outlet::Gate(gate) => gate.reject(&self.counters.name, reason, 1, detail, bytes),
            Outlet::Probe(tap) => tap.rejected(reason, detail.to_string(), bytes),
            #[cfg(test)]
            Outlet::Test { rejected, .. } => {
                let _gone = rejected.send((reason, detail.to_string(), bytes.to_vec()));
            }
        }
    }
}

fn message(
    lane: &Topic,
    readings: Vec<Reading>,
    origin: Origin,
    at: &Moment,
    answer: Option<Answer>,
) -> Message {
    Message {
        lane: lane.clone(),
        readings,
        origin,
        received: at.wall,
        answer,
    }
}

/// Metadata of the whole box under that of one source.
pub(super) fn source_meta(box_wide: &Metadata, own: &Metadata) -> Result<Metadata, DecodeError> {
    crate::decode::merge(
        box_wide,
        own.iter()
            .map(|(name, text)| (name.clone(), text.into()))
            .collect(),
    )
}

/// The far end of an [`Outlet::Test`].
#[cfg(test)]
pub(super) struct Far {
    pub(super) messages: std::sync::mpsc::Receiver<Message>,
    pub(super) rejected: std::sync::mpsc::Receiver<(Rejection, String, Vec<u8>)>,
    pub(super) counters: Arc<Counters>,
    pub(super) links: Links,
}

#[cfg(test)]
impl Far {
    /// By when what is bound to come has come, on a machine that is busy.
    const PATIENCE: Duration = Duration::from_secs(60);

    pub(super) fn new(kind: crate::link::LinkKind) -> (Intake, Self) {
        Self::with(kind, &[])
    }

    pub(super) fn with(
        kind: crate::link::LinkKind,
        rules: &[crate::process::Rule],
    ) -> (Intake, Self) {
        let (messages, got) = std::sync::mpsc::channel();
        let (rejected, refused) = std::sync::mpsc::channel();
        let far = Self {
            messages: got,
            rejected: refused,
            counters: Arc::new(Counters::new("source", kind)),
            links: Links::default(),
        };
        let intake = Intake::new(
            Outlet::Test { messages, rejected },
            far.links.clone(),
            Clock::default(),
            Arc::clone(&far.counters),
            Duration::from_secs(86_400),
            Processing::new(rules).0,
            Devices::default(),
        );
        (intake, far)
    }

    /// The next message; a test that waits for one in vain has failed.
    pub(super) fn message(&self) -> Message {
        self.messages.recv_timeout(Self::PATIENCE).unwrap()
    }

    pub(super) fn rejection(&self) -> Rejection {
        self.rejected.recv_timeout(Self::PATIENCE).unwrap().0
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Clock as Quality, DeviceId, FieldName, Fields, Timestamp, Value};

    use super::*;
    use crate::{
        link::LinkKind,
        process::{OnChange, Rule, Statistic, Window},
    };

    fn reading(value: f64) -> Reading {
        let field = (FieldName::new("v").unwrap(), Value::Float(value));
        Reading {
            device: DeviceId::new("d").unwrap(),
            time: Timestamp::UNIX_EPOCH,
            clock: Quality::Synced,
            fields: Fields::new(vec![field]).unwrap(),
            source: None,
            meta: Metadata::default(),
        }
    }

    #[test]
    fn a_source_is_told_at_once_of_a_reading_that_is_suppressed() {
        let rule = Rule {
            on_change: Some(OnChange {
                dead_band: 1.0,
                heartbeat: OnChange::HEARTBEAT,
            }),
            ..Rule::default()
        };
        let (intake, far) = Far::with(LinkKind::Mqtt, &[rule]);
        let (to, mut receipts) = tokio::sync::mpsc::unbounded_channel();
        let lane = Topic::new("t").unwrap();
        for (token, value) in [(1, 5.0), (2, 5.5), (3, 6.5)] {
            let to = to.clone();
            let answer = Some(Answer { token, to });
            let now = intake.now();
            intake
                .hand_over(&lane, reading(value), &now, answer)
                .unwrap();
        }
        let told = receipts.try_recv().unwrap();
        assert_eq!((told.token, told.outcome), (2, Outcome::Stored));
        assert!(receipts.try_recv().is_err(), "the others wait for the disk");
        assert_eq!(far.message().answer.unwrap().token, 1);
        assert_eq!(far.message().answer.unwrap().token, 3);
        assert_eq!(far.counters.seen().received, 3);
    }

    #[test]
    fn a_window_that_a_reading_closes_goes_out_before_it_is_answered() {
        let rule = Rule {
            window: Some(Window {
                every: Duration::from_millis(1),
                keep: vec![Statistic::Mean],
            }),
            ..Rule::default()
        };
        let (intake, far) = Far::with(LinkKind::Mqtt, &[rule]);
        let lane = Topic::new("t").unwrap();
        let now = intake.now();
        intake.hand_over(&lane, reading(1.0), &now, None).unwrap();
        while far.messages.try_recv().is_err() {
            intake.hand_over(&lane, reading(1.0), &now, None).unwrap();
        }
    }
}
