//! Row 41: a server whose certificate is wrong is refused, what was taken is kept, and the message is clear.

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::{
    daemon::Link,
    rig::{PATIENCE, Rig},
    service::{Door, Kind},
};

use super::confluent::{grant, javas, secure};

const EACH: u64 = 30;

fn says(links: &[Link], expected: &str) -> bool {
    links.iter().any(|link| {
        let detail = link.detail.as_deref().unwrap_or_default();
        link.kind == "kafka" && link.state != "up" && detail.contains(expected)
    })
}

#[test]
fn brokers_with_a_wrong_certificate_are_refused_and_all_is_kept_until_it_is_right() -> Result<()> {
    let mut rig = Rig::new(&[Kind::Kafka])?;
    let kafka = rig.service(Kind::Kafka)?;
    grant(
        kafka,
        "--add --allow-principal User:AGENT --operation All --topic * --group *",
    )?;
    let (right, secured) = (javas(kafka, "AGENT")?, kafka.door(Door::Secured)?);
    let at = |door| anyhow::Ok(right.replace(&secured, &kafka.door(door)?));
    // What is wrong with it the agent says, and for the sink `check --online`, which asks the broker itself:
    // `a_wrong_key_a_wrong_certificate_and_a_missing_permission_are_told_apart`.
    let sinks = "a certificate was refused";
    let wrong = [
        (at(Door::Expired)?, "its certificate has expired"),
        (at(Door::Elsewhere)?, "its certificate is of another host"),
    ];
    secure(&mut rig, &right, &right)?;
    let files = ["agent.properties", "sink.properties"].map(|name| rig.dir().join(name));
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..EACH)?;
    rig.wait_until_stored(EACH)?;
    rig.wait_agent("an empty queue", |agent| agent.balance.queued == 0)?;

    let mut sent = EACH;
    for (properties, agents) in &wrong {
        // As after an update of the brokers, or of the file.
        rig.agent.stop(PATIENCE)?;
        rig.sink.stop(PATIENCE)?;
        for file in &files {
            fs::write(file, properties)?;
        }
        rig.agent.start()?;
        rig.sink.start()?;
        super::publish(&rig, "press", sent..sent + EACH)?;
        sent += EACH;
        let agent = rig.wait_agent("the refusal", |agent| {
            agent.balance.queued == sent - EACH && says(&agent.links, agents)
        });
        agent.with_context(|| format!("{:?}", rig.agent_status()))?;
        let sink = rig.wait_sink("the refusal", |sink| {
            says(&sink.links, sinks) && !sink.ready
        });
        sink.with_context(|| format!("{:?}", rig.sink_status()))?;
        ensure!(rig.documents.count()? == EACH, "stored through it");
        for (log, expected) in [(rig.agent.log(), *agents), (rig.sink.log(), sinks)] {
            let log = fs::read_to_string(log)?;
            ensure!(log.contains(expected), "{log}");
        }
    }
    rig.agent.kill()?;
    rig.sink.kill()?;
    for file in &files {
        fs::write(file, &right)?;
    }
    rig.agent.start()?;
    rig.sink.start()?;
    rig.wait_until_stored(sent)?;
    super::assert_all_is_well(&mut rig, &["press"], sent)?;
    rig.done()
}
