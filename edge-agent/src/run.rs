//! The whole pipeline: made from its end to its beginning, watched, and ended in the other direction.
//!
//! ```text
//! sources ─▶ ingest ─▶ queue ─▶ forward ─▶ Kafka        each lane: one commit thread, one forwarder
//! ```
//!
//! A stage that ends unasked ends the process (invariant 9): what is not acknowledged is sent again by
//! its source, what is durable is found again by the next start.

use std::{
    collections::BTreeSet,
    fs,
    future::poll_fn,
    hint,
    path::Path,
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use protocol::Topic;
use protocol_host::{
    config::document,
    supervisor::{self, Pulses, Silent, Watchdog},
};
use tokio::{runtime::Handle, sync::mpsc, task::JoinHandle, time};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    clock::Clock,
    config::{Config, Problem},
    conservation::Conservation,
    devices::Devices,
    forward::{self, schema::Schemas},
    ingest::{self, Ingest},
    link::Links,
    quarantine::Quarantine,
    queue, reload,
    source::{self, Sources},
    stage::Stage,
    status::{self, Watched},
    telemetry::{SUMMARY_EVERY, Summary},
};

/// Rejected bytes kept for people to look at.
const QUARANTINE_BYTES: u64 = 16 << 20;
/// Between two looks at what memory has become free.
const TIDY_EVERY: Duration = Duration::from_secs(3);
/// What a stage may take beyond the deadline it knows, before it is given up.
const GRACE: Duration = Duration::from_secs(5);
/// `WatchdogSec` of the unit.
const WATCHDOG: Duration = Duration::from_secs(120);

/// What was read when the configuration was read again.
pub type Reread = Result<Config, Vec<Problem>>;

/// Of this target no line is held back: somebody has asked, and waits for all of the answer.
const EVERY: &str = "edge_agent::run::every";

/// Every part that runs, in the order of a reading's way.
struct Pipeline {
    sources: Sources,
    /// Topics that sources may write to: a lane is made at a start only.
    lanes: BTreeSet<Topic>,
    ingest: Ingest,
    forwarders: Vec<Stage>,
    facts: Vec<Stage>,
    /// Asks the schema registry, where one is needed.
    registry: Vec<Stage>,
    status: JoinHandle<std::io::Result<()>>,
    quarantine: Quarantine,
    conservation: Arc<Conservation>,
}

/// Runs until `shutdown` is cancelled, then drains for at most `agent.shutdown_timeout`. What comes from
/// `rereads` meanwhile is taken over as far as [`crate::reload`] says.
///
/// # Errors
/// What kept it from starting, or the stage that ended unasked.
pub async fn run(
    mut config: Config,
    mut rereads: mpsc::Receiver<Reread>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let taking = CancellationToken::new();
    let serving = CancellationToken::new();
    let pulses = Pulses::new(WATCHDOG);
    let mut pipeline = Pipeline::start(&config, &taking, &serving, &pulses).await?;
    supervisor::ready();
    let mut watchdog = Watchdog::new(pulses);
    let mut summary = Summary::new(pipeline.conservation.snapshot(), Instant::now());
    let mut tick = time::interval_at(time::Instant::now() + SUMMARY_EVERY, SUMMARY_EVERY);
    let mut tidy = time::interval(TIDY_EVERY);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            error = pipeline.failure() => return Err(error),
            Some(read) = rereads.recv() => pipeline.reload(&mut config, read),
            silent = watchdog.feed() => return Err(stands_still(&silent)),
            _ = tick.tick() => summary.log(pipeline.conservation.snapshot(), Instant::now()),
            _ = tidy.tick() => give_back_memory(),
        }
    }
    info!("stopping: draining until the queue is empty or the time is over");
    taking.cancel();
    let shutdown_timeout = config.agent.shutdown_timeout;
    supervisor::stopping(shutdown_timeout + 2 * GRACE);
    let ended = tokio::select! {
        ended = pipeline.stop(Instant::now() + shutdown_timeout) => ended,
        silent = watchdog.feed() => Err(stands_still(&silent)),
    };
    serving.cancel();
    summary.log(pipeline.conservation.snapshot(), Instant::now());
    let queued = pipeline.conservation.snapshot().queued;
    info!(queued, "stopped");
    ended
}

/// Has the allocator give to the kernel what has been free for a second. It looks by itself only when a piece of
/// this size is freed, which nobody does while the agent waits for an uplink with a segment just closed.
fn give_back_memory() {
    drop(hint::black_box(Vec::<u8>::with_capacity(1 << 20)));
}

impl Pipeline {
    async fn start(
        config: &Config,
        taking: &CancellationToken,
        serving: &CancellationToken,
        pulses: &Pulses,
    ) -> anyhow::Result<Self> {
        let clock = Clock::new();
        let links = Links::default();
        let conservation = Arc::new(Conservation::default());
        let state = &config.agent.state_dir;
        let dir = state.join("queue");
        fs::create_dir_all(&dir).with_context(|| format!("agent.state_dir {}", state.display()))?;
        let quarantine = Quarantine::open(&state.join("quarantine"), QUARANTINE_BYTES)
            .with_context(|| format!("quarantine in {}", state.display()))?;

        let mut writers = Vec::new();
        let leaked = queue::Leaked::default();
        let mut forwarders = Vec::new();
        let mut lanes = Vec::new();
        let schemas = Schemas::default();
        let around = forward::Surroundings {
            kafka: config.kafka.clone(),
            schemas: schemas.clone(),
            clock: clock.clone(),
            links: links.clone(),
            quarantine: quarantine.clone(),
            pulses: pulses.clone(),
            precedence: forward::Precedence::default(),
            budgets: state.join("budgets"),
        };
        for topic in config.lanes() {
            schemas.add(config, topic);
            let (gateway, counted) = (&config.agent.gateway, Arc::clone(&conservation));
            let (settings, limits) = (config.queue_of(topic), config.limits_of(topic));
            let now = clock.now().queue();
            let opened = queue::open(&dir, gateway, topic, &settings, counted, now)?;
            let lane = status::Lane::new(opened.lane, settings.max_age, limits.budget_per_day);
            forwarders.push(forward::start(
                opened.reader,
                &limits,
                &lane.forward,
                &around,
            )?);
            writers.push((topic.clone(), opened.writer.counts_with(&leaked)));
            lanes.push(lane);
        }
        for name in lanes_to_drain(config, &dir)? {
            let (gateway, counted) = (&config.agent.gateway, Arc::clone(&conservation));
            let now = clock.now().queue();
            let settings = |topic: &_| config.queue_of(topic);
            let opened = queue::open_to_drain(&dir, &name, gateway, settings, counted, now);
            let (reader, lane) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    // The lanes that take readings do not wait for it.
                    error!(lane = name, %error, "lane cannot be drained, its readings stay");
                    continue;
                }
            };
            let limits = config.limits_of(lane.topic());
            let max_age = config.queue_of(lane.topic()).max_age;
            let lane = status::Lane::new(lane, max_age, limits.budget_per_day);
            schemas.add(config, lane.queue.topic());
            // Nothing comes to it any more, but its last statements may not have been heard.
            if lane.queue.stat().readings > 0 {
                forwarders.push(forward::start(reader, &limits, &lane.forward, &around)?);
            }
            lanes.push(lane);
        }
        let registry = forward::schema::start(&schemas, config, state, &links)?;
        let facts = forward::facts::start(
            config.agent.gateway.clone(),
            lanes.iter().map(|lane| Arc::clone(&lane.queue)).collect(),
            config.kafka.clone(),
            clock.clone(),
            links.clone(),
        )?;
        let around = ingest::Surroundings {
            runtime: Handle::current(),
            clock: clock.clone(),
            conservation: Arc::clone(&conservation),
            quarantine: quarantine.clone(),
            links: links.clone(),
            pulses: pulses.clone(),
        };
        let ingest = ingest::start(writers, config.queue.commit_every, around)?;
        let devices = Devices::default();
        let around = source::Surroundings {
            gate: ingest.gate.clone(),
            links: links.clone(),
            clock: clock.clone(),
            devices: devices.clone(),
            conservation: Arc::clone(&conservation),
        };
        let sources = source::spawn_all(config, around, taking)?;
        let watched = Watched {
            gateway: config.agent.gateway.clone(),
            started: Instant::now(),
            conservation: Arc::clone(&conservation),
            links,
            lanes,
            clock: clock.clone(),
            rates: Mutex::default(),
            devices,
            sources: sources.roster.clone(),
            gate: ingest.gate.clone(),
            pulses: pulses.clone(),
        };
        let recovered = conservation.snapshot().recovered_at_start;
        let status = serve(config, watched, serving.clone()).await?;
        info!(
            gateway = %config.agent.gateway,
            version = env!("CARGO_PKG_VERSION"),
            sources = config.serial.len() + config.modbus.len() + config.mqtt.len(),
            lanes = forwarders.len(),
            queued = recovered,
            clock_synced = clock.now().synced,
            "ready"
        );
        if config.has_no_source() {
            warn!("no source is configured, only draining; add [[serial]], [[modbus]] or [[mqtt]]");
        }
        Ok(Self {
            sources,
            lanes: config.lanes().cloned().collect(),
            ingest,
            forwarders,
            facts: vec![facts],
            registry: registry.into_iter().collect(),
            status,
            quarantine,
            conservation,
        })
    }

    /// Takes a configuration over that was read again, or says why not and goes on as before.
    fn reload(&mut self, running: &mut Config, read: Reread) {
        let wanted = match read {
            Ok(wanted) => wanted,
            Err(problems) => return refuse(&problems),
        };
        let plan = match reload::plan(running, &wanted, &self.lanes) {
            Ok(plan) => plan,
            Err(changed) => {
                error!(target: EVERY, %changed, "configuration needs a restart, nothing was changed");
                return;
            }
        };
        if let Err(error) = self.sources.apply(&wanted, &plan) {
            error!(target: EVERY, %error, "configuration not taken over, a source cannot start");
            return;
        }
        *running = wanted;
        let names = |keys: &[reload::Key]| {
            let names: Vec<&str> = keys.iter().map(|(_, name)| name.as_str()).collect();
            (!names.is_empty()).then(|| names.join(","))
        };
        info!(
            target: EVERY,
            added = names(&plan.added),
            removed = names(&plan.removed),
            altered = names(&plan.altered),
            unchanged = plan.unchanged,
            "configuration taken over"
        );
    }

    /// Resolves when a part has ended that should not have. Cancel safe.
    async fn failure(&mut self) -> anyhow::Error {
        let (name, result) = tokio::select! {
            Some((name, result)) = self.sources.ended() => {
                (format!("source {name}"), result.map_err(|error| error.to_string()))
            }
            end = first_end(&mut self.ingest.stages) => end,
            end = first_end(&mut self.forwarders) => end,
            end = first_end(&mut self.facts) => end,
            end = first_end(&mut self.registry) => end,
            end = &mut self.status => {
                let end = end.map_err(Into::into).and_then(|end| end);
                ("status".to_owned(), end.map_err(|error| error.to_string()))
            }
        };
        let reason = result.err().unwrap_or_else(|| "no reason given".to_owned());
        error!(
            stage = name,
            reason, "a stage has ended, the process follows"
        );
        anyhow!("{name} has ended: {reason}")
    }

    /// Ends the parts in the order of a reading's way, so that each finds what the one before left.
    async fn stop(&mut self, deadline: Instant) -> anyhow::Result<()> {
        let mut ended = Ok(());
        let mut note = |name: &str, result: Result<(), String>| {
            if let Err(reason) = result {
                error!(stage = name, reason, "a stage did not end well");
                ended = Err(anyhow!("{name}: {reason}"));
            }
        };
        let in_time = {
            let mut all_sources = pin!(async {
                while let Some((name, result)) = self.sources.ended().await {
                    note(&name, result.map_err(|error| error.to_string()));
                }
            });
            let held = time::timeout_at(deadline.into(), all_sources.as_mut()).await;
            // What waits at the gate of a full queue does not get in any more: its source sends it again.
            self.ingest.stop(deadline);
            let late = (deadline + GRACE).into();
            held.is_ok() || time::timeout_at(late, all_sources).await.is_ok()
        };
        if !in_time {
            note("sources", Err("did not end in time".to_owned()));
        }
        // It may be waiting for an answer, which needs as long as the others need to drain.
        for stage in &self.registry {
            stage.stop(deadline);
        }
        for stages in [
            &mut self.ingest.stages,
            &mut self.forwarders,
            &mut self.facts,
            &mut self.registry,
        ] {
            for stage in stages {
                stage.stop(deadline);
                let end = time::timeout_at((deadline + GRACE).into(), stage.ended()).await;
                let end = end.unwrap_or_else(|_| Err("did not end in time".to_owned()));
                note(stage.name(), end);
            }
        }
        if !self.quarantine.drain(deadline + GRACE) {
            warn!("quarantine was not written to its end");
        }
        ended
    }
}

fn stands_still(silent: &Silent) -> anyhow::Error {
    anyhow!(
        "{silent}: see to the disk, and to the limits of tasks and memory (TasksMax, LimitNPROC, LimitAS)"
    )
}

/// Every lane on the disk that takes no readings: its topic is no longer configured, or it is of another
/// gateway.
fn lanes_to_drain(config: &Config, dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut names =
        queue::inspect::lanes(dir).with_context(|| format!("queue {}", dir.display()))?;
    names.retain(|name| config.lanes().all(|topic| topic.as_str() != name));
    Ok(names)
}

/// Says everything that is wrong with a configuration that was read again.
fn refuse(problems: &[Problem]) {
    document::tell(problems);
    let mistakes = problems.len();
    error!(
        target: EVERY,
        mistakes,
        "configuration not taken over, the agent goes on as before"
    );
}

async fn serve(
    config: &Config,
    watched: Watched,
    serving: CancellationToken,
) -> anyhow::Result<JoinHandle<std::io::Result<()>>> {
    let Some(listen) = config.status.listen else {
        return Ok(tokio::spawn(async move {
            serving.cancelled().await;
            Ok(())
        }));
    };
    let (address, server) = status::serve(listen, watched, serving)
        .await
        .with_context(|| format!("status.listen {listen}"))?;
    info!(%address, "status");
    Ok(tokio::spawn(server))
}

/// The first of several stages to end. Cancel safe.
async fn first_end(stages: &mut [Stage]) -> (String, Result<(), String>) {
    poll_fn(|context| {
        for stage in stages.iter_mut() {
            let end = pin!(stage.ended()).poll(context);
            if let Poll::Ready(result) = end {
                return Poll::Ready((stage.name().to_owned(), result));
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests;
