//! SIGHUP at `cloud-sink run`: the configuration is read again, and what a restart would bring is told.
//!
//! Nothing is taken over. The sink keeps nothing but connections, and its place is in MongoDB, so a restart costs
//! seconds and no record; a sink that ran half of a file would match neither the file nor what it said at its
//! start. What an operator wants to know before a restart is whether the file is right.

use std::io;

use protocol_host::config::document::{self, Problem};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};
use tracing::{error, info, warn};

use super::File;
use crate::config::{Config, Secrets};

/// Of this target no line is held back: somebody has asked, and waits for all of the answer.
const EVERY: &str = "cloud_sink::cli::hangup::every";

/// Answers each SIGHUP in the log, for as long as the process runs; what comes during an answer is one.
///
/// # Errors
/// When signals cannot be listened for.
pub fn answer(file: File, running: Config) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let file = file.clone();
            // Secrets may lie behind a slow mount. A panic is in the log, and changes nothing.
            match spawn_blocking(move || file.load(Secrets::Read)).await {
                Ok(Ok(wanted)) => tell(&changed(&running, &wanted)),
                Ok(Err(problems)) => refuse(&problems),
                Err(_) => {}
            }
        }
    });
    Ok(())
}

fn tell(changed: &[&str]) {
    if changed.is_empty() {
        info!(target: EVERY, "configuration read again, it is the one in force");
    } else {
        let changed = changed.join(", ");
        warn!(target: EVERY, changed, "configuration read again, it needs a restart, nothing was changed");
    }
}

/// The tables in which two configurations differ.
fn changed(running: &Config, wanted: &Config) -> Vec<&'static str> {
    [
        ("[kafka]", running.kafka != wanted.kafka),
        ("[mongodb]", running.mongodb != wanted.mongodb),
        ("[[route]]", running.routes != wanted.routes),
        ("[[topic]]", running.topics != wanted.topics),
        ("[batch]", running.batch != wanted.batch),
        ("[status]", running.status != wanted.status),
    ]
    .into_iter()
    .filter_map(|(table, differs)| differs.then_some(table))
    .collect()
}

fn refuse(problems: &[Problem]) {
    document::tell(problems);
    let mistakes = problems.len();
    error!(
        target: EVERY,
        mistakes,
        "configuration is wrong, a restart would fail; the sink goes on as before"
    );
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    const RUNNING: &str = "[kafka]\nbootstrap = \"127.0.0.1:9092\"\n[mongodb]\nuri = \"mongodb://127.0.0.1\"\n\
                           [[route]]\ntopic = \"readings\"\ncollection = \"readings\"\n";

    #[test]
    fn the_tables_that_differ_are_named() {
        let read = |text: &str| parse(Path::new("sink.toml"), text, Secrets::Leave).unwrap();
        let running = read(RUNNING);
        for (from, to, expected) in [
            ("", "", &[][..]),
            ("readings\"\ncoll", "alarms\"\ncoll", &["[[route]]"][..]),
            ("9092", "9093", &["[kafka]"][..]),
            (
                "mongodb://127.0.0.1",
                "mongodb://localhost",
                &["[mongodb]"][..],
            ),
            (
                "[[route]]",
                "[batch]\nmax_wait = \"1s\"\n[[route]]",
                &["[batch]"][..],
            ),
            (
                "[[route]]",
                "[status]\nlisten = \"off\"\n[[topic]]\nname = \"readings\"\npartitions = 3\n[[route]]",
                &["[[topic]]", "[status]"][..],
            ),
        ] {
            let wanted = read(&RUNNING.replacen(from, to, 1));
            assert_eq!(changed(&running, &wanted), expected, "{from} {to}");
        }
    }
}
