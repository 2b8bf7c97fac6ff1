//! `edge-agent run`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use protocol_host::log;
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{ConfigFile, Exit};
use crate::{config::Secrets, run::Reread};

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = ENVIRONMENT)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Form of the log on stderr; RUST_LOG chooses levels
    #[arg(long, value_enum, default_value_t)]
    log: log::Format,
}

const ENVIRONMENT: &str = "\
Environment:
  RUST_LOG                 levels of the log, such as info or edge_agent=debug
  EDGE_AGENT_CLOCK_MARKER  a file that is there once the clock is synchronised, where neither
                           systemd-timesyncd nor edge-agent's own unit makes one (containers)";

/// Runs until a signal.
///
/// # Errors
/// [`Exit`].
pub fn run(arguments: &Arguments) -> Result<(), Exit> {
    log::start(arguments.log);
    let config = arguments.config.load(Secrets::Read)?;
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no runtime")?;
    let ended = runtime.block_on(async {
        let shutdown = on_signals().context("no signal handlers")?;
        let rereads = on_hangup(arguments.config.path.clone()).context("no signal handlers")?;
        crate::run::run(config, rereads, shutdown).await
    });
    ended.map_err(|error| {
        error!(error = format!("{error:#}"), "ended");
        Exit::Logged
    })
}

/// Cancelled by the first SIGTERM or SIGINT; the second ends the process.
fn on_signals() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let first = shutdown.clone();
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        first.cancel();
        either(&mut terminate, &mut interrupt).await;
        warn!("second signal: ending at once; what is not acknowledged will come again");
        std::process::exit(1);
    });
    Ok(shutdown)
}

/// Reads the configuration again at each SIGHUP; what comes while it is being read is one.
fn on_hangup(path: PathBuf) -> std::io::Result<mpsc::Receiver<Reread>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (to, rereads) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let path = path.clone();
            let read = spawn_blocking(move || crate::config::load(&path, Secrets::Read));
            let Ok(read) = read.await else {
                // The panic is in the log; the configuration is as it was.
                continue;
            };
            if to.send(read).await.is_err() {
                return;
            }
        }
    });
    Ok(rereads)
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
