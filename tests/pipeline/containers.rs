//! The files for containers, read by the parsers of those who made them. No container is started: there may be no Docker
//! daemon. What the files call of ours is run all the same.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use harness::{cache::Cache, daemon::Daemon, port, rig::PATIENCE, wait};
use serde_json::Value as Json;

/// Built from this tree; the others are official images.
const OURS: [&str; 3] = ["edge-agent", "cloud-sink", "topics"];

fn packaging() -> PathBuf {
    harness::tree().join("packaging")
}

/// `hadolint` and `docker-compose`; `None`, said aloud, where they cannot be had.
fn tools() -> Result<Option<(PathBuf, PathBuf)>> {
    match Cache::open()?.container_tools() {
        Ok(tools) => Ok(Some(tools)),
        Err(error) => {
            let test = std::thread::current();
            let name = test.name().unwrap_or("a test").to_owned();
            // Not through the macros, whose output a test that passes keeps to itself.
            writeln!(std::io::stderr(), "skipped {name}: {error:#}")?;
            Ok(None)
        }
    }
}

fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}\n{said}{errors}");
    Ok(said)
}

#[test]
fn hadolint_has_nothing_against_the_dockerfile() -> Result<()> {
    let Some((hadolint, _)) = tools()? else {
        return Ok(());
    };
    output_of(Command::new(hadolint).arg(packaging().join("Dockerfile")))?;
    Ok(())
}

#[test]
fn compose_starts_each_after_what_it_needs_and_opens_nothing_to_the_network() -> Result<()> {
    let Some((_, compose)) = tools()? else {
        return Ok(());
    };
    let mut command = Command::new(compose);
    command
        .arg("-f")
        .arg(packaging().join("compose.yaml"))
        .args(["--profile", "demo", "config", "--format", "json"]);
    let project: Json = serde_json::from_str(&output_of(&mut command)?)?;
    let services = project["services"].as_object().context("no services")?;
    ensure!(services.len() == 8, "{:?}", services.keys());
    for (name, service) in services {
        check_service(name, service, &project)
            .with_context(|| format!("service {name}: {service}"))?;
    }
    Ok(())
}

fn check_service(name: &str, service: &Json, project: &Json) -> Result<()> {
    let is_ours = OURS.contains(&name);
    let image = service["image"].as_str().context("no image")?;
    ensure!(
        is_ours
            || image
                .rsplit_once(':')
                .is_some_and(|(_, tag)| tag != "latest"),
        "{image} is another one tomorrow"
    );
    for port in service["ports"].as_array().into_iter().flatten() {
        ensure!(port["host_ip"] == "127.0.0.1", "open to the network");
    }
    for volume in service["volumes"].as_array().into_iter().flatten() {
        let source = volume["source"].as_str().context("no source")?;
        match volume["type"].as_str() {
            Some("bind") => ensure!(Path::new(source).is_file(), "{source} is not there"),
            _ => ensure!(!project["volumes"][source].is_null(), "{source} is unknown"),
        }
    }
    for (needed, how) in service["depends_on"].as_object().into_iter().flatten() {
        let needed = &project["services"][needed];
        let ends = needed["restart"] == "no";
        let expected = if ends {
            "service_completed_successfully"
        } else {
            "service_healthy"
        };
        ensure!(how["condition"] == expected, "{how}");
    }
    if is_ours {
        // Its health is the image's own matter.
        ensure!(service["read_only"] == true, "its files can be written");
        ensure!(service["cap_drop"][0] == "ALL", "has capabilities");
    } else if name != "thermometer" {
        let test = service["healthcheck"]["test"].as_array();
        ensure!(test.is_some_and(|test| test.len() > 1), "no healthcheck");
    }
    Ok(())
}

#[test]
fn the_configurations_for_compose_pass_check() -> Result<()> {
    for program in ["edge-agent", "cloud-sink"] {
        let file = packaging().join(format!("compose/{program}.toml"));
        output_of(
            Command::new(harness::binary(program)?)
                .args(["check", "-c"])
                .arg(&file),
        )?;
    }
    Ok(())
}

/// `HEALTHCHECK … CMD ["a", "b"]` of one target.
fn healthcheck(target: &str) -> Result<Vec<String>> {
    let dockerfile = fs::read_to_string(packaging().join("Dockerfile"))?;
    let stage = dockerfile
        .split(&format!(" AS {target}\n"))
        .nth(1)
        .context("no such target")?;
    let stage = stage.split("\nFROM ").next().unwrap_or(stage);
    ensure!(stage.contains("\nUSER 10001:10001\n"), "it runs as root");
    let (_, check) = stage.split_once("HEALTHCHECK").context("no HEALTHCHECK")?;
    let (_, command) = check.split_once("CMD ").context("no CMD")?;
    let command = command.lines().next().unwrap_or_default();
    Ok(serde_json::from_str(command)?)
}

#[test]
fn the_healthcheck_of_an_image_tells_a_daemon_that_lives_from_one_that_does_not() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Nobody is there: neither needs anybody to be alive.
    let nobody = format!("127.0.0.1:{}", port::free()?);
    let agent = format!(
        "[agent]\ngateway = \"g\"\nstate_dir = \"{}\"\n[kafka]\nbootstrap = \"{nobody}\"\ntopic = \"t\"\n\
         [status]\nlisten = \"{{{{status}}}}\"\n",
        dir.path().join("state").display()
    );
    let sink = format!(
        "[kafka]\nbootstrap = \"{nobody}\"\n[mongodb]\nuri = \"mongodb://{nobody}\"\n\
         [[route]]\ntopic = \"t\"\ncollection = \"readings\"\n[status]\nlisten = \"{{{{status}}}}\"\n"
    );
    for (program, config, default_port) in
        [("edge-agent", agent, "9600"), ("cloud-sink", sink, "9601")]
    {
        let mut daemon = Daemon::new(program, dir.path(), &config)?;
        let url = daemon.url();
        let port = url.rsplit(':').next().unwrap_or_default();
        let check = healthcheck(program)?.join("\0").replace(default_port, port);
        let check: Vec<&str> = check.split('\0').collect();
        let healthy = || -> Result<bool> {
            Ok(Command::new(check[0])
                .args(&check[1..])
                .output()?
                .status
                .success())
        };
        ensure!(!healthy()?, "{program} is healthy before its start");
        daemon.start()?;
        // Docker asks more than once as well.
        wait::until_true("health", PATIENCE, healthy)
            .with_context(|| format!("{program} is not healthy: {check:?}"))?;
        daemon.kill()?;
        ensure!(!healthy()?, "{program} is healthy after its end");
    }
    Ok(())
}
