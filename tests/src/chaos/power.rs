//! Power cuts while the agent writes as fast as it can: its state lies on an ext4 of its own, on a loop
//! device, which is shut down without flushing its journal. What was not made durable is gone then, as
//! after a pulled plug; the page cache does not help. Root only.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{bench::Bench, dice::Dice, progress::Progress, report::Report, shim};
use crate::wait;

/// Small segments: a cut meets sealing and deleting often.
const QUEUE: &str = "segment_bytes = \"64KiB\"\n";
const WINDOW: u64 = 400;
/// More than an agent takes in a life: it is always in the middle of a commit.
const READINGS: u64 = 100_000;
const DRAIN_EVERY: u64 = 20;
/// One cut in so many strikes a store that has just been created (row 4).
const NEW_EVERY: u64 = 10;
const BEGINNING: Duration = Duration::from_millis(250);
const LIFE: Duration = Duration::from_millis(250);
/// By when nobody has a file of the disk open any more, or a loop device is free.
const FREED: Duration = Duration::from_secs(60);

/// A file system whose power can be cut.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    at: PathBuf,
    cutter: PathBuf,
}

impl Disk {
    /// Makes one and mounts it at `dir/disk`.
    ///
    /// # Errors
    /// Not root, or the system has no loop devices.
    pub fn make(dir: &Path, bytes: u64) -> Result<Self> {
        let disk = Self {
            image: dir.join("disk.img"),
            at: dir.join("disk"),
            cutter: shim::program("powercut.c")?,
        };
        fs::create_dir_all(&disk.at)?;
        File::create(&disk.image)?.set_len(bytes)?;
        execute(
            Command::new("mkfs.ext4")
                .args(["-q", "-F"])
                .arg(&disk.image),
        )?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where its files are.
    #[must_use]
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Cuts the power: from now on every write fails and nothing more reaches the image.
    ///
    /// # Errors
    /// The file system does not know how.
    pub fn cut(&self) -> Result<()> {
        execute(Command::new(&self.cutter).arg(&self.at))
    }

    /// Power is back: the cache is gone and the journal is replayed.
    ///
    /// # Errors
    /// It cannot be mounted; somebody may still have a file open.
    pub fn back(&self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    fn mount(&self) -> Result<()> {
        // Others look for a free loop device at the same time, and may have taken the one that was found.
        wait::until_true("mounting", FREED, || {
            execute(
                Command::new("mount")
                    .args(["-o", "loop"])
                    .args([&self.image, &self.at]),
            )
            .map(|()| true)
        })
    }

    fn unmount(&self) -> Result<()> {
        wait::until_true("unmounting", FREED, || {
            execute(Command::new("umount").arg(&self.at)).map(|()| true)
        })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("{} stays mounted: {error:#}", self.at.display());
        }
    }
}

fn execute(command: &mut Command) -> Result<()> {
    let name = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("start {name}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}", text.trim());
    Ok(())
}

/// Whether power can be cut here.
#[must_use]
pub fn is_possible() -> bool {
    rustix::process::geteuid().is_root()
}

/// Cuts the power `count` times.
///
/// # Errors
/// Not root, or the bench failed.
pub fn run(count: u64, seed: u64, setup: impl FnOnce(&mut Bench) -> Result<()>) -> Result<Report> {
    on_a_disk(seed, setup, |bench, disk, dice, report| {
        play(bench, disk, count, dice, report)
    })
}

/// Cuts the power `count` times in the first moments of a store (row 4).
///
/// # Errors
/// Not root, or the bench failed.
pub fn run_on_new_stores(count: u64, seed: u64) -> Result<Report> {
    on_a_disk(
        seed,
        |_| Ok(()),
        |bench, disk, dice, report| {
            for _ in 0..count {
                empty(bench, report)?;
                bench.feed.allow(READINGS);
                bench.start()?;
                std::thread::sleep(dice.time_below(BEGINNING));
                disk.cut()?;
                bench.kill()?;
                bench.feed.hold();
                disk.back()?;
                report.fault("power-cut");
            }
            end(bench, report)
        },
    )
}

fn on_a_disk(
    seed: u64,
    setup: impl FnOnce(&mut Bench) -> Result<()>,
    play: impl FnOnce(&mut Bench, &Disk, &mut Dice, &mut Report) -> Result<()>,
) -> Result<Report> {
    if !is_possible() {
        bail!("power cuts need root, for mount and a loop device");
    }
    let mut report = Report::new(seed);
    let mut bench = Bench::new("power-cuts", WINDOW, QUEUE)?;
    let disk = Disk::make(&bench.dir, 192 << 20)?;
    bench.state = disk.at().join("state");
    bench.configure()?;
    setup(&mut bench)?;
    let done = play(&mut bench, &disk, &mut Dice::new(seed), &mut report);
    drop(bench.kill());
    drop(disk);
    if done.is_err() {
        report.unexplained("did not come to its end");
    }
    bench.end(&report);
    done.map(|()| report)
}

fn play(
    bench: &mut Bench,
    disk: &Disk,
    count: u64,
    dice: &mut Dice,
    report: &mut Report,
) -> Result<()> {
    let progress = Progress::new("power cuts", count);
    let begin = Instant::now();
    for cycle in 0..count {
        progress.at(cycle);
        if cycle % NEW_EVERY == NEW_EVERY - 1 {
            empty(bench, report)?;
        }
        bench.feed.allow(READINGS);
        bench.start_and_wait(report)?;
        if cycle % DRAIN_EVERY == DRAIN_EVERY - 1 {
            bench.feed.hold();
            bench.drain(report)?;
            bench.feed.allow(READINGS);
        }
        std::thread::sleep(dice.time_below(LIFE));
        disk.cut()?;
        bench.kill()?;
        bench.feed.hold();
        disk.back()?;
        report.fault("power-cut");
    }
    report.seconds = begin.elapsed().as_secs();
    end(bench, report)
}

/// A cut may come before the agent has taken anything, and each may, where starts are slow: there is something owed in
/// the end, and what was cut takes readings.
fn end(bench: &mut Bench, report: &mut Report) -> Result<()> {
    bench.feed.allow(WINDOW);
    bench.start_and_wait(report)?;
    bench.drain(report)?;
    bench.stop()?;
    bench.judge(report)
}

/// Leaves nothing of the store, once all of it is in Kafka and the disk knows that it is gone.
fn empty(bench: &mut Bench, report: &mut Report) -> Result<()> {
    bench.start_and_wait(report)?;
    bench.drain(report)?;
    bench.stop()?;
    fs::remove_dir_all(&bench.state)?;
    rustix::fs::sync();
    Ok(())
}
