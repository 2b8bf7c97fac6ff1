//! Devices on serial lines.

use std::process::Command;

use anyhow::{Result, ensure};
use harness::{
    rig::{PATIENCE, Rig},
    wait,
};
use protocol::frame::Verdict;

/// A device that speaks our protocol, at `{{dir}}/meter`.
pub const FRAMES: &str = r#"
[[serial]]
name = "meter"
port = "{{dir}}/meter"
mode = "frames"
"#;

/// What a firmware author starts from: `protocol/c/example_device.c` on the line, the whole way to the documents.
#[test]
fn the_example_device_in_c_is_acknowledged_over_a_line_and_stored_once() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(FRAMES)?;
    let c = harness::tree().join("protocol/c");
    let program = rig.dir().join("example_device");
    let compiled = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-Os", "-o"])
        .args([&program, &c.join("example_device.c")])
        .output()?;
    let errors = String::from_utf8_lossy(&compiled.stderr);
    ensure!(compiled.status.success(), "{errors}");

    let line = rig.line("meter")?;
    rig.agent.start()?;
    rig.sink.start()?;
    let mut device = Command::new(&program)
        .args(["-n", "40", "-p", "20", "-r", "300"])
        .stdin(line.device_end()?)
        .stdout(line.device_end()?)
        .spawn()?;
    // It ends once each reading was acknowledged.
    let ended = wait::until("the device to end", PATIENCE, || Ok(device.try_wait()?));
    if ended.is_err() {
        device.kill()?;
        device.wait()?;
    }
    ensure!(ended?.success(), "the device did not end well");
    rig.wait_until_stored(40)?;
    let documents = rig.documents.readings_by_id()?;
    let mut counts = Vec::new();
    for document in &documents {
        let device = document.get_document("meta")?.get_str("device")?;
        ensure!(device == "example-1", "{document}");
        counts.push(document.get_i64("reading_count")?);
    }
    counts.sort_unstable();
    ensure!(counts == (1..=40).collect::<Vec<_>>(), "{counts:?}");
    rig.done()
}

#[test]
fn a_frame_that_was_acknowledged_survives_kill_9_of_the_agent() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(FRAMES)?;
    let mut line = rig.line("meter")?;
    for sequence in 0..8 {
        rig.agent.start()?;
        line.greet("meter", 1)?;
        line.send_reading(1, sequence, f64::from(sequence) + 0.5)?;
        line.wait_ack(1, sequence, PATIENCE)?;
        rig.agent.kill()?;
    }
    rig.agent.start()?;
    rig.sink.start()?;
    rig.wait_until_stored(8)?;
    super::assert_stored_once(&rig, &["meter"], 8)?;
    rig.done()
}

#[test]
fn a_frame_sent_again_is_acknowledged_again_and_stored_once() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(FRAMES)?;
    let mut line = rig.line("meter")?;
    rig.agent.start()?;
    rig.sink.start()?;
    line.greet("meter", 1)?;
    for sequence in [0, 0, 1, 0, 1, 1, 2] {
        line.send_reading(1, sequence, f64::from(sequence) + 0.5)?;
        line.wait_ack(1, sequence, PATIENCE)?;
    }
    // Also after everything was forwarded and the agent was killed.
    rig.wait_until_stored(3)?;
    rig.wait_agent("an empty queue", |agent| agent.balance.queued == 0)?;
    rig.agent.kill()?;
    rig.agent.start()?;
    line.greet("meter", 1)?;
    for sequence in 0..4 {
        line.send_reading(1, sequence, f64::from(sequence) + 0.5)?;
        line.wait_ack(1, sequence, PATIENCE)?;
    }
    rig.wait_until_stored(4)?;
    super::assert_stored_once(&rig, &["meter"], 4)?;
    let records = rig.kafka.read_all(rig.kafka.readings())?;
    let mut ids: Vec<_> = records
        .iter()
        .map(|record| record.header("ce_id"))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == 4, "a reading got a second identity: {ids:?}");
    rig.done()
}

#[test]
fn a_damaged_frame_takes_no_other_with_it() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(FRAMES)?;
    let mut line = rig.line("meter")?;
    rig.agent.start()?;
    rig.sink.start()?;
    line.greet("meter", 1)?;
    let intruders: [&[u8]; 6] = [
        b"",
        b"\0\0\0\0",
        b"hello, I am not a frame\n",
        b"\x03\xff\xfe\0",
        // Version 2, CRC right: newer, not damaged.
        &framed(&[2, 2, 1, 1]),
        &[0x55; 20_000],
    ];
    for (sequence, intruder) in (0..).zip(intruders) {
        line.send(intruder)?;
        line.send_reading(1, sequence, f64::from(sequence) + 0.5)?;
        let ack = line.wait_ack(1, sequence, PATIENCE)?;
        ensure!(ack.verdict == Verdict::Stored, "{ack:?}");
    }
    rig.wait_until_stored(6)?;
    super::assert_stored_once(&rig, &["meter"], 6)?;
    let status = rig.agent_status()?;
    ensure!(status.balance.rejected >= 4, "{:?}", status.balance);
    rig.done()
}

#[test]
fn a_line_that_was_unplugged_is_read_again_when_it_is_back() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(FRAMES)?;
    rig.agent.start()?;
    rig.sink.start()?;
    for sequence in 0..3 {
        let mut line = rig.line("meter")?;
        line.greet("meter", 1)?;
        line.send_reading(1, sequence, f64::from(sequence) + 0.5)?;
        line.wait_ack(1, sequence, PATIENCE)?;
        line.unplug()?;
        let down = |link: &harness::daemon::Link| link.kind == "serial" && link.state != "up";
        rig.wait_agent("the line to be down", |agent| agent.links.iter().any(down))?;
    }
    rig.wait_until_stored(3)?;
    super::assert_stored_once(&rig, &["meter"], 3)?;
    rig.done()
}

#[test]
fn a_reading_that_can_never_be_stored_is_refused_once_and_for_all() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(FRAMES)?;
    let mut line = rig.line("meter")?;
    rig.agent.start()?;
    line.greet("meter", 1)?;
    line.send_reading(1, 0, f64::NAN)?;
    let ack = line.wait_ack(1, 0, PATIENCE)?;
    ensure!(ack.verdict == Verdict::Rejected, "{ack:?}");
    rig.done()
}

/// A frame with a right CRC around any content.
fn framed(content: &[u8]) -> Vec<u8> {
    let mut plain = content.to_vec();
    plain.extend_from_slice(&crc32fast::hash(content).to_le_bytes());
    let mut framed = vec![0];
    framed.extend_from_slice(&cobs::encode_vec(&plain));
    framed.push(0);
    framed
}
