//! Asks the devices of a line in turn, as [`Poll`] says.
//!
//! What comes back is read by the stream of the device's format, which is given the question as well, as if
//! the line had been tapped: so an adapter that echoes does no harm, and there is one decoder for the live
//! line and for a capture. All answers of a round are one reading.

use std::{
    thread,
    time::{Duration, Instant},
};

use protocol::{Metadata, Topic};
use tokio_util::sync::CancellationToken;

use super::{
    intake::Intake,
    keep::{End, IDLE},
    poll::{Next, Poll, Round},
};
use crate::{
    config::{Polled, PolledDevice},
    decode::{
        Decoded, Defaults,
        stream::{Fault, Piece, Stream},
        unique,
    },
    ingest::Closed,
};

/// Silence in the middle of an answer that ends it. USB adapters deliver every 16 ms.
const GAP: Duration = Duration::from_millis(50);

/// A connection on which nobody answers for this long is made anew.
const SILENT: Duration = Duration::from_secs(60);

/// What carries questions and answers.
pub(super) trait Line {
    /// Whether it is made anew when nobody answers any more: a peer that lost power does not close it.
    const CONNECTION: bool = false;

    /// Forgets what came late and puts the question; gives back the bytes that went out.
    fn ask(&mut self, question: &[u8]) -> Result<Vec<u8>, End>;

    /// Bytes heard within `patience`, which is not zero; `None` when there were none.
    fn hear(&mut self, buffer: &mut [u8], patience: Duration) -> Result<Option<usize>, End>;
}

/// Who asks.
pub(super) struct Poller<'p> {
    pub(super) name: &'p str,
    pub(super) topic: &'p Topic,
    pub(super) meta: &'p Metadata,
    pub(super) intake: &'p Intake,
    pub(super) shutdown: &'p CancellationToken,
}

/// A device and what it has said in this round.
struct Asked<'p> {
    device: &'p PolledDevice,
    questions: Vec<Vec<u8>>,
    stream: Stream,
    said: Decoded,
    /// Question and answer, for somebody who looks.
    raw: Vec<u8>,
}

impl Poller<'_> {
    /// Asks in turn until the line is gone or the process goes down.
    pub(super) fn run<L: Line>(&self, line: &mut L, polled: &Polled) -> End {
        let mut devices: Vec<Asked<'_>> = polled
            .devices
            .iter()
            .map(|device| Asked {
                device,
                questions: device.preset.questions(device.unit),
                stream: device.preset.stream(),
                said: Decoded::default(),
                raw: Vec::new(),
            })
            .collect();
        let grid = devices
            .iter()
            .map(|asked| (asked.device.every, asked.questions.len()));
        let start = Instant::now();
        let mut poll = Poll::new(grid, polled.retries, Duration::ZERO);
        let (mut overruns, mut heard_at) = (0, Instant::now());
        while !self.shutdown.is_cancelled() {
            let (slave, question) = match poll.next(start.elapsed()) {
                Next::Ask { slave, question } => (slave, question),
                Next::Wait(until) => {
                    thread::sleep(until.saturating_sub(start.elapsed()).min(IDLE));
                    continue;
                }
            };
            let asked = &mut devices[slave];
            let heard = match asked.put(question, line, polled.timeout) {
                Ok(heard) => heard,
                Err(end) => return end,
            };
            let was_dead = poll.is_dead(slave);
            let round = if self.heard(heard, asked) {
                heard_at = Instant::now();
                poll.answered(slave)
            } else if L::CONNECTION && heard_at.elapsed() > SILENT {
                return End::Gone("nobody answers".into());
            } else {
                if L::CONNECTION {
                    // The answer may still come; it must not find its question.
                    asked.stream = asked.device.preset.stream();
                }
                poll.unanswered(slave)
            };
            self.tell(asked, was_dead, poll.is_dead(slave));
            if matches!(round, Round::Over(answers) if answers > 0)
                && let Err(closed) = self.round(asked)
            {
                return closed.into();
            }
            // Told once a line: an interval that is too short stays too short.
            if poll.overruns() > 0 && overruns == 0 {
                tracing::warn!(source = self.name, "polling falls behind its interval");
            }
            self.intake.counters.overran(poll.overruns() - overruns);
            overruns = poll.overruns();
            thread::sleep(polled.turnaround);
        }
        End::Shutdown
    }

    /// Takes what came back; whether that was an answer. An exception is one, though not a reading.
    fn heard(&self, heard: Vec<Piece>, asked: &mut Asked<'_>) -> bool {
        self.intake.heard(&std::mem::take(&mut asked.raw));
        let mut answered = false;
        for piece in heard {
            match piece {
                Piece::Reading(_, decoded) => {
                    answered = true;
                    asked.said.fields.extend(decoded.fields);
                    asked.said.rejected.extend(decoded.rejected);
                }
                Piece::Rejected(rejected) => {
                    // 10, 11: a gateway says that the device behind it does not answer.
                    answered |= match rejected.fault {
                        Fault::Exception { code, .. } => !matches!(code, 10 | 11),
                        // It said something, if nothing that can be kept.
                        Fault::Decode(_) => true,
                        _ => false,
                    };
                    let reason = rejected.fault.rejection();
                    self.intake.reject(reason, &rejected.fault, &rejected.bytes);
                }
            }
        }
        answered
    }

    fn tell(&self, asked: &Asked<'_>, was_dead: bool, is_dead: bool) {
        let (source, device) = (self.name, &asked.device.id);
        match (was_dead, is_dead) {
            (false, true) => tracing::warn!(source, %device, "device does not answer"),
            (true, false) => tracing::info!(source, %device, "device answers"),
            _ => {}
        }
    }

    fn round(&self, asked: &mut Asked<'_>) -> Result<(), Closed> {
        let now = self.intake.now();
        let mut decoded = std::mem::take(&mut asked.said);
        unique(&mut decoded);
        if decoded.fields.is_empty() && decoded.rejected.is_empty() {
            return Ok(());
        }
        let defaults = Defaults {
            device: Some(&asked.device.id),
            meta: self.meta,
            max_age: self.intake.max_age,
        };
        match self.intake.reading(decoded, &defaults, &now) {
            Ok(reading) => self.intake.hand_over(self.topic, reading, &now, None),
            Err(error) => {
                self.intake.reject(error.rejection(), &error, &[]);
                Ok(())
            }
        }
    }
}

impl Asked<'_> {
    /// Puts a question and listens until there is an answer, or none in time.
    fn put(
        &mut self,
        question: usize,
        line: &mut impl Line,
        timeout: Duration,
    ) -> Result<Vec<Piece>, End> {
        if question == 0 {
            self.said = Decoded::default();
        }
        let Some(frame) = self.questions.get(question) else {
            return Ok(Vec::new());
        };
        let sent = line.ask(frame)?;
        self.raw.clear();
        self.raw.extend_from_slice(&sent);
        let mut pieces = Vec::new();
        self.stream.push(&sent, &mut pieces);
        let until = Instant::now() + timeout;
        let mut buffer = [0; 512];
        while !pieces.iter().any(Piece::is_answer) {
            // Once the answer has begun, silence ends it.
            let within = self.stream.is_within();
            let left = until.saturating_duration_since(Instant::now());
            let patience = if within { GAP } else { left };
            if patience.is_zero() {
                break;
            }
            match line.hear(&mut buffer, patience.max(Duration::from_millis(1)))? {
                Some(read) => {
                    // A device that never ends is cut off by the timeout; so is this.
                    if self.raw.len() < 1024 {
                        self.raw.extend_from_slice(&buffer[..read]);
                    }
                    self.stream.push(&buffer[..read], &mut pieces);
                    if !self.stream.is_within() {
                        // A "no" is kept back to be joined with what is wrong behind it, and here nothing is.
                        self.stream.idle(&mut pieces);
                    }
                }
                None if within => break,
                None => {}
            }
        }
        self.stream.finish(&mut pieces);
        Ok(pieces)
    }
}
