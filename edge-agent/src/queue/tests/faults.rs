//! Failing disks, crashes between any two steps, and damaged files.

use std::{cell::RefCell, collections::BTreeSet, fs, io, os::unix::fs::FileExt, rc::Rc};

use protocol::control::LossReason;

use super::*;

pub(super) fn failing(name: &'static str, times: u32) {
    let mut left = times;
    fault::set(Some(Box::new(move |step| {
        if step == name && left > 0 {
            left -= 1;
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    })));
}

fn ids(entries: &[Entry]) -> BTreeSet<String> {
    entries
        .iter()
        .map(|entry| entry.record.id.to_string())
        .collect()
}

fn segments(rig: &Rig) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(rig.lane_dir().join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    all.sort();
    all
}

fn losses(rig: &Rig) -> Vec<protocol::control::Loss> {
    rig.lane
        .facts(at(1))
        .into_iter()
        .filter_map(|fact| match fact {
            protocol::control::Fact::Loss(loss) => Some(loss),
            _ => None,
        })
        .collect()
}

#[test]
fn a_failed_commit_is_written_again_with_the_same_identities() {
    for step in [
        "append: before batch",
        "append: before flush",
        "append: before fdatasync",
        "append: durable",
    ] {
        let mut rig = Rig::new(settings());
        rig.store(0..3);
        failing(step, 1);
        rig.conservation.received(2);
        let batch = [plain(3), plain(4)];
        assert!(matches!(rig.retry(&batch, at(0)), Err(CommitError::Io(_))));
        rig.retry(&batch, at(0)).unwrap();
        fault::set(None);
        rig.store(5..7);
        // A kill finds the failed commit in the old segment, perhaps; it must not come twice.
        let mut killed = rig.killed();
        for (name, rig) in [("running", &mut rig), ("killed", &mut killed)] {
            let entries = rig.drain();
            assert_eq!(values(&entries), [0, 1, 2, 3, 4, 5, 6], "{step} {name}");
            assert_eq!(entries[6].record.id.sequence, 6);
            assert_eq!(ids(&entries).len(), 7);
            assert!(losses(rig).is_empty());
        }
    }
}

#[test]
fn a_disk_that_fails_for_hours_is_used_again_once_it_works() {
    let mut rig = Rig::new(settings());
    rig.store(0..3);
    let tries = 300;
    fault::set(Some(Box::new(|step| {
        match ["append: before fdatasync", "probe: written"].contains(&step) {
            true => Err(io::Error::from_raw_os_error(5)),
            false => Ok(()),
        }
    })));
    rig.conservation.received(2);
    let batch = [plain(3), plain(4)];
    for _ in 0..tries {
        let result = rig.retry(&batch, at(0));
        assert!(matches!(result, Err(CommitError::Io(_))), "{result:?}");
    }
    fault::set(None);
    rig.retry(&batch, at(0)).unwrap();
    assert_eq!(values(&rig.drain()), [0, 1, 2, 3, 4]);
    assert!(losses(&rig).is_empty());
}

/// What a store that failed does not give back is the process', whatever lane it was of.
#[test]
fn stores_that_fail_in_several_lanes_end_the_process_as_soon_as_those_of_one_would() {
    let leaked = Leaked::default();
    let mut lanes: Vec<Rig> = (0..3)
        .map(|_| {
            let mut rig = Rig::new(settings());
            rig.writer = rig.writer.map(|writer| writer.counts_with(&leaked));
            rig.store(0..3);
            rig
        })
        .collect();
    let mut well = Rig::new(settings());
    well.writer = well.writer.map(|writer| writer.counts_with(&leaked));
    well.store(0..3);
    for turn in 0..8 {
        let rig = &mut lanes[turn % 3];
        failing("append: before fdatasync", 1);
        let failed = rig.commit(&[plain(7)]);
        fault::set(None);
        assert!(
            matches!(failed, Err(CommitError::Io(_))),
            "{turn}: {failed:?}"
        );
        if turn < 7 {
            rig.commit(&[plain(7)]).unwrap();
        }
    }
    let sick = lanes[7 % 3].commit(&[plain(7)]);
    assert!(matches!(sick, Err(CommitError::Exhausted)), "{sick:?}");
    // What needs no new store is taken until the process ends.
    well.store(3..5);
    for rig in &lanes {
        let found = values(&rig.killed().drain());
        assert!(found.starts_with(&[0, 1, 2]), "{found:?}");
    }
}

#[test]
fn other_readings_after_a_failed_commit_never_get_its_identities() {
    let mut rig = Rig::new(settings());
    rig.store(0..3);
    failing("append: durable", 1);
    assert!(rig.commit(&[plain(3), plain(4)]).is_err());
    fault::set(None);
    rig.store(10..12);
    let mut killed = rig.killed();
    for rig in [&mut rig, &mut killed] {
        let entries = rig.drain();
        assert_eq!(values(&entries), [0, 1, 2, 10, 11]);
        assert_ne!(
            entries[2].record.id.epoch, entries[3].record.id.epoch,
            "a new epoch"
        );
        assert!(losses(rig).is_empty());
    }
}

/// A segment that failed ends where the next one begins. When that next one goes first, nothing says so any more.
#[test]
fn what_a_failed_commit_left_is_no_reading_though_the_segment_behind_it_is_to_be_dropped() {
    let mut rig = Rig::new(settings());
    rig.store(0..3);
    assert_eq!(values(&rig.next(1)), [0], "the first segment is being read");
    failing("append: durable", 1);
    assert!(rig.commit(&[plain(3)]).is_err());
    fault::set(None);
    for values in [10..12, 20..22, 30..32] {
        rig.store(values);
        rig.writer().rotate();
        rig.settle();
    }
    let mut dropped = 0;
    while rig
        .writer()
        .drop_segment(LossReason::DropOldest, at(0), |_| true)
        .unwrap()
    {
        dropped += 1;
    }
    assert_eq!(dropped, 1);
    let mut killed = rig.killed();
    assert_eq!(values(&killed.drain()), [0, 1, 2, 10, 11, 30, 31]);
}

#[test]
fn what_a_failed_commit_left_is_no_reading_though_the_segment_behind_it_is_damaged() {
    let mut rig = Rig::new(settings());
    rig.store(0..3);
    failing("append: durable", 1);
    assert!(rig.commit(&[plain(3)]).is_err());
    fault::set(None);
    rig.store(10..12);
    rig.writer().rotate();
    rig.settle();
    fs::write(segments(&rig)[1].join("db"), b"").unwrap();
    let mut killed = rig.killed();
    assert_eq!(values(&killed.drain()), [0, 1, 2]);
    assert_eq!(losses(&killed).len(), 1);
}

/// Kills the process at every step of a life with commits, seals, reclaims and a failed commit, and
/// starts again on what each kill leaves.
#[test]
fn a_kill_between_any_two_steps_loses_and_doubles_nothing() {
    let small = config::Queue {
        segment_bytes: 32 << 10,
        ..settings()
    };
    let mut rig = Rig::new(small.clone());
    // What was promised so far, and what Kafka has.
    let promised = Rc::new(RefCell::new((0_i64, 0_i64)));
    let crashes = Rc::new(RefCell::new(BTreeMap::<&'static str, u32>::new()));
    let hook = {
        let (promised, crashes, dir) = (promised.clone(), crashes.clone(), rig.dir.clone());
        move |step| {
            let mut seen = crashes.borrow_mut();
            let count = seen.entry(step).or_default();
            *count += 1;
            if *count > 2 && *count % 9 != 0 {
                return Ok(());
            }
            let temp = temp_dir();
            copy(&dir, temp.path());
            let mut again = Rig::at(temp.path(), small.clone());
            let got = values(&again.drain());
            let (stored, acknowledged) = *promised.borrow();
            let wanted: BTreeSet<_> = (acknowledged..stored).collect();
            let have: BTreeSet<_> = got.iter().copied().collect();
            assert_eq!(have.len(), got.len(), "doubled at {step}");
            assert!(
                wanted.is_subset(&have),
                "lost at {step}: {wanted:?} {have:?}"
            );
            assert!(losses(&again).is_empty(), "false loss at {step}");
            again.store(9000..9003);
            assert_eq!(values(&again.drain()), [9000, 9001, 9002]);
            Ok(())
        }
    };
    fault::set(Some(Box::new(hook)));
    let mut next = 0;
    for round in 0..24 {
        let batch: Vec<_> = (next..next + 400).map(plain).collect();
        next += 400;
        rig.commit(&batch).unwrap();
        promised.borrow_mut().0 = next;
        if round % 3 == 2 {
            let entries = rig.next(1000);
            promised.borrow_mut().1 += entries.len() as i64;
            rig.acknowledge(entries.len());
        }
    }
    fault::set(None);
    let seen = crashes.borrow();
    for step in [
        "append: before batch",
        "append: before flush",
        "append: before fdatasync",
        "append: durable",
        "head: before write",
        "head: before fdatasync",
        "head: durable",
        "remove: before rename",
        "remove: renamed",
        "remove: before delete",
        "segment: create",
        "segment: before its name",
        "segment: created",
        "seal: closed",
        "seal: reopened",
        "replace: written",
        "replace: renamed",
        "seal: written",
    ] {
        assert!(seen.contains_key(step), "{step} never happened: {seen:?}");
    }
}

#[test]
fn a_sealing_that_fails_at_any_step_costs_nothing() {
    for step in [
        "seal: closed",
        "seal: reopened",
        "replace: written",
        "replace: renamed",
        "seal: written",
        "head: before write",
        "head: before fdatasync",
    ] {
        let mut rig = Rig::new(config::Queue {
            segment_bytes: 32 << 10,
            ..settings()
        });
        rig.store(0..1);
        let failures = Rc::new(RefCell::new(0));
        let seen = Rc::clone(&failures);
        fault::set(Some(Box::new(move |name| match name == step {
            true => {
                *seen.borrow_mut() += 1;
                Err(io::Error::from_raw_os_error(5))
            }
            false => Ok(()),
        })));
        for start in 0..6 {
            let batch: Vec<_> = (start * 200 + 1..start * 200 + 201).map(plain).collect();
            rig.commit(&batch).unwrap();
        }
        fault::set(None);
        assert!(*failures.borrow() > 0, "{step} never happened");
        let mut killed = rig.killed();
        for (name, rig) in [("running", &mut rig), ("killed", &mut killed)] {
            assert_eq!(
                values(&rig.drain()),
                (0..1201).collect::<Vec<_>>(),
                "{step} {name}"
            );
            assert!(losses(rig).is_empty(), "{step} {name}");
        }
    }
}

/// Four sealed segments and an active one, none acknowledged.
fn five_segments() -> (Rig, i64) {
    let mut rig = Rig::new(config::Queue {
        segment_bytes: 32 << 10,
        ..settings()
    });
    let mut next = 0;
    while rig.lane.stat().segments < 5 {
        let batch: Vec<_> = (next..next + 100).map(plain).collect();
        next += 100;
        rig.commit(&batch).unwrap();
        rig.settle();
    }
    rig.lane.sync_head().unwrap();
    (rig, next)
}

/// Opens a damaged copy: everything is there, or declared lost, exactly.
fn present_or_declared(rig: &mut Rig, committed: i64, what: &str) -> usize {
    let got = values(&rig.drain());
    let have: BTreeSet<_> = got.iter().copied().collect();
    assert_eq!(have.len(), got.len(), "{what}: doubled");
    let declared = losses(rig);
    for value in 0..committed {
        let lost = declared.iter().any(|loss| {
            let sequence = value as u64;
            loss.first <= sequence && loss.last.is_none_or(|last| sequence <= last)
        });
        assert!(
            have.contains(&value) != lost,
            "{what}: {value} lost: {lost}"
        );
    }
    assert_eq!(rig.lane.stat().readings, 0, "{what}");
    rig.store(100_000..100_002);
    assert_eq!(values(&rig.drain()), [100_000, 100_001], "{what}");
    have.len()
}

#[test]
fn a_flipped_bit_in_any_file_is_survived_or_declared() {
    let (rig, committed) = five_segments();
    let mut files = Vec::new();
    for segment in segments(&rig) {
        for file in fs::read_dir(segment).unwrap() {
            let file = file.unwrap().path();
            if file.is_file() {
                files.push(file.strip_prefix(&rig.dir).unwrap().to_owned());
            }
        }
    }
    files.extend(["t/head".into(), "t/lane".into()]);
    for file in files {
        let length = fs::metadata(rig.dir.join(&file)).unwrap().len();
        for part in [0, 1, 2, 5] {
            let place = (length * part / 6).min(length - 1);
            let temp = temp_dir();
            copy(&rig.dir, temp.path());
            let handle = fs::File::options()
                .read(true)
                .write(true)
                .open(temp.path().join(&file))
                .unwrap();
            let mut byte = [0];
            handle.read_exact_at(&mut byte, place).unwrap();
            handle.write_all_at(&[byte[0] ^ 0x10], place).unwrap();
            let what = format!("{} at {place}", file.display());
            let mut again = Rig::at(temp.path(), rig.settings.clone());
            present_or_declared(&mut again, committed, &what);
        }
    }
}

#[test]
fn a_missing_or_empty_file_is_survived_or_declared() {
    let (rig, committed) = five_segments();
    let all = segments(&rig);
    let sealed = all[1].strip_prefix(&rig.dir).unwrap().to_owned();
    let active = all[4].strip_prefix(&rig.dir).unwrap().to_owned();
    let snapshot = fs::read_dir(&all[1])
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .find(|name| name.to_string_lossy().starts_with("snap."))
        .expect("sealing writes a snapshot");
    for (file, all_there) in [
        (sealed.join(snapshot), true),
        (sealed.join("conf"), true),
        (sealed.join("seal"), true),
        (sealed.join("db"), false),
        (active.join("conf"), true),
        (active.join("db"), false),
        ("t/head".into(), true),
        ("t/lane".into(), true),
    ] {
        for empty in [false, true] {
            let temp = temp_dir();
            copy(&rig.dir, temp.path());
            let path = temp.path().join(&file);
            if empty {
                fs::write(&path, b"").unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            let what = format!("{} empty: {empty}", file.display());
            let mut again = Rig::at(temp.path(), rig.settings.clone());
            let there = present_or_declared(&mut again, committed, &what);
            assert_eq!(there == committed as usize, all_there, "{what}");
        }
    }
}

/// Kills the process at every step of setting a damaged segment aside, found by the reader or by a start, and starts
/// again on what each kill leaves.
#[test]
fn a_kill_at_any_step_of_a_quarantine_declares_what_the_damage_took_and_no_more() {
    for at_start in [false, true] {
        let (mut rig, committed) = five_segments();
        // What is sealed is opened when it is read, before anything is acknowledged; the newest, by a start.
        let victim = &segments(&rig)[if at_start { 4 } else { 0 }];
        fs::remove_file(victim.join("db")).unwrap();
        let crashed = temp_dir();
        copy(&rig.dir, crashed.path());
        let left = Rc::new(RefCell::new(Vec::new()));
        let hook = {
            let (dir, left) = (crashed.path().to_owned(), Rc::clone(&left));
            move |step| {
                let temp = temp_dir();
                copy(&dir, temp.path());
                left.borrow_mut().push((step, temp));
                Ok(())
            }
        };
        if !at_start {
            rig = Rig::at(crashed.path(), rig.settings.clone());
        }
        fault::set(Some(Box::new(hook)));
        if at_start {
            rig = Rig::at(crashed.path(), rig.settings.clone());
        } else {
            assert!(!rig.next(1).is_empty());
            rig.reader.rewind();
        }
        fault::set(None);
        let there = present_or_declared(&mut rig, committed, "uninterrupted");
        assert!(there < committed as usize && there > 0);
        let left = left.take();
        for step in [
            "quarantine: before rename",
            "quarantine: renamed",
            "head: durable",
        ] {
            let seen = left.iter().any(|(at, _)| *at == step);
            assert!(seen, "{step} never happened, at a start: {at_start}");
        }
        for (step, temp) in left {
            let what = format!("killed at {step}, at a start: {at_start}");
            let mut again = Rig::at(temp.path(), rig.settings.clone());
            assert_eq!(
                present_or_declared(&mut again, committed, &what),
                there,
                "{what}"
            );
        }
    }
}

#[test]
fn damage_found_while_reading_is_declared_and_passed_at_once() {
    let (mut rig, committed) = five_segments();
    let victim = segments(&rig)[2].join("db");
    let length = fs::metadata(&victim).unwrap().len();
    fs::write(&victim, vec![0xff; length as usize]).unwrap();
    let there = present_or_declared(&mut rig, committed, "zeroed");
    assert!(there < committed as usize && there > 0);
    let balance = rig.conservation.snapshot();
    let unreadable = balance.dropped[protocol::control::LossReason::Unreadable as usize];
    assert_eq!(unreadable, committed as u64 - there as u64);
}

#[test]
fn large_readings_never_leave_the_log_for_blobs() {
    let mut rig = Rig::new(settings());
    let text = |n: i64| {
        let fields = (0..14)
            .map(|f| {
                let name = FieldName::new(format!("f{f}")).unwrap();
                (name, Value::Text("x".repeat(256).into()))
            })
            .chain([(FieldName::new("count").unwrap(), Value::Int(n))])
            .collect();
        let mut reading = reading("d", n, None);
        reading.fields = Fields::new(fields).unwrap();
        reading
    };
    for n in 0..40 {
        rig.commit(&[message((n * 10..n * 10 + 10).map(text).collect())])
            .unwrap();
    }
    for segment in segments(&rig) {
        let blobs = fs::read_dir(segment.join("blobs")).unwrap().count();
        assert_eq!(blobs, 0);
    }
    assert_eq!(rig.drain().len(), 400);
}
