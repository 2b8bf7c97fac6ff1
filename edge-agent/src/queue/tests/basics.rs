use super::*;

#[test]
fn what_is_committed_is_read_in_order_with_contiguous_sequences() {
    let mut rig = Rig::new(settings());
    rig.store(0..10);
    let batch: Vec<_> = (10..500).map(plain).collect();
    rig.commit(&batch).unwrap();
    let entries = rig.next(1000);
    assert_eq!(values(&entries), (0..500).collect::<Vec<_>>());
    for (sequence, entry) in entries.iter().enumerate() {
        assert_eq!(entry.record.id.sequence, sequence as u64);
        assert_eq!(entry.record.id.epoch, entries[0].record.id.epoch);
    }
    rig.acknowledge(500);
    assert_eq!(rig.lane.stat().readings, 0);
}

#[test]
fn what_is_committed_survives_a_kill_and_what_is_acknowledged_does_not_come_again() {
    let mut rig = Rig::new(settings());
    rig.store(0..20);
    assert_eq!(rig.next(5).len(), 5);
    rig.acknowledge(5);
    rig.lane.sync_head().unwrap();
    let mut again = rig.killed();
    assert_eq!(again.lane.stat().readings, 15);
    again.store(20..23);
    let entries = again.drain();
    assert_eq!(values(&entries), (5..23).collect::<Vec<_>>());
    let epochs: std::collections::BTreeSet<_> =
        entries.iter().map(|entry| entry.record.id.epoch).collect();
    assert_eq!(epochs.len(), 2);
}

#[test]
fn an_orderly_restart_keeps_everything_and_chains_the_epochs() {
    let mut rig = Rig::new(settings());
    rig.store(0..3);
    let mut rig = rig.restarted();
    rig.store(3..5);
    let facts = rig.lane.facts(at(1));
    let epochs: Vec<_> = facts
        .iter()
        .map(|fact| match fact {
            protocol::control::Fact::Epoch(fact) => fact,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(epochs.len(), 2);
    assert!(epochs[0].closed && !epochs[1].closed);
    assert_eq!(epochs[0].committed, Some(2));
    let previous = epochs[1].previous.unwrap();
    assert_eq!((previous.epoch, previous.last), (epochs[0].epoch, Some(2)));
    assert_eq!(values(&rig.drain()), [0, 1, 2, 3, 4]);
}

#[test]
fn a_second_process_is_refused() {
    let rig = Rig::new(settings());
    let second = open(
        &rig.dir,
        &gateway(),
        &topic(),
        &settings(),
        Arc::default(),
        at(0),
    );
    assert!(matches!(second, Err(OpenError::InUse(_))));
}

#[test]
fn segments_are_sealed_by_size_and_reclaimed_when_read() {
    let mut rig = Rig::new(config::Queue {
        segment_bytes: 64 << 10,
        ..settings()
    });
    for start in 0..20 {
        let batch: Vec<_> = (start * 400..(start + 1) * 400).map(plain).collect();
        rig.commit(&batch).unwrap();
    }
    rig.settle();
    let before = rig.lane.stat();
    assert!(before.segments > 3, "{before:?}");
    assert_eq!(values(&rig.drain()), (0..8000).collect::<Vec<_>>());
    let after = rig.lane.stat();
    assert_eq!(after.segments, 1, "the newest stays, for what it remembers");
    let left = std::fs::read_dir(rig.lane_dir().join("segments")).unwrap();
    assert_eq!(left.count(), 1);
}

#[test]
fn the_oldest_that_waits_is_told_and_not_the_oldest_of_its_segment() {
    let mut rig = Rig::new(settings());
    for second in [10, 20, 30] {
        rig.commit_at(&[plain(second)], at(second)).unwrap();
    }
    let committed = |second| Some(at(second).wall.as_micros());
    let outside = |rig: &Rig| {
        let queue = rig.lane_dir().parent().unwrap().to_owned();
        rig.lane.sync_head().unwrap();
        inspect::stat(&queue, topic().as_str()).unwrap().stat
    };
    assert_eq!(rig.lane.stat().oldest_committed, committed(10));
    assert_eq!(outside(&rig).oldest_committed, committed(10));
    assert_eq!(rig.next(3).len(), 3);
    rig.acknowledge(2);
    // Within the process what is known without a look at the disk: not before the last that was sent.
    assert_eq!(rig.lane.stat().oldest_committed, committed(20));
    assert_eq!(outside(&rig).oldest_committed, committed(30));
    rig.acknowledge(1);
    assert_eq!(rig.lane.stat().oldest_committed, None);
    assert_eq!(outside(&rig).oldest_committed, None);
}

#[test]
fn rewind_hands_out_again_what_is_not_acknowledged() {
    let mut rig = Rig::new(settings());
    rig.store(0..10);
    assert_eq!(rig.next(6).len(), 6);
    rig.acknowledge(2);
    rig.reader.rewind();
    assert_eq!(values(&rig.drain()), (2..10).collect::<Vec<_>>());
}

#[test]
fn a_rest_closes_the_segment_that_is_read_and_costs_nothing() {
    let mut rig = Rig::new(config::Queue {
        segment_bytes: 64 << 10,
        ..settings()
    });
    for start in 0..20 {
        let batch: Vec<_> = (start * 200..(start + 1) * 200).map(plain).collect();
        rig.commit(&batch).unwrap();
    }
    // The oldest segments are sealed.
    let mut rig = rig.restarted();
    rig.reader.rest();
    let mut entries = Vec::new();
    while entries.len() < 4000 {
        // In the middle of what was read ahead, and before the next blocks.
        entries.extend(rig.next(30));
        if entries.len() == 30 {
            assert!(rig.reader.open.is_some());
            rig.acknowledge(4);
        }
        rig.reader.rest();
        assert!(rig.reader.open.is_none());
    }
    assert_eq!(values(&entries), (0..4000).collect::<Vec<_>>());
}

#[test]
fn a_look_from_outside_sees_what_waits_and_disturbs_nothing() {
    let mut rig = Rig::new(config::Queue {
        segment_bytes: 32 << 10,
        ..settings()
    });
    for start in 0..10 {
        let batch: Vec<_> = (start * 200..(start + 1) * 200).map(plain).collect();
        rig.commit(&batch).unwrap();
    }
    rig.settle();
    rig.next(150);
    rig.acknowledge(150);
    rig.lane.sync_head().unwrap();
    assert_eq!(inspect::lanes(&rig.dir).unwrap(), ["t"]);
    let seen = inspect::stat(&rig.dir, "t").unwrap();
    assert_eq!(seen.gateway, gateway());
    assert_eq!(seen.stat.readings, rig.lane.stat().readings);
    assert_eq!(seen.stat.segments, rig.lane.stat().segments);
    let all = inspect::peek(&rig.dir, "t", 10_000).unwrap();
    let few = inspect::peek(&rig.dir, "t", 3).unwrap();
    assert_eq!(values(&all), (150..2000).collect::<Vec<_>>());
    assert_eq!(few, all[..3]);
    rig.reader.rewind();
    assert_eq!(rig.drain(), all);
}

#[test]
fn commits_and_reads_at_the_same_time_keep_order_and_balance() {
    let mut rig = Rig::new(config::Queue {
        segment_bytes: 32 << 10,
        ..settings()
    });
    let mut writer = rig.writer.take().unwrap();
    let conservation = Arc::clone(&rig.conservation);
    let committer = std::thread::spawn(move || {
        for start in 0..100 {
            let batch: Vec<_> = (start * 50..(start + 1) * 50).map(plain).collect();
            conservation.received(50);
            writer.commit(&batch, at(0)).unwrap();
            writer.tick(at(0)).unwrap();
            assert!(conservation.snapshot().holds());
        }
        writer
    });
    let mut got = Vec::new();
    while got.len() < 5000 {
        rig.reader.wait(Duration::from_secs(10));
        let entries = rig.reader.next(37, at(0)).unwrap();
        rig.reader
            .acknowledge(entries.len(), &BTreeMap::new(), at(0))
            .unwrap();
        got.extend(values(&entries));
        assert!(rig.conservation.snapshot().holds());
    }
    rig.writer = Some(committer.join().unwrap());
    assert_eq!(got, (0..5000).collect::<Vec<_>>());
    assert_eq!(rig.restarted().lane.stat().readings, 0);
}

#[test]
fn many_starts_without_an_uplink_do_not_cost_a_segment_each() {
    let mut rig = Rig::new(settings());
    for round in 0..30 {
        rig.store(round * 2..round * 2 + 2);
        rig = rig.restarted();
    }
    let stat = rig.lane.stat();
    assert!(
        stat.bytes < 4 << 20,
        "each start must not cost a segment: {stat:?}"
    );
    assert_eq!(values(&rig.drain()), (0..60).collect::<Vec<_>>());
}

/// A message of one numbered reading, as the broker delivers it.
fn delivered(packet_id: u16, sequence: u16, is_dup: bool) -> Message {
    Message {
        origin: came(packet_id, 7, 0, is_dup),
        ..numbered("d", 1, u64::from(sequence))
    }
}

/// The acknowledgement of a repetition may be lost as well: two kills in a row made two readings of one.
#[test]
fn a_numbered_message_is_recognised_however_often_the_broker_repeats_it() {
    let mut rig = Rig::new(settings());
    for n in 0..200 {
        rig.commit(&[delivered(n + 1, n, false)]).unwrap();
    }
    for _ in 0..3 {
        rig = rig.killed();
        // Far below the window of what the device has sent since.
        rig.commit(&[delivered(1, 0, true)]).unwrap();
    }
    assert_eq!(rig.drain().len(), 200);
}

/// A device that missed the broker's acknowledgement published once more; the repetition was known by its
/// number and left no trace. Its own acknowledgement was lost in a kill, and when the broker repeated it the
/// device was a hundred numbers further: one reading became two, and so did what its run began.
#[test]
fn what_its_device_and_then_its_broker_send_again_is_one_reading() {
    for (name, restart) in [
        ("broken connection", (|rig| rig) as fn(Rig) -> Rig),
        ("kill", |rig| rig.killed()),
        ("two kills", |rig| rig.killed().killed()),
        ("new segment", |mut rig| {
            rig.writer().rotate();
            rig.commit(&[delivered(500, 500, false)]).unwrap();
            rig.settle();
            rig.killed()
        }),
    ] {
        for together in [true, false] {
            let mut rig = Rig::new(settings());
            let mut batch: Vec<_> = (0..30).map(|n| delivered(n + 1, n, false)).collect();
            batch.push(delivered(31, 6, false));
            batch.extend((30..150).map(|n| delivered(n + 2, n, false)));
            if together {
                rig.commit(&batch).unwrap();
            } else {
                for one in &batch {
                    rig.commit(std::slice::from_ref(one)).unwrap();
                }
            }
            let mut rig = restart(rig);
            let stored = rig.lane.stat().readings;
            let again: Vec<_> = [delivered(31, 6, true)]
                .into_iter()
                .chain((30..150).map(|n| delivered(n + 2, n, true)))
                .collect();
            rig.commit(&again).unwrap();
            assert_eq!(rig.lane.stat().readings, stored, "{name}, {together}");
        }
    }
}
