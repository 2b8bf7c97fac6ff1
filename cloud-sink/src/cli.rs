//! The command line.

mod audit;
mod check;
mod dead_letters;
mod hangup;
mod schema;
pub mod topics;
mod trace;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use protocol_host::{log, remedy, secret::SecretError};
use tokio_util::sync::CancellationToken;

pub use dead_letters::DeadLetters;

use crate::{
    config::{self, Config, Problem, Secrets},
    kafka::ConsumerError,
    run::{self, open_store},
    store::{self, Outage, StoreError},
};

/// Exit codes beside 0 and 1, as in sysexits.h.
pub mod exit {
    /// A peer is unavailable.
    pub const UNAVAILABLE: u8 = 69;
    /// The configuration is wrong.
    pub const CONFIG: u8 = 78;
}

/// Writes readings from Kafka to MongoDB, each exactly once.
#[derive(Debug, Parser)]
#[command(name = "cloud-sink", version, about, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, or the answer is no (audit, plan, diff), 2 wrong usage, \
69 a peer is unavailable, 78 wrong configuration";

const ENVIRONMENT: &str = "Environment:
  RUST_LOG  levels of the log, such as info or cloud_sink=debug";

const AUDITS: &str = "Examples:
  cloud-sink audit --since 24h   what the last day had to bring
  cloud-sink audit --full        count the documents themselves; reads each collection once

Exit codes: 0 nothing is unexplained, 1 something is missing, doubled or not as declared, or nothing was there to be \
audited (no gateway is known), 69 a peer is unavailable";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write what Kafka has to MongoDB until SIGTERM; a second signal ends at once; SIGHUP checks the configuration
    #[command(after_help = ENVIRONMENT)]
    Run {
        /// Where the configuration is.
        #[command(flatten)]
        file: File,
        /// Form of the log lines
        #[arg(long, value_enum, default_value_t)]
        log: log::Format,
    },
    /// Find every mistake of the configuration; nobody outside is asked, but with --online
    Check {
        /// Where the configuration is.
        #[command(flatten)]
        file: File,
        /// Ask Kafka and MongoDB as well: topics, permissions, retention, lag
        #[arg(long)]
        online: bool,
    },
    /// Make collections and indexes
    Init {
        /// Where the configuration is.
        #[command(flatten)]
        file: File,
        /// Only say what would be made
        #[arg(long)]
        dry_run: bool,
    },
    /// Account for every reading: nothing is missing, or exactly what is, and why
    #[command(after_help = AUDITS)]
    Audit {
        /// Where the configuration is.
        #[command(flatten)]
        file: File,
        /// What can be chosen.
        #[command(flatten)]
        options: audit::Options,
    },
    /// Look at what could not become a document, and send it back
    DeadLetters {
        /// What to do.
        #[command(subcommand)]
        what: DeadLetters,
    },
    /// When one reading passed each station, as far as it was kept
    Trace {
        /// Where the configuration is.
        #[command(flatten)]
        file: File,
        /// The reading's _id
        id: String,
    },
    /// Compare Kafka's topics with what they have to be like
    Topics {
        /// Plan or apply.
        #[command(subcommand)]
        command: topics::Command,
    },
    /// Compare the schemas of declared fields with the registry's
    Schema {
        /// Which way.
        #[command(subcommand)]
        command: schema::Command,
    },
    /// Show configurations
    Config {
        /// Which.
        #[command(subcommand)]
        which: Show,
    },
}

/// Which configuration to show.
#[derive(Debug, Subcommand)]
pub enum Show {
    /// An annotated file to start from
    Sample,
    /// A JSON Schema for editors, which then complete settings and underline mistakes
    Schema,
    /// The one in force, with defaults and without secrets
    Show {
        /// Where the configuration is.
        #[command(flatten)]
        file: File,
    },
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub struct File {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    #[arg(
        default_value = "/etc/cloud-sink/cloud-sink.toml",
        env = "CLOUD_SINK_CONFIG"
    )]
    config: PathBuf,
}

/// How a command ended without an error of its own.
pub type Ended = anyhow::Result<u8>;

/// Does what was asked; returns the exit code.
///
/// # Errors
/// What made it impossible; exit code 1.
#[expect(clippy::print_stdout, reason = "a command line prints its answer")]
pub async fn execute(command: Command, stop: CancellationToken) -> Ended {
    match command {
        Command::Run { file, log } => {
            let config = match file.load(Secrets::Read) {
                Ok(config) => config,
                Err(problems) => return Ok(refuse(&problems)),
            };
            log::start(log);
            hangup::answer(file, config.clone()).context("SIGHUP")?;
            run::run(config, stop).await.map(|()| 0)
        }
        Command::Check { file, online } => {
            let secrets = if online {
                Secrets::Read
            } else {
                Secrets::Leave
            };
            match file.load(secrets) {
                Ok(config) if online => check::online(&file, &config).await,
                Ok(config) => {
                    println!("{}", file.summary(&config));
                    Ok(0)
                }
                Err(problems) => Ok(refuse(&problems)),
            }
        }
        Command::Init { file, dry_run } => match file.load(Secrets::Read) {
            Ok(config) => init(&config, dry_run).await,
            Err(problems) => Ok(refuse(&problems)),
        },
        Command::Audit { file, options } => match file.load(Secrets::Read) {
            Ok(config) => audit::run(&config, &options).await,
            Err(problems) => Ok(refuse(&problems)),
        },
        Command::DeadLetters { what } => what.execute().await,
        Command::Trace { file, id } => match file.load(Secrets::Read) {
            Ok(config) => match trace::trace(&config, &id).await {
                Err(error) => tell_of_kafka(error, &config),
                ended => ended,
            },
            Err(problems) => Ok(refuse(&problems)),
        },
        Command::Topics { command } => topics::topics(command).await,
        Command::Schema { command } => schema::schema(command),
        Command::Config {
            which: Show::Sample,
        } => {
            print!("{}", config::SAMPLE);
            Ok(0)
        }
        Command::Config {
            which: Show::Schema,
        } => {
            println!("{:#}", config::schema());
            Ok(0)
        }
        Command::Config {
            which: Show::Show { file },
        } => match file.load(Secrets::Leave) {
            Ok(config) => {
                print!("{}", config.show());
                Ok(0)
            }
            Err(problems) => Ok(refuse(&problems)),
        },
    }
}

impl File {
    fn load(&self, secrets: Secrets) -> Result<Config, Vec<Problem>> {
        config::load(&self.config, secrets)
    }

    fn summary(&self, config: &Config) -> String {
        let routes = config.routes.len();
        let path = self.config.display();
        let mut summary = format!("config     {path}   ok   {routes} route{}", plural(routes));
        if let Some(registry) = &config.kafka.client.registry {
            let user = registry.username.as_deref().unwrap_or("nobody");
            summary += &format!("\nschema     {}  as {user}", registry.url);
        }
        summary
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[expect(clippy::print_stderr, reason = "a command line prints its answer")]
fn refuse(problems: &[Problem]) -> u8 {
    for problem in problems {
        eprintln!("{problem}");
    }
    let count = problems.len();
    eprintln!("{count} problem{}", plural(count));
    exit::CONFIG
}

#[expect(clippy::print_stdout, reason = "a command line prints its answer")]
async fn init(config: &Config, dry_run: bool) -> Ended {
    let store = open_store(config).await?;
    let database = &config.mongodb.database;
    for index in store::schema::plan(&config.routes) {
        let keys: Vec<&String> = index.keys.keys().collect();
        let kind = match (index.expires, index.series) {
            (true, _) => " (removes what is past)",
            (false, Some(_)) => " (time series)",
            (false, None) => "",
        };
        if !dry_run && let Err(outage) = store.make(&index).await {
            println!(
                "{database}.{}  {}  FAIL {outage}",
                index.collection, index.name
            );
            return Ok(exit::UNAVAILABLE);
        }
        let done = if dry_run { "would make" } else { "ok" };
        println!(
            "{database}.{}  {}  {keys:?}{kind}  {done}",
            index.collection, index.name
        );
    }
    for declared in store::validator::plan(config) {
        let collection = &declared.collection;
        let what = format!(
            "{} declared field{}{}",
            declared.fields.len(),
            plural(declared.fields.len()),
            if declared.validate { ", validator" } else { "" }
        );
        if dry_run {
            println!("{database}.{collection}  {what}  would declare");
            continue;
        }
        match store.declare(&declared).await {
            Err(outage) => {
                println!("{database}.{collection}  {what}  FAIL {outage}");
                return Ok(exit::UNAVAILABLE);
            }
            Ok(unlike) => {
                println!("{database}.{collection}  {what}  ok");
                for unlike in unlike {
                    let (field, stored) = (unlike.field, unlike.stored);
                    println!("           {field} is stored as {stored}, and stays so");
                }
            }
        }
    }
    Ok(0)
}

/// Says where Kafka was asked, why it did not answer and what to do about it; any other error is left as it is.
#[expect(clippy::print_stderr, reason = "a command line prints its answer")]
fn tell_of_kafka(error: anyhow::Error, config: &Config) -> Ended {
    let (message, fix) = match error.downcast_ref() {
        Some(error @ ConsumerError::Unreachable(reason)) => {
            let fix = remedy::of_connection(reason, &config.kafka.client.properties);
            (error.to_string(), fix)
        }
        Some(ConsumerError::Denied { grant }) => ("not allowed".to_owned(), grant.clone()),
        _ => return Err(error),
    };
    let brokers = config.kafka.client.properties.get("bootstrap.servers");
    let brokers = brokers.map_or("", String::as_str);
    eprintln!("kafka      {brokers}   FAIL {message}");
    eprintln!("           fix: {fix}");
    Ok(exit::UNAVAILABLE)
}

/// The exit code of an error: a configuration that only librdkafka, the driver or the place of a secret
/// could refuse is still a wrong configuration.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let settings = |cause: &ConsumerError| matches!(cause, ConsumerError::Settings(_));
    let configuration = error.downcast_ref::<ConsumerError>().is_some_and(settings)
        || error.downcast_ref::<StoreError>().is_some()
        || error.downcast_ref::<SecretError>().is_some();
    let unreachable = |cause: &ConsumerError| {
        matches!(
            cause,
            ConsumerError::Unreachable(_) | ConsumerError::Denied { .. }
        )
    };
    let away = error
        .downcast_ref::<ConsumerError>()
        .is_some_and(unreachable)
        || error.downcast_ref::<Outage>().is_some();
    match (configuration, away) {
        (true, _) => exit::CONFIG,
        (false, true) => exit::UNAVAILABLE,
        (false, false) => 1,
    }
}

/// Cancelled by SIGTERM or SIGINT; a second signal ends the process at once.
///
/// # Errors
/// When signals cannot be listened for.
pub fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stopping.is_cancelled() {
                // Nothing is lost: what was not settled is read again.
                std::process::exit(1);
            }
            stopping.cancel();
        }
    });
    Ok(stop)
}
