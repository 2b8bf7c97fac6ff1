//! The tool behind `dev/`: services for people and tests, and the demo.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use harness::{embedded, service::Kind, stack};

/// Services and demonstrations for people who work on this project.
#[derive(Parser)]
#[command(name = "rig", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Real Kafka, Mosquitto, MongoDB wire server and Schema Registry on loopback.
    #[command(subcommand)]
    Stack(StackCommand),
    /// Kafka and MQTT in this process, until its input ends; obeys `kafka down` and `kafka up`.
    Embedded {
        /// Topics to create, NAME or NAME:PARTITIONS.
        topics: Vec<embedded::TopicSpec>,
    },
}

#[derive(Subcommand)]
enum StackCommand {
    /// Start what does not run yet, and leave it running.
    Up {
        /// Which services; all when none is named.
        services: Vec<Kind>,
    },
    /// End exactly what `up` started, and remove its data.
    Down,
    /// What runs, where, since when.
    Status,
    /// Shell lines to `eval`: where clients connect.
    Env,
    /// Start all, print the environment as one line of JSON, end all when the input ends.
    Hold,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Stack(command) => match command {
            StackCommand::Up { services } => stack::command::up(&services),
            StackCommand::Down => stack::command::down(),
            StackCommand::Status => stack::command::status(),
            StackCommand::Env => stack::command::env(),
            StackCommand::Hold => stack::command::hold(),
        },
        Command::Embedded { topics } => embedded::serve(&topics),
    }
}
