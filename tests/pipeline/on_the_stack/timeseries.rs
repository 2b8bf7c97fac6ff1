//! A time series takes everything twice; the sink does not give it twice. Rows 33 to 37 and 40, on a server
//! whose time series are real: `mongod`, or one that is compiled once. Where neither can be had each of these
//! tests says that it is skipped, and why.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::{
    daemon::{Daemon, SinkStatus},
    rig::{PATIENCE, Rig},
    service::{Kind, no_series},
    wait,
};
use mongodb::bson::{DateTime, doc};
use protocol::{
    BootId, Clock, Digest, Epoch, FieldName, Fields, Metadata, Reading, Record, RecordId,
    Timestamp, Value,
    control::{ClockCorrection, Fact},
};

use super::audit;

/// The tests of this file, one in `analysis` and one in `faults_remade`.
const TESTS: usize = 10;
/// Longer than the sink's lease and the first look at what is in doubt.
const SETTLED: Duration = Duration::from_secs(25);

/// A rig whose readings go into a time series; `None`, said aloud, where no server has one.
pub fn rig(own: &[Kind]) -> Result<Option<Rig>> {
    if let Some(reason) = no_series() {
        let test = std::thread::current();
        let name = test.name().unwrap_or("a test").to_owned();
        // Not through the macros, whose output a test that passes keeps to itself.
        writeln!(
            std::io::stderr(),
            "skipped {name}, one of {TESTS} tests of time series: {reason}"
        )?;
        return Ok(None);
    }
    let mut rig = Rig::new(own)?;
    // Without a clock that is set nothing would get into a time series.
    let marker = rig.dir().join("synchronized");
    std::fs::write(&marker, "")?;
    rig.agent
        .set_environment(vec![("EDGE_AGENT_CLOCK_MARKER".to_owned(), marker)]);
    let config = std::fs::read_to_string(rig.sink.config_file())?;
    let series = "collection = \"readings\"\nkind = \"timeseries\"";
    rig.sink
        .configure(&config.replace("collection = \"readings\"", series))?;
    Ok(Some(rig))
}

fn second_sink(rig: &Rig) -> Result<Daemon> {
    let dir = rig.dir().join("second");
    std::fs::create_dir_all(&dir)?;
    let config = std::fs::read_to_string(rig.sink.config_file())?;
    let second = Daemon::new("cloud-sink", &dir, "")?;
    let (mine, other) = (second.url(), rig.sink.url());
    let address = |url: &str| url.replace("http://", "");
    second.configure(&config.replace(&address(&other), &address(&mine)))?;
    Ok(second)
}

/// Every reading is there once, and stays so after what was in doubt was looked at; the audit agrees.
pub fn assert_once(rig: &Rig, readings: u64) -> Result<()> {
    let mut last = None;
    wait::until_true("nothing to be in doubt", 2 * PATIENCE, || {
        let doubts = rig.documents.all("series_doubts")?;
        let open = doubts
            .iter()
            .any(|doubt| doubt.get_bool("is_last").is_ok_and(|last| !last));
        last = Some(doubts.len());
        Ok(!open)
    })
    .with_context(|| format!("{last:?} doubts"))?;
    super::assert_stored_once(rig, &["press"], readings)?;
    super::assert_audit_is_clean(rig, readings)
}

#[test]
fn a_time_series_has_each_reading_once_though_its_sink_is_killed_after_writing() -> Result<()> {
    let Some(mut rig) = rig(&[Kind::Series])? else {
        return Ok(());
    };
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    let mut sent = 0;
    for _ in 0..3 {
        rig.sink.start()?;
        // Written, and no checkpoint says so yet: that comes seconds later, so it is asked again if it came just now.
        loop {
            super::publish(&rig, "press", sent..sent + 300)?;
            sent += 300;
            rig.wait_until_stored(sent - 150)?;
            rig.sink.process()?.freeze()?;
            if audit::noted(&rig)? < i64::try_from(rig.documents.count()?)? {
                break;
            }
            rig.sink.process()?.thaw()?;
        }
        rig.sink.kill()?;
    }
    rig.sink.start()?;
    rig.wait_until_stored(sent)?;
    // What is stored already may be all of it; the lag is that of the partitions fetched so far.
    rig.wait_sink("what was written to be read again", |sink| {
        sink.balance.duplicates > 0 && sink.balance.in_flight == 0 && sink.lag == Some(0)
    })?;
    assert_once(&rig, sent)?;
    rig.done()
}

#[test]
fn two_sinks_that_come_and_go_give_a_time_series_each_reading_once() -> Result<()> {
    let Some(mut rig) = rig(&[Kind::Series])? else {
        return Ok(());
    };
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    let mut second = second_sink(&rig)?;
    second.start()?;
    super::publish(&rig, "press", 0..200)?;
    rig.wait_until_stored(100)?;
    // Whoever has the partition of this gateway: one of them is killed while it writes.
    rig.sink.kill()?;
    super::publish(&rig, "press", 200..400)?;
    rig.wait_until_stored(400)?;
    rig.sink.start()?;
    super::publish(&rig, "press", 400..600)?;
    second.kill()?;
    rig.wait_until_stored(600)?;
    assert_once(&rig, 600)?;
    rig.done()
}

#[test]
fn a_frozen_sink_that_wakes_after_a_takeover_doubles_nothing_in_a_time_series() -> Result<()> {
    let Some(mut rig) = rig(&[Kind::Series])? else {
        return Ok(());
    };
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    rig.wait_sink("its partitions", |sink| sink.ready)?;
    super::publish(&rig, "press", 0..200)?;
    rig.wait_until_stored(50)?;
    rig.sink.process()?.freeze()?;
    let mut second = second_sink(&rig)?;
    second.start()?;
    super::publish(&rig, "press", 200..500)?;
    rig.wait_until_stored(500)?;
    // It wakes with batches in its hands, and finds that they are another's.
    rig.sink.process()?.thaw()?;
    super::publish(&rig, "press", 500..700)?;
    rig.wait_until_stored(700)?;
    let began = Instant::now();
    wait::until_true("the woken sink to know", PATIENCE, || {
        let status: SinkStatus = rig.sink.status()?;
        ensure!(status.balance.holds(), "{:?}", status.balance);
        Ok(status.balance.in_flight == 0 || began.elapsed() > SETTLED)
    })?;
    assert_once(&rig, 700)?;
    second.stop(PATIENCE)?;
    rig.done()
}

#[test]
fn a_time_series_has_each_reading_once_though_replies_are_lost_and_batches_refused() -> Result<()> {
    let Some(mut rig) = rig(&[Kind::Series])? else {
        return Ok(());
    };
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..50)?;
    rig.wait_until_stored(50)?;
    let lost = [
        // Written, and nobody can say whether it will last.
        doc! { "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" } },
        doc! { "closeConnection": true },
    ];
    for (at, how) in lost.into_iter().enumerate() {
        let mut data = how;
        data.insert("failCommands", vec!["insert"]);
        let fault =
            doc! { "configureFailPoint": "failCommand", "mode": { "times": 3 }, "data": data };
        rig.documents.administer(fault)?;
        let from = 50 + 100 * at as u64;
        super::publish(&rig, "press", from..from + 100)?;
        rig.wait_until_stored(from + 100)?;
    }
    let log = std::fs::read_to_string(rig.sink.log())?;
    ensure!(
        log.contains("mongodb unreachable, holding"),
        "no reply was lost"
    );
    assert_once(&rig, 250)?;

    // A batch is refused as a whole, as one that holds something too large: it is bisected. All of it lies in
    // Kafka before the sink sees any, so that there is something to bisect three times.
    let config = std::fs::read_to_string(rig.sink.config_file())?;
    let stopped = rig.sink.stop(PATIENCE)?;
    ensure!(stopped.success(), "{}", rig.sink.end_of_log());
    super::publish(&rig, "press", 250..500)?;
    rig.wait_agent("all of it in Kafka", |agent| {
        agent.balance.acknowledged >= 500
    })?;
    rig.sink
        .configure(&format!("{config}\n[batch]\nmax_wait = \"2s\"\n"))?;
    rig.documents.administer(doc! {
        "configureFailPoint": "failCommand", "mode": { "times": 3 },
        "data": { "failCommands": ["insert"], "errorCode": 10334 },
    })?;
    rig.sink.start()?;
    rig.wait_until_stored(500)?;
    let balance = rig.sink_status()?.balance;
    ensure!(balance.dead_letters == 0, "{balance:?}");
    assert_once(&rig, 500)?;
    rig.done()
}

#[test]
fn a_time_series_has_each_reading_once_though_mongodb_stands_still_or_is_killed() -> Result<()> {
    let Some(mut rig) = rig(&[Kind::Series])? else {
        return Ok(());
    };
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    let config = std::fs::read_to_string(rig.sink.config_file())?;
    rig.sink
        .configure(&config.replace("[mongodb]\n", "[mongodb]\ntimeout = \"3s\"\n"))?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..50)?;
    rig.wait_until_stored(50)?;
    // What was sent while it stood still is carried out when it goes on, tries and all.
    rig.service(Kind::Series)?.freeze()?;
    super::publish(&rig, "press", 50..200)?;
    let tries = |rig: &Rig| -> Result<usize> {
        let status = rig.sink_status()?;
        Ok(status
            .links
            .iter()
            .filter(|l| l.kind == "mongodb" && l.state != "up")
            .count())
    };
    wait::until_true("the sink to notice", PATIENCE, || Ok(tries(&rig)? == 1))?;
    std::thread::sleep(Duration::from_secs(8));
    rig.service(Kind::Series)?.thaw()?;
    rig.wait_until_stored(200)?;
    super::publish(&rig, "press", 200..300)?;
    rig.service(Kind::Series)?.kill()?;
    super::publish(&rig, "press", 300..350)?;
    rig.service(Kind::Series)?.start()?;
    rig.service(Kind::Series)?.wait_ready()?;
    rig.wait_until_stored(350)?;
    assert_once(&rig, 350)?;
    rig.done()
}

#[test]
fn a_route_never_takes_a_collection_for_what_it_is_not() -> Result<()> {
    let Some(mut rig) = rig(&[Kind::Series])? else {
        return Ok(());
    };
    let config = std::fs::read_to_string(rig.sink.config_file())?;
    rig.sink.start()?;
    rig.wait_sink("its partitions", |sink| sink.ready)?;
    rig.sink.stop(PATIENCE)?;
    rig.sink
        .configure(&config.replace("kind = \"timeseries\"", "kind = \"regular\""))?;
    // It lives until it has looked.
    if rig.sink.start().is_ok() {
        wait::until_true("the sink to refuse", PATIENCE, || Ok(!rig.sink.runs()))?;
    }
    let log = std::fs::read_to_string(rig.sink.log())?;
    ensure!(
        log.contains("is a time series"),
        "{}",
        rig.sink.end_of_log()
    );
    rig.done()
}

/// What a network or a server held back for long arrives after all.
#[test]
fn a_copy_that_arrives_late_is_found_and_removed() -> Result<()> {
    let Some(mut rig) = rig(&[Kind::Series])? else {
        return Ok(());
    };
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..20)?;
    rig.wait_until_stored(20)?;
    let documents = rig.documents.readings_by_id()?;
    let mut copy = documents[7].clone();
    let (id, ts) = (copy.get_str("_id")?.to_owned(), *copy.get_datetime("ts")?);
    let write = copy.get_i64("writtenBy")?;
    copy.insert("writtenBy", write + 1);
    rig.documents
        .command(doc! { "insert": "readings", "documents": [copy] })?;
    ensure!(rig.documents.count()? == 21, "a time series takes a copy");
    let doubt = doc! {
        "_id": write,
        "collection": "readings",
        "ids": [&id],
        "ts": { "$gte": ts, "$lte": ts },
        "look_at": DateTime::now(),
        "is_last": true,
    };
    rig.documents
        .command(doc! { "insert": "series_doubts", "documents": [doubt] })?;
    wait::until_true("the copy to be removed", PATIENCE, || {
        Ok(rig.documents.count()? == 20)
    })?;
    let left = rig.documents.readings_by_id()?;
    ensure!(left == documents, "the copy of the first write is left");
    assert_once(&rig, 20)?;
    rig.done()
}

/// A reading of a gateway whose clock was never set, so many seconds after its boot.
fn undated(gateway: &str, sequence: u64) -> Result<Record> {
    let us = 10_000_000 + sequence * 1_000_000;
    let name = FieldName::new("power_w")?;
    let reading = Reading {
        device: "press".parse()?,
        time: Timestamp::from_micros(i64::try_from(us)?)?,
        clock: Clock::Unsynced {
            boot: BootId(7),
            monotonic_us: us,
        },
        fields: Fields::new(vec![(name, Value::Float(sequence as f64))])?,
        source: None,
        meta: Metadata::default(),
    };
    Ok(Record {
        id: RecordId {
            gateway: gateway.parse()?,
            epoch: Epoch::from_random(7),
            sequence,
        },
        digest: Digest::of(&reading),
        reading,
    })
}

/// Row 40: the fact may come before the readings, between them, or after; the sink may be killed.
fn dated_readings(mut rig: Rig) -> Result<()> {
    let gateway = rig.name().to_owned();
    let readings: Vec<Record> = (0..40)
        .map(|sequence| undated(&gateway, sequence))
        .collect::<Result<_>>()?;
    rig.kafka.write_readings(&readings[..20])?;
    let boot_time_us = 1_795_000_000_000_000;
    let fact = Fact::ClockCorrection(ClockCorrection {
        gateway: gateway.parse()?,
        boot: BootId(7),
        boot_time_us,
        at: Timestamp::from_micros(boot_time_us + 60_000_000)?,
    });
    rig.sink.start()?;
    rig.wait_sink("the first to be stored", |sink| sink.balance.written == 20)?;
    rig.kafka.state(&fact)?;
    rig.kafka.write_readings(&readings[20..])?;
    rig.sink.kill()?;
    rig.sink.start()?;

    let all_dated = || -> Result<bool> {
        let documents = rig.documents.readings_by_id()?;
        let clocks = documents.iter().map(|document| document.get_str("clock"));
        let dated = clocks
            .filter(|clock| clock.as_ref().is_ok_and(|clock| *clock == "corrected"))
            .count();
        Ok(documents.len() == 40 && dated == 40)
    };
    wait::until_true("every reading to have its date", 2 * PATIENCE, all_dated)
        .with_context(|| rig.sink.end_of_log())?;
    for (sequence, document) in rig.documents.readings_by_id()?.iter().enumerate() {
        let ms = document.get_datetime("ts")?.timestamp_millis();
        let expected = boot_time_us / 1000 + 10_000 + 1000 * i64::try_from(sequence)?;
        ensure!(ms.abs_diff(expected) <= 100, "{sequence}: {document}");
        ensure!(!document.contains_key("uptime"), "{document}");
    }
    // They are taken away there after they are safe here.
    wait::until_true("none to be left beside it", PATIENCE, || {
        Ok(rig.documents.all("readings.undated")?.is_empty())
    })?;
    rig.done()
}

#[test]
fn readings_of_a_boot_without_a_clock_are_dated_once_the_gateway_knows() -> Result<()> {
    dated_readings(Rig::new(&[])?)
}

#[test]
fn readings_without_a_date_wait_beside_a_time_series_until_they_have_one() -> Result<()> {
    match rig(&[Kind::Series])? {
        Some(rig) => dated_readings(rig),
        None => Ok(()),
    }
}
