//! Full queues, old readings, readings sent again, and what is stated of them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use protocol::control::{Fact, Loss, LossReason};

use super::{
    faults::{failing, present_or_declared},
    *,
};

fn losses(rig: &Rig) -> Vec<Loss> {
    rig.lane
        .facts(at(1))
        .into_iter()
        .filter_map(|fact| match fact {
            Fact::Loss(loss) => Some(loss),
            _ => None,
        })
        .collect()
}

fn tight(when_full: WhenFull) -> config::Queue {
    config::Queue {
        max_bytes: 6 << 20,
        segment_bytes: 256 << 10,
        when_full,
        ..settings()
    }
}

fn batch(from: i64) -> Vec<Message> {
    (from..from + 500).map(plain).collect()
}

#[test]
fn drop_oldest_keeps_the_newest_below_the_cap_and_names_the_rest() {
    let mut rig = Rig::new(tight(WhenFull::DropOldest));
    let mut next = 0;
    while losses(&rig).is_empty() || rig.lane.stat().losses_pending == 0 || next < 60_000 {
        rig.commit(&batch(next)).unwrap();
        next += 500;
        let bytes = files::dir_bytes(&rig.lane_dir());
        assert!(bytes <= (6 << 20) + (1 << 20), "{bytes}");
        if next > 400_000 {
            panic!("never full: {:?}", rig.lane.stat());
        }
    }
    rig.settle();
    let lost = losses(&rig);
    assert_eq!(lost.len(), 1, "neighbours coalesce: {lost:?}");
    assert_eq!((lost[0].first, lost[0].reason), (0, LossReason::DropOldest));
    assert!(!lost[0].possibly_delivered);
    let last = lost[0].last.unwrap() as i64;
    let mut killed = rig.killed();
    for rig in [&mut rig, &mut killed] {
        assert_eq!(values(&rig.drain()), (last + 1..next).collect::<Vec<_>>());
    }
}

/// Until the loss is durable nothing is gone, and from then on nothing of it comes back.
#[test]
fn a_kill_at_any_step_of_dropping_the_oldest_declares_exactly_what_is_gone() {
    const STEPS: [&str; 6] = [
        "head: before write",
        "head: before fdatasync",
        "head: durable",
        "remove: before rename",
        "remove: renamed",
        "remove: before delete",
    ];
    let mut rig = Rig::new(config::Queue {
        max_bytes: 3 << 19,
        segment_bytes: 32 << 10,
        ..tight(WhenFull::DropOldest)
    });
    let (mut next, mut left) = (0, BTreeMap::new());
    while losses(&rig).is_empty() {
        rig.settle();
        let seen = Rc::new(RefCell::new(BTreeMap::new()));
        let (dir, copied) = (rig.dir.clone(), Rc::clone(&seen));
        fault::set(Some(Box::new(move |step| {
            if STEPS.contains(&step) {
                copied.borrow_mut().entry(step).or_insert_with(|| {
                    let temp = temp_dir();
                    copy(&dir, temp.path());
                    temp
                });
            }
            Ok(())
        })));
        rig.commit(&batch(next)).unwrap();
        fault::set(None);
        left = seen.take();
        next += 500;
        assert!(next < 400_000, "never full: {:?}", rig.lane.stat());
    }
    let gone = losses(&rig)[0].last.unwrap() as usize + 1;
    for step in STEPS {
        assert!(left.contains_key(step), "{step} never happened: {left:?}");
    }
    // What was being committed then was promised to nobody yet.
    let promised = next - 500;
    let mut seen = BTreeSet::new();
    for (step, temp) in left {
        let mut again = Rig::at(temp.path(), rig.settings.clone());
        let there = present_or_declared(&mut again, promised, step);
        let lost = losses(&again)
            .first()
            .map_or(0, |loss| loss.last.unwrap() as usize + 1);
        assert!(lost == 0 || lost == gone, "{step}: {lost} of {gone}");
        assert!(there >= promised as usize - lost, "{step}");
        seen.insert(lost);
    }
    assert_eq!(seen, BTreeSet::from([0, gone]), "before and after");
}

#[test]
fn the_segment_being_read_is_never_dropped() {
    let mut rig = Rig::new(tight(WhenFull::DropOldest));
    rig.store(0..10);
    let first = rig.next(5);
    let mut next = 10;
    while losses(&rig).is_empty() {
        rig.commit(&batch(next)).unwrap();
        next += 500;
    }
    assert_eq!(values(&first), [0, 1, 2, 3, 4]);
    rig.acknowledge(5);
    let rest = values(&rig.drain());
    assert_eq!(rest[..5], [5, 6, 7, 8, 9]);
    assert_eq!(*rest.last().unwrap(), next - 1);
    let lost: u64 = losses(&rig)
        .iter()
        .map(|loss| loss.last.unwrap() - loss.first + 1)
        .sum();
    assert_eq!(rest.len() as u64 + 5 + lost, next as u64);
}

#[test]
fn drop_newest_numbers_and_declares_what_it_refuses() {
    let mut rig = Rig::new(tight(WhenFull::DropNewest));
    let mut next = 0;
    loop {
        let outcomes = rig.commit(&batch(next)).unwrap();
        next += 500;
        if outcomes[0] == Outcome::Dropped {
            break;
        }
    }
    let lost = losses(&rig);
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].reason, LossReason::DropNewest);
    assert_eq!(lost[0].first as i64, next - 500);
    assert_eq!(lost[0].last.unwrap() as i64, next - 1);
    rig.settle();
    let mut killed = rig.killed();
    for rig in [&mut rig, &mut killed] {
        assert_eq!(values(&rig.drain()), (0..next - 500).collect::<Vec<_>>());
        assert_eq!(losses(rig), lost);
        rig.store(next..next + 1);
        let entries = rig.drain();
        assert_eq!(values(&entries), [next]);
    }
}

/// The state of a lane that drops what is new, and the next value.
fn full() -> (Rig, i64) {
    let mut rig = Rig::new(tight(WhenFull::DropNewest));
    let mut next = 0;
    while rig.commit(&batch(next)).unwrap()[0] == Outcome::Stored {
        next += 500;
    }
    rig.settle();
    (rig, next + 500)
}

/// A kill between the loss and the use of its numbers left an epoch that ended before its losses did: neither
/// was ever forgotten, and so many starts later the lane would have taken nothing any more.
#[test]
fn a_kill_at_any_step_of_a_drop_leaves_a_loss_that_is_done_with_once_it_is_told() {
    const STEPS: [&str; 5] = [
        "replace: written",
        "replace: renamed",
        "head: before write",
        "head: before fdatasync",
        "head: durable",
    ];
    let (mut rig, next) = full();
    for step in STEPS {
        let left = Rc::new(RefCell::new(None));
        let (dir, copied) = (rig.dir.clone(), Rc::clone(&left));
        fault::set(Some(Box::new(move |name| {
            if name == step && copied.borrow().is_none() {
                let temp = temp_dir();
                copy(&dir, temp.path());
                *copied.borrow_mut() = Some(temp);
            }
            Ok(())
        })));
        let outcome = rig.commit(&[plain(next)]).unwrap();
        fault::set(None);
        assert_eq!(outcome, [Outcome::Dropped], "{step}");
        let temp = left.take().unwrap();
        let mut rig = Rig::at(temp.path(), rig.settings.clone());
        assert_eq!(rig.drain().len() as i64, next - 500, "{step}");
        for fact in rig.lane.facts(at(9)) {
            rig.lane.stated([&fact]).unwrap();
        }
        rig.store(next + 1..next + 2);
        rig.drain();
        for fact in rig.lane.facts(at(9)) {
            rig.lane.stated([&fact]).unwrap();
        }
        let book = rig.lane.state().book.clone();
        assert_eq!(
            (book.losses.len(), book.epochs.len()),
            (0, 1),
            "{step}: {book:?}"
        );
    }
}

/// What was dropped was remembered in memory only: sent again after a kill, it was declared lost under one
/// number and stored under another.
#[test]
fn what_was_dropped_and_is_sent_again_after_kills_is_neither_stored_nor_declared_again() {
    let of = |message: Message, origin| Message { origin, ..message };
    let (mut rig, next) = full();
    let dropped = |connection, is_dup| {
        [
            numbered("m", 7, 1),
            of(numbered("m", 7, 2), came(1, 5, connection, is_dup)),
            of(plain(next), came(2, 5, connection, is_dup)),
        ]
    };
    assert_eq!(
        rig.commit(&dropped(0, false)).unwrap(),
        [Outcome::Dropped; 3]
    );
    let known = |rig: &mut Rig, connection| {
        let lost = losses(rig);
        rig.commit(&dropped(connection, true)).unwrap();
        assert_eq!(rig.conservation.snapshot().retransmitted, 3);
        assert_eq!(losses(rig), lost);
    };
    let mut rig = rig.killed();
    known(&mut rig, 1);
    // Another drop, cut off before it is durable, must not take the first with it.
    failing("head: before write", 1);
    assert!(rig.commit(&[numbered("m", 7, 3)]).is_err());
    fault::set(None);
    let mut rig = rig.killed();
    known(&mut rig, 2);
    assert_eq!(
        rig.commit(&[numbered("m", 7, 3)]).unwrap(),
        [Outcome::Dropped]
    );
    // With room again, the next commit notes it.
    rig.settle();
    rig.drain();
    rig.lane.sync_head().unwrap();
    rig.commit(&[numbered("m", 7, 4)]).unwrap();
    let mut rig = rig.killed();
    known(&mut rig, 3);
    assert_eq!(
        rig.commit(&[numbered("m", 7, 3)]).unwrap(),
        [Outcome::Stored]
    );
    assert_eq!(rig.conservation.snapshot().retransmitted, 4);
    assert_eq!(rig.drain().len(), 1);
}

#[test]
fn a_damaged_memory_of_what_was_dropped_keeps_nobody_from_starting() {
    let (rig, _) = full();
    let path = rig.lane_dir().join("dropped");
    let whole = std::fs::read(&path).unwrap();
    for bytes in [
        &whole[..whole.len() / 2],
        b"",
        b"\x01garbage that is no statement",
    ] {
        std::fs::write(&path, bytes).unwrap();
        rig.killed().drain();
    }
}

#[test]
fn block_refuses_until_there_is_room_again() {
    let mut rig = Rig::new(tight(WhenFull::Block));
    let mut next = 0;
    while rig.commit(&batch(next)).is_ok() {
        next += 500;
    }
    assert!(matches!(
        rig.commit(&batch(next)),
        Err(CommitError::Full(_))
    ));
    rig.settle();
    assert_eq!(rig.drain().len(), next as usize);
    rig.commit(&batch(next)).unwrap();
    assert!(losses(&rig).is_empty());
}

#[test]
fn a_full_file_system_refuses_new_readings_and_keeps_the_old() {
    let mut rig = Rig::new(settings());
    rig.store(0..5);
    rig.writer().settings.min_free_bytes = u64::MAX / 2;
    assert!(matches!(rig.commit(&[plain(5)]), Err(CommitError::Full(_))));
    rig.writer().settings.min_free_bytes = 0;
    rig.store(5..6);
    assert_eq!(values(&rig.drain()), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn too_old_counts_only_between_synchronised_times() {
    let day = 86_400;
    let mut rig = Rig::new(settings());
    rig.commit_at(&[plain(0)], at(0)).unwrap();
    let unsynced = Now {
        synced: false,
        ..at(0)
    };
    rig.commit_at(&[plain(1)], unsynced).unwrap();
    rig.commit_at(&[plain(2)], at(20 * day)).unwrap();
    let later = at(31 * day);
    let asleep = Now {
        synced: false,
        ..later
    };
    assert_eq!(values(&rig.reader.next(1, asleep).unwrap()), [0]);
    rig.reader.rewind();
    assert_eq!(values(&rig.reader.next(10, later).unwrap()), [1, 2]);
    rig.check();
    let lost = losses(&rig);
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].first, lost[0].last), (0, Some(0)));
    assert_eq!(lost[0].reason, LossReason::TooOld);
    assert!(lost[0].possibly_delivered, "it was handed out once");
}

#[test]
fn a_numbered_reading_sent_again_is_stored_once_even_after_kill_and_reclaim() {
    let mut rig = Rig::new(settings());
    for sequence in 0..5 {
        rig.commit(&[numbered("m", 7, sequence)]).unwrap();
    }
    rig.drain();
    let mut rig = rig.restarted();
    rig.commit(&[numbered("m", 7, 5)]).unwrap();
    let mut rig = rig.killed();
    for sequence in 0..6 {
        assert_eq!(
            rig.commit(&[numbered("m", 7, sequence)]).unwrap(),
            [Outcome::Stored]
        );
    }
    assert_eq!(rig.conservation.snapshot().retransmitted, 6);
    // A new boot counts from the start, and its retransmissions are told from the old one's.
    rig.commit(&[numbered("m", 8, 0)]).unwrap();
    rig.commit(&[numbered("m", 7, 5)]).unwrap();
    rig.commit(&[numbered("m", 8, 0)]).unwrap();
    assert_eq!(rig.conservation.snapshot().retransmitted, 8);
    let got: Vec<_> = rig
        .drain()
        .iter()
        .map(|entry| entry.record.reading.source.unwrap())
        .collect();
    assert_eq!(got.len(), 2);
    assert_eq!((got[1].boot, got[1].sequence), (8, 0));
}

#[test]
fn a_frame_that_comes_after_its_successors_is_no_retransmission() {
    let mut rig = Rig::new(settings());
    for sequence in [0, 2, 3, 1, 1, 70, 5, 70] {
        rig.commit(&[numbered("m", 1, sequence)]).unwrap();
    }
    let got: Vec<_> = rig
        .drain()
        .iter()
        .map(|entry| entry.record.reading.source.unwrap().sequence)
        .collect();
    // 5 lies below the window of 64: better twice than never. The window itself stays.
    assert_eq!(got, [0, 2, 3, 1, 70, 5]);
}

#[test]
fn one_batch_with_the_same_reading_twice_stores_it_once() {
    let mut rig = Rig::new(settings());
    let outcomes = rig
        .commit(&[numbered("m", 1, 0), numbered("m", 1, 0)])
        .unwrap();
    assert_eq!(outcomes, [Outcome::Stored, Outcome::Stored]);
    assert_eq!(rig.drain().len(), 1);
}

#[test]
fn a_reading_that_is_too_large_rejects_its_message_and_no_other() {
    let mut rig = Rig::new(settings());
    let fields = (0..20)
        .map(|f| {
            let name = FieldName::new(format!("f{f}")).unwrap();
            (name, Value::Text("x".repeat(256).into()))
        })
        .collect();
    let mut large = reading("d", 1, None);
    large.fields = Fields::new(fields).unwrap();
    let outcomes = rig
        .commit(&[
            plain(0),
            message(vec![reading("d", 1, None), large]),
            plain(2),
        ])
        .unwrap();
    assert_eq!(
        outcomes,
        [Outcome::Stored, Outcome::Rejected, Outcome::Stored]
    );
    assert_eq!(rig.conservation.snapshot().rejected, 2);
    assert_eq!(values(&rig.drain()), [0, 2]);
}

#[test]
fn a_refused_reading_is_declared_and_its_neighbours_are_not() {
    let mut rig = Rig::new(settings());
    rig.store(0..3);
    rig.next(3);
    rig.acknowledge(1);
    rig.reader.lose_front(LossReason::Refused, at(0)).unwrap();
    rig.check();
    rig.acknowledge(1);
    let lost = losses(&rig);
    assert_eq!((lost[0].first, lost[0].last), (1, Some(1)));
    assert_eq!(lost[0].reason, LossReason::Refused);
    rig.lane.sync_head().unwrap();
    assert_eq!(rig.killed().lane.stat().readings, 0);
}

#[test]
fn facts_are_stated_until_heard_and_again_when_they_change() {
    let mut rig = Rig::new(settings());
    rig.store(0..3);
    let facts = rig.lane.facts(at(1));
    let [Fact::Epoch(fact)] = facts.as_slice() else {
        panic!("{facts:?}");
    };
    assert_eq!((fact.committed, fact.acknowledged), (Some(2), None));
    rig.lane.stated([&facts[0]]).unwrap();
    assert!(rig.lane.facts(at(2)).is_empty());
    rig.drain();
    let facts = rig.lane.facts(at(3));
    let [Fact::Epoch(fact)] = facts.as_slice() else {
        panic!("{facts:?}");
    };
    assert_eq!(fact.acknowledged, Some(2));
    assert_eq!(fact.offsets, BTreeMap::from([(0, 7)]));
    // Drained and closed epochs are forgotten once heard; the last one stays as predecessor.
    let mut rig = rig.restarted();
    rig.store(3..4);
    for fact in rig.lane.facts(at(4)) {
        rig.lane.stated([&fact]).unwrap();
    }
    assert_eq!(rig.lane.state().book.epochs.len(), 1);
}

/// Each try to commit dropped one more segment, for the ones before could not be deleted while the head
/// could not be written: a disk that failed for minutes cost the whole backlog.
#[test]
fn a_disk_that_fails_while_the_oldest_is_dropped_costs_no_more_than_was_due() {
    let mut rig = Rig::new(tight(WhenFull::DropOldest));
    rig.commit(&batch(0)).unwrap();
    let mut next = 500;
    let mut oldest_ends = 0;
    while losses(&rig).is_empty() {
        rig.settle();
        oldest_ends = rig.lane.state().segments[&1].summary.runs[0].last;
        fault::set(Some(Box::new(|step| match step {
            "head: before write" => Err(std::io::Error::from_raw_os_error(5)),
            _ => Ok(()),
        })));
        let done = rig.commit(&batch(next)).is_ok();
        for _ in 0..if done { 0 } else { 5 } {
            assert!(rig.commit(&batch(next)).is_err());
        }
        fault::set(None);
        if !done {
            rig.commit(&batch(next)).unwrap();
        }
        next += 500;
    }
    let lost = losses(&rig);
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].first, lost[0].last), (0, Some(oldest_ends)));
    let kept: Vec<_> = (oldest_ends as i64 + 1..next).collect();
    assert_eq!(values(&rig.drain()), kept);
}
