//! Asks the devices of a line in turn, as [`Poll`] says.
//!
//! What comes back is read by the stream of the device's format, which is given the question as well, as if
//! the line had been tapped: so an adapter that echoes does no harm, and there is one decoder for the live
//! line and for a capture. All answers of a round are one reading.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use serialport::{ClearBuffer, SerialPort, TTYPort};

use super::{
    End, IDLE, Port, gone,
    poll::{Next, Poll, Round},
    read,
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

/// A device and what it has said in this round.
struct Asked<'p> {
    device: &'p PolledDevice,
    questions: Vec<Vec<u8>>,
    stream: Stream,
    said: Decoded,
}

impl Port {
    /// `mode = "modbus" | "mh-z19"`.
    pub(super) fn polled(&self, mut port: TTYPort, polled: &Polled) -> End {
        let mut devices: Vec<Asked<'_>> = polled
            .devices
            .iter()
            .map(|device| Asked {
                device,
                questions: device.preset.questions(device.unit),
                stream: device.preset.stream(),
                said: Decoded::default(),
            })
            .collect();
        let grid = devices
            .iter()
            .map(|asked| (asked.device.every, asked.questions.len()));
        let start = Instant::now();
        let mut poll = Poll::new(grid, polled.retries, Duration::ZERO);
        let mut overruns = 0;
        while !self.shutdown.is_cancelled() {
            let (slave, question) = match poll.next(start.elapsed()) {
                Next::Ask { slave, question } => (slave, question),
                Next::Wait(until) => {
                    thread::sleep(until.saturating_sub(start.elapsed()).min(IDLE));
                    continue;
                }
            };
            let asked = &mut devices[slave];
            let heard = match asked.put(question, &mut port, polled.timeout) {
                Ok(heard) => heard,
                Err(end) => return end,
            };
            let was_dead = poll.is_dead(slave);
            let round = if self.heard(heard, asked) {
                poll.answered(slave)
            } else {
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
                let source = &self.settings.name;
                tracing::warn!(source, "polling falls behind its interval");
            }
            overruns = poll.overruns();
            thread::sleep(polled.turnaround);
        }
        End::Shutdown
    }

    /// Takes what came back; whether that was an answer. An exception is one, though not a reading.
    fn heard(&self, heard: Vec<Piece>, asked: &mut Asked<'_>) -> bool {
        let mut answered = false;
        for piece in heard {
            match piece {
                Piece::Reading(_, decoded) => {
                    answered = true;
                    asked.said.fields.extend(decoded.fields);
                    asked.said.rejected.extend(decoded.rejected);
                }
                Piece::Rejected(rejected) => {
                    answered |= matches!(rejected.fault, Fault::Exception { .. });
                    let reason = rejected.fault.rejection();
                    self.intake.reject(reason, &rejected.fault, &rejected.bytes);
                }
            }
        }
        answered
    }

    fn tell(&self, asked: &Asked<'_>, was_dead: bool, is_dead: bool) {
        let (source, device) = (&self.settings.name, &asked.device.id);
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
            meta: &self.meta,
            max_age: self.intake.max_age,
        };
        match self.intake.reading(decoded, &defaults, &now) {
            Ok(reading) => self
                .intake
                .hand_over(&self.settings.topic, reading, &now, None),
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
        port: &mut TTYPort,
        timeout: Duration,
    ) -> Result<Vec<Piece>, End> {
        if question == 0 {
            self.said = Decoded::default();
        }
        let Some(frame) = self.questions.get(question) else {
            return Ok(Vec::new());
        };
        let failed = |error: serialport::Error| End::Gone(error.to_string());
        // A late answer to an earlier question is not the answer to this one.
        port.clear(ClearBuffer::Input).map_err(failed)?;
        port.write_all(frame)
            .map_err(|error| gone("write", &error))?;
        let mut pieces = Vec::new();
        self.stream.push(frame, &mut pieces);
        let until = Instant::now() + timeout;
        let mut buffer = [0; 256];
        while pieces.is_empty() {
            // Once the answer has begun, silence ends it.
            let within = self.stream.is_within();
            let left = until.saturating_duration_since(Instant::now());
            let patience = if within { GAP } else { left };
            if patience.is_zero() {
                break;
            }
            port.set_timeout(patience.max(Duration::from_millis(1)))
                .map_err(failed)?;
            match read(port, &mut buffer)? {
                Some(read) => self.stream.push(&buffer[..read], &mut pieces),
                None if within => break,
                None => {}
            }
        }
        self.stream.finish(&mut pieces);
        Ok(pieces)
    }
}
