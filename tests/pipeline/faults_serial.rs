//! The agent and its serial lines: damage, plugs, and acknowledgements that are lost.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Result, ensure};
use harness::{
    chaos::{
        bench::{Bench, DRAIN},
        dice::Dice,
        feed::value,
        report::Report,
    },
    rig::{PATIENCE, line::Line},
    wait,
};
use protocol::frame::{Frame, FrameReading, FrameTime, Verdict};

use crate::verdict::{clean, rest};

const SEED: u64 = 23;
const DEVICE: &str = "press-0";
const WITHIN: Duration = PATIENCE;

/// A bench whose only source is a line with a device of the feed's kind, so that the witness knows it.
fn bench(name: &str) -> Result<Bench> {
    let mut bench = Bench::new(name, 1, "")?;
    bench.sources = format!(
        "[[serial]]\nname = \"line\"\nport = \"{}\"\nmode = \"frames\"\n",
        bench.dir.join("line").display()
    );
    bench.configure()?;
    Ok(bench)
}

/// The device's reading as the feed numbers them: its own sequence counts every fourth.
fn reading(boot: u32, sequence: u32) -> Frame {
    Frame::Reading(FrameReading {
        boot,
        sequence,
        time: FrameTime::Arrival,
        fields: vec![(
            "power_w".to_owned(),
            protocol::Value::Float(value(u64::from(sequence) * 4)),
        )],
    })
}

/// As [`crate::verdict::finish`], with what the device was told for what the feed was.
fn finish(mut bench: Bench, sequences: u32, mut report: Report) -> Result<()> {
    wait::until_true("an empty queue", DRAIN, || {
        Ok(bench.status(&mut report)?.balance.queued == 0)
    })?;
    rest(&mut bench, &mut report)?;
    let owed = (0..sequences)
        .map(|sequence| u64::from(sequence) * 4)
        .collect();
    bench.witness.everything()?.judge(&owed, &mut report);
    bench.end(&report);
    clean(&report)
}

/// Row 23: whatever happens to a frame, the next one is taken.
#[test]
fn damage_on_the_line_takes_at_most_the_frame_it_hits() -> Result<()> {
    let mut report = Report::new(SEED);
    let mut dice = Dice::new(SEED);
    let mut bench = bench("line-damage")?;
    let mut line = Line::plug(&bench.dir.join("line"))?;
    bench.start()?;
    line.greet(DEVICE, 1)?;
    for sequence in 0..200 {
        let mut bytes = Vec::new();
        reading(1, sequence).encode(&mut bytes)?;
        let mut damaged = bytes.clone();
        let at = usize::try_from(dice.below(damaged.len() as u64))?;
        match dice.below(5) {
            0 => damaged[at] ^= 1 << dice.below(8),
            1 => drop(damaged.remove(at)),
            2 => damaged.insert(at, dice.any().to_le_bytes()[0]),
            3 => damaged.truncate(at),
            _ => damaged.rotate_left(at),
        }
        line.send(&damaged)?;
        // The next frame, which is the same reading once more and comes once; split, as a slow line splits it.
        let (head, tail) = bytes.split_at(at);
        line.send(head)?;
        // Time is the fault.
        std::thread::sleep(Duration::from_micros(dice.below(2000)));
        line.send(tail)?;
        let ack = line.wait_ack(1, sequence, WITHIN)?;
        ensure!(ack.verdict == Verdict::Stored, "{sequence}: {ack:?}");
        report.fault("line-damage");
    }
    finish(bench, 200, report)
}

/// Row 24, of the whole process. By when it tries is a matter of its schedule, and tested with that
/// (`a_line_that_is_there_again_is_opened_within_three_seconds_and_nobody_spins_until_then`): by the clock of a shared
/// machine it could not be told.
#[test]
fn a_line_that_is_unplugged_and_comes_back_as_another_node_is_opened_again() -> Result<()> {
    let mut report = Report::new(SEED);
    let mut bench = bench("line-unplugged")?;
    let path = bench.dir.join("line");
    bench.start()?;
    // What the kernel called the line before is taken by somebody else.
    let (mut others, mut nodes) = (Vec::new(), BTreeSet::new());
    for sequence in 0..6 {
        others.push(Line::plug(&bench.dir.join(format!("other-{sequence}")))?);
        let mut line = Line::plug(&path)?;
        nodes.insert(fs::read_link(&path)?);
        line.greet(DEVICE, 1)?;
        line.send_frame(&reading(1, sequence))?;
        line.wait_ack(1, sequence, WITHIN)?;
        line.unplug()?;
        report.fault("unplugged");
        let before = bench.agent()?.cpu_time()?;
        // Time is the fault: the pauses between its tries grow with it.
        let pause = Duration::from_millis(u64::from(sequence) * 300);
        std::thread::sleep(pause);
        let worked = bench.agent()?.cpu_time()?.saturating_sub(before);
        ensure!(
            pause.is_zero() || worked < pause / 2,
            "worked for {worked:?} of {pause:?} without a line: it spins"
        );
    }
    // Other tests take and leave nodes meanwhile, so one may come twice.
    ensure!(nodes.len() > 1, "always the same node: {nodes:?}");
    let log = fs::read_to_string(bench.log())?;
    let lines = log.lines().count();
    ensure!(lines < 200, "{lines} lines of log: it spins");
    let mut line = Line::plug(&path)?;
    line.greet(DEVICE, 1)?;
    finish(bench, 6, report)
}

/// Row 25, through a kill: the reading is committed, forwarded and its segment gone.
#[test]
fn a_frame_whose_ack_was_lost_is_one_reading_also_after_a_kill() -> Result<()> {
    let mut report = Report::new(SEED);
    let mut bench = bench("ack-lost")?;
    let mut line = Line::plug(&bench.dir.join("line"))?;
    for sequence in 0..20 {
        bench.start()?;
        line.greet(DEVICE, 1)?;
        // The one before comes again, as if its ack had been lost in the kill.
        for again in sequence.max(1) - 1..=sequence {
            line.send_frame(&reading(1, again))?;
            line.wait_ack(1, again, WITHIN)?;
        }
        bench.kill()?;
        report.fault("ack-lost");
    }
    bench.start()?;
    line.greet(DEVICE, 1)?;
    finish(bench, 20, report)
}
