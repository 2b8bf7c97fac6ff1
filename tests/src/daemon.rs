//! `edge-agent` and `cloud-sink` as their users run them: a process, a configuration file, a status page.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{port, process::Process, rig::PATIENCE, wait};

/// By when a status page that answers at all has answered. A process that stands still never does.
const ANSWER: Duration = Duration::from_secs(10);

/// What `/status.json` says about a link.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Link {
    /// `serial`, `mqtt`, `kafka`, `disk`, `mongodb`.
    pub kind: String,
    /// Which of them, where there are several.
    #[serde(default)]
    pub name: String,
    /// `up`, `connecting`, `down`.
    pub state: String,
    /// Why it is down.
    #[serde(default)]
    pub detail: Option<String>,
}

impl Link {
    /// Whether it is a broker at which the agent has subscribed.
    #[must_use]
    pub fn is_mqtt_up(&self) -> bool {
        self.kind == "mqtt" && self.state == "up"
    }
}

/// Whether there is a broker among the links, and none at which the agent has not subscribed.
#[must_use]
pub fn is_subscribed(links: &[Link]) -> bool {
    let mut brokers = links.iter().filter(|link| link.kind == "mqtt").peekable();
    brokers.peek().is_some() && brokers.all(Link::is_mqtt_up)
}

/// What `/status.json` of the agent says, as far as it is used here.
#[derive(Debug, Clone, Deserialize)]
pub struct AgentStatus {
    /// Whether everything it needs works.
    pub ready: bool,
    /// All its links.
    pub links: Vec<Link>,
    /// Invariant 6.
    pub balance: AgentBalance,
    /// All lanes.
    #[serde(default)]
    pub lanes: Vec<LaneStatus>,
}

/// What `/status.json` says about a lane, as far as it is used here.
#[derive(Debug, Clone, Deserialize)]
pub struct LaneStatus {
    /// Its name.
    pub topic: String,
    /// Readings waiting.
    pub readings: u64,
    /// What holds it back.
    pub held: Option<Held>,
    /// Bytes of the day, where they are bounded.
    pub budget: Option<Budget>,
}

/// What holds a lane back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Held {
    /// `window`, `budget`, `priority`, `rate`.
    pub by: String,
    /// Where the clock can tell.
    pub until: Option<String>,
}

/// Bytes of a day.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Budget {
    /// May be sent.
    pub bytes_per_day: u64,
    /// Were sent.
    pub spent_bytes: u64,
}

/// The agent's side of the conservation equation; names as in DESIGN of `edge-agent::conservation`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[expect(
    missing_docs,
    reason = "named and documented in edge-agent, here only read"
)]
pub struct AgentBalance {
    pub received: u64,
    pub recovered_at_start: u64,
    pub acknowledged: u64,
    pub queued: u64,
    pub dropped: BTreeMap<String, u64>,
    pub rejected: u64,
    pub retransmitted: u64,
    pub suppressed: u64,
    pub uncommitted: u64,
}

impl AgentStatus {
    /// What holds the lane of a topic back.
    #[must_use]
    pub fn held(&self, topic: &str) -> Option<&Held> {
        let lane = self.lanes.iter().find(|lane| lane.topic == topic)?;
        lane.held.as_ref()
    }

    /// Whether it has subscribed at its brokers, all of them.
    #[must_use]
    pub fn mqtt_is_up(&self) -> bool {
        is_subscribed(&self.links)
    }
}

impl AgentBalance {
    /// Whether what came in is somewhere.
    #[must_use]
    pub fn holds(&self) -> bool {
        let out = self.acknowledged
            + self.queued
            + self.dropped.values().sum::<u64>()
            + self.rejected
            + self.retransmitted
            + self.suppressed
            + self.uncommitted;
        self.received + self.recovered_at_start == out
    }
}

/// What `/status.json` of the sink says, as far as it is used here.
#[derive(Debug, Clone, Deserialize)]
pub struct SinkStatus {
    /// Whether everything it needs works.
    pub ready: bool,
    /// All its links.
    pub links: Vec<Link>,
    /// Invariant 6.
    pub balance: SinkBalance,
    /// Records not yet consumed, where known.
    #[serde(default)]
    pub lag: Option<u64>,
}

/// The sink's side of the conservation equation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[expect(
    missing_docs,
    reason = "named and documented in cloud-sink, here only read"
)]
pub struct SinkBalance {
    pub consumed: u64,
    pub written: u64,
    pub duplicates: u64,
    pub dead_letters: u64,
    pub conflicts: u64,
    pub control: u64,
    pub in_flight: u64,
    pub revoked: u64,
}

impl SinkBalance {
    /// Whether what was consumed is somewhere.
    #[must_use]
    pub fn holds(&self) -> bool {
        let out = self.written
            + self.duplicates
            + self.dead_letters
            + self.conflicts
            + self.control
            + self.in_flight
            + self.revoked;
        self.consumed == out
    }
}

/// One of the two daemons, running or not. Killed with this value.
#[derive(Debug)]
pub struct Daemon {
    program: &'static str,
    dir: PathBuf,
    port: u16,
    process: Option<Process>,
    ended_by_us: bool,
    environment: Vec<(String, PathBuf)>,
    instead: Option<PathBuf>,
}

impl Daemon {
    /// A daemon whose configuration is `dir/PROGRAM.toml`, not started yet. `{{status}}` in `config`
    /// becomes the address of its status page.
    ///
    /// # Errors
    /// The configuration cannot be written.
    pub fn new(program: &'static str, dir: &Path, config: &str) -> Result<Self> {
        let daemon = Self {
            program,
            dir: dir.to_owned(),
            port: port::free()?,
            process: None,
            ended_by_us: false,
            environment: Vec::new(),
            instead: None,
        };
        daemon.configure(config)?;
        Ok(daemon)
    }

    /// Replaces the configuration; the next start reads it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn configure(&self, config: &str) -> Result<()> {
        let text = config.replace("{{status}}", &format!("127.0.0.1:{}", self.port));
        let file = self.config_file();
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    }

    /// Adds to its environment, from the next start.
    pub fn set_environment(&mut self, environment: Vec<(String, PathBuf)>) {
        self.environment = environment;
    }

    /// Runs another build of it, from the next start.
    pub fn use_program(&mut self, program: &Path) {
        self.instead = Some(program.to_owned());
    }

    /// Which of the two.
    #[must_use]
    pub fn program(&self) -> &'static str {
        self.program
    }

    /// Its configuration.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.dir.join(format!("{}.toml", self.program))
    }

    /// Its output, over all starts.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.program))
    }

    /// Its status pages.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts `PROGRAM run`, and waits until it says that it lives; it may not be ready yet.
    ///
    /// # Errors
    /// It ended at once; the message has the end of its log.
    pub fn start(&mut self) -> Result<()> {
        let program = match &self.instead {
            Some(program) => program.clone(),
            None => crate::binary(self.program)?,
        };
        let mut command = Command::new(program);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(["run", "-c"]).arg(self.config_file());
        command.current_dir(&self.dir);
        self.process = Some(Process::spawn(self.program, &mut command, &self.log())?);
        self.ended_by_us = false;
        let what = format!("{} to live", self.program);
        let lives = wait::until(&what, PATIENCE, || {
            if !self.process.as_mut().is_some_and(Process::runs) {
                return Ok(Some(false));
            }
            self.page("/livez").map(|_| Some(true))
        });
        match lives {
            Ok(true) => Ok(()),
            Ok(false) => bail!("{} ended at once\n{}", self.program, self.end_of_log()),
            Err(error) => Err(error.context(self.end_of_log())),
        }
    }

    /// Its process.
    ///
    /// # Errors
    /// It was not started.
    pub fn process(&mut self) -> Result<&mut Process> {
        let program = self.program;
        self.process
            .as_mut()
            .with_context(|| format!("{program} was not started"))
    }

    /// Whether it ended although nobody ended it.
    pub fn ended_by_itself(&mut self) -> bool {
        !self.ended_by_us && self.process.as_mut().is_some_and(|process| !process.runs())
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::runs)
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It was not started.
    pub fn kill(&mut self) -> Result<()> {
        self.ended_by_us = true;
        self.process()?.kill()
    }

    /// SIGTERM, and its exit status.
    ///
    /// # Errors
    /// It was not started, or not gone `within`.
    pub fn stop(&mut self, within: Duration) -> Result<ExitStatus> {
        self.ended_by_us = true;
        let stopped = self.process()?.stop(within);
        let status = stopped.with_context(|| self.end_of_log())?;
        status.context("the exit status of a child is known")
    }

    /// A page, such as `/metrics`.
    ///
    /// # Errors
    /// Nobody answers, or not with 200.
    pub fn page(&self, path: &str) -> Result<String> {
        page(&format!("{}{path}", self.url()))
    }

    /// `/status.json`, as [`AgentStatus`] or [`SinkStatus`].
    ///
    /// # Errors
    /// Nobody answers, or something else.
    pub fn status<S: for<'de> Deserialize<'de>>(&self) -> Result<S> {
        status_of(&self.url())
    }

    /// The last lines of its log.
    #[must_use]
    pub fn end_of_log(&self) -> String {
        crate::end_of(&self.log())
    }
}

/// `/status.json` of the daemon at `url`.
///
/// # Errors
/// Nobody answers, or something else.
pub fn status_of<S: for<'de> Deserialize<'de>>(url: &str) -> Result<S> {
    let text = page(&format!("{url}/status.json"))?;
    serde_json::from_str(&text).with_context(|| format!("read status {text}"))
}

fn page(url: &str) -> Result<String> {
    let mut response = ureq::get(url)
        .config()
        .timeout_global(Some(ANSWER))
        .build()
        .call()?;
    Ok(response.body_mut().read_to_string()?)
}
