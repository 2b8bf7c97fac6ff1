//! `edge-agent`: arguments, configuration, log, and what to do; see the library for how.

use std::process::ExitCode;

use clap::Parser;
use edge_agent::cli::{Cli, Command, check, config, decode, monitor, probe, queue, run, scan};

/// Stores are opened and closed all day, each with threads of its own: glibc keeps an arena for each,
/// and the process grows to three times what it holds.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Probe(arguments) => probe::probe(&arguments),
        Command::Monitor(arguments) => monitor::monitor(&arguments),
        Command::Scan(command) => scan::scan(&command),
        Command::Decode(arguments) => decode::decode(&arguments),
        Command::Config(command) => config::config(&command),
        Command::Queue(command) => queue::queue(&command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            exit.tell();
            exit.code()
        }
    }
}
