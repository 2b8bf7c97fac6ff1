//! The conversation with a framed device, as a state machine: frames, receipts and the time go in, what
//! to do comes out.
//!
//! A reading is taken only from a boot that has said hello, for only the hello names the device. It is
//! acknowledged only when its receipt says that it is durable (or never will be). Tokens are never used
//! twice, and another device on the line makes those of the one before void, so an acknowledgement cannot
//! name another reading. A session lives as long as the
//! port is open: receipts for a device that was unplugged meanwhile find nobody, and the device sends
//! again what it does not know to be stored.

use std::{collections::BTreeMap, time::Duration};

use protocol::{
    FieldName, GatewayId, MAX_TEXT_BYTES, SourceId, Timestamp,
    frame::{Ack, Frame, FrameReading, FrameTime, Hello, Status, Verdict},
};

use crate::{
    clock::Moment,
    decode::{Decoded, DeviceTime, Problem, Scalar, excerpt, unique},
    ingest::{Outcome, Receipt},
};

/// Readings taken and not yet answered; a device that sends more gets no answer and sends them again.
pub(super) const MAX_INFLIGHT: usize = 64;
/// An unknown device is asked for its hello at most this often.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// One device on one open port.
#[derive(Debug)]
pub(super) struct Session {
    gateway: GatewayId,
    peer: Option<Peer>,
    asked_us: Option<u64>,
    /// Boot and sequence of what was taken, by token.
    inflight: BTreeMap<u64, (u32, u32)>,
    tokens: u64,
}

#[derive(Debug)]
struct Peer {
    device: String,
    boot: u32,
    meta: Vec<(FieldName, Box<str>)>,
    dropped: u32,
}

/// What to do about a frame.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Write this.
    Write(Frame),
    /// Hand this over under this token; [`Session::refused`] if it turns out to be no reading.
    Take { token: u64, decoded: Decoded },
    /// The device said that it had to drop this many more readings itself.
    DeviceDropped(u32),
    /// Not taken now; the device will send it again.
    Deferred,
    /// Nothing.
    Nothing,
}

impl Session {
    pub(super) fn new(gateway: GatewayId) -> Self {
        Self {
            gateway,
            peer: None,
            asked_us: None,
            inflight: BTreeMap::new(),
            tokens: 0,
        }
    }

    /// Whether receipts are outstanding.
    pub(super) fn waits(&self) -> bool {
        !self.inflight.is_empty()
    }

    /// What to write when the port has been opened.
    pub(super) fn opened(&mut self, now: &Moment) -> Frame {
        self.asked_us = Some(now.monotonic_us);
        self.hello(now, true)
    }

    pub(super) fn frame(&mut self, frame: Frame, now: &Moment) -> Step {
        match frame {
            // Our own words, come back by a line that echoes.
            Frame::Hello(hello) if hello.device == self.gateway.as_str() => Step::Nothing,
            Frame::Hello(hello) => self.greeted(hello, now),
            Frame::Reading(reading) => self.reading(reading, now),
            Frame::Status(status) => self.status(&status),
            Frame::Ack(_) => Step::Nothing,
        }
    }

    fn hello(&self, now: &Moment, reply: bool) -> Frame {
        Frame::Hello(Hello {
            device: self.gateway.as_str().into(),
            model: String::new(),
            firmware: String::new(),
            boot: u32::try_from(now.boot.0 & u64::from(u32::MAX)).unwrap_or(0),
            time_us: u64::try_from(now.wall.as_micros())
                .ok()
                .filter(|_| now.synced),
            reply,
        })
    }

    fn greeted(&mut self, hello: Hello, now: &Moment) -> Step {
        let meta = [("model", hello.model), ("firmware", hello.firmware)]
            .into_iter()
            .filter(|(_, text)| !text.is_empty() && text.len() <= MAX_TEXT_BYTES)
            .filter_map(|(name, text)| Some((FieldName::new(name).ok()?, text.into())))
            .collect();
        let same = self
            .peer
            .as_ref()
            .filter(|peer| peer.device == hello.device);
        if same.is_none() {
            // Its boot and sequence may be those of the device before.
            self.inflight.clear();
        }
        let dropped = same
            .filter(|peer| peer.boot == hello.boot)
            .map_or(0, |peer| peer.dropped);
        self.peer = Some(Peer {
            device: hello.device,
            boot: hello.boot,
            meta,
            dropped,
        });
        self.asked_us = None;
        if hello.reply {
            Step::Write(self.hello(now, false))
        } else {
            Step::Nothing
        }
    }

    fn reading(&mut self, reading: FrameReading, now: &Moment) -> Step {
        let Some(peer) = self.peer.as_ref().filter(|peer| peer.boot == reading.boot) else {
            return self.ask(now);
        };
        let id = (reading.boot, reading.sequence);
        if self.inflight.values().any(|taken| *taken == id) {
            // Sent again while the first one is being written: its receipt answers both.
            return Step::Nothing;
        }
        if self.inflight.len() >= MAX_INFLIGHT {
            return Step::Deferred;
        }
        let token = self.tokens;
        self.tokens += 1;
        self.inflight.insert(token, id);
        Step::Take {
            token,
            decoded: decoded(peer, reading),
        }
    }

    fn ask(&mut self, now: &Moment) -> Step {
        let interval = u64::try_from(ASK_EVERY.as_micros()).unwrap_or(u64::MAX);
        match self.asked_us {
            Some(then) if now.monotonic_us.saturating_sub(then) < interval => Step::Deferred,
            _ => {
                self.asked_us = Some(now.monotonic_us);
                Step::Write(self.hello(now, true))
            }
        }
    }

    fn status(&mut self, status: &Status) -> Step {
        match &mut self.peer {
            Some(peer) if peer.boot == status.boot && status.dropped > peer.dropped => {
                let more = status.dropped - peer.dropped;
                peer.dropped = status.dropped;
                Step::DeviceDropped(more)
            }
            _ => Step::Nothing,
        }
    }

    /// What was taken is no reading after all: tells the device to forget it.
    pub(super) fn refused(&mut self, token: u64) -> Option<Frame> {
        self.answer(token, Verdict::Rejected)
    }

    /// What a receipt lets us tell the device.
    pub(super) fn receipt(&mut self, receipt: Receipt) -> Option<Frame> {
        self.answer(
            receipt.token,
            match receipt.outcome {
                Outcome::Stored | Outcome::Dropped => Verdict::Stored,
                Outcome::Rejected => Verdict::Rejected,
            },
        )
    }

    fn answer(&mut self, token: u64, verdict: Verdict) -> Option<Frame> {
        let (boot, sequence) = self.inflight.remove(&token)?;
        Some(Frame::Ack(Ack {
            boot,
            sequence,
            verdict,
        }))
    }
}

fn decoded(peer: &Peer, reading: FrameReading) -> Decoded {
    let mut decoded = Decoded {
        device: Some(peer.device.clone()),
        source: Some(SourceId {
            boot: u64::from(reading.boot),
            sequence: u64::from(reading.sequence),
        }),
        meta: peer.meta.clone(),
        time: match reading.time {
            FrameTime::Arrival => None,
            FrameTime::Age(ms) => Some(DeviceTime::Age(Duration::from_millis(ms.into()))),
            FrameTime::Unix(us) => i64::try_from(us)
                .ok()
                .and_then(|us| Timestamp::from_micros(us).ok())
                .map(DeviceTime::At),
        },
        ..Decoded::default()
    };
    for (name, value) in reading.fields {
        match FieldName::normalise(&name) {
            Err(_) => decoded.rejected.push((excerpt(&name), Problem::Name)),
            Ok(canonical) => match Scalar::framed(value) {
                Ok(value) => decoded.fields.push((canonical, value)),
                Err(problem) => decoded.rejected.push((excerpt(&name), problem)),
            },
        }
    }
    unique(&mut decoded);
    decoded
}

#[cfg(test)]
mod tests;
