//! Kafka to MongoDB: the sink beside its parts, on a server that discards and on a real one.
//!
//! On a server that discards, the parts are all three of a sink: a consumer, a decoder and the driver. The
//! driver by itself, with documents that somebody made before, is shown beside them: nothing that reads from
//! Kafka comes near it. On a real server it is the server that counts, and the driver is the limit.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::daemon::{Daemon, SinkStatus};
use mongodb::{
    Client, Database, IndexModel,
    bson::{DateTime, RawDocumentBuf, doc, serialize_to_raw_document_buf},
    options::{Acknowledgment, ClientOptions, IndexOptions, WriteConcern},
};
use protocol::{Digest, Timestamp};
use rdkafka::Message as _;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::{
    bench::Bench,
    pairs::Target,
    proc::Usage,
    reading::{self, DEVICE},
    report::Line,
    stand::{self, PATIENCE, Run, Stand},
    wire::NullServer,
};

/// The sink's own default.
const BATCH: usize = 1000;
/// Partitions, each with a gateway of its own.
const PARTITIONS: i32 = 6;
/// Inserts under way at once by the bare side.
const AT_ONCE: usize = 4;

/// A document as the sink writes it, by somebody who knows its fields.
#[derive(Serialize)]
struct Bare<'a> {
    #[serde(rename = "_id")]
    id: String,
    ts: DateTime,
    meta: BareMeta<'a>,
    seq: i64,
    src: BareSource,
    clock: &'a str,
    digest: i64,
    voltage_v: f64,
    current_a: f64,
    power_w: f64,
    energy_kwh: f64,
}

#[derive(Serialize)]
struct BareMeta<'a> {
    gateway: &'a str,
    device: &'a str,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
struct BareSource {
    boot: i64,
    seq: i64,
}

fn bare(number: u64) -> Result<Bare<'static>> {
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

/// A record's value, by somebody who knows its fields and believes it.
#[derive(Deserialize)]
struct Value<'a> {
    gateway: &'a str,
    device: &'a str,
    epoch: &'a str,
    seq: u64,
    digest: &'a str,
    time: &'a str,
    clock: &'a str,
    src: BareSource,
    fields: Measured,
}

#[derive(Deserialize)]
struct Measured {
    voltage_v: f64,
    current_a: f64,
    power_w: f64,
    energy_kwh: f64,
}

impl Value<'_> {
    fn document(&self) -> Result<RawDocumentBuf> {
        let Measured {
            voltage_v,
            current_a,
            power_w,
            energy_kwh,
        } = self.fields;
        let document = Bare {
            id: format!("{}:{}:{:012x}", self.gateway, self.epoch, self.seq),
            ts: DateTime::from_millis(self.time.parse::<Timestamp>()?.as_millis()),
            meta: BareMeta {
                gateway: self.gateway,
                device: self.device,
            },
            seq: i64::try_from(self.seq)?,
            src: self.src,
            clock: self.clock,
            digest: u64::from_str_radix(self.digest, 16)?.cast_signed(),
            voltage_v,
            current_a,
            power_w,
            energy_kwh,
        };
        Ok(serialize_to_raw_document_buf(&document)?)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

/// With the sink's write concern.
async fn connect(uri: &str, database: &str) -> Result<Database> {
    let mut options = ClientOptions::parse(uri).await?;
    let concern = WriteConcern::builder()
        .w(Acknowledgment::Majority)
        .journal(true)
        .build();
    options.write_concern = Some(concern);
    let database = Client::with_options(options)?.database(database);
    database.run_command(doc! { "ping": 1 }).await?;
    Ok(database)
}

/// The parts of a sink without what makes one: consume, decode, insert, several at once as the sink has them.
/// No offset is kept, nothing is checked, and what fails ends it.
fn consume_bare(stand: &Stand, run: &Run, uri: &str, count: u64) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let consumer = stand.consumer_of(run)?;
    let database = runtime.block_on(connect(uri, "bare"))?;
    let readings = database.collection::<RawDocumentBuf>("readings");
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = tokio::task::JoinSet::new();
    let mut batch = Vec::with_capacity(BATCH);
    let mut start = None;
    for left in (0..count).rev() {
        let message = consumer.poll(PATIENCE).context("records do not come")??;
        start.get_or_insert_with(Instant::now);
        let value: Value<'_> = serde_json::from_slice(message.payload().unwrap_or_default())?;
        batch.push(value.document()?);
        if batch.len() < BATCH && left > 0 {
            continue;
        }
        let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
        let place = runtime.block_on(Arc::clone(&room).acquire_owned())?;
        let readings = readings.clone();
        let insert = async move {
            let inserted = readings.insert_many(&full).ordered(false).await;
            drop(place);
            inserted.map(drop)
        };
        tasks.spawn_on(insert, runtime.handle());
    }
    while let Some(inserted) = runtime.block_on(tasks.join_next()) {
        inserted??;
    }
    let start = start.context("nothing was consumed")?;
    Ok(float(count) / start.elapsed().as_secs_f64())
}

/// Typed inserts as fast as the driver goes, several at once, as the sink has them.
fn insert_bare(uri: &str, database: &str, count: u64) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let database = connect(uri, database).await?;
        let documents: Vec<Bare<'_>> = (0..count).map(bare).collect::<Result<_>>()?;
        // The sink's own: what the server does for a document is the same on both sides.
        let readings = database.collection::<Bare<'_>>("readings");
        for (keys, sparse) in [
            (doc! { "meta.gateway": 1, "meta.device": 1, "ts": 1 }, None),
            (doc! { "ts": 1 }, None),
            (doc! { "uptime.boot": 1 }, Some(true)),
        ] {
            let options = IndexOptions::builder().sparse(sparse).build();
            let index = IndexModel::builder().keys(keys).options(options).build();
            readings.create_index(index).await?;
        }
        let documents = Arc::new(documents);
        let start = Instant::now();
        let mut tasks = Vec::new();
        for task in 0..AT_ONCE {
            let (readings, documents) = (readings.clone(), Arc::clone(&documents));
            tasks.push(tokio::spawn(async move {
                for (at, batch) in documents.chunks(BATCH).enumerate() {
                    if at % AT_ONCE == task {
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

/// A new sink on a filled topic: from its first document to its last, as `arrived` counts them. Group, database
/// and checkpoints are of its own.
fn write_ours(
    bench: &mut Bench,
    filled: &Run,
    uri: &str,
    count: u64,
    arrived: impl Fn(&Daemon) -> u64,
) -> Result<Written> {
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
    let (began, first) = wait_written(&sink, 1, &arrived)?;
    let before = stand::usage(&mut sink)?;
    let (ended, last) = wait_written(&sink, count, &arrived)?;
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
fn wait_written(
    sink: &Daemon,
    count: u64,
    arrived: impl Fn(&Daemon) -> u64,
) -> Result<(Instant, u64)> {
    let mut grown = Instant::now();
    let mut before = 0;
    loop {
        let written = arrived(sink);
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

/// What the sink says it has written; its page comes up with it. Asked seldom, since asking costs it time.
fn written(sink: &Daemon) -> u64 {
    std::thread::sleep(Duration::from_millis(50));
    sink.status::<SinkStatus>()
        .map_or(0, |status| status.balance.written)
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
    let server = NullServer::start()?;
    let driver = insert_bare(&server.uri(), "bare", count)?;
    server.check(count)?;
    bench.absolute(line("sink-driver", "docs/s", Target::None), driver, driver)?;
    bench.compare(
        [line("sink-null", "docs/s", Target::AtLeast(0.8))],
        |bench| {
            let server = NullServer::start()?;
            let rate = consume_bare(bench.stand()?, &run, &server.uri(), count)?;
            server.check(count)?;
            Ok([rate])
        },
        |bench| {
            let server = NullServer::start()?;
            // The sink is not asked while it is measured: the server knows.
            let arrived = |_: &Daemon| server.different();
            let Written { rate, used } = write_ours(bench, &run, &server.uri(), count, arrived)?;
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
            Ok([write_ours(bench, &run, &uri, count, written)?.rate])
        },
    )
}
