//! What is asked after every fault of the agent, whatever it was: I1 to I9 of docs/guarantees.md.

use std::{fs, path::Path, time::Duration};

use anyhow::{Result, ensure};
use harness::{
    chaos::{bench::Bench, report::Report},
    wait,
};

/// I6: by when everything works again after the last fault. The machine is shared.
const READY: Duration = Duration::from_secs(60);
/// By when what was sent is deleted: a segment at a time, behind the forwarder.
const DELETED: Duration = Duration::from_secs(60);
/// I5: what a queue without readings may hold, with segments of 8 MiB at most.
const EMPTY: u64 = 20 << 20;

/// The zeros are zeros.
pub fn clean(report: &Report) -> Result<()> {
    eprintln!("{report}");
    ensure!(report.is_clean(), "{report}");
    Ok(())
}

/// Lets the agent come to rest, looks at it, ends it, and holds what arrived against what was owed.
pub fn finish(mut bench: Bench, mut report: Report) -> Result<()> {
    // I7 with every look.
    bench.drain(&mut report)?;
    rest(&mut bench, &mut report)?;
    // I1, I2, I3, I8, I9.
    bench.judge(&mut report)?;
    bench.end(&report);
    clean(&report)
}

/// The end of an agent whose queue is empty: I4, I5, I6, and that it ends in order.
pub fn rest(bench: &mut Bench, report: &mut Report) -> Result<()> {
    let ready = wait::until_true("the agent to be ready", READY, || {
        Ok(bench.status(report)?.ready)
    });
    if let Err(error) = ready {
        report.unexplained(format!("I6: {error:#}"));
    }
    let mut kept = 0;
    let deleted = wait::until_true("the empty queue to be small", DELETED, || {
        kept = bytes(&bench.lane())?;
        Ok(kept <= EMPTY)
    });
    if let Err(error) = deleted {
        report.unexplained(format!(
            "I5: {kept} bytes on disk, and no reading: {error:#}"
        ));
    }
    bench.look_at_memory(report)?;
    let status = bench.stop()?;
    if status.is_some_and(|status| !status.success()) {
        report.unexplained(format!("ended with {status:?}"));
    }
    Ok(())
}

/// Bytes of all files below a folder.
pub fn bytes(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // What is being removed may be gone by now.
        let Ok(meta) = entry.metadata() else { continue };
        sum += if meta.is_dir() {
            bytes(&entry.path())?
        } else {
            meta.len()
        };
    }
    Ok(sum)
}
