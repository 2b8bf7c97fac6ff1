//! Any order of commits, reads, acknowledgements, kills, restarts, failing disks and damage, against a
//! model that is a list of numbers; and a broker that delivers again whatever it has no acknowledgement of.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs, io,
    os::unix::fs::FileExt,
    process::Command,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};
use protocol::{
    RecordId,
    control::{Fact, Loss},
};

use super::{broker::Broker, *};

#[derive(Debug, Clone)]
enum Action {
    Commit(u8),
    FailedCommit {
        step: u8,
        retried: bool,
    },
    Publish {
        count: u8,
        again: Option<u8>,
    },
    Deliver {
        count: u8,
        confirmed: u8,
        disk: Disk,
    },
    Disconnect,
    Read(u8),
    Acknowledge(u8),
    Refuse,
    Rewind,
    Restart,
    Kill,
    State,
    Damage {
        file: u8,
        place: u16,
    },
}

/// What the disk does while the broker delivers.
#[derive(Debug, Clone)]
enum Disk {
    Works,
    /// Fails at a step, so often in a row; each time the same group is committed again.
    Fails {
        step: u8,
        times: u8,
    },
    /// Fails at a step, and the process is killed before it can try again.
    FailsForGood {
        step: u8,
    },
    /// The process is killed at a step.
    IsLeftAt {
        step: u8,
    },
}

fn disk() -> impl Strategy<Value = Disk> {
    let step = 0..STEPS.len() as u8;
    prop_oneof![
        6 => Just(Disk::Works),
        1 => (step.clone(), 1..4_u8).prop_map(|(step, times)| Disk::Fails { step, times }),
        1 => step.clone().prop_map(|step| Disk::FailsForGood { step }),
        1 => step.prop_map(|step| Disk::IsLeftAt { step }),
    ]
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        6 => (1..=250_u8).prop_map(Action::Commit),
        1 => (0..STEPS.len() as u8, any::<bool>()).prop_map(|(step, retried)| Action::FailedCommit { step, retried }),
        4 => (1..=60_u8, prop::option::of(0..48_u8)).prop_map(|(count, again)| Action::Publish { count, again }),
        6 => (1..=120_u8, any::<u8>(), disk())
            .prop_map(|(count, confirmed, disk)| Action::Deliver { count, confirmed, disk }),
        1 => Just(Action::Disconnect),
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

const STEPS: [&str; 12] = [
    "append: before batch",
    "append: before flush",
    "append: before fdatasync",
    "append: durable",
    "replace: written",
    "replace: renamed",
    "segment: create",
    "segment: before its name",
    "segment: created",
    "head: before write",
    "head: before fdatasync",
    "head: durable",
];

struct Model {
    rig: Rig,
    broker: Broker,
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
            Action::Publish { count, again } => self.broker.publish(count, again),
            Action::Deliver {
                count,
                confirmed,
                ref disk,
            } => self.deliver(usize::from(count), confirmed, disk),
            Action::Disconnect => self.broker.disconnected(),
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
            Action::Kill => self.start_again(),
            Action::State => {
                for fact in self.rig.lane.facts(at(9)) {
                    self.hear(&fact);
                    self.rig.lane.stated([&fact]).unwrap();
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
        if self.rig.writer.is_some() {
            self.rig.settle();
        }
        let next = self.rig.killed();
        self.go_on_with(next);
    }

    fn go_on_with(&mut self, next: Rig) {
        self.rig = next;
        self.handed.clear();
        self.broker.disconnected();
    }

    /// The broker delivers, the agent commits, and some of its acknowledgements arrive.
    fn deliver(&mut self, count: usize, confirmed: u8, disk: &Disk) {
        let (values, batch) = self.broker.deliver(count);
        if batch.is_empty() {
            return;
        }
        let (step, times) = match *disk {
            Disk::Works => ("", 0),
            Disk::Fails { step, times } => (STEPS[usize::from(step)], times),
            Disk::FailsForGood { step } => (STEPS[usize::from(step)], 1),
            Disk::IsLeftAt { step } => (STEPS[usize::from(step)], 0),
        };
        // No other thread changes what is copied.
        self.rig.settle();
        let left = Rc::new(RefCell::new(None));
        if !step.is_empty() {
            let is_left = matches!(disk, Disk::IsLeftAt { .. });
            let (dir, left, mut times) = (self.rig.dir.clone(), Rc::clone(&left), times);
            fault::set(Some(Box::new(move |name| {
                if name != step {
                    return Ok(());
                }
                if is_left && left.borrow().is_none() {
                    let temp = temp_dir();
                    copy(&dir, temp.path());
                    *left.borrow_mut() = Some(temp);
                }
                if times > 0 {
                    times -= 1;
                    return Err(io::Error::from_raw_os_error(5));
                }
                Ok(())
            })));
        }
        self.rig.conservation.received(batch.len() as u64);
        let mut result = self.rig.retry(&batch, at(0));
        if !matches!(disk, Disk::FailsForGood { .. }) {
            for _ in 0..times {
                if matches!(result, Err(CommitError::Io(_))) {
                    result = self.rig.retry(&batch, at(0));
                }
            }
        }
        fault::set(None);
        if result.is_err() {
            self.rig.conservation.rejected(batch.len() as u64);
        }
        let left = left.take();
        match result {
            Ok(_) if left.is_none() => {
                self.stored.extend(values);
                self.broker.confirmed(confirmed);
            }
            // The agent holds them until there is room; the broker loses patience.
            Err(CommitError::Full(_)) if left.is_none() => {
                self.maybe.extend(values);
                self.broker.disconnected();
            }
            _ => {
                self.maybe.extend(values);
                match left {
                    Some(temp) => {
                        let mut next = Rig::at(temp.path(), self.rig.settings.clone());
                        next._temp = Some(temp);
                        self.go_on_with(next);
                    }
                    None => self.start_again(),
                }
            }
        }
    }

    /// Everything the broker has is delivered and confirmed.
    fn deliver_the_rest(&mut self) {
        self.broker.disconnected();
        let mut refused = 0;
        while !self.broker.is_empty() {
            let before = self.broker.waiting();
            self.deliver(usize::MAX, u8::MAX, &Disk::Works);
            if self.broker.waiting() < before {
                refused = 0;
                continue;
            }
            // The queue is full, or a process is due: room first.
            self.read_everything();
            self.rig.settle();
            refused += 1;
            assert!(
                refused < 10,
                "drained, and takes nothing: {:?}",
                self.rig.lane.state()
            );
        }
    }

    fn read_everything(&mut self) {
        self.rig.acknowledge(self.handed.len());
        self.settled.extend(self.handed.drain(..));
        let entries = self.rig.drain();
        for (value, entry) in values(&entries).into_iter().zip(&entries) {
            self.sent.push((value, entry.record.id.to_string()));
            self.settled.insert(value);
        }
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

    /// What the device sent first reached Kafka first.
    fn check_order(&self) {
        let mut newest = [None; 2];
        let mut seen = BTreeSet::new();
        for (value, _) in self.sent.iter().filter(|(value, _)| seen.insert(*value)) {
            let Some(device) = Broker::device(*value) else {
                continue;
            };
            let newest = &mut newest[usize::from(device)];
            assert!(*newest < Some(*value), "{value} after {newest:?}");
            *newest = Some(*value);
        }
    }

    fn finish(&mut self) {
        self.deliver_the_rest();
        self.read_everything();
        assert_eq!(self.rig.lane.stat().readings, 0);
        for fact in self.rig.lane.facts(at(9)) {
            self.hear(&fact);
        }
        let mut of_value = BTreeMap::new();
        let mut of_id = BTreeMap::new();
        for (value, id) in &self.sent {
            let first = *of_value.entry(*value).or_insert(id);
            // Damage may take what was remembered of the sources with it.
            if !self.damaged || Broker::device(*value).is_none() {
                assert_eq!(first, id, "one identity a reading: {value}");
            }
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
        if !self.damaged && !self.bounded {
            self.check_order();
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
            let made = self.next as u64 + self.broker.published();
            let last = loss.last.unwrap_or(loss.first + made);
            declared.extend((loss.first..=last).map(|sequence| RecordId {
                gateway: gateway(),
                epoch: loss.epoch,
                sequence,
            }));
        }
        declared.retain(|id| !of_id.contains_key(&id.to_string()));
        let (lost, named) = (missing.len(), declared.len());
        assert!(lost <= named, "{lost} missing, {named} declared");
        if !self.damaged && !self.declared.iter().any(|loss| loss.merged) {
            // What nobody was promised may be declared as well, and nothing else.
            let absent = |value: &&i64| !of_value.contains_key(value);
            let unpromised = self.maybe.iter().filter(absent).count();
            assert!(
                named <= lost + unpromised,
                "{named} declared, {lost} missing, {unpromised} never promised"
            );
        }
    }
}

/// Most cases of one process. A store that failed is never given back (see `segment`), and each case makes
/// some of them fail.
const CASES: u64 = 50;

fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}

fn case(actions: &[Action], when_full: WhenFull, bounded: bool) {
    let settings = config::Queue {
        segment_bytes: 32 << 10,
        max_bytes: if bounded { 3 << 19 } else { 1 << 30 },
        when_full,
        ..settings()
    };
    let mut model = Model {
        rig: Rig::new(settings),
        broker: Broker::default(),
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
    for action in actions {
        model.apply(action);
    }
    model.finish();
}

fn play(cases: u32, seed: u64) {
    let config = ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let when_full = prop_oneof![
        Just(WhenFull::DropOldest),
        Just(WhenFull::DropNewest),
        Just(WhenFull::Block)
    ];
    let all = (actions(), when_full, prop::bool::weighted(0.4));
    let played = TestRunner::new(config).run(&all, |(actions, when_full, bounded)| {
        case(&actions, when_full, bounded);
        Ok(())
    });
    if let Err(error) = played {
        panic!("{error}");
    }
}

/// `QUEUE_MODEL_CASES` asks for more cases, in processes of their own; `QUEUE_MODEL_SEED` for those of an earlier
/// run.
#[test]
fn no_order_of_events_loses_or_doubles_a_reading() {
    let asked = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let cases = asked("QUEUE_MODEL_CASES").unwrap_or(48);
    let seed = asked("QUEUE_MODEL_SEED").unwrap_or_else(random_seed);
    eprintln!("QUEUE_MODEL_CASES={cases} QUEUE_MODEL_SEED={seed}");
    if cases <= CASES {
        return play(cases as u32, seed);
    }
    // They wait for the store's threads more than they compute.
    let processes = 2 * thread::available_parallelism().map_or(1, usize::from);
    let (parts, next) = (cases.div_ceil(CASES), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..processes {
            scope.spawn(|| {
                while let Some(part) = Some(next.fetch_add(1, Relaxed)).filter(|part| *part < parts)
                {
                    play_apart(CASES.min(cases - part * CASES), seed.wrapping_add(part));
                    eprintln!("part {} of {parts}", part + 1);
                }
            });
        }
    });
}

/// Plays so many cases in a process of their own.
fn play_apart(cases: u64, seed: u64) {
    let done = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "queue::tests::model::no_order_of_events_loses_or_doubles_a_reading",
        ])
        .env("QUEUE_MODEL_CASES", cases.to_string())
        .env("QUEUE_MODEL_SEED", seed.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        said.contains("1 passed") || !done.status.success(),
        "{said}"
    );
    assert!(done.status.success(), "QUEUE_MODEL_SEED={seed}\n{said}");
}
