//! Apache Kafka as one node that is broker and controller.

use std::{process::Command, time::Duration};

use anyhow::{Result, bail};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};

use super::{Place, java};
use crate::cache::Cache;

/// Any valid one: the node is never joined to another. 16 bytes in base64url, not beginning with `-`.
const CLUSTER_ID: &str = "c3RhY2stb24tbG9vcGJhYw";

pub(super) fn command(cache: &Cache, place: &Place) -> Result<Command> {
    let properties = place.dir.join("server.properties");
    std::fs::write(&properties, self::properties(place))?;
    let class_path = format!("{}/*", cache.kafka()?.display());
    if !place.dir.join("data/meta.properties").exists() {
        let formatted = java(cache, "256m")?
            .args(["-cp", &class_path, "kafka.tools.StorageTool", "format"])
            .args(["--standalone", "-t", CLUSTER_ID, "-c"])
            .arg(&properties)
            .output()?;
        if !formatted.status.success() {
            bail!(
                "format failed: {}{}",
                String::from_utf8_lossy(&formatted.stdout),
                String::from_utf8_lossy(&formatted.stderr)
            );
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
    } = place;
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{second_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{second_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
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
",
        dir.join("data").display()
    )
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
