//! Apicurio Registry, which speaks Confluent's Schema Registry API under `/apis/ccompat/v7`, to who has the key.

use std::process::Command;

use anyhow::Result;

use super::{Place, REGISTRY_LOGIN, certificates::Authority, java};
use crate::cache::Cache;

/// Where Confluent's API begins.
pub(super) const PATH: &str = "/apis/ccompat/v7";
/// [`REGISTRY_LOGIN`] as HTTP carries it.
const AUTHORIZATION: &str = "Basic U1JLRVk6aHVudGVyMi9yZWdpc3RyeT09";

pub(super) fn command(cache: &Cache, place: &Place) -> Result<Command> {
    let Place {
        dir,
        port,
        second_port,
        doors,
    } = place;
    let tls = dir.join("tls");
    if !tls.exists() {
        Authority::new(&tls)?.sign("secured", "127.0.0.1", 9)?;
    }
    let certificate = tls.join("secured.pem");
    let (key, secret) = REGISTRY_LOGIN;
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
        // As at a managed registry: nobody without a key.
        .args([
            "-Dquarkus.http.auth.basic=true",
            "-Dquarkus.security.users.embedded.plain-text=true",
            "-Dquarkus.http.auth.permission.sr.paths=/apis/*",
            "-Dquarkus.http.auth.permission.sr.policy=authenticated",
        ])
        .arg(format!(
            "-Dquarkus.security.users.embedded.users.\"{key}\"={secret}"
        ))
        .arg(format!(
            "-Dquarkus.security.users.embedded.roles.\"{key}\"=sr-admin"
        ))
        // Schemas survive a restart, as everything else of the stack does.
        .arg(format!(
            "-Dapicurio.datasource.url=jdbc:h2:file:{}/schemas",
            dir.display()
        ));
    for door in doors {
        command
            .arg(format!("-Dquarkus.http.ssl-port={door}"))
            .arg("-Dquarkus.http.insecure-requests=enabled");
        for file in ["files", "key-files"] {
            command.arg(format!(
                "-Dquarkus.http.ssl.certificate.{file}={}",
                certificate.display()
            ));
        }
    }
    command
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
    ureq::get(format!("{url}/subjects"))
        .header("Authorization", AUTHORIZATION)
        .call()?;
    Ok(())
}
