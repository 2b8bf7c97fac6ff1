//! Sources: each owns its link, turns bytes into messages, and tells the device once they are durable.
//!
//! A serial port and a Modbus server have a thread each, a broker a task. Both are a thin driver around pure parts: the
//! conversation with a framed device (`serial/session.rs`), the order of acknowledgements
//! (`mqtt/acks.rs`), what a topic means (`mqtt/routes.rs`), and everything in [`crate::decode`].
//!
//! A link that is away is no reason to end: the source tries again, for ever. A source ends when it is
//! asked to, or because the stage behind it has; [`Sources::ended`] tells. While the agent runs, sources come and
//! go as [`crate::reload`] plans: each has a token of its own beneath the one of the shutdown, and an altered
//! one is started when its predecessor has ended, for they share a port, or a session at a broker.

mod backoff;
mod counters;
mod intake;
mod keep;
pub mod look;
mod modbus;
mod mqtt;
mod noise;
mod poll;
mod polled;
mod processing;
mod serial;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::{sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::{Agent, Config},
    conservation::Conservation,
    devices::Devices,
    ingest::{Closed, Gate},
    link::{LinkKind, LinkState, Links},
    reload::{self, Key, Plan, Settings},
};
use intake::{Intake, Outlet};
use processing::Processing;

pub use backoff::{Backoff, random};
pub use counters::{Counters, REJECTIONS, Seen};
pub use mqtt::routes::{Route, RouteError, Routes};

/// Why a source cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The stage behind it has ended.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// A subscription that cannot work; `check` finds it as well.
    #[error("subscription {topic:?}: {error}")]
    Route {
        /// Its template.
        topic: String,
        /// Why.
        error: RouteError,
    },
    /// Metadata of box and source together are too much.
    #[error("{0}")]
    Meta(crate::decode::DecodeError),
    /// MQTT needs a name for a session that survives.
    #[error("client_id must not be empty")]
    NoClientId,
    /// The system gives no thread.
    #[error("no thread: {0}")]
    Thread(#[from] std::io::Error),
    /// It panicked; the message is in the log.
    #[error("ended without a word")]
    Panicked,
}

/// What sources have seen, in the order of the configuration; those of sources that were removed are gone.
#[derive(Debug, Clone, Default)]
pub struct Roster(Arc<Mutex<Vec<Arc<Counters>>>>);

impl Roster {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Counters>>> {
        // A panic elsewhere leaves the list whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them.
    #[must_use]
    pub fn counters(&self) -> Vec<Arc<Counters>> {
        self.lock().clone()
    }

    /// Those of a source, going on where it was running before.
    fn of(&self, (kind, name): &Key) -> Arc<Counters> {
        let mut list = self.lock();
        let known = list
            .iter()
            .find(|one| one.kind == *kind && one.name == *name);
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let counters = Arc::new(Counters::new(name, *kind));
        list.push(Arc::clone(&counters));
        counters
    }

    fn forget(&self, (kind, name): &Key) {
        self.lock()
            .retain(|one| one.kind != *kind || one.name != *name);
    }
}

/// What every source needs of the rest of the agent.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Where readings go.
    pub gate: Gate,
    /// Where the state of its link is told.
    pub links: Links,
    /// When it is.
    pub clock: Clock,
    /// Where last values are shown.
    pub devices: Devices,
    /// What is told of the gateway at a broker.
    pub conservation: Arc<Conservation>,
}

/// All sources of the process.
#[derive(Debug)]
pub struct Sources {
    running: JoinSet<(Key, Result<(), SourceError>)>,
    members: BTreeMap<Key, Member>,
    around: Surroundings,
    /// While sources may be started; it holds what the time keeper waits for the end of.
    processing: Option<Processing>,
    shutdown: CancellationToken,
    /// What each has seen.
    pub roster: Roster,
}

/// One that runs, or is to run once its predecessor has ended.
#[derive(Debug)]
struct Member {
    stop: CancellationToken,
    then: Then,
}

/// What is to be done when a source has ended.
#[derive(Debug)]
enum Then {
    /// It should not have.
    Fail,
    /// Nothing: it was removed.
    Forget,
    /// Start it with its new settings.
    Start(Box<Prepared>),
}

/// A source that is not running yet.
#[derive(Debug)]
struct Prepared {
    key: Key,
    stop: CancellationToken,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Serial(serial::Port),
    Modbus(modbus::Server),
    Mqtt(mqtt::Broker),
}

/// Starts every source of the configuration. When `shutdown` is cancelled, each stops taking, waits at
/// most `agent.shutdown_timeout` for the receipts of what it has taken, passes them on, and ends.
///
/// # Errors
/// A subscription that cannot work, or no thread; nothing runs then.
pub fn spawn_all(
    config: &Config,
    around: Surroundings,
    shutdown: &CancellationToken,
) -> Result<Sources, SourceError> {
    let (processing, time_keeper) = Processing::new(&config.process);
    let mut sources = Sources {
        running: JoinSet::new(),
        members: BTreeMap::new(),
        around,
        processing: Some(processing),
        shutdown: shutdown.clone(),
        roster: Roster::default(),
    };
    let all: Vec<Key> = reload::sources(config).map(|one| one.key()).collect();
    for prepared in sources.prepare(config, &all)? {
        sources.start(prepared)?;
    }
    if let Some(keeper) = time_keeper {
        let Surroundings { gate, clock, .. } = sources.around.clone();
        sources.running.spawn(async move {
            let ended = keeper.run(gate, clock).await;
            (TIME_KEEPER, ended.map_err(Into::into))
        });
    }
    Ok(sources)
}

/// Not a source, but it ends with them; no source has an empty name.
const TIME_KEEPER: Key = (LinkKind::Disk, String::new());

impl Source {
    fn new(
        settings: Settings<'_>,
        agent: &Agent,
        intake: Intake,
        stop: CancellationToken,
    ) -> Result<Self, SourceError> {
        Ok(match settings {
            Settings::Serial(one) => Self::Serial(serial::Port::new(one, agent, intake, stop)?),
            Settings::Modbus(one) => Self::Modbus(modbus::Server::new(one, agent, intake, stop)?),
            Settings::Mqtt(one) => Self::Mqtt(mqtt::Broker::new(one, agent, intake, stop)?),
        })
    }
}

impl Sources {
    /// Makes sources without running them: what is wrong with one shows before anything is changed.
    fn prepare(&self, config: &Config, keys: &[Key]) -> Result<Vec<Prepared>, SourceError> {
        let Some(processing) = &self.processing else {
            return Err(Closed.into());
        };
        let wanted = reload::sources(config).filter(|one| keys.contains(&one.key()));
        let prepare = |settings: Settings<'_>| {
            let key = settings.key();
            let around = self.around.clone();
            let (links, conservation) = (around.links.clone(), around.conservation);
            let intake = Intake::new(
                Outlet::Gate(around.gate),
                around.links,
                around.clock,
                self.roster.of(&key),
                config.queue.max_age,
                processing.clone(),
                around.devices,
            );
            let stop = self.shutdown.child_token();
            let source = match Source::new(settings, &config.agent, intake, stop.clone())? {
                Source::Mqtt(broker) => Source::Mqtt(broker.telling(links, conservation)),
                other => other,
            };
            Ok(Prepared { key, stop, source })
        };
        wanted.map(prepare).collect()
    }

    /// Does what was planned. A source that is altered or removed takes nothing more, gets the receipts of what it
    /// has taken, and ends; its successor begins when it has. The others do not notice.
    ///
    /// # Errors
    /// A source that cannot work; nothing is changed then.
    pub fn apply(&mut self, config: &Config, plan: &Plan) -> Result<(), SourceError> {
        let both: Vec<Key> = plan.added.iter().chain(&plan.altered).cloned().collect();
        let prepared = self.prepare(config, &both)?;
        for key in &plan.removed {
            if let Some(member) = self.members.get_mut(key) {
                member.then = Then::Forget;
                member.stop.cancel();
            }
        }
        for prepared in prepared {
            match self.members.get_mut(&prepared.key) {
                // Also one that was removed, or altered before, and has not ended yet.
                Some(member) => {
                    member.stop.cancel();
                    member.then = Then::Start(Box::new(prepared));
                }
                None => self.start(prepared)?,
            }
        }
        Ok(())
    }

    fn start(&mut self, prepared: Prepared) -> Result<(), SourceError> {
        let Prepared { key, stop, source } = prepared;
        self.around.links.set(key.0, &key.1, LinkState::Connecting);
        let then = Then::Fail;
        self.members.insert(key.clone(), Member { stop, then });
        match source {
            Source::Serial(port) => self.thread(key, || port.run())?,
            Source::Modbus(server) => self.thread(key, || server.run())?,
            Source::Mqtt(broker) => {
                self.running.spawn(async move { (key, broker.run().await) });
            }
        }
        Ok(())
    }

    fn thread(
        &mut self,
        key: Key,
        run: impl FnOnce() -> Result<(), SourceError> + Send + 'static,
    ) -> Result<(), SourceError> {
        let (tell, ended) = oneshot::channel();
        thread::Builder::new()
            .name(format!("{} {}", key.0.as_str(), key.1))
            .spawn(move || {
                // Nobody listens any more: the process is already going down.
                drop(tell.send(run()));
            })?;
        self.running.spawn(async move {
            // A thread that panics drops its end without a word.
            let result = ended.await.unwrap_or(Err(SourceError::Panicked));
            (key, result)
        });
        Ok(())
    }

    /// The next source that ended and should not have, with its name; after the shutdown the next that ended.
    /// `None` when all have. Cancel safe.
    pub async fn ended(&mut self) -> Option<(String, Result<(), SourceError>)> {
        loop {
            if self.shutdown.is_cancelled() {
                // Nothing is started any more, so the time keeper may end with the last source.
                self.processing = None;
            }
            let Ok((key, result)) = self.running.join_next().await? else {
                return Some(("mqtt".into(), Err(SourceError::Panicked)));
            };
            if key == TIME_KEEPER {
                return Some(("process".to_owned(), result));
            }
            let member = self.members.remove(&key);
            let name = key.1.clone();
            if result.is_err() || self.shutdown.is_cancelled() {
                return Some((name, result));
            }
            match member {
                Some(Member {
                    then: Then::Start(prepared),
                    ..
                }) => {
                    if let Err(error) = self.start(*prepared) {
                        return Some((name, Err(error)));
                    }
                }
                Some(Member {
                    then: Then::Forget, ..
                }) => {
                    self.roster.forget(&key);
                    self.around.links.forget(key.0, &key.1);
                    self.around.devices.forget(&key.1);
                }
                Some(Member {
                    then: Then::Fail, ..
                })
                | None => return Some((name, result)),
            }
        }
    }
}
