//! Looking through a store from outside, and bringing it elsewhere.

use std::{fs, os::unix::fs::FileExt};

use super::*;
use crate::queue::{
    rescue::{self, RescueError},
    verify::{Verified, verify},
};

fn looked_at(dir: &Path) -> Verified {
    verify(&dir.join("t"), || {}).unwrap()
}

/// Several sealed segments and an active one; the first `acknowledged` readings are in Kafka.
fn filled(acknowledged: usize) -> (Rig, i64) {
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
    let entries = rig.next(acknowledged);
    rig.acknowledge(entries.len());
    rig.lane.sync_head().unwrap();
    (rig, next)
}

fn flip(path: &Path, part: u64) {
    let length = fs::metadata(path).unwrap().len();
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let (mut byte, place) = ([0], (length * part / 6).min(length - 1));
    file.read_exact_at(&mut byte, place).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], place).unwrap();
}

fn fail_the_next_commit(rig: &mut Rig, value: i64) {
    fault::set(Some(Box::new(|step| match step {
        "append: durable" => Err(std::io::Error::from_raw_os_error(5)),
        _ => Ok(()),
    })));
    assert!(rig.commit(&[plain(value)]).is_err());
    fault::set(None);
}

#[test]
fn verify_finds_nothing_wrong_with_a_store_beside_its_running_agent() {
    let (mut rig, committed) = filled(150);
    let seen = looked_at(&rig.dir);
    assert_eq!(seen.wrong, []);
    assert_eq!(seen.waiting, committed as u64 - 150);
    assert_eq!((seen.segments, seen.quarantined), (5, 0));
    assert!(seen.blocks > 10 && seen.losses.is_empty());
    // A failed commit, written again elsewhere, is no damage either.
    fail_the_next_commit(&mut rig, committed);
    rig.store(committed..committed + 1);
    let seen = looked_at(&rig.dir);
    assert_eq!(seen.wrong, []);
    assert_eq!(seen.waiting, committed as u64 - 149);
}

#[test]
fn verify_and_export_never_mistake_what_a_running_agent_does_for_damage() {
    let (rig, _) = filled(0);
    let dir = rig.dir.clone();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let agent = std::thread::spawn(move || {
        let (mut rig, mut next) = (rig, 1_000_000);
        while !asked.load(std::sync::atomic::Ordering::Relaxed) {
            let batch: Vec<_> = (next..next + 50).map(plain).collect();
            next += 50;
            rig.commit(&batch).unwrap();
            let entries = rig.next(60);
            rig.acknowledge(entries.len());
        }
        rig
    });
    for _ in 0..10 {
        let seen = looked_at(&dir);
        assert_eq!(seen.wrong, []);
        let mut last = None;
        inspect::export(&dir, "t", false, |entry| {
            let sequence = Some(entry.record.id.sequence);
            assert!(last < sequence, "{last:?} {sequence:?}");
            last = sequence;
            Ok(true)
        })
        .unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    drop(agent.join().unwrap());
}

#[test]
fn verify_names_exactly_what_a_flipped_bit_costs() {
    let (rig, committed) = filled(0);
    let mut costly = 0;
    for segment in 1..=5 {
        for part in 0..6 {
            let temp = temp_dir();
            copy(&rig.dir, temp.path());
            let name = format!("t/segments/{segment:08}/db");
            flip(&temp.path().join(&name), part);
            let seen = looked_at(temp.path());
            let there = Rig::at(temp.path(), rig.settings.clone()).drain().len();
            let readings = seen.wrong.iter().filter_map(|wrong| wrong.readings);
            let missing: u64 = readings.map(|run| run.len()).sum();
            let lost = committed as u64 - there as u64;
            costly += u32::from(lost > 0);
            assert_eq!(missing, lost, "{name} part {part}: {:?}", seen.wrong);
        }
    }
    assert!(costly > 0, "no flip cost anything: this shows nothing");
}

#[test]
fn verify_names_what_the_head_promises_and_the_segments_do_not_have() {
    let (rig, _) = filled(10);
    let temp = temp_dir();
    copy(&rig.dir, temp.path());
    let run = rig.lane.state().segments[&2].summary.runs[0];
    fs::remove_dir_all(temp.path().join("t/segments/00000002")).unwrap();
    let seen = looked_at(temp.path());
    assert_eq!(seen.wrong.len(), 1, "{:?}", seen.wrong);
    assert_eq!(seen.wrong[0].readings, Some(run));
    // Opened, the loss is in the ledger: known, and nothing is wrong any more.
    drop(Rig::at(temp.path(), rig.settings.clone()));
    let seen = looked_at(temp.path());
    assert_eq!(seen.wrong, []);
    let loss = &seen.losses[0];
    assert_eq!((loss.first, loss.last), (run.first, Some(run.last)));
}

#[test]
fn verify_tells_a_lost_head_and_a_lost_owner() {
    let (rig, _) = filled(0);
    for name in ["head", "lane"] {
        for empty in [false, true] {
            let temp = temp_dir();
            copy(&rig.dir, temp.path());
            let path = temp.path().join("t").join(name);
            if empty {
                fs::write(path, b"").unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
            let seen = looked_at(temp.path());
            assert_eq!(seen.wrong.len(), 1, "{name} {empty}: {:?}", seen.wrong);
            assert!(seen.wrong[0].what.contains(name));
        }
    }
}

#[test]
fn an_export_has_each_reading_once_from_the_cursor_or_from_the_start() {
    let (mut rig, committed) = filled(150);
    fail_the_next_commit(&mut rig, committed);
    rig.store(committed..committed + 2);
    let exported = |all| {
        let mut entries = Vec::new();
        inspect::export(&rig.dir, "t", all, |entry| {
            entries.push(entry);
            Ok(true)
        })
        .unwrap();
        values(&entries)
    };
    let everything = exported(true);
    assert_eq!(exported(false), (150..committed + 2).collect::<Vec<_>>());
    assert!(everything[0] <= 150 && everything.ends_with(&exported(false)));
}

fn salvaged(from: &Path, to: &Path) -> Result<Verified, RescueError> {
    rescue::salvage(&from.join("t"), &to.join("t"), None, at(5), &mut |_| ())
}

fn imported(from: &Path, into: &Path) -> Result<String, RescueError> {
    rescue::import(&from.join("t"), &into.join("queue"), 0, &mut |_| ())
}

/// What an agent sends of a lane that only drains, and the losses it states.
fn drained(queue: &Path, name: &str) -> (Vec<Entry>, Vec<protocol::control::Loss>) {
    let opened = open_to_drain(
        queue,
        name,
        &gateway(),
        |_| settings(),
        Arc::default(),
        at(9),
    );
    let (mut reader, lane) = opened.unwrap();
    let mut all = Vec::new();
    loop {
        let entries = reader.next(1000, at(9)).unwrap();
        if entries.is_empty() {
            break;
        }
        reader
            .acknowledge(entries.len(), &BTreeMap::new(), at(9))
            .unwrap();
        all.extend(entries);
    }
    assert_eq!(lane.stat().readings, 0);
    let losses = lane.facts(at(9)).into_iter().filter_map(|fact| match fact {
        protocol::control::Fact::Loss(loss) => Some(loss),
        _ => None,
    });
    (all, losses.collect())
}

#[test]
fn a_dead_box_s_readings_come_out_of_another_with_the_ids_they_had() {
    let (mut rig, committed) = filled(150);
    let wanted = {
        rig.reader.rewind();
        rig.next(100_000)
    };
    let card = temp_dir();
    copy(&rig.dir, card.path());
    let (copied, other) = (temp_dir(), temp_dir());
    let seen = salvaged(card.path(), copied.path()).unwrap();
    assert_eq!((seen.wrong.len(), seen.losses.len()), (0, 0));
    assert_eq!(seen.waiting, committed as u64 - 150);

    // The other box has a lane of the same topic, and of the same name.
    let queue = other.path().join("queue");
    let mut own = Rig::at(&queue, settings());
    own.store(0..3);
    assert_eq!(imported(copied.path(), other.path()).unwrap(), "t@gw");
    let (entries, losses) = drained(&queue, "t@gw");
    assert_eq!(entries, wanted);
    assert!(losses.is_empty());
    assert_eq!(values(&own.drain()), [0, 1, 2]);
    // It stays drained, and does not come in again.
    assert!(drained(&queue, "t@gw").0.is_empty());
    let again = imported(copied.path(), other.path());
    assert!(matches!(again, Err(RescueError::Known { as_lane, .. }) if as_lane == "t@gw"));
}

#[test]
fn what_cannot_be_salvaged_is_in_the_ledger_exactly() {
    let (rig, committed) = filled(0);
    for segment in 1..=5 {
        for part in 0..6 {
            let (card, copied) = (temp_dir(), temp_dir());
            copy(&rig.dir, card.path());
            let name = format!("t/segments/{segment:08}/db");
            flip(&card.path().join(&name), part);
            let before = fs::read(card.path().join(&name)).unwrap();
            let seen = salvaged(card.path(), copied.path()).unwrap();
            assert_eq!(seen.wrong, [], "{name} part {part}");
            assert_eq!(fs::read(card.path().join(&name)).unwrap(), before);
            let (entries, losses) = drained(copied.path(), "t");
            let lost: u64 = losses.iter().map(|l| l.last.unwrap() - l.first + 1).sum();
            let declared: u64 = seen
                .losses
                .iter()
                .map(|l| l.last.unwrap() - l.first + 1)
                .sum();
            assert_eq!(
                (lost, entries.len() as u64),
                (declared, committed as u64 - lost)
            );
        }
    }
}

#[test]
fn a_store_in_use_is_neither_salvaged_nor_imported() {
    let (rig, _) = filled(0);
    let to = temp_dir();
    assert!(matches!(
        salvaged(&rig.dir, to.path()),
        Err(RescueError::InUse(_))
    ));
    assert!(matches!(
        imported(&rig.dir, to.path()),
        Err(RescueError::InUse(_))
    ));
}

#[test]
fn a_salvaged_store_never_mixes_with_what_is_there() {
    let (rig, _) = filled(0);
    let (card, to) = (temp_dir(), temp_dir());
    copy(&rig.dir, card.path());
    fs::create_dir(to.path().join("t")).unwrap();
    assert!(matches!(
        salvaged(card.path(), to.path()),
        Err(RescueError::Exists(_))
    ));
}

#[test]
fn a_lane_that_does_not_say_whose_it_is_needs_to_be_told() {
    let (rig, committed) = filled(0);
    let (card, to) = (temp_dir(), temp_dir());
    copy(&rig.dir, card.path());
    fs::write(card.path().join("t/lane"), b"?").unwrap();
    assert!(matches!(
        imported(card.path(), to.path()),
        Err(RescueError::Nobody(_))
    ));
    let lane = (card.path().join("t"), to.path().join("t"));
    let seen = rescue::salvage(&lane.0, &lane.1, Some(&gateway()), at(5), &mut |_| ()).unwrap();
    assert_eq!(seen.waiting, committed as u64);
    assert_eq!(seen.gateway, Some(gateway()));
}

#[test]
fn an_import_without_room_changes_nothing() {
    let (rig, _) = filled(0);
    let (card, other) = (temp_dir(), temp_dir());
    copy(&rig.dir, card.path());
    let queue = other.path().join("queue");
    let refused = rescue::import(&card.path().join("t"), &queue, u64::MAX, &mut |_| ());
    assert!(matches!(refused, Err(RescueError::NoRoom { .. })));
    assert!(inspect::lanes(&queue).unwrap().is_empty());
}
