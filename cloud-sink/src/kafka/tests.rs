//! The consumer thread against librdkafka's own mock of a cluster.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use protocol_host::supervisor::{Pulse, Pulses};
use rdkafka::{
    ClientContext as _, Statistics,
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _},
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{rebalance::Context, *};
use crate::{
    checkpoint::Mark,
    link::{LinkState, Links},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn settings(bootstrap: &str) -> Settings {
    Settings {
        properties: BTreeMap::from([("bootstrap.servers".to_owned(), bootstrap.to_owned())]),
        group: "sinks".into(),
        topics: vec!["readings".into()],
        dead_letter_topic: "dead".into(),
    }
}

/// A broker that lives as long as the first, with the topic; and where it listens.
fn cluster(partitions: i32) -> (MockCluster<'static, DefaultProducerContext>, String) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("readings", partitions, 1).unwrap();
    let bootstrap = cluster.bootstrap_servers();
    (cluster, bootstrap)
}

fn produce(bootstrap: &str, values: std::ops::Range<u32>) {
    produce_sized(bootstrap, values, 0);
}

fn produce_sized(bootstrap: &str, values: std::ops::Range<u32>, bytes: usize) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .unwrap();
    for value in values {
        let value = format!("{value:0bytes$}");
        let record = BaseRecord::to("readings").key("gw7").payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

fn start(settings: &Settings, gate: &Arc<Gate>) -> Started {
    start_until(settings, gate, CancellationToken::new())
}

/// The same, with a word when the thread ends.
fn start_until(settings: &Settings, gate: &Arc<Gate>, ended: CancellationToken) -> Started {
    Consumer::start(settings, gate.clone(), links(), ended, pulse()).unwrap()
}

fn links() -> Links {
    Links::new(String::new(), String::new(), None)
}

fn pulse() -> Pulse {
    Pulses::new(Duration::from_secs(60)).watch("kafka")
}

/// As the pipeline does it: says where the partition goes on.
async fn begin(started: &mut Started, next: Option<i64>, mark: Option<Mark>) {
    let event = timeout(PATIENCE, started.events.recv()).await.unwrap();
    let Some(Event::Taking {
        partitions, answer, ..
    }) = event
    else {
        panic!("{event:?}");
    };
    let taken = partitions.into_iter().map(|partition| Taken {
        reserved: None,
        partition,
        fence: 1,
        next,
        mark,
    });
    answer.send(taken.collect()).unwrap();
}

async fn delivered(started: &mut Started) -> Delivered {
    let delivered = timeout(PATIENCE, started.messages.recv()).await;
    delivered.unwrap().unwrap()
}

async fn next(started: &mut Started) -> Message {
    match delivered(started).await {
        Delivered::Record { message, .. } => message,
        gap => panic!("{gap:?}"),
    }
}

/// As the pipeline does it: nobody answers a revocation any more.
async fn end(started: Started) {
    let Started {
        consumer,
        offsets,
        messages,
        events,
    } = started;
    drop((offsets, messages, events));
    consumer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_starts_at_its_checkpoint_unless_its_topic_was_made_anew() {
    let (_cluster, bootstrap) = cluster(1);
    produce(&bootstrap, 0..10);
    let settings = settings(&bootstrap);
    let gate = Arc::new(Gate::new(usize::MAX));

    let mut first = start(&settings, &gate);
    begin(&mut first, None, None).await;
    let mut marks = Vec::new();
    for offset in 0..10 {
        let message = next(&mut first).await;
        assert_eq!(message.at.offset, offset);
        marks.push(Mark::of(&message));
    }
    assert!(matches!(
        first.events.recv().await,
        Some(Event::Assigned { generation: 1, .. })
    ));
    // The group's committed offset has no say.
    let partition = Partition {
        topic: "readings".into(),
        number: 0,
    };
    first.offsets.store([(&partition, 3)].into_iter());
    end(first).await;

    let mut second = start(&settings, &gate);
    begin(&mut second, Some(7), Some(marks[6])).await;
    assert_eq!(next(&mut second).await.at.offset, 7);
    end(second).await;

    let other = Mark {
        crc: !marks[6].crc,
        ..marks[6]
    };
    for (at, mark) in [(7, Some(other)), (11, None)] {
        let mut third = start(&settings, &gate);
        begin(&mut third, Some(at), mark).await;
        let gap = third.events.recv().await;
        let expected = Gap { from: at, to: 0 };
        assert!(matches!(gap, Some(Event::Remade { gap, .. }) if gap == expected));
        assert_eq!(next(&mut third).await.at.offset, 0);
        end(third).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_gate_holds_records_back_and_none_is_skipped_when_it_opens() {
    let (_cluster, bootstrap) = cluster(1);
    produce(&bootstrap, 0..60);
    // Room for a handful of records.
    let gate = Arc::new(Gate::new(8192));
    let mut started = start(&settings(&bootstrap), &gate);
    begin(&mut started, None, None).await;
    let mut waiting = Vec::new();
    for offset in 0..60 {
        let message = next(&mut started).await;
        assert_eq!(message.at.offset, offset);
        assert!(gate.used() < 8192 + 2 * message.size(), "{}", gate.used());
        waiting.push(message.size());
        if waiting.len() == 4 {
            waiting.drain(..).for_each(|bytes| gate.release(bytes));
        }
    }
    end(started).await;
}

fn produce_to(bootstrap: &str, partition: i32, count: usize) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .unwrap();
    for _ in 0..count {
        let record = BaseRecord::<str, str>::to("readings").payload("x");
        let sent = producer.send(record.partition(partition));
        sent.map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_partition_waits_while_others_go_on_and_nothing_of_it_is_skipped() {
    let (_cluster, bootstrap) = cluster(2);
    produce_to(&bootstrap, 0, 1);
    produce_to(&bootstrap, 1, 1);
    let gate = Arc::new(Gate::new(usize::MAX));
    let mut started = start(&settings(&bootstrap), &gate);
    begin(&mut started, None, None).await;
    next(&mut started).await;
    next(&mut started).await;

    let stalled = Partition {
        topic: "readings".into(),
        number: 0,
    };
    gate.stall(BTreeSet::from([stalled]));
    let paused = async {
        while gate.paused_partitions() != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, paused).await.unwrap();
    produce_to(&bootstrap, 0, 5);
    produce_to(&bootstrap, 1, 5);
    for offset in 1..6 {
        let at = next(&mut started).await.at;
        assert_eq!((at.partition.number, at.offset), (1, offset));
    }
    gate.stall(BTreeSet::new());
    for offset in 1..6 {
        let at = next(&mut started).await.at;
        assert_eq!((at.partition.number, at.offset), (0, offset));
    }
    assert_eq!(gate.paused_partitions(), 0);
    end(started).await;
}

/// Goes on until partitions are to be taken, and lets go of those that are not this sink's any more.
async fn begin_after_a_rebalance(started: &mut Started) {
    loop {
        match timeout(PATIENCE, started.events.recv()).await.unwrap() {
            Some(Event::Taking {
                partitions, answer, ..
            }) => {
                let taken = partitions.into_iter().map(|partition| Taken {
                    reserved: None,
                    partition,
                    fence: 1,
                    next: Some(0),
                    mark: None,
                });
                return answer.send(taken.collect()).unwrap();
            }
            Some(Event::Revoked { done, .. }) => done.send(()).unwrap(),
            Some(_) => {}
            None => panic!("the consumer ended"),
        }
    }
}

/// librdkafka keeps a partition paused over a revocation: it would come back so, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_paused_when_it_went_is_read_when_it_comes_back() {
    let (_cluster, bootstrap) = cluster(2);
    let settings = settings(&bootstrap);
    let gates = [(); 2].map(|()| Arc::new(Gate::new(usize::MAX)));
    let paused = async |partitions| {
        let as_many = async {
            while gates[0].paused_partitions() != partitions {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, as_many).await.unwrap();
    };
    gates[0].hold(true);
    let mut first = start(&settings, &gates[0]);
    begin_after_a_rebalance(&mut first).await;
    paused(2).await;

    let mut second = start(&settings, &gates[1]);
    let gives = async {
        while let Some(event) = first.events.recv().await {
            if let Event::Revoked { done, .. } = event {
                return done.send(()).unwrap();
            }
        }
    };
    tokio::join!(gives, begin_after_a_rebalance(&mut second));
    paused(1).await;
    gates[0].hold(false);
    paused(0).await;
    end(second).await;
    begin_after_a_rebalance(&mut first).await;
    produce_to(&bootstrap, 0, 1);
    produce_to(&bootstrap, 1, 1);
    let mut read = BTreeSet::new();
    while read.len() < 2 {
        read.insert(next(&mut first).await.at.partition.number);
    }
    end(first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_comes_while_the_pipeline_ends_is_no_failure() {
    let (_cluster, bootstrap) = cluster(1);
    produce(&bootstrap, 0..1);
    let gate = Arc::new(Gate::new(usize::MAX));
    let ended = CancellationToken::new();
    let mut started = start_until(&settings(&bootstrap), &gate, ended.clone());
    begin(&mut started, None, None).await;
    next(&mut started).await;
    let Started {
        consumer,
        offsets,
        messages,
        events,
    } = started;
    drop((offsets, messages, events));
    produce(&bootstrap, 1..2);
    timeout(PATIENCE, ended.cancelled()).await.unwrap();
    consumer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_come_while_the_pipeline_ends_are_no_failure() {
    let (_cluster, bootstrap) = cluster(1);
    let gate = Arc::new(Gate::new(usize::MAX));
    let ended = CancellationToken::new();
    let settings = settings(&bootstrap);
    let mut started = start_until(&settings, &gate, ended.clone());
    let taking = timeout(PATIENCE, started.events.recv()).await.unwrap();
    assert!(matches!(taking, Some(Event::Taking { .. })), "{taking:?}");
    let Started {
        consumer,
        offsets,
        messages,
        events,
    } = started;
    drop((taking, offsets, messages, events));
    timeout(PATIENCE, ended.cancelled()).await.unwrap();
    consumer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_partition_is_not_read_while_others_are() {
    let (_cluster, bootstrap) = cluster(2);
    let to = |number: i32| {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .create()
            .unwrap();
        let record = BaseRecord::<str, str>::to("readings")
            .payload("x")
            .partition(number);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(PATIENCE).unwrap();
    };
    let gate = Arc::new(Gate::new(usize::MAX));
    let partition = |number: i32| Partition {
        topic: "readings".into(),
        number,
    };
    gate.stall([partition(0)].into());
    let mut started = start(&settings(&bootstrap), &gate);
    begin(&mut started, None, None).await;
    timeout(PATIENCE, async {
        while gate.paused_partitions() != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    to(0);
    to(1);
    assert_eq!(next(&mut started).await.at.partition, partition(1));
    to(1);
    assert_eq!(next(&mut started).await.at.partition, partition(1));
    gate.stall(BTreeSet::new());
    assert_eq!(next(&mut started).await.at.partition, partition(0));
    end(started).await;
}

/// Records expire while the sink holds others in memory, in an outage of MongoDB: those it holds are in
/// Kafka no more, so they must go on counting.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_does_not_make_stale_what_was_read_before_it() {
    let (_cluster, bootstrap) = cluster(1);
    let settings = settings(&bootstrap);
    let gate = Arc::new(Gate::new(usize::MAX));
    produce(&bootstrap, 0..10);
    let mut first = start(&settings, &gate);
    begin(&mut first, None, None).await;
    next(&mut first).await;
    end(first).await;
    // The mock keeps 5 MiB of a partition.
    produce_sized(&bootstrap, 10..130, 60_000);

    let mut second = start(&settings, &gate);
    begin(&mut second, Some(1), None).await;
    // In the order of the partition, so that nothing is passed over which comes before it.
    let Delivered::Gap {
        generation: 1, gap, ..
    } = delivered(&mut second).await
    else {
        panic!("a record before the gap");
    };
    let message = next(&mut second).await;
    assert!(message.at.offset > 10);
    let to = message.at.offset;
    assert_eq!(gap, Gap { from: 1, to });
    let assigned = second.events.recv().await;
    assert!(matches!(
        assigned,
        Some(Event::Assigned { generation: 1, .. })
    ));
    // No second assignment: it would begin another life, and what was read before it would be stale.
    assert!(second.events.try_recv().is_err());
    end(second).await;
}

/// librdkafka reads a partition no more that was refused its offset, until it is told where. A leader that was
/// behind for a moment, or brokers that could not be asked at that moment, left it standing still for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_refused_its_offset_for_a_moment_is_read_on() {
    let (cluster, bootstrap) = cluster(1);
    produce(&bootstrap, 0..10);
    let gate = Arc::new(Gate::new(usize::MAX));
    let mut started = start(&settings(&bootstrap), &gate);
    begin(&mut started, None, None).await;
    for offset in 0..10 {
        assert_eq!(next(&mut started).await.at.offset, offset);
    }
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE];
    cluster.request_errors(RDKafkaApiKey::Fetch, &refused);
    // The first question after it is not answered either.
    let silent = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_REQUEST];
    cluster.request_errors(RDKafkaApiKey::ListOffsets, &silent);
    produce(&bootstrap, 10..20);
    for offset in 10..20 {
        assert_eq!(next(&mut started).await.at.offset, offset);
    }
    end(started).await;
}

/// The control topic alone is no pipeline: readings would wait in the agents while everything looked well.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_ready_when_the_last_of_several_topics_is_there() {
    let (cluster, bootstrap) = cluster(1);
    let mut settings = settings(&bootstrap);
    settings.topics.push("others".into());
    produce(&bootstrap, 0..1);
    let gate = Arc::new(Gate::new(usize::MAX));
    let (links, ended) = (links(), CancellationToken::new());
    let mut started = Consumer::start(&settings, gate, links.clone(), ended, pulse()).unwrap();
    begin(&mut started, None, None).await;
    assert_eq!(next(&mut started).await.at.offset, 0);
    let assigned = timeout(PATIENCE, started.events.recv()).await.unwrap();
    assert!(matches!(assigned, Some(Event::Assigned { .. })));
    cluster.create_topic("others", 1, 1).unwrap();
    begin(&mut started, None, None).await;
    let is_up = async {
        while links.snapshot()[0].state != LinkState::Up {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, is_up).await.unwrap();
    end(started).await;
}

#[test]
fn brokers_that_are_there_do_not_mend_what_they_refuse() {
    let (events, _events) = mpsc::unbounded_channel();
    let links = links();
    let gate = Arc::new(Gate::new(usize::MAX));
    let context = Context::new(settings("x:1"), events, gate, links.clone(), pulse());
    let mut statistics = Statistics::default();
    let broker = statistics.brokers.entry("x:1/1".into()).or_default();
    broker.state = "UP".into();
    context.refused();
    // As when partitions of the other topics were assigned.
    let partition = Partition {
        topic: "readings".into(),
        number: 0,
    };
    context.restarted(&partition, 0);
    context.stats(statistics.clone());
    assert_ne!(links.snapshot()[0].state, LinkState::Up);
    context.accepted();
    context.stats(statistics);
    assert_eq!(links.snapshot()[0].state, LinkState::Up);
}

#[test]
fn a_property_that_librdkafka_does_not_know_is_named_without_its_value() {
    let mut properties = settings("localhost:9092").properties;
    verify(&properties).unwrap();
    properties.insert("sasl.pasword".into(), "hunter2".into());
    let error = verify(&properties).unwrap_err().to_string();
    assert!(error.contains("sasl.pasword"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn without_an_authority_of_its_own_tls_trusts_the_systems() {
    let with = |own: &[(&str, &str)]| {
        let own = own
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect();
        [consumer_config(&own, "sinks"), producer_config(&own)]
            .map(|config| config.get("ssl.ca.location").map(str::to_owned))
    };
    let probed = [Some("probe".to_owned()), Some("probe".to_owned())];
    assert_eq!(with(&[("security.protocol", "SASL_SSL")]), probed);
    assert_eq!(with(&[]), [None, None]);
    let own = [("security.protocol", "ssl"), ("ssl.ca.location", "/ca.pem")];
    assert_eq!(with(&own), [Some("/ca.pem".into()), Some("/ca.pem".into())]);
}
