use std::collections::BTreeMap;

use super::*;
use crate::{
    kafka::{Consumer, Producer, Settings, Started},
    message::{Coordinates, Message, Partition},
    store::Store,
};

/// A pipeline between channels; neither Kafka nor MongoDB is there.
struct Bench {
    pipeline: Pipeline,
    messages: mpsc::UnboundedSender<Delivered>,
    events: mpsc::UnboundedSender<Event>,
    _consumer: Consumer,
}

impl Bench {
    async fn new() -> Self {
        let settings = Settings {
            properties: BTreeMap::from([("bootstrap.servers".into(), "127.0.0.1:9".into())]),
            group: "sinks".into(),
            topics: vec!["readings".into()],
            dead_letter_topic: "dead".into(),
        };
        let gate = Arc::new(Gate::new(usize::MAX));
        let links = Links::new(String::new(), String::new());
        let ended = CancellationToken::new();
        let Started {
            consumer, offsets, ..
        } = Consumer::start(&settings, gate.clone(), links.clone(), ended).unwrap();
        let deadline = Duration::from_secs(1);
        let store = Store::new("mongodb://127.0.0.1:9", "t", deadline);
        let (messages_in, messages) = mpsc::unbounded_channel();
        let (events_in, events) = mpsc::unbounded_channel();
        let ends = Ends {
            messages,
            events,
            offsets,
            gate,
            parts: Arc::new(Parts {
                store: store.await.unwrap(),
                producer: Producer::new(&settings).unwrap(),
                catalogue: Arc::default(),
                collections: Vec::new(),
                series: Arc::default(),
            }),
        };
        let limits = Limits {
            max_records: 100,
            max_bytes: 1 << 20,
            max_wait: Duration::from_secs(60),
        };
        let pipeline = Pipeline::new(
            ends,
            HashMap::new(),
            limits,
            links,
            Arc::default(),
            Arc::new(Telemetry::new("sinks".into())),
        );
        Self {
            pipeline,
            messages: messages_in,
            events: events_in,
            _consumer: consumer,
        }
    }
}

/// The loop looks for events, then for records. Both may come between the two looks: the assignment, and
/// at once its first record. Dropped as stale, it was passed over by the offsets of those behind it.
#[tokio::test]
async fn a_record_that_overtakes_its_assignment_is_taken_all_the_same() {
    let mut bench = Bench::new().await;
    let partition = Partition {
        topic: "readings".into(),
        number: 0,
    };
    let at = Coordinates {
        partition: partition.clone(),
        offset: 0,
        timestamp_ms: None,
    };
    let assigned = Event::Assigned {
        partitions: vec![(partition, None)],
        generation: 1,
    };
    bench.events.send(assigned).unwrap();
    let message = Message::new(at, None, Some(b"{}"), std::iter::empty());
    bench.pipeline.ends.gate.add(message.size());
    let record = Delivered {
        generation: 1,
        message,
    };
    bench.messages.send(record).unwrap();

    let record = bench.pipeline.ends.messages.recv().await.unwrap();
    bench.pipeline.take_all(std::iter::once(record));
    assert_eq!(bench.pipeline.kept.snapshot().consumed, 1);
}
