//! A device that speaks our serial protocol: says hello, sends, waits for acks, sends again. Pure: it
//! is given bytes and the time, and gives frames.

use std::time::Duration;

use protocol::frame::{Ack, Decoder, Frame, FrameReading, FrameTime, Hello, Verdict};

use super::{
    Reading,
    outbox::{Entry, Outbox},
};

/// The device.
#[derive(Debug)]
pub struct Framed {
    id: String,
    model: &'static str,
    boot: u32,
    /// What is not acknowledged yet.
    pub outbox: Outbox,
    decoder: Decoder,
    hello: Option<bool>,
}

/// What an agent's frame meant.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// The reading is durable at the agent.
    Stored(Entry),
    /// The agent will never take it.
    Rejected(Entry),
}

/// One thing to send.
#[derive(Debug, PartialEq)]
pub struct Transmission {
    /// As it goes over the line.
    pub bytes: Vec<u8>,
    /// Which reading, unless it is a hello.
    pub reading: Option<(u32, u32)>,
    /// It went out before.
    pub again: bool,
}

impl Framed {
    /// A device that has just started.
    #[must_use]
    pub fn new(id: &str, model: &'static str, boot: u32, capacity: usize) -> Self {
        Self {
            id: id.to_owned(),
            model,
            boot,
            outbox: Outbox::new(capacity),
            decoder: Decoder::new(),
            hello: None,
        }
    }

    /// Starts again; returns what it forgets.
    pub fn reboot(&mut self, boot: u32) -> impl Iterator<Item = Entry> {
        self.boot = boot;
        self.hello = Some(true);
        self.outbox.clear()
    }

    /// Somebody opened the line: who it is has to be settled anew, and nothing sent before counts.
    pub fn connected(&mut self, now: Duration) {
        self.decoder = Decoder::new();
        self.hello = Some(true);
        self.outbox.all_due(now);
    }

    /// Cuts what came over the line into frames; damaged ones are passed by.
    pub fn decode(&mut self, bytes: &[u8]) -> Vec<Frame> {
        bytes
            .iter()
            .filter_map(|&byte| self.decoder.push(byte)?.ok())
            .collect()
    }

    /// Acts on a frame of the agent.
    pub fn receive(&mut self, frame: Frame, now: Duration) -> Option<Answer> {
        match frame {
            Frame::Ack(Ack {
                boot,
                sequence,
                verdict,
            }) => {
                let entry = self.outbox.settle(boot, sequence)?;
                Some(match verdict {
                    Verdict::Stored => Answer::Stored(entry),
                    Verdict::Rejected => Answer::Rejected(entry),
                })
            }
            // It asks because it met a boot it does not know and took nothing of it.
            Frame::Hello(Hello { reply: true, .. }) => {
                self.hello = Some(false);
                self.outbox.all_due(now);
                None
            }
            Frame::Hello(_) | Frame::Reading(_) | Frame::Status(_) => None,
        }
    }

    /// What to send now, one at a time: a hello before any reading. `wall_us` is the device's clock.
    pub fn transmit(&mut self, now: Duration, wall_us: u64) -> Option<Transmission> {
        if let Some(reply) = self.hello.take() {
            let hello = Frame::Hello(Hello {
                device: self.id.clone(),
                model: self.model.to_owned(),
                firmware: env!("CARGO_PKG_VERSION").to_owned(),
                boot: self.boot,
                time_us: Some(wall_us),
                reply,
            });
            return Some(Transmission {
                bytes: encoded(&hello),
                reading: None,
                again: false,
            });
        }
        let entry = self.outbox.next_due(now)?;
        let again = entry.sends > 0;
        let wait = entry.retry_wait();
        entry.sent(now, wait);
        Some(Transmission {
            bytes: encoded(&reading_frame(&entry.reading)),
            reading: Some((entry.reading.boot, entry.reading.sequence)),
            again,
        })
    }

    /// When there is something to send, if nothing happens before.
    #[must_use]
    pub fn due_at(&self) -> Option<Duration> {
        match self.hello {
            Some(_) => Some(Duration::ZERO),
            None => self.outbox.due_at(),
        }
    }
}

fn reading_frame(reading: &Reading) -> Frame {
    Frame::Reading(FrameReading {
        boot: reading.boot,
        sequence: reading.sequence,
        time: FrameTime::Unix(reading.time_us),
        fields: reading
            .values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
    })
}

/// Empty when the frame is too large, which no device here can make.
fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    match frame.encode(&mut bytes) {
        Ok(()) => bytes,
        Err(error) => {
            tracing::error!(%error, "device made a frame that cannot be sent");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn device() -> Framed {
        let mut device = Framed::new("meter-1", "meter", 9, 8);
        for sequence in 0..2 {
            let reading = Reading {
                boot: 9,
                sequence,
                time_us: 5,
                values: vec![("power_w", protocol::Value::Float(1.5))],
            };
            device.outbox.push(reading, Duration::ZERO);
        }
        device
    }

    fn sent(device: &mut Framed, now: Duration) -> Vec<String> {
        let mut decoder = Decoder::new();
        let mut names = Vec::new();
        while let Some(transmission) = device.transmit(now, 0) {
            for byte in transmission.bytes {
                match decoder.push(byte) {
                    Some(Ok(Frame::Hello(hello))) => names.push(format!("hello {}", hello.reply)),
                    Some(Ok(Frame::Reading(reading))) => names.push(reading.sequence.to_string()),
                    Some(other) => panic!("{other:?}"),
                    None => {}
                }
            }
        }
        names
    }

    fn ack(sequence: u32, verdict: Verdict) -> Frame {
        Frame::Ack(Ack {
            boot: 9,
            sequence,
            verdict,
        })
    }

    fn asking() -> Frame {
        Frame::Hello(Hello {
            device: "gw".into(),
            model: String::new(),
            firmware: String::new(),
            boot: 0,
            time_us: None,
            reply: true,
        })
    }

    #[test]
    fn a_conversation_as_the_protocol_tells_it() {
        let mut device = device();
        device.connected(Duration::ZERO);
        assert_eq!(sent(&mut device, Duration::ZERO), ["hello true", "0", "1"]);
        let stored = device.receive(ack(0, Verdict::Stored), SECOND);
        assert!(matches!(stored, Some(Answer::Stored(entry)) if entry.sends == 1));
        assert_eq!(
            sent(&mut device, SECOND / 2),
            [""; 0],
            "the ack may still come"
        );
        assert_eq!(sent(&mut device, SECOND), ["1"], "it did not");
        assert_eq!(
            device.receive(ack(0, Verdict::Stored), SECOND),
            None,
            "twice"
        );
        let rejected = device.receive(ack(1, Verdict::Rejected), SECOND);
        assert!(matches!(rejected, Some(Answer::Rejected(entry)) if entry.sends == 2));
        assert!(device.outbox.is_empty());
    }

    #[test]
    fn an_agent_that_asks_gets_a_hello_and_everything_again() {
        let mut device = device();
        assert_eq!(sent(&mut device, Duration::ZERO), ["0", "1"]);
        assert_eq!(device.receive(asking(), SECOND / 10), None);
        assert_eq!(sent(&mut device, SECOND / 10), ["hello false", "0", "1"]);
    }

    #[test]
    fn a_reboot_forgets_and_says_hello() {
        let mut device = device();
        assert_eq!(sent(&mut device, Duration::ZERO), ["0", "1"]);
        assert_eq!(device.reboot(10).count(), 2);
        assert_eq!(sent(&mut device, SECOND), ["hello true"]);
        assert_eq!(device.receive(ack(0, Verdict::Stored), SECOND), None);
    }

    #[test]
    fn damaged_bytes_from_the_agent_mean_nothing() {
        let mut device = device();
        let mut bytes = vec![1, 2, 3];
        ack(1, Verdict::Stored).encode(&mut bytes).unwrap();
        assert_eq!(device.decode(&bytes), [ack(1, Verdict::Stored)]);
    }
}
