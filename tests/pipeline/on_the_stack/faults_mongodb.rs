//! The sink and a MongoDB that answers, but not what was hoped for: elections, a majority that does not
//! confirm, documents it will not have, answers that are lost (rows 35, 36 and 37).

use anyhow::{Context, Result, ensure};
use harness::{
    rig::{PATIENCE, Rig},
    service::Kind,
    wait,
};
use mongodb::bson::{Bson, Document, doc};

use super::{audit, sink_dead_letters};

const SEED: u64 = 37;

/// A rig with a MongoDB of its own, since a failing command fails for everybody.
fn rig() -> Result<Rig> {
    let mut rig = Rig::new(&[Kind::Mongodb])?;
    rig.configure_agent(super::MQTT)?;
    // After an election the driver asks who is primary now. A server that only plays one has nothing new to
    // tell, and would be asked again after ten seconds.
    let config = std::fs::read_to_string(rig.sink.config_file())?;
    let often = "directConnection=true&heartbeatFrequencyMS=500";
    rig.sink
        .configure(&config.replace("directConnection=true", often))?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..20)?;
    rig.wait_until_stored(20)?;
    Ok(rig)
}

/// The next `times` of these commands end as `how` says; `failCommand` of MongoDB.
fn fail(rig: &Rig, commands: &[&str], times: i32, how: Document) -> Result<()> {
    let commands: Vec<Bson> = commands.iter().map(|&name| Bson::from(name)).collect();
    let mut data = doc! { "failCommands": commands };
    data.extend(how);
    rig.documents.administer(doc! {
        "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data,
    })
}

#[test]
fn a_mongodb_that_fails_over_is_waited_for_and_nothing_is_a_dead_letter() -> Result<()> {
    let mut rig = rig()?;
    let mut sent = 20;
    // NotWritablePrimary, InterruptedDueToReplStateChange, ShutdownInProgress.
    for code in [10107, 11602, 91] {
        // The driver tries again by itself once; the others are the sink's.
        let commands = ["insert", "update", "findAndModify"];
        fail(&rig, &commands, 3, doc! { "errorCode": code })?;
        super::publish(&rig, "press", sent..sent + 100)?;
        sent += 100;
        rig.wait_until_stored(sent)
            .with_context(|| format!("after error {code}"))?;
    }
    // In the middle of a command the primary is gone.
    fail(&rig, &["insert"], 3, doc! { "closeConnection": true })?;
    super::publish(&rig, "press", sent..sent + 100)?;
    sent += 100;
    rig.wait_until_stored(sent)?;
    super::assert_all_is_well(&mut rig, &["press"], sent)?;
    let balance = rig.sink_status()?.balance;
    ensure!(balance.dead_letters == 0, "{balance:?}");
    rig.done()
}

#[test]
fn a_write_that_the_majority_did_not_confirm_is_asked_for_again() -> Result<()> {
    let mut rig = rig()?;
    let concern = doc! { "code": 64, "codeName": "WriteConcernFailed",
    "errmsg": "waiting for replication timed out" };
    // Each of these inserts is written, and nobody may rely on it.
    fail(&rig, &["insert"], 3, doc! { "writeConcernError": concern })?;
    super::publish(&rig, "press", 20..200)?;
    rig.wait_until_stored(200)?;
    rig.wait_sink("what was written to be found again", |sink| {
        sink.balance.written + sink.balance.duplicates >= 200 && sink.balance.in_flight == 0
    })?;
    let log = std::fs::read_to_string(rig.sink.log())?;
    ensure!(log.contains("write concern not met"), "{log}");
    super::assert_all_is_well(&mut rig, &["press"], 200)?;
    let balance = rig.sink_status()?.balance;
    ensure!(
        balance.duplicates > 0 && balance.dead_letters == 0,
        "{balance:?}"
    );
    rig.done()
}

#[test]
fn one_bad_document_is_the_only_dead_letter_of_its_batch_and_its_replay_completes_the_audit()
-> Result<()> {
    let mut rig = rig()?;
    let refuse = doc! { "power_w": { "$ne": 123.5 } };
    rig.documents
        .command(doc! { "collMod": "readings", "validator": refuse })?;
    // Besides, a batch is refused as a whole, as one that holds something too large: it is bisected.
    // All of it lies in Kafka before the sink sees any, so that there is something to bisect three times.
    let config = std::fs::read_to_string(rig.sink.config_file())?;
    let stopped = rig.sink.stop(PATIENCE)?;
    ensure!(stopped.success(), "{}", rig.sink.end_of_log());
    super::publish(&rig, "press", 20..300)?;
    rig.wait_agent("all of it in Kafka", |agent| {
        agent.balance.acknowledged >= 300
    })?;
    rig.sink
        .configure(&format!("{config}\n[batch]\nmax_wait = \"2s\"\n"))?;
    fail(&rig, &["insert"], 3, doc! { "errorCode": 10334 })?;
    rig.sink.start()?;
    rig.wait_until_stored(299)?;
    let status = rig.wait_sink("the dead letter", |sink| {
        sink.balance.dead_letters > 0 && sink.balance.in_flight == 0
    })?;
    ensure!(status.balance.dead_letters == 1, "{:?}", status.balance);
    let letters = rig.kafka.read_all(rig.kafka.dead_letters())?;
    ensure!(letters.len() == 1, "{letters:?}");
    let power = letters[0].reading()?.reading.fields.get("power_w").cloned();
    ensure!(power == Some(protocol::Value::Float(123.5)), "{letters:?}");

    let mut last = None;
    let told = wait::until_true("an audit that knows it", PATIENCE, || {
        let report = audit::audit(&rig, &["--full", "--format", "json"])?.json()?;
        let sums = ["dead_lettered", "present", "in_flight", "queued"];
        let sums = sums.map(|what| audit::sum(&report, what));
        last = Some(report);
        Ok(sums == [1, 299, 0, 0])
    });
    told.with_context(|| format!("{last:?}"))?;

    rig.documents
        .command(doc! { "collMod": "readings", "validator": {} })?;
    let (done, said) = sink_dead_letters::sink(&rig, &["dead-letters", "replay"])?;
    ensure!(done && said.contains("1 dead letter sent back"), "{said}");
    rig.wait_until_stored(300)?;
    // Order is not promised of what was replayed, so the rest of the verdict is asked for by name.
    super::assert_at_rest(&mut rig)?;
    super::assert_stored_once(&rig, &["press"], 300)?;
    audit::wait_settled(&rig, 300)?;
    let counted = audit::audit(&rig, &["--full"])?;
    ensure!(counted.code == Some(0), "{}", counted.text);
    rig.done()
}

#[test]
fn an_answer_lost_after_the_write_makes_no_second_document() -> Result<()> {
    let mut rig = Rig::new(&[Kind::Mongodb])?;
    rig.configure_agent(super::MQTT)?;
    let link = super::link_to_mongodb(&rig, SEED)?;
    rig.agent.start()?;
    rig.sink.start()?;
    let mut sent = 0;
    // The commands by which documents and checkpoints are written. More than the driver tries itself.
    for command in [&b"insert\0"[..], b"update\0"] {
        link.lose_answers_to(command, 4);
        super::publish(&rig, "press", sent..sent + 150)?;
        sent += 150;
        rig.wait_until_stored(sent)?;
        let lost = match command {
            b"insert\0" => 4,
            _ => 8,
        };
        wait::until_true("the answers to be lost", PATIENCE, || {
            Ok(link.faults().get("answer-lost") >= Some(&lost))
        })?;
    }
    super::assert_all_is_well(&mut rig, &["press"], sent)?;
    rig.done()
}
