//! How each service is prepared, started and known to be ready; nothing about when.

pub mod certificates;
mod kafka;
mod mongodb;
mod mosquitto;
mod registry;

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

pub use self::mongodb::no_series;
use crate::{
    cache::Cache,
    end_of, port,
    process::{Identity, Process},
    rig::PATIENCE,
    wait,
};

/// What can be started.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Apache Kafka, one node, `KRaft`.
    Kafka,
    /// Mosquitto, with a persistent session store.
    Mosquitto,
    /// `mongod` where there is one, else a server that speaks its wire protocol.
    Mongodb,
    /// A Schema Registry with Confluent's API.
    Registry,
    /// `mongod` where there is one, else a server that has real time series as well. Not started unless
    /// somebody asks for it.
    Series,
}

impl Kind {
    /// All that a stack has, in the order in which people think of them.
    pub const ALL: [Self; 4] = [Self::Kafka, Self::Mosquitto, Self::Mongodb, Self::Registry];

    /// The environment variable by which the suite and the tools find the service.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Kafka => "KAFKA_BOOTSTRAP",
            Self::Mosquitto => "MQTT_URL",
            Self::Mongodb => "MONGODB_URI",
            Self::Registry => "SCHEMA_REGISTRY_URL",
            Self::Series => "MONGODB_SERIES_URI",
        }
    }

    /// As in file names and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Mosquitto => "mosquitto",
            Self::Mongodb => "mongodb",
            Self::Registry => "registry",
            Self::Series => "series",
        }
    }
}

/// Where a service lives: what stays the same over its restarts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Place {
    /// Configuration, data and `log`.
    dir: PathBuf,
    /// Where clients connect.
    port: u16,
    /// For what the service talks to itself about: Kafka's controller, the registry's health page.
    second_port: u16,
    /// Kafka's listeners with TLS, in the order of [`Door::ALL`]; the registry has the first of them.
    #[serde(default)]
    doors: Vec<u16>,
}

/// How Kafka can be reached as a managed cluster is: with TLS, and only by those it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// SASL, as it should be.
    Secured,
    /// SASL, with a certificate that has expired.
    Expired,
    /// SASL, with the certificate of another host.
    Elsewhere,
    /// Clients have a certificate themselves.
    Mutual,
}

impl Door {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Secured, Self::Expired, Self::Elsewhere, Self::Mutual];
}

/// The only key of the registry, and its secret.
pub const REGISTRY_LOGIN: (&str, &str) = ("SRKEY", "hunter2/registry==");

/// The password of every user of Kafka: `AGENT`, `SINK`, and `SCRAM`, who logs in with SCRAM-SHA-256 or -512.
/// Nobody of them may do anything before [`Service::acls`].
pub const KAFKA_SECRET: &str = "hunter2/+==";

/// One service, running or not. Ends with this value unless [`left_running`](Self::left_running).
#[derive(Debug)]
pub struct Service {
    kind: Kind,
    place: Place,
    process: Option<Process>,
}

/// What must be remembered to find a service again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Saved {
    /// What it is.
    pub kind: Kind,
    place: Place,
    process: Option<Identity>,
}

impl Service {
    /// Starts a new one in the new folder `dir`; [`wait_ready`](Self::wait_ready) before it is used.
    ///
    /// # Errors
    /// A download, a preparing step or the start failed.
    pub fn start_new(kind: Kind, dir: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let place = Place {
            dir: dir.canonicalize()?,
            port: port::free()?,
            second_port: port::free()?,
            doors: match kind {
                Kind::Kafka => Door::ALL
                    .iter()
                    .map(|_| port::free())
                    .collect::<Result<_>>()?,
                Kind::Registry => vec![port::free()?],
                _ => Vec::new(),
            },
        };
        let mut service = Self {
            kind,
            place,
            process: None,
        };
        service.start()?;
        Ok(service)
    }

    /// Finds one that an earlier command started.
    #[must_use]
    pub fn found(saved: Saved) -> Self {
        let process = saved
            .process
            .map(|identity| Process::found(saved.kind.name(), identity));
        Self {
            kind: saved.kind,
            place: saved.place,
            process,
        }
    }

    /// What [`found`](Self::found) needs.
    #[must_use]
    pub fn saved(&self) -> Saved {
        Saved {
            kind: self.kind,
            place: self.place.clone(),
            process: self.process.as_ref().map(Process::identity),
        }
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How clients reach it: the value of [`Kind::variable`].
    #[must_use]
    pub fn address(&self) -> String {
        let port = self.place.port;
        match self.kind {
            Kind::Kafka => format!("127.0.0.1:{port}"),
            Kind::Mosquitto => format!("mqtt://127.0.0.1:{port}"),
            Kind::Mongodb | Kind::Series => {
                format!("mongodb://127.0.0.1:{port}/?directConnection=true")
            }
            Kind::Registry => format!("http://127.0.0.1:{port}{}", registry::PATH),
        }
    }

    /// How Kafka is reached through one of its doors.
    ///
    /// # Errors
    /// It has none.
    pub fn door(&self, door: Door) -> Result<String> {
        let at = Door::ALL.iter().position(|known| *known == door);
        let port = at.and_then(|at| self.place.doors.get(at));
        Ok(format!(
            "127.0.0.1:{}",
            port.context("it has no such door")?
        ))
    }

    /// How the registry is reached with TLS.
    ///
    /// # Errors
    /// It is not the registry.
    pub fn secured_url(&self) -> Result<String> {
        let door = self.door(Door::Secured)?;
        Ok(format!("https://{door}{}", registry::PATH))
    }

    /// A file of its authority: `ca.pem`, or `AGENT.pem` with key and certificate of a client.
    #[must_use]
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.place.dir.join("tls").join(name)
    }

    /// Runs `kafka-acls` with these arguments, as somebody who may do everything.
    ///
    /// # Errors
    /// It failed.
    pub fn acls(&self, arguments: &[&str]) -> Result<()> {
        kafka::acls(&Cache::open()?, &self.place, arguments)
    }

    /// Its output.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.place.dir.join("log")
    }

    /// Its process, for the faults that a process can have.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Lets it run on when this value is gone.
    pub fn left_running(&mut self) {
        if let Some(process) = &mut self.process {
            process.left_running();
        }
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill), on the same port and data.
    ///
    /// # Errors
    /// The start failed.
    pub fn start(&mut self) -> Result<()> {
        let cache = Cache::open()?;
        let mut command = match self.kind {
            Kind::Kafka => kafka::command(&cache, &self.place),
            Kind::Mosquitto => mosquitto::command(&self.place),
            Kind::Mongodb => mongodb::command(&cache, &self.place),
            Kind::Series => mongodb::series_command(&cache, &self.place),
            Kind::Registry => registry::command(&cache, &self.place),
        }
        .with_context(|| format!("prepare {}", self.kind.name()))?;
        command.current_dir(&self.place.dir);
        self.process = Some(Process::spawn(self.kind.name(), &mut command, &self.log())?);
        Ok(())
    }

    /// Waits until clients are served.
    ///
    /// # Errors
    /// It ended, or took too long; the message has the end of its log.
    pub fn wait_ready(&mut self) -> Result<()> {
        let what = format!("{} to be ready", self.kind.name());
        let mut ended = false;
        let ready = wait::until(&what, Duration::from_secs(240), || {
            if !self.process.as_mut().is_some_and(Process::runs) {
                ended = true;
                return Ok(Some(()));
            }
            let answered = match self.kind {
                Kind::Kafka => kafka::answers(&self.place),
                Kind::Mosquitto => mosquitto::answers(&self.place),
                Kind::Mongodb | Kind::Series => mongodb::answers(&self.address()),
                Kind::Registry => registry::answers(&self.place, &self.address()),
            };
            answered.map(|()| Some(()))
        });
        if ended {
            anyhow::bail!("{} ended:\n{}", self.kind.name(), end_of(&self.log()));
        }
        ready.with_context(|| end_of(&self.log()))
    }

    /// Whether its process runs.
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::runs)
    }

    /// Ends it as an operator would.
    ///
    /// # Errors
    /// It had to be killed, or could not be.
    pub fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop(PATIENCE).map(drop),
            None => Ok(()),
        }
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// Not permitted.
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Stops it where it stands: connections stay open and nothing answers.
    ///
    /// # Errors
    /// Not permitted.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Undoes [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// Not permitted.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.as_ref();
        process
            .with_context(|| format!("{} does not run", self.kind.name()))?
            .signal(signal)
    }
}

/// A Java virtual machine small and quick enough for a test.
fn java(cache: &Cache, heap: &str) -> Result<Command> {
    let mut java = Command::new(cache.java()?);
    java.arg(format!("-Xmx{heap}"))
        .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        // Otherwise it leaves a file in /tmp.
        .arg("-XX:-UsePerfData");
    Ok(java)
}
