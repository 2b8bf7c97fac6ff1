//! `cloud-sink`: arguments in, exit code out.

use clap::Parser;
use cloud_sink::cli::{self, Cli};

/// A record is allocated by one thread and freed by another, some dozens of pieces each: glibc's arenas take
/// turns at that, and keep what they had.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The loop runs on the first thread; one more carries what runs beside it, and that takes half of what the loop
/// does. Each further one keeps memory of its own for what the others allocate, and a machine may have dozens.
#[tokio::main(worker_threads = 1)]
async fn main() {
    let Cli { command } = Cli::parse();
    let result = match cli::stop_on_signals() {
        Ok(stop) => cli::execute(command, stop).await,
        Err(error) => Err(error),
    };
    let code = result.unwrap_or_else(|error| {
        if tracing::dispatcher::has_been_set() {
            tracing::error!(error = format!("{error:#}"), "stopped by an error");
        } else {
            eprintln!("cloud-sink: {error:#}");
        }
        cli::exit_code(&error)
    });
    // Returning would end the runtime before the tasks that the MongoDB driver leaves behind, which panic then.
    std::process::exit(code.into());
}
