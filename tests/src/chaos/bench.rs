//! One agent between a feed and a witness, to be killed in tight loops: no Java, no downloads, nothing
//! else on the way that could be slow or at fault.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    feed::{self, Feed},
    report::Report,
    shim::FaultyDisk,
    witness::Witness,
};
use crate::{
    daemon::{AgentStatus, status_of},
    embedded::Embedded,
    port,
    process::Process,
    wait,
};

/// By when a started agent takes readings. Generous: it is the same on a busy machine.
pub const START: Duration = Duration::from_secs(60);
/// By when a queue is empty again, and whatever else is bound to happen has.
pub const DRAIN: Duration = Duration::from_secs(120);
/// By when an agent has ended that was asked to: far beyond its `shutdown_timeout`.
pub const ENDED: Duration = Duration::from_secs(60);
/// What an unoptimised agent may need, whatever happens around it: 117 MiB were the most that 1 000 kills
/// saw, 82 MiB with power cuts, 79 MiB with bit rot, 77 MiB with any call failing.
pub const MEMORY: u64 = 160 << 20;

const READINGS: &str = "chaos.readings";
const CONTROL: &str = "chaos.control";

/// The bench. Its processes end with it; its folder stays when something was found.
pub struct Bench {
    /// Configuration, log, and the state unless it lies elsewhere.
    pub dir: PathBuf,
    /// Where the agent keeps its state.
    pub state: PathBuf,
    /// Devices.
    pub feed: Feed,
    /// What reached Kafka.
    pub witness: Witness,
    /// Kafka.
    pub embedded: Embedded,
    /// The agent's sources: the feed, unless they are replaced.
    pub sources: String,
    /// Environment of the agent.
    pub environment: Vec<(String, PathBuf)>,
    program: PathBuf,
    agent: Option<Process>,
    /// Of the status page.
    pub port: u16,
    starting: Instant,
    queue: String,
}

/// How a process ended that nobody ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exit(i32),
    /// By a signal: it has crashed.
    Crash,
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        status.code().map_or(Self::Crash, Self::Exit)
    }
}

impl Bench {
    /// A bench in `target/chaos/NAME-…`. `queue` is the agent's `[queue]` table.
    ///
    /// # Errors
    /// Something cannot be started.
    pub fn new(name: &str, window: u64, queue: &str) -> Result<Self> {
        let root = crate::target().join("chaos");
        fs::create_dir_all(&root)?;
        let dir = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(root.canonicalize()?)?
            .keep();
        let embedded = Embedded::start(&[READINGS, CONTROL])?;
        let witness = Witness::start(&embedded.addresses().kafka, READINGS, CONTROL)?;
        let feed = Feed::start(window)?;
        let bench = Self {
            state: dir.join("state"),
            dir,
            sources: feed::SOURCES.replace("{{feed}}", feed.url()),
            feed,
            witness,
            embedded,
            environment: Vec::new(),
            program: crate::binary("edge-agent")?,
            agent: None,
            port: port::free()?,
            starting: Instant::now(),
            queue: queue.to_owned(),
        };
        bench.configure()?;
        Ok(bench)
    }

    /// Writes the configuration anew, after a change of `state`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn configure(&self) -> Result<()> {
        let config = format!(
            "[agent]\ngateway = \"gw-chaos\"\nstate_dir = \"{}\"\nshutdown_timeout = \"2s\"\n\n\
             [kafka]\nbootstrap = \"{}\"\ntopic = \"{READINGS}\"\ncontrol_topic = \"{CONTROL}\"\n\n\
             [status]\nlisten = \"127.0.0.1:{}\"\n\n[queue]\nmin_free_bytes = \"1MiB\"\n{}\n{}",
            self.state.display(),
            self.embedded.addresses().kafka,
            self.port,
            self.queue,
            self.sources,
        );
        Ok(fs::write(self.dir.join("edge-agent.toml"), config)?)
    }

    /// Uses another build of the agent.
    pub fn use_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// The agent's disk is this one from its next start.
    pub fn use_disk(&mut self, disk: &FaultyDisk) {
        self.environment = disk.environment();
    }

    /// Starts the agent, and waits for nothing.
    ///
    /// # Errors
    /// It cannot be executed.
    pub fn start(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["run", "-c"]);
        command.arg(self.dir.join("edge-agent.toml"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.starting = Instant::now();
        self.agent = Some(Process::spawn("edge-agent", &mut command, &self.log())?);
        Ok(())
    }

    /// Starts the agent and waits until it takes readings; a start that fails is in the report.
    ///
    /// # Errors
    /// It did not come, and never will.
    pub fn start_and_wait(&mut self, report: &mut Report) -> Result<()> {
        let before = self.feed.connections();
        self.start()?;
        let came = wait::until_true("the agent to connect", START, || {
            if let Some(end) = self.ended()? {
                bail!("ended with {end:?}\n{}", crate::end_of(&self.log()));
            }
            Ok(self.feed.connections() > before)
        });
        let took = u64::try_from(self.starting.elapsed().as_millis()).unwrap_or(u64::MAX);
        report.worst_start_ms = report.worst_start_ms.max(took);
        if came.is_err() {
            report.failed_starts += 1;
        }
        came
    }

    /// How the agent ended, if it did.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn ended(&mut self) -> Result<Option<End>> {
        let Some(child) = self.agent.as_mut().and_then(Process::child) else {
            return Ok(None);
        };
        Ok(child.try_wait()?.map(End::from))
    }

    /// The agent's process.
    ///
    /// # Errors
    /// It was not started.
    pub fn agent(&mut self) -> Result<&mut Process> {
        self.agent.as_mut().context("the agent was not started")
    }

    /// SIGKILL, without a pause. How it had ended before, if it had.
    ///
    /// # Errors
    /// It was not started.
    pub fn kill(&mut self) -> Result<Option<End>> {
        let end = self.ended()?;
        let mut agent = self.agent.take().context("the agent was not started")?;
        if let Some(child) = agent.child() {
            // An error: it had ended. Its status is asked for either way.
            drop(child.kill());
            child.wait()?;
        }
        Ok(end)
    }

    /// SIGTERM, and waits.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&mut self) -> Result<Option<ExitStatus>> {
        let mut agent = self.agent.take().context("the agent was not started")?;
        agent.stop(ENDED)
    }

    /// The agent's numbers; that they are not conserved is in the report (I7).
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self, report: &mut Report) -> Result<AgentStatus> {
        let status: AgentStatus = status_of(&format!("http://127.0.0.1:{}", self.port))?;
        if !status.balance.holds() {
            report.unexplained(format!("I7, not conserved: {:?}", status.balance));
        }
        Ok(status)
    }

    /// Losses that are recorded and that Kafka has not acknowledged.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn losses_pending(&self) -> Result<u64> {
        #[derive(serde::Deserialize)]
        struct Lane {
            losses_pending: u64,
        }
        #[derive(serde::Deserialize)]
        struct Lanes {
            lanes: Vec<Lane>,
        }
        let status: Lanes = status_of(&format!("http://127.0.0.1:{}", self.port))?;
        Ok(status.lanes.iter().map(|lane| lane.losses_pending).sum())
    }

    /// Waits until everything sent is acknowledged and everything queued is in Kafka, and looks at
    /// memory (I4).
    ///
    /// # Errors
    /// It takes too long.
    pub fn drain(&mut self, report: &mut Report) -> Result<()> {
        self.feed.wait_settled(DRAIN)?;
        wait::until_true("the queue to be drained", DRAIN, || {
            let status = self.status(report)?;
            Ok(status.balance.queued == 0 && status.balance.uncommitted == 0)
        })
        .with_context(|| crate::end_of(&self.log()))?;
        self.look_at_memory(report)
    }

    /// I4: the most that the running agent ever had.
    ///
    /// # Errors
    /// It does not run.
    pub fn look_at_memory(&mut self, report: &mut Report) -> Result<()> {
        report.memory(self.agent()?.peak_memory()?, MEMORY);
        Ok(())
    }

    /// I1, I2, I3, I8, I9 of everything so far.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn judge(&self, report: &mut Report) -> Result<()> {
        let seen = self.witness.everything()?;
        seen.judge(&self.feed.acknowledged(), report);
        if self.feed.stray_acks() > 0 {
            let strays = self.feed.stray_acks();
            report.unexplained(format!(
                "{strays} PUBACKs of messages that were not on their way"
            ));
        }
        Ok(())
    }

    /// Whether Kafka has `count` readings, or a statement of the loss of those it has not.
    #[must_use]
    pub fn is_through(&self, count: u64) -> bool {
        let (seen, declared) = self.witness.count();
        seen + declared >= count
    }

    /// Begins anew: an agent that never ran here, and nothing owed.
    ///
    /// # Errors
    /// The state cannot be removed, or Kafka does not answer.
    pub fn reset(&mut self) -> Result<()> {
        if self.agent.is_some() {
            self.kill()?;
        }
        if self.state.exists() {
            fs::remove_dir_all(&self.state)?;
        }
        self.witness.everything()?;
        self.witness.forget();
        self.feed.hold();
        self.feed.forget();
        Ok(())
    }

    /// Where the queue of the agent's only lane is.
    #[must_use]
    pub fn lane(&self) -> PathBuf {
        self.state.join("queue").join(READINGS)
    }

    /// The agent's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("edge-agent.log")
    }

    /// The end: the folder goes when nothing was found.
    pub fn end(mut self, report: &Report) {
        drop(self.agent.take());
        let panicked = log_has(&self.log(), "panicked at");
        if report.is_clean() && !panicked {
            drop(fs::remove_dir_all(&self.dir));
        } else {
            eprintln!("logs and queue are kept in {}", self.dir.display());
        }
    }
}

/// Whether a log has this text somewhere.
#[must_use]
pub fn log_has(log: &Path, text: &str) -> bool {
    let bytes = fs::read(log).unwrap_or_default();
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}
