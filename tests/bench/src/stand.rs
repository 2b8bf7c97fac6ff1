//! What is measured on: services of this run's own, topics of each run's own, the daemons as processes.

use std::{
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::{
    daemon::{AgentStatus, Daemon},
    process::Process,
    rig::{
        QUICK_TAKEOVER,
        kafka::{Kafka, Topics},
    },
    service::Kind,
    stack::Stack,
    wait,
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    config::FromClientConfig,
    consumer::{BaseConsumer, Consumer},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, Producer, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use crate::{
    proc::Usage,
    reading::{DEVICE, ROLES},
};

/// Longest wait for a service.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How a sink gets nothing else to do.
const NOBODY: &str = "127.0.0.1:1";

/// The services, and a number for each run.
#[derive(Debug)]
pub struct Stand {
    /// Services of its own, unless it is a guest.
    own: Option<Stack>,
    name: String,
    dir: PathBuf,
    runs: u32,
    kafka: String,
    mqtt: String,
    mongodb: String,
}

/// One run: a folder and topics that nobody has used.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its name, nobody else's: the gateway, the sink's group and database, the first level of MQTT topics.
    pub name: String,
    /// Its files.
    pub dir: PathBuf,
    /// Its topics.
    pub topics: Topics,
    /// Partitions of the readings.
    pub partitions: i32,
}

impl Run {
    /// Where its device publishes.
    #[must_use]
    pub fn mqtt_topic(&self) -> String {
        format!("{}/{DEVICE}", self.name)
    }
}

/// A record as it is sent.
pub struct Prepared {
    /// Key and partition.
    pub key: String,
    /// Where it goes.
    pub partition: i32,
    /// Its value.
    pub value: Vec<u8>,
    /// Its headers.
    pub headers: OwnedHeaders,
}

impl Stand {
    /// Starts Kafka, Mosquitto and MongoDB: to measure, they have to be nobody else's.
    ///
    /// # Errors
    /// One does not start.
    pub fn up(dir: &Path) -> Result<Self> {
        let mut stack = Stack::up(&[Kind::Kafka, Kind::Mosquitto, Kind::Mongodb])?;
        let mut address = |kind| anyhow::Ok(stack.service(kind)?.address());
        let addresses = [
            address(Kind::Kafka)?,
            address(Kind::Mosquitto)?,
            address(Kind::Mongodb)?,
        ];
        Ok(Self::at(dir, addresses, Some(stack)))
    }

    /// A guest of the services that the environment or `dev/stack` names, where there are some: to see that
    /// everything runs.
    ///
    /// # Errors
    /// There are none, and own ones do not start.
    pub fn guest(dir: &Path) -> Result<Self> {
        let mut shared = Stack::current()?;
        let mut address = |kind: Kind| {
            let named = std::env::var(kind.variable()).ok();
            named.or_else(|| Some(shared.as_mut()?.service(kind).ok()?.address()))
        };
        let addresses = (
            address(Kind::Kafka),
            address(Kind::Mosquitto),
            address(Kind::Mongodb),
        );
        let (Some(kafka), Some(mqtt), Some(mongodb)) = addresses else {
            return Self::up(dir);
        };
        Ok(Self::at(dir, [kafka, mqtt, mongodb], None))
    }

    fn at(dir: &Path, [kafka, mqtt, mongodb]: [String; 3], own: Option<Stack>) -> Self {
        let unique = RandomState::new().hash_one(()) & 0xffff_ffff;
        Self {
            own,
            name: format!("bench-{unique:08x}"),
            dir: dir.to_owned(),
            runs: 0,
            kafka,
            mqtt,
            mongodb,
        }
    }

    /// Ends them.
    ///
    /// # Errors
    /// One had to be killed.
    pub fn down(self) -> Result<()> {
        self.own.map_or(Ok(()), Stack::down)
    }

    /// Kafka's address.
    #[must_use]
    pub fn kafka(&self) -> &str {
        &self.kafka
    }

    /// The broker's, as `mqtt://…`.
    #[must_use]
    pub fn mqtt(&self) -> &str {
        &self.mqtt
    }

    /// MongoDB's connection string.
    #[must_use]
    pub fn mongodb(&self) -> &str {
        &self.mongodb
    }

    /// A new run with topics of its own.
    ///
    /// # Errors
    /// Kafka refuses.
    pub fn run(&mut self, partitions: i32) -> Result<Run> {
        self.runs += 1;
        let name = format!("{}-{}", self.name, self.runs);
        let dir = self.dir.join(&name);
        std::fs::create_dir(&dir)?;
        let topics = Topics::new(&name);
        let wanted = [
            (topics.readings.as_str(), partitions, false),
            (topics.control.as_str(), 1, true),
            (topics.dead_letters.as_str(), 1, false),
        ];
        Kafka::create(&self.kafka, &wanted)?;
        Ok(Run {
            name,
            dir,
            topics,
            partitions,
        })
    }

    /// The agent of a run, not started; `sources` are tables of its configuration.
    ///
    /// # Errors
    /// Its configuration cannot be written.
    pub fn agent(&self, run: &Run, sources: &str) -> Result<Daemon> {
        Daemon::new(
            "edge-agent",
            &run.dir,
            &agent_config(run, &self.kafka, sources),
        )
    }

    /// The agent's source for what a load publishes.
    #[must_use]
    pub fn mqtt_source(&self, run: &Run) -> String {
        format!(
            "[[mqtt]]\nname = \"load\"\nurl = \"{}\"\n\
             subscribe = [ {{ topic = \"{}/{{device}}\", {ROLES} }} ]\n",
            self.mqtt, run.name
        )
    }

    /// The sink of a run, not started, before the MongoDB at `uri`; `more` are tables of its configuration.
    ///
    /// # Errors
    /// Its configuration cannot be written.
    pub fn sink(&self, run: &Run, uri: &str, more: &str) -> Result<Daemon> {
        let Topics {
            readings,
            control,
            dead_letters,
        } = &run.topics;
        let config = format!(
            "[kafka]\nbootstrap = \"{}\"\ngroup = \"{}\"\n{QUICK_TAKEOVER}\
             control_topic = \"{control}\"\ndead_letter_topic = \"{dead_letters}\"\n\n\
             [mongodb]\nuri = \"{uri}\"\ndatabase = \"{}\"\n\n\
             [[route]]\ntopic = \"{readings}\"\ncollection = \"readings\"\n\n\
             [status]\nlisten = \"{{{{status}}}}\"\n\n{more}",
            self.kafka, run.name, run.name,
        );
        Daemon::new("cloud-sink", &run.dir, &config)
    }

    /// The bare loop of a run, subscribed; with `append` it writes and syncs what it gets before it sends it.
    ///
    /// # Errors
    /// It does not subscribe.
    pub fn bare(&self, run: &Run, append: bool) -> Result<Process> {
        let log = run.dir.join("bare.log");
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare", "--mqtt", &self.mqtt, "--kafka", &self.kafka]);
        command.args(["--topic", &run.topics.readings]);
        command.args(["--filter", &format!("{}/+", run.name)]);
        if append {
            command.arg("--append").arg(run.dir.join("raw"));
        }
        let mut process = Process::spawn("bare", &mut command, &log)?;
        wait::until_true("the bare loop to subscribe", PATIENCE, || {
            ensure!(process.runs(), "it has ended\n{}", harness::end_of(&log));
            Ok(std::fs::read_to_string(&log)?.contains("subscribed"))
        })?;
        Ok(process)
    }

    /// Waits until as many records lie in a run's topic, and returns when that was.
    ///
    /// # Errors
    /// They do not come; the error says how many did.
    pub fn wait_records(&self, run: &Run, count: u64) -> Result<Instant> {
        let consumer = self.consumer()?;
        let mut there = 0;
        let mut grown = Instant::now();
        loop {
            let now = records(&consumer, run)?;
            if now >= count {
                return Ok(Instant::now());
            }
            if now > there {
                grown = Instant::now();
            }
            there = now;
            ensure!(
                grown.elapsed() < PATIENCE,
                "{there} of {count} records are in {}",
                run.topics.readings
            );
            std::thread::sleep(Duration::from_millis(4));
        }
    }

    /// How many records lie in a run's topic.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn records(&self, run: &Run) -> Result<u64> {
        records(&self.consumer()?, run)
    }

    /// Reads a run's topic and checks that `count` different readings are in it, by the number that their
    /// device gave them; `number` finds it.
    ///
    /// # Errors
    /// One is missing: such a run has no throughput.
    pub fn count_numbers(
        &self,
        run: &Run,
        count: u64,
        number: impl Fn(&[u8]) -> Option<u64>,
    ) -> Result<()> {
        let consumer = self.consumer_of(run)?;
        let mut left = records(&consumer, run)?;
        let mut seen = vec![false; usize::try_from(count)?];
        while left > 0 {
            let message = consumer.poll(PATIENCE).context("records do not come")??;
            left -= 1;
            let number = message.payload().and_then(&number);
            let slot = number.and_then(|number| seen.get_mut(usize::try_from(number).ok()?));
            *slot.context("a record that nobody sent")? = true;
        }
        let missing = seen.iter().filter(|seen| !**seen).count();
        ensure!(missing == 0, "{missing} of {count} readings are missing");
        Ok(())
    }

    /// Reads a run's readings from their beginning, without a group.
    ///
    /// # Errors
    /// librdkafka refuses.
    pub fn consumer_of(&self, run: &Run) -> Result<BaseConsumer> {
        let consumer = self.consumer()?;
        let mut all = TopicPartitionList::new();
        for partition in 0..run.partitions {
            all.add_partition_offset(&run.topics.readings, partition, Offset::Beginning)?;
        }
        consumer.assign(&all)?;
        Ok(consumer)
    }

    fn consumer(&self) -> Result<BaseConsumer> {
        let config = ClientConfig::new()
            .set("bootstrap.servers", &self.kafka)
            .set("group.id", "bench-looks-without-a-group")
            .set("enable.auto.commit", "false")
            .clone();
        Ok(BaseConsumer::from_config(&config)?)
    }

    /// Sends prepared records as raw as can be, and waits for the last report.
    ///
    /// # Errors
    /// Kafka takes one not.
    pub fn produce(&self, run: &Run, prepared: &[Prepared]) -> Result<Duration> {
        let producer = producer(&self.kafka)?;
        let start = Instant::now();
        for one in prepared {
            let mut record = BaseRecord::to(&run.topics.readings)
                .key(&one.key)
                .partition(one.partition)
                .payload(&one.value)
                .headers(one.headers.clone());
            while let Err((error, back)) = producer.send(record) {
                let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                ensure!(full, "{error}");
                std::thread::sleep(Duration::from_micros(200));
                record = back;
            }
        }
        producer.flush(PATIENCE)?;
        Ok(start.elapsed())
    }
}

/// The agent's settings of librdkafka, for those who do without the agent.
///
/// # Errors
/// librdkafka refuses.
pub fn producer(
    kafka: &str,
) -> Result<ThreadedProducer<rdkafka::producer::DefaultProducerContext>> {
    let mut config = ClientConfig::new();
    for (key, value) in [
        ("bootstrap.servers", kafka),
        ("compression.type", "zstd"),
        ("linger.ms", "5"),
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("message.timeout.ms", "0"),
        ("queue.buffering.max.messages", "8000"),
        ("queue.buffering.max.kbytes", "8192"),
    ] {
        config.set(key, value);
    }
    Ok(config.create()?)
}

/// Records of readings `from..from + count` of gateway `key`, for one partition, as the agent would send
/// them.
///
/// # Errors
/// Never so far.
pub fn prepared(key: &str, partition: i32, from: u64, count: u64) -> Result<Vec<Prepared>> {
    use protocol::{header, record::json};
    (from..from + count)
        .map(|number| {
            let record = crate::reading::record(key, number)?;
            let mut value = Vec::new();
            json::encode(&record, &mut value)?;
            let time = record.reading.time;
            let hops = header::Hops {
                received: Some(time),
                committed: Some(time),
                sent: Some(time),
            };
            let mut headers = OwnedHeaders::new_with_capacity(9);
            for (key, value) in header::of(&record, json::CONTENT_TYPE, &hops) {
                let value = Some(value.as_bytes());
                headers = headers.insert(Header { key, value });
            }
            Ok(Prepared {
                key: key.to_owned(),
                partition,
                value,
                headers,
            })
        })
        .collect()
}

fn records(consumer: &BaseConsumer, run: &Run) -> Result<u64> {
    let mut count = 0;
    for partition in 0..run.partitions {
        let (low, high) = consumer.fetch_watermarks(&run.topics.readings, partition, PATIENCE)?;
        count += u64::try_from(high - low)?;
    }
    Ok(count)
}

/// A configuration of the agent.
#[must_use]
pub fn agent_config(run: &Run, kafka: &str, sources: &str) -> String {
    format!(
        "[agent]\ngateway = \"{}\"\nstate_dir = \"{}\"\n\n\
         [kafka]\nbootstrap = \"{kafka}\"\ntopic = \"{}\"\ncontrol_topic = \"{}\"\n\n\
         [status]\nlisten = \"{{{{status}}}}\"\n\n{sources}",
        run.name,
        run.dir.join("state").display(),
        run.topics.readings,
        run.topics.control,
    )
}

/// A run that needs no service: an agent whose Kafka is away.
#[must_use]
pub fn alone(dir: &Path) -> (Run, String) {
    let run = Run {
        name: "alone".to_owned(),
        dir: dir.to_owned(),
        topics: Topics::new("alone"),
        partitions: 1,
    };
    let config = agent_config(&run, NOBODY, "");
    (run, config)
}

/// Starts an agent and waits until it has subscribed.
///
/// # Errors
/// It does not.
pub fn start_subscribed(agent: &mut Daemon) -> Result<()> {
    agent.start()?;
    wait::until_true("the agent to subscribe", PATIENCE, || {
        Ok(agent.status::<AgentStatus>()?.mqtt_is_up())
    })
    .with_context(|| agent.end_of_log())
}

/// What a daemon has used so far.
///
/// # Errors
/// It does not run.
pub fn usage(daemon: &mut Daemon) -> Result<Usage> {
    usage_of(daemon.process()?)
}

/// What a process has used so far.
///
/// # Errors
/// It does not run.
pub fn usage_of(process: &Process) -> Result<Usage> {
    Usage::of(u32::try_from(process.identity().pid)?)
}

/// The number that the device gave, in a record of ours.
#[must_use]
pub fn our_number(value: &[u8]) -> Option<u64> {
    let record = protocol::record::json::decode(value).ok()?;
    Some(record.reading.source?.sequence)
}

/// The number that the device gave, in what it published.
#[must_use]
pub fn bare_number(value: &[u8]) -> Option<u64> {
    let published: crate::bare::Published = serde_json::from_slice(value).ok()?;
    Some(published.seq)
}
