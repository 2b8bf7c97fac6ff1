//! What may become of gateways, topics and documents in years, on the real parts: a box renamed, one that died and
//! whose card was brought along, partitions added, facts compacted before anybody read them, documents expired, a
//! gateway gone silent. The audit accounts for all of it.

use std::{
    collections::BTreeMap,
    fs,
    process::Command,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use harness::{
    process::said,
    rig::{PATIENCE, QUICK_TAKEOVER, Rig, line::Line},
    wait,
};
use mongodb::bson::{DateTime, doc};
use protocol::{
    Epoch, Timestamp,
    control::{EpochFact, Fact},
};
use serde_json::Value as Json;

use super::audit::{self, audit, sum, wait_settled};

const EACH: u32 = 30;

const LINE: &str = r#"
[[serial]]
name = "line"
port = "{{dir}}/line"
mode = "frames"
"#;

/// Sends readings of the device's first boot and waits until each is safe.
fn send(line: &mut Line, device: &str, sequences: std::ops::Range<u32>) -> Result<()> {
    line.greet(device, 1)?;
    for sequence in sequences {
        line.send_reading(1, sequence, f64::from(sequence) + 0.5)?;
        line.wait_ack(1, sequence, PATIENCE)?;
    }
    Ok(())
}

/// How many readings of each gateway and device are stored.
fn stored(rig: &Rig) -> Result<BTreeMap<(String, String), u32>> {
    let mut stored = BTreeMap::new();
    for document in rig.documents.readings_by_id()? {
        let meta = document.get_document("meta")?;
        let key = (
            meta.get_str("gateway")?.into(),
            meta.get_str("device")?.into(),
        );
        *stored.entry(key).or_default() += 1;
    }
    Ok(stored)
}

#[test]
fn a_renamed_gateway_and_the_card_of_a_dead_one_drain_under_their_own_names() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(LINE)?;
    let config = rig.take_kafka_from_agent()?;
    let name = |config: &str, name: &str| {
        let [old, new] = [rig.name(), name].map(|name| format!("gateway = \"{name}\""));
        config.replace(&old, &new)
    };
    let (dead, renamed) = (
        format!("{}-dead", rig.name()),
        format!("{}-new", rig.name()),
    );

    let mut other = rig.another(&rig.agent, "dead")?;
    other.configure(&name(&fs::read_to_string(other.config_file())?, &dead))?;
    let renaming = name(&config, &renamed);
    other.start()?;
    rig.agent.start()?;
    let mut far = Line::plug(&rig.dir().join("dead/line"))?;
    let mut line = rig.line("line")?;
    send(&mut far, "drill", 0..EACH)?;
    send(&mut line, "press", 0..EACH)?;
    other.kill()?;
    rig.agent.kill()?;

    rig.agent.configure(&renaming)?;
    rig.agent.start()?;
    rig.sink.start()?;
    send(&mut line, "press", EACH..2 * EACH)?;
    let import = || -> Result<(Option<i32>, String)> {
        let mut import = Command::new(harness::binary("edge-agent")?);
        import
            .args(["queue", "import"])
            .arg(rig.dir().join("dead/state"));
        let output = import.arg("-c").arg(rig.agent.config_file()).output()?;
        Ok((output.status.code(), said(&output)))
    };
    let (code, told) = import()?;
    ensure!(code == Some(0), "{told}");
    let (code, told) = import()?;
    ensure!(
        code != Some(0) && told.contains("is in this agent already"),
        "{told}"
    );
    rig.agent.kill()?;
    rig.agent.start()?;
    rig.wait_until_stored(u64::from(3 * EACH))?;
    super::assert_at_rest(&mut rig)?;

    let own = |gateway: &str, device: &str| ((gateway.to_owned(), device.to_owned()), EACH);
    let wanted = [
        own(rig.name(), "press"),
        own(&dead, "drill"),
        own(&renamed, "press"),
    ];
    let stored = stored(&rig)?;
    ensure!(stored == wanted.into(), "{stored:?}");
    super::assert_audit_is_clean(&rig, u64::from(3 * EACH))?;
    rig.done()
}

#[test]
fn a_gateway_that_a_new_partition_moved_is_whole_in_the_audit() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let config = fs::read_to_string(rig.sink.config_file())?;
    // librdkafka asks for new partitions every five minutes.
    let attentive = "\"topic.metadata.refresh.interval.ms\" = \"500\" }";
    let quick = QUICK_TAKEOVER.replace('}', &format!(", {attentive}"));
    ensure!(quick != QUICK_TAKEOVER && config.contains(QUICK_TAKEOVER));
    rig.sink
        .configure(&config.replace(QUICK_TAKEOVER, &quick))?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    let partitions = |rig: &Rig| -> Result<Vec<i32>> {
        let records = rig.kafka.read_all(rig.kafka.readings())?;
        let mut all: Vec<i32> = records.iter().map(|record| record.partition).collect();
        all.sort_unstable();
        all.dedup();
        Ok(all)
    };
    super::publish(&rig, "press", 0..20)?;
    rig.wait_until_stored(20)?;
    let mut sent = 20;
    let mut all = 3;
    // Where its key goes is a matter of its name.
    while partitions(&rig)?.len() == 1 {
        all += 1;
        rig.kafka.add_partitions(rig.kafka.readings(), all)?;
        // A producer asks for new partitions at its start.
        rig.agent.kill()?;
        rig.agent.start()?;
        super::publish(&rig, "press", sent..sent + 20)?;
        sent += 20;
        rig.wait_until_stored(sent)?;
    }
    super::assert_at_rest(&mut rig)?;
    super::assert_stored_once(&rig, &["press"], sent)?;
    super::assert_audit_is_clean(&rig, sent)?;
    rig.done()
}

#[test]
fn facts_that_were_compacted_before_the_sink_read_them_still_account_for_everything() -> Result<()>
{
    let mut rig = Rig::new(&[])?;
    let quick = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
    ];
    rig.kafka.configure(rig.kafka.control(), &quick)?;
    rig.configure_agent(super::MQTT)?;
    let mut sent = 0;
    wait::until_true("a fact that is not there any more", PATIENCE, || {
        rig.agent.start()?;
        super::publish(&rig, "press", sent..sent + 10)?;
        sent += 10;
        rig.wait_agent("all of it in Kafka", |agent| agent.balance.queued == 0)?;
        if sent % 20 == 0 {
            rig.agent.kill()?;
        } else {
            let status = rig.agent.stop(PATIENCE)?;
            ensure!(status.success(), "{}", rig.agent.end_of_log());
        }
        let facts = rig.kafka.read_all(rig.kafka.control())?;
        // Each start has an epoch of its own and several statements of it.
        let written = facts.last().map_or(0, |last| last.offset + 1);
        Ok(sent > 40 && i64::try_from(facts.len())? < written)
    })
    .with_context(|| rig.agent.end_of_log())?;
    rig.agent.start()?;
    rig.sink.start()?;
    rig.wait_until_stored(sent)?;
    super::assert_at_rest(&mut rig)?;
    super::assert_stored_once(&rig, &["press"], sent)?;
    super::assert_audit_is_clean(&rig, sent)?;
    rig.done()
}

#[test]
fn what_expired_is_explained_and_what_somebody_deleted_before_is_not() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let config = fs::read_to_string(rig.sink.config_file())?;
    let keep = |time: &str| {
        let collection = "collection = \"readings\"\n";
        config.replace(collection, &format!("{collection}keep = \"{time}\"\n"))
    };
    let remove = |first: i64, last: i64| {
        let those = doc! { "src.seq": { "$gte": first, "$lte": last } };
        rig.documents
            .command(doc! { "delete": "readings", "deletes": [{ "q": those, "limit": 0 }] })
    };
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.configure(&keep("30d"))?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..10)?;
    wait_settled(&rig, 10)?;
    let status = rig.sink.stop(PATIENCE)?;
    ensure!(status.success(), "{}", rig.sink.end_of_log());
    rig.sink.configure(&keep("1s"))?;
    rig.sink.start()?;
    super::publish(&rig, "press", 10..20)?;
    wait_settled(&rig, 20)?;

    // Until they have expired; MongoDB's sweeper comes once a minute and has nothing else to say.
    thread::sleep(Duration::from_millis(1100));
    remove(10, 19)?;
    let full = audit(&rig, &["--full", "--format", "json"])?;
    let report = full.json()?;
    ensure!(full.code == Some(0), "{}", full.text);
    ensure!(
        ["expired", "present"].map(|what| sum(&report, what)) == [10, 10],
        "{report}"
    );
    remove(3, 3)?;
    let full = audit(&rig, &["--full", "--format", "json"])?;
    let report = full.json()?;
    ensure!(full.code == Some(1), "{}", full.text);
    ensure!(
        ["expired", "present", "deleted"].map(|what| sum(&report, what)) == [10, 9, 1],
        "{report}"
    );
    rig.done()
}

#[test]
fn what_a_silent_gateway_may_still_have_is_unverifiable_since_its_last_sign() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.sink.start()?;
    let fact = Fact::Epoch(EpochFact {
        gateway: rig.name().parse()?,
        lane: rig.kafka.readings().parse()?,
        epoch: Epoch::from_random(1),
        previous: None,
        committed: Some(19),
        acknowledged: Some(9),
        offsets: BTreeMap::new(),
        closed: false,
        at: Timestamp::UNIX_EPOCH,
    });
    audit::write(&rig, 0..10, &[fact])?;
    let mut last = String::new();
    let told = wait::until_true("what is queued at the gateway", PATIENCE, || {
        let audit = audit(&rig, &["--format", "json"])?;
        last.clone_from(&audit.text);
        let report = audit.json()?;
        let sums = ["present", "queued", "unverifiable"].map(|what| sum(&report, what));
        Ok(audit.code == Some(0) && sums == [10, 10, 0])
    });
    told.with_context(|| last)?;
    let status = rig.sink.stop(PATIENCE)?;
    ensure!(status.success(), "{}", rig.sink.end_of_log());

    // Ten minutes pass.
    let since = DateTime::from_system_time(SystemTime::now() - Duration::from_secs(600));
    for (collection, field) in [("epochs", "seen"), ("gateways", "seen"), ("coverage", "at")] {
        let set = doc! { "q": {}, "u": { "$set": { field: since } }, "multi": true };
        rig.documents
            .command(doc! { "update": collection, "updates": [set] })?;
    }
    let silent = audit(&rig, &["--format", "json"])?;
    ensure!(silent.code == Some(1), "{}", silent.text);
    let report = silent.json()?;
    let sums = ["present", "queued", "unverifiable"].map(|what| sum(&report, what));
    ensure!(sums == [10, 0, 10], "{report}");
    let told: Timestamp = report["gateways"][0]["silent_since"]
        .as_str()
        .context("a time")?
        .parse()?;
    ensure!(
        told.as_micros() / 1000 == since.timestamp_millis(),
        "{report}"
    );
    let text = audit(&rig, &[])?.text;
    ensure!(text.contains("silent, unverifiable since"), "{text}");

    // A window that reaches back to its last sign has it, and one that begins later has not. With nothing in it,
    // nothing is vouched for.
    for (window, unverifiable, unaudited) in [("1h", 10, Json::Null), ("5m", 0, "no_news".into())] {
        let audit = audit(&rig, &["--since", window, "--format", "json"])?;
        let report = audit.json()?;
        let found = (sum(&report, "unverifiable"), &report["unaudited"]);
        ensure!(
            audit.code == Some(1) && found == (unverifiable, &unaudited),
            "{window}: {}",
            audit.text
        );
    }
    rig.done()
}
