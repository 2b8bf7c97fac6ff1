//! Kafka and MQTT without Java and without root: librdkafka's mock cluster and rumqttd, in a helper
//! process of their own, so that they live on while the daemons are killed.
//!
//! The helper prints one line of JSON, [`Addresses`], then obeys one command a line from its input
//! and answers `ok` to each. It ends when its input does: it cannot outlive whoever started it.
//!
//! What the mock cluster is not: it keeps 5 MiB or 100 000 messages per partition, in memory, and
//! cannot create topics on request. The suite uses Apache Kafka; this serves the demo and quick tests.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rdkafka::{
    mocking::MockCluster,
    types::{
        RDKafkaApiKey,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER as OUT_OF_ORDER,
    },
};
use serde::{Deserialize, Serialize};

use crate::{port, process::Process, wait};

/// The mock cluster has one broker, and this is its number.
const BROKER: i32 = 1;

/// Where the helper serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// `bootstrap.servers`.
    pub kafka: String,
    /// `mqtt://…`.
    pub mqtt: String,
}

/// A topic of the mock cluster, on the command line `NAME` or `NAME:PARTITIONS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    name: String,
    partitions: i32,
}

impl FromStr for TopicSpec {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, partitions) = text.split_once(':').unwrap_or((text, "1"));
        Ok(Self {
            name: name.to_owned(),
            partitions: partitions.parse().context("partitions")?,
        })
    }
}

/// A helper that runs. Ends with this value.
#[derive(Debug)]
pub struct Embedded {
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    addresses: Addresses,
    process: Process,
}

impl Embedded {
    /// Starts a helper with `topics`, each `NAME:PARTITIONS`.
    ///
    /// # Errors
    /// It did not start.
    pub fn start(topics: &[&str]) -> Result<Self> {
        let mut command = Command::new(crate::binary("rig")?);
        command
            .arg("embedded")
            .args(topics)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::spawn_with("rig embedded", &mut command)?;
        let child = process.child().context("just started")?;
        let commands = child.stdin.take().context("stdin is a pipe")?;
        let mut answers = BufReader::new(child.stdout.take().context("stdout is a pipe")?);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let addresses = serde_json::from_str(&line).context("rig embedded did not start")?;
        Ok(Self {
            commands,
            answers,
            addresses,
            process,
        })
    }

    /// Where it serves.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The helper itself.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Drops every Kafka connection and accepts no new one.
    ///
    /// # Errors
    /// The helper is gone.
    pub fn kafka_down(&mut self) -> Result<()> {
        self.order("kafka down")
    }

    /// Undoes [`kafka_down`](Self::kafka_down).
    ///
    /// # Errors
    /// The helper is gone.
    pub fn kafka_up(&mut self) -> Result<()> {
        self.order("kafka up")
    }

    /// Refuses the next batch as out of order, which no producer survives.
    ///
    /// # Errors
    /// The helper is gone.
    pub fn kafka_fatal(&mut self) -> Result<()> {
        self.order("kafka fatal")
    }

    fn order(&mut self, command: &str) -> Result<()> {
        writeln!(self.commands, "{command}").context("rig embedded is gone")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        if answer.trim() != "ok" {
            bail!("rig embedded answered {answer:?} to {command:?}");
        }
        Ok(())
    }
}

/// The helper: serves until its input ends.
///
/// # Errors
/// A server did not start.
pub fn serve(topics: &[TopicSpec]) -> Result<()> {
    let kafka = MockCluster::new(1).context("start the mock cluster")?;
    for topic in topics {
        kafka
            .create_topic(&topic.name, topic.partitions, 1)
            .with_context(|| format!("create topic {}", topic.name))?;
    }
    let addresses = Addresses {
        kafka: kafka.bootstrap_servers(),
        mqtt: format!("mqtt://{}", serve_mqtt()?),
    };
    println!("{}", serde_json::to_string(&addresses)?);
    for command in std::io::stdin().lines() {
        match command?.as_str() {
            "kafka down" => kafka.broker_down(BROKER)?,
            "kafka up" => kafka.broker_up(BROKER)?,
            "kafka fatal" => kafka.request_errors(RDKafkaApiKey::Produce, &[OUT_OF_ORDER]),
            other => bail!("unknown command {other:?}"),
        }
        println!("ok");
    }
    Ok(())
}

/// Starts rumqttd on a thread that lives as long as the process.
fn serve_mqtt() -> Result<SocketAddr> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free()?));
    let server = rumqttd::ServerSettings {
        name: "loopback".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 0,
        connections: rumqttd::ConnectionSettings {
            connection_timeout_ms: 5000,
            max_payload_size: 2 * 1024 * 1024,
            max_inflight_count: 1000,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    let config = rumqttd::Config {
        id: 0,
        router: rumqttd::RouterConfig {
            max_connections: 100,
            max_outgoing_packet_count: 1000,
            max_segment_size: 16 * 1024 * 1024,
            max_segment_count: 16,
            ..rumqttd::RouterConfig::default()
        },
        v4: Some(HashMap::from([("loopback".to_owned(), server)])),
        ..rumqttd::Config::default()
    };
    std::thread::Builder::new()
        .name("rumqttd".to_owned())
        .spawn(move || {
            if let Err(error) = rumqttd::Broker::new(config).start() {
                eprintln!("rumqttd ended: {error}");
            }
        })?;
    wait::until_true("rumqttd to listen", Duration::from_secs(60), || {
        TcpStream::connect(listen)?;
        Ok(true)
    })?;
    Ok(listen)
}
