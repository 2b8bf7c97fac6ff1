//! Pulls every plug, as often as asked, and holds what arrived against what was promised.
//!
//! ```text
//! feed      devices and their broker, outside the fault domain: what is owed
//! witness   sees everything that reaches Kafka: what was paid
//! bench     one agent between the two
//! kills power rot disk     tight loops over the bench, one kind of fault each
//! sinks     a tight loop over the sink, between real Kafka and MongoDB
//! mixture   every fault in turn on the real stack, with the simulator's truth
//! mutants   broken builds, each of which must be caught
//! report    the last line
//! ```
//!
//! Decisions come from a seed; which instruction a fault meets does not, and that is the point of doing
//! it a thousand times.

pub mod bench;
pub mod dice;
pub mod disk;
pub mod feed;
pub mod kills;
pub mod mixture;
pub mod mutants;
pub mod power;
mod progress;
pub mod report;
pub mod rot;
pub mod shim;
pub mod sinks;
pub mod witness;

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, ensure};

use self::{
    mixture::{End, Fault},
    report::Report,
};

/// What is done, and how often. Without any of it: the mixture, 30 faults.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The mixture: so many faults.
    #[arg(long, value_name = "N", conflicts_with = "minutes")]
    cycles: Option<u64>,
    /// The mixture: so long.
    #[arg(long, value_name = "M")]
    minutes: Option<u64>,
    /// The mixture: of these faults only.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    faults: Vec<Fault>,
    /// Kill the agent with SIGKILL so many times.
    #[arg(long, value_name = "N")]
    agent_kills: Option<u64>,
    /// Kill the sink with SIGKILL so many times.
    #[arg(long, value_name = "N")]
    sink_kills: Option<u64>,
    /// Cut the power under the agent's disk so many times; needs root.
    #[arg(long, value_name = "N")]
    power_cuts: Option<u64>,
    /// Damage a file of a queue so many times.
    #[arg(long, value_name = "N")]
    bit_rot: Option<u64>,
    /// Fail every N-th I/O call of the agent, each in a run of its own; the seed says which is the first.
    #[arg(long, value_name = "N")]
    io_errors: Option<u64>,
    /// Build four broken daemons and show that each is caught.
    #[arg(long)]
    mutants: bool,
    /// Repeats the decisions of a run.
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
    if options.mutants {
        let alive = mutants::run(seed)?;
        ensure!(alive.is_empty(), "mutants that nobody noticed: {alive:?}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut report = Report::new(seed);
    if let Some(count) = options.agent_kills {
        report.add(kills::run(count, seed, |_| Ok(()))?);
    }
    if let Some(count) = options.power_cuts {
        report.add(power::run(count, seed, |_| Ok(()))?);
    }
    if let Some(count) = options.bit_rot {
        report.add(rot::run(count, seed)?);
    }
    if let Some(step) = options.io_errors {
        report.add(disk::run(step, seed)?);
    }
    if let Some(count) = options.sink_kills {
        report.add(sinks::run(count, seed, None)?);
    }
    if let Some(end) = options.mixture() {
        let faults = match options.faults.as_slice() {
            [] => &Fault::ALL[..],
            some => some,
        };
        report.add(mixture::run(end, seed, faults)?);
    }
    println!("{report}");
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Options {
    fn mixture(&self) -> Option<End> {
        let others = [
            self.agent_kills,
            self.sink_kills,
            self.power_cuts,
            self.bit_rot,
            self.io_errors,
        ];
        match (self.cycles, self.minutes) {
            (Some(count), _) => Some(End::Cycles(count)),
            (None, Some(minutes)) => Some(End::After(Duration::from_secs(60 * minutes))),
            (None, None) => others
                .iter()
                .all(Option::is_none)
                .then_some(End::Cycles(30)),
        }
    }
}

fn some_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(()) & 0xffff_ffff
}
