//! `edge-agent check`: every mistake in one run, and what the configuration amounts to.

use std::fmt::Write;

use clap::Args;

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
}

/// Checks the configuration; asks nobody outside.
///
/// # Errors
/// [`Exit::Config`] with every problem.
pub fn check(arguments: &Arguments) -> Result<(), Exit> {
    let config = arguments.config.load(Secrets::Leave)?;
    let mut report = String::new();
    let path = arguments.config.path.display();
    describe(&config, &path.to_string(), &mut report)
        .map_err(|error| Exit::Failed(error.into()))?;
    print(&report)
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
    for lane in config.lanes() {
        let bytes = show_bytes(config.queue.max_bytes);
        let age = show_duration(config.queue.max_age);
        writeln!(out, "queue      {lane}  at most {bytes}, {age}")?;
    }
    let servers = config
        .kafka
        .shown()
        .get("bootstrap.servers")
        .copied()
        .unwrap_or_default();
    writeln!(
        out,
        "kafka      {servers}  control topic {}",
        config.kafka.control_topic
    )
}
