//! A run: starts each device on its link, counts, and ends in order.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    fault::{Faults, Occasion},
    link::{Orders, Phase, RunError, Shared, Station, mqtt, native, pty},
    native::modbus::{Bus, ProfileError},
    scenario::{Link, Pty, Scenario},
    truth::{TruthError, Writer},
};

/// How a scenario is played.
#[derive(Debug, Clone)]
pub struct Options {
    /// Overrides the scenario's seed.
    pub seed: Option<u64>,
    /// Where the truth goes; `None`: nowhere.
    pub truth: Option<PathBuf>,
    /// `mqtt://host:port`; needed by devices with an MQTT link.
    pub mqtt: Option<String>,
    /// Serial lines appear here under the names of their devices; made when missing.
    pub pty_dir: PathBuf,
}

/// Why a run does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A pseudo terminal or its name.
    #[error("serial line of {device} in {dir}: {source}")]
    Pty {
        /// Whose.
        device: String,
        /// The pty directory.
        dir: String,
        /// What the system says.
        source: io::Error,
    },
    /// A device has an MQTT link, and there is no broker.
    #[error("device {0} publishes, but there is no broker; pass --mqtt mqtt://host:1883")]
    NoBroker(String),
    /// The broker's address.
    #[error("{0}")]
    Broker(String),
    /// A slave whose registers nobody knows.
    #[error("device {0}: {1}")]
    Profile(String, ProfileError),
    /// The truth file.
    #[error(transparent)]
    Truth(#[from] TruthError),
    /// No thread or runtime to be had.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// What happened so far. Each number only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Readings that went out at least once.
    pub sent: u64,
    /// Further transmissions of them.
    pub resent: u64,
    /// Confirmed by the agent (frames) or the broker (MQTT).
    pub acknowledged: u64,
    /// Refused for good by the agent.
    pub rejected: u64,
    /// Not measured: the ring of unacknowledged readings was full.
    pub ring_full: u64,
    /// Lines of text that nobody listened to; never written.
    pub unheard: u64,
    /// Faults that struck.
    pub faults: u64,
}

/// A run.
pub struct Sim {
    shared: Arc<Shared>,
    orders: BTreeMap<String, Orders>,
    threads: Vec<JoinHandle<()>>,
}

impl Sim {
    /// Starts every device.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start(scenario: &Scenario, options: &Options) -> Result<Self, StartError> {
        let seed = options.seed.unwrap_or(scenario.seed);
        let broker = (options.mqtt.as_deref())
            .map(str::parse::<mqtt::Broker>)
            .transpose()
            .map_err(StartError::Broker)?;
        let truth = match &options.truth {
            Some(path) => Some(Writer::create(
                path,
                seed,
                jiff::Timestamp::now().to_string(),
            )?),
            None => None,
        };
        let mut sim = Self {
            shared: Arc::new(Shared::new(truth)),
            orders: BTreeMap::new(),
            threads: Vec::new(),
        };
        let mut publishers = Vec::new();
        let mut bought = Vec::new();
        for plan in &scenario.devices {
            let faults = Faults::new(&scenario.faults, &plan.id, seed);
            let shared = Arc::clone(&sim.shared);
            let (station, orders) = Station::new(plan.clone(), seed, faults, shared);
            sim.orders.insert(plan.id.clone(), orders);
            match &plan.link {
                Link::Mqtt(link) => {
                    let broker = broker.clone();
                    let broker = broker.ok_or_else(|| StartError::NoBroker(plan.id.clone()))?;
                    publishers.push(mqtt::Player::new(station, broker, &link.topic));
                }
                Link::Publish(publisher) => {
                    let broker = broker.clone();
                    let broker = broker.ok_or_else(|| StartError::NoBroker(plan.id.clone()))?;
                    bought.push(native::Publishing {
                        station,
                        broker,
                        firmware: publisher.r#as,
                    });
                }
                Link::Line(line) => {
                    let voice = native::Voice::Speech(line.speaks);
                    sim.start_bought(station, options, voice)?;
                }
                Link::Modbus(slaves) => {
                    let bus = Bus::new(slaves, seed)
                        .map_err(|error| StartError::Profile(plan.id.clone(), error))?;
                    match slaves.listen {
                        None => sim.start_bought(station, options, native::Voice::Slaves(bus))?,
                        Some(address) => sim.start_server(station, address, bus)?,
                    }
                }
                Link::Pty(line) => {
                    let lines = match line {
                        Pty::Frames {} => None,
                        Pty::Lines { format } => Some(*format),
                    };
                    sim.start_line(station, options, lines)?;
                }
            }
        }
        if !publishers.is_empty() || !bought.is_empty() {
            sim.start_publishers(publishers, bought)?;
        }
        let shared = Arc::clone(&sim.shared);
        sim.thread("truth", move || {
            while shared.phase() != Phase::Ended {
                std::thread::sleep(Duration::from_millis(100));
                shared.flush_truth();
            }
        })?;
        Ok(sim)
    }

    fn start_line(
        &mut self,
        station: Station,
        options: &Options,
        lines: Option<crate::device::text::Format>,
    ) -> Result<(), StartError> {
        let device = station.plan.id.clone();
        let player = in_pty_dir(&device, options, |dir| {
            pty::Player::new(station, dir.to_owned(), lines)
        })?;
        let (name, shared) = (device.clone(), Arc::clone(&self.shared));
        self.thread(&device, move || {
            if let Err(source) = player.play() {
                let device = name;
                shared.fail(RunError::Line { device, source });
            }
        })
    }

    fn start_bought(
        &mut self,
        station: Station,
        options: &Options,
        voice: native::Voice,
    ) -> Result<(), StartError> {
        let device = station.plan.id.clone();
        let line = in_pty_dir(&device, options, |dir| {
            native::Line::open(station, dir, voice)
        })?;
        self.bought_thread(device, || line.play())
    }

    fn start_server(
        &mut self,
        station: Station,
        address: std::net::SocketAddr,
        bus: Bus,
    ) -> Result<(), StartError> {
        let device = station.plan.id.clone();
        let listener = std::net::TcpListener::bind(address).map_err(|source| StartError::Pty {
            device: device.clone(),
            dir: address.to_string(),
            source,
        })?;
        let server = native::Server {
            station,
            listener,
            bus,
        };
        self.bought_thread(device, || server.play())
    }

    fn bought_thread(
        &mut self,
        device: String,
        play: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<(), StartError> {
        let (name, shared) = (device.clone(), Arc::clone(&self.shared));
        self.thread(&name, move || {
            if let Err(source) = play() {
                shared.fail(RunError::Line { device, source });
            }
        })
    }

    fn start_publishers(
        &mut self,
        publishers: Vec<mqtt::Player>,
        bought: Vec<native::Publishing>,
    ) -> Result<(), StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        self.thread("mqtt", move || {
            runtime.block_on(async {
                let mut playing = tokio::task::JoinSet::new();
                for publisher in publishers {
                    playing.spawn(publisher.play());
                }
                for publishing in bought {
                    playing.spawn(publishing.play());
                }
                playing.join_all().await;
            });
        })
    }

    fn thread(
        &mut self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let thread = std::thread::Builder::new().name(name.to_owned());
        self.threads
            .push(thread.spawn(run).map_err(StartError::Thread)?);
        Ok(())
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let books = &self.shared.books;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            sent: read(&books.sent),
            resent: read(&books.resent),
            acknowledged: read(&books.acknowledged),
            rejected: read(&books.rejected),
            ring_full: read(&books.ring_full),
            unheard: read(&books.unheard),
            faults: read(&books.faults),
        }
    }

    /// Whether the run ended by itself; [`Self::stop`] says why.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.shared.phase() == Phase::Ended
    }

    /// Switches the scenario's faults on or off.
    pub fn set_faults(&self, on: bool) {
        self.shared.faults_on.store(on, Ordering::Relaxed);
    }

    /// Makes something happen to a device now; false when there is no such device.
    pub fn order(&self, device: &str, occasion: Occasion) -> bool {
        let Some(orders) = self.orders.get(device) else {
            return false;
        };
        let mut orders = orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.push_back(occasion);
        true
    }

    /// Ends in order: no more faults, no new readings; what is on its way is sent until it is
    /// acknowledged, for up to `settle`. Then the truth gets its last line.
    ///
    /// # Errors
    /// Why it ended before, if it did.
    pub fn stop(mut self, settle: Duration) -> Result<Counts, RunError> {
        let deadline = Instant::now() + settle;
        if self.shared.phase() == Phase::Playing {
            self.shared.enter(Phase::Settling);
        }
        // The last thread writes the truth until the run ended.
        while Instant::now() < deadline && self.devices_running() && !self.has_failed() {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.end();
        self.shared.finish()?;
        Ok(self.counts())
    }

    fn devices_running(&self) -> bool {
        let devices = self.threads.len().saturating_sub(1);
        self.threads
            .iter()
            .take(devices)
            .any(|thread| !thread.is_finished())
    }

    fn end(&mut self) {
        self.shared.enter(Phase::Ended);
        for thread in self.threads.drain(..) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                self.shared.fail(RunError::Panicked(name));
            }
        }
    }
}

/// A run that is dropped ends at once; its truth stays without a last line.
impl Drop for Sim {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;

/// Opens a device's line in the directory of the pseudo terminals, which is made.
fn in_pty_dir<L>(
    device: &str,
    options: &Options,
    open: impl FnOnce(&Path) -> io::Result<L>,
) -> Result<L, StartError> {
    let dir = &options.pty_dir;
    std::fs::create_dir_all(dir)
        .and_then(|()| open(dir))
        .map_err(|source| StartError::Pty {
            device: device.to_owned(),
            dir: dir.display().to_string(),
            source,
        })
}
