//! Values by the schemas of a registry, at the sink: what waits, what dies, and what MongoDB holds them to.

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::{
    rig::{PATIENCE, Rig, kafka::Foreign},
    service::Kind,
    wait,
};
use mongodb::bson::doc;
use protocol::{
    Clock, Digest, Fields, Metadata, Reading, Record, Value,
    record::avro,
    schema::{Declaration, Kind as Type, SchemaId, avro::AvroSchema},
};

use super::{
    registry::with_registry,
    sink_dead_letters::{foreign, sink},
};

/// The id that the registry gave the schema of the rig's topic.
fn registered(rig: &Rig) -> Result<SchemaId> {
    let (done, said) = sink(rig, &["schema", "register"])?;
    let (_, rest) = said.split_once(" id ").with_context(|| said.clone())?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    ensure!(done, "{said}");
    Ok(SchemaId(digits.parse().with_context(|| said.clone())?))
}

fn reading(gateway: &str, sequence: u64, value: Value) -> Result<Record> {
    let reading = Reading {
        device: "press".parse()?,
        time: "2026-11-23T21:04:07.113Z".parse()?,
        clock: Clock::Synced,
        fields: Fields::new(vec![("power_w".parse()?, value)])?,
        source: None,
        meta: Metadata::default(),
    };
    Ok(Record {
        id: format!("{gateway}:1f3a9c04d2be:{sequence:012x}").parse()?,
        digest: Digest::of(&reading),
        reading,
    })
}

fn in_avro(record: &Record, id: SchemaId, declared: &[(&str, Type)]) -> Result<Vec<u8>> {
    let fields = declared
        .iter()
        .map(|(name, kind)| Ok((name.parse()?, *kind)));
    let declared = Declaration::new(fields.collect::<Result<Vec<_>>>()?)?;
    let mut value = Vec::new();
    avro::encode(record, id, &AvroSchema::of(&declared), &mut value);
    Ok(value)
}

const DECLARED: [(&str, Type); 2] = [("energy_wh", Type::Long), ("power_w", Type::Double)];

#[test]
fn the_sink_holds_what_it_cannot_read_yet_while_the_registry_is_away_and_only_that() -> Result<()> {
    let mut rig = Rig::new(&[Kind::Registry])?;
    with_registry(&mut rig)?;
    let id = registered(&rig)?;
    // Stopped, not killed: it must still have the schema afterwards.
    rig.service(Kind::Registry)?.stop()?;
    rig.sink.start()?;
    let topic = rig.kafka.readings().to_owned();
    let avro = in_avro(&reading("gw7", 0, Value::Float(0.5))?, id, &DECLARED)?;
    let ours = Foreign {
        key: "gw7",
        value: &avro,
        headers: &[],
    };
    let plain = foreign(br#"{"device":"tank","level_m":1.5}"#);
    rig.kafka.write(&topic, &[ours, plain])?;
    rig.wait_sink("one to be written and one held", |sink| {
        let down = sink.links.iter().any(|link| link.detail.is_some());
        sink.balance.written == 1 && sink.balance.in_flight == 1 && down && !sink.ready
    })?;
    wait::until_true("the line about it", PATIENCE, || {
        let log = fs::read_to_string(rig.sink.log())?;
        Ok(log.contains("schema registry unreachable, holding"))
    })?;

    // A sink that stops meanwhile leaves it to the next.
    let stopped = rig.sink.stop(PATIENCE)?;
    ensure!(stopped.success(), "{stopped}");
    rig.sink.start()?;
    rig.wait_sink("it to be held again", |sink| {
        sink.balance.in_flight == 1 && sink.balance.dead_letters == 0
    })?;

    let registry = rig.service(Kind::Registry)?;
    registry.start()?;
    registry.wait_ready()?;
    rig.wait_until_stored(2)?;
    rig.wait_sink("readiness", |sink| {
        sink.ready && sink.balance.dead_letters == 0 && sink.balance.in_flight == 0
    })?;
    let documents = rig.documents.readings_by_id()?;
    let press = documents
        .iter()
        .find(|document| document.get_str("_id").ok() == Some("gw7:1f3a9c04d2be:000000000000"))
        .with_context(|| format!("{documents:?}"))?;
    ensure!(press.get_f64("power_w").ok() == Some(0.5), "{press}");

    // What the registry does not know is no outage.
    let unknown = in_avro(
        &reading("gw7", 1, Value::Float(1.5))?,
        SchemaId(u32::MAX),
        &DECLARED,
    )?;
    let unknown = Foreign {
        value: &unknown,
        ..ours
    };
    rig.kafka.write(&topic, &[unknown])?;
    rig.wait_sink("a dead letter", |sink| sink.balance.dead_letters == 1)?;
    let (done, said) = sink(&rig, &["dead-letters", "list", "--format", "json"])?;
    ensure!(done && said.contains("schema_unknown"), "{said}");
    rig.done()
}

/// The sink makes every value fit its column or keeps it in `raw`, so a document of its own passes; one
/// that somebody else writes by hand may not.
#[test]
fn mongodb_holds_a_collection_to_the_declared_fields_and_loses_nothing_by_it() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let topic = rig.kafka.readings().to_owned();
    let config = fs::read_to_string(rig.sink.config_file())?;
    let config = config.replace(
        "collection = \"readings\"\n",
        "collection = \"readings\"\nvalidator = true\n",
    );
    rig.sink.configure(&format!(
        "{config}\n[[topic]]\nname = {topic:?}\nfields = {{ level_m = \"double\", on = \"bool\", count = \"double\" }}\n"
    ))?;
    // One column has another type since before.
    rig.documents
        .command(doc! { "insert": "fields", "documents": [
            { "_id": "readings/count", "collection": "readings", "field": "count", "type": "long" },
        ] })?;
    let (done, said) = sink(&rig, &["init"])?;
    ensure!(
        done && said.contains("3 declared fields, validator  ok"),
        "{said}"
    );
    ensure!(
        said.contains("count is stored as long, and stays so"),
        "{said}"
    );
    rig.sink.start()?;
    rig.kafka.write(
        &topic,
        &[
            // Without the declaration the first value would have made the column one of texts.
            foreign(br#"{"device":"tank","level_m":"full","on":true}"#),
            foreign(br#"{"device":"tank","level_m":1.5,"count":7,"undeclared":"let in"}"#),
        ],
    )?;
    rig.wait_until_stored(2)?;
    let documents = rig.documents.readings_by_id()?;
    let full = documents
        .iter()
        .find(|document| document.contains_key("raw"));
    let full = full.with_context(|| format!("{documents:?}"))?;
    ensure!(
        full.get_document("raw")?.get_str("level_m")? == "full",
        "{full}"
    );

    let by_hand = |level: &str| {
        let document = doc! {
            "_id": format!("by hand {level}"), "ts": mongodb::bson::DateTime::now(),
            "meta": { "device": "tank" }, "clock": "synced", "digest": 1_i64,
        };
        let mut document = document;
        match level {
            "text" => document.insert("level_m", "full"),
            _ => document.insert("level_m", 2.5),
        };
        let insert = doc! { "insert": "readings", "documents": [document] };
        rig.documents.insert_errors(insert)
    };
    ensure!(by_hand("number")?.is_empty());
    ensure!(by_hand("text")? == [121]);

    // A stricter validator of somebody's: exactly the document it refuses dies.
    let strict = doc! { "level_m": { "$not": { "$gt": 10.0 } } };
    rig.documents
        .command(doc! { "collMod": "readings", "validator": strict })?;
    rig.kafka.write(
        &topic,
        &[
            foreign(br#"{"device":"tank","level_m":3}"#),
            foreign(br#"{"device":"tank","level_m":11}"#),
            foreign(br#"{"device":"tank","level_m":4}"#),
        ],
    )?;
    rig.wait_sink("two to be written and one to die", |sink| {
        sink.balance.written == 4 && sink.balance.dead_letters == 1
    })?;
    let (done, said) = sink(&rig, &["dead-letters", "list", "--format", "json"])?;
    ensure!(
        done && said.contains("\"refused\"") && said.contains("121"),
        "{said}"
    );
    rig.done()
}
