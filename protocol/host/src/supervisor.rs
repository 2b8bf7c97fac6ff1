//! The service manager: told when the process has started, that it works, and that it ends.
//!
//! A process that answers on its sockets may have stopped working all the same: a call into a store or a
//! driver that never returns keeps one thread for ever, and nothing ends. So what is reported as alive is
//! not the process but its **loops**. Each loop that readings pass through beats a [`Pulse`] every turn,
//! also while it waits for something that is away. A loop is **silent** when its pulse is older than half of
//! `WatchdogSec`, and three things follow from that one judgement: [`Watchdog`] feeds systemd's watchdog no
//! more, so that systemd starts the process again; `/livez` answers 503, for whoever asks instead of being
//! told; and where neither ends the process, it ends itself ([`Watchdog::feed`]). All that costs nothing: what
//! was not confirmed comes again.
//!
//! **Reported ready** is a process whose loops run. A peer that is away is no reason not to be: it is a
//! state of the links, on the status page, and a start that waited for it would be given up and begun again
//! for as long as the peer is away.
//!
//! Who is not started by systemd (`NOTIFY_SOCKET`, `WATCHDOG_USEC`) is watched as the unit would have it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use tokio::time::{self, MissedTickBehavior};
use tracing::{error, info, warn};

/// Longest time between two looks at the pulses.
const LOOK: Duration = Duration::from_secs(5);
/// A process does not end itself for a silence that is shorter, whatever systemd wants. Disks that work were
/// seen to stall for some seconds, cards that collect their garbage for thirty.
const SHORTEST: Duration = Duration::from_secs(120);

/// The signs of life of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pulses(Arc<Loops>);

#[derive(Debug)]
struct Loops {
    since: Instant,
    /// `WatchdogSec`.
    watchdog: Duration,
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

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, silence } = self;
        write!(f, "{name} has made no progress for {} s", silence.as_secs())
    }
}

impl Pulses {
    /// Of a process that is watched as often as systemd wants, or where it is not there, as often as
    /// `watchdog`, the `WatchdogSec` of the unit.
    #[must_use]
    pub fn new(watchdog: Duration) -> Self {
        Self(Arc::new(Loops {
            since: Instant::now(),
            watchdog: sd_notify::watchdog_enabled().unwrap_or(watchdog),
            beats: Mutex::default(),
        }))
    }

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

    /// The loop that makes no progress; of several, the one that has been silent for longest.
    #[must_use]
    pub fn silent(&self, now: Instant) -> Option<Silent> {
        let patience = self.0.watchdog / 2;
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
    look: time::Interval,
    starved: Option<String>,
}

/// What a look at the pulses showed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    Fed,
    Starved,
    /// For so long that it is no use to wait for systemd.
    Hopeless(Silent),
}

impl Watchdog {
    /// A watchdog as often as systemd wants to be fed. To be made in a tokio runtime.
    #[must_use]
    pub fn new(pulses: Pulses) -> Self {
        let every = pulses.0.watchdog / 8;
        let mut look = time::interval(every.clamp(Duration::from_millis(1), LOOK));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            pulses,
            look,
            starved: None,
        }
    }

    /// Feeds it. Returns the loop for which the process is to end itself, because nobody else has ended it.
    /// Cancel safe.
    pub async fn feed(&mut self) -> Silent {
        loop {
            self.look.tick().await;
            match self.look(Instant::now()) {
                Look::Fed => tell(&[NotifyState::Watchdog]),
                Look::Starved => {}
                Look::Hopeless(silent) => return silent,
            }
        }
    }

    /// Whether every loop goes round; a change is told in the log. The first look at a silence is never its
    /// last: a process that was stopped as a whole sees it as well, and its loops only have to be given the
    /// time to go round.
    fn look(&mut self, now: Instant) -> Look {
        let hopeless = self.pulses.0.watchdog.max(SHORTEST);
        match (self.pulses.silent(now), &self.starved) {
            (None, None) => Look::Fed,
            (None, Some(name)) => {
                info!(name, "loop goes on");
                self.starved = None;
                Look::Fed
            }
            (Some(silent), None) => {
                let silence_s = silent.silence.as_secs();
                let name = silent.name;
                error!(
                    name,
                    silence_s, "loop makes no progress, systemd's watchdog is not fed"
                );
                self.starved = Some(name);
                Look::Starved
            }
            (Some(silent), Some(_)) if silent.silence > hopeless => Look::Hopeless(silent),
            (Some(_), Some(_)) => Look::Starved,
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

    fn at(pulses: &Pulses, seconds: u64) -> Instant {
        pulses.0.since + Duration::from_secs(seconds)
    }

    #[test]
    fn the_loop_that_has_been_silent_for_longest_is_named() {
        let pulses = Pulses::new(Duration::from_secs(20));
        let (commit, forward) = (pulses.watch("commit"), pulses.watch("forward"));
        let beats = [(&commit, 20), (&forward, 22), (&commit, 31)];
        let mut silent = Vec::new();
        for (pulse, second) in beats {
            pulse.beat_at(at(&pulses, second));
            let found = pulses.silent(at(&pulses, second + 2));
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
        let pulses = Pulses::new(Duration::from_secs(20));
        let pulse = pulses.watch("drain");
        assert!(pulses.silent(at(&pulses, 60)).is_some());
        drop(pulse);
        assert_eq!(pulses.silent(at(&pulses, 60)), None);
    }

    #[tokio::test]
    async fn a_frozen_loop_ends_the_feeding_until_it_goes_on() {
        let pulses = Pulses::new(Duration::from_secs(200));
        let pulse = pulses.watch("commit");
        let mut watchdog = Watchdog::new(pulses.clone());
        // The second of a look, of the last beat before it, and whether the watchdog is fed.
        let looks = [
            (100, 1, Look::Fed),
            (102, 1, Look::Starved),
            (200, 1, Look::Starved),
            (301, 300, Look::Fed),
        ];
        for (second, beat, seen) in looks {
            pulse.beat_at(at(&pulses, beat));
            assert_eq!(watchdog.look(at(&pulses, second)), seen, "second {second}");
        }
    }

    #[tokio::test]
    async fn a_loop_that_stays_frozen_ends_the_process_but_not_at_the_first_look() {
        // The watchdog's time, and after how many seconds of silence the process ends.
        for (watchdog, hopeless) in [(2, 120), (200, 200)] {
            let pulses = Pulses::new(Duration::from_secs(watchdog));
            let pulse = pulses.watch("commit");
            let mut watchdog = Watchdog::new(pulses.clone());
            // Stopped as a whole, and continued.
            assert_eq!(watchdog.look(at(&pulses, 1000)), Look::Starved);
            pulse.beat_at(at(&pulses, 1000));
            assert_eq!(watchdog.look(at(&pulses, 1000)), Look::Fed);
            assert_eq!(watchdog.look(at(&pulses, 1000 + hopeless)), Look::Starved);
            assert_eq!(watchdog.look(at(&pulses, 1000 + hopeless)), Look::Starved);
            let end = watchdog.look(at(&pulses, 1001 + hopeless));
            assert!(
                matches!(&end, Look::Hopeless(silent) if silent.name == "commit"),
                "{end:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_process_without_loops_is_fed() {
        let pulses = Pulses::new(Duration::from_secs(20));
        let hour = at(&pulses, 3600);
        assert_eq!(Watchdog::new(pulses).look(hour), Look::Fed);
    }
}
