//! What cannot become a document is kept, shown, and comes back once.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use harness::rig::{Rig, kafka::Foreign};
use mongodb::bson::doc;
use serde_json::Value as Json;

/// Runs `cloud-sink ARGUMENTS` with the rig's configuration.
pub fn sink(rig: &Rig, arguments: &[&str]) -> Result<(bool, String)> {
    let output = Command::new(harness::binary("cloud-sink")?)
        .args(arguments)
        .arg("-c")
        .arg(rig.sink.config_file())
        .output()?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    Ok((output.status.success(), stdout + &stderr))
}

/// A record of somebody else's producer.
pub fn foreign(value: &[u8]) -> Foreign<'_> {
    Foreign {
        key: "plant",
        value,
        headers: &[],
    }
}

fn list(rig: &Rig) -> Result<Vec<Json>> {
    let (done, said) = sink(rig, &["dead-letters", "list", "--format", "json"])?;
    ensure!(done, "{said}");
    said.lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .with_context(|| said.clone())
}

#[test]
fn a_dead_letter_comes_back_as_one_document_once_its_cause_is_repaired() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let validator = doc! { "pressure_pa": { "$lt": 1000.0 } };
    rig.documents
        .command(doc! { "create": "readings", "validator": validator })?;
    rig.sink.start()?;
    let readings = rig.kafka.readings().to_owned();
    let refused = br#"{"device":"press-4","pressure_pa":2000.5}"#;
    rig.kafka.write(
        &readings,
        &[
            foreign(refused),
            foreign(b"no JSON"),
            foreign(br#"{"device":"press-4","pressure_pa":5}"#),
        ],
    )?;
    rig.wait_sink("all to be settled", |sink| {
        sink.balance.dead_letters == 2 && sink.balance.written == 1
    })?;

    let letters = list(&rig)?;
    ensure!(letters.len() == 2, "{letters:?}");
    let letter = letters.iter().find(|letter| letter["reason"] == "refused");
    let letter = letter.ok_or_else(|| anyhow::anyhow!("{letters:?}"))?;
    ensure!(letter["topic"] == readings.as_str(), "{letter}");
    let id = letter["id"].as_str().unwrap_or_default();
    let (done, said) = sink(&rig, &["dead-letters", "show", id])?;
    ensure!(
        done && said.contains(std::str::from_utf8(refused)?),
        "{said}"
    );

    rig.documents
        .command(doc! { "collMod": "readings", "validator": {} })?;
    for _ in 0..2 {
        let (done, said) = sink(&rig, &["dead-letters", "replay", "--reason", "refused"])?;
        ensure!(done && said.contains("1 dead letter sent back"), "{said}");
    }
    rig.wait_sink("both to be settled", |sink| {
        sink.balance.written == 2 && sink.balance.duplicates == 1
    })?;
    let documents = rig.documents.readings_by_id()?;
    let back = documents
        .iter()
        .find(|document| document.get_f64("pressure_pa").ok() == Some(2000.5))
        .ok_or_else(|| anyhow::anyhow!("{documents:?}"))?;
    let first = format!(
        "foreign:{readings}:{}:{}:",
        letter["partition"], letter["offset"]
    );
    ensure!(
        back.get_str("_id")?.starts_with(&first),
        "{back} is not {first}"
    );
    rig.done()
}

#[test]
fn a_record_that_dies_again_is_sent_once_and_not_for_ever() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.sink.start()?;
    rig.kafka
        .write(rig.kafka.readings(), &[foreign(b"poison")])?;
    for death in 1..=6_u64 {
        rig.wait_sink("its death", |sink| sink.balance.dead_letters == death)?;
        let letters = list(&rig)?;
        ensure!(letters.len() as u64 == death, "{letters:?}");
        let (done, said) = sink(&rig, &["dead-letters", "replay"])?;
        let sent = if death == 6 {
            "0 dead letters"
        } else {
            "1 dead letter "
        };
        ensure!(said.contains(sent), "death {death}: {said}");
        ensure!(done == (death < 6), "death {death}: {said}");
    }
    rig.done()
}

#[test]
fn a_trace_shows_every_station_of_a_reading() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(super::MQTT)?;
    let config = std::fs::read_to_string(rig.sink.config_file())?;
    let with_hops = config.replace("collection =", "hops = true\ncollection =");
    rig.sink.configure(&with_hops)?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..1)?;
    rig.wait_until_stored(1)?;
    let documents = rig.documents.readings_by_id()?;
    let id = documents[0].get_str("_id")?.to_owned();
    let stations = [
        "received",
        "committed",
        "sent",
        "appended",
        "consumed",
        "written",
    ];
    let (done, said) = sink(&rig, &["trace", &id])?;
    ensure!(done && !said.contains("unknown"), "{said}");
    ensure!(
        stations.iter().all(|station| said.contains(station)),
        "{said}"
    );

    // Without hops in the document Kafka still knows the gateway's part.
    rig.documents.command(doc! {
        "update": "readings",
        "updates": [{ "q": { "_id": &id }, "u": { "$unset": { "hops": "" } } }],
    })?;
    let (done, said) = sink(&rig, &["trace", &id])?;
    let known = said.lines().filter(|line| line.contains(" ms  ")).count();
    ensure!(done && known == 3 && said.contains("in kafka"), "{said}");
    let (done, said) = sink(&rig, &["trace", "gw7:000000000000:000000000001"])?;
    ensure!(!done && said.contains("is not in mongodb"), "{said}");
    rig.done()
}
