//! The agent and its disk: the rows of the fault matrix that need no service but the embedded ones.
//! The loops are short here; `dev/chaos` runs the same ones for hours.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::{
    chaos::{
        bench::{Bench, DRAIN, End, log_has},
        disk, kills, power,
        report::Report,
        rot,
        shim::{Calls, Errno, FaultyDisk},
    },
    memory_limit::MemoryLimit,
    wait,
};

use crate::verdict::{bytes, clean, finish, rest};

/// Every run prints its seed; put it here to repeat its decisions.
const SEED: u64 = 20_261_123;
const SMALL: &str = "segment_bytes = \"64KiB\"\n";

/// Root is had in CI; elsewhere the test says that it proved nothing.
fn is_root(test: &str) -> bool {
    let root = power::is_possible();
    if !root {
        eprintln!("SKIPPED {test}: this needs root");
    }
    root
}

fn on_a_faulty_disk(name: &str, window: u64) -> Result<(Bench, FaultyDisk)> {
    let mut bench = Bench::new(name, window, SMALL)?;
    let disk = FaultyDisk::new(&bench.state, &bench.dir.join("disk-control"))?;
    bench.use_disk(&disk);
    Ok((bench, disk))
}

/// Row 1.
#[test]
fn an_agent_killed_at_a_random_microsecond_keeps_what_it_acknowledged() -> Result<()> {
    clean(&kills::run(60, SEED, |_| Ok(()))?)
}

/// Row 3.
#[test]
fn a_power_cut_in_the_middle_of_writing_costs_nothing_that_was_acknowledged() -> Result<()> {
    if is_root("power cut") {
        clean(&power::run(12, SEED, |_| Ok(()))?)?;
    }
    Ok(())
}

/// Row 4.
#[test]
fn a_power_cut_in_the_first_moments_of_a_store_costs_nothing_that_was_acknowledged() -> Result<()> {
    if is_root("power cut of a new store") {
        clean(&power::run_on_new_stores(8, SEED)?)?;
    }
    Ok(())
}

/// Rows 6 to 9. One file each, in every segment that has it.
#[test]
fn a_damaged_file_of_the_queue_costs_exactly_what_is_declared() -> Result<()> {
    type Damage = fn(&Path) -> Result<()>;
    let damages: [(&str, &str, Damage); 6] = [
        ("an empty snapshot", "snap.", |file| {
            Ok(fs::write(file, [])?)
        }),
        ("a damaged conf", "conf", |file| {
            Ok(fs::write(file, [0xff; 70])?)
        }),
        ("a log cut short", "db", |file| {
            let length = fs::metadata(file)?.len();
            Ok(fs::File::options()
                .write(true)
                .open(file)?
                .set_len(length / 3)?)
        }),
        ("an empty log", "db", |file| Ok(fs::write(file, [])?)),
        ("a head that is gone", "head", |file| {
            Ok(fs::remove_file(file)?)
        }),
        ("a damaged slot of the head", "head", |file| {
            let mut bytes = fs::read(file)?;
            let middle = bytes.len() / 4;
            bytes[middle] ^= 1;
            Ok(fs::write(file, bytes)?)
        }),
    ];
    let mut bench = rot::bench()?;
    let original = rot::Original::make(&mut bench, "stopped", true)?;
    let mut all = Report::new(SEED);
    for (name, file, damage) in damages {
        let report = rot::once(&mut bench, &original, |lane| {
            let mut found = Vec::new();
            find(lane, file, &mut found)?;
            ensure!(!found.is_empty(), "no {file} in the queue");
            damage(&found[found.len() / 2])
        })?;
        ensure!(report.is_clean(), "{name}: {report}");
        all.add(report);
    }
    ensure!(all.declared_lost > 0, "nothing was damaged: {all}");
    bench.end(&all);
    clean(&all)
}

fn find(dir: &Path, name: &str, found: &mut Vec<std::path::PathBuf>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(dir)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        if entry.file_type()?.is_dir() {
            find(&entry.path(), name, found)?;
        } else if entry.file_name().to_string_lossy().starts_with(name) {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// Row 6: what comes after the copy was made has identities of its own, in both boxes.
#[test]
fn a_store_rolled_back_to_an_older_copy_never_gives_an_identity_twice() -> Result<()> {
    let mut report = Report::new(SEED);
    let mut bench = Bench::new("rolled-back", 100, SMALL)?;
    bench.feed.allow(300);
    bench.start_and_wait(&mut report)?;
    bench.drain(&mut report)?;
    bench.kill()?;
    let copy = bench.dir.join("copy");
    rot::copy(&bench.state, &copy)?;
    for _ in 0..3 {
        bench.feed.allow(300);
        bench.start_and_wait(&mut report)?;
        bench.drain(&mut report)?;
        bench.kill()?;
        report.fault("rolled-back");
        fs::remove_dir_all(&bench.state)?;
        rot::copy(&copy, &bench.state)?;
    }
    bench.start_and_wait(&mut report)?;
    finish(bench, report)
}

/// Row 10.
#[test]
fn a_disk_filled_by_somebody_else_stops_acknowledgements_and_nothing_else() -> Result<()> {
    disk_that_takes_nothing(Errno::NO_SPACE)
}

/// Row 13.
#[test]
fn a_disk_that_turned_read_only_stops_acknowledgements_and_nothing_else() -> Result<()> {
    disk_that_takes_nothing(Errno::READ_ONLY)
}

fn disk_that_takes_nothing(error: Errno) -> Result<()> {
    let mut report = Report::new(SEED);
    let (mut bench, disk) = on_a_faulty_disk("disk-takes-nothing", 50)?;
    bench.feed.allow(500);
    bench.start_and_wait(&mut report)?;
    bench.feed.wait_settled(DRAIN)?;
    let process = bench.agent()?.identity();
    for round in 0..3 {
        disk.fail_all(Calls::CHANGES, error)?;
        report.fault("disk-takes-nothing");
        let before = bench.feed.obligations();
        bench.feed.allow(200);
        wait::until_true("the disk to be shown as down", DRAIN, || {
            Ok(!bench.status(&mut report)?.ready)
        })?;
        // Commits tried again and again, and each refused.
        wait_refused(&disk, 5)?;
        let told = bench.feed.obligations() - before;
        ensure!(told == 0, "{told} readings acknowledged that no disk has");
        if round == 2 {
            // Also through a kill: the disk is still bad when the next one starts.
            bench.kill()?;
            bench.start()?;
            wait_refused_or_ended(&mut bench, &disk)?;
        }
        disk.heal()?;
        // Row 10 asks for five seconds; the machine is shared.
        settle(&mut bench)?;
        if round < 2 {
            ensure!(
                bench.agent()?.identity() == process,
                "the agent was started again"
            );
        }
    }
    finish(bench, report)
}

/// Waits until all is acknowledged. An agent that started on a disk that refuses everything may give up a moment after
/// that is over, and is started again, as by its service manager.
fn settle(bench: &mut Bench) -> Result<()> {
    wait::until_true("every reading to be acknowledged", DRAIN, || {
        if bench.ended()?.is_some() {
            bench.start()?;
        }
        Ok(bench.feed.is_settled())
    })
}

/// Waits until the disk has refused so many more calls.
fn wait_refused(disk: &FaultyDisk, more: u64) -> Result<()> {
    let wanted = disk.failed()? + more;
    wait::until_true("the disk to be asked", DRAIN, || {
        Ok(disk.failed()? >= wanted)
    })
}

/// Waits until an agent has met a disk that refuses everything, and gone on or given up.
fn wait_refused_or_ended(bench: &mut Bench, disk: &FaultyDisk) -> Result<()> {
    let before = disk.failed()?;
    wait::until_true("the disk to be asked", DRAIN, || {
        Ok(disk.failed()? > before || bench.ended()?.is_some())
    })
}

/// Rows 10, 12 and 13, for what is stored already: a disk that takes nothing gives nothing away.
#[test]
fn a_backlog_outlives_a_disk_that_takes_nothing_while_it_is_forwarded() -> Result<()> {
    for error in [Errno::IO, Errno::NO_SPACE, Errno::READ_ONLY] {
        let mut report = Report::new(SEED);
        let (mut bench, disk) = on_a_faulty_disk("backlog", 100)?;
        bench.embedded.kafka_down()?;
        for _ in 0..4 {
            bench.feed.allow(400);
            bench.start_and_wait(&mut report)?;
            bench.feed.wait_settled(DRAIN)?;
            bench.stop()?;
        }
        bench.start_and_wait(&mut report)?;
        disk.fail_all(Calls::CHANGES, error)?;
        report.fault("disk-takes-nothing");
        bench.embedded.kafka_up()?;
        wait_refused(&disk, 20)?;
        ensure!(bench.ended()?.is_none(), "the agent ended: {error:?}");
        disk.heal()?;
        bench.drain(&mut report)?;
        ensure!(report.declared_lost == 0, "{error:?}: {report}");
        finish(bench, report)?;
    }
    Ok(())
}

/// Row 12.
#[test]
fn a_failed_fdatasync_is_written_again_with_the_same_identities() -> Result<()> {
    let mut report = Report::new(SEED);
    let (mut bench, disk) = on_a_faulty_disk("failed-sync", 20)?;
    bench.feed.allow(200);
    bench.start_and_wait(&mut report)?;
    bench.feed.wait_settled(DRAIN)?;
    for number in 1..=6 {
        disk.fail(Calls::SYNCS, Errno::IO, number, number)?;
        report.fault("failed-sync");
        // At most as many as are on their way fit into one commit, so there are ten syncs at least.
        bench.feed.allow(200);
        bench.feed.wait_settled(DRAIN)?;
        ensure!(disk.failed()? > 0, "no sync failed");
        // What the failed one may have left must not come to life again.
        bench.kill()?;
        bench.start_and_wait(&mut report)?;
    }
    disk.heal()?;
    finish(bench, report)
}

/// Row 14.
#[test]
fn a_disk_that_takes_two_seconds_to_sync_holds_sources_back_in_flat_memory() -> Result<()> {
    let mut report = Report::new(SEED);
    let (mut bench, disk) = on_a_faulty_disk("slow-sync", 1000)?;
    // The watchdog is content: half of what the unit allows.
    let watchdog = ("WATCHDOG_USEC".to_owned(), "60000000".into());
    bench.environment.push(watchdog);
    bench.start_and_wait(&mut report)?;
    bench.feed.allow(100);
    bench.feed.wait_settled(DRAIN)?;
    let before = bench.agent()?.peak_memory()?;
    disk.slow(2000)?;
    report.fault("slow-sync");
    bench.feed.allow(1500);
    bench.feed.wait_settled(DRAIN)?;
    ensure!(disk.slept()? > 1, "no sync was slow");
    let grown = bench.agent()?.peak_memory()?.saturating_sub(before);
    ensure!(grown < 32 << 20, "{grown} bytes more than before");
    ensure!(!log_has(&bench.log(), "loop makes no progress"));
    disk.heal()?;
    finish(bench, report)
}

/// Row 15, with seconds for minutes: no timer of ours is longer than the pause.
#[test]
fn an_agent_that_was_stopped_and_goes_on_loses_nothing() -> Result<()> {
    let mut report = Report::new(SEED);
    let mut bench = Bench::new("frozen", 200, SMALL)?;
    bench.start_and_wait(&mut report)?;
    for _ in 0..3 {
        bench.feed.allow(500);
        bench.agent()?.freeze()?;
        // Time is the fault.
        std::thread::sleep(Duration::from_secs(2));
        bench.agent()?.thaw()?;
        report.fault("frozen");
        bench.feed.wait_settled(DRAIN)?;
    }
    finish(bench, report)
}

fn dropped(bench: &Bench, report: &mut Report) -> Result<u64> {
    Ok(bench.status(report)?.balance.dropped.values().sum())
}

/// Row 11.
#[test]
fn a_queue_at_its_cap_drops_the_oldest_and_names_them_exactly() -> Result<()> {
    let mut report = Report::new(SEED);
    // What is on its way to Kafka is never dropped: 4 000 readings at most, far below the cap.
    let queue = "segment_bytes = \"1MiB\"\nmax_bytes = \"6MiB\"\n";
    let mut bench = Bench::new("cap", 1000, queue)?;
    bench.embedded.kafka_down()?;
    bench.start_and_wait(&mut report)?;
    bench.feed.allow(80_000);
    bench.feed.wait_settled(DRAIN)?;
    wait::until_true("the cap to be reached", DRAIN, || {
        Ok(dropped(&bench, &mut report)? > 0)
    })?;
    // I5: the cap and one segment. What is dropped may be deleted a moment after the last acknowledgement.
    let mut used = 0;
    wait::until_true("the queue to be within its cap", DRAIN, || {
        used = bytes(&bench.lane())?;
        Ok(used < (6 << 20) + (2 << 20))
    })
    .with_context(|| format!("{used} bytes on disk"))?;
    report.fault("cap");
    bench.embedded.kafka_up()?;
    bench.drain(&mut report)?;
    let dropped = dropped(&bench, &mut report)?;
    rest(&mut bench, &mut report)?;
    bench.judge(&mut report)?;
    ensure!(
        report.declared_lost == dropped,
        "{dropped} dropped: {report}"
    );
    bench.end(&report);
    clean(&report)
}

/// A bench whose agent has so much memory, as root on a machine with control groups.
fn on_a_small_box(name: &str, window: u64, bytes: u64) -> Result<(Bench, MemoryLimit)> {
    let limit = MemoryLimit::new(bytes)?;
    let mut bench = Bench::new(name, window, "segment_bytes = \"1MiB\"\n")?;
    // As docs/guarantees.md says for a small box.
    bench.environment = vec![("MALLOC_ARENA_MAX".to_owned(), "1".into())];
    let program = limit.program(&harness::binary("edge-agent")?, &bench.dir)?;
    bench.use_program(program);
    Ok((bench, limit))
}

/// Row 16.
#[test]
fn a_flood_within_a_memory_limit_neither_ends_the_agent_nor_costs_a_reading() -> Result<()> {
    if !is_root("memory limit") {
        return Ok(());
    }
    let mut report = Report::new(SEED);
    let (mut bench, _limit) = on_a_small_box("memory-limit", 2000, 128 << 20)?;
    bench.embedded.kafka_down()?;
    bench.start_and_wait(&mut report)?;
    bench.feed.allow(30_000);
    bench.feed.wait_settled(DRAIN)?;
    report.fault("flood");
    bench.embedded.kafka_up()?;
    bench.drain(&mut report)?;
    ensure!(bench.ended()?.is_none(), "the agent ended");
    finish(bench, report)
}

/// Row 16, where the limit is far too small: the process ends wherever it asks for more, and that is one
/// more crash.
#[test]
fn an_agent_that_runs_out_of_memory_in_a_flood_loses_nothing() -> Result<()> {
    if !is_root("out of memory") {
        return Ok(());
    }
    let mut report = Report::new(SEED);
    let (mut bench, _limit) = on_a_small_box("out-of-memory", 1000, 24 << 20)?;
    let mut crashes = 0;
    for _ in 0..4 {
        bench.start()?;
        bench.feed.allow(5000);
        wait::until_true("the end, or the work done", DRAIN, || {
            Ok(bench.ended()?.is_some() || bench.feed.is_settled())
        })?;
        report.fault("out-of-memory");
        crashes += u32::from(bench.kill()? == Some(End::Crash));
    }
    ensure!(crashes > 0, "memory sufficed: {report}");
    // On a box that has enough.
    bench.use_program(harness::binary("edge-agent")?);
    bench.start_and_wait(&mut report)?;
    finish(bench, report)
}

/// Rows 16 and 22. The rate in effect is five readings in a second at most, so that fifty times of it is what any
/// machine takes.
#[test]
fn a_flood_of_fifty_times_the_rate_is_taken_in_flat_memory() -> Result<()> {
    const CALM: u64 = 10;
    const FLOOD: u64 = 10_000;
    let mut report = Report::new(SEED);
    let mut bench = Bench::new("flood", 2000, "")?;
    bench.embedded.kafka_down()?;
    bench.start_and_wait(&mut report)?;
    let taken = |bench: &Bench, readings: u64| {
        let began = Instant::now();
        bench.feed.allow(readings);
        bench.feed.wait_settled(DRAIN)?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        anyhow::Ok(readings as f64 / began.elapsed().as_secs_f64())
    };
    bench.feed.pace(Duration::from_millis(200));
    let calm = taken(&bench, CALM)?;
    bench.feed.pace(Duration::ZERO);
    report.fault("flood");
    let (mut rates, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        rates.push(taken(&bench, FLOOD)?);
        peaks.push(bench.agent()?.peak_memory()? >> 20);
        bench.status(&mut report)?;
    }
    let fastest = rates.iter().copied().fold(0.0, f64::max);
    ensure!(
        fastest >= 50.0 * calm,
        "{rates:.0?} in a second are no flood where {calm:.1} were before"
    );
    // Flat: what the first part of the flood took is what all of it takes, whatever lies on the disk by then.
    ensure!(peaks[3] <= peaks[0] + 16, "{peaks:?} MiB of memory");
    ensure!(peaks[3] < 128, "{peaks:?} MiB of memory");
    let owed = CALM + 4 * FLOOD;
    let told = bench.feed.obligations();
    ensure!(told == owed, "{told} of {owed} acknowledged");
    bench.embedded.kafka_up()?;
    bench.drain(&mut report)?;
    rest(&mut bench, &mut report)?;
    bench.judge(&mut report)?;
    ensure!(
        (report.stored, report.declared_lost) == (owed, 0),
        "of {owed}: {report}"
    );
    bench.end(&report);
    clean(&report)
}

/// Some calls of a run fail; `dev/chaos --io-errors 1` fails every one.
#[test]
fn any_io_call_may_fail_without_a_loss_or_a_crash() -> Result<()> {
    let (mut bench, disk) = disk::bench()?;
    let calls = disk::count_calls(&mut bench, &disk)?;
    let mut all = Report::new(SEED);
    for part in 1..=8 {
        let number = (calls * part / 9).max(1);
        for error in [Errno::IO, Errno::NO_SPACE] {
            all.add(disk::fail_one(&mut bench, &disk, number, error)?);
        }
    }
    bench.end(&all);
    clean(&all)
}
