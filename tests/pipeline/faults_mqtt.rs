//! The agent and its broker: connections that break, sessions that are lost, floods.

use std::time::Duration;

use anyhow::Result;
use harness::{
    chaos::{
        bench::{Bench, DRAIN},
        dice::Dice,
        report::Report,
        shim::FaultyDisk,
    },
    wait,
};

use crate::verdict::finish;

const SEED: u64 = 17;

/// Row 17.
#[test]
fn a_broker_that_goes_and_comes_again_and_again_costs_nothing() -> Result<()> {
    let mut report = Report::new(SEED);
    let mut dice = Dice::new(SEED);
    let mut bench = Bench::new("broker-breaks", 100, "")?;
    bench.start_and_wait(&mut report)?;
    for _ in 0..15 {
        let before = bench.feed.connections();
        bench.feed.allow(1000);
        // Time is the fault: the break comes when the dice say.
        std::thread::sleep(dice.time_below(Duration::from_millis(60)));
        bench.feed.cut_connection();
        report.fault("connection-broken");
        bench.feed.wait_connection(before, DRAIN)?;
    }
    finish(bench, report)
}

/// Row 18: the disk is slow, so that every break meets readings that are committed but not yet
/// acknowledged. Their PUBACKs belong to a session that is gone.
#[test]
fn an_acknowledgement_of_a_lost_session_never_goes_to_the_next_one() -> Result<()> {
    let mut report = Report::new(SEED);
    let mut bench = Bench::new("session-lost", 40, "")?;
    let disk = FaultyDisk::new(&bench.state, &bench.dir.join("disk-control"))?;
    bench.use_disk(&disk);
    bench.start_and_wait(&mut report)?;
    disk.slow(150)?;
    for _ in 0..8 {
        let before = bench.feed.connections();
        let slept = disk.slept()?;
        bench.feed.allow(120);
        wait::until_true("a slow sync, with the next one under way", DRAIN, || {
            Ok(disk.slept()? > slept)
        })?;
        bench.feed.lose_session();
        report.fault("session-lost");
        // It subscribes again, or nothing would come.
        bench.feed.wait_connection(before, DRAIN)?;
        // All the others may have been acknowledged before.
        bench.feed.allow(1);
        bench.feed.wait_acks_here(1, DRAIN)?;
    }
    disk.heal()?;
    finish(bench, report)
}

/// Row 18, where the new session has other messages. They wait for a sync that is yet to begin when those before them become
/// durable, and who is killed at the first acknowledgement has lost what it confirmed too early.
#[test]
fn what_a_lost_session_made_durable_confirms_no_message_of_the_next_one() -> Result<()> {
    let mut report = Report::new(SEED);
    let mut bench = Bench::new("messages-lost", 40, "")?;
    let disk = FaultyDisk::new(&bench.state, &bench.dir.join("disk-control"))?;
    bench.use_disk(&disk);
    for _ in 0..3 {
        disk.heal()?;
        bench.start_and_wait(&mut report)?;
        // Longer than it takes to come back.
        disk.slow(500)?;
        let before = bench.feed.connections();
        let slept = disk.slept()?;
        bench.feed.allow(120);
        wait::until_true("a slow sync, with the next one under way", DRAIN, || {
            Ok(disk.slept()? > slept)
        })?;
        bench.feed.lose_messages();
        report.fault("session-lost");
        bench.feed.wait_connection(before, DRAIN)?;
        bench.feed.allow(40);
        bench.feed.wait_acks_here(1, DRAIN)?;
        bench.kill()?;
        report.fault("agent-kill");
    }
    disk.heal()?;
    bench.start_and_wait(&mut report)?;
    finish(bench, report)
}

/// Row 19. As long as the agent's keep-alive, so one test only.
#[test]
fn a_connection_that_is_only_half_open_is_noticed_and_made_anew() -> Result<()> {
    let mut report = Report::new(SEED);
    let mut bench = Bench::new("half-open", 100, "")?;
    bench.start_and_wait(&mut report)?;
    bench.feed.allow(500);
    bench.feed.wait_settled(DRAIN)?;
    let before = bench.feed.connections();
    bench.feed.allow(500);
    bench.feed.fall_silent();
    report.fault("half-open");
    bench
        .feed
        .wait_connection(before, Duration::from_secs(90))?;
    finish(bench, report)
}
