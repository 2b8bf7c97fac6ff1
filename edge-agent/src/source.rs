//! Sources: each owns its link, turns bytes into messages, and tells the device once they are durable.
//!
//! A serial port and a Modbus server have a thread each, a broker a task. Both are a thin driver around pure parts: the
//! conversation with a framed device (`serial/session.rs`), the order of acknowledgements
//! (`mqtt/acks.rs`), what a topic means (`mqtt/routes.rs`), and everything in [`crate::decode`].
//!
//! A link that is away is no reason to end: the source tries again, for ever. A source ends when it is
//! asked to, or because the stage behind it has; [`Sources::ended`] tells.

mod backoff;
mod counters;
mod intake;
mod keep;
pub mod look;
mod modbus;
mod mqtt;
mod poll;
mod polled;
mod processing;
mod serial;

use std::{sync::Arc, thread};

use tokio::{sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::Config,
    devices::Devices,
    ingest::{Closed, Gate},
    link::{LinkKind, Links},
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

/// All sources of the process.
#[derive(Debug)]
pub struct Sources {
    running: JoinSet<(String, Result<(), SourceError>)>,
    /// What each has seen, in the order of the configuration.
    pub counters: Vec<Arc<Counters>>,
}

/// Starts every source of the configuration. When `shutdown` is cancelled, each stops taking, waits at
/// most `agent.shutdown_timeout` for the receipts of what it has taken, passes them on, and ends.
///
/// # Errors
/// A subscription that cannot work, or no thread; nothing runs then.
pub fn spawn_all(
    config: &Config,
    gate: &Gate,
    links: &Links,
    clock: &Clock,
    devices: &Devices,
    shutdown: &CancellationToken,
) -> Result<Sources, SourceError> {
    let mut sources = Sources {
        running: JoinSet::new(),
        counters: Vec::new(),
    };
    let (processing, time_keeper) = Processing::new(&config.process);
    let mut intake = |name: &str, kind: LinkKind| {
        let counters = Arc::new(Counters::new(name, kind));
        sources.counters.push(Arc::clone(&counters));
        Intake::new(
            Outlet::Gate(gate.clone()),
            links.clone(),
            clock.clone(),
            counters,
            config.queue.max_age,
            processing.clone(),
            devices.clone(),
        )
    };
    let mut ports = Vec::new();
    for settings in &config.serial {
        let intake = intake(&settings.name, LinkKind::Serial);
        let port = serial::Port::new(settings, &config.agent, intake, shutdown.clone())?;
        ports.push((settings.name.clone(), port));
    }
    let mut servers = Vec::new();
    for settings in &config.modbus {
        let intake = intake(&settings.name, LinkKind::Modbus);
        let server = modbus::Server::new(settings, &config.agent, intake, shutdown.clone())?;
        servers.push((settings.name.clone(), server));
    }
    let mut brokers = Vec::new();
    for settings in &config.mqtt {
        let intake = intake(&settings.name, LinkKind::Mqtt);
        let broker = mqtt::Broker::new(settings, &config.agent, intake, shutdown.clone())?;
        brokers.push((settings.name.clone(), broker));
    }
    for (name, port) in ports {
        sources.thread("serial", name, || port.run())?;
    }
    for (name, server) in servers {
        sources.thread("modbus", name, || server.run())?;
    }
    for (name, broker) in brokers {
        sources
            .running
            .spawn(async move { (name, broker.run().await) });
    }
    drop(processing);
    if let Some(keeper) = time_keeper {
        let (gate, clock) = (gate.clone(), clock.clone());
        sources.running.spawn(async move {
            let ended = keeper.run(gate, clock).await;
            ("process".to_owned(), ended.map_err(Into::into))
        });
    }
    Ok(sources)
}

impl Sources {
    fn thread(
        &mut self,
        kind: &str,
        name: String,
        run: impl FnOnce() -> Result<(), SourceError> + Send + 'static,
    ) -> Result<(), SourceError> {
        let (tell, ended) = oneshot::channel();
        thread::Builder::new()
            .name(format!("{kind} {name}"))
            .spawn(move || {
                // Nobody listens any more: the process is already going down.
                drop(tell.send(run()));
            })?;
        self.running.spawn(async move {
            // A thread that panics drops its end without a word.
            let result = ended.await.unwrap_or(Err(SourceError::Panicked));
            (name, result)
        });
        Ok(())
    }

    /// The next source that ended, with its name; `None` when all have. Before the shutdown any end is a
    /// failure of the process. Cancel safe.
    pub async fn ended(&mut self) -> Option<(String, Result<(), SourceError>)> {
        match self.running.join_next().await? {
            Ok(end) => Some(end),
            Err(_) => Some(("mqtt".into(), Err(SourceError::Panicked))),
        }
    }
}
