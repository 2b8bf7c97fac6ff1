//! `dev/stack`.

use std::{
    ffi::OsString,
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result, bail};

use super::Stack;
use crate::{
    cache::Cache,
    service::{Kind, Service, no_series},
};

/// Starts what does not run yet, and leaves it running.
///
/// # Errors
/// Something did not start.
pub fn up(kinds: &[Kind]) -> Result<()> {
    let kinds = if kinds.is_empty() { &Kind::ALL } else { kinds };
    let start = Instant::now();
    let mut stack = match Stack::current()? {
        Some(stack) => stack,
        None => Stack::empty()?,
    };
    stack.add(kinds)?;
    stack.leave_running()?;
    status()?;
    println!("ready after {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Ends what [`up`] started.
///
/// # Errors
/// Something could not be ended.
pub fn down() -> Result<()> {
    match Stack::current()? {
        Some(stack) => stack.down(),
        None => {
            println!("no stack runs");
            Ok(())
        }
    }
}

/// Prints what runs; fails when something that should run does not.
///
/// # Errors
/// No stack, or not all of it, runs.
pub fn status() -> Result<()> {
    let Some(mut stack) = Stack::current()? else {
        bail!("no stack runs; start one with dev/stack up");
    };
    let mut all = true;
    for service in stack.services() {
        let (pid, memory) = match service
            .process()
            .filter(|process| process.identity().runs())
        {
            Some(process) => {
                let memory = process.peak_memory().unwrap_or_default() / (1024 * 1024);
                (process.identity().pid.to_string(), format!("{memory} MB"))
            }
            None => {
                all = false;
                ("-".to_owned(), "does not run".to_owned())
            }
        };
        println!(
            "{:<10} {:<56} pid {pid:<8} {memory}",
            service.kind().name(),
            service.address(),
        );
    }
    println!("logs and data in {}", stack.dir().display());
    if !all {
        bail!("not everything runs; dev/stack up starts it again");
    }
    Ok(())
}

/// Prints shell lines to `eval`.
///
/// # Errors
/// No stack runs.
pub fn env() -> Result<()> {
    let Some(stack) = Stack::current()? else {
        bail!("no stack runs; start one with dev/stack up");
    };
    for (variable, address) in stack.environment() {
        println!("export {variable}='{address}'");
    }
    Ok(())
}

/// Runs a command with the environment of a stack: of the one that runs, else of one that lives as
/// long as the command. Returns the command's exit code.
///
/// # Errors
/// Something did not start or could not be ended.
pub fn run(command: &[OsString]) -> Result<ExitCode> {
    let (program, arguments) = command.split_first().context("no command was given")?;
    // Before the tests, which are timed and would each wait for it.
    Cache::open()?.forget_failures()?;
    if let Some(reason) = no_series() {
        eprintln!("the tests of time series will be skipped: {reason}");
    }
    let given = |kind: &Kind| std::env::var_os(kind.variable()).is_some();
    let mut current = Stack::current()?;
    if let Some(stack) = &mut current
        && !stack.services().iter_mut().all(Service::runs)
    {
        current = None;
    }
    let own = match &current {
        Some(_) => None,
        None => {
            let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| !given(kind)).collect();
            Some(Stack::up(&kinds)?)
        }
    };
    let mut environment = Vec::new();
    for stack in current.iter().chain(&own) {
        environment.extend(stack.environment());
    }
    environment.retain(|(variable, _)| std::env::var_os(variable).is_none());
    // Ctrl-C reaches the command as well, which is in our process group; we wait for its end.
    let interrupt = crate::interrupt::Interrupt::catch()?;
    let status = Command::new(program)
        .args(arguments)
        .envs(environment)
        .status();
    drop(interrupt);
    if let Some(own) = own {
        own.down()?;
    }
    let status = status.with_context(|| format!("start {}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
