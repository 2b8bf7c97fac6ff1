//! A data scientist's week: what `docs/analysis/analysis.py` shows is run as it stands, on a week of two devices
//! that came through Kafka and the sink, with a loss that their gateway declared and a pause that is none.

use std::{
    collections::BTreeMap,
    f64::consts::TAU,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use hardware_sim::signal::{Moment, rounded};
use harness::{
    cache::Cache,
    rig::{PATIENCE, Rig, kafka::Foreign},
    service::Kind,
};
use protocol::{
    Clock, Digest, Epoch, FieldName, Fields, Metadata, Reading, Record, RecordId, Timestamp, Value,
    control::{EpochFact, Fact, Loss, LossReason, Predecessor},
    record::json,
};

/// Monday, 16 November 2026, in UTC.
const MONDAY_S: u32 = 1_794_787_200;
const MINUTES: u32 = 7 * 24 * 60;
/// The agent was restarted on Tuesday at noon.
const RESTART: u32 = (24 + 12) * 60;
/// The uplink was away on Thursday and the queue full: what was measured meanwhile is lost.
const LOST: std::ops::Range<u32> = (3 * 24 * 60 + 130)..(3 * 24 * 60 + 460);
/// The outdoor sensor's battery was empty on Saturday: nothing was measured.
const SILENT: std::ops::Range<u32> = (5 * 24 * 60 + 600)..(5 * 24 * 60 + 780);
/// What the heat pump needs for each degree.
const WATTS_A_DEGREE: f64 = 130.0;

/// What the week came to.
struct Week {
    /// Records that reached Kafka.
    values: Vec<Vec<u8>>,
    /// What the gateway states about them.
    facts: Vec<Fact>,
    /// The range that was declared lost, in the second epoch.
    lost: (u64, u64),
}

fn epoch(minute: u32) -> Epoch {
    Epoch::from_random(if minute < RESTART { 0xa01 } else { 0xb02 })
}

/// Degrees: a day's warmth, and weather.
fn outdoor(minute: u32) -> f64 {
    let at = Moment::new(7, "outdoor", MONDAY_S, minute, 60_000);
    let day = (f64::from(minute) / 1440.0 - 0.375) * TAU;
    let weather = 5.5 * at.curve(1, 26 * 3_600_000) + 1.5 * at.curve(2, 5 * 3_600_000);
    4.5 + 2.4 * day.sin() + weather + 0.06 * at.noise(1)
}

/// Watts: more in the cold, in cycles of the compressor, and for hot water at six in the morning.
fn heat_pump(minute: u32) -> f64 {
    let at = Moment::new(7, "heat-pump", MONDAY_S, minute, 60_000);
    let demand = WATTS_A_DEGREE * (18.0 - outdoor(minute)).max(0.0);
    let cycle = 1.0 + 0.16 * at.curve(1, 5_400_000) + 0.12 * at.curve(2, 900_000);
    let hot_water = if (345..400).contains(&(minute % 1440)) {
        1400.0
    } else {
        0.0
    };
    45.0 + demand * cycle + hot_water + 12.0 * at.noise(1)
}

fn reading(device: &str, minute: u32, model: &str, fields: Vec<(&str, f64)>) -> Result<Reading> {
    let seconds = i64::from(MONDAY_S) + 60 * i64::from(minute);
    let fields = fields
        .into_iter()
        .map(|(name, value)| Ok((FieldName::new(name)?, Value::Float(rounded(value)))));
    Ok(Reading {
        device: device.parse()?,
        time: Timestamp::from_micros(seconds * 1_000_000)?,
        clock: Clock::Synced,
        fields: Fields::new(fields.collect::<Result<_>>()?)?,
        source: None,
        meta: Metadata::new(vec![(FieldName::new("model")?, model.into())])?,
    })
}

/// Each minute the heat pump, each five the sensor.
fn measured(minute: u32, energy_kwh: &mut f64) -> Result<Vec<Reading>> {
    let watts = heat_pump(minute);
    *energy_kwh += watts / 60_000.0;
    let power = vec![("power_w", watts), ("energy_kwh", *energy_kwh)];
    let mut readings = vec![reading("heat-pump", minute, "sdm120", power)?];
    if minute % 5 == 2 && !SILENT.contains(&minute) {
        let degrees = outdoor(minute);
        let climate = vec![
            ("temperature_c", degrees),
            ("humidity_pct", 92.0 - 2.2 * degrees),
        ];
        readings.push(reading("outdoor", minute, "xy-md02", climate)?);
    }
    Ok(readings)
}

fn week(gateway: &str, lane: &str) -> Result<Week> {
    let mut next: BTreeMap<Epoch, u64> = BTreeMap::new();
    let (mut values, mut lost, mut energy_kwh) = (Vec::new(), Vec::new(), 8123.0);
    for minute in 0..MINUTES {
        for reading in measured(minute, &mut energy_kwh)? {
            let epoch = epoch(minute);
            let next = next.entry(epoch).or_default();
            let sequence = std::mem::replace(next, *next + 1);
            if LOST.contains(&minute) {
                lost.push(sequence);
                continue;
            }
            let record = Record {
                id: RecordId {
                    gateway: gateway.parse()?,
                    epoch,
                    sequence,
                },
                digest: Digest::of(&reading),
                reading,
            };
            let mut value = Vec::new();
            json::encode(&record, &mut value)?;
            values.push(value);
        }
    }
    let lost = lost.first().copied().zip(lost.last().copied());
    let lost = lost.context("nothing is lost")?;
    let at = Timestamp::from_micros(i64::from(MONDAY_S + MINUTES * 60) * 1_000_000)?;
    let ended = |minute, previous| {
        let last = next.get(&epoch(minute)).map(|next| next - 1);
        Ok::<_, anyhow::Error>(Fact::Epoch(EpochFact {
            gateway: gateway.parse()?,
            lane: lane.parse()?,
            epoch: epoch(minute),
            previous,
            committed: last,
            acknowledged: last,
            offsets: BTreeMap::new(),
            closed: true,
            at,
        }))
    };
    let before = Predecessor {
        epoch: epoch(0),
        last: next.get(&epoch(0)).map(|next| next - 1),
    };
    let loss = Fact::Loss(Loss {
        gateway: gateway.parse()?,
        lane: lane.parse()?,
        epoch: epoch(RESTART),
        first: lost.0,
        last: Some(lost.1),
        reason: LossReason::DropOldest,
        merged: false,
        possibly_delivered: false,
        at,
    });
    let facts = vec![ended(0, None)?, ended(RESTART, Some(before))?, loss];
    Ok(Week {
        values,
        facts,
        lost,
    })
}

fn store(rig: &mut Rig, week: &Week) -> Result<()> {
    let gateway = rig.name().to_owned();
    let record = |value| Foreign {
        key: &gateway,
        value,
        headers: &[],
    };
    let values: Vec<Foreign<'_>> = week.values.iter().map(|value| record(value)).collect();
    rig.kafka.write(rig.kafka.readings(), &values)?;
    for fact in &week.facts {
        let (key, value) = (fact.key(), fact.encode()?);
        let record = Foreign {
            key: &key,
            value: &value,
            headers: &[],
        };
        rig.kafka.write(rig.kafka.control(), &[record])?;
    }
    rig.sink.start()?;
    rig.wait_until_stored(week.values.len() as u64)?;
    let facts = week.facts.len() as u64;
    rig.wait_sink("the facts", |sink| sink.balance.control >= facts)?;
    // At its end it writes down what it knows of devices and sequences.
    let stopped = rig.sink.stop(PATIENCE)?;
    ensure!(stopped.success(), "{stopped}\n{}", rig.sink.end_of_log());
    Ok(())
}

/// Runs the script, and gives the folder of what it made, which stays, and what it said.
fn analyse(rig: &Rig, kind: &str) -> Result<(PathBuf, String)> {
    let docs = harness::tree().join("docs/analysis");
    let out = harness::target().join("analysis").join(kind);
    fs::create_dir_all(&out)?;
    let output = Command::new(Cache::open()?.analysis(&docs.join("requirements.txt"))?)
        .arg(docs.join("analysis.py"))
        .env("MONGODB_URI", rig.address(Kind::Mongodb))
        .env("MONGODB_DATABASE", rig.name())
        .env("GATEWAY", rig.name())
        .env("SINCE", "2026-11-16")
        .env("OUT", &out)
        .env("MPLBACKEND", "Agg")
        .env("MPLCONFIGDIR", &out)
        .output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(output.status.success(), "{}:\n{said}", output.status);
    Ok((out, said))
}

fn lines(file: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(text.lines().skip(1).map(str::to_owned).collect())
}

/// Wide and high, as its header says.
fn size_of_png(file: &Path) -> Result<(u32, u32)> {
    let bytes = fs::read(file)?;
    let number = |at: usize| -> Result<u32> {
        let four = bytes.get(at..at + 4).context("too short for a picture")?;
        Ok(u32::from_be_bytes(four.try_into()?))
    };
    ensure!(
        bytes.starts_with(b"\x89PNG"),
        "{} is no PNG",
        file.display()
    );
    Ok((number(16)?, number(20)?))
}

fn a_week_is_analysed(mut rig: Rig, kind: &str) -> Result<()> {
    let week = week(rig.name(), rig.kafka.readings())?;
    store(&mut rig, &week)?;
    let (out, said) = analyse(&rig, kind)?;

    let (first, last) = week.lost;
    let n = last - first + 1;
    let gap = format!(
        "{},{first},{last},{n},drop_oldest,2026-11-19 02:09:00+00:00,2026-11-19 07:40:00+00:00",
        epoch(RESTART)
    );
    ensure!(lines(&out.join("gaps.csv"))? == [gap], "{said}");
    let pauses = [
        "outdoor,2026-11-19 02:07:00+00:00,2026-11-19 07:42:00+00:00,drop_oldest",
        "outdoor,2026-11-21 09:57:00+00:00,2026-11-21 13:02:00+00:00,\"silent, nothing lost\"",
        "heat-pump,2026-11-19 02:09:00+00:00,2026-11-19 07:40:00+00:00,drop_oldest",
    ];
    ensure!(lines(&out.join("pauses.csv"))? == pauses, "{said}");
    // The catalogue, and both devices whole.
    for expected in ["°C", "kWh a day", "1914 readings", "9750 of heat-pump"] {
        ensure!(said.contains(expected), "{expected} is not in:\n{said}");
    }
    let slope = said.lines().find(|line| line.contains("W more for each"));
    let slope = slope.and_then(|line| line.split(' ').next()?.parse::<f64>().ok());
    let off = (slope.context("no slope")? - WATTS_A_DEGREE).abs();
    ensure!(off < 0.15 * WATTS_A_DEGREE, "{said}");
    for picture in ["week.png", "cold.png"] {
        let (wide, high) = size_of_png(&out.join(picture))?;
        ensure!(wide >= 600 && high >= 400, "{picture}: {wide} by {high}");
    }
    rig.done()
}

#[test]
fn the_analysis_of_a_week_finds_exactly_what_was_declared_lost() -> Result<()> {
    a_week_is_analysed(Rig::new(&[])?, "regular")
}

#[test]
fn the_analysis_of_a_week_in_a_time_series_finds_the_same() -> Result<()> {
    match super::timeseries::rig(&[Kind::Series])? {
        Some(rig) => a_week_is_analysed(rig, "timeseries"),
        None => Ok(()),
    }
}

/// What the page shows is what was run.
#[test]
fn every_line_of_python_in_the_documentation_is_in_the_script() -> Result<()> {
    let docs = harness::tree().join("docs");
    let script = fs::read_to_string(docs.join("analysis/analysis.py"))?;
    let page = fs::read_to_string(docs.join("analysis.md"))?;
    let blocks: Vec<&str> = page
        .split("```python\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    ensure!(!blocks.is_empty(), "no code was found");
    for block in blocks {
        ensure!(script.contains(block), "not in analysis.py:\n{block}");
    }
    Ok(())
}
