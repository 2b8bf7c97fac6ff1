//! The command line: arguments, logging, exit code. Everything else is in the library.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};
use hardware_sim::{
    Options, Scenario, Sim,
    device::Kind,
    scenario::{ScenarioError, Span},
    signal::Moment,
    verify::mongodb::{self, Place, VerifyError},
};
use protocol::GatewayId;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{
    EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Plays the devices of a plant, with faults, and keeps the truth.
#[derive(Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Form of the log on stderr.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log: LogFormat,
}

const EXAMPLES: &str = "\
Examples:
  hardware-sim pty meter                            one meter, on the line pty/meter
  hardware-sim pty nmea --every 200ms               what a satellite receiver says, on pty/nmea
  hardware-sim run plant.toml --mqtt mqtt://127.0.0.1:1883 --truth truth.jsonl
  hardware-sim verify --truth truth.jsonl --mongodb mongodb://127.0.0.1 --gateway gw7

Exit codes: 0 done, 1 failed, or MongoDB differs from the truth, 2 wrong usage, 69 MongoDB is unavailable, \
78 wrong scenario";

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Plays a scenario until SIGTERM, SIGINT or --duration, then waits for acknowledgements.
    Run(Run),
    /// Plays one device on a serial line, without a scenario.
    Pty(Pty),
    /// Feeds a recording into a serial line, at its pace, to whoever opens it.
    Play(Play),
    /// Holds MongoDB against the truth; exit code 1 when not clean.
    Verify(Verify),
    /// Lists what can be played.
    Devices,
}

#[derive(clap::Args)]
struct Run {
    /// What to play; TOML.
    scenario: PathBuf,
    /// The broker, as mqtt://host:port.
    #[arg(long, env = "MQTT_URL")]
    mqtt: Option<String>,
    #[command(flatten)]
    how: How,
}

#[derive(clap::Args)]
struct Pty {
    /// meter, climate, air-quality or machine, which speak our frames; or nmea, dsmr, ve-direct, pms5003, sds011 or
    /// mh-z19, as they are bought.
    #[arg(value_parser = Scenario::one_line)]
    device: Scenario,
    /// One reading each.
    #[arg(long, default_value = "1s")]
    every: Span,
    #[command(flatten)]
    how: How,
}

#[derive(clap::Args)]
struct How {
    /// Of signals and faults; overrides the scenario's.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the truth goes; JSON Lines; must not exist.
    #[arg(long)]
    truth: Option<PathBuf>,
    /// Where the serial lines appear, each under the name of its device.
    #[arg(long, default_value = "pty")]
    pty_dir: PathBuf,
    /// End after this; without it, at a signal.
    #[arg(long)]
    duration: Option<Span>,
    /// Longest wait for acknowledgements at the end.
    #[arg(long, default_value = "30s")]
    settle: Span,
    /// One JSON line of counters a second on stdout.
    #[arg(long)]
    progress: bool,
}

#[derive(clap::Args)]
struct Play {
    /// Bytes as they came from a device.
    recording: PathBuf,
    /// Where the line appears.
    #[arg(long, default_value = "pty")]
    pty_dir: PathBuf,
    /// Its name there; default the recording's.
    #[arg(long)]
    name: Option<String>,
    /// Speed of the line; ten bits a byte.
    #[arg(long, default_value_t = 9600)]
    baud: u32,
    /// From the beginning again, until a signal.
    #[arg(long)]
    repeat: bool,
}

#[derive(clap::Args)]
struct Verify {
    /// What `run` wrote.
    #[arg(long)]
    truth: PathBuf,
    /// mongodb://…
    #[arg(long, env = "MONGODB_URI", hide_env_values = true)]
    mongodb: String,
    /// Database of the readings.
    #[arg(long, default_value = "telemetry")]
    database: String,
    /// Collection of the readings.
    #[arg(long, default_value = "readings")]
    collection: String,
    /// Whose readings.
    #[arg(long, default_value = "gw")]
    gateway: GatewayId,
    /// Compare again until clean, for up to this long.
    #[arg(long, default_value = "0s")]
    wait: Span,
    /// Form of the verdict on stdout.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(arguments.log);
    let result = match arguments.command {
        Command::Play(arguments) => feed(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Run(arguments) => run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Pty(arguments) => pty(arguments).map(|()| ExitCode::SUCCESS),
        Command::Verify(arguments) => verify(arguments),
        Command::Devices => list_devices().map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        tracing::error!(error = format!("{error:#}"), "failed");
        exit_code(&error)
    })
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let layer = match format {
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(io::stderr)
            .boxed(),
        LogFormat::Text if io::stderr().is_terminal() => tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_target(false)
            .boxed(),
        LogFormat::Text => tracing_logfmt::builder()
            .with_target(false)
            .with_span_name(false)
            .with_span_path(false)
            .layer()
            .with_writer(io::stderr)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .init();
}

/// 78: the scenario is wrong; 69: MongoDB is not there; 1: anything else, also a verdict that is not clean.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<ScenarioError>() {
        ExitCode::from(78)
    } else if matches!(error.downcast_ref(), Some(VerifyError::Mongodb(_))) {
        ExitCode::from(69)
    } else {
        ExitCode::FAILURE
    }
}

fn run(run: &Run) -> Result<()> {
    let text = std::fs::read_to_string(&run.scenario)
        .with_context(|| format!("scenario {}", run.scenario.display()))?;
    let scenario: Scenario =
        (text.parse()).with_context(|| format!("scenario {}", run.scenario.display()))?;
    play(&scenario, &run.how, run.mqtt.clone())
}

fn pty(arguments: Pty) -> Result<()> {
    let mut scenario = arguments.device;
    for device in &mut scenario.devices {
        device.every = arguments.every.0;
        let line = arguments.how.pty_dir.join(&device.id);
        tracing::info!(line = %line.display(), "a serial line");
    }
    play(&scenario, &arguments.how, None)
}

/// Plays until the end, then waits for acknowledgements.
fn play(scenario: &Scenario, how: &How, mqtt: Option<String>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let options = Options {
        seed: how.seed,
        truth: how.truth.clone(),
        mqtt,
        pty_dir: how.pty_dir.clone(),
    };
    let sim = Sim::start(scenario, &options)?;
    tracing::info!(devices = scenario.devices.len(), "playing");
    runtime.block_on(wait_for_end(&sim, how))?;
    tracing::info!(settle = ?how.settle.0, "no new readings, waiting for acknowledgements");
    let counts = sim.stop(how.settle.0)?;
    if how.progress {
        print_line(&counts)?;
    }
    tracing::info!(
        sent = counts.sent,
        acknowledged = counts.acknowledged,
        resent = counts.resent,
        faults = counts.faults,
        "ended"
    );
    Ok(())
}

fn feed(arguments: &Play) -> Result<()> {
    let place = arguments.recording.display();
    let recording = std::fs::read(&arguments.recording).with_context(|| place.to_string())?;
    let stem = arguments.recording.file_stem().unwrap_or_default();
    let name = (arguments.name.clone()).unwrap_or_else(|| stem.to_string_lossy().into_owned());
    tracing::info!(line = %arguments.pty_dir.join(&name).display(), "waiting for somebody to open it");
    let sent = hardware_sim::play::play(
        &recording,
        &arguments.pty_dir,
        &name,
        arguments.baud / 10,
        arguments.repeat,
        || true,
    )?;
    tracing::info!(bytes = sent, "ended");
    Ok(())
}

async fn wait_for_end(sim: &Sim, how: &How) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let duration = how.duration.map_or(Duration::MAX, |span| span.0);
    let end = tokio::time::sleep(duration);
    tokio::pin!(end);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = &mut end => return Ok(()),
            _ = second.tick() => {
                if sim.has_failed() {
                    return Ok(());
                }
                if how.progress {
                    print_line(&sim.counts())?;
                }
            }
        }
    }
}

fn verify(arguments: Verify) -> Result<ExitCode> {
    let place = Place {
        uri: arguments.mongodb,
        database: arguments.database,
        collection: arguments.collection,
        gateway: arguments.gateway,
    };
    let deadline = Instant::now() + arguments.wait.0;
    let runtime = tokio::runtime::Runtime::new()?;
    let verdict = runtime.block_on(async {
        loop {
            let verdict = mongodb::verify(&arguments.truth, &place).await?;
            if verdict.clean || Instant::now() >= deadline {
                return Ok::<_, VerifyError>(verdict);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })?;
    match arguments.format {
        Format::Text => writeln!(io::stdout(), "{verdict}")?,
        Format::Json => print_line(&verdict)?,
    }
    Ok(if verdict.clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn list_devices() -> Result<()> {
    let mut out = io::stdout().lock();
    for kind in Kind::ALL {
        writeln!(out, "{:<12} {}", kind.as_str(), kind.describe())?;
        let names = kind.measure(&Moment::new(0, "d", 0, 0, 1000));
        let names: Vec<_> = names.into_iter().map(|(name, _)| name).collect();
        writeln!(out, "             {}", names.join(" "))?;
    }
    Ok(())
}

fn print_line(line: &impl serde::Serialize) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, line)?;
    writeln!(out)?;
    Ok(out.flush()?)
}
