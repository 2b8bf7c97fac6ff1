//! Row 42: agents and sinks of different ages. What an agent of version 1 ever wrote is understood, and
//! what a later one may write is kept as a dead letter, never read as something else.

use anyhow::{Context, Result, ensure};
use harness::{
    rig::{PATIENCE, Rig, kafka::Foreign},
    wait,
};
use protocol::{
    Clock, Digest, Epoch, Fields, Metadata, Reading, Record, RecordId, Timestamp, Value, header,
    record::{json, postcard},
};

fn record(rig: &Rig, sequence: u64) -> Result<Record> {
    let reading = Reading {
        device: "press".parse()?,
        time: Timestamp::from_micros(1_795_000_000_000_000)?,
        clock: Clock::Synced,
        fields: Fields::new(vec![("power_w".parse()?, Value::Float(1.5))])?,
        source: None,
        meta: Metadata::default(),
    };
    Ok(Record {
        id: RecordId {
            gateway: rig.name().parse()?,
            epoch: Epoch::from_random(42),
            sequence,
        },
        digest: Digest::of(&reading),
        reading,
    })
}

type Headers = Vec<(&'static str, String)>;

fn headers(record: &Record, content_type: &'static str) -> Headers {
    header::of(record, content_type, &header::Hops::default()).into()
}

fn write(rig: &Rig, topic: &str, key: &str, value: &[u8], headers: &Headers) -> Result<()> {
    let headers: Vec<(&str, &[u8])> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_bytes()))
        .collect();
    let record = Foreign {
        key,
        value,
        headers: &headers,
    };
    rig.kafka.write(topic, &[record])
}

#[test]
fn records_of_version_1_are_read_and_those_of_a_later_version_are_never_misread() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let (topic, name) = (rig.kafka.readings().to_owned(), rig.name().to_owned());
    let mut newer = 0;
    for (sequence, content_type) in [(0, json::CONTENT_TYPE), (1, postcard::CONTENT_TYPE)] {
        let record = record(&rig, sequence)?;
        let mut value = Vec::new();
        match content_type {
            json::CONTENT_TYPE => json::encode(&record, &mut value)?,
            _ => postcard::encode(&record, &mut value)?,
        }
        let own = headers(&record, content_type);
        write(&rig, &topic, &name, &value, &own)?;

        // Version 2 in every place where it can stand.
        let mut later = value.clone();
        match content_type {
            json::CONTENT_TYPE => {
                let text = String::from_utf8(value.clone())?;
                ensure!(text.contains("\"v\":1"), "{text}");
                later = text.replace("\"v\":1", "\"v\":2").into_bytes();
                // A tool that loses headers: the key and the value still say whose it is.
                write(&rig, &topic, &name, &later, &Headers::new())?;
                newer += 1;
            }
            _ => later[0] = 2,
        }
        write(&rig, &topic, &name, &later, &own)?;
        let retyped = |(name, value): &(&'static str, String)| match *name {
            header::TYPE => (*name, "edge.reading.v2".to_owned()),
            _ => (*name, value.clone()),
        };
        let typed: Headers = own.iter().map(retyped).collect();
        write(&rig, &topic, &name, &value, &typed)?;
        newer += 2;
    }
    // A fact of a later agent must not stop those that this sink knows.
    let fact = br#"{"v":2,"kind":"firmware","gateway":"gw7"}"#;
    let control = rig.kafka.control().to_owned();
    write(&rig, &control, "gw7/firmware", fact, &Headers::new())?;
    newer += 1;

    rig.sink.start()?;
    rig.wait_until_stored(2)?;
    let status = rig.wait_sink("all of them", |sink| {
        sink.balance.in_flight == 0 && sink.balance.dead_letters >= newer
    })?;
    ensure!(status.balance.dead_letters == newer, "{:?}", status.balance);
    ensure!(status.balance.written == 2, "{:?}", status.balance);
    let mut letters = Vec::new();
    wait::until_true("the dead letters", PATIENCE, || {
        letters = rig.kafka.read_all(rig.kafka.dead_letters())?;
        Ok(letters.len() as u64 >= newer)
    })?;
    for letter in &letters {
        let reason = letter.header("edge_dead_reason").context("a reason")?;
        ensure!(reason == b"version_unknown", "{letter:?}");
    }
    let documents = rig.documents.readings_by_id()?;
    for (sequence, document) in (0..).zip(&documents) {
        let id = record(&rig, sequence)?.id.to_string();
        ensure!(document.get_str("_id")? == id, "{document}");
        ensure!(document.get_f64("power_w")? == 1.5, "{document}");
    }
    rig.done()
}
