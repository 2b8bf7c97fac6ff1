//! An open-loop load: readings are due by the clock, whoever keeps up.
//!
//! A generator that waits for its last reading to be answered slows down with what it measures, and then
//! reports that all was well. Here a [`Schedule`] says when each reading is meant to be sent, and latency
//! counts from that moment, whether or not the reading could be sent then. What a closed window holds back
//! is sent as soon as it opens, and counts as late.
//!
//! One connection, one thread, no client library in between: packets are written into one buffer and
//! acknowledgements read from another, so that the generator costs a fraction of what it loads. How fast
//! it is by itself, `dev/bench live` prints first.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use hdrhistogram::Histogram;
use rumqttc::mqttbytes::{
    self, QoS,
    v4::{Connect, ConnectReturnCode, Disconnect, Packet, PingReq, Publish},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

pub use crate::link::mqtt::Broker;

/// Packet ids in use; a window is far smaller.
const PACKET_IDS: u64 = 60_000;
/// Nothing is written beyond so much that the broker has not taken.
const BUFFER_BYTES: usize = 64 * 1024;
/// A minute in microseconds: no latency counts for more.
const LONGEST_US: u64 = 60_000_000;
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// When readings are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// So many a second, the first at once.
    Rate(u32),
    /// As fast as the window allows: a closed loop, which finds a ceiling and knows no latency.
    Flood,
}

impl Schedule {
    /// How many readings are due after `elapsed`.
    #[must_use]
    pub fn due(self, elapsed: Duration) -> u64 {
        match self {
            Self::Flood => u64::MAX,
            Self::Rate(rate) => {
                let due = elapsed.as_nanos() * u128::from(rate) / 1_000_000_000;
                u64::try_from(due).unwrap_or(u64::MAX).saturating_add(1)
            }
        }
    }

    /// When reading `number` is meant to be sent, after the start.
    #[must_use]
    pub fn intended(self, number: u64) -> Duration {
        match self {
            Self::Flood => Duration::ZERO,
            Self::Rate(rate) => {
                let nanos = u128::from(number) * 1_000_000_000 / u128::from(rate.max(1));
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        }
    }
}

/// What is to be sent.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where.
    pub broker: Broker,
    /// Under this client id.
    pub client: String,
    /// To this topic, at QoS 1.
    pub topic: String,
    /// When.
    pub schedule: Schedule,
    /// How many.
    pub count: u64,
    /// Most readings sent and not acknowledged, at most some thousands.
    pub window: usize,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// When the first reading was due.
    pub began: Instant,
    /// From the first reading due to the last acknowledgement.
    pub took: Duration,
    /// From when a reading was meant to be sent to its PUBACK, in microseconds; empty for a flood.
    pub latency_us: Histogram<u64>,
    /// From when a reading was meant to be sent to when it was, at most.
    pub latest: Duration,
}

/// Why a load ended early.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The connection failed.
    #[error("load at the broker: {0}")]
    Io(#[from] std::io::Error),
    /// The broker speaks nonsense.
    #[error("load at the broker: {0}")]
    Protocol(#[from] mqttbytes::Error),
    /// The broker refuses.
    #[error("the broker refuses the load: {0:?}")]
    Refused(ConnectReturnCode),
    /// The broker is silent.
    #[error("{0} readings were not acknowledged for a minute")]
    Silent(usize),
    /// No histogram of that range.
    #[error("no histogram: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
}

impl Load {
    /// Sends everything and waits for the last acknowledgement. `payload` appends the payload of a reading;
    /// it is told its number and when it is meant to be sent, after the start.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn run(
        &self,
        mut payload: impl FnMut(u64, Duration, &mut Vec<u8>),
    ) -> Result<Outcome, LoadError> {
        let mut line = Line::connect(&self.broker, &self.client)?;
        let began = Instant::now();
        let mut outcome = Outcome {
            began,
            took: Duration::ZERO,
            latency_us: Histogram::new_with_bounds(1, LONGEST_US, 3)?,
            latest: Duration::ZERO,
        };
        let mut open = Window::new(self.window);
        let mut bytes = Vec::new();
        let mut next = 0;
        let mut heard = began;
        while next < self.count || !open.is_empty() {
            let due = self.schedule.due(began.elapsed()).min(self.count);
            while next < due && !open.is_full() && line.output.len() < BUFFER_BYTES {
                let intended = self.schedule.intended(next);
                bytes.clear();
                payload(next, intended, &mut bytes);
                let mut publish = Publish::new(&self.topic, QoS::AtLeastOnce, bytes.as_slice());
                publish.pkid = open.send(next);
                publish.write(&mut line.output)?;
                if self.schedule != Schedule::Flood {
                    outcome.latest = outcome.latest.max(began.elapsed().saturating_sub(intended));
                }
                next += 1;
            }
            let held = open.is_full() || line.output.len() >= BUFFER_BYTES;
            let wait = match held || next >= self.count {
                true => Duration::from_millis(100),
                false => self.schedule.intended(next).saturating_sub(began.elapsed()),
            };
            line.exchange(wait)?;
            while let Some(packet) = line.packet()? {
                heard = Instant::now();
                let Packet::PubAck(ack) = packet else {
                    continue;
                };
                if let Some(number) = open.acknowledge(ack.pkid)
                    && self.schedule != Schedule::Flood
                {
                    let late = began
                        .elapsed()
                        .saturating_sub(self.schedule.intended(number));
                    let late = u64::try_from(late.as_micros()).unwrap_or(LONGEST_US);
                    outcome.latency_us.saturating_record(late);
                }
            }
            if heard.elapsed() > KEEP_ALIVE / 2 && line.output.is_empty() {
                PingReq.write(&mut line.output)?;
            }
            if !open.is_empty() && heard.elapsed() > Duration::from_secs(60) {
                return Err(LoadError::Silent(open.len()));
            }
        }
        outcome.took = began.elapsed();
        Disconnect.write(&mut line.output)?;
        // Whether it takes the farewell or has closed already, everything is acknowledged.
        line.write().ok();
        Ok(outcome)
    }
}

/// Readings sent and not acknowledged, by packet id.
struct Window {
    slots: Vec<Option<u64>>,
    open: usize,
    most: usize,
}

impl Window {
    fn new(most: usize) -> Self {
        Self {
            slots: vec![None; usize::try_from(PACKET_IDS).unwrap_or(0) + 1],
            open: 0,
            most: most.max(1),
        }
    }

    fn is_full(&self) -> bool {
        self.open >= self.most
    }

    fn is_empty(&self) -> bool {
        self.open == 0
    }

    fn len(&self) -> usize {
        self.open
    }

    fn send(&mut self, number: u64) -> u16 {
        let id = number % PACKET_IDS + 1;
        if let Some(slot) = usize::try_from(id)
            .ok()
            .and_then(|at| self.slots.get_mut(at))
            && slot.replace(number).is_none()
        {
            self.open += 1;
        }
        u16::try_from(id).unwrap_or(1)
    }

    fn acknowledge(&mut self, id: u16) -> Option<u64> {
        let number = self.slots.get_mut(usize::from(id))?.take()?;
        self.open -= 1;
        Some(number)
    }
}

/// A connection to the broker that never blocks but in [`exchange`](Self::exchange).
struct Line {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
}

impl Line {
    fn connect(broker: &Broker, client: &str) -> Result<Self, LoadError> {
        let stream = TcpStream::connect((broker.host(), broker.port()))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut line = Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
        };
        let mut connect = Connect::new(client);
        connect.keep_alive = u16::try_from(KEEP_ALIVE.as_secs()).unwrap_or(10);
        connect.clean_session = true;
        connect.write(&mut line.output)?;
        for _ in 0..100 {
            line.exchange(Duration::from_millis(100))?;
            if let Some(Packet::ConnAck(answer)) = line.packet()? {
                return match answer.code {
                    ConnectReturnCode::Success => Ok(line),
                    code => Err(LoadError::Refused(code)),
                };
            }
        }
        Err(LoadError::Silent(0))
    }

    /// Waits until something can be read or written, or `wait` is over, and does it.
    fn exchange(&mut self, wait: Duration) -> std::io::Result<()> {
        let mut flags = PollFlags::IN;
        if !self.output.is_empty() {
            flags |= PollFlags::OUT;
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(0),
            tv_nsec: wait.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.stream, flags)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.write()?;
        self.read()
    }

    fn write(&mut self) -> std::io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(written) => drop(self.output.split_to(written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> std::io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn packet(&mut self) -> Result<Option<Packet>, LoadError> {
        match Packet::read(&mut self.input, 1 << 20) {
            Ok(packet) => Ok(Some(packet)),
            Err(mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
