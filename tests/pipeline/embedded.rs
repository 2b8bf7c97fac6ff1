//! Without services: what the demo stands on works, and takes no root, Java or Docker.

use anyhow::{Result, ensure};
use harness::{
    daemon::{AgentStatus, Daemon},
    embedded::Embedded,
    rig::{PATIENCE, kafka::Kafka, publisher::Publisher},
    wait,
};

#[test]
fn readings_wait_for_an_embedded_kafka_that_goes_and_comes() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let kafka = |suffix: &str| format!("embedded.{suffix}");
    let topics = [kafka("readings"), kafka("control")];
    let mut embedded = Embedded::start(&[&topics[0], &topics[1]])?;
    let addresses = embedded.addresses().clone();
    let config = format!(
        "[agent]\ngateway = \"gw\"\nstate_dir = \"{}/state\"\n\
         [kafka]\nbootstrap = \"{}\"\ntopic = \"{}\"\ncontrol_topic = \"{}\"\n\
         [status]\nlisten = \"{{{{status}}}}\"\n\
         [[mqtt]]\nname = \"house\"\nurl = \"{}\"\n\
         subscribe = [ {{ topic = \"plant/{{device}}\", sequence = \"seq\", boot = \"boot\" }} ]\n",
        dir.path().display(),
        addresses.kafka,
        topics[0],
        topics[1],
        addresses.mqtt,
    );
    let mut agent = Daemon::new("edge-agent", dir.path(), &config)?;
    agent.start()?;
    wait::until_true("the broker and Kafka", PATIENCE, || {
        Ok(agent.status::<AgentStatus>()?.ready)
    })?;

    embedded.kafka_down()?;
    let publisher = Publisher::connect(&addresses.mqtt, "press")?;
    for sequence in 0..50 {
        let payload = format!(r#"{{"boot":1,"seq":{sequence},"power_w":1.5}}"#);
        publisher.publish("plant/press", payload)?;
    }
    publisher.wait_acknowledged(50)?;
    wait::until_true("all to be queued", PATIENCE, || {
        Ok(agent.status::<AgentStatus>()?.balance.queued == 50)
    })?;
    embedded.kafka_up()?;
    wait::until_true("all to be sent", PATIENCE, || {
        Ok(agent.status::<AgentStatus>()?.balance.acknowledged == 50)
    })?;
    let status = agent.stop(PATIENCE)?;
    ensure!(status.success(), "{status}\n{}", agent.end_of_log());
    let records = Kafka::new(&addresses.kafka, "embedded")?.read_all(&topics[0])?;
    ensure!(records.len() == 50, "{} records", records.len());
    Ok(())
}
