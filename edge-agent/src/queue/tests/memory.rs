//! What is recognised as sent again: tables of (sequence, value, new).

use super::*;
use crate::queue::memory::{DEVICES, Memory};

/// A message of a device that numbers its readings and declares no boot.
fn saying(sequence: u64, value: i64) -> Message {
    let source = SourceId { boot: 0, sequence };
    message(vec![reading("m", value, Some(source))])
}

/// Commits each; whether it was stored as new must be as the table says, also after a kill at any place.
#[track_caller]
fn told_apart(table: &[(u64, i64, bool)]) {
    let mut rig = Rig::new(settings());
    for (line, (sequence, value, is_new)) in table.iter().enumerate() {
        let before = rig.conservation.snapshot().retransmitted;
        rig.commit(&[saying(*sequence, *value)]).unwrap();
        let known = rig.conservation.snapshot().retransmitted > before;
        assert_eq!(!known, *is_new, "line {line}: {sequence} says {value}");
        if line % 7 == 6 {
            rig = rig.killed();
        }
    }
}

#[test]
fn a_device_without_boot_that_restarts_within_the_window_loses_nothing_that_says_something_else() {
    told_apart(&[
        (0, 10, true),
        (1, 11, true),
        (2, 12, true),
        (1, 11, false),
        // Restarted.
        (0, 20, true),
        (0, 20, false),
        (1, 21, true),
        // The same as before the restart, and new all the same.
        (2, 12, true),
        (2, 12, false),
        (3, 23, true),
        (1, 21, false),
    ]);
}

#[test]
fn two_devices_with_one_id_keep_what_both_say_and_are_counted() {
    let mut rig = Rig::new(settings());
    for sequence in 0..20 {
        for value in [1, 2] {
            rig.commit(&[saying(sequence, value)]).unwrap();
        }
    }
    assert_eq!(rig.drain().len(), 40);
    assert_eq!(rig.lane.stat().reused_numbers, 20);
}

#[test]
fn a_device_whose_sequence_restarts_far_below_is_recognised_again_at_once() {
    told_apart(&[
        (1000, 1, true),
        (1001, 2, true),
        (0, 3, true),
        (0, 3, false),
        (1, 4, true),
        (0, 3, false),
        (1, 4, false),
        // A last frame of the run before.
        (1001, 2, false),
        (2, 5, true),
        (2, 5, false),
    ]);
}

#[test]
fn a_sequence_that_wraps_around_is_never_held_against_its_past() {
    let lap = || (0..200).map(|sequence| (sequence, 5, true));
    let twice: Vec<_> = lap().chain(lap()).chain(lap()).collect();
    told_apart(&twice);
}

#[test]
fn a_late_frame_does_not_disturb_the_window_it_missed() {
    told_apart(&[
        (500, 1, true),
        (501, 2, true),
        (3, 3, true),
        (501, 2, false),
        (502, 4, true),
        (500, 1, false),
        (3, 3, false),
        (700, 5, true),
        (700, 5, false),
    ]);
}

#[test]
fn the_whole_window_is_remembered_and_nothing_below_it() {
    let mut table: Vec<_> = (0..100).map(|n| (n, n as i64, true)).collect();
    table.extend((36..100).map(|n| (n, n as i64, false)));
    table.push((35, 35, true));
    told_apart(&table);
}

#[test]
fn what_is_remembered_fits_into_the_smallest_segment_and_each_entry_into_a_block() {
    let mut memory = Memory::default();
    for device in 0..DEVICES + 10 {
        let name = format!("{device:0>128}");
        let mut staged = crate::queue::memory::Staged::default();
        for sequence in (u64::MAX - 63..=u64::MAX).chain(u64::MAX - 500..u64::MAX - 436) {
            let source = SourceId {
                boot: u64::MAX,
                sequence,
            };
            let device = DeviceId::new(name.as_str()).unwrap();
            memory.seen(&mut staged, &device, source, protocol::Digest(sequence));
        }
        memory.apply(staged);
    }
    let entries = memory.carry(1);
    let bytes: usize = entries.iter().map(Vec::len).sum();
    assert!(bytes < 1 << 20, "{bytes}");
    let largest = entries.iter().map(Vec::len).max().unwrap();
    assert!(largest <= crate::queue::block::MAX_BLOCK_BYTES, "{largest}");
    let (read, first) = Memory::read(&entries).unwrap();
    assert_eq!(first, Some(1));
    assert_eq!(read.carry(1), entries);
}
