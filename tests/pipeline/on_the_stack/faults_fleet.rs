//! Row 34: two to three sinks share the partitions and are killed and started in a loop, while records of
//! many gateways come without a pause, so that batches of every partition are in flight.

use std::{collections::BTreeMap, fs::read_to_string, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::{
    chaos::{bench::MEMORY, dice::Dice},
    daemon::{Daemon, SinkStatus},
    link::Quality,
    rig::{PATIENCE, QUICK_TAKEOVER, Rig},
    wait,
};
use protocol::{
    Clock, Digest, Epoch, Fields, GatewayId, Metadata, Reading, Record, RecordId, Timestamp, Value,
    control::{EpochFact, Fact},
};

const SEED: u64 = 34;
const ROUNDS: u64 = 8;
const GATEWAYS: u64 = 6;
const BURST: u64 = 20;

fn gateway(rig: &Rig, number: u64) -> Result<GatewayId> {
    Ok(format!("{}-{number}", rig.name()).parse()?)
}

/// Writes the readings `sequences` of every gateway, as each would.
fn write(rig: &Rig, sequences: std::ops::Range<u64>) -> Result<()> {
    let mut records = Vec::new();
    for sequence in sequences {
        for number in 0..GATEWAYS {
            let power = Value::Float(f64::from(u32::try_from(sequence * 10 + number)?));
            let reading = Reading {
                device: "press".parse()?,
                time: Timestamp::from_micros(1_795_000_000_000_000)?,
                clock: Clock::Synced,
                fields: Fields::new(vec![("power_w".parse()?, power)])?,
                source: None,
                meta: Metadata::default(),
            };
            let record = Record {
                id: RecordId {
                    gateway: gateway(rig, number)?,
                    epoch: Epoch::from_random(34),
                    sequence,
                },
                digest: Digest::of(&reading),
                reading,
            };
            records.push(record);
        }
    }
    rig.kafka.write_readings(&records)
}

/// States what every gateway has: so many readings, all of them in Kafka.
fn state(rig: &Rig, readings: u64) -> Result<()> {
    for number in 0..GATEWAYS {
        let fact = Fact::Epoch(EpochFact {
            gateway: gateway(rig, number)?,
            lane: rig.kafka.readings().parse()?,
            epoch: Epoch::from_random(34),
            previous: None,
            committed: Some(readings - 1),
            acknowledged: Some(readings - 1),
            offsets: BTreeMap::new(),
            closed: true,
            at: Timestamp::UNIX_EPOCH,
        });
        rig.kafka.state(&fact)?;
    }
    Ok(())
}

/// I4, and I7 of whoever answers.
fn look(sink: &mut Daemon) -> Result<()> {
    let peak = sink.process()?.peak_memory()?;
    ensure!(peak <= MEMORY, "{} MiB of memory", peak >> 20);
    if let Ok(status) = sink.status::<SinkStatus>() {
        ensure!(
            status.balance.holds(),
            "not conserved: {:?}",
            status.balance
        );
    }
    Ok(())
}

/// Three sinks, none of them started.
fn fleet(rig: &Rig) -> Result<[Daemon; 3]> {
    // Kafka gives the partitions of a killed sink to the others after its session.
    let config = read_to_string(rig.sink.config_file())?;
    let quick = "properties = { \"session.timeout.ms\" = \"2000\" }\n";
    rig.sink.configure(&config.replace(QUICK_TAKEOVER, quick))?;
    Ok([
        rig.another(&rig.sink, "first")?,
        rig.another(&rig.sink, "second")?,
        rig.another(&rig.sink, "third")?,
    ])
}

/// The way to MongoDB of one sink is next to nothing, so that what it has in flight stays so until the rebalance has
/// begun and beyond the time that a handover is given.
#[test]
fn a_rebalance_with_batches_in_flight_costs_and_doubles_nothing() -> Result<()> {
    let rig = Rig::new(&[])?;
    let [_, mut second, _] = fleet(&rig)?;
    let link = super::link_to_mongodb(&rig, SEED)?;
    let mut first = rig.another(&rig.sink, "linked")?;
    first.start()?;
    write(&rig, 0..BURST)?;
    rig.wait_until_stored(BURST * GATEWAYS)?;

    // One comes, and takes partitions away from whom they are in flight with.
    let narrow = Quality {
        bytes_per_second: 20,
        ..Quality::default()
    };
    link.set(narrow);
    write(&rig, BURST..2 * BURST)?;
    wait::until_true("a batch in flight", PATIENCE, || has_in_flight(&mut first))?;
    second.start()?;
    let said = |sink: &Daemon, what: &str| anyhow::Ok(read_to_string(sink.log())?.contains(what));
    wait::until_true("the handover", PATIENCE, || {
        said(&first, "partitions revoked")
    })
    .with_context(|| format!("{}\n{}", first.end_of_log(), second.end_of_log()))?;
    wait::until_true("a part for the other", PATIENCE, || {
        said(&second, "partitions assigned")
    })
    .with_context(|| format!("{}\n{}", first.end_of_log(), second.end_of_log()))?;
    // What is in flight with it still is for the other, also what it may have written.
    first.kill()?;
    link.set(Quality::default());
    write(&rig, 2 * BURST..3 * BURST)?;
    all_is_stored_once(&rig, 3 * BURST)?;
    look(&mut second)?;
    let status = second.stop(PATIENCE)?;
    ensure!(status.success(), "{}", second.end_of_log());
    rig.done()
}

fn has_in_flight(sink: &mut Daemon) -> Result<bool> {
    look(sink)?;
    let status = sink.status::<SinkStatus>();
    Ok(status.is_ok_and(|status| status.balance.in_flight > 0))
}

#[test]
fn three_sinks_killed_and_started_in_a_loop_store_each_reading_once() -> Result<()> {
    let rig = Rig::new(&[])?;
    let mut sinks = fleet(&rig)?;
    let mut dice = Dice::new(SEED);
    let mut sent = 0;
    for sink in &mut sinks {
        sink.start()?;
    }
    for _ in 0..ROUNDS {
        write(&rig, sent..sent + BURST)?;
        sent += BURST;
        let sink = dice.one_of(&[0_usize, 1, 2]).to_owned();
        // Time is the fault: the kill comes when the dice say, in a write or in a rebalance.
        std::thread::sleep(dice.time_below(Duration::from_millis(700)));
        ensure!(
            !sinks[sink].ended_by_itself(),
            "{}",
            sinks[sink].end_of_log()
        );
        look(&mut sinks[sink])?;
        sinks[sink].kill()?;
        write(&rig, sent..sent + BURST)?;
        sent += BURST;
        std::thread::sleep(dice.time_below(Duration::from_millis(700)));
        sinks[sink].start()?;
    }
    all_is_stored_once(&rig, sent)?;
    for sink in &mut sinks {
        look(sink)?;
        let status = sink.stop(PATIENCE)?;
        ensure!(status.success(), "{}", sink.end_of_log());
    }
    rig.done()
}

/// So many readings of every gateway are there once and unaltered, and what was noted agrees.
fn all_is_stored_once(rig: &Rig, sent: u64) -> Result<()> {
    state(rig, sent)?;
    let wanted = sent * GATEWAYS;
    rig.wait_until_stored(wanted)?;

    let mut next: BTreeMap<String, i64> = BTreeMap::new();
    for document in rig.documents.readings_by_id()? {
        let gateway = document.get_document("meta")?.get_str("gateway")?;
        let number: i64 = gateway.rsplit('-').next().context("a number")?.parse()?;
        let next = next.entry(gateway.to_owned()).or_default();
        // By id, so in the order of each gateway: a second one or a hole is seen at once.
        let power = document.get_f64("power_w")?;
        ensure!(
            power == (*next * 10 + number) as f64,
            "not {next}: {document}"
        );
        *next += 1;
    }
    ensure!(next.len() as u64 == GATEWAYS, "{next:?}");
    ensure!(
        next.values().all(|next| next.unsigned_abs() == sent),
        "{next:?}"
    );
    let incidents = rig.documents.all("incidents")?;
    ensure!(incidents.is_empty(), "{incidents:?}");
    // Every partition belongs to somebody again, and what was noted agrees with what is there.
    settled(rig, wanted)?;
    Ok(())
}

/// Such gateways send no heartbeat, so they are silent for the audit; nothing else may be wrong.
fn settled(rig: &Rig, wanted: u64) -> Result<()> {
    let mut last = String::new();
    let settled = wait::until_true("an audit in which all is present", PATIENCE, || {
        let noted = super::audit::audit(rig, &["--format", "json"])?;
        let counted = super::audit::audit(rig, &["--full", "--format", "json"])?;
        last = format!("{}\n{}", noted.text, counted.text);
        let (noted, counted) = (noted.json()?, counted.json()?);
        let sums = [&noted, &counted]
            .map(|report| ["expected", "present"].map(|what| super::audit::sum(report, what)));
        Ok(sums == [[wanted; 2]; 2] && noted["gateways"] == counted["gateways"])
    });
    settled.with_context(|| last)
}
