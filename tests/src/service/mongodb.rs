//! `mongod` where it is installed, as a replica set of one; else a server from the package registry
//! that speaks the same wire protocol.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use mongodb::{Client, bson::doc, options::ClientOptions};

use super::Place;
use crate::cache::Cache;

pub(super) fn command(cache: &Cache, place: &Place) -> Result<Command> {
    let port = place.port.to_string();
    let data = data(place)?;
    let mut command = match installed() {
        Some(mongod) => of_mongod(&mongod, &port, &data),
        None => {
            let (python, script) = cache.mongodb()?;
            let mut command = Command::new(python);
            command
                .arg(script)
                .args(["--host", "127.0.0.1", "--port", &port, "--storage-path"])
                .arg(&data)
                .args(["--log-level", "WARNING", "--enable-test-commands"]);
            command
        }
    };
    // Python's bytecode would be written beside the package otherwise, by each start at once.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

/// One that has real time series.
pub(super) fn series_command(cache: &Cache, place: &Place) -> Result<Command> {
    let port = place.port.to_string();
    let data = data(place)?;
    if let Some(mongod) = installed() {
        return Ok(of_mongod(&mongod, &port, &data));
    }
    let mut command = Command::new(cache.series()?);
    command
        .args(["--host", "127.0.0.1", "--port", &port, "--storage-path"])
        .arg(&data)
        // `j: true` means what it says only with the first.
        .args(["--sync-on-commit", "--cache-size", "128M"])
        .args(["--log-file-max", "16MB", "--log-level", "WARNING"])
        .arg("--enable-test-commands");
    Ok(command)
}

/// Why there is no server with real time series, if there is none.
#[must_use]
pub fn no_series() -> Option<String> {
    if installed().is_some() {
        return None;
    }
    let series = Cache::open().and_then(|cache| cache.series());
    series.err().map(|error| format!("{error:#}"))
}

fn data(place: &Place) -> Result<PathBuf> {
    let data = place.dir.join("data");
    std::fs::create_dir_all(&data)?;
    Ok(data)
}

fn of_mongod(mongod: &Path, port: &str, data: &Path) -> Command {
    let mut command = Command::new(mongod);
    command
        .args(["--bind_ip", "127.0.0.1", "--port", port, "--dbpath"])
        .arg(data)
        .args(["--replSet", "stack"])
        .args(["--setParameter", "enableTestCommands=1"]);
    command
}

fn installed() -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join("mongod"))
        .find(|candidate| candidate.is_file())
}

pub(super) fn answers(uri: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut options = ClientOptions::parse(uri).await?;
        options.server_selection_timeout = Some(Duration::from_secs(1));
        let admin = Client::with_options(options)?.database("admin");
        let hello = admin.run_command(doc! { "hello": 1 }).await?;
        if matches!(hello.get_bool("isWritablePrimary"), Ok(true)) {
            return Ok(());
        }
        // A fresh mongod waits to be told that it is a replica set of one.
        admin
            .run_command(doc! { "replSetInitiate": { "_id": "stack", "members": [] } })
            .await?;
        anyhow::bail!("not primary yet")
    })
}
