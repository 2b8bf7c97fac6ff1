//! Offline and back: what a backlog costs, how soon it moves after a kill, how fast it drains.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hardware_sim::load::Schedule;
use harness::{
    daemon::{AgentStatus, Daemon},
    wait,
};

use super::{live::publish, queue};
use crate::{
    bench::Bench,
    pairs::Target,
    report::Line,
    stand::{self, PATIENCE, Prepared},
};

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Where an agent whose folder is `dir` keeps its queue.
fn queue_of(dir: &Path) -> std::path::PathBuf {
    dir.join("state/queue")
}

fn queued(agent: &Daemon) -> Result<u64> {
    Ok(agent.status::<AgentStatus>()?.balance.queued)
}

/// Memory with a backlog and a dead broker, beside memory without.
pub fn backlog_rss(bench: &mut Bench) -> Result<()> {
    let count = bench.amount(5000, 1_000_000, 10_000_000);
    let seconds = bench.amount(1, 10, 60);
    let line = |bench, unit, target| Line {
        bench,
        unit,
        target,
    };
    let resident = |bench: &mut Bench, count: u64| -> Result<f64> {
        let dir = bench.folder()?;
        let (run, config) = stand::alone(&dir);
        queue::fill(&queue_of(&dir), &run.name, &run.topics.readings, count)?;
        let mut agent = Daemon::new("edge-agent", &dir, &config)?;
        agent.start()?;
        wait::until_true("the backlog to be found", PATIENCE, || {
            Ok(queued(&agent)? == count)
        })
        .with_context(|| agent.end_of_log())?;
        // Long enough for the forwarder to have filled its window and to have been refused.
        std::thread::sleep(Duration::from_secs(seconds));
        let usage = stand::usage(&mut agent)?;
        agent.kill()?;
        std::fs::remove_dir_all(&dir)?;
        Ok(float(usage.rss))
    };
    let mut most: f64 = 0.0;
    bench.compare_bytes(
        [line("backlog-rss", "B", Target::AtMost(2.0))],
        |bench| Ok([resident(bench, 0)?]),
        |bench| {
            let rss = resident(bench, count)?;
            most = most.max(rss);
            Ok([rss])
        },
    )?;
    bench.absolute(
        line("backlog-rss-most", "MB", Target::AtMost(1.0)),
        most / 1e6,
        64.0,
    )
}

/// Killed with a backlog: until the first record is in Kafka.
pub fn restart(bench: &mut Bench) -> Result<()> {
    let count = bench.amount(5000, 1_000_000, 10_000_000);
    let times = bench.amount(1, 5, 5);
    let mut seconds = Vec::new();
    for _ in 0..times {
        seconds.push(one_restart(bench, count)?);
    }
    let median = crate::pairs::median(&seconds).context("at least one restart")?;
    let line = Line {
        bench: "restart",
        unit: "s",
        target: Target::AtMost(1.0),
    };
    bench.absolute(line, median, 2.0)
}

fn one_restart(bench: &mut Bench, count: u64) -> Result<f64> {
    let stand = bench.stand()?;
    let run = stand.run(1)?;
    queue::fill(&queue_of(&run.dir), &run.name, &run.topics.readings, count)?;
    let mut agent = Daemon::new(
        "edge-agent",
        &run.dir,
        &stand::agent_config(&run, "127.0.0.1:1", ""),
    )?;
    agent.start()?;
    wait::until_true("the backlog to be found", PATIENCE, || {
        Ok(queued(&agent)? == count)
    })
    .with_context(|| agent.end_of_log())?;
    agent.kill()?;
    agent.configure(&stand::agent_config(&run, stand.kafka(), ""))?;
    let began = Instant::now();
    agent.start()?;
    let first = stand.wait_records(&run, 1)? - began;
    agent.kill()?;
    std::fs::remove_dir_all(run.dir)?;
    Ok(first.as_secs_f64())
}

/// A backlog drains while live traffic keeps its rate.
pub fn drain(bench: &mut Bench) -> Result<()> {
    let count = bench.amount(2000, 300_000, 10_000_000);
    let live = bench.amount(200, 2000, 2000);
    let some: Vec<Prepared> = stand::prepared("bench", 0, 0, count.min(300_000))?;
    let line = |bench, unit, target| Line {
        bench,
        unit,
        target,
    };
    let mut slowest = f64::MAX;
    bench.compare(
        [line("drain", "readings/s", Target::AtLeast(0.3))],
        |bench| {
            let stand = bench.stand()?;
            let run = stand.run(1)?;
            let took = stand.produce(&run, &some)?;
            Ok([float(some.len() as u64) / took.as_secs_f64()])
        },
        |bench| {
            let (rate, kept) = one_drain(bench, count, live)?;
            slowest = slowest.min(kept);
            Ok([rate])
        },
    )?;
    bench.absolute(
        line("drain-live", "of its rate", Target::AtLeast(0.95)),
        slowest,
        1.0,
    )
}

/// Readings a second out of the backlog, and which part of its rate the live traffic kept meanwhile.
fn one_drain(bench: &mut Bench, count: u64, live: u64) -> Result<(f64, f64)> {
    let stand = bench.stand()?;
    let run = stand.run(1)?;
    queue::fill(&queue_of(&run.dir), &run.name, &run.topics.readings, count)?;
    let mut agent = stand.agent(&run, &stand.mqtt_source(&run))?;
    let began = Instant::now();
    stand::start_subscribed(&mut agent)?;
    let drained = AtomicBool::new(false);
    let (mqtt, topic) = (stand.mqtt().to_owned(), run.mqtt_topic());
    let rate = u32::try_from(live)?;
    let (took, kept) = std::thread::scope(|scope| -> Result<(Duration, f64)> {
        let traffic = scope.spawn(|| {
            let (mut sent, mut spent) = (0, Duration::ZERO);
            // Second by second, until the backlog is gone; at least once.
            while sent == 0 || !drained.load(Ordering::Acquire) {
                let client = format!("{topic}-{sent}");
                spent += publish(&mqtt, &client, &topic, Schedule::Rate(rate), live)?.took;
                sent += live;
            }
            anyhow::Ok(float(sent) / spent.as_secs_f64() / float(live))
        });
        let end = stand.wait_records(&run, count);
        drained.store(true, Ordering::Release);
        let kept = traffic
            .join()
            .map_err(|_| anyhow::anyhow!("the live traffic panicked"))??;
        Ok((end? - began, kept))
    })?;
    wait::until_true("the queue to be empty", PATIENCE, || {
        Ok(queued(&agent)? == 0)
    })?;
    let balance = agent.status::<AgentStatus>()?.balance;
    ensure!(balance.holds(), "not conserved: {balance:?}");
    ensure!(
        stand.records(&run)? == balance.acknowledged,
        "records are missing"
    );
    agent.stop(PATIENCE)?;
    std::fs::remove_dir_all(run.dir)?;
    Ok((float(count) / took.as_secs_f64(), kept))
}
