//! The agent and its uplink: away, flapping, frozen. What a producer does with each error is tested
//! beside the forwarder; here the whole process is.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{
    chaos::{
        bench::{Bench, DRAIN, log_has},
        dice::Dice,
        report::Report,
    },
    link::{Link, Quality},
    wait,
};

use crate::verdict::finish;

const SEED: u64 = 28;

/// Row 28, with seconds for hours.
#[test]
fn a_backlog_drains_at_least_five_times_as_fast_as_it_grew() -> Result<()> {
    let mut report = Report::new(SEED);
    let mut bench = Bench::new("kafka-away", 100, "segment_bytes = \"256KiB\"\n")?;
    bench.start_and_wait(&mut report)?;
    // What drains within a second the machine can hold up for as long, and that is no slowness of the agent's: so it
    // may show what it can more than once.
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let [grew, drained] = grow_and_drain(&mut bench, &mut report)?;
        seen.push(format!("came in {grew:?} and left in {drained:?}"));
        if drained * 5 < grew {
            return finish(bench, report);
        }
    }
    anyhow::bail!("the readings {}", seen.join("; "))
}

const TRIES: u32 = 5;

/// Lets a backlog grow while Kafka is away, and drain: how long each took.
fn grow_and_drain(bench: &mut Bench, report: &mut Report) -> Result<[Duration; 2]> {
    bench.embedded.kafka_down()?;
    let before = bench.status(report)?.balance.acknowledged;
    bench.feed.pace(Duration::from_millis(1));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(8) {
        bench.feed.allow(10);
        bench.feed.wait_settled(DRAIN)?;
    }
    let grew = begin.elapsed();
    bench.embedded.kafka_up()?;
    report.fault("kafka-away");
    wait::until_true("the first readings in Kafka", DRAIN, || {
        Ok(bench.status(report)?.balance.acknowledged > before)
    })?;
    let begin = Instant::now();
    wait::until_true("an empty queue", DRAIN, || {
        Ok(bench.status(report)?.balance.queued == 0)
    })?;
    Ok([grew, begin.elapsed()])
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
        // Time is the fault: away for as long as the dice say, at a moment that they say.
        std::thread::sleep(dice.time_below(Duration::from_millis(300)));
        bench.embedded.kafka_down()?;
        std::thread::sleep(dice.time_below(Duration::from_millis(300)));
        bench.embedded.kafka_up()?;
        report.fault("kafka-flaps");
    }
    finish(bench, report)
}

/// Row 29, as the network makes it: the brokers are well, and the way to them is not.
#[test]
fn a_slow_losing_and_breaking_link_to_kafka_costs_neither_a_reading_nor_the_order() -> Result<()> {
    let mut report = Report::new(SEED);
    let mut bench = Bench::new("bad-link", 100, "segment_bytes = \"64KiB\"\n")?;
    let link = Link::to(&bench.embedded.addresses().kafka, SEED)?;
    bench.environment = link.detour()?;
    bench.start_and_wait(&mut report)?;
    let slow = Quality {
        latency: Duration::from_millis(30),
        bytes_per_second: 200_000,
        ..Quality::default()
    };
    let losing = Quality {
        loses_one_in: 5,
        ..slow
    };
    let breaking = Quality {
        breaks_one_in: 8,
        ..losing
    };
    // How many pieces pass is the machine's matter, so the dice get more of them until each fault has come.
    let wait_fault = |bench: &Bench, fault: &str, times: u64| {
        wait::until_true(fault, DRAIN, || {
            bench.feed.allow(20);
            Ok(link.faults().get(fault) >= Some(&times))
        })
    };
    for quality in [slow, losing, breaking] {
        for round in 1..=3 {
            link.set(quality);
            bench.feed.allow(200);
            bench.feed.wait_settled(DRAIN)?;
            let owed = bench.feed.obligations();
            if quality.breaks_one_in > 0 {
                wait_fault(&bench, "connection-broken", round)?;
                // A reconnect takes some exchanges; at one break in eight pieces it might take for ever.
                link.set(losing);
            }
            wait::until_true("some of it to get through", DRAIN, || {
                Ok(bench.is_through(owed - 150))
            })?;
            link.cut();
            report.fault("link-cut");
        }
    }
    link.set(losing);
    wait_fault(&bench, "segment-lost", 1)?;
    for (name, count) in link.faults() {
        (0..count).for_each(|_| report.fault(name));
    }
    finish(bench, report)
}

/// Row 31, of the whole process: what was on its way is sent again by a producer that is new.
#[test]
fn an_agent_whose_producer_fails_fatally_goes_on_with_a_new_one() -> Result<()> {
    let mut report = Report::new(SEED);
    let mut bench = Bench::new("fatal", 100, "")?;
    bench.start_and_wait(&mut report)?;
    let process = bench.agent()?.identity();
    for round in 1..=3 {
        bench.embedded.kafka_fatal()?;
        report.fault("producer-fatal");
        bench.feed.allow(300);
        wait::until_true("all of it in Kafka", DRAIN, || {
            Ok(bench.is_through(round * 300))
        })?;
    }
    ensure!(
        bench.agent()?.identity() == process,
        "the agent was started again"
    );
    let told = log_has(&bench.log(), "producer failed, starting a new one");
    ensure!(told, "{}", harness::end_of(&bench.log()));
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
