//! Log lines: logfmt on a pipe, colours on a terminal, JSON by flag; always on stderr.

use std::io::{self, IsTerminal};

use tracing_subscriber::{
    EnvFilter, Layer, layer::SubscriberExt, registry, util::SubscriberInitExt,
};

/// `--log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// logfmt, or coloured lines on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `RUST_LOG` chooses levels; the default is `info`.
pub fn start(format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let layer = match format {
        Format::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(io::stderr)
            .boxed(),
        Format::Text if io::stderr().is_terminal() => tracing_subscriber::fmt::layer()
            .with_target(false)
            .with_writer(io::stderr)
            .boxed(),
        Format::Text => tracing_logfmt::builder()
            .with_target(false)
            .layer()
            .with_writer(io::stderr)
            .boxed(),
    };
    // Fails only when a test has started logging before.
    if registry().with(filter).with(layer).try_init().is_err() {
        tracing::debug!("logging was started before");
    }
}
