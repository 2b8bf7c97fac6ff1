//! A device on a serial line: what it says, hears, and does when somebody opens or closes the line.
//!
//! A frame that nobody acknowledged is sent again to whoever opens the line next. A line of text cannot
//! be, so it is written only while somebody listens, and is never an obligation.

pub(crate) mod port;

use std::{collections::VecDeque, io, mem, path::PathBuf, time::Duration};

use port::{Port, TICK};

use super::{Phase, Station, count};
use crate::{
    device::{
        Reading,
        framed::{Answer, Framed},
        outbox::Entry,
        text::Format,
    },
    fault::{Action, OVERSIZED_BYTES, Occasion},
    truth::State,
};

/// Bytes waiting for the terminal, above which nothing new is put there.
const MAX_PENDING_BYTES: usize = 4096;
/// A held-back transmission goes out after this, when no successor came.
const LONGEST_HOLD: Duration = Duration::from_millis(500);

/// What goes out in one piece, and which line of text is in it.
struct Piece {
    bytes: Vec<u8>,
    entry: Option<(Entry, State)>,
}

enum Speech {
    Framed(Box<Framed>),
    Lines(Format),
}

/// A device on its line.
pub(crate) struct Player {
    station: Station,
    dir: PathBuf,
    speech: Speech,
    port: Option<Port>,
    unplugged_until: Duration,
    listening: bool,
    pending: VecDeque<Piece>,
    /// Bytes of the first pending piece that are written.
    written: usize,
    held: Option<(Piece, Duration)>,
}

impl Player {
    /// With frames, or with lines of a format.
    pub fn new(station: Station, dir: PathBuf, lines: Option<Format>) -> io::Result<Self> {
        let plan = &station.plan;
        let speech = match lines {
            Some(format) => Speech::Lines(format),
            None => Speech::Framed(Box::new(Framed::new(
                &plan.id,
                plan.kind.as_str(),
                station.boot,
                plan.ring,
            ))),
        };
        let port = Some(Port::open(&dir, &plan.id)?);
        Ok(Self {
            station,
            dir,
            speech,
            port,
            unplugged_until: Duration::ZERO,
            listening: false,
            pending: VecDeque::new(),
            written: 0,
            held: None,
        })
    }

    /// Plays until the run ended, or settled.
    pub fn play(mut self) -> io::Result<()> {
        let result = loop {
            let now = self.station.shared.now();
            match self.station.shared.phase() {
                Phase::Ended => break Ok(()),
                Phase::Settling if self.is_settled() => break Ok(()),
                Phase::Playing | Phase::Settling => {}
            }
            if let Err(error) = self.step(now) {
                break Err(error);
            }
        };
        let now = self.station.shared.now();
        self.forget_pending(now);
        if let Speech::Framed(framed) = &mut self.speech {
            for entry in framed.outbox.clear() {
                settle_unacknowledged(&self.station, entry, now);
            }
        }
        result
    }

    fn is_settled(&self) -> bool {
        let delivered = match &self.speech {
            Speech::Framed(framed) => framed.outbox.is_empty(),
            Speech::Lines(_) => self.pending.is_empty() && self.held.is_none(),
        };
        delivered || matches!(self.speech, Speech::Lines(_)) && !self.listening
    }

    fn step(&mut self, now: Duration) -> io::Result<()> {
        while let Some(occasion) = self.station.occasion(now) {
            self.act_on(occasion, now);
        }
        if self.port.is_none() && now >= self.unplugged_until {
            self.port = Some(Port::open(&self.dir, &self.station.plan.id)?);
        }
        self.wait_and_notice(now)?;
        let now = self.station.shared.now();
        self.hear(now)?;
        self.measure(now);
        if self.listening && !self.station.stalled(now) {
            self.speak(now);
            self.write(now)?;
        }
        Ok(())
    }

    fn act_on(&mut self, occasion: Occasion, now: Duration) {
        match occasion {
            Occasion::Unplug(lasts) => {
                self.port = None;
                self.unplugged_until = now + lasts;
                self.hung_up(now);
            }
            Occasion::Reboot => {
                self.forget_pending(now);
                if let Speech::Framed(framed) = &mut self.speech {
                    for entry in framed.reboot(self.station.boot) {
                        settle_unacknowledged(&self.station, entry, now);
                    }
                }
            }
            Occasion::Stall(_) | Occasion::ClockJump(_) => {}
        }
    }

    /// Sleeps until something is due, and sees whether somebody listens.
    fn wait_and_notice(&mut self, now: Duration) -> io::Result<()> {
        let mut due = self.station.next_at();
        if let (Speech::Framed(framed), true) = (&self.speech, self.listening) {
            due = due.min(framed.due_at().unwrap_or(Duration::MAX));
        }
        let timeout = due
            .saturating_sub(now)
            .clamp(Duration::from_millis(1), TICK);
        let to_write = !self.pending.is_empty() && !self.station.stalled(now);
        let open = match &self.port {
            Some(port) => port.wait(timeout, to_write)?,
            None => false,
        };
        match (self.listening, open) {
            (false, false) => std::thread::sleep(timeout),
            (true, false) => self.hung_up(now),
            (false, true) => {
                tracing::info!(device = %self.station.plan.id, "line opened");
                match &mut self.speech {
                    Speech::Framed(framed) => framed.connected(now),
                    // Half a line may have been left before.
                    Speech::Lines(_) => self.push(b"\n".to_vec(), None),
                }
            }
            (true, true) => {}
        }
        self.listening = open;
        Ok(())
    }

    fn hung_up(&mut self, now: Duration) {
        if mem::take(&mut self.listening) {
            tracing::info!(device = %self.station.plan.id, "line closed");
        }
        self.forget_pending(now);
    }

    /// What did not get into the terminal is lost; frames are still in the outbox.
    fn forget_pending(&mut self, now: Duration) {
        let held = self.held.take().map(|(piece, _)| piece);
        for piece in self.pending.drain(..).chain(held) {
            if let Some((entry, _)) = piece.entry {
                self.station.settle(entry, State::Damaged, now);
            }
        }
        self.written = 0;
    }

    fn hear(&mut self, now: Duration) -> io::Result<()> {
        let (Some(port), true) = (&self.port, self.listening) else {
            return Ok(());
        };
        let mut buffer = [0; 4096];
        let length = port.read(&mut buffer)?;
        let Speech::Framed(framed) = &mut self.speech else {
            return Ok(());
        };
        for frame in framed.decode(&buffer[..length]) {
            let is_ack = matches!(frame, protocol::frame::Frame::Ack(_));
            if is_ack && self.station.loses_ack(now) {
                continue;
            }
            match framed.receive(frame, now) {
                Some(Answer::Stored(entry)) => self.station.settle(entry, State::Acknowledged, now),
                Some(Answer::Rejected(entry)) => self.station.settle(entry, State::Rejected, now),
                None => {}
            }
        }
        Ok(())
    }

    fn measure(&mut self, now: Duration) {
        let full = match &self.speech {
            Speech::Framed(framed) => framed.outbox.is_full(),
            Speech::Lines(_) => false,
        };
        let Some(reading) = self.station.measure(now, full) else {
            return;
        };
        match &mut self.speech {
            Speech::Framed(framed) => framed.outbox.push(reading, now),
            Speech::Lines(_) if !self.listening => count(&self.station.shared.books.unheard),
            Speech::Lines(format) => {
                let format = *format;
                self.say_line(format, reading, now);
            }
        }
    }

    fn say_line(&mut self, format: Format, reading: Reading, now: Duration) {
        if self.pending_bytes() > MAX_PENDING_BYTES {
            count(&self.station.shared.books.unheard);
            return;
        }
        let mut bytes = format.write(&reading).into_bytes();
        let mut entry = Entry::new(reading, now);
        entry.sent(now, Duration::MAX);
        self.station.count_sent(false);
        let action = self.station.action(now);
        let mut state = State::Sent;
        match action {
            Action::Corrupt => self.station.faults.spoil_text(&mut bytes),
            Action::Truncate => self.station.faults.cut(&mut bytes),
            Action::Drop => bytes.clear(),
            _ => {}
        }
        if matches!(action, Action::Corrupt | Action::Truncate | Action::Drop) {
            state = State::Damaged;
        }
        entry.reordered = action == Action::Reorder;
        bytes.push(b'\n');
        self.emit(action, bytes, Some((entry, state)), now);
    }

    fn speak(&mut self, now: Duration) {
        while self.pending_bytes() < MAX_PENDING_BYTES {
            let clock_us = self.station.clock_us(now);
            let Speech::Framed(framed) = &mut self.speech else {
                break;
            };
            let Some(transmission) = framed.transmit(now, clock_us) else {
                break;
            };
            let mut bytes = transmission.bytes;
            let mut action = Action::Pass;
            if let Some((boot, sequence)) = transmission.reading {
                self.station.count_sent(transmission.again);
                action = self.station.action(now);
                if action == Action::Reorder {
                    framed.outbox.mark_reordered(boot, sequence);
                }
            }
            match action {
                Action::Corrupt => self.station.faults.flip_bits(&mut bytes),
                Action::Truncate => self.station.faults.cut(&mut bytes),
                Action::Drop => continue,
                _ => {}
            }
            self.emit(action, bytes, None, now);
        }
        if self
            .held
            .as_ref()
            .is_some_and(|(_, since)| *since + LONGEST_HOLD < now)
        {
            self.release_held();
        }
    }

    /// Puts a transmission, and what the fault adds, among the bytes to write.
    fn emit(
        &mut self,
        action: Action,
        bytes: Vec<u8>,
        entry: Option<(Entry, State)>,
        now: Duration,
    ) {
        match action {
            Action::Reorder if self.held.is_none() => {
                self.held = Some((Piece { bytes, entry }, now));
                return;
            }
            Action::Garbage => self.push_garbage(40),
            Action::Oversized => self.push_garbage(OVERSIZED_BYTES),
            Action::Duplicate => self.push(bytes.clone(), None),
            _ => {}
        }
        self.push(bytes, entry);
        self.release_held();
    }

    fn release_held(&mut self) {
        if let Some((piece, _)) = self.held.take() {
            self.pending.push_back(piece);
        }
    }

    fn push_garbage(&mut self, length: usize) {
        let mut bytes = self.station.faults.garbage(length);
        if matches!(self.speech, Speech::Lines(_)) {
            bytes.push(b'\n');
        }
        self.push(bytes, None);
    }

    fn push(&mut self, bytes: Vec<u8>, entry: Option<(Entry, State)>) {
        self.pending.push_back(Piece { bytes, entry });
    }

    fn pending_bytes(&self) -> usize {
        self.pending.iter().map(|piece| piece.bytes.len()).sum()
    }

    fn write(&mut self, now: Duration) -> io::Result<()> {
        let Some(port) = &self.port else {
            return Ok(());
        };
        while let Some(piece) = self.pending.front() {
            let rest = piece.bytes.get(self.written..).unwrap_or_default();
            let count = if rest.is_empty() {
                0
            } else {
                port.write(rest)?
            };
            self.written += count;
            if self.written < piece.bytes.len() {
                break;
            }
            self.written = 0;
            if let Some((entry, state)) = self.pending.pop_front().and_then(|piece| piece.entry) {
                self.station.settle(entry, state, now);
            }
        }
        Ok(())
    }
}

/// What never went out at all is nobody's business.
pub(super) fn settle_unacknowledged(station: &Station, entry: Entry, now: Duration) {
    if entry.sends > 0 {
        station.settle(entry, State::Sent, now);
    }
}
