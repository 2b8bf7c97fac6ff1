//! A fast and dirty line: every intact frame must arrive.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::{
    daemon::{AgentStatus, Daemon},
    rig::line::Line as Serial,
};
use protocol::frame::{Frame, FrameReading, FrameTime};

use crate::{
    bench::Bench,
    pairs::Target,
    reading,
    report::Line,
    stand::{self, PATIENCE},
};

/// 921 600 baud, ten bits a byte.
const BYTES_A_SECOND: u64 = 92_160;
/// One byte in so many is damaged.
const DAMAGED: u64 = 100;
/// The device's, for its one life.
const BOOT: u32 = 7;
/// Intact readings sent and not acknowledged: four below what the protocol lets a device have.
const WINDOW: usize = 60;

/// A generator whose every run is the same.
struct Dice(u64);

impl Dice {
    /// Whether one of so many.
    fn one_in(&mut self, many: u64) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.is_multiple_of(many)
    }
}

fn frame(number: u32) -> Result<Vec<u8>> {
    let fields = reading::NAMES.iter().zip(reading::values(number.into()));
    let frame = Frame::Reading(FrameReading {
        boot: BOOT,
        sequence: number,
        time: FrameTime::Arrival,
        fields: fields
            .map(|(name, value)| ((*name).to_owned(), protocol::Value::Float(value)))
            .collect(),
    });
    let mut bytes = Vec::new();
    frame.encode(&mut bytes)?;
    Ok(bytes)
}

/// Intact frames delivered, and what that took.
pub fn serial(bench: &mut Bench) -> Result<()> {
    let seconds = bench.amount(1, 20, 120);
    let dir = bench.folder()?;
    let (_, config) = stand::alone(&dir);
    let port = dir.join("meter");
    let source = format!(
        "\n[[serial]]\nname = \"meter\"\nport = \"{}\"\nmode = \"frames\"\nbaud = 921600\n",
        port.display()
    );
    let mut agent = Daemon::new("edge-agent", &dir, &(config + &source))?;
    let mut line = Serial::plug(&port)?;
    agent.start()?;
    line.greet(reading::DEVICE, BOOT)?;
    let (before, began) = (stand::usage(&mut agent)?, Instant::now());
    let intact = play(&mut line, Duration::from_secs(seconds))?;
    let took = began.elapsed();
    let used = stand::usage(&mut agent)?.since(before);
    let balance = agent.status::<AgentStatus>()?.balance;
    let delivered = balance.queued;
    agent.stop(PATIENCE)?;
    ensure!(delivered == intact, "{intact} were intact: {balance:?}");
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let (ours, limit) = (delivered as f64, intact as f64);
    let percent = 100.0 * used.cpu.as_secs_f64() / took.as_secs_f64();
    let row = |bench, unit, target| Line {
        bench,
        unit,
        target,
    };
    bench.absolute(
        row("serial", "intact frames", Target::AtLeast(1.0)),
        ours,
        limit,
    )?;
    bench.absolute(
        row("serial-cpu", "% of a core", Target::AtMost(1.0)),
        percent,
        1.0,
    )
}

/// Sends frames at the line's pace, damaged at random, and returns how many were intact from their first
/// zero to their last.
fn play(line: &mut Serial, during: Duration) -> Result<u64> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut intact, mut number, mut sent) = (0, 0, 0);
    let mut open = VecDeque::new();
    let began = Instant::now();
    while began.elapsed() < during {
        let due = u64::try_from(began.elapsed().as_micros())? * BYTES_A_SECOND / 1_000_000;
        while sent < due && open.len() < WINDOW {
            let mut bytes = frame(number)?;
            number += 1;
            let mut whole = true;
            for byte in &mut bytes {
                if dice.one_in(DAMAGED) {
                    *byte ^= 0x55;
                    whole = false;
                }
            }
            if whole {
                intact += 1;
                open.push_back(number - 1);
            }
            sent += bytes.len() as u64;
            line.send(&bytes)?;
        }
        // Answers come in the order of the readings. Without one, the wait is as long as some bytes take.
        while let Some(&oldest) = open.front() {
            let patience = match open.len() < WINDOW {
                true => Duration::from_millis(1),
                false => PATIENCE,
            };
            match line.wait_ack(BOOT, oldest, patience) {
                Ok(_) => drop(open.pop_front()),
                Err(_) if open.len() < WINDOW => break,
                Err(error) => return Err(error.context("an intact frame was not delivered")),
            }
        }
    }
    // What a damaged last zero left open.
    line.send(&[0])?;
    for oldest in open {
        line.wait_ack(BOOT, oldest, PATIENCE)
            .context("an intact frame was not delivered")?;
    }
    Ok(intact)
}
