//! The tool behind `dev/`: services for people and tests, and the demo.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use harness::{chaos, demo, embedded, service::Kind, stack};

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
    /// The whole way with plugs pulled, watched, ending with the verdict.
    Demo(demo::Options),
    /// Plugs pulled, again and again; the last line says what it cost.
    Chaos(chaos::Options),
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
    /// Run a command with the services' addresses in its environment; they end with it, unless
    /// `up` started them.
    Run {
        /// The command.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Stack(command) => match command {
            StackCommand::Up { services } => stack::command::up(&services),
            StackCommand::Down => stack::command::down(),
            StackCommand::Status => stack::command::status(),
            StackCommand::Env => stack::command::env(),
            StackCommand::Run { command } => return stack::command::run(&command),
        },
        Command::Embedded { topics } => embedded::serve(&topics),
        Command::Demo(options) => return demo::run(&options),
        Command::Chaos(options) => return chaos::run(&options),
    }?;
    Ok(ExitCode::SUCCESS)
}
