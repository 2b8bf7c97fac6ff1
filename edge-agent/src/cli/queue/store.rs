//! `edge-agent queue verify | export | salvage | import`: whole stores, also those of boxes that are gone.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::Args;
use indicatif::ProgressBar;
use protocol::{GatewayId, control::Fact, record};
use serde_json::{Value as Json, json};

use super::{Format, Which, grouped, unreadable};
use crate::{
    cli::{ConfigFile, Exit, print},
    clock::Clock,
    config::Secrets,
    queue::{
        Run, inspect, rescue,
        verify::{self, Verified},
    },
};

/// Which queue, how much of it, and where to.
#[derive(Debug, Args)]
pub struct ExportArguments {
    #[command(flatten)]
    which: Which,
    /// Everything that is still on the disk, not only what Kafka does not have
    #[arg(long)]
    all: bool,
    /// A file that is not there yet, instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// From where to where.
#[derive(Debug, Args)]
pub struct SalvageArguments {
    /// A state directory, a queue directory, or that of one lane; it is only read
    from: PathBuf,
    /// A directory that is not there yet
    to: PathBuf,
    /// Whose readings they are, where a lane does not say so any more
    #[arg(long)]
    gateway: Option<GatewayId>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// From where.
#[derive(Debug, Args)]
pub struct ImportArguments {
    /// A directory made by `queue salvage`, or another agent's state
    from: PathBuf,
    #[command(flatten)]
    config: ConfigFile,
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Reads everything; something wrong is a failure.
pub fn verify(arguments: &Which) -> Result<(), Exit> {
    let lanes = arguments.lanes()?;
    let mut wrong = 0;
    for lane in &lanes.names {
        let path = lanes.dir.join(lane);
        let segments = fs::read_dir(path.join("segments"));
        let bar = ProgressBar::new(segments.map_or(0, Iterator::count) as u64);
        let seen = verify::verify(&path, || bar.inc(1)).with_context(|| unreadable(&path))?;
        bar.finish_and_clear();
        wrong += seen.wrong.len();
        report(lane, &seen, arguments.format)?;
    }
    problems(wrong)
}

fn problems(wrong: usize) -> Result<(), Exit> {
    match wrong {
        0 => Ok(()),
        1 => Err(anyhow!("1 problem").into()),
        n => Err(anyhow!("{n} problems").into()),
    }
}

fn report(lane: &str, seen: &Verified, format: Format) -> Result<(), Exit> {
    print(&match format {
        Format::Text => report_text(lane, seen),
        Format::Json => format!("{}\n", report_json(lane, seen)?),
    })
}

fn report_text(lane: &str, seen: &Verified) -> String {
    let verdict = if seen.wrong.is_empty() {
        "ok"
    } else {
        "DAMAGED"
    };
    let mut text = format!(
        "{lane}  {verdict}  {} segments, {} blocks, {} readings, {} waiting\n",
        seen.segments,
        seen.blocks,
        grouped(seen.readings),
        grouped(seen.waiting),
    );
    for loss in &seen.losses {
        let end = loss.last.map_or("?".to_owned(), |last| last.to_string());
        let (epoch, first, reason) = (loss.epoch, loss.first, loss.reason.as_str());
        text += &format!(
            "  declared lost: {epoch} {first} to {end}, {reason}, {}\n",
            loss.at
        );
    }
    if seen.quarantined > 0 {
        text += &format!("  set aside: {} segments (*.bad)\n", seen.quarantined);
    }
    for wrong in &seen.wrong {
        text += "  wrong: ";
        if let Some(segment) = wrong.segment {
            text += &format!("segment {segment}: ");
        }
        if let Some(Run { epoch, first, last }) = wrong.readings {
            text += &format!("readings {epoch} {first} to {last}: ");
        }
        text += &wrong.what;
        text.push('\n');
    }
    text
}

fn report_json(lane: &str, seen: &Verified) -> Result<Json, Exit> {
    let losses = seen.losses.iter().map(|loss| {
        let fact = Fact::Loss(loss.clone()).encode().context("loss")?;
        serde_json::from_slice::<Json>(&fact).context("loss")
    });
    let wrong = seen.wrong.iter().map(|wrong| {
        json!({
            "segment": wrong.segment,
            "epoch": wrong.readings.map(|run| run.epoch.to_string()),
            "first": wrong.readings.map(|run| run.first),
            "last": wrong.readings.map(|run| run.last),
            "what": wrong.what,
        })
    });
    Ok(json!({
        "lane": lane,
        "gateway": seen.gateway,
        "topic": seen.topic,
        "segments": seen.segments,
        "quarantined": seen.quarantined,
        "blocks": seen.blocks,
        "readings": seen.readings,
        "waiting": seen.waiting,
        "losses": losses.collect::<anyhow::Result<Vec<_>>>()?,
        "wrong": wrong.collect::<Vec<_>>(),
    }))
}

/// Writes readings as Kafka would get them with `value = "json"`, one a line.
pub fn export(arguments: &ExportArguments) -> Result<(), Exit> {
    let lanes = arguments.which.lanes()?;
    match &arguments.output {
        None => match write_all(
            arguments,
            &lanes.dir,
            &lanes.names,
            &mut io::stdout().lock(),
        ) {
            // A reader that has seen enough (`| head`) is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other.context("export")?),
        },
        Some(path) => {
            let file = File::create_new(path).with_context(|| path.display().to_string())?;
            write_all(arguments, &lanes.dir, &lanes.names, &mut &file)
                .and_then(|()| file.sync_all())
                .with_context(|| path.display().to_string())?;
            Ok(())
        }
    }
}

fn write_all(
    arguments: &ExportArguments,
    dir: &Path,
    lanes: &[String],
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    for lane in lanes {
        let bar = if arguments.all {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::new(inspect::stat(dir, lane)?.stat.readings)
        };
        let mut line = Vec::new();
        inspect::export(dir, lane, arguments.all, |entry| {
            line.clear();
            record::json::encode(&entry.record, &mut line).map_err(io::Error::other)?;
            line.push(b'\n');
            out.write_all(&line)?;
            bar.inc(1);
            Ok(true)
        })?;
        bar.finish_and_clear();
    }
    out.flush()
}

/// Copies what can be read.
pub fn salvage(arguments: &SalvageArguments) -> Result<(), Exit> {
    let from = stores(&arguments.from)?;
    fs::create_dir(&arguments.to).with_context(|| arguments.to.display().to_string())?;
    let now = Clock::new().now().queue();
    let mut wrong = 0;
    for path in from {
        let name = path.file_name().unwrap_or_default();
        let (bar, mut copied) = bytes_of(&path);
        let to = arguments.to.join(name);
        let gateway = arguments.gateway.as_ref();
        let seen = rescue::salvage(&path, &to, gateway, now, &mut copied);
        bar.finish_and_clear();
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => {
                // So that the same command can be given again; it stays when something is in it.
                drop(fs::remove_dir(&arguments.to));
                return Err(anyhow::Error::from(error).context("salvage").into());
            }
        };
        wrong += seen.wrong.len();
        report(&name.to_string_lossy(), &seen, arguments.format)?;
    }
    problems(wrong)
}

/// Brings lanes into the queue of the agent that is configured.
pub fn import(arguments: &ImportArguments) -> Result<(), Exit> {
    let config = arguments.config.load(Secrets::Leave)?;
    let dir = config.agent.state_dir.join("queue");
    for path in stores(&arguments.from)? {
        let (bar, mut copied) = bytes_of(&path);
        let free = config.queue.min_free_bytes;
        let lane = rescue::import(&path, &dir, free, &mut copied).context("import")?;
        bar.finish_and_clear();
        let seen = inspect::stat(&dir, &lane).with_context(|| unreadable(&dir.join(&lane)))?;
        let waiting = seen.stat.readings;
        print(&match arguments.format {
            Format::Text => format!(
                "{lane}  imported, {} readings waiting; edge-agent sends them from its next start on\n",
                grouped(waiting)
            ),
            Format::Json => format!("{}\n", json!({ "lane": lane, "readings": waiting })),
        })?;
    }
    Ok(())
}

fn bytes_of(path: &Path) -> (ProgressBar, impl FnMut(u64)) {
    let bar = ProgressBar::new(inspect::bytes(path));
    let moving = bar.clone();
    (bar, move |bytes| moving.inc(bytes))
}

/// The lanes in a state directory, in a queue directory, or the one that this is.
fn stores(from: &Path) -> Result<Vec<PathBuf>, Exit> {
    let is_lane = |path: &Path| path.join("segments").is_dir();
    if is_lane(from) {
        return Ok(vec![from.to_owned()]);
    }
    let below = from.join("queue");
    let dir = if below.is_dir() { &below } else { from };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry.with_context(|| dir.display().to_string())?.path();
        if is_lane(&path) {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(anyhow!("{} holds no queue", from.display()).into());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use protocol::{Epoch, Timestamp, control::Loss, control::LossReason};

    use super::*;
    use crate::queue::verify::Wrong;

    fn damaged() -> Verified {
        let epoch = Epoch::from_random(0x1f3a_9c04_d2be);
        Verified {
            gateway: Some("gw7".parse().unwrap()),
            topic: Some("readings".parse().unwrap()),
            segments: 3,
            quarantined: 1,
            blocks: 20,
            readings: 12_345,
            waiting: 1_000,
            losses: vec![Loss {
                gateway: "gw7".parse().unwrap(),
                lane: "readings".parse().unwrap(),
                epoch,
                first: 5,
                last: None,
                reason: LossReason::Unreadable,
                merged: false,
                possibly_delivered: true,
                at: Timestamp::from_micros(0).unwrap(),
            }],
            wrong: vec![Wrong {
                segment: Some(2),
                readings: Some(Run {
                    epoch,
                    first: 0,
                    last: 4,
                }),
                what: "not there".into(),
            }],
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert_eq!(
            report_text("readings", &damaged()),
            "readings  DAMAGED  3 segments, 20 blocks, 12 345 readings, 1 000 waiting
  declared lost: 1f3a9c04d2be 5 to ?, unreadable, 1970-01-01T00:00:00Z
  set aside: 1 segments (*.bad)
  wrong: segment 2: readings 1f3a9c04d2be 0 to 4: not there\n"
        );
        let json = report_json("readings", &damaged()).unwrap();
        assert_eq!(json["wrong"][0]["epoch"], "1f3a9c04d2be");
        assert_eq!(json["losses"][0]["reason"], "unreadable");
        assert!(problems(1).is_err() && problems(0).is_ok());
    }

    #[test]
    fn stores_are_found_in_a_state_in_a_queue_and_by_themselves() {
        let state = tempfile::tempdir().unwrap();
        let lane = state.path().join("queue/readings@gw7");
        fs::create_dir_all(lane.join("segments")).unwrap();
        for from in [state.path(), &state.path().join("queue"), &lane] {
            assert_eq!(stores(from).unwrap(), std::slice::from_ref(&lane));
        }
        assert!(stores(&lane.join("segments")).is_err());
    }
}
