//! What sled does when a call to the disk fails, and that it costs nothing.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::queue::{image::Image, segment::Segment};

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
        segment.append(&[], &blocks(first..first + 10)).unwrap();
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
fn what_the_store_overwrote_after_a_failed_read_is_put_back() {
    let temp = TempDir::new().unwrap();
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

#[test]
fn a_tear_that_is_there_each_time_is_accepted() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("00000001");
    let log = written(&dir);
    let length = log.metadata().unwrap().len();
    // A block in the middle that no checksum fits any more.
    log.write_all_at(&[0x55; 64], length / 2).unwrap();
    drop(log);
    let segment = Segment::open_from_log(&dir).unwrap();
    let found = numbers(&segment);
    assert!(!found.is_empty() && found.len() < BLOCKS as usize);
    let contiguous: Vec<u64> = (1..=found.len() as u64).collect();
    assert_eq!(found, contiguous);
}

const TOLD: &str = "QUEUE_TEST_LIMITED_DIR";

/// sled writes a batch that does not fit its buffer on a thread of its own, and when that write failed,
/// nobody was told: the commit slept for ever. A process that may write only so much shows it.
#[test]
fn a_write_that_fails_on_a_thread_of_the_store_fails_the_commit() {
    if let Some(dir) = std::env::var_os(TOLD) {
        let segment = Segment::create(Path::new(&dir)).unwrap();
        let failed =
            (0..4).find_map(|n| segment.append(&[], &blocks(n * 100..n * 100 + 100)).err());
        assert!(failed.is_some(), "the limit was not met");
        // What is sick is never dropped; neither is it here.
        std::process::exit(0);
    }
    let temp = TempDir::new().unwrap();
    let name =
        "queue::tests::segments::a_write_that_fails_on_a_thread_of_the_store_fails_the_commit";
    // Beyond the limit a write fails with EFBIG, where the signal is ignored.
    let mut child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(TOLD, temp.path().join("00000001"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the commit never came back");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "{status}");
    assert!(fs::metadata(temp.path().join("00000001/db")).is_ok());
}
