//! Any order of commits, reads, acknowledgements, kills, restarts, failing disks and damage, against a
//! model that is a list of numbers.

use std::{collections::BTreeSet, fs, io, os::unix::fs::FileExt};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Action {
    Commit(u8),
    FailedCommit { step: u8, retried: bool },
    Read(u8),
    Acknowledge(u8),
    Refuse,
    Rewind,
    Restart,
    Kill,
    State,
    Damage { file: u8, place: u16 },
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        6 => (1..=120_u8).prop_map(Action::Commit),
        1 => (0..4_u8, any::<bool>()).prop_map(|(step, retried)| Action::FailedCommit { step, retried }),
        4 => (1..=200_u8).prop_map(Action::Read),
        4 => any::<u8>().prop_map(Action::Acknowledge),
        1 => Just(Action::Refuse),
        1 => Just(Action::Rewind),
        1 => Just(Action::Restart),
        2 => Just(Action::Kill),
        1 => Just(Action::State),
        1 => (any::<u8>(), any::<u16>()).prop_map(|(file, place)| Action::Damage { file, place }),
    ];
    proptest::collection::vec(action, 1..40)
}

const STEPS: [&str; 4] = [
    "append: before batch",
    "append: before flush",
    "append: before fdatasync",
    "append: durable",
];

struct Model {
    rig: Rig,
    next: i64,
    /// Promised to the source.
    stored: BTreeSet<i64>,
    /// Never promised, may be there all the same.
    maybe: BTreeSet<i64>,
    sent: Vec<(i64, RecordKey)>,
    settled: BTreeSet<i64>,
    /// Handed out and not acknowledged.
    handed: Vec<i64>,
    damaged: bool,
    /// Losses heard by the sink.
    declared: u64,
}

type RecordKey = String;

impl Model {
    fn apply(&mut self, action: &Action) {
        match *action {
            Action::Commit(count) => {
                let values = self.next..self.next + i64::from(count);
                self.next = values.end;
                let batch: Vec<_> = values.clone().map(plain).collect();
                self.rig.commit(&batch).unwrap();
                self.stored.extend(values);
            }
            Action::FailedCommit { step, retried } => self.fail(STEPS[usize::from(step)], retried),
            Action::Read(max) => {
                let entries = self.rig.next(usize::from(max));
                for (value, entry) in values(&entries).into_iter().zip(&entries) {
                    self.sent.push((value, entry.record.id.to_string()));
                    self.handed.push(value);
                }
            }
            Action::Acknowledge(part) => {
                let count = self.handed.len() * usize::from(part) / 255;
                self.rig.acknowledge(count);
                self.settled.extend(self.handed.drain(..count));
            }
            Action::Refuse => {
                if !self.handed.is_empty() {
                    let reason = protocol::control::LossReason::Refused;
                    self.rig.reader.lose_front(reason, at(0)).unwrap();
                    self.settled.insert(self.handed.remove(0));
                }
            }
            Action::Rewind => {
                self.rig.reader.rewind();
                self.handed.clear();
            }
            Action::Restart => {
                self.rig.writer.take().unwrap().close(at(0)).unwrap();
                self.start_again();
            }
            Action::Kill => {
                self.rig.settle();
                self.start_again();
            }
            Action::State => {
                for fact in self.rig.lane.facts(at(9)) {
                    if let protocol::control::Fact::Loss(loss) = &fact
                        && loss.reason == protocol::control::LossReason::Unreadable
                    {
                        self.declared += loss.last.map_or(1, |last| last - loss.first + 1);
                    }
                    self.rig.lane.stated(&fact).unwrap();
                }
            }
            Action::Damage { file, place } => self.damage(file, place),
        }
    }

    fn start_again(&mut self) {
        self.rig = self.rig.killed();
        self.handed.clear();
    }

    fn fail(&mut self, step: &'static str, retried: bool) {
        let value = self.next;
        self.next += 1;
        let mut left = 1;
        fault::set(Some(Box::new(move |name| {
            if name == step && left > 0 {
                left -= 1;
                return Err(io::Error::from_raw_os_error(5));
            }
            Ok(())
        })));
        self.rig.conservation.received(1);
        let failed = self.rig.retry(&[plain(value)], at(0));
        fault::set(None);
        assert!(failed.is_err());
        if retried {
            self.rig.retry(&[plain(value)], at(0)).unwrap();
            self.stored.insert(value);
        } else {
            self.rig.conservation.rejected(1);
            self.maybe.insert(value);
        }
    }

    fn damage(&mut self, file: u8, place: u16) {
        self.rig.settle();
        // Damage to what the head does not know of yet cannot be told from a torn tail: the one exemption.
        self.rig.lane.sync_head().unwrap();
        let mut files = vec![self.rig.lane_dir().join("head")];
        for segment in fs::read_dir(self.rig.lane_dir().join("segments")).unwrap() {
            for file in fs::read_dir(segment.unwrap().path()).unwrap() {
                files.push(file.unwrap().path());
            }
        }
        files.retain(|path| path.is_file());
        files.sort();
        let victim = &files[usize::from(file) % files.len()];
        let length = fs::metadata(victim).unwrap().len();
        if length > 0 {
            let place = u64::from(place) * length / 65_536;
            let handle = fs::File::options()
                .read(true)
                .write(true)
                .open(victim)
                .unwrap();
            let mut byte = [0];
            handle.read_exact_at(&mut byte, place).unwrap();
            handle.write_all_at(&[byte[0] ^ 4], place).unwrap();
            self.damaged = true;
        }
        self.start_again();
    }

    fn finish(&mut self) {
        self.rig.acknowledge(self.handed.len());
        self.settled.extend(self.handed.drain(..));
        let entries = self.rig.drain();
        for (value, entry) in values(&entries).into_iter().zip(&entries) {
            self.sent.push((value, entry.record.id.to_string()));
        }
        assert_eq!(self.rig.lane.stat().readings, 0);
        let mut of_value = BTreeMap::new();
        let mut of_id = BTreeMap::new();
        for (value, id) in &self.sent {
            assert_eq!(
                of_value.entry(*value).or_insert(id),
                &id,
                "one identity a reading"
            );
            assert_eq!(
                of_id.entry(id).or_insert(value),
                &value,
                "one reading an identity"
            );
            assert!(
                self.stored.contains(value) || self.maybe.contains(value),
                "invented {value}"
            );
        }
        let missing: Vec<_> = self
            .stored
            .iter()
            .filter(|value| !of_value.contains_key(value) && !self.settled.contains(value))
            .collect();
        if self.damaged {
            let mut declared = self.declared;
            for fact in self.rig.lane.facts(at(9)) {
                if let protocol::control::Fact::Loss(loss) = fact {
                    declared += loss
                        .last
                        .map_or(u64::from(u32::MAX), |last| last - loss.first + 1);
                }
            }
            assert!(
                missing.len() as u64 <= declared,
                "{} missing, {declared} declared",
                missing.len()
            );
        } else {
            assert!(missing.is_empty(), "lost {missing:?}");
        }
    }
}

/// `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: asked.and_then(|cases| cases.parse().ok()).unwrap_or(48),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_order_of_events_loses_or_doubles_a_reading(actions in actions()) {
        let mut model = Model {
            rig: Rig::new(config::Queue { segment_bytes: 32 << 10, ..settings() }),
            next: 0,
            stored: BTreeSet::new(),
            maybe: BTreeSet::new(),
            sent: Vec::new(),
            settled: BTreeSet::new(),
            handed: Vec::new(),
            damaged: false,
            declared: 0,
        };
        for action in &actions {
            model.apply(action);
        }
        model.finish();
    }
}
