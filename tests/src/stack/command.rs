//! `dev/stack`.

use std::{io::Read, time::Instant};

use anyhow::{Result, bail};

use super::Stack;
use crate::service::Kind;

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

/// A stack that lives as long as whoever holds the other end of our input.
///
/// # Errors
/// Something did not start or could not be ended.
pub fn hold() -> Result<()> {
    let stack = Stack::up(&Kind::ALL)?;
    let environment: std::collections::BTreeMap<_, _> = stack.environment().into_iter().collect();
    println!("{}", serde_json::to_string(&environment)?);
    std::io::stdin().read_to_end(&mut Vec::new())?;
    stack.down()
}
