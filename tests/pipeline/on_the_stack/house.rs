//! A dozen devices as they are bought, all at once, from their lines and topics into MongoDB.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use hardware_sim::{Options, Scenario, Sim};
use harness::{
    port,
    rig::{PATIENCE, Rig},
    service::Kind,
    wait,
};

use super::audit::audit;

/// Who is heard, by the names they have in MongoDB.
const DEVICES: [&str; 16] = [
    "2222ABCD123456789",
    "K8EG004046395507",
    "Nexus-TH/1/42",
    "bath",
    "boiler",
    "cabinet-climate",
    "cabinet-meter",
    "co2",
    "dust",
    "hall",
    "inverter",
    "plant/press",
    "plug",
    "solar",
    "street",
    "tracker",
];

#[test]
fn a_dozen_different_devices_arrive_and_the_audit_is_clean() -> Result<()> {
    let mut rig = Rig::new(&[Kind::Mosquitto])?;
    let modbus = format!("127.0.0.1:{}", port::free()?);
    let scenario = include_str!("../../../hardware-sim/scenarios/house.toml");
    let scenario: Scenario = scenario.replace("127.0.0.1:15020", &modbus).parse()?;
    let lines = rig.dir().join("pty");
    let sources = include_str!("../../../hardware-sim/scenarios/house-agent.toml")
        .replace("{{pty}}", &lines.display().to_string())
        .replace("{{modbus}}", &modbus);
    rig.configure_agent(&sources)?;
    let sim = Sim::start(
        &scenario,
        &Options {
            seed: None,
            truth: None,
            mqtt: Some(rig.address(Kind::Mosquitto).to_owned()),
            pty_dir: lines,
        },
    )?;
    rig.agent.start()?;
    rig.sink.start()?;
    let mut heard = BTreeSet::new();
    wait::until_true("every device to be heard", PATIENCE, || {
        for document in rig.documents.readings_by_id()? {
            heard.insert(document.get_document("meta")?.get_str("device")?.to_owned());
        }
        Ok(DEVICES.iter().all(|device| heard.contains(*device)))
    })
    .with_context(|| format!("heard of {heard:?}\n{}", rig.agent.end_of_log()))?;
    sim.stop(PATIENCE)?;
    ensure!(
        heard.iter().map(String::as_str).eq(DEVICES),
        "heard of {heard:?}"
    );
    // Windows that are open close by themselves, so what there is grows for a moment.
    let mut last = String::new();
    wait::until_true("a clean audit of all there is", PATIENCE, || {
        let stored = rig.documents.count()?;
        let audit = audit(&rig, &[])?;
        last = audit.text;
        let all = format!("\n{stored} readings: nothing is missing\n");
        Ok(audit.code == Some(0) && last.ends_with(&all))
    })
    .with_context(|| last.clone())?;
    // `holds` is checked with each status: the equation counts what was suppressed.
    let balance = rig.agent_status()?.balance;
    ensure!(balance.suppressed > 0, "{balance:?}");
    rig.done()
}
