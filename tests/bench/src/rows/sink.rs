//! Kafka to MongoDB: the sink beside the driver by itself, on a server that discards and on a real one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::daemon::{Daemon, SinkStatus};
use mongodb::{
    Client,
    bson::{DateTime, doc},
    options::{Acknowledgment, ClientOptions, WriteConcern},
};
use protocol::Digest;
use serde::Serialize;

use crate::{
    bench::Bench,
    pairs::Target,
    proc::Usage,
    reading::{self, DEVICE},
    report::Line,
    stand::{self, PATIENCE, Run},
    wire::NullServer,
};

/// The sink's own default.
const BATCH: u64 = 1000;
/// Partitions, each with a gateway of its own.
const PARTITIONS: i32 = 6;
/// Inserts under way at once by the bare side.
const AT_ONCE: u64 = 4;

/// A document as the sink writes it, by somebody who knows its fields.
#[derive(Serialize)]
struct Bare {
    #[serde(rename = "_id")]
    id: String,
    ts: DateTime,
    meta: BareMeta,
    seq: i64,
    src: BareSource,
    clock: &'static str,
    digest: i64,
    voltage_v: f64,
    current_a: f64,
    power_w: f64,
    energy_kwh: f64,
}

#[derive(Serialize)]
struct BareMeta {
    gateway: &'static str,
    device: &'static str,
}

#[derive(Serialize)]
struct BareSource {
    boot: i64,
    seq: i64,
}

fn bare(number: u64) -> Result<Bare> {
    let [voltage_v, current_a, power_w, energy_kwh] = reading::values(number);
    let seq = i64::try_from(number)?;
    Ok(Bare {
        id: format!("bare:1f3a9c04d2be:{number:012x}"),
        ts: DateTime::from_millis(reading::time_us(number) / 1000),
        meta: BareMeta {
            gateway: "bare",
            device: DEVICE,
        },
        seq,
        src: BareSource { boot: 1, seq },
        clock: "device",
        digest: Digest::of(&reading::reading(number)?).0.cast_signed(),
        voltage_v,
        current_a,
        power_w,
        energy_kwh,
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Typed inserts as fast as the driver goes, several at once, as the sink has them.
fn insert_bare(uri: &str, database: &str, count: u64) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut options = ClientOptions::parse(uri).await?;
        let concern = WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .build();
        options.write_concern = Some(concern);
        let database = Client::with_options(options)?.database(database);
        database.run_command(doc! { "ping": 1 }).await?;
        let documents: Vec<Bare> = (0..count).map(bare).collect::<Result<_>>()?;
        // Nothing but the indexes that the sink makes as well.
        let readings = database.collection::<Bare>("readings");
        for keys in [
            doc! { "meta.gateway": 1, "meta.device": 1, "ts": 1 },
            doc! { "ts": 1 },
        ] {
            let index = mongodb::IndexModel::builder().keys(keys).build();
            readings.create_index(index).await?;
        }
        let documents = std::sync::Arc::new(documents);
        let start = Instant::now();
        let mut tasks = Vec::new();
        for task in 0..AT_ONCE {
            let (readings, documents) = (readings.clone(), std::sync::Arc::clone(&documents));
            tasks.push(tokio::spawn(async move {
                let size = usize::try_from(BATCH)?;
                for (at, batch) in documents.chunks(size).enumerate() {
                    if at as u64 % AT_ONCE == task {
                        let insert = readings.insert_many(batch).ordered(false).await;
                        // Its error repeats itself for every document.
                        insert.map_err(|error| anyhow::anyhow!("{:.200}", error.to_string()))?;
                    }
                }
                anyhow::Ok(())
            }));
        }
        for task in tasks {
            task.await??;
        }
        Ok(float(count) / start.elapsed().as_secs_f64())
    })
}

/// A topic with `count` records over all partitions, for all runs of a row.
fn filled(bench: &mut Bench, count: u64) -> Result<Run> {
    let stand = bench.stand()?;
    let run = stand.run(PARTITIONS)?;
    let each = count / u64::try_from(PARTITIONS)?;
    for partition in 0..PARTITIONS {
        // Sequences differ over all partitions, so that one set of numbers counts them.
        let from = each * u64::try_from(partition)?;
        let mut left = from..from + each;
        while !left.is_empty() {
            let some = (left.end - left.start).min(50_000);
            let records = stand::prepared(&format!("gw{partition}"), partition, left.start, some)?;
            stand.produce(&run, &records)?;
            left.start += some;
        }
    }
    Ok(run)
}

/// What a run of the sink came to.
struct Written {
    rate: f64,
    used: Usage,
}

/// A new sink on a filled topic: from its first document to its last. Group, database and checkpoints are of
/// its own.
fn write_ours(bench: &mut Bench, filled: &Run, uri: &str, count: u64) -> Result<Written> {
    let stand = bench.stand()?;
    let fresh = stand.run(1)?;
    let run = Run {
        name: fresh.name,
        dir: fresh.dir,
        topics: harness::rig::kafka::Topics {
            readings: filled.topics.readings.clone(),
            ..fresh.topics
        },
        partitions: PARTITIONS,
    };
    let mut sink = stand.sink(&run, uri, "")?;
    sink.start()?;
    let (began, first) = wait_written(&sink, 1)?;
    let before = stand::usage(&mut sink)?;
    let (ended, last) = wait_written(&sink, count)?;
    let used = stand::usage(&mut sink)?;
    let peak = used.peak;
    ensure!(last == count, "{last} documents of {count}");
    sink.stop(PATIENCE)?;
    Ok(Written {
        // A small topic may be written before it is looked at.
        rate: float((last - first).max(1)) / (ended - began).as_secs_f64().max(0.001),
        used: Usage {
            peak,
            ..used.since(before)
        },
    })
}

/// Waits until so many documents are written; when that was seen, and how many they were.
fn wait_written(sink: &Daemon, count: u64) -> Result<(Instant, u64)> {
    let mut grown = Instant::now();
    let mut before = 0;
    loop {
        // Its page comes up with it.
        let written = sink
            .status::<SinkStatus>()
            .map_or(0, |status| status.balance.written);
        if written >= count {
            return Ok((Instant::now(), written));
        }
        if written > before {
            grown = Instant::now();
        }
        before = written;
        if grown.elapsed() > PATIENCE {
            return Err(anyhow::anyhow!(
                "{written} of {count} documents are written"
            ))
            .with_context(|| sink.end_of_log());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// On a server that discards.
pub fn null(bench: &mut Bench) -> Result<()> {
    let count = bench.amount(600, 600_000, 6_000_000);
    let run = filled(bench, count)?;
    let line = |bench, unit, target| Line {
        bench,
        unit,
        target,
    };
    let mut cpu: f64 = 0.0;
    let mut peak = 0;
    bench.compare(
        [line("sink-null", "docs/s", Target::AtLeast(0.8))],
        |_| {
            let server = NullServer::start()?;
            let rate = insert_bare(&server.uri(), "bare", count)?;
            server.check(count)?;
            Ok([rate])
        },
        |bench| {
            let server = NullServer::start()?;
            let Written { rate, used } = write_ours(bench, &run, &server.uri(), count)?;
            server.check(count)?;
            cpu = cpu.max(used.cpu.as_secs_f64() * 1e5 / float(count));
            peak = peak.max(used.peak);
            Ok([rate])
        },
    )?;
    bench.absolute(
        line("sink-cpu-100k", "CPU s", Target::AtMost(1.0)),
        cpu,
        0.5,
    )?;
    bench.absolute(
        line("sink-rss", "MB", Target::AtMost(1.0)),
        float(peak) / 1e6,
        64.0,
    )
}

/// On the stack's server.
pub fn real(bench: &mut Bench) -> Result<()> {
    let count = bench.amount(600, 60_000, 600_000);
    let run = filled(bench, count)?;
    let line = Line {
        bench: "sink-real",
        unit: "docs/s",
        target: Target::AtLeast(0.95),
    };
    bench.compare(
        [line],
        |bench| {
            let stand = bench.stand()?;
            // Named like nothing else, as the sink's.
            let database = stand.run(1)?.name;
            Ok([insert_bare(stand.mongodb(), &database, count)?])
        },
        |bench| {
            let uri = bench.stand()?.mongodb().to_owned();
            Ok([write_ours(bench, &run, &uri, count)?.rate])
        },
    )
}
