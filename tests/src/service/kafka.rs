//! Apache Kafka as one node that is broker and controller.

use std::{process::Command, time::Duration};

use anyhow::{Result, bail};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};

use super::{KAFKA_SECRET, Place, certificates::Authority, java};
use crate::{cache::Cache, process::said};

/// Any valid one: the node is never joined to another. 16 bytes in base64url, not beginning with `-`.
const CLUSTER_ID: &str = "c3RhY2stb24tbG9vcGJhYw";

pub(super) fn command(cache: &Cache, place: &Place) -> Result<Command> {
    let properties = place.dir.join("server.properties");
    std::fs::write(&properties, self::properties(place))?;
    let class_path = format!("{}/*", cache.kafka()?.display());
    if !place.dir.join("data/meta.properties").exists() {
        sign(place)?;
        let scram = ["256", "512"]
            .map(|bits| format!("SCRAM-SHA-{bits}=[name=SCRAM,password=\"{KAFKA_SECRET}\"]"));
        let formatted = java(cache, "256m")?
            .args(["-cp", &class_path, "kafka.tools.StorageTool", "format"])
            .args([
                "--standalone",
                "--add-scram",
                &scram[0],
                "--add-scram",
                &scram[1],
                "-t",
                CLUSTER_ID,
                "-c",
            ])
            .arg(&properties)
            .output()?;
        if !formatted.status.success() {
            bail!("format failed: {}", said(&formatted));
        }
    }
    let mut command = java(cache, "512m")?;
    command
        .args(["-cp", &class_path, "kafka.Kafka"])
        .arg(&properties);
    Ok(command)
}

fn properties(place: &Place) -> String {
    let Place {
        dir,
        port,
        second_port,
        doors,
    } = place;
    let (secured, doors) = doors_of(place, doors);
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{second_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{second_port}{doors}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{doors}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL,EXPIRED:SASL_SSL,ELSEWHERE:SASL_SSL,MUTUAL:SSL
log.dirs={}
# As at a managed cluster: a topic exists because somebody made it.
auto.create.topics.enable=false
# One node can hold one copy.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
# Tests start and kill consumers all the time.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# Retention of seconds is how lost offsets are tested.
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=500
# So is what compaction leaves.
log.cleaner.backoff.ms=500
# As at a managed cluster: who comes through a door with TLS may do only what was allowed.
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
{secured}",
        dir.join("data").display()
    )
}

/// Settings of the listeners with TLS, and their addresses.
fn doors_of(place: &Place, ports: &[u16]) -> (String, String) {
    let tls = place.dir.join("tls");
    let tls = tls.display();
    let names = ["SECURED", "EXPIRED", "ELSEWHERE", "MUTUAL"];
    let (mut settings, mut addresses) = (String::new(), String::new());
    for (name, port) in names.iter().zip(ports) {
        addresses += &format!(",{name}://127.0.0.1:{port}");
        let lower = name.to_lowercase();
        let key = if lower == "mutual" { "secured" } else { &lower };
        settings += &format!(
            "listener.name.{lower}.ssl.keystore.type=PEM\n\
             listener.name.{lower}.ssl.keystore.location={tls}/{key}.pem\n"
        );
    }
    let class = "org.apache.kafka.common.security";
    for name in ["secured", "expired", "elsewhere"] {
        settings += &format!(
            "listener.name.{name}.plain.sasl.jaas.config={class}.plain.PlainLoginModule required \
             user_AGENT=\"{KAFKA_SECRET}\" user_SINK=\"{KAFKA_SECRET}\";\n\
             listener.name.{name}.scram-sha-256.sasl.jaas.config={class}.scram.ScramLoginModule required;\n\
             listener.name.{name}.scram-sha-512.sasl.jaas.config={class}.scram.ScramLoginModule required;\n"
        );
    }
    settings += &format!(
        "listener.name.mutual.ssl.client.auth=required\n\
         listener.name.mutual.ssl.truststore.type=PEM\n\
         listener.name.mutual.ssl.truststore.location={tls}/ca.pem\n"
    );
    (settings, addresses)
}

/// The certificates of the listeners, and one for a client.
fn sign(place: &Place) -> Result<()> {
    let authority = Authority::new(&place.dir.join("tls"))?;
    authority.sign("secured", "127.0.0.1", 9)?;
    authority.sign("expired", "127.0.0.1", 0)?;
    authority.sign("elsewhere", "kafka.example", 9)?;
    authority.sign("AGENT", "agent.example", 9)?;
    authority.sign("FORMER", "agent.example", 0)
}

pub(super) fn acls(cache: &Cache, place: &Place, arguments: &[&str]) -> Result<()> {
    let output = java(cache, "128m")?
        .args(["-cp", &format!("{}/*", cache.kafka()?.display())])
        .arg("org.apache.kafka.tools.AclCommand")
        .args(["--bootstrap-server", &format!("127.0.0.1:{}", place.port)])
        .args(arguments)
        .output()?;
    if !output.status.success() {
        bail!("kafka-acls {arguments:?} failed: {}", said(&output));
    }
    Ok(())
}

pub(super) fn answers(place: &Place) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", format!("127.0.0.1:{}", place.port))
        .create()?;
    let metadata = consumer.fetch_metadata(None, Duration::from_secs(2))?;
    if metadata.brokers().is_empty() {
        bail!("no broker yet");
    }
    Ok(())
}
