//! What sled does when a call to the disk fails, and that it costs nothing.

use std::{cell::Cell, fs::File, os::unix::fs::FileExt, path::Path, task::Poll};

use super::temp_dir;
use crate::queue::{
    caught::judged,
    flush::insisted,
    image::{Image, Overwritten},
    segment::{Segment, SegmentError, astray},
};

const BLOCK_BYTES: usize = 6 * 1024;
/// More than two of sled's own segments.
const BLOCKS: u64 = 250;

fn blocks(numbers: std::ops::Range<u64>) -> Vec<(u64, Vec<u8>)> {
    numbers
        .map(|number| (number, vec![number as u8 | 1; BLOCK_BYTES]))
        .collect()
}

/// A closed segment with its log and no snapshot.
fn written(dir: &Path) -> File {
    let segment = Segment::create(dir).unwrap();
    for first in (1..=BLOCKS).step_by(10) {
        segment
            .append(&[], &[], &blocks(first..first + 10))
            .unwrap();
    }
    drop(segment);
    let path = dir.join("db");
    File::options().read(true).write(true).open(path).unwrap()
}

fn numbers(segment: &Segment) -> Vec<u64> {
    let found = segment.blocks(0, u64::MAX, 2 * BLOCKS as usize).unwrap();
    found.into_iter().map(|(number, _)| number).collect()
}

#[test]
fn a_block_goes_to_the_disk_once() {
    // Of one, some and many at a time, beside notes and behind what is inherited.
    for size in [1, 3, 19, 70] {
        let temp = temp_dir();
        let segment = Segment::create(&temp.path().join("00000001")).unwrap();
        let carry = vec![vec![7; BLOCK_BYTES]; 8];
        let mut first = 1;
        while first <= 700 {
            let carry = if first == 1 { carry.as_slice() } else { &[] };
            let some = blocks(first..first + size);
            segment.append(carry, &[vec![1; 40]], &some).unwrap();
            first += size;
        }
        let block_bytes = (first - 1) * BLOCK_BYTES as u64;
        let written = segment.bytes();
        assert!(
            written > block_bytes && written < block_bytes * 5 / 4,
            "{size}: {written}"
        );
        let found = segment.blocks(0, u64::MAX, usize::MAX).unwrap();
        assert_eq!(found, blocks(1..first));
        assert_eq!(segment.carry().unwrap(), carry);
        drop(segment);
        let segment = Segment::open_from_log(&temp.path().join("00000001")).unwrap();
        assert_eq!(segment.blocks(0, u64::MAX, usize::MAX).unwrap(), found);
        assert_eq!(
            segment.blocks(first - 1, u64::MAX, 9).unwrap(),
            found[found.len() - 1..]
        );
        assert_eq!(segment.blocks(first, u64::MAX, 9).unwrap(), []);
    }
}

#[test]
fn what_the_store_overwrote_after_a_failed_read_is_put_back() {
    let temp = temp_dir();
    let dir = temp.path().join("00000001");
    let log = written(&dir);
    let image = Image::of(&log).unwrap();
    // As sled does when it takes a read that failed for the end of the log.
    let length = log.metadata().unwrap().len();
    log.write_all_at(&vec![0; 600 << 10], length / 2).unwrap();
    log.set_len(length - 4096).unwrap();
    assert!(image.overwritten(&log).unwrap().len() > 100);
    image.put_back(&log).unwrap();
    assert!(image.overwritten(&log).unwrap().is_empty());
    let segment = Segment::open_from_log(&dir).unwrap();
    assert_eq!(numbers(&segment), (1..=BLOCKS).collect::<Vec<_>>());
}

/// sled uses a place in its log again without clearing it, and clears what is left of its former use when it opens
/// the store. Nothing is lost by that, and nobody needs to hear of it.
#[test]
fn what_a_place_held_before_is_no_tear() {
    let temp = temp_dir();
    let dir = temp.path().join("00000001");
    let segment = Segment::create(&dir).unwrap();
    for number in 1..=6000 {
        let block = [(number, vec![3; 60])];
        segment.append(&[], &[vec![1; 40]], &block).unwrap();
    }
    drop(segment);
    let log = File::open(dir.join("db")).unwrap();
    let image = Image::of(&log).unwrap();
    let segment = Segment::open(&dir).unwrap();
    let found = segment.blocks(0, u64::MAX, usize::MAX).unwrap();
    assert_eq!(found.len(), 6000);
    let cleared = image.overwritten(&log).unwrap();
    assert!(
        !cleared.is_empty(),
        "nothing was cleared, so nothing is shown"
    );
    assert_eq!(astray(&[], &Overwritten::new()), 0);
    assert_eq!(astray(std::slice::from_ref(&cleared), &cleared), 0);
    // What a read that failed took for the end, the try that counts read.
    let mut more = cleared.clone();
    more.extend([1_000_000, 1_000_001]);
    assert_eq!(astray(&[more, cleared.clone()], &cleared), 2);
}

#[test]
fn a_tear_that_is_there_each_time_is_accepted() {
    let temp = temp_dir();
    let dir = temp.path().join("00000001");
    let log = written(&dir);
    let length = log.metadata().unwrap().len();
    // A block in the middle that no checksum fits any more.
    log.write_all_at(&[0x55; 64], length / 2).unwrap();
    drop(log);
    // Where sled wrote what decides whether it ends there or cannot make anything of it.
    match Segment::open_from_log(&dir) {
        Ok(segment) => {
            let found = numbers(&segment);
            assert!(found.len() < BLOCKS as usize);
            let contiguous: Vec<u64> = (1..=found.len() as u64).collect();
            assert_eq!(found, contiguous);
        }
        Err(error) => assert!(matches!(error, SegmentError::Damaged(_)), "{error}"),
    }
}

/// sled notes a write that failed on one of its threads, and wakes nobody: the commit slept for ever. The
/// next flush sees the note and wakes those before it.
#[test]
fn a_flush_that_nobody_wakes_is_asked_for_again() {
    let asked = Cell::new(0);
    let told = Cell::new(false);
    let ask = || {
        asked.set(asked.get() + 1);
        let is_first = asked.get() == 1;
        std::future::poll_fn({
            let told = &told;
            move |_| match (is_first, told.get()) {
                (true, false) => Poll::Pending,
                _ => {
                    told.set(true);
                    Poll::Ready("the write failed")
                }
            }
        })
    };
    assert_eq!(insisted(ask), "the write failed");
    assert_eq!(asked.get(), 2);
}

/// A file that cannot be synced when its store is closed ends one of sled's threads; every store that was
/// opened after that looked damaged, was set aside and declared lost.
#[test]
fn a_store_whose_threads_have_ended_is_not_taken_for_damaged() {
    for (what, is_broken) in [
        (
            "IO thread unexpectedly panicked. please report this bug on the sled github repo.",
            true,
        ),
        ("threadpool failed to complete action before shutdown", true),
        ("failed to find a page", false),
    ] {
        let judged = judged(sled::Error::ReportableBug(what.to_owned()));
        assert_eq!(matches!(judged, SegmentError::Broken), is_broken, "{what}");
    }
}
