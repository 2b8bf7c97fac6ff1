//! Many gateways through Kafka into one sink and several; and the audit of what they sent.
//!
//! Simulated is what the sinks see: keys, identities, headers and pace of so many gateways. Not simulated
//! are so many agents and their connections to the brokers. MongoDB is a server that discards, or the lag would
//! be that of the stack's server, which takes half of what a thousand gateways send.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use harness::{
    daemon::{Daemon, SinkStatus},
    rig::kafka::{Foreign, Kafka},
    wait,
};
use protocol::{
    Epoch, Timestamp,
    control::{EpochFact, Fact},
};
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::Value as Json;

use crate::{
    bench::Bench,
    pairs::Target,
    report::Line,
    stand::{self, PATIENCE, Prepared, Run, Stand},
    wire::NullServer,
};

const PARTITIONS: u32 = 6;
/// Of each gateway.
const READINGS_A_SECOND: u64 = 10;

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

/// What a fleet cost its sinks.
struct Cost {
    /// CPU of all sinks per reading, in microseconds.
    micros: f64,
    /// Records not consumed when the last was sent.
    lag: u64,
    /// From the start of the last sink until all are ready.
    rebalance: Duration,
}

/// 10, 100 and 1 000 gateways into one sink, and as many as 1 000 into two and three.
pub fn fleet(bench: &mut Bench) -> Result<()> {
    let seconds = bench.amount(1, 15, 120);
    let gateways = |many| bench.amount(many / 10, many, many);
    let runs = [
        ("fleet-10", gateways(10), 1),
        ("fleet-100", gateways(100), 1),
        ("fleet-1000", gateways(1000), 1),
        ("fleet-1000-2-sinks", gateways(1000), 2),
        ("fleet-1000-3-sinks", gateways(1000), 3),
    ];
    let line = |bench, unit, target| Line {
        bench,
        unit,
        target,
    };
    let mut costs = Vec::new();
    for (name, gateways, sinks) in runs {
        let cost = drive(bench, gateways, sinks, seconds)?;
        bench.absolute(
            line(name, "CPU µs/reading", Target::None),
            cost.micros,
            cost.micros,
        )?;
        costs.push(cost);
    }
    let [_, hundred, thousand, _, three] = costs.as_slice() else {
        return Ok(());
    };
    // At ten gateways most of what is used is what a sink uses anyway.
    bench.absolute(
        line("fleet-flat", "CPU µs/reading", Target::AtMost(1.1)),
        thousand.micros,
        hundred.micros,
    )?;
    bench.absolute(
        line("fleet-lag", "records", Target::None),
        float(thousand.lag),
        float(gateways_a_second(&runs[2])),
    )?;
    let seconds = three.rebalance.as_secs_f64();
    bench.absolute(line("fleet-rebalance", "s", Target::None), seconds, seconds)
}

fn gateways_a_second(run: &(&str, u64, usize)) -> u64 {
    run.1 * READINGS_A_SECOND
}

fn drive(bench: &mut Bench, gateways: u64, sinks: usize, seconds: u64) -> Result<Cost> {
    let each = READINGS_A_SECOND * seconds;
    let stand = bench.stand()?;
    let run = stand.run(i32::try_from(PARTITIONS)?)?;
    let records = fleet_of(&run, gateways, each)?;
    let server = NullServer::start()?;
    let mut daemons = Vec::new();
    let mut rebalance = Duration::ZERO;
    for number in 0..sinks {
        let mut run = run.clone();
        run.dir = run.dir.join(number.to_string());
        std::fs::create_dir(&run.dir)?;
        let mut sink = stand.sink(&run, &server.uri(), "")?;
        let began = Instant::now();
        sink.start()?;
        daemons.push(sink);
        wait::until_true("all sinks to be ready", PATIENCE, || {
            let ready = daemons
                .iter()
                .map(|sink| Ok(sink.status::<SinkStatus>()?.ready));
            Ok(ready
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .all(|ready| ready))
        })?;
        rebalance = began.elapsed();
    }
    let before = used(&mut daemons)?;
    pace(stand, &run, &records, gateways * READINGS_A_SECOND)?;
    let count = records.len() as u64;
    let lag = count.saturating_sub(written(&daemons)?);
    wait::while_it_grows("readings to be written", PATIENCE, count, || {
        written(&daemons)
    })?;
    let spent = used(&mut daemons)?.saturating_sub(before);
    ensure!(
        written(&daemons)? == count,
        "{} of {count} readings",
        written(&daemons)?
    );
    for mut sink in daemons {
        sink.stop(PATIENCE)?;
    }
    Ok(Cost {
        micros: spent.as_secs_f64().max(0.01) * 1e6 / float(count),
        lag,
        rebalance,
    })
}

fn used(sinks: &mut [Daemon]) -> Result<Duration> {
    sinks
        .iter_mut()
        .map(|sink| Ok(stand::usage(sink)?.cpu))
        .sum()
}

/// What a sink that was given partitions later wrote again is a duplicate, and does not count.
fn written(sinks: &[Daemon]) -> Result<u64> {
    let written = sinks
        .iter()
        .map(|sink| Ok(sink.status::<SinkStatus>()?.balance.written));
    written.sum()
}

/// The records of all gateways in turn, as their readings come in turn.
fn fleet_of(run: &Run, gateways: u64, each: u64) -> Result<Vec<Prepared>> {
    let mut by_gateway = Vec::new();
    for gateway in 0..gateways {
        let partition = i32::try_from(gateway % u64::from(PARTITIONS))?;
        let key = format!("{}-{gateway}", run.name);
        by_gateway.push(stand::prepared(&key, partition, 0, each)?.into_iter());
    }
    let mut records = Vec::new();
    while let Some(some) = by_gateway
        .iter_mut()
        .map(Iterator::next)
        .collect::<Option<Vec<_>>>()
        .filter(|some| !some.is_empty())
    {
        records.extend(some);
    }
    Ok(records)
}

/// Sends records by the clock.
fn pace(stand: &Stand, run: &Run, records: &[Prepared], a_second: u64) -> Result<()> {
    let producer = stand::producer(stand.kafka())?;
    let began = Instant::now();
    for (number, one) in (0_u64..).zip(records) {
        let due = Duration::from_micros(number * 1_000_000 / a_second.max(1));
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let record = BaseRecord::to(&run.topics.readings)
            .key(&one.key)
            .partition(one.partition)
            .payload(&one.value)
            .headers(one.headers.clone());
        producer.send(record).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(PATIENCE)?)
}

/// What the sink noted, and counting every document.
pub fn audit(bench: &mut Bench) -> Result<()> {
    let each = bench.amount(100, 20_000, 1_700_000);
    let count = each * u64::from(PARTITIONS);
    let stand = bench.stand()?;
    let run = stand.run(i32::try_from(PARTITIONS)?)?;
    for partition in 0..PARTITIONS {
        let key = format!("{}-{partition}", run.name);
        for from in (0..each).step_by(50_000) {
            let some = (each - from).min(50_000);
            let records = stand::prepared(&key, i32::try_from(partition)?, from, some)?;
            stand.produce(&run, &records)?;
        }
        state(stand, &run, &key, each - 1)?;
    }
    let mut sink = stand.sink(&run, stand.mongodb(), "")?;
    sink.start()?;
    wait::while_it_grows("readings to be written", PATIENCE, count, || {
        Ok(sink
            .status::<SinkStatus>()
            .map_or(0, |status| status.balance.written))
    })?;
    // The last checkpoint is made when it ends.
    sink.stop(PATIENCE)?;
    let noted = judge(&sink, &[], count)?;
    let counted = judge(&sink, &["--full"], count)?;
    let line = |bench, target| Line {
        bench,
        unit: "s",
        target,
    };
    bench.absolute(line("audit", Target::AtMost(1.0)), noted.as_secs_f64(), 1.0)?;
    let million = counted.as_secs_f64() * 1e6 / float(count);
    bench.absolute(line("audit-full-million", Target::None), million, million)
}

/// The gateway says that all up to `last` is committed and acknowledged.
fn state(stand: &Stand, run: &Run, gateway: &str, last: u64) -> Result<()> {
    let fact = Fact::Epoch(EpochFact {
        gateway: gateway.parse()?,
        lane: run.topics.readings.parse()?,
        epoch: Epoch::from_random(0x1f3a_9c04_d2be),
        previous: None,
        committed: Some(last),
        acknowledged: Some(last),
        offsets: std::collections::BTreeMap::new(),
        closed: false,
        at: Timestamp::UNIX_EPOCH,
    });
    let (key, value) = (fact.key(), fact.encode()?);
    let record = Foreign {
        key: &key,
        value: &value,
        headers: &[],
    };
    let kafka = Kafka::new(stand.kafka(), &run.name)?;
    kafka.write(&run.topics.control, &[record])
}

/// Runs an audit that must find every reading, and returns how long it took.
fn judge(sink: &Daemon, more: &[&str], count: u64) -> Result<Duration> {
    let mut command = Command::new(harness::binary("cloud-sink")?);
    command.args(["audit", "--format", "json", "-c"]);
    command.arg(sink.config_file()).args(more);
    let began = Instant::now();
    let output = command.output()?;
    let took = began.elapsed();
    let report: Json = serde_json::from_slice(&output.stdout)?;
    let lanes = report["gateways"].as_array().into_iter().flatten();
    let lanes = lanes.flat_map(|gateway| gateway["lanes"].as_array().into_iter().flatten());
    let present: u64 = lanes
        .filter_map(|lane| lane["totals"]["present"].as_u64())
        .sum();
    ensure!(
        present == count,
        "the audit finds {present} of {count} readings"
    );
    Ok(took)
}
