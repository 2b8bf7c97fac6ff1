//! The file as a whole: its tables in their order, `[agent]` and `[status]`, and the rules between the tables.
//!
//! A function returns `None` only when it has noted a problem, and only after it has read every key,
//! so that each mistake is found whatever else is wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use protocol::{GatewayId, Metadata};

use super::{
    Agent, Config, ModbusTcp, Mqtt, Queue, Secrets, Serial, Status,
    document::{Document, Mistake, Table},
    kafka, process, queue,
    sources::Sources,
    topics, value,
};

/// Reads the whole file; a configuration only when nothing is wrong.
pub fn read(doc: &Document<'_>, secrets: Secrets) -> Option<Config> {
    let root = doc.parse();
    let config = read_root(&Table::root(doc, &root), secrets);
    config.filter(|_| doc.is_clean())
}

fn read_root(root: &Table<'_, '_>, secrets: Secrets) -> Option<Config> {
    let agent = root
        .section("agent", "gateway = \"gw7\"")
        .map(|table| agent(&table));
    let queue = root
        .table("queue")
        .map_or_else(Queue::default, |table| queue::read(&table));
    let kafka = root
        .section("kafka", "topic = \"telemetry.readings.v1\"")
        .map(|table| kafka::read(&table, secrets));
    let status = root
        .table("status")
        .map_or_else(Status::default, |table| status(&table));
    let (agent, mut kafka) = (agent.flatten(), kafka.flatten());
    let schemas = topics::registry(root, kafka.as_mut(), secrets);
    // Which topics there are is known from the sources, which lanes block from the topics.
    let topic_tables = root.tables("topic");
    let topics = topics::read(&topic_tables, &queue);
    let mut sources = Sources {
        gateway: agent.as_ref().map(|agent| &agent.gateway),
        topic: kafka.as_ref().map(|kafka| &kafka.topic),
        control_topic: kafka.as_ref().map(|kafka| &kafka.control_topic),
        queue: &queue,
        topics: topics.as_deref().unwrap_or_default(),
        secrets,
        names: Unique::default(),
        ports: Unique::default(),
        sessions: Unique::default(),
        statuses: Unique::default(),
    };
    let serial: Option<Vec<Serial>> = each(root, "serial", |table| sources.serial(table));
    let modbus: Option<Vec<ModbusTcp>> = each(root, "modbus", |table| sources.modbus(table));
    let mqtt: Option<Vec<Mqtt>> = each(root, "mqtt", |table| sources.mqtt(table));
    let mut known: BTreeSet<_> = kafka.iter().map(|kafka| kafka.topic.clone()).collect();
    known.extend(serial.iter().flatten().map(|serial| serial.topic.clone()));
    known.extend(modbus.iter().flatten().map(|modbus| modbus.topic.clone()));
    let subscribed = mqtt.iter().flatten().flat_map(|mqtt| &mqtt.subscribe);
    known.extend(subscribed.map(|subscription| subscription.kafka_topic.clone()));
    topics::check_names(&topic_tables, topics.as_deref().unwrap_or_default(), &known);
    if let (Some(kafka), Some(topics)) = (&kafka, &topics) {
        topics::needs_registry(root, kafka, topics);
    }
    let names: Vec<&str> = [
        serial
            .iter()
            .flatten()
            .map(|s| s.name.as_str())
            .collect::<Vec<_>>(),
        modbus.iter().flatten().map(|s| s.name.as_str()).collect(),
        mqtt.iter().flatten().map(|s| s.name.as_str()).collect(),
    ]
    .concat();
    let rules = each(root, "process", |table| process::rule(table, &names));
    Some(Config {
        process: rules?,
        serial: serial?,
        modbus: modbus?,
        mqtt: mqtt?,
        agent: agent?,
        queue,
        kafka: kafka?,
        schemas,
        topics: topics?,
        status,
    })
}

/// Reads every table of a list, even after one that is wrong.
pub fn each<T>(
    parent: &Table<'_, '_>,
    key: &'static str,
    mut read: impl FnMut(&Table<'_, '_>) -> Option<T>,
) -> Option<Vec<T>> {
    let read: Vec<Option<T>> = parent.tables(key).iter().map(&mut read).collect();
    read.into_iter().collect()
}

fn agent(table: &Table<'_, '_>) -> Option<Agent> {
    let gateway = table.required(
        "gateway",
        "write gateway = \"gw7\": it names this box in every record, for ever",
        value::parsed::<GatewayId>,
    );
    let state_dir = table.or(
        "state_dir",
        PathBuf::from("/var/lib/edge-agent"),
        value::path,
    );
    let shutdown_timeout = table.or(
        "shutdown_timeout",
        Duration::from_secs(10),
        value::duration(Duration::ZERO..=Duration::from_secs(600)),
    );
    let meta = table.or("meta", Metadata::default(), value::metadata);
    Some(Agent {
        gateway: gateway?,
        state_dir,
        shutdown_timeout,
        meta,
    })
}

impl Default for Status {
    fn default() -> Self {
        Self {
            listen: Some(([127, 0, 0, 1], 9600).into()),
        }
    }
}

fn status(table: &Table<'_, '_>) -> Status {
    let default = Status::default().listen;
    Status {
        listen: table.or("listen", default, value::address_or_off(default)),
    }
}

/// Values that may stand only once, with the line of the first.
#[derive(Default)]
pub struct Unique(BTreeMap<String, usize>);

impl Unique {
    /// Notes the second of two.
    pub fn check(&mut self, table: &Table<'_, '_>, key: &'static str, value: &str) {
        let at = table.span_of(key).unwrap_or(table.span()).start;
        let line = table.doc().place(at).0;
        match self.0.get(value) {
            Some(first) => {
                let message = format!("\"{value}\" is taken already, on line {first}");
                table.wrong(key, Mistake::new(message));
            }
            None => {
                self.0.insert(value.to_owned(), line);
            }
        }
    }
}
