//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `probe` until it has an answer.
///
/// # Errors
/// There was none within `within`: what was waited for, and the probe's last error. An error of the
/// probe counts as "not yet".
pub fn until<T>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(10);
    loop {
        let last = match probe() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if start.elapsed() >= within {
            match last {
                Some(error) => return Err(error.context(format!("waited {within:?} for {what}"))),
                None => bail!("waited {within:?} for {what} in vain"),
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Waits until `count` has reached `wanted`, for as long as it grows.
///
/// # Errors
/// It did not grow for `patience`. An error of `count` counts as "not grown".
pub fn while_it_grows(
    what: &str,
    patience: Duration,
    wanted: u64,
    mut count: impl FnMut() -> Result<u64>,
) -> Result<()> {
    let mut before = 0;
    while before < wanted {
        before = until(what, patience, || {
            let now = count()?;
            Ok((now >= wanted || now > before).then_some(now))
        })?;
    }
    Ok(())
}

/// [`until`], for a condition without an answer.
///
/// # Errors
/// As [`until`].
pub fn until_true(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    until(what, within, || Ok(condition()?.then_some(())))
}
