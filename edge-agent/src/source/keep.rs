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

/// When a link is tried again. Pure.
#[derive(Debug)]
struct Schedule {
    backoff: Backoff,
    opened: Option<Instant>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            backoff: Backoff::new(REOPEN),
            opened: None,
        }
    }
}

impl Schedule {
    fn opened(&mut self, now: Instant) {
        self.opened = Some(now);
    }

    /// It is gone, or could not be opened: how long to wait before the next try; `random` is any number.
    fn failed(&mut self, now: Instant, random: u64) -> Duration {
        // A link that breaks as soon as it is open does not work.
        if self
            .opened
            .take()
            .is_some_and(|at| now.duration_since(at) >= REOPEN)
        {
            self.backoff.reset();
        }
        self.backoff.wait(random)
    }
}

/// Runs until the shutdown or the end of ingest.
pub(super) fn keep<L>(
    intake: &Intake,
    shutdown: &CancellationToken,
    open: impl Fn() -> Result<L, String>,
    serve: impl Fn(L) -> End,
) -> Result<(), SourceError> {
    let mut schedule = Schedule::default();
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
                schedule.opened(Instant::now());
                match serve(link) {
                    End::Gone(why) => why,
                    End::Shutdown => break,
                    // Ingest may end before us once both were asked to.
                    End::Closed if shutdown.is_cancelled() => break,
                    End::Closed => return Err(Closed.into()),
                }
            }
        };
        intake.link(LinkState::Down(why));
        pause(shutdown, schedule.failed(Instant::now(), random()));
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

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The pauses of a link that worked for an hour, was unplugged, and is there again after `away`; the try behind
    /// the last of them finds it.
    fn pauses(away: Duration, random: u64) -> Vec<Duration> {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.opened(start);
        let gone = start + 3600 * 1000 * MS;
        let (mut now, mut pauses) = (gone, Vec::new());
        while pauses.is_empty() || now < gone + away {
            let pause = schedule.failed(now, random);
            pauses.push(pause);
            now += pause;
        }
        pauses
    }

    #[test]
    fn a_line_that_is_there_again_is_opened_within_three_seconds_and_nobody_spins_until_then() {
        for random in [0, 1, 333, 500, 1000, 1001, u64::MAX] {
            for away in (0..30_000).step_by(77) {
                let pauses = pauses(away * MS, random);
                let late = pauses.iter().sum::<Duration>().saturating_sub(away * MS);
                assert!(
                    late <= 3000 * MS,
                    "{random}: back after {away} ms, open {late:?} later"
                );
                let least = pauses.iter().min().copied();
                assert!(least >= Some(125 * MS), "{random}, {away}: {pauses:?}");
            }
            // Four tries in the first seconds, then one in a second and a half at most.
            let tries = pauses(3_600_000 * MS, random).len();
            assert!(tries <= 4 + 2400, "{random}: {tries} tries in an hour");
        }
    }

    #[test]
    fn a_line_that_breaks_as_soon_as_it_is_open_is_tried_no_more_often_than_one_that_is_not_there()
    {
        let mut now = Instant::now();
        let mut schedule = Schedule::default();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            schedule.opened(now);
            now += 10 * MS;
            let pause = schedule.failed(now, 0).as_millis();
            pauses.push(pause);
            now += MS * u32::try_from(pause).unwrap();
        }
        assert_eq!(
            pauses,
            [125, 250, 500, 1000, 1500, 1500, 1500, 1500, 1500, 1500]
        );
        schedule.opened(now);
        assert_eq!(schedule.failed(now + REOPEN, 0), 125 * MS, "it worked");
    }
}
