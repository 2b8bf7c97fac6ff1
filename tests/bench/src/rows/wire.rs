//! Bytes on the way to Kafka for a reading, in each form with each compression.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use harness::wait;
use protocol::{
    Record, header,
    record::{avro, json, postcard},
    schema::{Declaration, Kind, SchemaId, avro::AvroSchema},
};
use rdkafka::{
    ClientConfig, ClientContext, Statistics,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

use crate::{
    bench::Bench,
    pairs::Target,
    reading::{self, NAMES},
    report::Line,
    stand::{PATIENCE, Run},
};

/// By form and compression.
const NAMES_OF: [[&str; 3]; 3] = [
    ["wire-json-none", "wire-json-lz4", "wire-json-zstd"],
    ["wire-avro-none", "wire-avro-lz4", "wire-avro-zstd"],
    [
        "wire-postcard-none",
        "wire-postcard-lz4",
        "wire-postcard-zstd",
    ],
];

/// Appends a record in one form.
type Encode = Box<dyn Fn(&Record, &mut Vec<u8>) -> Result<()>>;

/// A form of the value.
struct Form {
    content_type: &'static str,
    encode: Encode,
}

fn forms() -> Result<[Form; 3]> {
    let declared = NAMES.map(|name| Ok((name.parse()?, Kind::Double)));
    let declared = declared.into_iter().collect::<Result<Vec<_>>>()?;
    let schema = AvroSchema::of(&Declaration::new(declared)?);
    Ok([
        Form {
            content_type: json::CONTENT_TYPE,
            encode: Box::new(|record, out| Ok(json::encode(record, out)?)),
        },
        Form {
            content_type: avro::CONTENT_TYPE,
            encode: Box::new(move |record, out| {
                avro::encode(record, SchemaId(1), &schema, out);
                Ok(())
            }),
        },
        Form {
            content_type: postcard::CONTENT_TYPE,
            encode: Box::new(|record, out| Ok(postcard::encode(record, out)?)),
        },
    ])
}

/// Counts what a producer has sent.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicU64>);

impl ClientContext for Counting {
    fn stats(&self, statistics: Statistics) {
        let bytes = u64::try_from(statistics.tx_bytes).unwrap_or(0);
        self.0.store(bytes, Ordering::Release);
    }
}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();
    fn delivery(&self, _: &rdkafka::message::DeliveryResult<'_>, (): ()) {}
}

/// Each form with each compression, in batches as a queue that drains sends them.
pub fn wire(bench: &mut Bench) -> Result<()> {
    let count = bench.amount(200, 50_000, 50_000);
    let mut published = Vec::new();
    reading::payload(100_000, reading::time_us(100_000), &mut published);
    for (form, names) in forms()?.iter().zip(NAMES_OF) {
        for (compression, name) in ["none", "lz4", "zstd"].into_iter().zip(names) {
            let stand = bench.stand()?;
            let (run, kafka) = (stand.run(1)?, stand.kafka().to_owned());
            let bytes = sent(&kafka, &run, form, compression, count)?;
            ensure!(stand.records(&run)? == count, "records are missing");
            let line = Line {
                bench: name,
                unit: "B of MQTT JSON",
                target: Target::None,
            };
            #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
            let (ours, limit) = (bytes as f64 / count as f64, published.len() as f64);
            bench.absolute(line, ours, limit)?;
        }
    }
    Ok(())
}

/// Bytes that a producer wrote to its sockets for `count` records.
fn sent(kafka: &str, run: &Run, form: &Form, compression: &str, count: u64) -> Result<u64> {
    let counting = Counting::default();
    let producer: BaseProducer<Counting> = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("compression.type", compression)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("statistics.interval.ms", "50")
        .create_with_context(counting.clone())?;
    let mut value = Vec::new();
    for number in 0..count {
        let record = reading::record("gw7", number)?;
        value.clear();
        (form.encode)(&record, &mut value)?;
        let time = Some(record.reading.time);
        let hops = header::Hops {
            received: time,
            committed: time,
            sent: time,
        };
        let mut headers = OwnedHeaders::new_with_capacity(9);
        for (key, value) in header::of(&record, form.content_type, &hops) {
            headers = headers.insert(Header {
                key,
                value: Some(value.as_bytes()),
            });
        }
        let one = BaseRecord::to(&run.topics.readings)
            .key("gw7")
            .payload(&value)
            .headers(headers);
        producer.send(one).map_err(|(error, _)| error)?;
        if number % 1000 == 999 {
            producer.flush(PATIENCE)?;
        }
    }
    producer.flush(PATIENCE)?;
    let mut before = 0;
    wait::until("the count to stand still", PATIENCE, || {
        producer.poll(Duration::from_millis(120));
        let now = counting.0.load(Ordering::Acquire);
        let still = now > 0 && now == before;
        before = now;
        Ok(still.then_some(now))
    })
}
