//! Sources come and go while readings come in.

use std::fs;

use anyhow::{Result, ensure};
use harness::rig::Rig;

use super::CLIMATE;
use crate::reload::reload;

const READINGS: u64 = 300;

fn up(rig: &Rig, name: &str) -> Result<()> {
    rig.wait_agent(name, |agent| {
        let mut links = agent.links.iter();
        links.any(|link| link.name == name && link.state == "up")
    })?;
    Ok(())
}

#[test]
fn a_device_added_and_a_broker_altered_while_the_agent_runs_lose_nothing_of_the_others()
-> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(&format!("{}{CLIMATE}", super::MQTT))?;
    let mut climate = rig.line("climate")?;
    let mut cellar = rig.line("cellar")?;
    rig.agent.start()?;
    rig.sink.start()?;
    up(&rig, "climate")?;
    let agent = rig.agent.process()?.identity();
    let publisher = rig.publisher("press")?;
    let topic = format!("{}/press/state", rig.name());
    let send = |line: &mut harness::rig::line::Line, sequence| {
        line.send(format!("{}\n", super::payload(sequence)).as_bytes())
    };
    climate.send(b"\n")?;
    let first = fs::read_to_string(rig.agent.config_file())?;
    let cellar_source = CLIMATE.replace("climate", "cellar");
    let cellar_source = cellar_source.replace("{{dir}}", &rig.dir().display().to_string());
    let added = format!("{first}{cellar_source}");
    let filter = "subscribe = [ ";
    let more = format!("{filter}{{ topic = \"{}/{{device}}/more\" }}, ", rig.name());
    let altered = added.replace(filter, &more);
    ensure!(altered != added, "{added}");
    for sequence in 0..READINGS {
        publisher.publish(&topic, super::payload(sequence))?;
        send(&mut climate, sequence)?;
        let said = match sequence {
            100 => reload(&mut rig.agent, &added, "configuration taken over")?,
            200 => reload(&mut rig.agent, &altered, "configuration taken over")?,
            _ => continue,
        };
        let expected = match sequence {
            100 => "added=cellar unchanged=2",
            _ => "altered=house unchanged=2",
        };
        ensure!(said.contains(expected), "{said}");
    }
    up(&rig, "cellar")?;
    cellar.send(b"\n")?;
    for sequence in 0..READINGS {
        send(&mut cellar, sequence)?;
    }
    publisher.wait_acknowledged(usize::try_from(READINGS)?)?;
    up(&rig, "house")?;
    rig.wait_until_stored(3 * READINGS)?;
    super::assert_stored_once(&rig, &["cellar", "climate", "press"], READINGS)?;
    ensure!(
        rig.agent.process()?.identity() == agent,
        "the agent was started again"
    );
    rig.done()
}
