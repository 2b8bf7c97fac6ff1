//! Bit rot: a copy of a queue in which one file is damaged, again and again.
//!
//! The agent must start, take new readings at once, forward what is left, and state a loss for exactly
//! what is not: nothing is missing without a statement, nothing is stated that arrived. The queues were
//! left as a stop leaves them, or as a kill long after the last commit does; damage to the last second
//! before a crash looks like a torn write and is no loss anybody could know of (docs/guarantees.md).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use protocol::RecordId;

use super::{
    bench::{Bench, DRAIN},
    dice::Dice,
    progress::Progress,
    report::Report,
};
use crate::wait;

const QUEUE: &str = "segment_bytes = \"64KiB\"\n";
const WINDOW: u64 = 200;
/// Starts of the agent that the queue is made of: a segment each at least.
const LIVES: u64 = 6;
const READINGS: u64 = 120;
/// New readings after each damage.
const NEW: u64 = 5;
/// A second for the head, and some.
const SETTLED: Duration = Duration::from_millis(2500);

/// What can happen to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    FlippedBit,
    ZeroedPage,
    Truncated,
    Emptied,
    Removed,
    Garbage,
}

const DAMAGES: [(Damage, &str); 6] = [
    (Damage::FlippedBit, "flipped-bit"),
    (Damage::ZeroedPage, "zeroed-4KiB"),
    (Damage::Truncated, "truncated"),
    (Damage::Emptied, "emptied"),
    (Damage::Removed, "removed"),
    (Damage::Garbage, "garbage-at-end"),
];

/// A queue to damage copies of, and what is in it.
#[derive(Debug)]
pub struct Original {
    state: PathBuf,
    files: Vec<PathBuf>,
    readings: BTreeMap<RecordId, u64>,
}

/// A bench for damaged copies.
///
/// # Errors
/// Something cannot be started.
pub fn bench() -> Result<Bench> {
    Bench::new("bit-rot", WINDOW, QUEUE)
}

/// Damages one copy as `damage` says, given the folder of the lane.
///
/// # Errors
/// The bench failed; what the agent did wrong is in the report.
pub fn once(
    bench: &mut Bench,
    original: &Original,
    damage: impl FnOnce(&Path) -> Result<()>,
) -> Result<Report> {
    let mut report = Report::new(0);
    bench.reset()?;
    copy(&original.state, &bench.state)?;
    damage(&bench.lane())?;
    look(bench, original, &mut report)?;
    Ok(report)
}

/// Damages `count` copies.
///
/// # Errors
/// The bench failed; what the agent did wrong is in the report.
pub fn run(count: u64, seed: u64) -> Result<Report> {
    let mut report = Report::new(seed);
    let mut bench = bench()?;
    let done = play(&mut bench, count, &mut Dice::new(seed), &mut report);
    if done.is_err() {
        report.unexplained("did not come to its end");
    }
    bench.end(&report);
    done.map(|()| report)
}

fn play(bench: &mut Bench, count: u64, dice: &mut Dice, report: &mut Report) -> Result<()> {
    let originals = [
        Original::make(bench, "stopped", true)?,
        Original::make(bench, "killed", false)?,
    ];
    let progress = Progress::new("bit rot", count);
    let begin = Instant::now();
    bench.embedded.kafka_up()?;
    for cycle in 0..count {
        progress.at(cycle);
        let original = dice.one_of(&originals);
        let (what, name) = *dice.one_of(&DAMAGES);
        let file = dice.one_of(&original.files).clone();
        bench.state = bench.dir.join("state");
        bench.reset()?;
        copy(&original.state, &bench.state)?;
        bench.configure()?;
        damage(&bench.state.join(&file), what, dice)
            .with_context(|| format!("damage {}", file.display()))?;
        report.fault(name);
        let found = report.clone();
        look(bench, original, report)
            .with_context(|| format!("cycle {cycle}: {name} of {}", file.display()))?;
        if found.notes.len() < report.notes.len() {
            report.note(format!("… in cycle {cycle}: {name} of {}", file.display()));
            keep(bench, cycle)?;
        }
    }
    report.seconds = begin.elapsed().as_secs();
    Ok(())
}

/// Keeps the log of a cycle that found something.
fn keep(bench: &Bench, cycle: u64) -> Result<()> {
    fs::copy(bench.log(), bench.dir.join(format!("cycle-{cycle}.log")))?;
    Ok(())
}

impl Original {
    /// Fills a queue while Kafka is away, then reads from a copy of it what is in it.
    ///
    /// # Errors
    /// The bench failed.
    pub fn make(bench: &mut Bench, name: &str, stopped: bool) -> Result<Self> {
        let mut report = Report::new(0);
        bench.embedded.kafka_down()?;
        bench.state = bench.dir.join(name);
        bench.configure()?;
        for _ in 0..LIVES {
            bench.feed.allow(READINGS);
            bench.start_and_wait(&mut report)?;
            bench.feed.wait_settled(DRAIN)?;
            if stopped {
                bench.stop()?;
            } else {
                std::thread::sleep(SETTLED);
                // However slow the machine is.
                wait::until_true(
                    "the head to be written after the last commit",
                    DRAIN,
                    || head_is_newest(&bench.lane()),
                )?;
                bench.kill()?;
            }
        }
        let state = bench.state.clone();
        bench.embedded.kafka_up()?;
        bench.state = bench.dir.join("state");
        bench.reset()?;
        copy(&state, &bench.state)?;
        bench.configure()?;
        bench.start_and_wait(&mut report)?;
        bench.drain(&mut report)?;
        bench.kill()?;
        let readings = bench.witness.everything()?.by_id;
        let count = readings.len() as u64;
        ensure!(count == LIVES * READINGS, "{count} readings in a new queue");
        let mut files = Vec::new();
        list(&state, Path::new("queue"), &mut files)?;
        files.sort();
        Ok(Self {
            state,
            files,
            readings,
        })
    }
}

/// Starts the agent on what is left, and accounts for everything.
fn look(bench: &mut Bench, original: &Original, report: &mut Report) -> Result<()> {
    drop(fs::remove_file(bench.log()));
    let first_new = bench.feed.allow(NEW) - NEW;
    bench.start_and_wait(report)?;
    bench.drain(report)?;
    // The stop states what has not been stated yet.
    bench.stop()?;
    let seen = bench.witness.everything()?;
    let mut known: BTreeSet<RecordId> = original.readings.keys().cloned().collect();
    report.obligations += original.readings.len() as u64 + NEW;
    report.stored += seen.readings.len() as u64;
    for (id, k) in &seen.by_id {
        let expected = original.readings.get(id);
        if !known.remove(id) && *k < first_new {
            report.duplicated += 1;
            report.note(format!("reading {k} has a new identity {id}"));
        } else if expected.is_some_and(|expected| expected != k) {
            report.altered += 1;
            report.note(format!("{id} is reading {k}"));
        }
    }
    let new = (first_new..first_new + NEW).filter(|k| !seen.readings.contains_key(k));
    report.lost += new.count() as u64;
    for id in &known {
        if seen.declares(id.epoch, id.sequence) {
            report.declared_lost += 1;
        } else {
            report.lost += 1;
            report.note(format!("missing and not declared: {id}"));
        }
    }
    for loss in seen.losses.values() {
        let ids: Vec<u64> = original
            .readings
            .keys()
            .chain(seen.by_id.keys())
            .filter(|id| id.epoch == loss.epoch && id.sequence >= loss.first)
            .filter(|id| loss.last.is_none_or(|last| id.sequence <= last))
            .map(|id| id.sequence)
            .collect();
        let missing = known.iter().filter(|id| {
            id.epoch == loss.epoch
                && id.sequence >= loss.first
                && loss.last.is_none_or(|last| id.sequence <= last)
        });
        let missing = missing.count() as u64;
        let named = loss.last.map(|last| last - loss.first + 1);
        if named.is_some_and(|named| named != missing) || ids.is_empty() {
            report.unexplained(format!("of {loss:?} only {missing} are missing"));
        }
    }
    Ok(())
}

/// Whether the head of a lane was written when everything else had been.
fn head_is_newest(lane: &Path) -> Result<bool> {
    let mut files = Vec::new();
    list(lane, Path::new(""), &mut files)?;
    let (mut head, mut others) = (None, None);
    for file in files {
        let written = fs::metadata(lane.join(&file))?.modified()?;
        let newest = match file.to_str() {
            Some("head") => &mut head,
            _ => &mut others,
        };
        *newest = (*newest).max(Some(written));
    }
    Ok(head >= others)
}

fn damage(file: &Path, what: Damage, dice: &mut Dice) -> Result<()> {
    let length = fs::metadata(file)?.len();
    let open = || File::options().read(true).write(true).open(file);
    match what {
        Damage::FlippedBit => {
            let at = dice.below(length);
            let mut byte = [0];
            let file = open()?;
            // An empty file has no bit to flip.
            if file.read_at(&mut byte, at)? == 1 {
                byte[0] ^= 1 << dice.below(8);
                file.write_all_at(&byte, at)?;
            }
        }
        Damage::ZeroedPage => {
            let at = dice.below(length.div_ceil(4096)) * 4096;
            let count = usize::try_from((length - at).min(4096))?;
            open()?.write_all_at(&vec![0; count], at)?;
        }
        Damage::Truncated => open()?.set_len(dice.below(length))?,
        Damage::Emptied => open()?.set_len(0)?,
        Damage::Removed => fs::remove_file(file)?,
        Damage::Garbage => {
            let garbage: Vec<u8> = (0..100).flat_map(|_| dice.any().to_le_bytes()).collect();
            open()?.write_all_at(&garbage, length)?;
        }
    }
    Ok(())
}

/// The files under `root/at`, relative to `root`.
fn list(root: &Path, at: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(root.join(at))? {
        let entry = entry?;
        let path = at.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(root, &path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// Copies a folder as it is.
///
/// # Errors
/// The file system refuses.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
