//! Sources for people who look at devices: the very code of `run` for `probe`, ports and lines for `scan` and
//! `monitor`. Nothing here sends anything on.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use protocol::Reading;
use tokio::runtime;
use tokio_util::sync::CancellationToken;

pub use super::serial::ports;
use super::{
    SourceError,
    counters::Counters,
    intake::{Intake, Outlet},
    keep::End,
    modbus, mqtt,
    polled::Line,
    processing::Processing,
    serial,
};
use crate::{
    clock::Clock,
    config::{Config, Framing},
    devices::Devices,
    ingest::Rejection,
    link::{LinkKind, Links},
    process::Applied,
};

/// What a source read.
#[derive(Debug)]
pub enum Probed {
    /// A reading.
    Reading {
        /// The last bytes that were heard before it was complete, at most [`Raw::KEPT`] of them.
        raw: Vec<u8>,
        /// As decoded.
        before: Box<Reading>,
        /// What `[[process]]` makes of it.
        after: Box<Applied>,
    },
    /// Bytes that are none.
    Rejected {
        /// Why.
        reason: Rejection,
        /// With place and remedy.
        detail: String,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// Where a probe's intake puts what it sees.
#[derive(Debug)]
pub(super) struct Tap {
    raw: Mutex<Vec<u8>>,
    to: mpsc::SyncSender<Probed>,
}

/// Bounds of what a tap keeps.
#[derive(Debug)]
pub struct Raw;

impl Raw {
    /// Most bytes kept for one reading.
    pub const KEPT: usize = 1024;
}

impl Tap {
    /// Notes bytes as they come.
    pub(super) fn heard(&self, bytes: &[u8]) {
        let mut raw = self.raw.lock().unwrap_or_else(PoisonError::into_inner);
        raw.extend_from_slice(bytes);
        let too_many = raw.len().saturating_sub(Raw::KEPT);
        raw.drain(..too_many);
    }

    /// Whoever listened may have seen enough.
    pub(super) fn reading(&self, before: Reading, after: Applied) {
        let raw = std::mem::take(&mut *self.raw.lock().unwrap_or_else(PoisonError::into_inner));
        let (before, after) = (Box::new(before), Box::new(after));
        drop(self.to.send(Probed::Reading { raw, before, after }));
    }

    pub(super) fn rejected(&self, reason: Rejection, detail: String, bytes: &[u8]) {
        self.raw
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        let bytes = bytes.to_vec();
        drop(self.to.send(Probed::Rejected {
            reason,
            detail,
            bytes,
        }));
    }
}

/// A source that is looked at.
#[derive(Debug)]
pub struct Probe {
    /// What it reads.
    pub seen: mpsc::Receiver<Probed>,
    /// The state of its link.
    pub links: Links,
    /// What it has heard.
    pub counters: Arc<Counters>,
    /// Ends it.
    pub shutdown: CancellationToken,
}

/// Starts the source of that name alone. A broker is asked for a session of the probe's own, which ends with it,
/// so that the agent's messages are not taken.
///
/// # Errors
/// A subscription that cannot work, or no thread. `None` when there is no such source.
pub fn probe(config: &Config, name: &str) -> Result<Option<Probe>, SourceError> {
    let (to, seen) = mpsc::sync_channel(16);
    let links = Links::default();
    let shutdown = CancellationToken::new();
    let is_serial = config.serial.iter().any(|one| one.name == name);
    let is_modbus = config.modbus.iter().any(|one| one.name == name);
    let kind = match (is_serial, is_modbus) {
        (true, _) => LinkKind::Serial,
        (_, true) => LinkKind::Modbus,
        _ => LinkKind::Mqtt,
    };
    let counters = Arc::new(Counters::new(name, kind));
    let intake = || {
        let tap = Tap {
            raw: Mutex::default(),
            to,
        };
        Intake::new(
            Outlet::Probe(tap),
            links.clone(),
            Clock::new(),
            counters.clone(),
            config.queue.max_age,
            Processing::new(&config.process).0,
            Devices::default(),
        )
    };
    let agent = &config.agent;
    let run: Box<dyn FnOnce() -> Result<(), SourceError> + Send> =
        if let Some(settings) = config.serial.iter().find(|one| one.name == name) {
            let intake = intake();
            let port = serial::Port::new(settings, agent, intake, shutdown.clone())?;
            Box::new(move || port.run())
        } else if let Some(settings) = config.modbus.iter().find(|one| one.name == name) {
            let intake = intake();
            let server = modbus::Server::new(settings, agent, intake, shutdown.clone())?;
            Box::new(move || server.run())
        } else if let Some(settings) = config.mqtt.iter().find(|one| one.name == name) {
            let mut settings = settings.clone();
            settings.client_id += "-probe";
            let intake = intake();
            let broker = mqtt::Broker::new(&settings, agent, intake, shutdown.clone())?;
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            Box::new(move || runtime.block_on(broker.for_once().run()))
        } else {
            return Ok(None);
        };
    thread::Builder::new().name("probe".into()).spawn(run)?;
    Ok(Some(Probe {
        seen,
        links,
        counters,
        shutdown,
    }))
}

/// A serial port that is only listened to.
///
/// # Errors
/// It cannot be opened.
pub fn listen(path: &Path, baud: u32, framing: Framing) -> io::Result<impl io::Read + use<>> {
    serial::open(path, baud, framing, false)
}

/// A Modbus line that can be asked: a serial port, or `host:port`.
#[derive(Debug)]
pub enum Asking {
    /// RTU.
    Serial(serial::Opened),
    /// TCP.
    Tcp(modbus::Connection),
}

/// What a scan asks through.
#[derive(Debug, Clone)]
pub enum Place {
    /// A serial port.
    Port(PathBuf, u32, Framing),
    /// A server.
    Server(String, u16),
}

impl Asking {
    /// Opens it.
    ///
    /// # Errors
    /// It cannot be opened; why.
    pub fn open(place: &Place) -> Result<Self, String> {
        match place {
            Place::Port(path, baud, framing) => serial::open(path, *baud, *framing, false)
                .map(Self::Serial)
                .map_err(|error| format!("{}: {error}", path.display())),
            Place::Server(host, port) => modbus::connect(host, *port).map(Self::Tcp),
        }
    }

    /// Puts a question; gives back what went out.
    ///
    /// # Errors
    /// The line is gone; why.
    pub fn ask(&mut self, question: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Serial(port) => port.ask(question),
            Self::Tcp(connection) => connection.ask(question),
        }
        .map_err(|end| why(&end))
    }

    /// Bytes heard within `patience`, which is not zero.
    ///
    /// # Errors
    /// The line is gone; why.
    pub fn hear(&mut self, buffer: &mut [u8], patience: Duration) -> Result<usize, String> {
        match self {
            Self::Serial(port) => port.hear(buffer, patience),
            Self::Tcp(connection) => connection.hear(buffer, patience),
        }
        .map(|read| read.unwrap_or(0))
        .map_err(|end| why(&end))
    }
}

fn why(end: &End) -> String {
    match end {
        End::Gone(why) => why.clone(),
        End::Closed | End::Shutdown => "ended".to_owned(),
    }
}
