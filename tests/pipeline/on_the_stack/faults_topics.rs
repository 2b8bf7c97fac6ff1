//! Topics that do not take what they are given, or are not there.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use harness::{
    chaos::dice::Dice,
    rig::{
        PATIENCE, Rig,
        kafka::{Foreign, Kafka},
    },
    service::Kind,
    wait,
};

use super::audit;

const SEED: u64 = 21;

/// Row 21's kin at the other end: the source was told that the reading is safe, and Kafka will never have
/// it. It is kept, declared, and holds nobody up.
#[test]
fn a_record_larger_than_its_topic_takes_is_declared_lost_and_no_other() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.kafka
        .configure(rig.kafka.readings(), &[("max.message.bytes", "2000")])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..30)?;
    // What no compression makes small.
    let mut dice = Dice::new(SEED);
    let notes = (0..14).map(|note| {
        let text: String =
            (0..250)
                .map(|_| {
                    char::from(*dice.one_of(
                        b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_",
                    ))
                })
                .collect();
        format!("\"note_{note}\":\"{text}\"")
    });
    let notes: Vec<String> = notes.collect();
    let publisher = rig.publisher("oven")?;
    let large = format!("{{\"boot\":1,\"seq\":0,{}}}", notes.join(","));
    publisher.publish(&format!("{}/oven/state", rig.name()), large)?;
    publisher.wait_acknowledged(1)?;
    super::publish(&rig, "press", 30..60)?;
    rig.wait_until_stored(60)?;
    super::assert_at_rest(&mut rig)?;
    super::assert_stored_once(&rig, &["press"], 60)?;
    super::assert_in_order(&rig.kafka.read_all(rig.kafka.readings())?)?;

    // It is accounted for, by its reason.
    audit::wait_settled(&rig, 61)?;
    let report = audit::audit(&rig, &["--full", "--format", "json"])?;
    ensure!(report.code == Some(0), "{}", report.text);
    let report = report.json()?;
    ensure!(audit::sum(&report, "declared") == 1, "{report}");
    let dropped = rig.agent_status()?.balance.dropped;
    ensure!(dropped.values().sum::<u64>() == 1, "{dropped:?}");
    let log = std::fs::read_to_string(rig.agent.log())?;
    ensure!(
        log.contains("kafka refuses a record for its size, quarantined"),
        "{log}"
    );
    // And its bytes are there for people.
    let mut kept = String::new();
    for entry in std::fs::read_dir(rig.state_dir().join("quarantine"))? {
        kept += &String::from_utf8_lossy(&std::fs::read(entry?.path())?);
    }
    ensure!(kept.contains("note_13"), "{kept}");
    rig.done()
}

/// Row 39, and the topic is missing into which it would go.
#[test]
fn a_missing_dead_letter_topic_holds_the_record_until_it_is_made() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let graveyard = format!("{}.graveyard", rig.name());
    let config = std::fs::read_to_string(rig.sink.config_file())?;
    rig.sink
        .configure(&config.replace(rig.kafka.dead_letters(), &graveyard))?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    let poison = Foreign {
        key: rig.name(),
        value: b"poison",
        headers: &[],
    };
    rig.kafka.write(rig.kafka.readings(), &[poison])?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..50)?;
    // Behind it in the partition, and not held by it.
    rig.wait_until_stored(50)?;
    wait::until_true("a line that names the topic", PATIENCE, || {
        let log = std::fs::read_to_string(rig.sink.log())?;
        Ok(
            log.contains("create the topic kafka.dead_letter_topic names")
                && log.contains(&graveyard),
        )
    })
    .with_context(|| rig.sink.end_of_log())?;
    // Its place is not passed: a kill reads it again.
    rig.sink.kill()?;
    rig.sink.start()?;
    rig.wait_sink("it to be read again", |sink| sink.balance.in_flight > 0)?;
    Kafka::create(rig.address(Kind::Kafka), &[(&graveyard, 1, false)])?;
    rig.wait_sink("the dead letter", |sink| {
        sink.balance.dead_letters == 1 && sink.balance.in_flight == 0
    })?;
    let letters = rig.kafka.read_all(&graveyard)?;
    ensure!(
        letters.len() == 1 && letters[0].value == b"poison",
        "{letters:?}"
    );
    super::assert_at_rest(&mut rig)?;
    super::assert_stored_once(&rig, &["press"], 50)?;
    super::assert_audit_is_clean(&rig, 50)?;
    rig.done()
}

/// Before row 38 can happen. What is unread is hours old at once, by its stamp, and cannot be settled: it is poison, and
/// there is no topic for dead letters.
#[test]
fn retention_that_comes_near_what_is_unread_is_measured_and_warned_of_until_it_is_read()
-> Result<()> {
    const HOURS: u64 = 3600;
    let mut rig = Rig::new(&[])?;
    let readings = rig.kafka.readings().to_owned();
    let retention = (10 * HOURS * 1000).to_string();
    rig.kafka.configure(
        &readings,
        &[
            ("retention.ms", &*retention),
            ("message.timestamp.type", "CreateTime"),
        ],
    )?;
    let graveyard = format!("{}.graveyard", rig.name());
    let config = std::fs::read_to_string(rig.sink.config_file())?;
    rig.sink
        .configure(&config.replace(rig.kafka.dead_letters(), &graveyard))?;
    let poison = Foreign {
        key: "somebody",
        value: b"poison",
        headers: &[],
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let stamp = now.as_millis() - u128::from(6 * HOURS * 1000);
    rig.kafka
        .write_stamped(&readings, 1, i64::try_from(stamp)?, poison)?;
    rig.sink.start()?;
    // Of ten hours, six are over; the others are those of partitions without anything unread.
    let left = |low: u64, high: u64| {
        let metrics = rig.sink.page("/metrics")?;
        let name = format!("sink_time_to_loss_seconds{{topic=\"{readings}\",partition=\"1\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
        let left: Option<f64> = value.map(str::parse).transpose()?;
        let between = (3600.0 * low as f64)..=(3600.0 * high as f64);
        anyhow::Ok(left.is_some_and(|left| between.contains(&left)))
    };
    wait::until_true("less than half of it", PATIENCE, || left(3, 4))
        .with_context(|| rig.sink.end_of_log())?;
    let mut log = String::new();
    let warned = wait::until_true("a warning that names the partition", PATIENCE, || {
        log = std::fs::read_to_string(rig.sink.log())?;
        Ok(log.lines().any(|line| {
            line.contains("level=warn")
                && line.contains("unread records have used half of their retention")
                && line.contains(&format!("topic={readings} partition=1 time_to_loss=3h"))
                && line.contains("retention=10h")
        }))
    });
    warned.with_context(|| log)?;
    ensure!(rig.sink_status()?.balance.in_flight == 1, "nothing is lost");

    Kafka::create(rig.address(Kind::Kafka), &[(&graveyard, 1, false)])?;
    rig.wait_sink("the dead letter", |sink| {
        sink.balance.dead_letters == 1 && sink.balance.in_flight == 0
    })?;
    wait::until_true("all of it", PATIENCE, || left(9, 10))
        .with_context(|| rig.sink.end_of_log())?;
    rig.done()
}

/// Row 38, with retention of no time at all.
#[test]
fn what_retention_deleted_unread_is_recorded_exactly_and_the_sink_goes_on() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..20)?;
    rig.wait_until_stored(20)?;
    let status = rig.sink.stop(PATIENCE)?;
    ensure!(status.success(), "{}", rig.sink.end_of_log());

    super::publish(&rig, "press", 20..60)?;
    rig.wait_agent("all of it in Kafka", |agent| {
        agent.balance.acknowledged == 60
    })?;
    let topic = rig.kafka.readings();
    rig.kafka
        .configure(topic, &[("retention.ms", "1"), ("segment.ms", "1000")])?;
    wait::until_true("retention", PATIENCE, || Ok(rig.kafka.count(topic)? == 0))?;
    rig.kafka.configure(topic, &[])?;
    super::publish(&rig, "press", 60..80)?;
    rig.sink.start()?;
    rig.wait_until_stored(40)?;
    super::assert_at_rest(&mut rig)?;

    let incidents = rig.documents.all("incidents")?;
    let gaps: Vec<(i64, i64)> = incidents
        .iter()
        .filter(|incident| incident.get_str("kind").is_ok_and(|kind| kind == "gap"))
        .map(|gap| Ok((gap.get_i64("first_offset")?, gap.get_i64("next_offset")?)))
        .collect::<Result<_>>()?;
    ensure!(gaps == [(20, 60)], "{incidents:?}");
    let mut last = String::new();
    let told = wait::until_true("an audit that names them", PATIENCE, || {
        let audit = audit::audit(&rig, &["--full", "--format", "json"])?;
        last.clone_from(&audit.text);
        let report = audit.json()?;
        let sums = ["expected", "present", "retention", "in_flight", "queued"];
        let sums = sums.map(|what| audit::sum(&report, what));
        Ok(sums == [80, 40, 40, 0, 0] && audit.code == Some(0))
    });
    told.with_context(|| last)?;
    // Which readings, and not only how many.
    let told = audit::audit(&rig, &["--full"])?.text;
    let of_one_run = rig.documents.readings_by_id()?;
    let runs: BTreeSet<&str> = of_one_run
        .iter()
        .filter_map(|document| document.get_str("_id").ok()?.split(':').nth(1))
        .collect();
    ensure!(runs.len() == 1, "{runs:?}");
    ensure!(told.contains("   20..59   40"), "{told}");
    rig.done()
}
