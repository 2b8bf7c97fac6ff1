//! The agent and its uplink: away, flapping, frozen. What a producer does with each error is tested
//! beside the forwarder; here the whole process is.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{
    chaos::{
        bench::{Bench, DRAIN},
        dice::Dice,
        report::Report,
    },
    wait,
};

const SEED: u64 = 28;

fn finish(mut bench: Bench, mut report: Report) -> Result<()> {
    bench.drain(&mut report)?;
    bench.stop()?;
    bench.judge(&mut report)?;
    bench.end(&report);
    eprintln!("{report}");
    ensure!(report.is_clean(), "{report}");
    Ok(())
}

/// Row 28, with seconds for hours.
#[test]
fn a_backlog_drains_at_least_five_times_as_fast_as_it_grew() -> Result<()> {
    let mut report = Report::new(SEED);
    let mut bench = Bench::new("kafka-away", 100, "segment_bytes = \"256KiB\"\n")?;
    bench.embedded.kafka_down()?;
    bench.start_and_wait(&mut report)?;
    bench.feed.pace(Duration::from_millis(1));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(8) {
        bench.feed.allow(10);
        bench.feed.wait_settled(DRAIN)?;
    }
    let grew = begin.elapsed();
    let backlog = bench.status(&mut report)?.balance.queued;
    bench.embedded.kafka_up()?;
    report.fault("kafka-away");
    wait::until_true("the first readings in Kafka", DRAIN, || {
        Ok(bench.status(&mut report)?.balance.acknowledged > 0)
    })?;
    let begin = Instant::now();
    wait::until_true("an empty queue", DRAIN, || {
        Ok(bench.status(&mut report)?.balance.queued == 0)
    })?;
    let drained = begin.elapsed();
    ensure!(
        drained * 5 < grew,
        "{backlog} readings came in {grew:?} and left in {drained:?}"
    );
    finish(bench, report)
}

/// Row 29.
#[test]
fn a_kafka_that_flaps_costs_neither_a_reading_nor_the_order() -> Result<()> {
    let mut report = Report::new(SEED);
    let mut dice = Dice::new(SEED);
    let mut bench = Bench::new("kafka-flaps", 100, "segment_bytes = \"64KiB\"\n")?;
    bench.start_and_wait(&mut report)?;
    for _ in 0..12 {
        bench.feed.allow(300);
        std::thread::sleep(dice.time_below(Duration::from_millis(300)));
        bench.embedded.kafka_down()?;
        std::thread::sleep(dice.time_below(Duration::from_millis(300)));
        bench.embedded.kafka_up()?;
        report.fault("kafka-flaps");
    }
    finish(bench, report)
}

/// Row 30, together with row 1: what was on its way to a broker that stood still is sent again by the
/// next process, and has its identity still.
#[test]
fn an_agent_killed_while_its_broker_stands_still_gives_nothing_a_second_identity() -> Result<()> {
    let mut report = Report::new(SEED);
    let mut bench = Bench::new("kafka-frozen", 100, "segment_bytes = \"64KiB\"\n")?;
    bench.start_and_wait(&mut report)?;
    for _ in 0..4 {
        bench.feed.allow(400);
        bench.embedded.process().freeze()?;
        bench.feed.wait_settled(DRAIN)?;
        report.fault("kafka-frozen");
        bench.kill()?;
        report.fault("agent-kill");
        bench.embedded.process().thaw()?;
        bench.start_and_wait(&mut report)?;
    }
    finish(bench, report)
}
