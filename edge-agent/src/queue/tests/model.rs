//! Any order of commits, reads, acknowledgements, kills, restarts, failing disks and damage, against a
//! model that is a list of numbers.

use std::{collections::BTreeSet, fs, io, os::unix::fs::FileExt};

use proptest::{prelude::*, test_runner::RngSeed};
use protocol::{
    RecordId,
    control::{Fact, Loss},
};

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
        6 => (1..=250_u8).prop_map(Action::Commit),
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
    proptest::collection::vec(action, 1..60)
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
    bounded: bool,
    /// Losses the sink has heard of.
    declared: Vec<Loss>,
}

type RecordKey = String;

impl Model {
    fn apply(&mut self, action: &Action) {
        match *action {
            Action::Commit(count) => {
                let values = self.next..self.next + i64::from(count);
                self.next = values.end;
                let batch: Vec<_> = values.clone().map(plain).collect();
                match self.rig.commit(&batch) {
                    // Dropped or stored, the source was told that it may forget.
                    Ok(_) => self.stored.extend(values),
                    Err(CommitError::Full(_)) => {}
                    Err(CommitError::Exhausted) => self.start_again(),
                    Err(error) => panic!("{error}"),
                }
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
                    self.hear(&fact);
                    self.rig.lane.stated(&fact).unwrap();
                }
            }
            Action::Damage { file, place } => self.damage(file, place),
        }
    }

    fn hear(&mut self, fact: &Fact) {
        if let Fact::Loss(loss) = fact {
            self.declared.push(loss.clone());
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
        let settled = match failed {
            Err(CommitError::Io(_)) if retried => self.rig.retry(&[plain(value)], at(0)).is_ok(),
            other => other.is_ok(),
        };
        if settled {
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
        for fact in self.rig.lane.facts(at(9)) {
            self.hear(&fact);
        }
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
        if !self.damaged && !self.bounded {
            assert!(missing.is_empty(), "lost {missing:?}");
        }
        let mut declared = BTreeSet::new();
        for loss in &self.declared {
            // An end that is not known: no epoch here has more readings than values were made.
            let last = loss.last.unwrap_or(loss.first + self.next as u64);
            declared.extend((loss.first..=last).map(|sequence| RecordId {
                gateway: gateway(),
                epoch: loss.epoch,
                sequence,
            }));
        }
        declared.retain(|id| !of_id.contains_key(&id.to_string()));
        let (lost, named) = (missing.len(), declared.len());
        assert!(lost <= named, "{lost} missing, {named} declared");
    }
}

/// `QUEUE_MODEL_CASES` asks for more cases, `QUEUE_MODEL_SEED` for those of an earlier run.
fn cases() -> ProptestConfig {
    let asked = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let cases = asked("QUEUE_MODEL_CASES").unwrap_or(48);
    let seed = asked("QUEUE_MODEL_SEED").unwrap_or_else(random_seed);
    eprintln!("QUEUE_MODEL_CASES={cases} QUEUE_MODEL_SEED={seed}");
    ProptestConfig {
        cases: cases as u32,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_order_of_events_loses_or_doubles_a_reading(
        actions in actions(),
        when_full in prop_oneof![Just(WhenFull::DropOldest), Just(WhenFull::DropNewest), Just(WhenFull::Block)],
        bounded in prop::bool::weighted(0.4),
    ) {
        let settings = config::Queue {
            segment_bytes: 32 << 10,
            max_bytes: if bounded { 3 << 19 } else { 1 << 30 },
            when_full,
            ..settings()
        };
        let mut model = Model {
            rig: Rig::new(settings),
            next: 0,
            stored: BTreeSet::new(),
            maybe: BTreeSet::new(),
            sent: Vec::new(),
            settled: BTreeSet::new(),
            handed: Vec::new(),
            damaged: false,
            bounded,
            declared: Vec::new(),
        };
        for action in &actions {
            model.apply(action);
        }
        model.finish();
    }
}
