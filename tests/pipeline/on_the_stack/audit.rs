//! `cloud-sink audit` accounts for every reading, and a checkpoint is only its owner's.

use std::{collections::BTreeMap, ops::Range, process::Command};

use anyhow::{Context, Result, ensure};
use harness::{
    daemon::Daemon,
    rig::{PATIENCE, QUICK_TAKEOVER, Rig},
    wait,
};
use mongodb::bson::Document;
use protocol::{
    Clock, Digest, Epoch, Fields, Metadata, Reading, Record, RecordId, Timestamp, Value,
    control::{EpochFact, Fact, Loss, LossReason},
};
use serde_json::Value as Json;

use super::whole_way::Play;

/// What `cloud-sink audit` answered.
pub struct Audit {
    pub code: Option<i32>,
    pub text: String,
}

impl Audit {
    pub fn json(&self) -> Result<Json> {
        serde_json::from_str(&self.text).with_context(|| self.text.clone())
    }
}

pub fn audit(rig: &Rig, more: &[&str]) -> Result<Audit> {
    let output = Command::new(harness::binary("cloud-sink")?)
        .args(["audit", "-c"])
        .arg(rig.sink.config_file())
        .args(more)
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(errors.is_empty(), "{errors}");
    let code = output.status.code();
    Ok(Audit { code, text })
}

/// Waits until so many readings have arrived and been stated: nothing in flight, nothing queued.
pub fn wait_settled(rig: &Rig, readings: u64) -> Result<()> {
    let mut last = String::new();
    let wanted = format!("\n{readings} readings: nothing is missing\n");
    let settled = wait::until_true("an audit without anything under way", PATIENCE, || {
        let audit = audit(rig, &[])?;
        last = audit.text;
        Ok(audit.code == Some(0) && last.ends_with(&wanted))
    });
    settled.with_context(|| format!("{last}\n{}", rig.sink.end_of_log()))
}

pub fn sum(report: &Json, what: &str) -> u64 {
    let lanes = report["gateways"].as_array().into_iter().flatten();
    let lanes = lanes.flat_map(|gateway| gateway["lanes"].as_array().into_iter().flatten());
    lanes.filter_map(|lane| lane["totals"][what].as_u64()).sum()
}

#[test]
fn after_kills_an_audit_finds_nothing_missing_and_counting_agrees() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let play = Play::start(&mut rig, "")?;
    rig.sink.start()?;
    for _ in 0..2 {
        play.wait_sent(150)?;
        rig.agent.kill()?;
        rig.agent.start()?;
        play.wait_sent(150)?;
        rig.sink.kill()?;
        rig.sink.start()?;
    }
    play.end(&rig)?;
    let stored = rig.documents.count()?;
    wait_settled(&rig, stored)?;

    // Between the two the gateway may state something.
    let (mut noted, mut counted) = (Json::Null, Json::Null);
    wait::until_true("notes and counting to agree", PATIENCE, || {
        noted = audit(&rig, &["--format", "json"])?.json()?;
        counted = audit(&rig, &["--full", "--format", "json"])?.json()?;
        Ok(noted["gateways"] == counted["gateways"])
    })
    .with_context(|| format!("{noted}\n{counted}"))?;
    ensure!(sum(&counted, "expected") == stored, "{stored}: {counted}");
    ensure!(sum(&counted, "present") == stored, "{stored}: {counted}");
    rig.done()
}

#[test]
fn a_document_deleted_by_hand_is_named_by_a_full_audit() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    rig.wait_agent("the broker", |agent| {
        agent.links.iter().all(|link| link.state == "up")
    })?;
    super::publish(&rig, "press", 0..20)?;
    wait_settled(&rig, 20)?;

    let documents = rig.documents.readings_by_id()?;
    let victim = documents[7].get_str("_id")?;
    rig.documents.remove_one("readings", victim)?;
    let noted = audit(&rig, &[])?;
    ensure!(
        noted.code == Some(0),
        "only counting can tell: {}",
        noted.text
    );
    let full = audit(&rig, &["--full"])?;
    ensure!(full.code == Some(1), "{}", full.text);
    let line = full.text.lines().find(|line| line.contains("deleted"));
    ensure!(
        line.is_some_and(|line| line.contains(victim)),
        "{victim}\n{}",
        full.text
    );
    // Nobody deleted what another collection has.
    let config = std::fs::read_to_string(rig.sink.config_file())?;
    let elsewhere = rig.dir().join("elsewhere.toml");
    let wrong = "collection = \"readigns\"";
    std::fs::write(
        &elsewhere,
        config.replace("collection = \"readings\"", wrong),
    )?;
    let (code, told) = super::said("cloud-sink", &["audit", "--full"], &elsewhere, "no secret")?;
    ensure!(
        code == 1 && told.contains(".readigns   FAIL there is no such collection"),
        "{told}"
    );
    rig.done()
}

/// Writes what a gateway with the rig's name would: records `sequences` and facts.
pub fn write(rig: &Rig, sequences: Range<u64>, facts: &[Fact]) -> Result<()> {
    let mut records = Vec::new();
    for sequence in sequences {
        let reading = Reading {
            device: "press".parse()?,
            time: Timestamp::UNIX_EPOCH,
            clock: Clock::Device,
            fields: Fields::new(vec![("power_w".parse()?, Value::Float(1.5))])?,
            source: None,
            meta: Metadata::default(),
        };
        let record = Record {
            id: RecordId {
                gateway: rig.name().parse()?,
                epoch: Epoch::from_random(1),
                sequence,
            },
            digest: Digest::of(&reading),
            reading,
        };
        records.push(record);
    }
    rig.kafka.write_readings(&records)?;
    for fact in facts {
        rig.kafka.state(fact)?;
    }
    Ok(())
}

/// All up to `last` committed and acknowledged.
fn epoch(rig: &Rig, last: u64) -> Result<Fact> {
    Ok(Fact::Epoch(EpochFact {
        gateway: rig.name().parse()?,
        lane: rig.kafka.readings().parse()?,
        epoch: Epoch::from_random(1),
        previous: None,
        committed: Some(last),
        acknowledged: Some(last),
        // Kafka had everything before this was stated; a gateway would name the offsets.
        offsets: BTreeMap::new(),
        closed: false,
        at: Timestamp::UNIX_EPOCH,
    }))
}

#[test]
fn a_declared_loss_is_shown_with_its_reason_and_a_hole_beside_it_is_missing() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.sink.start()?;
    let loss = Fact::Loss(Loss {
        gateway: rig.name().parse()?,
        lane: rig.kafka.readings().parse()?,
        epoch: Epoch::from_random(1),
        first: 0,
        last: Some(4),
        reason: LossReason::DropOldest,
        merged: false,
        possibly_delivered: false,
        at: Timestamp::UNIX_EPOCH,
    });
    write(&rig, 5..10, &[loss, epoch(&rig, 9)?])?;
    wait_settled(&rig, 10)?;
    let declared = audit(&rig, &[])?;
    let line = "declared lost   0..4   5   drop_oldest at 1970-01-01T00:00:00Z";
    ensure!(declared.text.contains(line), "{}", declared.text);

    write(&rig, 11..12, &[epoch(&rig, 11)?])?;
    let mut last = String::new();
    let id = format!("{}:000000000001:00000000000a", rig.name());
    let found = wait::until_true("the missing reading", PATIENCE, || {
        let audit = audit(&rig, &[])?;
        last = audit.text;
        let line = last.lines().find(|line| line.contains("missing   10..10"));
        Ok(audit.code == Some(1) && line.is_some_and(|line| line.contains(&id)))
    });
    found.with_context(|| last)?;
    rig.done()
}

#[test]
fn a_topic_that_was_made_anew_is_read_from_its_beginning_and_told() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.sink.start()?;
    write(&rig, 0..10, &[epoch(&rig, 9)?])?;
    wait_settled(&rig, 10)?;
    let stopped = rig.sink.stop(PATIENCE)?;
    ensure!(stopped.success(), "{}", rig.sink.end_of_log());

    // With more records than the sink had read of the old one.
    rig.kafka.remake(rig.kafka.readings(), 3)?;
    write(&rig, 10..40, &[epoch(&rig, 39)?])?;
    rig.sink.start()?;
    wait_settled(&rig, 40)?;
    let incidents = rig.documents.all("incidents")?;
    let remade = incidents
        .iter()
        .find(|incident| {
            incident
                .get_str("kind")
                .is_ok_and(|kind| kind == "topic_recreated")
        })
        .with_context(|| format!("{incidents:?}"))?;
    // What was certainly of the old one: the record that was looked for, not all that was read after it.
    let ended = remade.get_i64("first_offset")?;
    ensure!((1..=10).contains(&ended), "{remade}");
    let lives = rig.documents.all("checkpoints")?;
    let lives: Vec<i64> = lives
        .iter()
        .filter_map(|document| document.get_array("lives").ok()?.first()?.as_document())
        .filter_map(|life| life.get_i64("next").ok())
        .collect();
    ensure!(lives == [ended], "{lives:?}");
    rig.done()
}

#[test]
fn a_sink_that_wakes_after_a_takeover_cannot_write_back() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    rig.wait_agent("the broker", |agent| {
        agent.links.iter().all(|link| link.state == "up")
    })?;
    ensure!(std::fs::read_to_string(rig.sink.config_file())?.contains(QUICK_TAKEOVER));

    // If it learns from Kafka that it has lost its partitions before it tries, it does not try.
    let mut sent = 0;
    for _ in 0..5 {
        if tries_to_write_back(&mut rig, &mut sent)? {
            return rig.done();
        }
    }
    anyhow::bail!("it never tried\n{}", rig.sink.end_of_log())
}

/// Lets another take over from a sink that is stopped where it stands, and wakes it; whether it has tried to note what
/// it had written, in vain.
fn tries_to_write_back(rig: &mut Rig, sent: &mut u64) -> Result<bool> {
    // Stopped between its last write and its next checkpoint.
    loop {
        super::publish(rig, "press", *sent..*sent + 10)?;
        *sent += 10;
        rig.wait_until_stored(*sent)?;
        rig.sink.process()?.freeze()?;
        if noted(rig)? < i64::try_from(*sent)? {
            break;
        }
        rig.sink.process()?.thaw()?;
    }
    // Before there is anybody who could take over.
    let before = checkpoints(rig)?;
    let mut second = second_sink(rig)?;
    second.start()?;
    wait::until_true("the takeover", PATIENCE, || {
        let now = checkpoints(rig)?;
        let taken = |(id, (fence, _)): (&String, &(i64, i64))| {
            now.get(id).is_some_and(|(now, _)| now > fence)
        };
        Ok(before.iter().all(taken) && noted(rig)? == i64::try_from(*sent)?)
    })
    .with_context(|| second.end_of_log())?;

    let said = std::fs::read_to_string(rig.sink.log())?.len();
    rig.sink.process()?.thaw()?;
    let mut log = String::new();
    wait::until_true("the sink to notice", PATIENCE, || {
        log = std::fs::read_to_string(rig.sink.log())?.split_off(said);
        Ok(log.contains(REFUSED) || log.contains("partitions revoked"))
    })
    .with_context(|| rig.sink.end_of_log())?;
    super::publish(rig, "press", *sent..*sent + 10)?;
    *sent += 10;
    wait_settled(rig, *sent)?;
    super::assert_stored_once(rig, &["press"], *sent)?;
    let status = second.stop(PATIENCE)?;
    ensure!(status.success(), "{}", second.end_of_log());
    Ok(log.contains(REFUSED))
}

const REFUSED: &str = "another sink has taken this partition";

/// A sink with the same configuration but for its status page.
fn second_sink(rig: &Rig) -> Result<Daemon> {
    let config = std::fs::read_to_string(rig.sink.config_file())?;
    let address = rig.sink.url().replace("http://", "");
    let dir = rig.dir().join("second");
    std::fs::create_dir_all(&dir)?;
    Daemon::new("cloud-sink", &dir, &config.replace(&address, "{{status}}"))
}

/// Fence and next offset by checkpoint.
fn checkpoints(rig: &Rig) -> Result<BTreeMap<String, (i64, i64)>> {
    let documents = rig.documents.all("checkpoints")?.into_iter();
    documents
        .map(|document| {
            let id = document.get_str("_id")?.to_owned();
            let next = document.get_i64("next").unwrap_or(0);
            Ok((id, (document.get_i64("generation")?, next)))
        })
        .collect()
}

/// How many readings coverage knows.
pub fn noted(rig: &Rig) -> Result<i64> {
    let present = |document: &Document| -> Result<i64> {
        let mut count = 0;
        for until in document.get_array("present")? {
            let until = until.as_document().context("a document")?;
            let ends: Vec<i64> = until
                .get_array("ranges")?
                .iter()
                .filter_map(mongodb::bson::Bson::as_i64)
                .collect();
            count += ends
                .chunks(2)
                .map(|ends| ends[1] - ends[0] + 1)
                .sum::<i64>();
        }
        Ok(count)
    };
    rig.documents.all("coverage")?.iter().map(present).sum()
}
