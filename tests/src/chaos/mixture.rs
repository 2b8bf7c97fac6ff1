//! Everything at once, on the real stack: devices with faults of their own on serial lines and MQTT,
//! both daemons, Kafka, Mosquitto and MongoDB, and a plug pulled every few seconds. At the end the
//! faults stop, the pipeline drains, and MongoDB is held against the truth of the simulator.

use std::{
    fmt, fs,
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use hardware_sim::{
    Options, Scenario, Sim,
    verify::{
        Verdict,
        mongodb::{Place, verify},
    },
};

use super::{
    bench::MEMORY,
    dice::Dice,
    progress::Progress,
    report::Report,
    shim::{Calls, Errno, FaultyDisk},
};
use crate::{
    daemon::Daemon,
    rig::{PATIENCE, Rig},
    service::Kind,
    wait,
};

const SCENARIO: &str = include_str!("mixture.toml");
const SOURCES: &str = r#"
[[serial]]
name = "meter-1"
port = "{{dir}}/meter-1"
mode = "frames"

[[serial]]
name = "meter-2"
port = "{{dir}}/meter-2"
mode = "frames"

[[serial]]
name = "climate-json"
port = "{{dir}}/climate-json"
mode = "lines"
format = "json"
device = "climate-json"
time = "time"
sequence = "seq"
boot = "boot"

[[serial]]
name = "climate-kv"
port = "{{dir}}/climate-kv"
mode = "lines"
format = "key-value"
device = "climate-kv"
time = "time"
sequence = "seq"
boot = "boot"

[[mqtt]]
name = "house"
url = "{{mqtt}}"
subscribe = [ { topic = "{{rig}}/{device}/state", time = "time", sequence = "seq", boot = "boot" } ]

[queue]
segment_bytes = "256KiB"
segment_age = "5s"
"#;
/// I6: by when everything works again after the last fault was undone.
const READY: Duration = Duration::from_secs(180);
/// A pipeline that has stored nothing more for so long is drained.
const DRAINED: Duration = Duration::from_secs(120);
/// By when everything that an hour has stored can be read at once, on a machine that is busy with other things.
const READABLE: Duration = Duration::from_secs(900);
/// What a store on a disk that fails takes with it for good: sled's table of pages, which is a node of 4 MiB and one of
/// 2 MiB, and its page cache (`CACHE_BYTES` in the agent's `queue/segment.rs`).
const SICK_STORE: u64 = (4 << 20) + (2 << 20) + (2 << 20);
/// So many of them, and the agent ends for a new start (`MAX_LEAKED` in `queue/active.rs`).
const SICK: u64 = 8 * SICK_STORE;
/// What it says then, and where such a store holds readings that only a new process can read.
const RENEWED: [&str; 2] = [
    "the store failed too often for one process",
    " cannot be read: ",
];
/// Longest time a thing is frozen or away.
const AWAY: Duration = Duration::from_secs(6);
/// Longest quiet time between two faults.
const QUIET: Duration = Duration::from_secs(3);

/// What can be pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// SIGKILL of the agent, started again at once.
    AgentKill,
    /// SIGSTOP and SIGCONT of the agent.
    AgentFreeze,
    /// SIGTERM of the agent, and a new start.
    AgentRestart,
    /// SIGKILL of the sink, started again at once.
    SinkKill,
    /// SIGSTOP and SIGCONT of the sink.
    SinkFreeze,
    /// SIGKILL of Kafka; it is away for a while.
    KafkaKill,
    /// Kafka stands still.
    KafkaFreeze,
    /// SIGKILL of the MongoDB server; it is away for a while.
    MongodbKill,
    /// The MongoDB server stands still.
    MongodbFreeze,
    /// Mosquitto ends in order and comes back; what it had confirmed is in its store.
    BrokerRestart,
    /// Mosquitto stands still.
    BrokerFreeze,
    /// Every write to the agent's disk fails with EIO.
    DiskError,
    /// The agent's disk is full.
    DiskFull,
    /// The agent's disk has turned read-only.
    DiskReadOnly,
    /// Each sync takes a second longer.
    DiskSlow,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl FromStr for Fault {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        clap::ValueEnum::from_str(text, false)
    }
}

/// How long.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// After so many faults.
    Cycles(u64),
    /// After this time.
    After(Duration),
}

/// Plays until `end` with `faults`.
///
/// # Errors
/// The stack failed; what the daemons did wrong is in the report.
pub fn run(end: End, seed: u64, faults: &[Fault]) -> Result<Report> {
    let mut report = Report::new(seed);
    let rig = Rig::new(&[Kind::Kafka, Kind::Mosquitto, Kind::Mongodb])?;
    let mut mixture = Mixture::start(rig, seed)?;
    let begin = Instant::now();
    let played = mixture.play(end, faults, &mut report);
    report.seconds = begin.elapsed().as_secs();
    let ended = played.and_then(|()| mixture.end(&mut report));
    if let Err(error) = ended {
        report.unexplained(format!("{error:#}"));
    }
    if report.is_clean() {
        mixture.rig.done_after_disk_faults()?;
    }
    Ok(report)
}

struct Mixture {
    rig: Rig,
    sim: Option<Sim>,
    disk: FaultyDisk,
    dice: Dice,
}

impl Mixture {
    fn start(mut rig: Rig, seed: u64) -> Result<Self> {
        let disk = FaultyDisk::new(&rig.state_dir(), &rig.dir().join("disk-control"))?;
        rig.agent.set_environment(disk.environment());
        rig.configure_agent(SOURCES)?;
        let scenario: Scenario = SCENARIO.replace("RIG", rig.name()).parse()?;
        let options = Options {
            seed: Some(seed),
            truth: Some(rig.dir().join("truth.jsonl")),
            mqtt: Some(rig.address(Kind::Mosquitto).to_owned()),
            pty_dir: rig.dir().to_owned(),
        };
        rig.sink.start()?;
        rig.agent.start()?;
        // Nothing is an obligation of a broker before the agent has subscribed.
        rig.wait_agent("the agent to be ready", |agent| {
            agent
                .links
                .iter()
                .all(|link| link.kind != "mqtt" || link.state == "up")
        })?;
        let sim = Some(Sim::start(&scenario, &options)?);
        Ok(Self {
            rig,
            sim,
            disk,
            dice: Dice::new(seed),
        })
    }

    fn play(&mut self, end: End, faults: &[Fault], report: &mut Report) -> Result<()> {
        let begin = Instant::now();
        let progress = match end {
            End::Cycles(count) => Progress::new("mixture", count),
            End::After(time) => Progress::new("mixture (s)", time.as_secs()),
        };
        loop {
            let done = match end {
                End::Cycles(count) => {
                    progress.at(report.cycles);
                    report.cycles >= count
                }
                End::After(time) => {
                    progress.at(begin.elapsed().as_secs());
                    begin.elapsed() >= time
                }
            };
            if done {
                return Ok(());
            }
            let fault = *self.dice.one_of(faults);
            let away = self.dice.time_below(AWAY);
            self.begin(fault)
                .with_context(|| format!("begin {fault}"))?;
            report.fault(&fault.to_string());
            if !fault.is_over_at_once() {
                std::thread::sleep(away);
                self.undo(fault).with_context(|| format!("undo {fault}"))?;
            }
            self.look(report)?;
            std::thread::sleep(self.dice.time_below(QUIET));
        }
    }

    fn begin(&mut self, fault: Fault) -> Result<()> {
        let rig = &mut self.rig;
        match fault {
            Fault::AgentKill => {
                rig.agent.kill()?;
                rig.agent.start()
            }
            Fault::AgentRestart => {
                // One that has just given up its stores ends with an error by itself.
                let status = rig.agent.stop(PATIENCE)?;
                if !status.success() && !is_renewed(&rig.agent) {
                    bail!("agent ended with {status}");
                }
                rig.agent.start()
            }
            Fault::AgentFreeze => rig.agent.process()?.freeze(),
            Fault::SinkKill => {
                rig.sink.kill()?;
                rig.sink.start()
            }
            Fault::SinkFreeze => rig.sink.process()?.freeze(),
            Fault::KafkaKill => rig.service(Kind::Kafka)?.kill(),
            Fault::KafkaFreeze => rig.service(Kind::Kafka)?.freeze(),
            Fault::MongodbKill => rig.service(Kind::Mongodb)?.kill(),
            Fault::MongodbFreeze => rig.service(Kind::Mongodb)?.freeze(),
            Fault::BrokerRestart => rig.service(Kind::Mosquitto)?.stop(),
            Fault::BrokerFreeze => rig.service(Kind::Mosquitto)?.freeze(),
            Fault::DiskError => self.disk.fail_all(Calls::CHANGES, Errno::IO),
            Fault::DiskFull => self.disk.fail_all(Calls::CHANGES, Errno::NO_SPACE),
            Fault::DiskReadOnly => self.disk.fail_all(Calls::CHANGES, Errno::READ_ONLY),
            Fault::DiskSlow => self.disk.slow(1000),
        }
    }

    fn undo(&mut self, fault: Fault) -> Result<()> {
        let rig = &mut self.rig;
        let (kind, back) = match fault {
            Fault::AgentFreeze => return rig.agent.process()?.thaw(),
            Fault::SinkFreeze => return rig.sink.process()?.thaw(),
            Fault::KafkaKill => (Kind::Kafka, true),
            Fault::KafkaFreeze => (Kind::Kafka, false),
            Fault::MongodbKill => (Kind::Mongodb, true),
            Fault::MongodbFreeze => (Kind::Mongodb, false),
            Fault::BrokerRestart => (Kind::Mosquitto, true),
            Fault::BrokerFreeze => (Kind::Mosquitto, false),
            _ => return self.disk.heal(),
        };
        let service = rig.service(kind)?;
        if back {
            service.start()?;
            service.wait_ready()
        } else {
            service.thaw()
        }
    }

    /// I4 and I7, whenever the daemons answer; and neither may have ended by itself, but for an agent
    /// whose disk failed, which its service manager would start again.
    fn look(&mut self, report: &mut Report) -> Result<()> {
        restart_what_ended(&mut self.rig, report)?;
        let rig = &mut self.rig;
        if let Ok(agent) = rig.agent.status::<crate::daemon::AgentStatus>()
            && !agent.balance.holds()
        {
            report.unexplained(format!("I7, agent: {:?}", agent.balance));
        }
        if let Ok(sink) = rig.sink.status::<crate::daemon::SinkStatus>()
            && !sink.balance.holds()
        {
            report.unexplained(format!("I7, sink: {:?}", sink.balance));
        }
        // One that has ended meanwhile has none; the next look starts it again.
        let peak = rig.agent.process()?.peak_memory().unwrap_or(0);
        if peak > MEMORY + SICK && peak >> 20 > report.peak_memory_mib {
            report.unexplained(format!("I4, agent: {} MiB", peak >> 20));
        }
        report.peak_memory_mib = report.peak_memory_mib.max(peak >> 20);
        Ok(())
    }

    /// The faults stop, everything drains, and the truth is asked.
    fn end(&mut self, report: &mut Report) -> Result<()> {
        let sim = self.sim.take().context("the devices play")?;
        sim.set_faults(false);
        let begin = Instant::now();
        let rig = &mut self.rig;
        wait::until_true("both daemons to be ready", READY, || {
            // An agent may give up its stores after the last fault is over.
            restart_what_ended(rig, report)?;
            Ok(rig.agent_status()?.ready && rig.sink_status()?.ready)
        })
        .with_context(|| format!("{}\n{}", rig.agent.end_of_log(), rig.sink.end_of_log()))?;
        let took = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        report.worst_start_ms = report.worst_start_ms.max(took);
        sim.stop(2 * PATIENCE)?;
        let verdict = self.verdict()?;
        report.obligations += verdict.acknowledged;
        report.stored += verdict.stored;
        report.declared_lost += verdict.declared_lost;
        report.lost += verdict.lost.count - verdict.explained;
        report.duplicated += verdict.duplicated.count;
        report.altered += verdict.altered.count;
        report.disordered += verdict.disordered.count;
        if verdict.declared_lost > verdict.explained {
            report.unexplained(format!("false alarm: {verdict}"));
        }
        for (word, finding) in [
            ("unexpected", &verdict.unexpected),
            ("rejected", &verdict.rejected),
        ] {
            if finding.count > 0 {
                report.unexplained(format!("{word}: {:?}", finding.examples));
            }
        }
        if !verdict.clean {
            let text = verdict.to_string();
            fs::write(self.rig.dir().join("verdict"), &text)?;
            report.note(text);
        }
        self.look(report)
    }

    /// The verdict once it is clean, or when nothing more has come for as long as it takes.
    fn verdict(&self) -> Result<Verdict> {
        let rig = &self.rig;
        let place = Place {
            uri: rig.address(Kind::Mongodb).to_owned(),
            database: rig.name().to_owned(),
            collection: "readings".to_owned(),
            gateway: rig.name().parse()?,
        };
        let truth = rig.dir().join("truth.jsonl");
        let runtime = tokio::runtime::Runtime::new()?;
        let mut grown = (0, Instant::now());
        loop {
            match runtime.block_on(verify(&truth, &place)) {
                Ok(verdict) if verdict.clean => return Ok(verdict),
                Ok(verdict) if verdict.stored > grown.0 => grown = (verdict.stored, Instant::now()),
                Ok(verdict) if grown.1.elapsed() > DRAINED => return Ok(verdict),
                Err(error) if grown.1.elapsed() > READABLE => return Err(error.into()),
                _ => {}
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

/// Whether an agent ended because only a new process can read its stores.
fn is_renewed(agent: &Daemon) -> bool {
    let log = agent.end_of_log();
    RENEWED.iter().any(|said| log.contains(said))
}

/// What a service manager does.
fn restart_what_ended(rig: &mut Rig, report: &mut Report) -> Result<()> {
    if rig.agent.ended_by_itself() {
        if is_renewed(&rig.agent) {
            report.fault("agent-renewed");
        } else {
            report.failed_starts += 1;
            report.note(format!("agent ended: {}", rig.agent.end_of_log()));
        }
        rig.agent.start()?;
    }
    if rig.sink.ended_by_itself() {
        report.failed_starts += 1;
        report.note(format!("sink ended: {}", rig.sink.end_of_log()));
        rig.sink.start()?;
    }
    Ok(())
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::AgentKill,
        Self::AgentFreeze,
        Self::AgentRestart,
        Self::SinkKill,
        Self::SinkFreeze,
        Self::KafkaKill,
        Self::KafkaFreeze,
        Self::MongodbKill,
        Self::MongodbFreeze,
        Self::BrokerRestart,
        Self::BrokerFreeze,
        Self::DiskError,
        Self::DiskFull,
        Self::DiskReadOnly,
        Self::DiskSlow,
    ];

    fn is_over_at_once(self) -> bool {
        matches!(self, Self::AgentKill | Self::AgentRestart | Self::SinkKill)
    }
}
