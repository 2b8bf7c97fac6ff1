//! Online: MQTT at QoS 1 through the agent into Kafka, beside a loop that keeps nothing.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hardware_sim::load::{Load, Outcome, Schedule};
use harness::{
    chaos::shim::FaultyDisk,
    daemon::{AgentStatus, Daemon, SinkStatus},
    wait,
};

use crate::{
    bench::Bench,
    pairs::Target,
    proc::Usage,
    reading,
    report::Line,
    stand::{self, PATIENCE, Run, Stand},
    wire::{NullServer, Tap},
};

/// Readings the load may have unacknowledged, as the broker's own window is.
const WINDOW: usize = 1000;

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

fn now_us() -> Result<i64> {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_micros())?)
}

/// Publishes readings `0..count`.
pub fn publish(
    mqtt: &str,
    client: &str,
    topic: &str,
    schedule: Schedule,
    count: u64,
) -> Result<Outcome> {
    let broker = mqtt
        .parse()
        .map_err(|error: String| anyhow::anyhow!(error))?;
    let load = Load {
        broker,
        client: client.to_owned(),
        topic: topic.to_owned(),
        schedule,
        count,
        window: WINDOW,
    };
    let began_us = now_us()?;
    let outcome = load.run(|number, intended, out| {
        let time = began_us + i64::try_from(intended.as_micros()).unwrap_or(0);
        // A flood has no intended times; a device's own time still grows.
        let grown = i64::try_from(number).unwrap_or(0);
        reading::payload(number, time + grown % 1000, out);
    })?;
    Ok(outcome)
}

/// One run at full speed.
struct Flooded {
    /// Readings a second, from the first sent to the last in Kafka.
    rate: f64,
    /// What the process between broker and Kafka used.
    used: Usage,
}

/// Publishes as fast as the broker takes it; how long until the last one is in Kafka.
fn flood(stand: &Stand, run: &Run, count: u64) -> Result<Duration> {
    let (name, topic) = (&run.name, run.mqtt_topic());
    let began = publish(stand.mqtt(), name, &topic, Schedule::Flood, count)?.began;
    Ok(stand.wait_records(run, count)? - began)
}

fn flood_bare(bench: &mut Bench, count: u64, append: bool) -> Result<Flooded> {
    let stand = bench.stand()?;
    let run = stand.run(1)?;
    let process = stand.bare(&run, append)?;
    let before = stand::usage_of(&process)?;
    let took = flood(stand, &run, count)?;
    let used = stand::usage_of(&process)?.since(before);
    drop(process);
    stand.count_numbers(&run, count, stand::bare_number)?;
    Ok(Flooded {
        rate: float(count) / took.as_secs_f64(),
        used,
    })
}

fn flood_ours(bench: &mut Bench, count: u64) -> Result<Flooded> {
    let stand = bench.stand()?;
    let run = stand.run(1)?;
    let mut agent = stand.agent(&run, &stand.mqtt_source(&run))?;
    stand::start_subscribed(&mut agent)?;
    let before = stand::usage(&mut agent)?;
    let took = flood(stand, &run, count)?;
    let used = stand::usage(&mut agent)?.since(before);
    agent.stop(PATIENCE)?;
    stand.count_numbers(&run, count, stand::our_number)?;
    Ok(Flooded {
        rate: float(count) / took.as_secs_f64(),
        used,
    })
}

/// The rate, beside a loop without storage; and how fast the load is by itself.
pub fn live(bench: &mut Bench) -> Result<()> {
    let count = bench.amount(500, 150_000, 1_000_000);
    let mqtt = bench.stand()?.mqtt().to_owned();
    let alone = publish(&mqtt, "bench-alone", "bench/nobody", Schedule::Flood, count)?;
    let line = |bench, unit, target| Line {
        bench,
        unit,
        target,
    };
    // Nobody subscribes: the broker acknowledges and forgets.
    let ceiling = float(count) / alone.took.as_secs_f64();
    bench.absolute(
        line("live-load", "readings/s", Target::None),
        ceiling,
        ceiling,
    )?;
    bench.compare(
        [line("live", "readings/s", Target::AtLeast(0.8))],
        |bench| Ok([flood_bare(bench, count, false)?.rate]),
        |bench| Ok([flood_ours(bench, count)?.rate]),
    )
}

/// CPU time, beside the least that durable means.
pub fn cpu(bench: &mut Bench) -> Result<()> {
    let count = bench.amount(500, 150_000, 1_000_000);
    let line = |bench, unit, target| Line {
        bench,
        unit,
        target,
    };
    // The kernel counts in ticks of 10 ms: less than one is not known.
    let micros = |used: Usage| used.cpu.as_secs_f64().max(0.01) * 1e6 / float(count);
    let mut most: f64 = 0.0;
    let mut written: f64 = 0.0;
    bench.compare(
        [line("live-cpu", "µs/reading", Target::AtMost(1.5))],
        |bench| Ok([micros(flood_bare(bench, count, true)?.used)]),
        |bench| {
            let used = flood_ours(bench, count)?.used;
            most = most.max(micros(used));
            written = float(used.written) / float(count);
            Ok([micros(used)])
        },
    )?;
    // 1 µs a reading is 0.1 s per 100 000 of them.
    let per = line("live-cpu-100k", "CPU s", Target::AtMost(1.0));
    bench.absolute(per, most / 10.0, 1.6)?;
    bench.absolute(
        line("live-written", "B/reading", Target::None),
        written,
        written,
    )
}

/// Arrivals at a rate, with and without the disk doing what it says; `source` is added to the agent's.
fn arrivals(
    bench: &mut Bench,
    rate: u32,
    count: u64,
    source: &str,
    set: impl Fn(&FaultyDisk) -> Result<()>,
) -> Result<f64> {
    let stand = bench.stand()?;
    let run = stand.run(1)?;
    let mut agent = stand.agent(&run, &(stand.mqtt_source(&run) + source))?;
    let disk = FaultyDisk::new(&run.dir.join("state"), &run.dir.join("disk"))?;
    set(&disk)?;
    agent.set_environment(disk.environment());
    stand::start_subscribed(&mut agent)?;
    let schedule = match rate {
        0 => Schedule::Flood,
        rate => Schedule::Rate(rate),
    };
    let began = publish(stand.mqtt(), &run.name, &run.mqtt_topic(), schedule, count)?.began;
    let took = stand.wait_records(&run, count)? - began;
    agent.stop(PATIENCE)?;
    stand.count_numbers(&run, count, stand::our_number)?;
    Ok(float(count) / took.as_secs_f64())
}

/// 20 000 arrivals a second with fdatasync, and without.
pub fn durability_cost(bench: &mut Bench) -> Result<()> {
    let count = bench.amount(500, 100_000, 400_000);
    let line = Line {
        bench: "durability-cost",
        unit: "readings/s",
        target: Target::AtLeast(0.8),
    };
    bench.compare(
        [line],
        |bench| Ok([arrivals(bench, 20_000, count, "", FaultyDisk::lie)?]),
        |bench| Ok([arrivals(bench, 20_000, count, "", |_| Ok(()))?]),
    )
}

/// A disk whose every sync takes longer: group commit has to hide it. What comes during a sync is as much as
/// the broker may send without an acknowledgement, so that bound is as docs/performance.md says for such a disk.
pub fn slow_disk(bench: &mut Bench) -> Result<()> {
    const WINDOW: &str = "max_inflight = 4000\n";
    let count = bench.amount(500, 100_000, 400_000);
    for (name, milliseconds) in [("slow-disk-5ms", 5), ("slow-disk-20ms", 20)] {
        let line = Line {
            bench: name,
            unit: "readings/s",
            target: Target::AtLeast(0.8),
        };
        bench.compare(
            [line],
            |bench| Ok([arrivals(bench, 0, count, WINDOW, |_| Ok(()))?]),
            |bench| {
                let slow = |disk: &FaultyDisk| disk.slow(milliseconds);
                Ok([arrivals(bench, 0, count, WINDOW, slow)?])
            },
        )?;
    }
    Ok(())
}

/// The whole way at 5 000 readings a second, open loop: from when a reading was meant to be sent to
/// MongoDB's acknowledgement. First with a server that discards, for what is ours; then with the stack's, which
/// takes little more than that by itself (`sink-real`) and here shares two processors with all the others.
pub fn latency(bench: &mut Bench) -> Result<()> {
    let seconds = bench.amount(0, 20, 300);
    let count = (seconds * 5000).max(500);
    let line = |bench, target| Line {
        bench,
        unit: "ms",
        target,
    };
    let server = NullServer::start()?;
    let ours = whole_way(bench, count, &server.uri())?;
    server.check(count)?;
    bench.absolute(line("latency-p50", Target::None), ours.p50, ours.p50)?;
    // linger.ms 5, batch.max_wait 10 ms, and 10 ms; a source that waits for its answer is committed at once.
    let allowed = 5.0 + 10.0 + 10.0;
    bench.absolute(line("latency-p99", Target::AtMost(1.0)), ours.p99, allowed)?;
    // The best peer, which has no disk in its way and ends at Kafka.
    bench.absolute(line("latency-p99-bar", Target::AtMost(1.0)), ours.p99, 40.0)?;
    bench.absolute(line("latency-load", Target::None), ours.load, ours.load)?;
    let uri = bench.stand()?.mongodb().to_owned();
    let real = whole_way(bench, count, &uri)?;
    bench.absolute(line("latency-real-p50", Target::None), real.p50, real.p50)?;
    bench.absolute(
        line("latency-real-p99", Target::AtMost(1.0)),
        real.p99,
        40.0,
    )
}

/// Milliseconds.
struct Latency {
    p50: f64,
    p99: f64,
    /// How late the load itself was, at most.
    load: f64,
}

fn whole_way(bench: &mut Bench, count: u64, mongodb: &str) -> Result<Latency> {
    let stand = bench.stand()?;
    let run = stand.run(1)?;
    let tap = Tap::start(mongodb)?;
    let mut sink = stand.sink(&run, &tap.uri(), "")?;
    sink.start()?;
    let mut agent = stand.agent(&run, &stand.mqtt_source(&run))?;
    stand::start_subscribed(&mut agent)?;
    wait_ready(&sink)?;
    let schedule = Schedule::Rate(5000);
    let outcome = publish(stand.mqtt(), &run.name, &run.mqtt_topic(), schedule, count)?;
    wait::while_it_grows("readings to be acknowledged", PATIENCE, count, || {
        Ok(tap.count())
    })?;
    agent.stop(PATIENCE)?;
    sink.stop(PATIENCE)?;
    stand.count_numbers(&run, count, stand::our_number)?;
    let mut latencies: Vec<Duration> = tap
        .acknowledged()
        .into_iter()
        // One connection, one lane: the readings got their numbers in the order they were sent.
        .map(|(number, at)| at.saturating_duration_since(outcome.began + schedule.intended(number)))
        .collect();
    ensure!(
        latencies.len() as u64 == count,
        "{} of {count} acknowledged",
        latencies.len()
    );
    latencies.sort_unstable();
    let at = |percent: usize| {
        let found = latencies.get(latencies.len() * percent / 100);
        found.map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    };
    Ok(Latency {
        p50: at(50),
        p99: at(99),
        load: outcome.latest.as_secs_f64() * 1e3,
    })
}

fn wait_ready(sink: &Daemon) -> Result<()> {
    wait::until_true("the sink to be ready", PATIENCE, || {
        Ok(sink.status::<SinkStatus>()?.ready)
    })
    .with_context(|| sink.end_of_log())
}

/// Twice what the agent can take: it must go on taking as much, in the same memory, and lose nothing.
pub fn overload(bench: &mut Bench) -> Result<()> {
    let count = bench.amount(500, 150_000, 1_000_000);
    let mut growth: f64 = 0.0;
    let line = |bench, unit, target| Line {
        bench,
        unit,
        target,
    };
    let mut peak = 0.0;
    let peaks = std::cell::Cell::new(0.0_f64);
    let mut flooded_peak = 0.0;
    bench.compare(
        [line("overload", "readings/s", Target::AtLeast(0.95))],
        |bench| {
            let flooded = flood_ours(bench, count)?;
            peaks.set(flooded.rate);
            flooded_peak = float(flooded.used.peak);
            Ok([flooded.rate])
        },
        |bench| {
            peak = peaks.get();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate"
            )]
            let rate = (2.0 * peak) as u32;
            let (goodput, memory) = overloaded(bench, rate, count)?;
            growth = growth.max(memory);
            Ok([goodput])
        },
    )?;
    let rss = line("overload-rss", "B", Target::AtMost(1.2));
    bench.absolute(rss, growth, flooded_peak)
}

/// Offered more than it takes, by four connections that do not wait for one another; what it took a
/// second, and its peak.
fn overloaded(bench: &mut Bench, rate: u32, count: u64) -> Result<(f64, f64)> {
    let stand = bench.stand()?;
    let run = stand.run(1)?;
    let mut agent = stand.agent(&run, &stand.mqtt_source(&run))?;
    stand::start_subscribed(&mut agent)?;
    let began = publish(
        stand.mqtt(),
        &run.name,
        &run.mqtt_topic(),
        Schedule::Rate(rate.max(1)),
        count,
    )?
    .began;
    let took = stand.wait_records(&run, count)? - began;
    let peak = stand::usage(&mut agent)?.peak;
    agent.stop(PATIENCE)?;
    stand.count_numbers(&run, count, stand::our_number)?;
    Ok((float(count) / took.as_secs_f64(), float(peak)))
}

/// Bytes of the agent's binary as the package has it.
fn packaged(dir: &Path) -> Result<u64> {
    let (built, stripped) = (harness::binary("edge-agent")?, dir.join("edge-agent"));
    let status = Command::new("strip")
        .args(["--strip-unneeded", "--remove-section=.comment", "-o"])
        .args([&stripped, &built])
        .status()
        .context("strip, of binutils")?;
    ensure!(status.success(), "strip has ended with {status}");
    Ok(std::fs::metadata(stripped)?.len())
}

/// What the agent takes when nothing happens.
pub fn idle(bench: &mut Bench) -> Result<()> {
    let seconds = bench.amount(2, 60, 60);
    let binary = packaged(&bench.folder()?)?;
    let line = |bench, unit| Line {
        bench,
        unit,
        target: Target::AtMost(1.0),
    };
    let stand = bench.stand()?;
    let run: Run = stand.run(1)?;
    let source = stand.mqtt_source(&run);
    let mut agent = stand.agent(&run, &source)?;
    stand::start_subscribed(&mut agent)?;
    wait_settled(&agent, stand)?;
    let (before, began) = (stand::usage(&mut agent)?, Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    let after = stand::usage(&mut agent)?;
    let used = after.since(before);
    let percent = 100.0 * used.cpu.as_secs_f64() / began.elapsed().as_secs_f64();
    agent.stop(PATIENCE)?;
    bench.absolute(line("idle-rss", "MB"), float(after.rss) / 1e6, 16.0)?;
    bench.absolute(line("idle-cpu", "% of a core"), percent, 0.1)?;
    bench.absolute(line("idle-writes", "B"), float(used.written), 1.0)?;
    bench.absolute(line("idle-binary", "MB"), float(binary) / 1e6, 14.0)
}

/// Ready, and its facts are told: what a start does is over.
fn wait_settled(agent: &Daemon, stand: &Stand) -> Result<()> {
    wait::until_true("the agent to be ready", PATIENCE, || {
        Ok(agent.status::<AgentStatus>()?.ready)
    })
    .with_context(|| format!("kafka is {}\n{}", stand.kafka(), agent.end_of_log()))
}
