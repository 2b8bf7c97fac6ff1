//! `edge-agent queue`: `stat` and `peek` look into the queue, also while the agent runs; nothing is changed.
//! For whole stores see [`store`].

mod store;

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use protocol::{Timestamp, Value, record};

use super::{ConfigFile, Exit, print};
use crate::{
    clock::Clock,
    config::{Config, Secrets},
    queue::{
        Entry, Stat,
        inspect::{self, Seen},
    },
};

/// Commands of `queue`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What waits, since when, and how much room is left
    Stat(Which),
    /// The oldest readings that wait
    Peek(PeekArguments),
    /// Read everything and tell what is wrong with it, also while the agent runs; 1 if anything is
    Verify(Which),
    /// Write the readings that wait as JSON, one a line
    Export(store::ExportArguments),
    /// Copy what can be read of a queue whose agent is gone, with the ledger of what cannot
    Salvage(store::SalvageArguments),
    /// Add such a copy to this agent's queue: it drains as it is recorded, without duplicates
    Import(store::ImportArguments),
}

/// Form of the output.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Which queue, and how to show it.
#[derive(Debug, Args)]
pub struct Which {
    #[command(flatten)]
    config: ConfigFile,
    /// A queue directory, such as that of a card from elsewhere, instead of the configured one
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Only this lane, named by its Kafka topic (and, where it is another's, @ and the gateway)
    #[arg(long, value_name = "LANE")]
    lane: Option<String>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Which queue, and how much of it.
#[derive(Debug, Args)]
pub struct PeekArguments {
    #[command(flatten)]
    which: Which,
    /// How many readings of each lane
    #[arg(short = 'n', default_value_t = 10)]
    count: usize,
}

/// Looks.
///
/// # Errors
/// [`Exit`].
pub fn queue(command: &Command) -> Result<(), Exit> {
    match command {
        Command::Stat(arguments) => stat(arguments),
        Command::Peek(arguments) => peek(arguments),
        Command::Verify(arguments) => store::verify(arguments),
        Command::Export(arguments) => store::export(arguments),
        Command::Salvage(arguments) => store::salvage(arguments),
        Command::Import(arguments) => store::import(arguments),
    }
}

/// The lanes asked for.
struct Lanes {
    dir: PathBuf,
    names: Vec<String>,
    /// What knows the bound of each; not of a queue from elsewhere.
    config: Option<Config>,
}

impl Which {
    fn lanes(&self) -> Result<Lanes, Exit> {
        let (dir, config) = match &self.dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let config = self.config.load(Secrets::Leave)?;
                let dir = config.agent.state_dir.join("queue");
                (dir, Some(config))
            }
        };
        let on_disk = inspect::lanes(&dir).map_err(|error| no_lanes(&dir, &error))?;
        // A mistyped directory must not pass for a queue in which nothing waits, or nothing is wrong.
        if self.dir.is_some() && on_disk.is_empty() {
            return Err(anyhow::anyhow!(no_queue(&dir)).into());
        }
        let names = match &self.lane {
            None => on_disk,
            Some(lane) if on_disk.contains(lane) => vec![lane.clone()],
            Some(lane) => {
                let known = on_disk.join(", ");
                return Err(anyhow::anyhow!("no lane {lane}; there are: {known}").into());
            }
        };
        Ok(Lanes { dir, names, config })
    }
}

fn unreadable(path: &Path) -> String {
    format!("queue {} cannot be read", path.display())
}

/// What is said of a directory without a lane.
fn no_queue(dir: &Path) -> String {
    let within = dir.join("queue");
    let remedy = if within.is_dir() {
        format!("name {}", within.display())
    } else {
        "a queue directory is that called queue in the state directory of an agent".to_owned()
    };
    format!("{} is no queue, it has no lane; {remedy}", dir.display())
}

/// Why there is no list of lanes, and what to do about it.
fn no_lanes(dir: &Path, error: &io::Error) -> anyhow::Error {
    let remedy = match error.kind() {
        ErrorKind::NotFound => {
            "; the agent makes it when it first runs: is agent.state_dir the one of the agent that ran? \
             another directory is named by --dir"
        }
        ErrorKind::PermissionDenied => "; run this as root, or as the user of the agent",
        _ => "",
    };
    anyhow::anyhow!("{}: {error}{remedy}", unreadable(dir))
}

/// `1 segment`, `12 345 readings`
pub(super) fn counted(number: u64, one: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {one}{s}", grouped(number))
}

fn stat(arguments: &Which) -> Result<(), Exit> {
    let Lanes { dir, names, config } = arguments.lanes()?;
    let now = Clock::new().now().wall;
    for lane in names {
        let Seen {
            gateway,
            topic,
            mut stat,
        } = inspect::stat(&dir, &lane).with_context(|| unreadable(&dir.join(&lane)))?;
        let max_bytes = config
            .as_ref()
            .map(|config| config.queue_of(&topic).max_bytes);
        stat.max_bytes = max_bytes.unwrap_or(0);
        match arguments.format {
            Format::Text => print(&format!("{}\n", stat_line(&lane, &stat, now)))?,
            Format::Json => print(&format!(
                "{}\n",
                serde_json::json!({
                    "lane": lane,
                    "gateway": gateway,
                    "topic": topic,
                    "readings": stat.readings,
                    "bytes": stat.bytes,
                    "max_bytes": max_bytes,
                    "segments": stat.segments,
                    "oldest_committed": stat.oldest_committed,
                    "losses_pending": stat.losses_pending,
                })
            ))?,
        }
    }
    Ok(())
}

/// `readings  waiting 1 204 331 readings  ·  oldest 2 d 03:11  ·  118 MiB of 2 GiB`
fn stat_line(lane: &str, stat: &Stat, now: Timestamp) -> String {
    let mut line = format!("{lane}  waiting {}", counted(stat.readings, "reading"));
    if let Some(oldest) = stat.oldest_committed {
        let age = u64::try_from(now.as_micros() - oldest).unwrap_or(0);
        line += &format!("  ·  oldest {}", show_age(Duration::from_micros(age)));
    }
    line += &format!("  ·  {}", rounded(stat.bytes));
    if stat.max_bytes > 0 {
        line += &format!(" of {}", rounded(stat.max_bytes));
    }
    if stat.losses_pending > 0 {
        let losses = stat.losses_pending;
        let what = if losses == 1 { "loss" } else { "losses" };
        line += &format!("  ·  {losses} {what} not yet stated to Kafka");
    }
    line
}

/// `1 204 331`
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `2 d 03:11`, `03:11:09`
fn show_age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match days {
        0 => format!("{hours:02}:{minutes:02}:{:02}", seconds % 60),
        _ => format!("{days} d {hours:02}:{minutes:02}"),
    }
}

/// `118 MiB`
pub(super) fn rounded(bytes: u64) -> String {
    match bytes {
        0..0x400 => format!("{bytes} B"),
        0x400..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => {
            let tenths = bytes / ((1 << 30) / 10);
            format!("{}.{} GiB", tenths / 10, tenths % 10)
        }
    }
}

fn peek(arguments: &PeekArguments) -> Result<(), Exit> {
    let Lanes { dir, names, .. } = arguments.which.lanes()?;
    for lane in names {
        let entries = inspect::peek(&dir, &lane, arguments.count)
            .with_context(|| unreadable(&dir.join(&lane)))?;
        if let Format::Text = arguments.which.format {
            print(&format!("{lane}\n"))?;
        }
        for entry in entries {
            print(&match arguments.which.format {
                Format::Text => entry_line(&entry),
                Format::Json => entry_json(&entry)?,
            })?;
        }
    }
    Ok(())
}

fn entry_line(entry: &Entry) -> String {
    let reading = &entry.record.reading;
    let (id, time, clock) = (&entry.record.id, reading.time, reading.clock.as_str());
    let mut line = format!("  {id}  {time} ({clock})  {}", reading.device);
    for (name, value) in reading.fields.iter() {
        line += &match value {
            // As in JSON: a quantity shows that it is one.
            Value::Float(number) => format!(" {name}={number:?}"),
            Value::Int(number) => format!(" {name}={number}"),
            Value::Bool(state) => format!(" {name}={state}"),
            Value::Text(text) => format!(" {name}={text:?}"),
        };
    }
    line.push('\n');
    line
}

/// The value Kafka will get, and what else will be known of it.
fn entry_json(entry: &Entry) -> Result<String, Exit> {
    let mut value = Vec::new();
    record::json::encode(&entry.record, &mut value).context("record")?;
    let value: serde_json::Value = serde_json::from_slice(&value).context("record")?;
    let line = serde_json::json!({
        "id": entry.record.id.to_string(),
        "digest": entry.record.digest.to_string(),
        "received": entry.received.to_string(),
        "committed": entry.committed.to_string(),
        "value": value,
    });
    Ok(format!("{line}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_told_in_one_line() {
        let stat = Stat {
            readings: 1_204_331,
            bytes: 118 << 20,
            max_bytes: 2 << 30,
            oldest_committed: Some(0),
            ..Stat::default()
        };
        let now = Timestamp::from_micros(((2 * 24 + 3) * 60 + 11) * 60 * 1_000_000).unwrap();
        assert_eq!(
            stat_line("readings", &stat, now),
            "readings  waiting 1 204 331 readings  ·  oldest 2 d 03:11  ·  118 MiB of 2.0 GiB"
        );
    }

    #[test]
    fn a_queue_that_is_not_there_is_told_with_the_remedy() {
        let gone = io::Error::from(ErrorKind::NotFound);
        let said = no_lanes(Path::new("/q"), &gone).to_string();
        assert!(said.starts_with("queue /q cannot be read: "), "{said}");
        assert!(
            said.ends_with("another directory is named by --dir"),
            "{said}"
        );
    }

    #[test]
    fn a_directory_that_is_no_queue_is_not_taken_for_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let which = Which {
            config: ConfigFile {
                path: PathBuf::new(),
            },
            dir: Some(dir.path().to_owned()),
            lane: None,
            format: Format::Text,
        };
        let said = |which: &Which| match which.lanes() {
            Err(Exit::Failed(error)) => error.to_string(),
            other => format!("{:?}", other.map(|lanes| lanes.names)),
        };
        assert!(said(&which).contains(" is no queue, it has no lane; "));
        std::fs::create_dir(dir.path().join("queue")).unwrap();
        let within = dir.path().join("queue").display().to_string();
        assert!(said(&which).ends_with(&format!("name {within}")));
    }

    #[test]
    fn one_is_not_many() {
        for (number, text) in [
            (0, "0 segments"),
            (1, "1 segment"),
            (2000, "2 000 segments"),
        ] {
            assert_eq!(counted(number, "segment"), text);
        }
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1 000"),
            (12_345_678, "12 345 678"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
