//! Plays devices as they are bought: on a pty, behind a TCP port, at a broker.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use rumqttc::{AsyncClient, MqttOptions, QoS};

use super::{
    Phase, Station,
    mqtt::Broker,
    pty::port::{Port, TICK},
};
use crate::{
    native::{
        line::Speech,
        modbus::{self, Bus, Reply},
        publish::Firmware,
    },
    signal::Moment,
};

/// Bytes a line may have waiting; what is more is not said.
const MAX_PENDING: usize = 8192;

/// On a pty.
pub(crate) struct Line {
    pub station: Station,
    pub port: Port,
    pub voice: Voice,
}

/// What is said there.
pub(crate) enum Voice {
    Speech(Speech),
    Slaves(Bus),
}

impl Line {
    pub fn open(station: Station, dir: &Path, voice: Voice) -> io::Result<Self> {
        let port = Port::open(dir, &station.plan.id)?;
        Ok(Self {
            station,
            port,
            voice,
        })
    }

    /// Until the run settles: nothing is on its way that could still be delivered.
    pub fn play(mut self) -> io::Result<()> {
        let mut heard = Vec::new();
        let mut pending: Vec<u8> = Vec::new();
        let mut buffer = [0; 256];
        while self.station.shared.phase() == Phase::Playing {
            let listening = self.port.wait(TICK, !pending.is_empty())?;
            let read = self.port.read(&mut buffer)?;
            heard.extend_from_slice(&buffer[..read]);
            if !listening {
                heard.clear();
                pending.clear();
                std::thread::sleep(TICK);
            }
            self.speak(&mut heard, &mut pending);
            if pending.len() > MAX_PENDING {
                pending.clear();
            }
            let written = self.port.write(&pending)?;
            pending.drain(..written);
        }
        Ok(())
    }

    fn speak(&mut self, heard: &mut Vec<u8>, pending: &mut Vec<u8>) {
        let now = self.station.shared.now();
        let wall = self.station.shared.wall_us(now);
        match &mut self.voice {
            Voice::Speech(speech) if speech.is_asked() => {
                while let Some(length) = speech.question(heard) {
                    heard.drain(..length);
                    self.station.count_sent(false);
                    pending.extend(speech.say(&self.station.moment(), wall));
                }
                // What is no question is nobody's.
                heard.truncate(64);
            }
            Voice::Speech(speech) => {
                heard.clear();
                let speech = *speech;
                if self.station.is_time(now) {
                    self.station.count_sent(false);
                    pending.extend(speech.say(&self.station.moment(), wall));
                }
            }
            Voice::Slaves(bus) => {
                while let Some(request) = modbus::cut_rtu(heard) {
                    let moment = self.station.moment();
                    if let Reply::Say(body, delay) = bus.answer(&request, &moment) {
                        std::thread::sleep(delay);
                        self.station.count_sent(false);
                        pending.extend(modbus::rtu(body));
                    }
                }
            }
        }
    }
}

/// Modbus TCP, one client after the other.
pub(crate) struct Server {
    pub station: Station,
    pub listener: TcpListener,
    pub bus: Bus,
}

impl Server {
    pub fn play(mut self) -> io::Result<()> {
        self.listener.set_nonblocking(true)?;
        while self.station.shared.phase() == Phase::Playing {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    // A client that goes is no failure of the server.
                    if let Err(error) = self.serve(stream) {
                        tracing::debug!(%error, "modbus client is gone");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(TICK);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn serve(&mut self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(TICK))?;
        let mut heard = Vec::new();
        let mut buffer = [0; 256];
        while self.station.shared.phase() == Phase::Playing {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => heard.extend_from_slice(&buffer[..read]),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => return Err(error),
            }
            while let Some(request) = heard.get(..12).map(<[u8]>::to_vec) {
                heard.drain(..12);
                let moment = self.station.moment();
                if let Reply::Say(body, delay) = self.bus.answer(&request[6..], &moment) {
                    std::thread::sleep(delay);
                    self.station.count_sent(false);
                    let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
                    let frame = [&request[..4], &length, &body].concat();
                    stream.write_all(&frame)?;
                }
            }
        }
        Ok(())
    }
}

/// At a broker.
pub(crate) struct Publishing {
    pub station: Station,
    pub broker: Broker,
    pub firmware: Firmware,
}

impl Publishing {
    pub async fn play(mut self) {
        let id = format!("sim-{}", self.station.plan.id);
        let mut options = MqttOptions::new(id, self.broker.host(), self.broker.port());
        options.set_keep_alive(Duration::from_secs(10));
        options.set_max_packet_size(64 * 1024, 64 * 1024);
        let (client, mut connection) = AsyncClient::new(options, 64);
        let polling = tokio::spawn(async move {
            loop {
                if connection.poll().await.is_err() {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            }
        });
        let mut count = 0;
        while self.station.shared.phase() == Phase::Playing {
            tokio::time::sleep(TICK).await;
            let now = self.station.shared.now();
            if !self.station.is_time(now) {
                continue;
            }
            let wall = self.station.shared.wall_us(now);
            let moment = self.station.moment();
            let device = &self.station.plan.id;
            for (topic, payload) in self.firmware.say(device, count, &moment, wall) {
                // A client whose queue is full says it later, or never: no obligation.
                if client
                    .try_publish(topic, QoS::AtLeastOnce, false, payload)
                    .is_ok()
                {
                    self.station.count_sent(false);
                }
            }
            count += 1;
        }
        // What is on its way goes out before the connection does.
        tokio::time::sleep(Duration::from_millis(200)).await;
        polling.abort();
    }
}

impl Station {
    /// Whether it is time for the next thing to say.
    pub(crate) fn is_time(&mut self, now: Duration) -> bool {
        if self.shared.phase() != Phase::Playing || now < self.next_at {
            return false;
        }
        self.next_at = (self.next_at + self.plan.every).max(now);
        self.next_sequence = self.next_sequence.wrapping_add(1);
        true
    }

    /// Where its curves are now.
    pub(crate) fn moment(&self) -> Moment {
        let passed = self.shared.now().as_millis();
        let sequence = u32::try_from(passed).unwrap_or(u32::MAX);
        Moment::new(self.seed, &self.plan.id, self.boot, sequence, 1)
    }
}
