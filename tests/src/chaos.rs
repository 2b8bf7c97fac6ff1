//! Pulls every plug, as often as asked, and holds what arrived against what was promised.
//!
//! ```text
//! feed      devices and their broker, outside the fault domain: what is owed
//! witness   sees everything that reaches Kafka: what was paid
//! bench     one agent between the two
//! kills power rot disk     tight loops over the bench: one kind of fault each
//! report    the last line
//! ```
//!
//! Decisions come from a seed; when a fault meets which instruction does not, which is the point of
//! doing it a thousand times.

pub mod bench;
pub mod dice;
pub mod disk;
pub mod feed;
pub mod kills;
pub mod power;
mod progress;
pub mod report;
pub mod rot;
pub mod shim;
pub mod witness;

use std::process::ExitCode;

use anyhow::Result;

use self::report::Report;

/// What is done, and how often.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Kill the agent with SIGKILL so many times.
    #[arg(long, value_name = "N")]
    agent_kills: Option<u64>,
    /// Cut the power under the agent's disk so many times; needs root.
    #[arg(long, value_name = "N")]
    power_cuts: Option<u64>,
    /// Damage a file of a queue so many times.
    #[arg(long, value_name = "N")]
    bit_rot: Option<u64>,
    /// Fail every N-th I/O call of the agent, each in a run of its own.
    #[arg(long, value_name = "N")]
    io_errors: Option<u64>,
    /// Repeats a run.
    #[arg(long)]
    seed: Option<u64>,
}

/// Does it; the last line of the output is the report.
///
/// # Errors
/// A part could not be run to its end.
pub fn run(options: &Options) -> Result<ExitCode> {
    let seed = options.seed.unwrap_or_else(some_seed);
    eprintln!("seed {seed}");
    let mut report = Report::new(seed);
    if let Some(count) = options.agent_kills {
        report.add(kills::run(count, seed, |_| Ok(()))?);
    }
    if let Some(count) = options.power_cuts {
        report.add(power::run_cuts(count, seed, |_| Ok(()))?);
    }
    if let Some(count) = options.bit_rot {
        report.add(rot::run(count, seed)?);
    }
    if let Some(step) = options.io_errors {
        report.add(disk::run(step)?);
    }
    println!("{report}");
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn some_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(()) & 0xffff_ffff
}
