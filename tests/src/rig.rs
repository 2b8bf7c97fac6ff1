//! One pipeline for one test: its own agent, sink, topics, database and devices, on shared services or
//! on some of its own that it may take away.
//!
//! Everything is named after the rig, so that tests run side by side on one Kafka and one MongoDB.
//! Logs and configurations are in `target/rig-logs/NAME`; they stay when the test failed.

pub mod broker;
pub mod documents;
pub mod kafka;
pub mod line;
pub mod publisher;

use std::{
    cell::Cell,
    fs,
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use self::{documents::Documents, kafka::Kafka, line::Line, publisher::Publisher};
use crate::{
    chaos::bench::MEMORY,
    daemon::{AgentStatus, Daemon, SinkStatus},
    service::{Kind, Service},
    stack::Stack,
    wait,
};

/// How long anything may take that is bound to happen: generous, since the machine is shared and patience costs
/// nothing where it is not needed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// For the sink's `[kafka]`: Kafka gives the partitions of a sink that was killed to the next one only
/// after its session ended, by default after half a minute in which a test would only wait.
pub const QUICK_TAKEOVER: &str = "properties = { \"session.timeout.ms\" = \"6000\" }\n";

/// One pipeline.
#[derive(Debug)]
pub struct Rig {
    name: String,
    dir: PathBuf,
    own: Stack,
    addresses: Vec<(Kind, String)>,
    /// The agent; [`configure_agent`](Rig::configure_agent) before its start.
    pub agent: Daemon,
    /// The sink, with its configuration.
    pub sink: Daemon,
    /// The other end of Kafka.
    pub kafka: Kafka,
    /// The other end of MongoDB.
    pub documents: Documents,
    subscribed: Cell<bool>,
    done: bool,
}

impl Rig {
    /// A rig on the shared services, except `own`, which it starts for itself; [`Kind::Series`] is its MongoDB
    /// then.
    ///
    /// # Errors
    /// A service is missing or did not start.
    pub fn new(own: &[Kind]) -> Result<Self> {
        let test = std::thread::current()
            .name()
            .unwrap_or("rig")
            .rsplit("::")
            .next()
            .unwrap_or("rig")
            .to_owned();
        let unique = RandomState::new().hash_one(()) & 0xffff_ffff;
        let name = format!("rig-{unique:08x}");
        let dir = crate::target()
            .join("rig-logs")
            .join(format!("{test}-{unique:08x}"));
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let mut own = Stack::up(own)?;
        let addresses = [Kind::Kafka, Kind::Mosquitto, Kind::Mongodb]
            .into_iter()
            .map(|kind| {
                let series = matches!(kind, Kind::Mongodb).then_some(Kind::Series);
                let kinds = series.into_iter().chain([kind]);
                let mine = kinds.filter_map(|kind| Some(own.service(kind).ok()?.address()));
                let address = match { mine }.next() {
                    Some(address) => address,
                    None => shared(kind)?,
                };
                Ok((kind, address))
            })
            .collect::<Result<Vec<_>>>()?;
        let address = |kind| address(&addresses, kind);
        let kafka = Kafka::new(address(Kind::Kafka), &name)?;
        kafka.create_topics()?;
        let documents = Documents::new(address(Kind::Mongodb), &name)?;
        let sink = Daemon::new("cloud-sink", &dir, &sink_config(&addresses, &name))?;
        let agent = Daemon::new("edge-agent", &dir, "")?;
        Ok(Self {
            name,
            dir,
            own,
            addresses,
            agent,
            sink,
            kafka,
            documents,
            subscribed: Cell::new(false),
            done: false,
        })
    }

    /// Its name, which is its gateway, and the first level of its MQTT topics.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the agent keeps its queue.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// A service of its own.
    ///
    /// # Errors
    /// It is a shared one, which other tests need.
    pub fn service(&mut self, kind: Kind) -> Result<&mut Service> {
        self.own.service(kind)
    }

    /// How clients reach a service.
    #[must_use]
    pub fn address(&self, kind: Kind) -> &str {
        address(&self.addresses, kind)
    }

    /// Gives the agent a configuration: identity and uplink, and `sources`, in which `{{mqtt}}`,
    /// `{{dir}}` and `{{rig}}` stand for the broker, this rig's folder and its name. Tables that
    /// `sources` has itself (`[queue]`) are as it says.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn configure_agent(&self, sources: &str) -> Result<()> {
        self.agent.configure(&self.agent_config(sources))
    }

    /// From its next start the agent looks for Kafka at a port where nobody answers, and gathers a backlog. The
    /// configuration as it was, to undo that.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn take_kafka_from_agent(&self) -> Result<String> {
        let config = fs::read_to_string(self.agent.config_file())?;
        let nowhere = format!("127.0.0.1:{}", crate::port::free()?);
        self.agent
            .configure(&config.replace(self.address(Kind::Kafka), &nowhere))?;
        Ok(config)
    }

    fn agent_config(&self, sources: &str) -> String {
        let Self { name, dir, .. } = self;
        let (kafka, mqtt) = (self.address(Kind::Kafka), self.address(Kind::Mosquitto));
        let config = format!(
            "[agent]\ngateway = \"{name}\"\nstate_dir = \"{}\"\n\n\
             [kafka]\nbootstrap = \"{kafka}\"{}\ntopic = \"{}\"\ncontrol_topic = \"{}\"\n\n\
             [status]\nlisten = \"{{{{status}}}}\"\n\n{sources}",
            self.state_dir().display(),
            word(kafka),
            self.kafka.readings(),
            self.kafka.control(),
        );
        config
            .replace("\"{{mqtt}}\"", &format!("\"{mqtt}\"{}", word(mqtt)))
            .replace("{{mqtt}}", mqtt)
            .replace("{{dir}}", &dir.display().to_string())
            .replace("{{rig}}", name)
    }

    /// One more daemon, in the folder `{{dir}}/NAME`, with the configuration of the first one but for its
    /// folders and its status page.
    ///
    /// # Errors
    /// The configuration cannot be read or written.
    pub fn another(&self, of: &Daemon, name: &str) -> Result<Daemon> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir)?;
        let config = fs::read_to_string(of.config_file())?
            .replace(&of.url().replace("http://", ""), "{{status}}")
            .replace(&self.dir.display().to_string(), &dir.display().to_string());
        Daemon::new(of.program(), &dir, &config)
    }

    /// A serial line `{{dir}}/NAME`, with a device's end.
    ///
    /// # Errors
    /// No pseudo terminal can be had.
    pub fn line(&self, name: &str) -> Result<Line> {
        Line::plug(&self.dir.join(name))
    }

    /// A device that publishes at QoS 1, once the agent has subscribed for the first time: what comes before
    /// is nobody's, the broker forgets it.
    ///
    /// # Errors
    /// The agent does not subscribe, or the address is none.
    pub fn publisher(&self, device: &str) -> Result<Publisher> {
        if !self.subscribed.get() {
            self.wait_agent("the first subscription", AgentStatus::mqtt_is_up)?;
            self.subscribed.set(true);
        }
        let client_id = format!("{}-{device}", self.name);
        Publisher::connect(self.address(Kind::Mosquitto), &client_id)
    }

    /// The agent's numbers.
    ///
    /// # Errors
    /// It does not answer, or the numbers are not conserved.
    pub fn agent_status(&self) -> Result<AgentStatus> {
        let status: AgentStatus = self.agent.status()?;
        ensure!(
            status.balance.holds(),
            "not conserved: {:?}",
            status.balance
        );
        Ok(status)
    }

    /// The sink's numbers.
    ///
    /// # Errors
    /// It does not answer, or the numbers are not conserved.
    pub fn sink_status(&self) -> Result<SinkStatus> {
        let status: SinkStatus = self.sink.status()?;
        ensure!(
            status.balance.holds(),
            "not conserved: {:?}",
            status.balance
        );
        Ok(status)
    }

    /// Waits until the agent's numbers are as wanted.
    ///
    /// # Errors
    /// They were not within [`PATIENCE`], with the last numbers and the end of the log.
    pub fn wait_agent(
        &self,
        what: &str,
        mut condition: impl FnMut(&AgentStatus) -> bool,
    ) -> Result<AgentStatus> {
        let mut last = None;
        wait::until(what, PATIENCE, || {
            let status = self.agent_status()?;
            let met = condition(&status);
            Ok(met.then_some(status.clone()).or_else(|| {
                last = Some(status);
                None
            }))
        })
        .with_context(|| format!("last status {last:?}\n{}", self.agent.end_of_log()))
    }

    /// Waits until the sink's numbers are as wanted.
    ///
    /// # Errors
    /// As [`wait_agent`](Self::wait_agent).
    pub fn wait_sink(
        &self,
        what: &str,
        mut condition: impl FnMut(&SinkStatus) -> bool,
    ) -> Result<SinkStatus> {
        let mut last = None;
        wait::until(what, PATIENCE, || {
            let status = self.sink_status()?;
            let met = condition(&status);
            Ok(met.then_some(status.clone()).or_else(|| {
                last = Some(status);
                None
            }))
        })
        .with_context(|| format!("last status {last:?}\n{}", self.sink.end_of_log()))
    }

    /// Waits until MongoDB holds `count` readings, or more.
    ///
    /// # Errors
    /// It does not, and no more of them came for [`PATIENCE`]; with the ends of both logs.
    pub fn wait_until_stored(&self, count: u64) -> Result<()> {
        let mut last = 0;
        wait::while_it_grows(&format!("{count} documents"), PATIENCE, count, || {
            last = self.documents.count()?;
            Ok(last)
        })
        .with_context(|| {
            format!(
                "{last} are there\n{}\n{}",
                self.agent.end_of_log(),
                self.sink.end_of_log()
            )
        })
    }

    /// The end of a test that succeeded: what still runs is within its memory (I4), conserves its numbers (I7)
    /// and stops in order, and nothing remains.
    ///
    /// # Errors
    /// One of these is not so, or a daemon has panicked on the way.
    pub fn done(self) -> Result<()> {
        self.ended(|_| false)
    }

    /// The same where the agent's disk failed: closing a store then panics within sled, which the agent
    /// catches.
    ///
    /// # Errors
    /// The same, but for panics within sled.
    pub fn done_after_disk_faults(self) -> Result<()> {
        self.ended(|line| line.contains("/sled-"))
    }

    fn ended(mut self, may_be: impl Fn(&str) -> bool) -> Result<()> {
        if let Ok(agent) = self.agent.status::<AgentStatus>() {
            ensure!(agent.balance.holds(), "I7: {:?}", agent.balance);
        }
        if let Ok(sink) = self.sink.status::<SinkStatus>() {
            ensure!(sink.balance.holds(), "I7: {:?}", sink.balance);
        }
        for daemon in [&mut self.agent, &mut self.sink] {
            if daemon.runs() {
                let peak = daemon.process()?.peak_memory()?;
                let program = daemon.program();
                ensure!(peak <= MEMORY, "I4: {program} had {} MiB", peak >> 20);
            }
            if daemon.runs() {
                let status = daemon.stop(PATIENCE)?;
                ensure!(
                    status.success(),
                    "ended with {status}\n{}",
                    daemon.end_of_log()
                );
            }
            let log = fs::read(daemon.log()).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let panic = log
                .lines()
                .find(|line| line.contains("panicked at") && !may_be(line));
            if let Some(line) = panic {
                bail!("{line}\n{}", daemon.end_of_log());
            }
        }
        self.documents.remove()?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.done {
            drop(fs::remove_dir_all(&self.dir));
        } else {
            eprintln!("logs are kept in {}", self.dir.display());
        }
    }
}

/// The address of a shared service: from the environment, else of the stack that runs.
fn shared(kind: Kind) -> Result<String> {
    if let Ok(address) = std::env::var(kind.variable()) {
        return Ok(address);
    }
    let stack = Stack::current()?;
    stack
        .and_then(|mut stack| stack.service(kind).map(|service| service.address()).ok())
        .with_context(|| {
            let variable = kind.variable();
            format!(
                "no {} to test on: use dev/test, start dev/stack up, or set {variable}",
                kind.name()
            )
        })
}

fn address(addresses: &[(Kind, String)], kind: Kind) -> &str {
    let found = addresses.iter().find(|(known, _)| *known == kind);
    found.map_or("", |(_, address)| address)
}

/// Services of others that are named in the environment may stand elsewhere, and without TLS.
fn word(address: &str) -> &'static str {
    let is_here = address.contains("127.0.0.1") || address.contains("localhost");
    if is_here {
        ""
    } else {
        "\nallow_plaintext = true"
    }
}

fn sink_config(addresses: &[(Kind, String)], name: &str) -> String {
    let topics = kafka::Topics::new(name);
    let (kafka, mongodb) = (
        address(addresses, Kind::Kafka),
        address(addresses, Kind::Mongodb),
    );
    format!(
        "[kafka]\nbootstrap = \"{kafka}\"{}\ngroup = \"{name}\"\n{QUICK_TAKEOVER}\
         control_topic = \"{}\"\ndead_letter_topic = \"{}\"\n\n\
         [mongodb]\nuri = \"{mongodb}\"{}\ndatabase = \"{name}\"\n\n\
         [[route]]\ntopic = \"{}\"\ncollection = \"readings\"\n\n\
         [status]\nlisten = \"{{{{status}}}}\"\n",
        word(kafka),
        topics.control,
        topics.dead_letters,
        word(mongodb),
        topics.readings,
    )
}
