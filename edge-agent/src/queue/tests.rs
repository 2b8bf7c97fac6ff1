//! What the queue promises. Crashes are copies of the directory taken between two steps of the disk.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod basics;
mod bounds;
mod broker;
mod faults;
mod frozen;
mod memory;
mod model;
mod owners;
mod properties;
mod repeats;
mod rescue;
mod segments;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use protocol::{Clock, DeviceId, FieldName, Fields, Metadata, Reading, SourceId, Timestamp, Value};
use tempfile::TempDir;

use super::*;
use crate::{
    config::WhenFull,
    conservation::Conservation,
    ingest::{Connection, Delivery, Message, Origin, Outcome},
};

fn settings() -> config::Queue {
    config::Queue {
        max_bytes: 1 << 30,
        max_age: Duration::from_secs(30 * 86_400),
        min_free_bytes: 0,
        when_full: WhenFull::DropOldest,
        commit_every: Duration::from_millis(100),
        segment_bytes: 8 << 20,
        segment_age: Duration::from_secs(3600),
    }
}

/// `seconds` after the first of January 2026, synchronised.
fn at(seconds: i64) -> Now {
    Now {
        wall: Timestamp::from_micros(1_767_225_600_000_000 + seconds * 1_000_000).unwrap(),
        synced: true,
    }
}

fn reading(device: &str, value: i64, source: Option<SourceId>) -> Reading {
    let name = FieldName::new("count").unwrap();
    Reading {
        device: DeviceId::new(device).unwrap(),
        time: at(value).wall,
        clock: Clock::Synced,
        fields: Fields::new(vec![(name, Value::Int(value))]).unwrap(),
        source,
        meta: Metadata::default(),
    }
}

fn message(readings: Vec<Reading>) -> Message {
    Message {
        lane: topic(),
        readings,
        origin: Origin::Unknown,
        received: at(0).wall,
        answer: None,
    }
}

/// A message of one reading without any identity of its own.
fn plain(value: i64) -> Message {
    message(vec![reading("d", value, None)])
}

/// How a broker delivers a message on the connection of that number: with DUP or without.
fn came(packet_id: u16, topic_hash: u64, connection: u32, is_dup: bool) -> Origin {
    Origin::Mqtt {
        packet_id,
        topic_hash,
        connection: Connection {
            client: 3,
            number: connection,
        },
        delivery: match is_dup {
            true => Delivery::Again,
            false => Delivery::First,
        },
    }
}

/// A message of one reading that its device has numbered.
fn numbered(device: &str, boot: u64, sequence: u64) -> Message {
    let source = SourceId { boot, sequence };
    message(vec![reading(device, sequence as i64, Some(source))])
}

fn topic() -> Topic {
    Topic::new("t").unwrap()
}

fn gateway() -> GatewayId {
    GatewayId::new("gw").unwrap()
}

/// A directory in memory where that has room: nothing here needs a disk, for a crash is a copy taken between two
/// steps.
fn temp_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let has_room = files::free_bytes(memory).is_ok_and(|free| free >= 1 << 30);
    let dir = match has_room && std::env::var_os("TMPDIR").is_none() {
        true => TempDir::new_in(memory),
        false => TempDir::new(),
    };
    dir.unwrap()
}

/// One process with one lane.
struct Rig {
    dir: PathBuf,
    settings: config::Queue,
    conservation: Arc<Conservation>,
    writer: Option<Writer>,
    reader: Reader,
    lane: Arc<Lane>,
    _temp: Option<TempDir>,
}

impl Rig {
    fn new(settings: config::Queue) -> Self {
        let temp = temp_dir();
        let mut rig = Self::at(temp.path(), settings);
        rig._temp = Some(temp);
        rig
    }

    fn at(dir: &Path, settings: config::Queue) -> Self {
        let conservation = Arc::new(Conservation::default());
        let Opened {
            writer,
            reader,
            lane,
        } = open(
            dir,
            &gateway(),
            &topic(),
            &settings,
            Arc::clone(&conservation),
            at(0),
        )
        .unwrap();
        let rig = Self {
            dir: dir.to_owned(),
            settings,
            conservation,
            writer: Some(writer),
            reader,
            lane,
            _temp: None,
        };
        rig.check();
        rig
    }

    /// Starts another process on what a kill at this moment leaves.
    fn killed(&self) -> Self {
        let temp = temp_dir();
        copy(&self.dir, temp.path());
        let mut rig = Self::at(temp.path(), self.settings.clone());
        rig._temp = Some(temp);
        rig
    }

    /// Ends in order and starts again.
    fn restarted(mut self) -> Self {
        self.writer.take().unwrap().close(at(0)).unwrap();
        let (dir, settings, temp) = (self.dir.clone(), self.settings.clone(), self._temp.take());
        drop(self);
        let mut rig = Self::at(&dir, settings);
        rig._temp = temp;
        rig
    }

    fn writer(&mut self) -> &mut Writer {
        self.writer.as_mut().unwrap()
    }

    fn commit(&mut self, batch: &[Message]) -> Result<Vec<Outcome>, CommitError> {
        self.commit_at(batch, at(0))
    }

    fn commit_at(&mut self, batch: &[Message], now: Now) -> Result<Vec<Outcome>, CommitError> {
        let readings: usize = batch.iter().map(|m| m.readings.len()).sum();
        self.conservation.received(readings as u64);
        let result = self.retry(batch, now);
        if result.is_err() {
            // The test's source gives up or is asked again: either way it counts anew.
            self.conservation.rejected(readings as u64);
        }
        result
    }

    /// A commit of readings that have been received before.
    fn retry(&mut self, batch: &[Message], now: Now) -> Result<Vec<Outcome>, CommitError> {
        let result = self.writer().commit(batch, now);
        self.check();
        result
    }

    fn store(&mut self, values: std::ops::Range<i64>) {
        for value in values {
            assert_eq!(self.commit(&[plain(value)]).unwrap(), [Outcome::Stored]);
        }
    }

    fn next(&mut self, max: usize) -> Vec<Entry> {
        let entries = self.reader.next(max, at(0)).unwrap();
        self.check();
        entries
    }

    fn acknowledge(&mut self, count: usize) {
        self.reader
            .acknowledge(count, &BTreeMap::from([(0, 7)]), at(0))
            .unwrap();
        self.check();
    }

    /// Reads and acknowledges everything.
    fn drain(&mut self) -> Vec<Entry> {
        let mut all = Vec::new();
        let mut empty = 0;
        while empty < 2 {
            let entries = self.next(100);
            empty = if entries.is_empty() { empty + 1 } else { 0 };
            self.acknowledge(entries.len());
            all.extend(entries);
        }
        all
    }

    /// Waits until no segment is being sealed.
    fn settle(&mut self) {
        self.writer().join_sealer();
    }

    fn check(&self) {
        let balance = self.conservation.snapshot();
        assert!(balance.holds(), "{balance:?}");
        assert_eq!(balance.queued, self.lane.stat().readings, "{balance:?}");
    }

    fn lane_dir(&self) -> PathBuf {
        self.dir.join("t")
    }
}

fn values(entries: &[Entry]) -> Vec<i64> {
    entries
        .iter()
        .map(|entry| match entry.record.reading.fields.get("count") {
            Some(Value::Int(value)) => *value,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
