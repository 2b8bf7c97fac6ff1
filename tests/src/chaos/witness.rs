//! Sees everything that reaches Kafka, while it happens, and holds it against what was sent.
//!
//! The tight loops end here and not in MongoDB: what the agent promises is visible in Kafka, and the
//! sink has loops of its own. A record that comes again under its identity is harmless, and is counted;
//! a reading under two identities is a duplicate, an identity with two readings is worse.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use protocol::{
    Epoch, Record, RecordId, Value,
    control::{EpochFact, Fact, Loss},
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};

use super::{feed, report::Report};
use crate::wait;

const WITHIN: Duration = Duration::from_secs(120);

/// Everything seen so far.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Reading of each identity.
    pub by_id: BTreeMap<RecordId, u64>,
    /// First identity of each reading.
    pub readings: HashMap<u64, RecordId>,
    /// The newest statement of each loss.
    pub losses: BTreeMap<(Epoch, u64), Loss>,
    /// The newest statement of each epoch.
    pub epochs: BTreeMap<Epoch, EpochFact>,
    /// Records that came again.
    pub again: u64,
    duplicated: u64,
    altered: u64,
    disordered: u64,
    unexplained: u64,
    notes: Vec<String>,
    newest: HashMap<String, u64>,
    next: HashMap<(String, i32), i64>,
}

/// Watches. Ends with this value.
pub struct Witness {
    consumer: Arc<BaseConsumer>,
    seen: Arc<Mutex<Seen>>,
    topics: [String; 2],
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// Watches two topics from their beginning: of readings, and of facts.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn start(bootstrap: &str, readings: &str, control: &str) -> Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "witness-without-a-group")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "50")
            .create()?;
        let topics = [readings.to_owned(), control.to_owned()];
        let mut assignment = TopicPartitionList::new();
        for topic in &topics {
            for partition in partitions(&consumer, topic)? {
                assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
        }
        consumer.assign(&assignment)?;
        let witness = Self {
            consumer: Arc::new(consumer),
            seen: Arc::default(),
            topics,
            stop: Arc::default(),
            thread: None,
        };
        witness.watch()
    }

    fn watch(mut self) -> Result<Self> {
        let (consumer, seen) = (Arc::clone(&self.consumer), Arc::clone(&self.seen));
        let (stop, readings) = (Arc::clone(&self.stop), self.topics[0].clone());
        let thread = std::thread::Builder::new().name("witness".to_owned());
        self.thread = Some(thread.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // An error passes: Kafka may be away on purpose, and what it never gave out shows at
                // the end.
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
                    let value = message.payload().unwrap_or_default();
                    let mut seen = lock(&seen);
                    if message.topic() == readings {
                        seen.reading(value);
                    } else {
                        seen.fact(value);
                    }
                    let place = (message.topic().to_owned(), message.partition());
                    seen.next.insert(place, message.offset() + 1);
                }
            }
        })?);
        Ok(self)
    }

    /// Waits until everything that is in Kafka now has been seen, and returns it.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn everything(&self) -> Result<Seen> {
        for topic in &self.topics {
            for partition in partitions(&self.consumer, topic)? {
                let (_, high) = self
                    .consumer
                    .fetch_watermarks(topic, partition, WITHIN)
                    .with_context(|| format!("end of {topic}"))?;
                let place = (topic.clone(), partition);
                wait::until_true("the witness to see the end", WITHIN, || {
                    Ok(high <= 0 || lock(&self.seen).next.get(&place) >= Some(&high))
                })?;
            }
        }
        Ok(lock(&self.seen).clone())
    }

    /// How many different readings were seen, and how many more losses name.
    #[must_use]
    pub fn count(&self) -> (u64, u64) {
        let seen = lock(&self.seen);
        let declared = match seen.losses.len() {
            0 => 0,
            _ => seen.declared().count() as u64,
        };
        (seen.readings.len() as u64, declared)
    }

    /// Forgets what was seen, but not where in Kafka that was.
    pub fn forget(&self) {
        let mut seen = lock(&self.seen);
        let next = std::mem::take(&mut seen.next);
        *seen = Seen {
            next,
            ..Seen::default()
        };
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), WITHIN)?;
    let topic = metadata.topics().first().context("topic in its metadata")?;
    Ok(topic.partitions().iter().map(|one| one.id()).collect())
}

/// The reading's number, when its device, sequence and value belong together.
fn told(record: &Record) -> Option<u64> {
    let reading = &record.reading;
    let k = feed::number(reading.device.as_str(), reading.source?.sequence)?;
    let same = reading.fields.get("power_w") == Some(&Value::Float(feed::value(k)));
    (same && reading.fields.len() == 1).then_some(k)
}

impl Seen {
    fn note(&mut self, text: String) {
        if self.notes.len() < 8 {
            self.notes.push(text);
        }
    }

    fn reading(&mut self, value: &[u8]) {
        let record = match protocol::record::json::decode(value) {
            Ok(record) => record,
            Err(error) => {
                self.altered += 1;
                return self.note(format!("not a record: {error}"));
            }
        };
        let id = record.id.clone();
        let Some(k) = told(&record) else {
            self.altered += 1;
            return self.note(format!("altered: {id} {:?}", record.reading));
        };
        match self.by_id.get(&id) {
            Some(&before) if before == k => {
                self.again += 1;
                return;
            }
            Some(&before) => {
                self.altered += 1;
                return self.note(format!("{id} is reading {before} and {k}"));
            }
            None => {}
        }
        self.by_id.insert(id.clone(), k);
        if let Some(first) = self.readings.get(&k) {
            let text = format!("reading {k} is {first} and {id}");
            self.duplicated += 1;
            return self.note(text);
        }
        self.readings.insert(k, id.clone());
        let (device, sequence) = feed::source(k);
        let newest = self.newest.entry(device).or_insert(0);
        if *newest > sequence {
            let text = format!("reading {k} ({id}) came after its device's {newest}");
            self.disordered += 1;
            self.note(text);
        } else {
            *newest = sequence;
        }
    }

    fn fact(&mut self, value: &[u8]) {
        match Fact::decode(value) {
            Ok(Fact::Loss(loss)) => {
                self.losses.insert((loss.epoch, loss.first), loss);
            }
            Ok(Fact::Epoch(epoch)) => {
                self.epochs.insert(epoch.epoch, epoch);
            }
            Ok(_) => {}
            Err(error) => {
                self.unexplained += 1;
                self.note(format!("not a fact: {error}"));
            }
        }
    }

    /// Whether a loss names this identity.
    #[must_use]
    pub fn declares(&self, epoch: Epoch, sequence: u64) -> bool {
        self.losses.values().any(|loss| {
            loss.epoch == epoch
                && loss.first <= sequence
                && loss.last.is_none_or(|last| sequence <= last)
        })
    }

    /// Identities that losses with a known end name and that were not seen.
    fn declared(&self) -> impl Iterator<Item = (Epoch, u64)> {
        let named = self.losses.values().filter_map(|loss| {
            let last = loss.last?;
            Some((loss.first..=last).map(|sequence| (loss.epoch, sequence)))
        });
        let seen: BTreeSet<(Epoch, u64)> = self
            .by_id
            .keys()
            .map(|id| (id.epoch, id.sequence))
            .collect();
        let named: BTreeSet<(Epoch, u64)> = named.flatten().collect();
        named.into_iter().filter(move |id| !seen.contains(id))
    }

    /// Identities between the first of an epoch and the last one seen or stated that were not seen.
    #[must_use]
    pub fn holes(&self) -> BTreeSet<(Epoch, u64)> {
        let mut ends: BTreeMap<Epoch, u64> = BTreeMap::new();
        for id in self.by_id.keys() {
            let end = ends.entry(id.epoch).or_default();
            *end = (*end).max(id.sequence);
        }
        for (epoch, fact) in &self.epochs {
            if let Some(committed) = fact.committed {
                let end = ends.entry(*epoch).or_default();
                *end = (*end).max(committed);
            }
        }
        let seen: BTreeSet<(Epoch, u64)> = self
            .by_id
            .keys()
            .map(|id| (id.epoch, id.sequence))
            .collect();
        ends.into_iter()
            .flat_map(|(epoch, last)| (0..=last).map(move |sequence| (epoch, sequence)))
            .filter(|id| !seen.contains(id))
            .collect()
    }

    /// Holds what was seen against the obligations: I1, I2, I3, I8, and I9 in that a loss that names a
    /// reading nobody misses, or a number that never was, is unexplained.
    pub fn judge(&self, obligations: &BTreeSet<u64>, report: &mut Report) {
        report.obligations += obligations.len() as u64;
        report.stored += self.readings.len() as u64;
        report.duplicated += self.duplicated;
        report.altered += self.altered;
        report.disordered += self.disordered;
        report.unexplained += self.unexplained;
        self.notes.iter().for_each(|note| report.note(note.clone()));
        let holes = self.holes();
        let declared = holes
            .iter()
            .filter(|(epoch, sequence)| self.declares(*epoch, *sequence))
            .count() as u64;
        let undeclared = holes.len() as u64 - declared;
        let missing: Vec<u64> = obligations
            .iter()
            .filter(|k| !self.readings.contains_key(k))
            .copied()
            .collect();
        let lost = (missing.len() as u64).saturating_sub(declared);
        report.declared_lost += declared;
        report.lost += lost;
        if lost > 0 {
            let some = &missing[..missing.len().min(10)];
            report.note(format!("lost {} readings: {some:?} …", missing.len()));
        }
        if undeclared > 0 {
            report.unexplained(format!(
                "{undeclared} identities are neither seen nor declared"
            ));
        }
        for loss in self.losses.values() {
            let gone =
                holes.range((loss.epoch, loss.first)..=(loss.epoch, loss.last.unwrap_or(u64::MAX)));
            if gone.count() == 0 {
                report.unexplained(format!("false alarm: {loss:?}"));
            }
        }
    }
}
