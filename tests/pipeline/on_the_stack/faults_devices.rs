//! Devices that reboot, two that have one name, and a gateway whose card was cloned.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};
use harness::{
    chaos::rot,
    rig::{PATIENCE, Rig, line::Line},
    wait,
};

use super::audit;

/// Devices that count their boots, and devices that only count.
const SOURCES: &str = r#"
[[serial]]
name = "counts"
port = "{{dir}}/counts"
mode = "frames"

[[serial]]
name = "forgets"
port = "{{dir}}/forgets"
mode = "frames"

[[mqtt]]
name = "house"
url = "{{mqtt}}"
subscribe = [
    { topic = "{{rig}}/{device}/boots", preset = "json", sequence = "seq", boot = "boot" },
    { topic = "{{rig}}/{device}/plain", preset = "json", sequence = "seq" },
]
"#;

const BOOTS: u32 = 4;
const EACH: u32 = 20;

/// What a device said: a function of its run and its sequence.
fn value(run: u32, sequence: u32) -> f64 {
    f64::from(run * 1000 + sequence) + 0.5
}

/// How often each value of each device is stored.
fn stored(rig: &Rig) -> Result<BTreeMap<(String, String), u32>> {
    let mut stored = BTreeMap::new();
    for document in rig.documents.readings_by_id()? {
        let device = document.get_document("meta")?.get_str("device")?;
        let power = document.get_f64("power_w")?.to_string();
        *stored.entry((device.to_owned(), power)).or_default() += 1;
    }
    Ok(stored)
}

/// One run of a device on a line, whose last frames come twice, as after acknowledgements that were lost.
fn run(line: &mut Line, device: &str, boot: u32, run: u32) -> Result<()> {
    line.greet(device, boot)?;
    for sequence in (0..EACH).chain(EACH - 3..EACH) {
        line.send_reading(boot, sequence, value(run, sequence))?;
        line.wait_ack(boot, sequence, PATIENCE)?;
    }
    Ok(())
}

/// Row 26: a device whose sequence begins again has not sent those readings before.
#[test]
fn a_device_that_reboots_loses_nothing_and_doubles_nothing_whether_it_counts_boots_or_not()
-> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(SOURCES)?;
    rig.agent.start()?;
    rig.sink.start()?;
    let mut counts = rig.line("counts")?;
    let mut forgets = rig.line("forgets")?;
    for boot in 0..BOOTS {
        run(&mut counts, "counts", boot, boot)?;
        // Its boot is always the same.
        run(&mut forgets, "forgets", 1, boot)?;
        for topic in ["boots", "plain"] {
            let publisher = rig.publisher(topic)?;
            let topic = format!("{}/mqtt-{topic}/{topic}", rig.name());
            for sequence in (0..EACH).chain(EACH - 3..EACH) {
                let power = value(boot, sequence);
                let payload = format!(r#"{{"boot":{boot},"seq":{sequence},"power_w":{power}}}"#);
                publisher.publish(&topic, payload)?;
            }
            publisher.wait_acknowledged(usize::try_from(EACH + 3)?)?;
        }
        if boot == BOOTS / 2 {
            // What is remembered of devices must outlive the process.
            rig.wait_agent("all of it", |agent| {
                agent.balance.received + agent.balance.recovered_at_start
                    >= u64::from(4 * (EACH + 3) * (boot + 1))
                    && agent.balance.uncommitted == 0
            })?;
            rig.agent.kill()?;
            rig.agent.start()?;
        }
    }
    let readings = 4 * BOOTS * EACH;
    rig.wait_until_stored(readings.into())?;
    super::assert_at_rest(&mut rig)?;
    let stored = stored(&rig)?;
    for device in ["counts", "forgets", "mqtt-boots", "mqtt-plain"] {
        for (boot, sequence) in (0..BOOTS).flat_map(|boot| (0..EACH).map(move |s| (boot, s))) {
            let key = (device.to_owned(), value(boot, sequence).to_string());
            let times = stored.get(&key);
            // `plain` declares no boot: what stands under that name is a value like any other.
            ensure!(times == Some(&1), "{device} {boot}/{sequence}: {times:?}");
        }
    }
    super::assert_audit_is_clean(&rig, readings.into())?;
    rig.done()
}

/// Row 27: both are kept, and a person is told.
#[test]
fn two_devices_with_one_id_overwrite_nothing_and_are_told() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(SOURCES)?;
    rig.agent.start()?;
    rig.sink.start()?;
    let mut lines = [rig.line("counts")?, rig.line("forgets")?];
    for line in &mut lines {
        line.greet("meter", 1)?;
    }
    for sequence in 0..EACH {
        for (run, line) in (0..).zip(&mut lines) {
            line.send_reading(1, sequence, value(run, sequence))?;
            line.wait_ack(1, sequence, PATIENCE)?;
        }
    }
    rig.wait_until_stored(u64::from(2 * EACH))?;
    super::assert_at_rest(&mut rig)?;
    let stored = stored(&rig)?;
    for (run, sequence) in (0..2).flat_map(|run| (0..EACH).map(move |s| (run, s))) {
        let key = ("meter".to_owned(), value(run, sequence).to_string());
        ensure!(stored.get(&key) == Some(&1), "{run}/{sequence}: {stored:?}");
    }
    super::assert_audit_is_clean(&rig, u64::from(2 * EACH))?;
    let log = fs::read_to_string(rig.agent.log())?;
    let told = "number used again for another reading, both are kept";
    ensure!(log.contains(told) && log.contains("device=meter"), "{log}");
    let metrics = rig.agent.page("/metrics")?;
    let count = metrics
        .lines()
        .find_map(|line| line.strip_prefix("edge_queue_reused_numbers_total{"));
    let count: Option<u32> = count.and_then(|rest| rest.rsplit(' ').next()?.parse().ok());
    ensure!(count == Some(EACH), "{metrics}");
    rig.done()
}

/// Sends `sequences` of the device on a line of its own, and waits until each is safe.
fn send(line: &mut Line, device: &str, run: u32, sequences: std::ops::Range<u32>) -> Result<()> {
    line.greet(device, run)?;
    for sequence in sequences {
        line.send_reading(run, sequence, value(run, sequence))?;
        line.wait_ack(run, sequence, PATIENCE)?;
    }
    Ok(())
}

const LINE: &str = r#"
[[serial]]
name = "line"
port = "{{dir}}/line"
mode = "frames"
"#;

/// Row 6: two boxes with one identity and one backlog, both alive. Nothing of either is taken for the
/// other's, the backlog is stored once, and the audit names the fork.
#[test]
fn a_card_cloned_into_two_gateways_costs_nothing_and_the_audit_names_the_fork() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(LINE)?;
    let config = rig.take_kafka_from_agent()?;
    rig.agent.start()?;
    let mut line = rig.line("line")?;
    send(&mut line, "old", 1, 0..EACH)?;
    rig.agent.kill()?;
    rig.agent.configure(&config)?;

    let mut clone = rig.another(&rig.agent, "clone")?;
    rot::copy(&rig.state_dir(), &rig.dir().join("clone/state"))?;
    let mut other = Line::plug(&rig.dir().join("clone/line"))?;
    rig.agent.start()?;
    clone.start()?;
    send(&mut line, "press", 2, 0..EACH)?;
    send(&mut other, "drill", 3, 0..EACH)?;
    rig.sink.start()?;
    rig.wait_until_stored(u64::from(3 * EACH))?;
    super::assert_at_rest(&mut rig)?;
    let stored = stored(&rig)?;
    for (device, run) in [("old", 1), ("press", 2), ("drill", 3)] {
        for sequence in 0..EACH {
            let key = (device.to_owned(), value(run, sequence).to_string());
            ensure!(
                stored.get(&key) == Some(&1),
                "{device} {sequence}: {stored:?}"
            );
        }
    }
    let mut last = String::new();
    let named = wait::until_true("an audit that names the fork", PATIENCE, || {
        let audit = audit::audit(&rig, &["--full", "--format", "json"])?;
        last.clone_from(&audit.text);
        let report = audit.json()?;
        let settled = audit::sum(&report, "present") == u64::from(3 * EACH)
            && audit::sum(&report, "expected") == u64::from(3 * EACH);
        Ok(audit.code == Some(1) && settled && last.contains("\"fork\""))
    });
    named.with_context(|| last)?;
    let status = clone.stop(PATIENCE)?;
    ensure!(status.success(), "{}", clone.end_of_log());
    rig.done()
}
