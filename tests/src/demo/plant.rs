//! Everything the demo starts, and the plugs it pulls.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{view::View, watch::Watch};
use crate::{
    daemon::Daemon,
    embedded::Embedded,
    process::{Process, said},
    rig::{PATIENCE, QUICK_TAKEOVER, documents::Documents, kafka::Kafka},
    service::Kind,
    stack::Stack,
};

const READINGS: &str = "telemetry.readings.v1";
const CONTROL: &str = "edge.control.v1";
const DEAD_LETTERS: &str = "edge.dead-letters.v1";
/// What the simulator plays, filled in.
const SCENARIO: &str = "scenario.toml";

/// Where the parts are, for those who only look.
#[derive(Debug, Clone)]
pub struct Places {
    pub kafka: String,
    pub topic: &'static str,
    pub mongodb: String,
    pub database: String,
    pub agent: String,
    pub sink: String,
}

/// What the simulator found.
pub struct Verdict {
    pub clean: bool,
    pub text: String,
}

/// The two kinds of Kafka and MQTT.
enum Uplink {
    Embedded(Embedded),
    /// Services of [`Plant::services`].
    Real,
}

pub struct Plant {
    dir: PathBuf,
    /// Whether the devices are those of a house, which number nothing.
    house: bool,
    services: Stack,
    uplink: Uplink,
    kafka: String,
    mqtt: String,
    mongodb: String,
    database: String,
    pub agent: Daemon,
    pub sink: Daemon,
    devices: Option<Process>,
    documents: Documents,
}

impl Plant {
    /// Starts the services and writes the configurations.
    pub fn build(real: bool, house: bool, view: &mut View) -> Result<Self> {
        let dir = crate::target().join("demo");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        let dir = dir.canonicalize()?;
        let given = std::env::var("MONGODB_URI").ok();
        let mut kinds = Vec::new();
        if real {
            kinds.extend([Kind::Kafka, Kind::Mosquitto]);
        }
        if given.is_none() {
            kinds.push(Kind::Mongodb);
        }
        view.event(if real {
            "starting Apache Kafka, Mosquitto and MongoDB"
        } else {
            "starting an embedded Kafka and MQTT broker, and MongoDB"
        });
        let mut services = Stack::up(&kinds)?;
        let (uplink, kafka, mqtt) = if real {
            let kafka = services.service(Kind::Kafka)?.address();
            let mqtt = services.service(Kind::Mosquitto)?.address();
            (Uplink::Real, kafka, mqtt)
        } else {
            let topics = [&format!("{READINGS}:2"), CONTROL, DEAD_LETTERS];
            let embedded = Embedded::start(&topics)?;
            let addresses = embedded.addresses().clone();
            (Uplink::Embedded(embedded), addresses.kafka, addresses.mqtt)
        };
        if real {
            let topics = [
                (READINGS, 2, false),
                (CONTROL, 1, true),
                (DEAD_LETTERS, 1, false),
            ];
            Kafka::create(&kafka, &topics)?;
        }
        let mongodb = match given {
            Some(uri) => uri,
            None => services.service(Kind::Mongodb)?.address(),
        };
        // A server of somebody else's may hold an earlier demo.
        let database = format!("demo_{}", std::process::id());
        let modbus = format!("127.0.0.1:{}", crate::port::free()?);
        let lines = dir.join("pty").display().to_string();
        let fill = |file: &str| -> Result<String> {
            let path = crate::tree().join("hardware-sim/scenarios").join(file);
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            Ok(text
                .replace("{{state_dir}}", &dir.join("queue").display().to_string())
                .replace("{{pty_dir}}", &lines)
                .replace("{{pty}}", &lines)
                .replace("{{mqtt_url}}", &mqtt)
                .replace("{{mqtt}}", &mqtt)
                .replace("{{modbus}}", &modbus)
                .replace("127.0.0.1:15020", &modbus)
                .replace("{{kafka}}", &kafka))
        };
        let scenario = if house { "house.toml" } else { "demo.toml" };
        fs::write(dir.join(SCENARIO), fill(scenario)?)?;
        let mut agent_config = fill("demo-agent.toml")?;
        if house {
            let sources = fill("house-agent.toml")?;
            agent_config = with_sources(&agent_config, &sources);
        }
        let sink_config = format!(
            "[kafka]\nbootstrap = \"{kafka}\"\n{QUICK_TAKEOVER}\n\
             [mongodb]\nuri = \"{mongodb}\"\ndatabase = \"{database}\"\n\n\
             [[route]]\ntopic = \"{READINGS}\"\ncollection = \"readings\"\n\n\
             [status]\nlisten = \"{{{{status}}}}\"\n"
        );
        Ok(Self {
            agent: Daemon::new("edge-agent", &dir, &agent_config)?,
            sink: Daemon::new("cloud-sink", &dir, &sink_config)?,
            documents: Documents::new(&mongodb, &database)?,
            devices: None,
            house,
            dir,
            services,
            uplink,
            kafka,
            mqtt,
            mongodb,
            database,
        })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn places(&self) -> Places {
        Places {
            kafka: self.kafka.clone(),
            topic: READINGS,
            mongodb: self.mongodb.clone(),
            database: self.database.clone(),
            agent: self.agent.url(),
            sink: self.sink.url(),
        }
    }

    pub fn start_agent(&mut self) -> Result<()> {
        self.agent.start()
    }

    pub fn start_sink(&mut self) -> Result<()> {
        self.sink.start()
    }

    /// Starts the simulator; `watch` reads its counters.
    pub fn start_devices(&mut self, watch: &Watch) -> Result<()> {
        self.play(watch, &self.truth(), &[])
    }

    /// Starts it once more, as devices that measure something else: equal readings would be retransmissions.
    pub fn start_devices_again(&mut self, watch: &Watch) -> Result<()> {
        self.play(watch, &self.dir.join("truth-kept.jsonl"), &["--seed", "8"])
    }

    fn play(&mut self, watch: &Watch, truth: &Path, arguments: &[&str]) -> Result<()> {
        let scenario = self.dir.join(SCENARIO);
        let mut command = Command::new(crate::binary("hardware-sim")?);
        command
            .arg("run")
            .arg(scenario)
            .args(["--progress", "--mqtt", &self.mqtt, "--truth"])
            .arg(truth)
            .args(arguments)
            .arg("--pty-dir")
            .arg(self.dir.join("pty"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(self.dir.join("hardware-sim.log"))?);
        let mut devices = Process::spawn_with("hardware-sim", &mut command)?;
        let counters = devices.child().and_then(|child| child.stdout.take());
        watch.read_counters(counters.context("its stdout is a pipe")?)?;
        self.devices = Some(devices);
        Ok(())
    }

    /// Tells the simulator to stop, and waits until what it sent is acknowledged.
    pub fn stop_devices(&mut self) -> Result<()> {
        let Some(mut devices) = self.devices.take() else {
            return Ok(());
        };
        let status = devices.stop(PATIENCE)?;
        let log = self.dir.join("hardware-sim.log");
        ensure!(
            status.is_some_and(|status| status.success()),
            "hardware-sim failed: {status:?}\n{}",
            crate::end_of(&log)
        );
        Ok(())
    }

    fn truth(&self) -> PathBuf {
        self.dir.join("truth.jsonl")
    }

    pub fn kafka_down(&mut self) -> Result<()> {
        match &mut self.uplink {
            Uplink::Embedded(embedded) => embedded.kafka_down(),
            Uplink::Real => self.services.service(Kind::Kafka)?.kill(),
        }
    }

    pub fn kafka_up(&mut self) -> Result<()> {
        match &mut self.uplink {
            Uplink::Embedded(embedded) => embedded.kafka_up(),
            Uplink::Real => self.services.service(Kind::Kafka)?.start(),
        }
    }

    /// Whether what should run does.
    pub fn check(&mut self) -> Result<()> {
        if let Some(devices) = &mut self.devices {
            let log = self.dir.join("hardware-sim.log");
            ensure!(
                devices.runs(),
                "hardware-sim ended\n{}",
                crate::end_of(&log)
            );
        }
        for daemon in [&mut self.agent, &mut self.sink] {
            ensure!(
                !daemon.ended_by_itself(),
                "a daemon ended by itself\n{}",
                daemon.end_of_log()
            );
        }
        Ok(())
    }

    /// What is said of the devices.
    pub const fn who_plays(&self) -> &'static str {
        match self.house {
            true => "six serial lines, Modbus on a line and over TCP, six firmwares on MQTT",
            false => "a meter and a climate sensor on serial lines, two machines on MQTT",
        }
    }

    /// MongoDB against the truth; devices that number nothing have none.
    pub fn verify(&self) -> Result<Option<Verdict>> {
        if self.house {
            return Ok(None);
        }
        let output = Command::new(crate::binary("hardware-sim")?)
            .args(["verify", "--wait", "60s", "--mongodb", &self.mongodb])
            .args(["--database", &self.database, "--truth"])
            .arg(self.truth())
            .output()?;
        let text = said(&output);
        Ok(Some(Verdict {
            clean: output.status.success(),
            text,
        }))
    }

    /// What `cloud-sink audit` says, and whether it accounts for every document with nothing missing or
    /// under way.
    pub fn audit(&self) -> Result<Verdict> {
        let stored = self.documents.count()?;
        let output = Command::new(crate::binary("cloud-sink")?)
            .args(["audit", "-c"])
            .arg(self.sink.config_file())
            .output()?;
        let text = said(&output);
        Ok(Verdict {
            clean: output.status.success()
                && text.ends_with(&format!("\n{stored} readings: nothing is missing\n")),
            text,
        })
    }

    /// One document of each device.
    pub fn some_documents(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        let devices = match self.house {
            true => ["cabinet-meter", "tracker", "plug", "hall"],
            false => ["meter-1", "climate-1", "air-1", "press-1"],
        };
        for device in devices {
            if let Some(document) = self.documents.newest_of(device)? {
                lines.push(document.to_string());
            }
        }
        Ok(lines)
    }

    pub fn where_to_look(&self) -> [(&'static str, String); 7] {
        let Self {
            kafka,
            mqtt,
            mongodb,
            database,
            ..
        } = self;
        [
            ("agent", self.agent.url()),
            ("sink", self.sink.url()),
            ("kafka", format!("{kafka}, topic {READINGS}")),
            ("mqtt", mqtt.clone()),
            (
                "mongodb",
                format!("{mongodb}, database {database}, collection readings"),
            ),
            ("truth", self.truth().display().to_string()),
            ("logs", self.dir.display().to_string()),
        ]
    }

    /// Ends everything in order.
    pub fn end(mut self) -> Result<()> {
        for daemon in [&mut self.agent, &mut self.sink] {
            if daemon.runs() {
                let status = daemon.stop(PATIENCE)?;
                ensure!(
                    status.success(),
                    "ended with {status}\n{}",
                    daemon.end_of_log()
                );
            }
        }
        self.documents.remove()?;
        drop(self.uplink);
        self.services.down()
    }
}

/// A configuration of the agent with other sources: everything but its own.
fn with_sources(config: &str, sources: &str) -> String {
    let own = ["[[serial]]", "[[mqtt]]"];
    let parts = config.split("\n\n");
    let kept: Vec<&str> = parts
        .filter(|part| !own.iter().any(|table| part.starts_with(table)))
        .collect();
    format!("{}\n\n{sources}", kept.join("\n\n"))
}
