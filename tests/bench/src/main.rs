//! The tool behind `dev/bench`: the product beside its limit, in pairs.
//!
//! ```text
//! pairs     pure: medians of ratios, targets        canary    whether the machine stood still
//! report    pure: table and JSON                    proc      CPU, memory and writes by /proc
//! bench     the runner: limit, product, limit …     stand     services, topics, daemons
//! reading   the one reading of all rows             bare      the loop without any storage, in a process
//! wire      MongoDB's wire: a null server, a tap    rows/     what is measured, one file a part
//! ```
//!
//! What each limit is and why it is one stands in `docs/performance.md`. No test asserts a time: the suite
//! only runs every row in a tiny size, so that none can rot.
// It prints for people.
#![allow(clippy::print_stdout)]

mod bare;
mod bench;
mod canary;
mod pairs;
mod proc;
mod reading;
mod report;
mod rows;
mod stand;
mod wire;

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail, ensure};
use clap::{Parser, Subcommand};

use crate::bench::{Bench, Size};

/// As in the agent, whose queue is measured in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The product beside its limit, in pairs.
#[derive(Parser)]
#[command(name = "bench", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Rows whose name begins with one of these; all when none is named.
    names: Vec<String>,
    /// Pairs that must be quiet, for each row.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Backlogs of 10⁷ readings and audits of as many: an hour and 20 GB.
    #[arg(long, conflicts_with = "smoke")]
    full: bool,
    /// Everything tiny and once, in any build: shows that the bench runs, measures nothing.
    #[arg(long)]
    smoke: bool,
    /// The names of all rows, and what they measure.
    #[arg(long)]
    list: bool,
}

#[derive(Subcommand)]
enum Part {
    /// The bare loop, as a process of its own whose CPU time can be told.
    #[command(hide = true)]
    Bare(bare::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    if let Some(Part::Bare(options)) = arguments.part {
        bare::run(&options)?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.list {
        for row in rows::ALL {
            println!("{:<16} {}", row.name, row.what);
        }
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(arguments.pairs > 0, "--pairs must be at least 1");
    let size = match (arguments.smoke, arguments.full) {
        (true, _) => Size::Smoke,
        (_, true) => Size::Full,
        _ => Size::Usual,
    };
    if cfg!(debug_assertions) && size != Size::Smoke {
        bail!("a debug build says nothing about speed: use dev/bench, which builds with --release");
    }
    let chosen = rows::chosen(&arguments.names)?;
    let mut bench = Bench::new(arguments.pairs, size, arguments.json)?;
    let mut failed = Vec::new();
    for row in chosen {
        let began = Instant::now();
        if let Err(error) = (row.run)(&mut bench) {
            bench.failed(row.name, &error)?;
            failed.push(row.name);
        }
        eprintln!("{}: {:.0} s", row.name, began.elapsed().as_secs_f64());
    }
    let (met, asked) = bench.done()?;
    eprintln!("{met} of {asked} targets met");
    if !failed.is_empty() {
        bail!("without a figure: {}", failed.join(", "));
    }
    Ok(match size == Size::Smoke || met == asked {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
