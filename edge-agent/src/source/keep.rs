//! Keeps a link that belongs to a thread: opens it, serves it, and tries again when it is gone, for ever.

use std::{
    io::{ErrorKind, Read},
    thread,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    SourceError,
    backoff::{Backoff, random},
    intake::Intake,
};
use crate::{ingest::Closed, link::LinkState};

/// Longest sleep before a shutdown is noticed.
pub(super) const IDLE: Duration = Duration::from_millis(200);
/// Longest wait before the link is tried again.
const REOPEN: Duration = Duration::from_secs(3);

/// Why an open link was left.
#[derive(Debug)]
pub(super) enum End {
    Gone(String),
    Closed,
    Shutdown,
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

/// The link broke while doing `what`.
pub(super) fn gone(what: &str, error: &std::io::Error) -> End {
    End::Gone(format!("{what}: {error}"))
}

/// What a link with a read timeout gives now; `ended` is said of one that gives nothing any more.
pub(super) fn read(
    link: &mut impl Read,
    buffer: &mut [u8],
    ended: &str,
) -> Result<Option<usize>, End> {
    use ErrorKind::{Interrupted, TimedOut, WouldBlock};
    match link.read(buffer) {
        Ok(0) => Err(End::Gone(ended.to_owned())),
        Ok(read) => Ok(Some(read)),
        Err(error) if matches!(error.kind(), TimedOut | Interrupted | WouldBlock) => Ok(None),
        Err(error) => Err(gone("read", &error)),
    }
}

/// Runs until the shutdown or the end of ingest.
pub(super) fn keep<L>(
    intake: &Intake,
    shutdown: &CancellationToken,
    open: impl Fn() -> Result<L, String>,
    serve: impl Fn(L) -> End,
) -> Result<(), SourceError> {
    let mut backoff = Backoff::new(REOPEN);
    let mut opened_before = false;
    intake.link(LinkState::Connecting);
    while !shutdown.is_cancelled() {
        let why = match open() {
            Err(why) => why,
            Ok(link) => {
                if std::mem::replace(&mut opened_before, true) {
                    intake.counters.reconnected();
                }
                intake.link(LinkState::Up);
                let since = Instant::now();
                let end = serve(link);
                if since.elapsed() >= REOPEN {
                    backoff.reset();
                }
                match end {
                    End::Gone(why) => why,
                    End::Shutdown => break,
                    // Ingest may end before us once both were asked to.
                    End::Closed if shutdown.is_cancelled() => break,
                    End::Closed => return Err(Closed.into()),
                }
            }
        };
        intake.link(LinkState::Down(why));
        pause(shutdown, backoff.wait(random()));
    }
    Ok(())
}

fn pause(shutdown: &CancellationToken, wait: Duration) {
    let until = Instant::now() + wait;
    while !shutdown.is_cancelled() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(IDLE));
    }
}
