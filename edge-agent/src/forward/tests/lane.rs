//! Lanes and facts on a real queue.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::control::{Fact, LossReason};
use protocol_host::supervisor::Pulses;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

use super::{PATIENCE, TOPIC, entry};
use crate::{
    clock::Clock,
    config,
    conservation::Conservation,
    forward::{
        Counters, Precedence, Surroundings, facts,
        schema::{Form, Schemas},
        start,
    },
    ingest::{Message, Origin},
    link::Links,
    quarantine::{self, Quarantine},
    queue::{self, Opened},
};

const CONTROL: &str = "edge.control.v1";

struct Rig {
    cluster: MockCluster<'static, DefaultProducerContext>,
    conservation: Arc<Conservation>,
    around: Surroundings,
    limits: config::Limits,
    settings: config::Queue,
    dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> (Self, Opened) {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, 1, 1).unwrap();
        cluster.create_topic(CONTROL, 1, 1).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::new();
        let settings = config::Queue {
            max_bytes: 64 << 20,
            max_age: Duration::from_secs(3600),
            min_free_bytes: 0,
            when_full: config::WhenFull::DropOldest,
            commit_every: Duration::from_millis(50),
            segment_bytes: 1 << 20,
            segment_age: Duration::from_secs(3600),
        };
        let conservation = Arc::new(Conservation::default());
        let quarantine = dir.path().join("quarantine");
        let around = Surroundings {
            kafka: config::Kafka {
                client: config::Client {
                    properties: [("bootstrap.servers".into(), cluster.bootstrap_servers())].into(),
                    ..config::Client::default()
                },
                topic: TOPIC.parse().unwrap(),
                control_topic: CONTROL.parse().unwrap(),
                value: config::ValueFormat::Postcard,
            },
            schemas: Schemas::always(&TOPIC.parse().unwrap(), Form::Postcard),
            clock,
            links: Links::default(),
            quarantine: Quarantine::open(&quarantine, quarantine::MAX_BYTES).unwrap(),
            pulses: Pulses::new(Duration::from_secs(60)),
            precedence: Precedence::default(),
            budgets: dir.path().join("budgets"),
        };
        let rig = Self {
            cluster,
            conservation,
            around,
            limits: config::Limits::default(),
            settings,
            dir,
        };
        let opened = rig.open();
        (rig, opened)
    }

    fn open(&self) -> Opened {
        queue::open(
            &self.dir.path().join("queue"),
            &"gw7".parse().unwrap(),
            &TOPIC.parse().unwrap(),
            &self.settings,
            Arc::clone(&self.conservation),
            self.around.clock.now().queue(),
        )
        .unwrap()
    }

    fn commit(&self, writer: &mut queue::Writer, readings: usize) {
        let message = Message {
            lane: TOPIC.parse().unwrap(),
            readings: vec![entry(0).record.reading; readings],
            origin: Origin::Unknown,
            received: entry(0).received,
            answer: None,
        };
        self.conservation.received(readings as u64);
        let now = self.around.clock.now().queue();
        writer.commit(&[message], now).unwrap();
    }

    fn until_acknowledged(&self, readings: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.conservation.snapshot().acknowledged < readings {
            assert!(
                Instant::now() < deadline,
                "{:?}",
                self.conservation.snapshot()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Control facts in the order of the topic, until one is what is looked for.
    fn facts_until(&self, found: impl Fn(&Fact) -> bool) -> Vec<Fact> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "reader")
            .create()
            .unwrap();
        let mut all = TopicPartitionList::new();
        all.add_partition_offset(CONTROL, 0, Offset::Beginning)
            .unwrap();
        consumer.assign(&all).unwrap();
        let mut facts = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while !facts.last().is_some_and(&found) {
            assert!(Instant::now() < deadline, "not among {facts:?}");
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                let message = message.unwrap();
                let fact = Fact::decode(message.payload().unwrap()).unwrap();
                assert_eq!(message.key(), Some(fact.key().as_bytes()));
                facts.push(fact);
            }
        }
        facts
    }
}

#[tokio::test]
async fn a_lane_drains_its_queue_and_ends_when_asked() {
    let (rig, mut opened) = Rig::new();
    for _ in 0..20 {
        rig.commit(&mut opened.writer, 100);
    }
    let counters = Arc::new(Counters::default());
    let mut lane = start(opened.reader, &rig.limits, &counters, &rig.around).unwrap();
    rig.until_acknowledged(2000);
    rig.commit(&mut opened.writer, 100);
    lane.stop(Instant::now() + PATIENCE);
    assert_eq!(lane.ended().await, Ok(()));
    let balance = rig.conservation.snapshot();
    assert!(balance.holds(), "{balance:?}");
    assert_eq!((balance.acknowledged, balance.queued), (2100, 0));
}

#[tokio::test]
async fn a_lane_that_cannot_drain_ends_by_its_deadline_and_keeps_the_rest() {
    let (rig, mut opened) = Rig::new();
    rig.cluster.broker_down(1).unwrap();
    rig.commit(&mut opened.writer, 100);
    let counters = Arc::new(Counters::default());
    let mut lane = start(opened.reader, &rig.limits, &counters, &rig.around).unwrap();
    lane.stop(Instant::now() + Duration::from_millis(300));
    let ended = tokio::time::timeout(PATIENCE, lane.ended()).await;
    assert_eq!(ended.unwrap(), Ok(()));
    assert_eq!(rig.conservation.snapshot().queued, 100);
}

#[tokio::test]
async fn a_refused_record_is_a_loss_with_its_bytes_kept_and_the_rest_arrives() {
    let (rig, mut opened) = Rig::new();
    // Once as a batch, once alone.
    let too_large = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2];
    rig.cluster
        .request_errors(RDKafkaApiKey::Produce, &too_large);
    rig.commit(&mut opened.writer, 20);
    let counters = Arc::new(Counters::default());
    let mut lane = start(opened.reader, &rig.limits, &counters, &rig.around).unwrap();
    rig.until_acknowledged(19);
    lane.stop(Instant::now() + PATIENCE);
    assert_eq!(lane.ended().await, Ok(()));

    let balance = rig.conservation.snapshot();
    assert!(balance.holds(), "{balance:?}");
    assert_eq!(balance.dropped[LossReason::Refused as usize], 1);
    let now = rig.around.clock.now().queue();
    let is_loss = |fact: &Fact| matches!(fact, Fact::Loss(loss) if (loss.first, loss.last, loss.reason) == (0, Some(0), LossReason::Refused));
    assert!(opened.lane.facts(now).iter().any(is_loss));
    assert!(rig.around.quarantine.drain(Instant::now() + PATIENCE));
    let kept = std::fs::read_to_string(rig.dir.path().join("quarantine/0000000000.jsonl")).unwrap();
    assert!(kept.contains(r#""reason":"refused""#), "{kept}");
}

#[tokio::test]
async fn an_epoch_is_stated_from_its_beginning_to_its_end_and_then_forgotten() {
    let (rig, mut opened) = Rig::new();
    let mut speaker = facts::start(
        "gw7".parse().unwrap(),
        vec![Arc::clone(&opened.lane)],
        rig.around.kafka.clone(),
        rig.around.clock.clone(),
        rig.around.links.clone(),
    )
    .unwrap();
    rig.facts_until(|fact| matches!(fact, Fact::Heartbeat(_)));
    rig.commit(&mut opened.writer, 100);
    rig.facts_until(|fact| matches!(fact, Fact::Epoch(epoch) if !epoch.closed));

    let counters = Arc::new(Counters::default());
    let mut lane = start(opened.reader, &rig.limits, &counters, &rig.around).unwrap();
    rig.until_acknowledged(100);
    let now = rig.around.clock.now().queue();
    opened.writer.close(now).unwrap();
    lane.stop(Instant::now() + PATIENCE);
    assert_eq!(lane.ended().await, Ok(()));
    speaker.stop(Instant::now() + PATIENCE);
    assert_eq!(speaker.ended().await, Ok(()));

    let is_end = |fact: &Fact| matches!(fact, Fact::Epoch(epoch) if epoch.closed);
    let facts = rig.facts_until(is_end);
    let Some(Fact::Epoch(end)) = facts.last() else {
        panic!("{facts:?}");
    };
    assert_eq!((end.committed, end.acknowledged), (Some(99), Some(99)));
    assert_eq!(end.offsets, [(0, 99)].into());
    assert_eq!(opened.lane.facts(now), []);
}

/// Months without an uplink and with a box that restarts: all runs are stated, though no producer takes so many at
/// once, and all are forgotten. Each waited for a report that was thrown away with the producer it was too much for.
#[tokio::test]
async fn ten_thousand_restarts_without_an_uplink_are_stated_and_forgotten() {
    const STARTS: u64 = 10_000;
    let (rig, mut opened) = Rig::new();
    opened.lane.started_in_vain(STARTS);
    rig.commit(&mut opened.writer, 100);
    let now = rig.around.clock.now().queue();
    opened.writer.close(now).unwrap();
    drop((opened.reader, opened.lane));
    let mut opened = rig.open();
    assert_eq!(opened.lane.started_in_vain(0) as u64, STARTS + 1);
    rig.commit(&mut opened.writer, 100);

    let mut speaker = facts::start(
        "gw7".parse().unwrap(),
        vec![Arc::clone(&opened.lane)],
        rig.around.kafka.clone(),
        rig.around.clock.clone(),
        rig.around.links.clone(),
    )
    .unwrap();
    let counters = Arc::new(Counters::default());
    let mut lane = start(opened.reader, &rig.limits, &counters, &rig.around).unwrap();
    rig.until_acknowledged(200);
    let deadline = Instant::now() + PATIENCE;
    while opened.lane.started_in_vain(0) > 1 {
        let left = opened.lane.started_in_vain(0);
        assert!(Instant::now() < deadline, "{left} runs are not forgotten");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    lane.stop(Instant::now() + PATIENCE);
    assert_eq!(lane.ended().await, Ok(()));
    speaker.stop(Instant::now() + PATIENCE);
    assert_eq!(speaker.ended().await, Ok(()));

    let facts = rig.facts_until(
        |fact| matches!(fact, Fact::Epoch(epoch) if epoch.committed == Some(99) && !epoch.closed),
    );
    let runs: BTreeSet<_> = facts.iter().map(Fact::key).collect();
    assert!(runs.len() as u64 > STARTS, "{}", runs.len());
}
