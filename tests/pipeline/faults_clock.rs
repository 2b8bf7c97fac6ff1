//! Row 40: a gateway without a battery-backed clock starts anywhere in the past or the future, jumps, and
//! learns the time when the network comes, or never.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use harness::{
    chaos::{
        bench::{Bench, DRAIN},
        report::Report,
    },
    rig::kafka::{Kafka, RawRecord},
    wait,
    wall_clock::{WallClock, YEAR},
};
use protocol::{
    Clock,
    control::{ClockCorrection, Fact},
};

use crate::verdict::finish;

const SEED: u64 = 40;
/// What the issue promises of a time that was put right.
const PRECISION_US: i64 = 100_000;

fn now_us() -> Result<i64> {
    Ok(i64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros(),
    )?)
}

/// Readings that came between two moments of the right time.
struct Group {
    readings: std::ops::Range<u64>,
    between_us: (i64, i64),
}

impl Group {
    fn send(bench: &Bench, count: u64) -> Result<Self> {
        let begin = now_us()?;
        let end = bench.feed.allow(count);
        bench.feed.wait_settled(DRAIN)?;
        Ok(Self {
            readings: end - count..end,
            between_us: (begin, now_us()?),
        })
    }

    fn has(&self, time_us: i64) -> bool {
        let (begin, end) = self.between_us;
        (begin - PRECISION_US..=end + PRECISION_US).contains(&time_us)
    }
}

/// Time and clock of every reading in Kafka, by its number.
fn times(records: &[RawRecord]) -> Result<BTreeMap<u64, (i64, Clock)>> {
    let mut times = BTreeMap::new();
    for record in records {
        let reading = record.reading()?.reading;
        let source = reading.source.context("numbered")?;
        let k = harness::chaos::feed::number(reading.device.as_str(), source.sequence);
        let k = k.context("of the feed")?;
        times
            .entry(k)
            .or_insert((reading.time.as_micros(), reading.clock));
    }
    Ok(times)
}

fn correction(kafka: &Kafka) -> Result<ClockCorrection> {
    let facts = kafka.read_all(kafka.control())?;
    facts
        .iter()
        .filter_map(|record| match Fact::decode(&record.value) {
            Ok(Fact::ClockCorrection(correction)) => Some(correction),
            _ => None,
        })
        .next_back()
        .context("no correction was sent")
}

#[test]
fn a_clock_that_starts_wrong_jumps_for_years_and_is_set_later_costs_neither_order_nor_time()
-> Result<()> {
    let mut report = Report::new(SEED);
    let mut bench = Bench::new("clock", 50, "segment_bytes = \"64KiB\"\n")?;
    let clock = WallClock::new(&bench.dir)?;
    bench.environment = clock.environment();
    clock.set(-20 * YEAR)?;
    bench.start_and_wait(&mut report)?;

    // Sent before the time was known: marked, with what puts it right later. Whoever waits until a time
    // of day, as librdkafka does, must not wait for the years that a step back adds.
    let mut sent = Vec::new();
    for ahead in [-20 * YEAR, -25 * YEAR, -5 * YEAR, -6 * YEAR] {
        clock.set(ahead)?;
        report.fault("clock-step");
        let group = Group::send(&bench, 20)?;
        wait::until_true("what was sent at once", DRAIN, || {
            Ok(bench.is_through(group.readings.end))
        })?;
        sent.push(group);
    }

    // Queued, while the clock jumps; also over an agent that is killed.
    bench.embedded.kafka_down()?;
    let mut queued = Vec::new();
    for ahead in [-20 * YEAR, 30 * YEAR, -50 * YEAR, YEAR] {
        clock.set(ahead)?;
        report.fault("clock-step");
        queued.push(Group::send(&bench, 40)?);
    }
    bench.kill()?;
    report.fault("agent-kill");
    clock.set(-YEAR)?;
    bench.start_and_wait(&mut report)?;
    queued.push(Group::send(&bench, 40)?);

    clock.synchronise()?;
    report.fault("clock-step");
    // The agent believes its last answer for a second.
    let kafka = Kafka::new(&bench.embedded.addresses().kafka, "chaos")?;
    Group::send(&bench, 1)?;
    bench.embedded.kafka_up()?;
    wait::until_true("a correction", DRAIN, || {
        Group::send(&bench, 10)?;
        Ok(correction(&kafka).is_ok())
    })?;
    // The last before it may have come while the agent did not know yet.
    let known = Group::send(&bench, 10)?;
    wait::until_true("all of it in Kafka", DRAIN, || {
        Ok(bench.is_through(known.readings.end))
    })?;

    let times = times(&kafka.read_all(kafka.readings())?)?;
    let boot_time_us = correction(&kafka)?.boot_time_us;
    let mut corrected = 0;
    for group in sent.iter().chain(&queued) {
        for k in group.readings.clone() {
            let right = match times[&k] {
                // As the sink puts it right. Also of what was queued, where it was in the producer already.
                (_, Clock::Unsynced { monotonic_us, .. }) => {
                    boot_time_us + i64::try_from(monotonic_us)?
                }
                (time, Clock::Corrected) => {
                    corrected += 1;
                    time
                }
                (_, clock) => anyhow::bail!("{k} is not marked: {clock:?}"),
            };
            ensure!(
                group.has(right),
                "{k} came at {:?}, not {right}",
                group.between_us
            );
        }
    }
    eprintln!("{corrected} were put right before they were sent");
    for k in known.readings.clone() {
        let (time, clock) = times[&k];
        ensure!(
            clock == Clock::Synced && known.has(time),
            "{k}: {time} {clock:?}"
        );
    }
    finish(bench, report)
}

/// A gateway that never learns the time, and one whose time service was wrong: nothing is taken for too old
/// because of a clock that nobody vouches for.
#[test]
fn a_clock_that_is_never_set_drops_nothing_for_its_age() -> Result<()> {
    let mut report = Report::new(SEED);
    let queue = "segment_bytes = \"64KiB\"\nmax_age = \"1h\"\n";
    let mut bench = Bench::new("clock-never-set", 50, queue)?;
    let clock = WallClock::new(&bench.dir)?;
    bench.environment = clock.environment();
    bench.embedded.kafka_down()?;
    for ahead in [-30 * YEAR, 0, 10 * YEAR] {
        clock.set(ahead)?;
        report.fault("clock-step");
        bench.start_and_wait(&mut report)?;
        bench.feed.allow(200);
        bench.feed.wait_settled(DRAIN)?;
        // The queue looks at ages once a second.
        std::thread::sleep(Duration::from_millis(1500));
        let status = bench.status(&mut report)?;
        let dropped: u64 = status.balance.dropped.values().sum();
        ensure!(dropped == 0, "{dropped} dropped at {ahead}");
        bench.stop()?;
    }
    bench.start_and_wait(&mut report)?;
    bench.embedded.kafka_up()?;
    finish(bench, report)
}
