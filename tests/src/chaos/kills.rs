//! kill -9 of the agent at random microseconds, as fast as it starts again.
//!
//! A life is short: half of the agents die at a random moment after their start, wherever that finds
//! them (opening the queue, making a head, connecting), half a random moment after they acknowledged
//! something, in the middle of commits. Every now and then one lives until its queue is empty, so that
//! deleting segments and forgetting epochs are among what is interrupted.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{bench::Bench, dice::Dice, progress::Progress, report::Report};

/// Small segments: a kill meets sealing and deleting often.
const QUEUE: &str = "segment_bytes = \"64KiB\"\n";
/// Readings on their way at once.
const WINDOW: u64 = 200;
/// New readings a life.
const READINGS: u64 = 60;
/// One life in so many ends with an empty queue.
const DRAIN_EVERY: u64 = 40;
/// Until when a start has surely come to its work.
const LIFE: Duration = Duration::from_millis(120);

/// Kills `count` agents.
///
/// # Errors
/// The bench failed; what the agent did wrong is in the report.
pub fn run(count: u64, seed: u64, setup: impl FnOnce(&mut Bench) -> Result<()>) -> Result<Report> {
    let mut report = Report::new(seed);
    let mut bench = Bench::new("agent-kills", WINDOW, QUEUE)?;
    setup(&mut bench)?;
    let done = play(&mut bench, count, &mut Dice::new(seed), &mut report);
    if done.is_err() {
        report.unexplained("did not come to its end");
    }
    bench.end(&report);
    done.map(|()| report)
}

fn play(bench: &mut Bench, count: u64, dice: &mut Dice, report: &mut Report) -> Result<()> {
    let progress = Progress::new("agent kills", count);
    let begin = Instant::now();
    for cycle in 0..count {
        progress.at(cycle);
        bench.feed.allow(READINGS);
        if cycle % DRAIN_EVERY == DRAIN_EVERY - 1 {
            bench.start_and_wait(report)?;
            bench.drain(report)?;
        } else {
            bench.start()?;
            if dice.below(2) == 0 {
                std::thread::sleep(dice.time_below(LIFE));
            } else {
                // An agent that does not come to it is found by the next one that must drain.
                drop(
                    bench
                        .feed
                        .wait_acks_here(1 + dice.below(READINGS / 2), LIFE * 4),
                );
                std::thread::sleep(dice.time_below(LIFE / 8));
            }
        }
        if let Some(end) = bench.kill()? {
            report.failed_starts += 1;
            report.note(format!("cycle {cycle}: ended by itself: {end:?}"));
        }
        report.fault("agent-kill");
    }
    report.seconds = begin.elapsed().as_secs();
    bench.start_and_wait(report)?;
    bench.drain(report)?;
    bench.stop()?;
    bench.judge(report)
}
