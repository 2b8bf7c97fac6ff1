//! The queue by itself, in this process: what a commit costs, on the disk and of it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use edge_agent::{
    config::{self, WhenFull},
    conservation::Conservation,
    ingest::{Message, Origin},
    queue::{self, Now, Opened},
};
use protocol::{GatewayId, Timestamp, Topic, record::postcard::encode_reading};

use crate::{
    bench::Bench,
    pairs::Target,
    proc::Usage,
    reading::{GATEWAY, reading},
    report::Line,
};

/// What the queue keeps of a reading beside its fields: digest, age and length.
const KEPT_BESIDE: usize = 14;

/// The defaults of `[queue]`.
pub fn settings() -> config::Queue {
    config::Queue {
        max_bytes: 64 << 30,
        max_age: Duration::from_secs(30 * 86_400),
        min_free_bytes: 64 << 20,
        when_full: WhenFull::DropOldest,
        commit_every: Duration::from_millis(100),
        segment_bytes: 8 << 20,
        segment_age: Duration::from_secs(3600),
    }
}

/// The time, as a synchronised gateway has it.
pub fn now() -> Result<Now> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(Now {
        wall: Timestamp::from_micros(i64::try_from(since.as_micros())?)?,
        synced: true,
    })
}

/// Opens the lane `topic` in `dir`, as the agent does.
pub fn open(
    dir: &Path,
    gateway: &str,
    topic: &str,
    settings: &config::Queue,
) -> Result<(Opened, Arc<Conservation>)> {
    let conservation = Arc::new(Conservation::default());
    let (gateway, topic) = (GatewayId::new(gateway)?, Topic::new(topic)?);
    let counted = Arc::clone(&conservation);
    Ok((
        queue::open(dir, &gateway, &topic, settings, counted, now()?)?,
        conservation,
    ))
}

/// Readings `from..from + count` as messages of one reading each.
pub fn messages(topic: &str, from: u64, count: u64) -> Result<Vec<Message>> {
    let (lane, received) = (Topic::new(topic)?, now()?.wall);
    (from..from + count)
        .map(|number| {
            Ok(Message {
                lane: lane.clone(),
                readings: vec![reading(number)?],
                origin: Origin::Unknown,
                received,
                answer: None,
            })
        })
        .collect()
}

/// Fills the lane `topic` in `dir` with readings `0..count`, and leaves it as a process does that ends.
pub fn fill(dir: &Path, gateway: &str, topic: &str, count: u64) -> Result<()> {
    fill_within(dir, gateway, topic, count, &settings())
}

/// The same with other settings: what does not fit below their bound goes, oldest first.
pub fn fill_within(
    dir: &Path,
    gateway: &str,
    topic: &str,
    count: u64,
    settings: &config::Queue,
) -> Result<()> {
    fs::create_dir_all(dir)?;
    let (
        Opened {
            mut writer, reader, ..
        },
        conservation,
    ) = open(dir, gateway, topic, settings)?;
    drop(reader);
    let mut from = 0;
    while from < count {
        let some = messages(topic, from, (count - from).min(1000))?;
        conservation.received(some.len() as u64);
        writer.commit(&some, now()?)?;
        from += some.len() as u64;
    }
    Ok(writer.close(now()?)?)
}

/// The bytes that a raw append writes for the same readings.
fn raw(count: u64, from: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for number in from..from + count {
        encode_reading(&reading(number)?, &mut bytes)?;
        bytes.extend_from_slice(&[0xa5; KEPT_BESIDE]);
    }
    Ok(bytes)
}

fn per_second(readings: u64, took: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
    let readings = readings as f64;
    readings / took.as_secs_f64()
}

/// `commits` appends of `size` readings to a plain file.
fn append_raw(dir: &Path, commits: u64, size: u64) -> Result<f64> {
    let chunks: Vec<Vec<u8>> = (0..=commits)
        .map(|at| raw(size, at * size))
        .collect::<Result<_>>()?;
    let mut file = File::options()
        .append(true)
        .create(true)
        .open(dir.join("raw"))?;
    let (first, rest) = chunks.split_first().context("at least one commit")?;
    file.write_all(first)?;
    file.sync_data()?;
    let start = Instant::now();
    for chunk in rest {
        file.write_all(chunk)?;
        file.sync_data()?;
    }
    Ok(per_second(commits * size, start.elapsed()))
}

/// The same through the queue. The first commit, which makes the store, does not count, as it does not
/// for the file.
fn append_ours(dir: &Path, commits: u64, size: u64) -> Result<f64> {
    let (opened, conservation) = open(dir, GATEWAY, "t", &settings())?;
    let Opened {
        mut writer, lane, ..
    } = opened;
    let batches: Vec<Vec<Message>> = (0..=commits)
        .map(|at| messages("t", at * size, size))
        .collect::<Result<_>>()?;
    conservation.received((commits + 1) * size);
    let (first, rest) = batches.split_first().context("at least one commit")?;
    writer.commit(first, now()?)?;
    let start = Instant::now();
    for batch in rest {
        writer.commit(batch, now()?)?;
    }
    let took = start.elapsed();
    let there = lane.stat().readings;
    ensure!(
        there == (commits + 1) * size,
        "{there} readings are in the queue"
    );
    writer.close(now()?)?;
    Ok(per_second(commits * size, took))
}

fn append(bench: &mut Bench, line: Line, commits: u64, size: u64) -> Result<()> {
    bench.compare(
        [line],
        |bench| Ok([append_raw(&bench.folder()?, commits, size)?]),
        |bench| Ok([append_ours(&bench.folder()?, commits, size)?]),
    )
}

/// Commits of a thousand readings.
pub fn append_1000(bench: &mut Bench) -> Result<()> {
    let line = Line {
        bench: "append-1000",
        unit: "readings/s",
        target: Target::AtLeast(0.55),
    };
    let commits = bench.amount(2, 200, 200);
    append(bench, line, commits, 1000)
}

/// Commits of one reading.
pub fn append_1(bench: &mut Bench) -> Result<()> {
    let line = Line {
        bench: "append-1",
        unit: "readings/s",
        target: Target::AtLeast(0.4),
    };
    let commits = bench.amount(5, 2000, 2000);
    append(bench, line, commits, 1)
}

/// Bytes a folder takes on its disk.
pub fn on_disk(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // A segment may be deleted while it is counted.
        let Ok(meta) = entry.metadata() else { continue };
        bytes += match meta.is_dir() {
            true => on_disk(&entry.path()).unwrap_or(0),
            false => meta.blocks() * 512,
        };
    }
    Ok(bytes)
}

#[expect(clippy::cast_precision_loss, reason = "bytes below 2^53")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

/// Space: per reading, over outages, and at the cap.
pub fn disk(bench: &mut Bench) -> Result<()> {
    let count = bench.amount(2000, 1_000_000, 10_000_000);
    let dir = bench.folder()?;
    fill(&dir, GATEWAY, "t", count)?;
    let line = |bench, target| Line {
        bench,
        unit: "bytes",
        target,
    };
    let logical = raw(1000, 0)?.len() as u64 * count / 1000;
    let used = on_disk(&dir)?;
    bench.absolute(
        line("disk", Target::AtMost(1.8)),
        float(used),
        float(logical),
    )?;
    fs::remove_dir_all(&dir)?;
    // Some 25 segments: where the oldest and the newest begin and end is chance.
    let outage = bench.amount(2000, 1_000_000, 1_000_000);
    let dir = bench.folder()?;
    let peaks = outages(&dir, outage)?;
    let (second, sixth) = (peaks[1], peaks[5]);
    bench.absolute(
        line("disk-outages", Target::AtMost(1.05)),
        float(sixth),
        float(second),
    )?;
    let capped = config::Queue {
        max_bytes: bench.amount(8, 64, 64) << 20,
        segment_bytes: bench.amount(1, 8, 8) << 20,
        ..settings()
    };
    let dir = bench.folder()?;
    let most = most_at_a_cap(&dir, &capped)?;
    bench.absolute(
        line("disk-cap", Target::AtMost(1.0)),
        float(most),
        float(capped.max_bytes + capped.segment_bytes),
    )
}

/// Space at the end of each of six outages with a drain behind each.
fn outages(dir: &Path, count: u64) -> Result<[u64; 6]> {
    let (
        Opened {
            mut writer,
            mut reader,
            lane,
        },
        conservation,
    ) = open(dir, GATEWAY, "t", &settings())?;
    let offsets = BTreeMap::from([(0, 0)]);
    let mut peaks = [0; 6];
    let mut from = 0;
    for peak in &mut peaks {
        for _ in 0..count / 1000 {
            conservation.received(1000);
            writer.commit(&messages("t", from, 1000)?, now()?)?;
            from += 1000;
        }
        *peak = on_disk(dir)?;
        while lane.stat().readings > 0 {
            let some = reader.next(1000, now()?)?.len();
            ensure!(
                some > 0,
                "{} readings do not come out",
                lane.stat().readings
            );
            reader.acknowledge(some, &offsets, now()?)?;
        }
        writer.tick(now()?)?;
    }
    writer.close(now()?)?;
    Ok(peaks)
}

/// The most space a lane takes that is written three times over its cap.
fn most_at_a_cap(dir: &Path, capped: &config::Queue) -> Result<u64> {
    let (
        Opened {
            mut writer, lane, ..
        },
        conservation,
    ) = open(dir, GATEWAY, "t", capped)?;
    let (mut from, mut most) = (0, 0);
    let mut written = 0;
    while written < 3 * capped.max_bytes {
        let before = lane.stat().written_bytes;
        conservation.received(1000);
        writer.commit(&messages("t", from, 1000)?, now()?)?;
        from += 1000;
        written += lane.stat().written_bytes.saturating_sub(before);
        most = most.max(on_disk(dir)?);
    }
    writer.close(now()?)?;
    Ok(most)
}

/// Bytes written per reading at 100 and 1 000 readings a second, a commit each 100 ms.
pub fn wear(bench: &mut Bench) -> Result<()> {
    let commits = bench.amount(3, 60, 600);
    for (name, size) in [("wear-100", 10), ("wear-1000", 100)] {
        let line = Line {
            bench: name,
            unit: "B/reading",
            target: Target::AtMost(2.0),
        };
        bench.compare_bytes(
            [line],
            |bench| Ok([wear_raw(&bench.folder()?, commits, size)?]),
            |bench| Ok([wear_ours(&bench.folder()?, commits, size)?]),
        )?;
    }
    Ok(())
}

/// Without a pace: a raw append writes the same pages however long it waits between them.
fn wear_raw(dir: &Path, commits: u64, size: u64) -> Result<f64> {
    let mut file = File::options()
        .append(true)
        .create(true)
        .open(dir.join("raw"))?;
    let before = Usage::own()?.written;
    for at in 0..commits {
        file.write_all(&raw(size, at * size)?)?;
        file.sync_data()?;
    }
    Ok(float(Usage::own()?.written - before) / float(commits * size))
}

/// At its pace, for the head is written by the clock.
fn wear_ours(dir: &Path, commits: u64, size: u64) -> Result<f64> {
    let (Opened { mut writer, .. }, conservation) = open(dir, GATEWAY, "t", &settings())?;
    conservation.received((commits + 1) * size);
    writer.commit(&messages("t", 0, size)?, now()?)?;
    let before = Usage::own()?.written;
    let start = Instant::now();
    for at in 1..=commits {
        let due = Duration::from_millis(100) * u32::try_from(at)?;
        thread::sleep(due.saturating_sub(start.elapsed()));
        writer.commit(&messages("t", at * size, size)?, now()?)?;
    }
    let written = Usage::own()?.written - before;
    writer.close(now()?)?;
    Ok(float(written) / float(commits * size))
}
