//! A box with little memory: the agent in 48 MB, a full queue, a dead broker, and a device that goes on.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hardware_sim::load::Schedule;
use harness::{
    daemon::{AgentStatus, Daemon},
    memory_limit::MemoryLimit,
    service::Kind,
    stack::Stack,
    wait,
};
use rustix::process::geteuid;

use super::{live::publish, queue};
use crate::{
    bench::Bench,
    pairs::Target,
    reading::ROLES,
    report::Line,
    stand::{self, PATIENCE},
};

/// What the agent gets, page cache and what the kernel keeps for it included.
const LIMIT: u64 = 48 << 20;
/// An unoptimised agent needs more, and is measured by nobody.
const SMOKE_LIMIT: u64 = 256 << 20;
/// Readings a second of the device.
const RATE: u32 = 10;
/// Between two looks at the agent.
const LOOK: Duration = Duration::from_secs(10);

/// Whether it lives, and its memory at most.
pub fn small_box(bench: &mut Bench) -> Result<()> {
    if !geteuid().is_root() {
        eprintln!("small-box: skipped, a control group needs root");
        return Ok(());
    }
    let max_bytes = bench.amount(64 << 20, 256 << 20, 2 << 30);
    // More than fits: the oldest go.
    let count = bench.amount(5000, 1_500_000, 12_000_000);
    let seconds = bench.amount(2, 120, 3600);
    let limit_bytes = bench.amount(SMOKE_LIMIT, LIMIT, LIMIT);
    let dir = bench.folder()?;
    let mut broker = Stack::up(&[Kind::Mosquitto])?;
    let mqtt = broker.service(Kind::Mosquitto)?.address();

    let (run, config) = stand::alone(&dir);
    let settings = edge_agent::config::Queue {
        max_bytes,
        ..queue::settings()
    };
    let lane = dir.join("state/queue");
    queue::fill_within(&lane, &run.name, &run.topics.readings, count, &settings)?;
    let config = format!(
        "{config}[queue]\nmax_bytes = \"{max_bytes}B\"\n\n[[mqtt]]\nname = \"load\"\nurl = \"{mqtt}\"\n\
         subscribe = [ {{ topic = \"box/{{device}}\", {ROLES} }} ]\n"
    );
    let mut agent = Daemon::new("edge-agent", &dir, &config)?;
    let limit = MemoryLimit::new(limit_bytes)?;
    agent.use_program(&limit.program(&harness::binary("edge-agent")?, &dir)?);
    stand::start_subscribed(&mut agent)?;
    eprintln!(
        "small-box: {seconds} s with {} in the queue, pid {}",
        agent.status::<AgentStatus>()?.balance.queued,
        agent.process()?.identity().pid
    );

    let sent = seconds * u64::from(RATE);
    let device =
        thread::spawn(move || publish(&mqtt, "small-box", "box/one", Schedule::Rate(RATE), sent));
    let most = watch(&mut agent, Duration::from_secs(seconds))?;
    device
        .join()
        .map_err(|_| anyhow::anyhow!("the device panicked"))??;
    wait::until_true("the last reading to be taken", PATIENCE, || {
        Ok(agent.status::<AgentStatus>()?.balance.received == sent)
    })
    .with_context(|| agent.end_of_log())?;
    let balance = agent.status::<AgentStatus>()?.balance;
    ensure!(balance.holds(), "not conserved: {balance:?}");
    agent.stop(PATIENCE)?;
    drop(limit);
    broker.down()?;
    std::fs::remove_dir_all(dir)?;
    #[expect(clippy::cast_precision_loss, reason = "bytes below 2^53")]
    let (most, limit) = (most as f64, limit_bytes as f64);
    let line = Line {
        bench: "small-box",
        unit: "MB",
        target: Target::AtMost(1.0),
    };
    bench.absolute(line, most / 1e6, limit / 1e6)
}

/// Looks at an agent now and then; its memory at most. One that ends has not lived on that box.
fn watch(agent: &mut Daemon, time: Duration) -> Result<u64> {
    let began = Instant::now();
    loop {
        let usage = stand::usage(agent)
            .with_context(|| format!("after {} s", began.elapsed().as_secs()))
            .with_context(|| agent.end_of_log())?;
        let Some(left) = time.checked_sub(began.elapsed()) else {
            return Ok(usage.peak);
        };
        thread::sleep(left.min(LOOK));
    }
}
