//! The n-th I/O call fails, for every n: one run of the agent each, with EIO and with ENOSPC.
//!
//! One failing call must cost nothing: no reading, not even a declared one, and no crash. An agent may end with an error when the
//! call fails while it starts; the service manager starts it again, and so does this.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{
    bench::{Bench, DRAIN, End},
    progress::Progress,
    report::Report,
    shim::{Calls, Errno, FaultyDisk},
};

/// Segments are sealed and deleted within the run.
const QUEUE: &str = "segment_bytes = \"64KiB\"\nsegment_age = \"1s\"\n";
/// Few on their way, so that the run has many commits.
const WINDOW: u64 = 10;
/// Readings of one run.
pub const READINGS: u64 = 500;

/// A bench on a disk that can fail.
///
/// # Errors
/// Something cannot be started.
pub fn bench() -> Result<(Bench, FaultyDisk)> {
    let mut bench = Bench::new("disk", WINDOW, QUEUE)?;
    let disk = FaultyDisk::new(&bench.state, &bench.dir.join("disk-control"))?;
    bench.use_disk(&disk);
    Ok((bench, disk))
}

/// Counts the calls of a run without a fault.
///
/// # Errors
/// The bench failed.
pub fn count_calls(bench: &mut Bench, disk: &FaultyDisk) -> Result<u64> {
    let mut report = Report::new(0);
    disk.fail(Calls::ALL, Errno::IO, 0, 0)?;
    one(bench, &mut report)?;
    let calls = disk.calls()?;
    ensure!(report.is_clean(), "without a fault: {report}");
    Ok(calls)
}

/// Fails the call `number` of a run.
///
/// # Errors
/// The bench failed; what the agent did wrong is in the report.
pub fn fail_one(bench: &mut Bench, disk: &FaultyDisk, number: u64, error: Errno) -> Result<Report> {
    let (name, which) = match error {
        Errno::IO => ("eio", Calls::ALL),
        // Nobody needs space to read.
        _ => ("enospc", Calls::CHANGES),
    };
    let mut report = Report::new(0);
    disk.fail(which, error, number, number)?;
    if let Err(error) = one(bench, &mut report) {
        report.unexplained(format!("{error:#}"));
    }
    if report.declared_lost > 0 {
        let declared = report.declared_lost;
        report.unexplained(format!("{declared} readings declared lost"));
    }
    if disk.failed()? > 0 {
        report.fault(name);
    }
    if !report.is_clean() {
        report.note(format!("… with {name} at call {number}: {}", disk.what()?));
        let kept = bench.dir.join(format!("{name}-{number}.log"));
        fs::copy(bench.log(), kept)?;
    }
    Ok(report)
}

/// Every `step`-th call of a run fails, in a run of its own, with both errors; the seed says which of them
/// is the first, so that `step` seeds that follow each other are all of them.
///
/// # Errors
/// The bench failed; what the agent did wrong is in the report.
pub fn run(step: u64, seed: u64) -> Result<Report> {
    let mut report = Report::new(seed);
    let (mut bench, disk) = bench()?;
    let calls = count_calls(&mut bench, &disk)?;
    let progress = Progress::new("failing calls", calls);
    let begin = Instant::now();
    let step = step.max(1);
    for number in (1 + seed % step..=calls).step_by(usize::try_from(step)?) {
        progress.at(number);
        for error in [Errno::IO, Errno::NO_SPACE] {
            let one = fail_one(&mut bench, &disk, number, error)?;
            if !one.is_clean() {
                eprintln!("call {number}: {one}");
            }
            report.add(one);
        }
    }
    report.seconds = begin.elapsed().as_secs();
    bench.end(&report);
    Ok(report)
}

/// A whole run: readings, all of them acknowledged and forwarded, and a stop. An agent that ends is
/// started again.
fn one(bench: &mut Bench, report: &mut Report) -> Result<()> {
    bench.reset()?;
    drop(fs::remove_file(bench.log()));
    bench.feed.allow(READINGS);
    let begin = Instant::now();
    bench.start()?;
    while !(bench.feed.is_settled() && bench.is_through(READINGS)) {
        if let Some(end) = bench.ended()? {
            if end == End::Crash {
                report.unexplained("the agent crashed");
            }
            bench.start()?;
        }
        ensure!(begin.elapsed() < DRAIN, "not through after {DRAIN:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    bench.drain(report)?;
    bench.stop()?;
    bench.judge(report)
}
