//! Commands: what an operator types. Each module is one of them.

pub mod check;
pub mod config;
pub mod decode;
pub mod monitor;
pub mod probe;
pub mod queue;
pub mod run;
pub mod scan;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Problem, Secrets};

/// Reads sensors, keeps every reading in a durable queue, forwards to Kafka.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 69 a peer is unavailable, 78 wrong configuration";

const PROBES: &str = "Examples:
  edge-agent probe meter -n 1            one reading of the source that is called meter
  edge-agent probe house --for 600       what a broker sends within ten minutes";

const MONITORS: &str = "Examples:
  edge-agent monitor /dev/ttyUSB0 -n 3   three frames, each byte explained
  edge-agent monitor heard.bin           the same of what was recorded
  edge-agent monitor /dev/ttyUSB0 --brief

Under the place of a frame stand its bytes on the line, a | before each code of COBS, then the frame before COBS: where
in it, the bytes, what they mean.";

const DECODES: &str = "Examples:
  edge-agent decode --as nmea gps.log
  mosquitto_sub -C 1 -t tele/plug/SENSOR | edge-agent decode --as tasmota --topic tele/plug/SENSOR -";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read, queue and forward until SIGTERM; a second signal ends at once; SIGHUP reads the configuration again
    Run(run::Arguments),
    /// Find every mistake in the configuration; nobody outside is asked, but with --online
    Check(check::Arguments),
    #[command(after_help = PROBES)]
    /// Read one source, show raw bytes, values and what would be sent; send nothing
    Probe(probe::Arguments),
    #[command(after_help = MONITORS)]
    /// Show our serial frames byte by byte, and why one is rejected
    Monitor(monitor::Arguments),
    /// Look for devices
    #[command(subcommand)]
    Scan(scan::Command),
    #[command(after_help = DECODES)]
    /// Show what would be read from bytes in a file; asks nobody
    Decode(decode::Arguments),
    /// Print a configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Look into the queue
    #[command(subcommand)]
    Queue(queue::Command),
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub struct ConfigFile {
    /// Configuration
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    #[arg(
        default_value = "/etc/edge-agent/edge-agent.toml",
        env = "EDGE_AGENT_CONFIG"
    )]
    pub path: PathBuf,
}

impl ConfigFile {
    fn load(&self, secrets: Secrets) -> Result<Config, Exit> {
        crate::config::load(&self.path, secrets).map_err(Exit::Config)
    }
}

/// Why a command did not do what it should.
#[derive(Debug)]
pub enum Exit {
    /// 78: the configuration is wrong.
    Config(Vec<Problem>),
    /// 69: a peer is not there, or not as it has to be; how many problems were told.
    Unavailable(usize),
    /// 1: anything else.
    Failed(anyhow::Error),
    /// 1: anything else, told in the log.
    Logged,
}

impl Exit {
    /// The exit code of the process.
    #[must_use]
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Config(_) => 78,
            Self::Unavailable(_) => 69,
            Self::Failed(_) | Self::Logged => 1,
        })
    }

    /// Tells people, on stderr.
    pub fn tell(&self) {
        match self {
            Self::Config(problems) => {
                for problem in problems {
                    eprintln!("{problem}");
                }
                tell_count(problems.len());
            }
            Self::Unavailable(problems) => tell_count(*problems),
            Self::Failed(error) => eprintln!("edge-agent: {error:#}"),
            Self::Logged => {}
        }
    }
}

fn tell_count(problems: usize) {
    let plural = if problems == 1 { "" } else { "s" };
    eprintln!("{problems} problem{plural}");
}

impl From<anyhow::Error> for Exit {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Prints to stdout. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), Exit> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Exit::Failed(error.into())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
