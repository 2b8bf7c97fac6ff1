use std::{collections::BTreeMap, sync::Mutex};

use protocol_host::{registry, supervisor::Pulses};

use super::*;
use crate::{
    checkpoint::Gap,
    decode::Reason,
    kafka::{Consumer, Producer, Settings, Started, Witness},
    message::{Coordinates, Message, Partition},
    store::Store,
};

/// A pipeline between channels; neither Kafka nor MongoDB is there.
struct Bench {
    pipeline: Pipeline,
    messages: mpsc::UnboundedSender<Delivered>,
    events: mpsc::UnboundedSender<Event>,
    pulses: Pulses,
    _consumer: Consumer,
}

impl Bench {
    async fn new(registry: Option<crate::schemas::Ask>) -> Self {
        let settings = Settings {
            properties: BTreeMap::from([("bootstrap.servers".into(), "127.0.0.1:9".into())]),
            group: "sinks".into(),
            topics: vec!["readings".into()],
            dead_letter_topic: "dead".into(),
        };
        let gate = Arc::new(Gate::new(usize::MAX));
        let registered = registry.as_ref().map(|_| String::new());
        let links = Links::new(String::new(), String::new(), registered);
        let ended = CancellationToken::new();
        let (pulses, consumer_pulses) = (Pulses::new(Duration::ZERO), Pulses::new(Duration::ZERO));
        let Started {
            consumer, offsets, ..
        } = Consumer::start(
            &settings,
            gate.clone(),
            links.clone(),
            ended,
            consumer_pulses.watch("kafka"),
        )
        .unwrap();
        let deadline = Duration::from_secs(1);
        let store = Store::new("mongodb://127.0.0.1:9", "t", deadline);
        let (messages_in, messages) = mpsc::unbounded_channel();
        let (events_in, events) = mpsc::unbounded_channel();
        let ends = Ends {
            messages,
            events,
            offsets,
            gate,
            witness: Arc::new(Witness::new(settings.clone())),
            parts: Arc::new(Parts {
                store: store.await.unwrap(),
                producer: Producer::new(&settings).unwrap(),
                catalogue: Arc::default(),
                collections: Vec::new(),
                series: Arc::default(),
                registry,
            }),
            pulse: pulses.watch("pipeline"),
        };
        let limits = Limits {
            max_records: 100,
            max_bytes: 1 << 20,
            max_wait: Duration::from_secs(60),
        };
        let pipeline = Pipeline::new(
            ends,
            HashMap::from([(
                Arc::from("readings"),
                Destination::Readings {
                    collection: Arc::from("c"),
                    keep: None,
                    hops: false,
                    series: false,
                },
            )]),
            limits,
            links,
            Arc::default(),
            Arc::new(Telemetry::new("sinks".into())),
        );
        Self {
            pipeline,
            messages: messages_in,
            events: events_in,
            pulses,
            _consumer: consumer,
        }
    }

    fn assign(&self) {
        let assigned = Event::Assigned {
            partitions: vec![(partition(), None)],
            generation: 1,
        };
        self.events.send(assigned).unwrap();
    }

    fn read(&self, offset: i64, value: &[u8]) -> Delivered {
        let at = Coordinates {
            partition: partition(),
            offset,
            timestamp_ms: Some(1),
        };
        let message = Message::new(at, None, Some(value), std::iter::empty());
        self.pipeline.ends.gate.add(message.size());
        Delivered::Record {
            generation: 1,
            message,
        }
    }

    fn take(&mut self, offset: i64, value: &[u8]) {
        let record = self.read(offset, value);
        self.pipeline.take_all(std::iter::once(record));
    }

    /// Starts what is due within a minute, and waits for all of it.
    async fn work(&mut self) {
        self.pipeline
            .start_jobs(Instant::now() + Duration::from_secs(60));
        while let Some(finished) = self.pipeline.jobs.join_next().await {
            self.pipeline.on_finished(finished.unwrap());
        }
    }
}

fn partition() -> Partition {
    Partition {
        topic: "readings".into(),
        number: 0,
    }
}

/// An id stands for the same schema for ever: that nobody can tell it now says nothing about the record.
#[tokio::test]
async fn a_record_waits_with_its_partition_while_the_registry_is_away() {
    let answer: Arc<Mutex<Result<Option<Arc<registry::Schema>>, String>>> =
        Arc::new(Mutex::new(Err("connection refused".into())));
    let told = answer.clone();
    let mut bench = Bench::new(Some(Arc::new(move |_| told.lock().unwrap().clone()))).await;
    bench.assign();
    bench.take(0, b"\0\0\0\0\x07{\"device\":\"p\",\"t\":1}");
    bench.take(1, b"{\"device\":\"p\",\"t\":1}");
    bench.work().await;
    bench.work().await;
    let pipeline = &bench.pipeline;
    assert!(pipeline.letters.is_empty() && pipeline.schemas.is_out());
    assert_eq!(pipeline.ends.gate.stalled().len(), 1);
    let links = pipeline.links.snapshot();
    let link = links.last().unwrap();
    assert_eq!(link.kind, crate::link::LinkKind::Registry);
    assert_eq!(
        link.state,
        crate::link::LinkState::Down("connection refused".into())
    );
    // The other one needs no schema.
    let waiting = |bench: &mut Bench| {
        let batcher = bench.pipeline.readings.get_mut("c").unwrap();
        let entries = batcher.take().unwrap_or_default();
        let offsets = entries.iter().map(|entry| entry.message.at.offset);
        offsets.collect::<Vec<_>>()
    };
    assert_eq!(waiting(&mut bench), [1]);

    let json = registry::Schema::new(registry::Language::Json, "");
    *answer.lock().unwrap() = Ok(Some(Arc::new(json)));
    bench.work().await;
    assert_eq!(waiting(&mut bench), [0]);
    assert!(bench.pipeline.letters.is_empty());
    bench.work().await;
    assert!(bench.pipeline.ends.gate.stalled().is_empty());

    bench.take(2, b"\0\0\0\0\x08{}");
    let now = Instant::now();
    let unknown = bench.pipeline.schemas.ask(now).unwrap();
    bench.pipeline.on_schema(unknown, Ok(None));
    let (_, letters) = bench.pipeline.letters.next(now).unwrap();
    assert_eq!(letters[0].cause.reason, Reason::SchemaUnknown);
    bench.take(3, b"\0\0\0\0\x07{\"device\":\"p\",\"t\":1}");
    assert_eq!(waiting(&mut bench), [3], "known for ever");
}

/// Inserts of a few documents, each waiting for the one before, were all that a server got that was too slow
/// for them: it fell further behind the more often it was asked.
#[tokio::test]
async fn a_batch_that_is_due_grows_until_a_write_is_free() {
    let mut bench = Bench::new(None).await;
    bench.assign();
    let later = Instant::now() + Duration::from_secs(120);
    let pipeline = &mut bench.pipeline;
    pipeline.writing = pipeline.pace.writes();
    bench.take(0, b"{\"device\":\"p\",\"t\":1}");
    bench.pipeline.collect_due(later);
    bench.take(1, b"{\"device\":\"p\",\"t\":2}");
    bench.pipeline.collect_due(later);
    let pipeline = &mut bench.pipeline;
    assert!(pipeline.waiting.is_empty());
    assert_eq!(pipeline.batch_due(), None, "nothing to wake for");

    pipeline.writing -= 1;
    assert!(pipeline.batch_due().is_some());
    pipeline.collect_due(later);
    let Some(Job::Insert(_, entries)) = pipeline.waiting.pop_front() else {
        panic!("both records go together");
    };
    assert_eq!(entries.len(), 2);
}

#[tokio::test]
async fn records_that_wait_for_a_schema_go_with_their_partition() {
    let mut bench = Bench::new(Some(Arc::new(|_| Err("connection refused".into())))).await;
    bench.assign();
    bench.take(0, b"\0\0\0\0\x07{\"device\":\"p\",\"t\":1}");
    bench.work().await;
    let (done, gone) = std::sync::mpsc::sync_channel(1);
    let revoked = Event::Revoked {
        partitions: vec![partition()],
        lost: false,
        done,
    };
    bench.pipeline.on_event(revoked);
    bench.pipeline.finish_handover(Instant::now());
    gone.try_recv().expect("at once, in an outage");
    let balance = bench.pipeline.kept.snapshot();
    assert_eq!((balance.revoked, balance.in_flight), (1, 0));
    assert_eq!(bench.pipeline.ends.gate.used(), 0);
    assert!(bench.pipeline.schemas.partitions().is_empty());
}

/// The loop looks for events, then for records. Both may come between the two looks: the assignment, and
/// at once its first record. Dropped as stale, it was passed over by the offsets of those behind it.
#[tokio::test]
async fn a_record_that_overtakes_its_assignment_is_taken_all_the_same() {
    let mut bench = Bench::new(None).await;
    bench.assign();
    bench.messages.send(bench.read(0, b"{}")).unwrap();

    let record = bench.pipeline.ends.messages.recv().await.unwrap();
    bench.pipeline.take_all(std::iter::once(record));
    assert_eq!(bench.pipeline.kept.snapshot().consumed, 1);
}

/// The loop looks for events first. When a gap was one, it overtook the records that were read before it: they
/// looked as if they had been read already, were dropped, and the offset passed over them.
#[tokio::test]
async fn records_that_were_read_before_a_gap_are_taken_before_it_is_passed() {
    let mut bench = Bench::new(None).await;
    bench.assign();
    let gap = |from, to| Delivered::Gap {
        generation: 1,
        partition: partition(),
        gap: Gap { from, to },
    };
    let [first, second, behind] = [0, 1, 90].map(|offset| bench.read(offset, b"{}"));
    let read = [first, second, gap(2, 90), behind];
    bench.pipeline.take_all(read.into_iter());
    let pipeline = &mut bench.pipeline;
    assert_eq!(pipeline.kept.snapshot().consumed, 3);
    assert_eq!(pipeline.telemetry.gaps(), 1);

    // One of a partition that went is nobody's: the next owner finds it again.
    pipeline.assignments.revoke(&partition());
    pipeline.take_all(std::iter::once(gap(91, 95)));
    assert_eq!(pipeline.telemetry.gaps(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loop_beats_while_nothing_comes() {
    let bench = Bench::new(None).await;
    let (pulses, stop) = (bench.pulses.clone(), CancellationToken::new());
    let running = tokio::spawn(bench.pipeline.run(stop.clone()));
    let later = Instant::now() + Duration::from_secs(1);
    // Silent for less time than has passed since then: it has beaten after it.
    let has_beaten = |now: Instant| {
        let silent = pulses.silent(now);
        now > later && silent.is_none_or(|silent| silent.silence <= now - later)
    };
    while !has_beaten(Instant::now()) {
        assert!(!running.is_finished());
        assert!(later.elapsed() < Duration::from_secs(60), "no beat");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}
