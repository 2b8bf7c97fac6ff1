//! `edge-agent check`: every mistake in one run, and what the configuration amounts to.

mod online;
mod sources;

use std::fmt::Write;

use anyhow::Context;
use clap::Args;
use online::Report;
use tokio::runtime;

use super::{ConfigFile, Exit, print};
use crate::{
    clock::Clock,
    config::{Config, Secrets, SerialMode, show_bytes, show_duration},
};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Ask everybody as well: open each source as the agent does, and see whether Kafka and the schema registry
    /// are what the agent needs
    #[arg(long)]
    online: bool,
}

/// Checks the configuration; asks nobody outside unless told to.
///
/// # Errors
/// [`Exit::Config`] with every problem, [`Exit::Unavailable`] when a peer is not as it has to be.
pub fn check(arguments: &Arguments) -> Result<(), Exit> {
    let secrets = if arguments.online {
        Secrets::Read
    } else {
        Secrets::Leave
    };
    let config = arguments.config.load(secrets)?;
    let mut report = Report::default();
    let path = arguments.config.path.display();
    describe(&config, &path.to_string(), &mut report.text)
        .map_err(|error| Exit::Failed(error.into()))?;
    if arguments.online {
        sources::ask(&config, &mut report)?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("no runtime")?;
        runtime.block_on(online::ask(&config, &mut report));
    }
    print(&report.text)?;
    match report.problems {
        0 => Ok(()),
        problems => Err(Exit::Unavailable(problems)),
    }
}

fn describe(config: &Config, path: &str, out: &mut String) -> std::fmt::Result {
    writeln!(out, "config     {path}  ok")?;
    writeln!(out, "gateway    {}", config.agent.gateway)?;
    let clock = match Clock::new().now().synced {
        true => "synchronised",
        false => "not synchronised: readings are marked, and put right later",
    };
    writeln!(out, "clock      {clock}")?;
    for serial in &config.serial {
        let mode = match &serial.mode {
            SerialMode::Frames => "frames",
            SerialMode::Lines(_) => "lines",
            SerialMode::Device(device) => device.name,
            SerialMode::Polled(polled) => polled.name,
        };
        let there = if serial.port.exists() {
            ""
        } else {
            "  (not plugged in)"
        };
        let (name, port, baud) = (&serial.name, serial.port.display(), serial.baud);
        writeln!(out, "serial     {name}  {port}  {baud} {mode}{there}")?;
    }
    for modbus in &config.modbus {
        let (name, host, port) = (&modbus.name, &modbus.host, modbus.port);
        let devices = modbus.polled.devices.len();
        let what = if devices == 1 { "device" } else { "devices" };
        writeln!(out, "modbus     {name}  {host}:{port}  {devices} {what}")?;
    }
    for mqtt in &config.mqtt {
        let scheme = if mqtt.url.tls { "mqtts" } else { "mqtt" };
        let (name, host, port) = (&mqtt.name, &mqtt.url.host, mqtt.url.port);
        let topics: Vec<&str> = mqtt.subscribe.iter().map(|s| s.topic.as_str()).collect();
        writeln!(
            out,
            "mqtt       {name}  {scheme}://{host}:{port}  {}",
            topics.join("  ")
        )?;
        if let Some(Err(error)) = mqtt.password.as_ref().map(|secret| secret.read()) {
            writeln!(out, "           password cannot be read here: {error}")?;
        }
    }
    if config.has_no_source() {
        writeln!(
            out,
            "sources    none: nothing will be read; add [[serial]], [[modbus]] or [[mqtt]]"
        )?;
    }
    for lane in config.lanes() {
        let queue = config.queue_of(lane);
        let limits = config.limits_of(lane);
        let bytes = show_bytes(queue.max_bytes);
        let age = match limits.alarm {
            true => "of any age".to_owned(),
            false => show_duration(queue.max_age),
        };
        writeln!(out, "queue      {lane}  at most {bytes}, {age}")?;
        let limits = limits.in_words();
        if !limits.is_empty() {
            writeln!(out, "           sent: {limits}")?;
        }
    }
    let servers = config
        .kafka
        .client
        .shown()
        .get("bootstrap.servers")
        .copied()
        .unwrap_or_default();
    writeln!(
        out,
        "kafka      {servers}  control topic {}",
        config.kafka.control_topic
    )?;
    if let Some(registry) = &config.kafka.client.registry {
        let user = registry.username.as_deref().unwrap_or("nobody");
        writeln!(out, "schema     {}  as {user}", registry.url)?;
    }
    Ok(())
}
