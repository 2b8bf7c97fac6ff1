//! kill -9 of the sink at random microseconds, while readings come without a pause; every few kills two
//! of them share the partitions, so that some die in the middle of a rebalance. Real Kafka, real MongoDB
//! wire server: what is promised here is what a data scientist finds.
//!
//! Sinks are static members of their group here: Kafka would keep the partitions of a killed dynamic
//! member for its whole session, and a loop would wait most of its time.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use mongodb::bson::Document;
use protocol::{
    Clock, Digest, Epoch, FieldName, Fields, Metadata, Reading, Record, RecordId, Timestamp, Value,
    header, record::json,
};

use super::{
    bench::MEMORY,
    dice::Dice,
    feed::{self, Feed},
    progress::Progress,
    report::Report,
};
use crate::{
    daemon::{Daemon, SinkStatus},
    rig::{QUICK_TAKEOVER, Rig, kafka::Foreign},
    service::Kind,
    wait,
};

const WINDOW: u64 = 500;
const PACE: Duration = Duration::from_millis(2);
/// Every so many kills a second sink is there, too.
const SECOND_EVERY: u64 = 5;
const LIFE: Duration = Duration::from_millis(700);
const COMMITTED: Duration = Duration::from_secs(7);
const CHECKPOINTED: Duration = Duration::from_millis(5400);
/// A sink that has lost records has nothing to wait for.
const LATE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(180);

/// Kills `count` sinks.
///
/// # Errors
/// The stack failed; what the sink did wrong is in the report.
pub fn run(count: u64, seed: u64, program: Option<&Path>) -> Result<Report> {
    let mut report = Report::new(seed);
    let mut rig = Rig::new(&[Kind::Kafka, Kind::Mosquitto, Kind::Mongodb])?;
    let feed = Feed::start(WINDOW)?;
    feed.pace(PACE);
    feed.allow(u64::MAX);
    rig.configure_agent(&feed::SOURCES.replace("{{feed}}", feed.url()))?;
    let config = std::fs::read_to_string(rig.sink.config_file())?;
    rig.sink.configure(&as_member(&config, 1))?;
    let mut second = Daemon::new("cloud-sink", &folder(&rig, "second")?, "")?;
    let listen = second.url().replace("http://", "");
    let first_listen = rig.sink.url().replace("http://", "");
    second.configure(&as_member(&config, 2).replace(&first_listen, &listen))?;
    if let Some(program) = program {
        rig.sink.use_program(program);
        second.use_program(program);
    }
    rig.agent.start()?;
    let mut sinks = Sinks {
        rig: &mut rig,
        second,
        dice: Dice::new(seed),
    };
    let begin = Instant::now();
    sinks.play(count, &mut report)?;
    report.seconds = begin.elapsed().as_secs();
    feed.hold();
    let drained = sinks.drain(&feed, &mut report);
    drop(sinks);
    if let Err(error) = drained {
        report.unexplained(format!("{error:#}"));
    }
    judge(&rig, &feed, &mut report)?;
    if report.is_clean() {
        rig.done()?;
    }
    Ok(report)
}

/// Row 33 at its sharpest: records are read, MongoDB does not answer, time passes in which offsets are
/// committed, and the sink is killed. What was read and not written must be read again.
///
/// # Errors
/// The stack failed; what the sink did wrong is in the report.
pub fn killed_while_mongodb_stands_still(program: Option<&Path>) -> Result<Report> {
    let mut report = Report::new(0);
    let mut rig = Rig::new(&[Kind::Kafka, Kind::Mosquitto, Kind::Mongodb])?;
    let feed = Feed::start(WINDOW)?;
    rig.configure_agent(&feed::SOURCES.replace("{{feed}}", feed.url()))?;
    let config = std::fs::read_to_string(rig.sink.config_file())?;
    rig.sink.configure(&as_member(&config, 1))?;
    if let Some(program) = program {
        rig.sink.use_program(program);
    }
    rig.agent.start()?;
    rig.sink.start()?;
    feed.allow(100);
    feed.wait_settled(PATIENCE)?;
    rig.wait_until_stored(100)?;
    rig.service(Kind::Mongodb)?.freeze()?;
    feed.allow(400);
    feed.wait_settled(PATIENCE)?;
    rig.wait_sink("records in flight", |sink| sink.balance.in_flight > 0)?;
    // Longer than a consumer waits between two commits of its offsets.
    std::thread::sleep(COMMITTED);
    look(&mut rig.sink, &mut report);
    rig.sink.kill()?;
    report.fault("sink-kill");
    rig.service(Kind::Mongodb)?.thaw()?;
    report.fault("mongodb-freeze");
    rig.sink.start()?;
    rig.wait_agent("an empty queue", |agent| agent.balance.queued == 0)?;
    let stored = wait::while_it_grows("all documents", LATE, 500, || rig.documents.count());
    if let Err(error) = stored {
        report.note(format!("{error:#}"));
    }
    judge(&rig, &feed, &mut report)?;
    if report.is_clean() {
        rig.done()?;
    }
    Ok(report)
}

/// Row 33 at the checkpoint: records lie in a batch for seconds, a checkpoint is written meanwhile, and
/// the sink is killed. A checkpoint that names more than is written skips the rest for ever.
///
/// # Errors
/// The stack failed; what the sink did wrong is in the report.
pub fn killed_after_checkpoints(program: Option<&Path>) -> Result<Report> {
    let mut report = Report::new(0);
    let mut rig = Rig::new(&[Kind::Kafka, Kind::Mosquitto, Kind::Mongodb])?;
    let feed = Feed::start(WINDOW)?;
    feed.pace(PACE);
    rig.configure_agent(&feed::SOURCES.replace("{{feed}}", feed.url()))?;
    let config = std::fs::read_to_string(rig.sink.config_file())?;
    let config = format!("{}\n[batch]\nmax_wait = \"2s\"\n", as_member(&config, 1));
    rig.sink.configure(&config)?;
    if let Some(program) = program {
        rig.sink.use_program(program);
    }
    rig.agent.start()?;
    feed.allow(u64::MAX);
    for round in 0..4 {
        rig.sink.start()?;
        // The first checkpoint comes some five seconds after the start.
        std::thread::sleep(CHECKPOINTED + Duration::from_millis(250 * round));
        look(&mut rig.sink, &mut report);
        rig.sink.kill()?;
        report.fault("sink-kill");
    }
    feed.hold();
    feed.wait_settled(PATIENCE)?;
    rig.wait_agent("an empty queue", |agent| agent.balance.queued == 0)?;
    rig.sink.configure(&as_member(&config, 1))?;
    rig.sink.start()?;
    let wanted = feed.obligations();
    let stored = wait::while_it_grows("all documents", LATE, wanted, || rig.documents.count());
    if let Err(error) = stored {
        report.note(format!("{error:#}"));
    }
    judge(&rig, &feed, &mut report)?;
    if report.is_clean() {
        rig.done()?;
    }
    Ok(report)
}

/// A cloned card, or a fault of ours: two readings with one identity. The second is kept whole as an
/// incident; taken for a duplicate it would be lost without a word.
///
/// # Errors
/// The stack failed; what the sink did wrong is in the report.
pub fn one_identity_with_two_contents(program: Option<&Path>) -> Result<Report> {
    let mut report = Report::new(0);
    let mut rig = Rig::new(&[Kind::Kafka, Kind::Mosquitto, Kind::Mongodb])?;
    if let Some(program) = program {
        rig.sink.use_program(program);
    }
    rig.sink.start()?;
    let id = RecordId {
        gateway: rig.name().parse()?,
        epoch: Epoch::from_random(7),
        sequence: 0,
    };
    for power in [1.5, 2.5, 1.5] {
        let reading = Reading {
            device: "press".parse()?,
            time: Timestamp::from_micros(1_795_000_000_000_000)?,
            clock: Clock::Synced,
            fields: Fields::new(vec![(FieldName::new("power_w")?, Value::Float(power))])?,
            source: None,
            meta: Metadata::default(),
        };
        let record = Record {
            id: id.clone(),
            digest: Digest::of(&reading),
            reading,
        };
        let mut value = Vec::new();
        json::encode(&record, &mut value)?;
        let headers = header::of(&record, json::CONTENT_TYPE, &header::Hops::default());
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()));
        let headers: Vec<(&str, &[u8])> = headers.collect();
        let topic = rig.kafka.readings();
        let key = rig.name();
        rig.kafka.write(
            topic,
            &[Foreign {
                key,
                value: &value,
                headers: &headers,
            }],
        )?;
    }
    report.fault("identity-twice");
    rig.wait_sink("three records", |sink| {
        sink.balance.consumed >= 3 && sink.balance.in_flight == 0
    })?;
    report.obligations = 2;
    report.stored = rig.documents.count()?;
    let incidents = rig.documents.all("incidents")?;
    let kept = incidents.iter().filter(|incident| {
        let second = incident.get_document("second");
        second
            .and_then(|second| second.get_f64("power_w"))
            .is_ok_and(|power| power == 2.5)
    });
    match kept.count() {
        1 => report.stored += 1,
        _ => {
            report.lost += 1;
            report.note(format!(
                "no incident keeps the second content: {incidents:?}"
            ));
        }
    }
    if report.is_clean() {
        rig.done()?;
    }
    Ok(report)
}

fn folder(rig: &Rig, name: &str) -> Result<std::path::PathBuf> {
    let dir = rig.dir().join(name);
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn as_member(config: &str, number: u32) -> String {
    let member = format!(
        "properties = {{ \"session.timeout.ms\" = \"6000\", \"group.instance.id\" = \"sink-{number}\" }}\n"
    );
    config.replace(QUICK_TAKEOVER, &member)
}

struct Sinks<'a> {
    rig: &'a mut Rig,
    second: Daemon,
    dice: Dice,
}

impl Sinks<'_> {
    fn play(&mut self, count: u64, report: &mut Report) -> Result<()> {
        let progress = Progress::new("sink kills", count);
        for cycle in 0..count {
            progress.at(cycle);
            let with_second = cycle % SECOND_EVERY == SECOND_EVERY - 1;
            if let Err(error) = self.rig.sink.start() {
                report.failed_starts += 1;
                report.note(format!("cycle {cycle}: {error:#}"));
                continue;
            }
            if with_second {
                self.second.start()?;
                std::thread::sleep(self.dice.time_below(LIFE));
                report.fault("second-sink-kill");
                self.second.kill()?;
            } else if self.dice.below(2) == 0 {
                // In the middle of writing, if it comes to it soon.
                let sink = &self.rig.sink;
                drop(wait::until_true("a document", LIFE * 2, || {
                    Ok(sink.status::<SinkStatus>()?.balance.written > 0)
                }));
            }
            std::thread::sleep(self.dice.time_below(LIFE));
            if self.dice.below(4) == 0 {
                look(&mut self.rig.sink, report);
            }
            if self.rig.sink.ended_by_itself() {
                report.failed_starts += 1;
                report.note(format!("cycle {cycle}: {}", self.rig.sink.end_of_log()));
            }
            self.rig.sink.kill()?;
            report.fault("sink-kill");
        }
        Ok(())
    }

    fn drain(&mut self, feed: &Feed, report: &mut Report) -> Result<()> {
        self.rig.sink.start()?;
        feed.wait_settled(PATIENCE)?;
        self.rig
            .wait_agent("an empty queue", |agent| agent.balance.queued == 0)?;
        let wanted = feed.obligations();
        let rig = &mut *self.rig;
        wait::while_it_grows("more documents", PATIENCE, wanted, || {
            look(&mut rig.sink, report);
            rig.documents.count()
        })
        .with_context(|| rig.sink.end_of_log())
    }
}

/// I7, and I4.
fn look(sink: &mut Daemon, report: &mut Report) {
    // One that has ended is found by whoever ends it.
    if let Ok(peak) = sink.process().and_then(|process| process.peak_memory()) {
        report.memory(peak, MEMORY);
    }
    // A sink that does not answer in this moment is found by the drain.
    if let Ok(status) = sink.status::<SinkStatus>()
        && !status.balance.holds()
    {
        report.unexplained(format!("I7, not conserved: {:?}", status.balance));
    }
}

/// What a data scientist finds, against what was acknowledged.
fn judge(rig: &Rig, feed: &Feed, report: &mut Report) -> Result<()> {
    let obligations = feed.acknowledged();
    let mut stored = BTreeSet::new();
    for document in rig.documents.readings_by_id()? {
        match told(&document) {
            Some(k) if stored.insert(k) => {}
            Some(k) => {
                report.duplicated += 1;
                report.note(format!("reading {k} twice"));
            }
            None => {
                report.altered += 1;
                report.note(format!("altered: {document}"));
            }
        }
    }
    let missing: Vec<&u64> = obligations.difference(&stored).collect();
    report.obligations += obligations.len() as u64;
    report.stored += stored.len() as u64;
    report.lost += missing.len() as u64;
    if let Some(first) = missing.first() {
        report.note(format!(
            "lost {} readings, the first is {first}",
            missing.len()
        ));
    }
    if report.is_clean() {
        judge_as_told(rig, report)?;
    }
    Ok(())
}

/// I3, I6 and I9: the order in Kafka, that the sink is ready, and that what it noted and what is counted call
/// nothing lost. The sink has no disk, so I5 is the agent's alone, which no fault touches here.
fn judge_as_told(rig: &Rig, report: &mut Report) -> Result<()> {
    let mut seen = BTreeSet::new();
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    for record in rig.kafka.read_all(rig.kafka.readings())? {
        let reading = record.reading()?.reading;
        let Some(source) = reading.source else {
            continue;
        };
        let (device, sequence) = (reading.device.to_string(), source.sequence);
        // One that is sent again counts where it came first.
        if !seen.insert((device.clone(), sequence)) {
            continue;
        }
        let before = newest.insert(device, sequence);
        if before.is_some_and(|before| before > sequence) {
            report.disordered += 1;
        }
    }
    if let Err(error) = rig.wait_sink("ready", |sink| sink.ready) {
        report.unexplained(format!("I6: {error:#}"));
    }
    let mut last = String::new();
    let told = wait::until_true("an audit without a loss", PATIENCE, || {
        let output = Command::new(crate::binary("cloud-sink")?)
            .args(["audit", "--full", "-c"])
            .arg(rig.sink.config_file())
            .output()?;
        last = crate::process::said(&output);
        Ok(output.status.success() && !last.contains("declared lost"))
    });
    if told.is_err() {
        report.unexplained(format!("I9: {last}"));
    }
    Ok(())
}

fn told(document: &Document) -> Option<u64> {
    let device = document.get_document("meta").ok()?.get_str("device").ok()?;
    let sequence = document.get_document("src").ok()?.get_i64("seq").ok()?;
    let k = feed::number(device, u64::try_from(sequence).ok()?)?;
    (document.get_f64("power_w").ok()? == feed::value(k)).then_some(k)
}
