//! Apicurio Registry, which speaks Confluent's Schema Registry API under `/apis/ccompat/v7`.

use std::process::Command;

use anyhow::Result;

use super::{Place, java};
use crate::cache::Cache;

pub(super) fn command(cache: &Cache, place: &Place) -> Result<Command> {
    let Place {
        dir,
        port,
        second_port,
        ..
    } = place;
    let mut command = java(cache, "384m")?;
    command
        .args([
            "-Dquarkus.http.host=127.0.0.1",
            "-Dquarkus.management.host=127.0.0.1",
        ])
        .arg(format!("-Dquarkus.http.port={port}"))
        .arg(format!("-Dquarkus.management.port={second_port}"))
        .arg("-Dapicurio.rules.global.compatibility=BACKWARD")
        .args([
            "-Dapicurio.datasource.jdbc.initial-size=2",
            "-Dapicurio.datasource.jdbc.min-size=2",
        ])
        // Schemas survive a restart, as everything else of the stack does.
        .arg(format!(
            "-Dapicurio.datasource.url=jdbc:h2:file:{}/schemas",
            dir.display()
        ))
        .arg("-jar")
        .arg(cache.registry()?.join("quarkus-run.jar"));
    Ok(command)
}

pub(super) fn answers(place: &Place, url: &str) -> Result<()> {
    ureq::get(format!(
        "http://127.0.0.1:{}/health/ready",
        place.second_port
    ))
    .call()?;
    ureq::get(format!("{url}/subjects")).call()?;
    Ok(())
}
