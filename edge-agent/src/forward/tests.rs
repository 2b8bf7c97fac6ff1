//! The uplink against librdkafka's own mock broker, with a queue that is a vector.

mod lane;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use protocol::{
    Clock as ReadingClock, DeviceId, Digest, Epoch, FieldName, Fields, GatewayId, Metadata,
    Reading, Record, RecordId, Timestamp, Topic, Value, record::json,
};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

use super::{
    Counters, Precedence, Surroundings,
    schema::{Form, Schemas},
    uplink::{Order, Uplink},
};
use crate::{
    clock::Clock,
    config,
    link::{LinkState, Links},
    quarantine::{self, Quarantine},
    queue::Entry,
};

const TOPIC: &str = "telemetry.readings.v1";
const PARTITIONS: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker, an uplink to it, and the part of the queue's contract that the uplink relies on.
struct Rig {
    cluster: MockCluster<'static, DefaultProducerContext>,
    uplink: Uplink,
    links: Links,
    counters: Arc<Counters>,
    entries: VecDeque<Entry>,
    handed_out: usize,
    acknowledged: usize,
    refused: Vec<u64>,
    _dir: tempfile::TempDir,
}

fn entry(sequence: u64) -> Entry {
    let now = Timestamp::from_micros(1_700_000_000_000_000).unwrap();
    let name = FieldName::new("temperature_c").unwrap();
    let reading = Reading {
        device: DeviceId::new("meter-1").unwrap(),
        time: now,
        clock: ReadingClock::Synced,
        fields: Fields::new(vec![(name, Value::Float(21.0))]).unwrap(),
        source: None,
        meta: Metadata::default(),
    };
    Entry {
        record: Record {
            id: RecordId {
                gateway: GatewayId::new("gw7").unwrap(),
                epoch: Epoch::from_random(7),
                sequence,
            },
            digest: Digest::of(&reading),
            reading,
        },
        received: now,
        committed: now,
    }
}

impl Rig {
    fn new(readings: u64) -> Self {
        Self::limited(readings, config::Limits::default(), &[])
    }

    /// Whose records go out together, as long as it takes to hand them over.
    fn in_one_batch(readings: u64) -> Self {
        Self::limited(readings, config::Limits::default(), &[("linger.ms", "100")])
    }

    fn limited(readings: u64, limits: config::Limits, properties: &[(&str, &str)]) -> Self {
        let rig = Self::without_topic(readings, limits, properties);
        rig.cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
        rig
    }

    fn without_topic(readings: u64, limits: config::Limits, more: &[(&str, &str)]) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        let mut kafka = config::Kafka {
            client: config::Client {
                properties: [
                    ("bootstrap.servers".into(), cluster.bootstrap_servers()),
                    ("reconnect.backoff.max.ms".into(), "200".into()),
                    ("statistics.interval.ms".into(), "200".into()),
                    ("topic.metadata.propagation.max.ms".into(), "500".into()),
                    ("topic.metadata.refresh.interval.ms".into(), "1000".into()),
                ]
                .into(),
                ..config::Client::default()
            },
            topic: TOPIC.parse().unwrap(),
            control_topic: "control".parse().unwrap(),
            value: config::ValueFormat::Json,
        };
        let more = more
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        kafka.client.properties.extend(more);
        let (links, counters) = (Links::default(), Arc::new(Counters::default()));
        let topic: Topic = TOPIC.parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let around = Surroundings {
            kafka,
            schemas: Schemas::always(&topic, Form::Json),
            clock: Clock::new(),
            links: links.clone(),
            quarantine: Quarantine::open(dir.path(), quarantine::MAX_BYTES).unwrap(),
            pulses: protocol_host::supervisor::Pulses::new(Duration::from_secs(60)),
            precedence: Precedence::default(),
            budgets: dir.path().join("budgets"),
        };
        let counted = Arc::clone(&counters);
        let uplink = Uplink::new(&around, &limits, topic, TOPIC.into(), counted);
        Self {
            cluster,
            uplink,
            links,
            counters,
            entries: (0..readings).map(entry).collect(),
            handed_out: 0,
            acknowledged: 0,
            refused: vec![],
            _dir: dir,
        }
    }

    fn fail(&self, errors: &[RDKafkaRespErr]) {
        self.cluster.request_errors(RDKafkaApiKey::Produce, errors);
    }

    fn step(&mut self) {
        match self.uplink.turn() {
            Order::Acknowledge { count, .. } => {
                self.entries.drain(..count);
                self.handed_out -= count;
                self.acknowledged += count;
            }
            Order::Rewind { refused } => {
                if let Some(value) = refused {
                    let record = json::decode(&value).unwrap();
                    let front = self.entries.pop_front().unwrap();
                    assert_eq!(record, front.record, "the bytes kept are not those refused");
                    self.refused.push(record.id.sequence);
                }
                self.handed_out = 0;
            }
            Order::More(room) => {
                let left = self.entries.range(self.handed_out..);
                let more: Vec<Entry> = left.take(room.min(500)).cloned().collect();
                if more.is_empty() {
                    self.uplink.wait(Duration::from_millis(10));
                }
                self.handed_out += more.len();
                self.uplink.take(more);
            }
            Order::Wait => self.uplink.wait(Duration::from_millis(10)),
            Order::Held => {
                self.handed_out = 0;
                self.uplink.wait(Duration::from_millis(10));
            }
        }
    }

    /// Steps until the condition holds.
    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "waited in vain: {what}");
            self.step();
        }
    }

    fn drain(&mut self) {
        self.until("everything is settled", |rig| rig.entries.is_empty());
    }

    fn link(&self) -> LinkState {
        self.links.snapshot().remove(0).2
    }

    /// Sequences in the topic, in the order of the partition; all must be in the same one.
    fn topic(&self, distinct: usize) -> Vec<u64> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "reader")
            .create()
            .unwrap();
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset(TOPIC, partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&all).unwrap();
        let mut seen = Vec::new();
        let mut different = BTreeSet::new();
        let mut partition = None;
        let deadline = Instant::now() + PATIENCE;
        while different.len() < distinct {
            assert!(
                Instant::now() < deadline,
                "only {} arrived",
                different.len()
            );
            let Some(message) = consumer.poll(Duration::from_millis(100)) else {
                continue;
            };
            let message = message.unwrap();
            assert_eq!(message.key(), Some(&b"gw7"[..]));
            assert_eq!(
                *partition.get_or_insert(message.partition()),
                message.partition()
            );
            let record = json::decode(message.payload().unwrap()).unwrap();
            different.insert(record.id.sequence);
            seen.push(record.id.sequence);
        }
        seen
    }
}

/// What remains when everything that came before is left out.
fn first_seen(sequences: &[u64]) -> Vec<u64> {
    let mut seen = BTreeSet::new();
    let mut first = sequences.to_vec();
    first.retain(|sequence| seen.insert(*sequence));
    first
}

#[test]
fn a_backlog_arrives_complete_in_order_and_once() {
    let mut rig = Rig::new(12_000);
    rig.drain();
    assert_eq!(rig.topic(12_000), (0..12_000).collect::<Vec<_>>());
    assert_eq!(rig.link(), LinkState::Up);
    assert_eq!(rig.counters.acknowledged.load(Ordering::Relaxed), 12_000);
    assert_eq!(rig.counters.resent.load(Ordering::Relaxed), 0);
}

#[test]
fn a_broker_that_goes_away_costs_neither_a_reading_nor_the_order() {
    let mut rig = Rig::new(3000);
    rig.until("some got through", |rig| rig.acknowledged >= 500);
    rig.cluster.broker_down(1).unwrap();
    rig.entries.extend((3000..6000).map(entry));
    rig.until("the link is down", |rig| {
        matches!(rig.link(), LinkState::Down(_))
    });
    assert!(!rig.entries.is_empty());
    rig.cluster.broker_up(1).unwrap();
    rig.drain();
    assert_eq!(first_seen(&rig.topic(6000)), (0..6000).collect::<Vec<_>>());
    assert_eq!(rig.link(), LinkState::Up);
}

#[test]
fn a_lane_without_readings_knows_whether_its_link_is_up() {
    let mut rig = Rig::new(0);
    rig.until("the link is up", |rig| rig.link() == LinkState::Up);
    rig.cluster.broker_down(1).unwrap();
    rig.until("the link is down", |rig| {
        matches!(rig.link(), LinkState::Down(_))
    });
    rig.cluster.broker_up(1).unwrap();
    rig.until("the link is back", |rig| rig.link() == LinkState::Up);
}

#[test]
fn errors_that_pass_are_librdkafkas_own_business() {
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR__TRANSPORT as TRANSPORT,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS as NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION as NOT_LEADER,
    };
    let mut rig = Rig::new(2000);
    rig.fail(&[NOT_LEADER, NOT_LEADER, TRANSPORT, NOT_ENOUGH_REPLICAS]);
    rig.drain();
    assert_eq!(rig.topic(2000), (0..2000).collect::<Vec<_>>());
    assert_eq!(rig.counters.restarts.load(Ordering::Relaxed), 0);
}

#[test]
fn a_batch_refused_for_its_size_is_split_and_nothing_of_it_lost() {
    use RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as TOO_LARGE;
    let mut rig = Rig::in_one_batch(2000);
    rig.fail(&[TOO_LARGE, TOO_LARGE]);
    rig.drain();
    assert_eq!(first_seen(&rig.topic(2000)), (0..2000).collect::<Vec<_>>());
    assert_eq!(rig.refused, [0; 0]);
    assert_eq!(rig.counters.restarts.load(Ordering::Relaxed), 2);
}

#[test]
fn a_record_that_is_refused_alone_is_lost_with_its_bytes_and_no_other() {
    use RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as TOO_LARGE;
    // 30 records are one batch of less than twice the smallest: not halved, but sent singly at once.
    let mut rig = Rig::in_one_batch(30);
    rig.fail(&[TOO_LARGE; 2]);
    rig.drain();
    assert_eq!(rig.refused, [0]);
    assert_eq!(rig.topic(29), (1..30).collect::<Vec<_>>());
    assert_eq!(rig.counters.refused.load(Ordering::Relaxed), 1);
}

/// Records of a few hundred bytes that do not get smaller.
fn metered() -> Rig {
    let limits = config::Limits {
        budget_per_day: Some(64 << 10),
        ..config::Limits::default()
    };
    Rig::limited(1000, limits, &[("compression.type", "none")])
}

#[test]
fn a_spent_budget_holds_the_rest_of_the_backlog_and_its_order() {
    let mut rig = metered();
    let is_held = |rig: &Rig| rig.counters.held().is_some_and(|held| held.by == "budget");
    rig.until("the budget is spent", |rig| {
        is_held(rig) && rig.handed_out == 0
    });
    let sent = rig.counters.sent_bytes.load(Ordering::Relaxed);
    assert!((30_000..=64 << 10).contains(&sent), "{sent}");
    let spent = rig.counters.budget_spent_bytes.load(Ordering::Relaxed);
    assert!(spent >= sent, "{spent} spent, {sent} sent");
    assert!(rig.acknowledged > 50, "{}", rig.acknowledged);
    assert_eq!(rig.acknowledged + rig.entries.len(), 1000);
    let expected: Vec<u64> = (0..rig.acknowledged as u64).collect();
    assert_eq!(rig.topic(rig.acknowledged), expected);
    assert_eq!(rig.link(), LinkState::Up);
}

#[test]
fn a_lane_whose_window_is_closed_sends_nothing_and_knows_its_link() {
    let never = config::Window::parse("0 0 29 2 *", "UTC", Duration::ZERO).unwrap();
    let limits = config::Limits {
        windows: vec![never],
        ..config::Limits::default()
    };
    let mut rig = Rig::limited(100, limits, &[]);
    rig.until("the link is up", |rig| rig.link() == LinkState::Up);
    rig.until("it is held back", |rig| rig.counters.held().is_some());
    let held = rig.counters.held().unwrap();
    assert_eq!(held.by, "window");
    assert!(
        held.until
            .is_some_and(|until| until.contains("-02-29T00:00:00"))
    );
    assert_eq!(rig.entries.len(), 100);
    assert_eq!(rig.counters.sent_bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn a_lane_with_a_rate_drains_at_it() {
    let limits = config::Limits {
        max_rate: Some(200.0),
        ..config::Limits::default()
    };
    let began = Instant::now();
    let mut rig = Rig::limited(400, limits, &[]);
    rig.drain();
    // The first second's worth goes at once.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(950), "{took:?}");
    assert_eq!(rig.topic(400), (0..400).collect::<Vec<_>>());
}

#[test]
fn a_missing_permission_holds_everything_and_drops_nothing() {
    use RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as DENIED;
    let mut rig = Rig::new(1000);
    rig.fail(&[DENIED]);
    rig.until("the link is down", |rig| {
        matches!(rig.link(), LinkState::Down(_))
    });
    assert_eq!(rig.entries.len(), 1000);
    rig.drain();
    assert_eq!(first_seen(&rig.topic(1000)), (0..1000).collect::<Vec<_>>());
    assert_eq!(rig.refused, [0; 0]);
    assert_eq!(rig.link(), LinkState::Up);
}

#[test]
fn a_fatal_error_gives_a_new_producer_and_the_same_order() {
    use RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER as OUT_OF_ORDER;
    let mut rig = Rig::new(4000);
    rig.until("some got through", |rig| rig.acknowledged > 0);
    rig.fail(&[OUT_OF_ORDER]);
    rig.entries.extend((4000..6000).map(entry));
    rig.drain();
    assert_eq!(first_seen(&rig.topic(6000)), (0..6000).collect::<Vec<_>>());
    assert!(rig.counters.restarts.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_topic_that_does_not_exist_holds_everything_until_it_is_made() {
    let mut rig = Rig::without_topic(500, config::Limits::default(), &[]);
    rig.until("the link is down", |rig| {
        matches!(rig.link(), LinkState::Down(_))
    });
    let held = Instant::now();
    rig.until("a second probe", |_| {
        held.elapsed() > Duration::from_millis(1500)
    });
    assert!(
        matches!(rig.link(), LinkState::Down(_)),
        "a connection alone is no way into the topic"
    );
    assert_eq!(rig.entries.len(), 500);
    rig.cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
    rig.drain();
    assert_eq!(first_seen(&rig.topic(500)), (0..500).collect::<Vec<_>>());
}
