//! The bytes on disk, version 1. If one of these fails, do not edit the test: revert the change, or make
//! a version 2 beside it.

use protocol::{Digest, Epoch, control::LossReason};

use super::*;
use crate::queue::{
    block::{self, Header, MqttOrigin, Packed},
    book::{Book, LossEntry},
    directory::{lane_body, lane_of},
    envelope::{self, EnvelopeError},
    head::{self, Found},
    memory::{Memory, Staged},
    summary::{Run, Summary},
    untold::Untold,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn epoch() -> Epoch {
    Epoch::from_random(0x1f3a_9c04_d2be)
}

fn block_bytes() -> Vec<u8> {
    let packed = Packed {
        received: at(0).wall,
        digest: Digest(0x1122_3344_5566_7788),
        origin: Some(MqttOrigin {
            packet_id: 7,
            topic_hash: [1; 8],
            digest: [2; 8],
        }),
        reading: block::pack(&reading(
            "d",
            5,
            Some(SourceId {
                boot: 1,
                sequence: 2,
            }),
        ))
        .unwrap(),
    };
    let mut blocks = block::encode(epoch(), 300, at(1).wall, true, &[packed]);
    assert_eq!(blocks.len(), 1);
    blocks.remove(0).1
}

#[test]
fn block_v1() {
    let bytes = block_bytes();
    assert_eq!(hex(&bytes), BLOCK);
    let (header, items) = block::decode(&bytes).unwrap();
    let wanted = Header {
        epoch: epoch(),
        first: 300,
        count: 1,
        committed: at(1).wall,
        synced: true,
    };
    assert_eq!(header, wanted);
    assert_eq!(items[0].received, at(0).wall);
}

#[test]
fn lane_v1() {
    let bytes = lane_body(&gateway(), &topic());
    assert_eq!(hex(&bytes), LANE);
    assert_eq!(lane_of(&bytes).unwrap(), (gateway(), topic()));
}

fn book() -> Book {
    let mut book = Book {
        generation: 9,
        handed: 3,
        ..Book::default()
    };
    book.begin(epoch());
    book.commit(epoch(), 41);
    book.offsets(epoch(), &BTreeMap::from([(2, 500)]));
    book.settle_before(Some((epoch(), 10)));
    book.begin(Epoch::from_random(2));
    book.lose(LossEntry {
        epoch: epoch(),
        first: 12,
        last: None,
        reason: LossReason::Unreadable,
        merged: false,
        possibly_delivered: true,
        at: at(0).wall,
    });
    book
}

#[test]
fn head_v1() {
    let body = postcard::to_allocvec(&book()).unwrap();
    let slot = envelope::seal(1, &body);
    assert_eq!(hex(&slot), HEAD);
    let mut file = vec![0; 2 * 16 * 1024];
    file[16 * 1024..16 * 1024 + slot.len()].copy_from_slice(&slot);
    let found = head::parse(&file).unwrap();
    assert_eq!(
        found,
        Found::Book {
            book: book(),
            newest: false
        }
    );
}

#[test]
fn seal_v1() {
    let summary = Summary {
        first_block: 5,
        next_block: 9,
        runs: vec![Run {
            epoch: epoch(),
            first: 0,
            last: 41,
        }],
        oldest_us: 1,
        newest_us: 2,
        synced: true,
    };
    let temp = temp_dir();
    summary.write(temp.path()).unwrap();
    assert_eq!(hex(&std::fs::read(temp.path().join("seal")).unwrap()), SEAL);
    assert_eq!(Summary::read(temp.path()).unwrap(), Some(summary));
}

/// A device of one numbered reading, and the message it came in.
fn heard() -> Staged {
    let memory = Memory::default();
    let mut staged = Staged::default();
    let source = SourceId {
        boot: 7,
        sequence: 300,
    };
    memory.seen(
        &mut staged,
        &DeviceId::new("d").unwrap(),
        source,
        Digest(0x1122_3344_5566_7788),
    );
    let origin = MqttOrigin {
        packet_id: 7,
        topic_hash: [1; 8],
        digest: [2; 8],
    };
    let connection = Connection {
        client: 0,
        number: 0,
    };
    staged.remember(origin, connection, Delivery::Further);
    staged
}

#[test]
fn dropped_v1() {
    let temp = temp_dir();
    let (untold, memory) = (Untold::default(), Memory::default());
    let stated = untold.state(temp.path(), &memory, &heard(), 77, (epoch(), 41));
    drop(stated.unwrap());
    let bytes = std::fs::read(temp.path().join("dropped")).unwrap();
    assert_eq!(hex(&bytes), DROPPED);
    let mut book = book();
    for (next_block, knows) in [(77, true), (78, false)] {
        let mut memory = Memory::default();
        Untold::read(temp.path(), &mut memory, next_block, &book)
            .unwrap()
            .unwrap();
        assert_eq!(memory.has(&DeviceId::new("d").unwrap()), knows);
    }
    // Without the loss, what was dropped is to come again.
    book.epoch_mut(epoch()).unwrap().committed = Some(40);
    let mut memory = Memory::default();
    Untold::read(temp.path(), &mut memory, 77, &book)
        .unwrap()
        .unwrap();
    assert_eq!(memory, Memory::default());
}

#[test]
fn carry_v1() {
    let mut memory = Memory::default();
    memory.apply(heard());
    let entries = memory.carry(77);
    assert_eq!(
        entries.iter().map(|entry| hex(entry)).collect::<Vec<_>>(),
        [CARRY]
    );
    assert_eq!(Memory::read(&entries).unwrap(), (memory, Some(77)));
}

/// The bytes of a hex block: on each line what stands before two spaces and a remark.
fn shown(name: &str) -> String {
    const PAGE: &str = include_str!("../../../../docs/formats.md");
    let (_, block) = PAGE.split_once(&format!("```hex queue-{name}\n")).unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let bytes = |line: &'static str| line.split("   ").next().unwrap().replace(' ', "");
    block.lines().map(bytes).collect()
}

#[test]
fn the_queue_in_the_formats_page_is_that_of_the_code() {
    for (name, frozen) in [
        ("lane", LANE),
        ("head", HEAD),
        ("block", BLOCK),
        ("seal", SEAL),
        ("carry", CARRY),
        ("dropped", DROPPED),
    ] {
        assert_eq!(shown(name), frozen, "{name}");
    }
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let newer = envelope::seal(2, b"whatever");
    assert_eq!(envelope::open(&newer, 1), Err(EnvelopeError::Newer(2)));
    let mut flipped = block_bytes();
    flipped[0] = 2;
    assert_eq!(block::decode(&flipped).unwrap_err(), EnvelopeError::Damaged);

    for name in ["lane", "head", "dropped"] {
        let rig = Rig::new(settings());
        let temp = temp_dir();
        copy(&rig.dir, temp.path());
        let path = temp.path().join("t").join(name);
        let mut bytes = newer.clone();
        bytes.resize(32 * 1024, 0);
        std::fs::write(&path, bytes).unwrap();
        let opened = open(
            temp.path(),
            &gateway(),
            &topic(),
            &settings(),
            Arc::default(),
            at(0),
        );
        assert!(
            matches!(
                opened,
                Err(OpenError::Newer {
                    found: 2,
                    known: 1,
                    ..
                })
            ),
            "{name}"
        );
    }
}

pub const BLOCK: &str = "0149000000beb8138bbea593e0a9e707ac02018089fce288d2a3060180897a887766554433221101070101010101010101020202020202020218016480ade4e688d2a306010105636f756e74010a01010200";
pub const LANE: &str = "01050000006c2023850267770174";
pub const HEAD: &str = "0138000000362f3f52090302bea593e0a9e70700012901090104e807010201bea593e0a9e70701290000000001bea593e0a9e7070c00030001808082e288d2a306";
const SEAL: &str = "010f0000007415e0c7050901bea593e0a9e7070029020401";
const DROPPED: &str = "0134000000fc4002204dbea593e0a9e707290129012000000003a38a444d0101640107ac02010188776655010701010101010101010202020202020202";
pub const CARRY: &str =
    "012000000003a38a444d0101640107ac02010188776655010701010101010101010202020202020202";
