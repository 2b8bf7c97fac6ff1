//! The service manager: told when the process has started, that it works, and that it ends.
//!
//! A process that answers on its sockets may have stopped working all the same: a call into a store or a
//! driver that never returns keeps one thread for ever, and nothing ends. So what is reported as alive is
//! not the process but its **loops**. Each loop that readings pass through beats a [`Pulse`] every turn,
//! also while it waits for something that is away, and [`Watchdog`] feeds systemd's watchdog only while
//! every pulse is younger than half of `WatchdogSec`. A loop that stands still for longer ends the feeding,
//! and systemd starts the process again, which costs nothing: what was not confirmed comes again.
//!
//! **Reported ready** is a process whose loops run. A peer that is away is no reason not to be: it is a
//! state of the links, on the status page, and a start that waited for it would be given up and begun again
//! for as long as the peer is away.
//!
//! Who is not started by systemd (`NOTIFY_SOCKET`, `WATCHDOG_USEC`) has the same watch, which then only
//! says what it sees in the log.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use tokio::time::{self, MissedTickBehavior};
use tracing::{error, info, warn};

/// `WatchdogSec` where there is none.
const UNWATCHED: Duration = Duration::from_secs(120);
/// Longest time between two looks at the pulses.
const LOOK: Duration = Duration::from_secs(5);

/// The signs of life of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pulses(Arc<Loops>);

#[derive(Debug)]
struct Loops {
    since: Instant,
    /// Few: one for each thread that readings pass through. A loop that has ended is gone from it.
    beats: Mutex<Vec<(String, Weak<AtomicU64>)>>,
}

/// One loop's sign of life. The loop is watched for as long as one of these exists.
#[derive(Debug, Clone)]
pub struct Pulse {
    since: Instant,
    /// Milliseconds from `since` to the last beat.
    last: Arc<AtomicU64>,
}

/// A loop that makes no progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    /// Its name.
    pub name: String,
    /// Since its last beat.
    pub silence: Duration,
}

impl Default for Pulses {
    fn default() -> Self {
        Self(Arc::new(Loops {
            since: Instant::now(),
            beats: Mutex::default(),
        }))
    }
}

impl Pulses {
    /// Watches one more loop, which begins with a beat.
    #[must_use]
    pub fn watch(&self, name: impl Into<String>) -> Pulse {
        let pulse = Pulse {
            since: self.0.since,
            last: Arc::default(),
        };
        pulse.beat();
        let mut beats = self.0.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats.push((name.into(), Arc::downgrade(&pulse.last)));
        pulse
    }

    /// The loop that has been silent for longest, if that is longer than `patience`.
    #[must_use]
    pub fn silent(&self, now: Instant, patience: Duration) -> Option<Silent> {
        let now = now.saturating_duration_since(self.0.since);
        let mut beats = self.0.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats.retain(|(_, last)| last.strong_count() > 0);
        let silences = beats.iter().filter_map(|(name, last)| {
            let last = Duration::from_millis(last.upgrade()?.load(Ordering::Relaxed));
            Some((name, now.saturating_sub(last)))
        });
        let (name, silence) = silences.max_by_key(|(_, silence)| *silence)?;
        (silence > patience).then(|| Silent {
            name: name.clone(),
            silence,
        })
    }
}

impl Pulse {
    /// The loop goes round.
    pub fn beat(&self) {
        self.beat_at(Instant::now());
    }

    fn beat_at(&self, now: Instant) {
        let since = now.saturating_duration_since(self.since).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }
}

/// Feeds systemd's watchdog for as long as every loop goes round.
#[derive(Debug)]
pub struct Watchdog {
    pulses: Pulses,
    patience: Duration,
    look: time::Interval,
    starved: Option<String>,
}

impl Watchdog {
    /// A watchdog as often as systemd wants to be fed. To be made in a tokio runtime.
    #[must_use]
    pub fn new(pulses: Pulses) -> Self {
        let every = sd_notify::watchdog_enabled().unwrap_or(UNWATCHED);
        let mut look = time::interval((every / 8).clamp(Duration::from_millis(1), LOOK));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            pulses,
            patience: every / 2,
            look,
            starved: None,
        }
    }

    /// Feeds it, and never returns. Cancel safe.
    pub async fn feed(&mut self) -> Infallible {
        loop {
            self.look.tick().await;
            if self.is_fed(Instant::now()) {
                tell(&[NotifyState::Watchdog]);
            }
        }
    }

    /// Whether every loop goes round; a change is told in the log.
    fn is_fed(&mut self, now: Instant) -> bool {
        match (self.pulses.silent(now, self.patience), &self.starved) {
            (None, None) => true,
            (None, Some(name)) => {
                info!(name, "loop goes on");
                self.starved = None;
                true
            }
            (Some(silent), None) => {
                let silence_s = silent.silence.as_secs();
                let name = silent.name;
                error!(
                    name,
                    silence_s, "loop makes no progress, systemd's watchdog is not fed"
                );
                self.starved = Some(name);
                false
            }
            (Some(_), Some(_)) => false,
        }
    }
}

/// The process has started: its loops run.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The process ends, and will have ended `within` this time.
pub fn stopping(within: Duration) {
    let within = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(within),
    ]);
}

/// Nothing happens where nobody is to be told.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd cannot be told how things are");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn at(pulses: &Pulses, seconds: u64) -> Instant {
        pulses.0.since + Duration::from_secs(seconds)
    }

    #[test]
    fn the_loop_that_has_been_silent_for_longest_is_named() {
        let pulses = Pulses::default();
        let (commit, forward) = (pulses.watch("commit"), pulses.watch("forward"));
        let beats = [(&commit, 20), (&forward, 22), (&commit, 31)];
        let mut silent = Vec::new();
        for (pulse, second) in beats {
            pulse.beat_at(at(&pulses, second));
            let found = pulses.silent(at(&pulses, second + 2), PATIENCE);
            silent.push(found.map(|silent| (silent.name, silent.silence.as_secs())));
        }
        assert_eq!(
            silent,
            [
                Some(("forward".into(), 22)),
                None,
                Some(("forward".into(), 11))
            ]
        );
    }

    #[test]
    fn a_loop_that_has_ended_is_not_waited_for() {
        let pulses = Pulses::default();
        let pulse = pulses.watch("drain");
        assert!(pulses.silent(at(&pulses, 60), PATIENCE).is_some());
        drop(pulse);
        assert_eq!(pulses.silent(at(&pulses, 60), PATIENCE), None);
    }

    #[tokio::test]
    async fn a_frozen_loop_ends_the_feeding_until_it_goes_on() {
        let pulses = Pulses::default();
        let pulse = pulses.watch("commit");
        let mut watchdog = Watchdog::new(pulses.clone());
        let half = watchdog.patience.as_secs();
        // The second of a look, of the last beat before it, and whether the watchdog is fed.
        let looks = [
            (half, 1, true),
            (half + 2, 1, false),
            (3 * half, 1, false),
            (3 * half + 1, 3 * half, true),
        ];
        for (second, beat, fed) in looks {
            pulse.beat_at(at(&pulses, beat));
            assert_eq!(watchdog.is_fed(at(&pulses, second)), fed, "second {second}");
        }
    }

    #[tokio::test]
    async fn a_process_without_loops_is_fed() {
        let pulses = Pulses::default();
        let hour = at(&pulses, 3600);
        assert!(Watchdog::new(pulses).is_fed(hour));
    }
}
