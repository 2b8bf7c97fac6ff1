//! Commands of the sink where a peer is not there: they name it, why it cannot be had, and what to do.

use std::{
    net::TcpListener,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

const SECRET: &str = "hunter2-of-kafka";

fn config(dir: &Path, brokers: &str) -> Result<std::path::PathBuf> {
    let file = dir.join("cloud-sink.toml");
    let properties = dir.join("client.properties");
    std::fs::write(
        &properties,
        format!(
            "bootstrap.servers={brokers}\nsecurity.protocol=SASL_SSL\nsasl.mechanisms=PLAIN\n\
             sasl.username=KEY\nsasl.password={SECRET}\n"
        ),
    )?;
    std::fs::write(
        &file,
        format!(
            "[kafka]\nproperties_file = {properties:?}\n\n\
             [mongodb]\nuri = \"mongodb://127.0.0.1:1/?directConnection=true\"\ntimeout = \"1s\"\n\n\
             [[route]]\ntopic = \"readings\"\ncollection = \"readings\"\n"
        ),
    )?;
    Ok(file)
}

const COMMANDS: [&[&str]; 5] = [
    &["dead-letters", "list", "--format", "json"],
    &["dead-letters", "show", "0:17"],
    &["dead-letters", "replay", "--dry-run"],
    // Of one that lies in MongoDB: Kafka is needed for its way back.
    &["dead-letters", "replay", "dead_letter:readings:0:17"],
    &["topics", "plan"],
];

#[test]
fn a_command_without_kafka_names_the_broker_the_cause_and_the_remedy() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Nobody ever listens there.
    let broker = "127.0.0.1:1";
    let config = config(dir.path(), broker)?;
    std::thread::scope(|scope| {
        let asked = COMMANDS.map(|arguments| {
            let config = &config;
            scope.spawn(move || asks_in_vain(arguments, config, broker))
        });
        asked.into_iter().try_for_each(|asked| match asked.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn asks_in_vain(arguments: &[&str], config: &Path, broker: &str) -> Result<()> {
    let (code, told) = super::on_the_stack::said("cloud-sink", arguments, config, SECRET)?;
    ensure!(code == 69, "{arguments:?} exits with {code}:\n{told}");
    for expected in [
        broker,
        "Connection refused",
        "fix: check kafka.bootstrap and the way to the brokers",
    ] {
        ensure!(told.contains(expected), "{arguments:?}:\n{told}");
    }
    ensure!(told.lines().count() == 2, "{arguments:?}:\n{told}");
    Ok(())
}

/// Nobody refuses, so time is given, and ends.
#[test]
fn a_command_whose_broker_says_nothing_gives_up_and_says_so() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mute = TcpListener::bind("127.0.0.1:0")?;
    let broker = mute.local_addr()?.to_string();
    let config = config(dir.path(), &broker)?;
    let since = Instant::now();
    let list = ["dead-letters", "list"];
    let (code, told) = super::on_the_stack::said("cloud-sink", &list, &config, SECRET)?;
    let took = since.elapsed();
    ensure!(code == 69 && told.contains(&broker), "{code}:\n{told}");
    ensure!(told.contains("no answer within 9s"), "{told}");
    ensure!(took < Duration::from_secs(60), "{took:?}");
    Ok(())
}
