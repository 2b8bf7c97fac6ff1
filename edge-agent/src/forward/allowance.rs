//! How much a lane may send now: the decisions, without clocks, files or sockets.
//!
//! A lane without limits may send whatever the window has room for. Limits hold it back, the first of them
//! that does in this order:
//!
//! | [`By`] | holds while | until |
//! |---|---|---|
//! | `Window` | none of its windows is open | the next one opens |
//! | `Budget` | the bytes of the day are spent | midnight of its zone |
//! | `Priority` | a lane of a higher priority is sending; a trickle goes on, so that none starves | that one has caught up, or is stuck |
//! | `Rate` | readings would go faster than `max_rate`, after a second's worth at once | the next one is due |
//!
//! Nothing here touches order or identity: what is held back stays in the queue, in front of what came later.
//! Windows follow the gateway's clock whether it is synchronised or not, as cron does: a closed uplink must not
//! wait for a time service that is behind it. The day of a budget does not ([`budget`]).

pub mod budget;

use std::time::Duration;

use jiff::SignedDuration;
use protocol::Timestamp;

use crate::{
    clock::Moment,
    config::{Limits, Window},
};
use budget::{Budget, Spent};

/// Readings a second that a lane may send while one of a higher priority does.
const TRICKLE: f64 = 10.0;
/// How long an answer about windows is believed; cron is not asked for each reading.
const LOOK_US: u64 = 250_000;

/// What may be done now.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Send up to so many readings, at least one.
    Send(usize),
    /// Make this durable and say [`Allowance::saved`], then ask again.
    Save(Spent),
    /// Send nothing.
    Hold(Hold),
}

/// Why nothing is sent, and when to ask again.
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    /// What holds the lane back.
    pub by: By,
    /// By the gateway's clock, where that is known.
    pub until: Option<Timestamp>,
    /// Ask again after so long.
    pub wait: Duration,
}

/// What holds a lane back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// No window is open.
    Window,
    /// The day's bytes are spent.
    Budget,
    /// A lane of a higher priority is sending.
    Priority,
    /// Faster than `max_rate`.
    Rate,
}

impl By {
    /// All.
    pub const ALL: [Self; 4] = [Self::Window, Self::Budget, Self::Priority, Self::Rate];

    /// The word in logs, metrics and the status page.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Budget => "budget",
            Self::Priority => "priority",
            Self::Rate => "rate",
        }
    }

    /// Whether it holds for minutes or hours: worth a line, and no reason to wait at the end of the process.
    #[must_use]
    pub const fn is_long(self) -> bool {
        matches!(self, Self::Window | Self::Budget)
    }
}

/// Between two tries while a lane is held back for long: a clock may be set, a day may end.
const LONG: Duration = Duration::from_millis(250);

/// One lane's.
#[derive(Debug)]
pub struct Allowance {
    rate: Option<Meter>,
    trickle: Meter,
    /// The last decision made way for another lane.
    pressed: bool,
    budget: Option<Budget>,
    windows: Vec<Window>,
    /// When windows were looked at last, since boot, and what was found.
    looked: Option<(u64, Opened)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Opened {
    Yes,
    Until(Option<Timestamp>),
}

impl Allowance {
    /// By these limits; `spent` is what was saved last.
    pub fn new(limits: &Limits, spent: Spent, now: &Moment) -> Self {
        let budget = limits
            .budget_per_day
            .map(|bytes| Budget::new(bytes, limits.timezone.clone(), spent, now));
        Self {
            rate: limits.max_rate.map(Meter::new),
            trickle: Meter::new(TRICKLE),
            pressed: false,
            budget,
            windows: limits.windows.clone(),
            looked: None,
        }
    }

    /// What may be done at `now`, when the window has room for `wanted`, at least one; `pressed` while a lane
    /// of a higher priority is sending.
    pub fn next(&mut self, now: &Moment, pressed: bool, wanted: usize) -> Decision {
        if let Opened::Until(until) = self.look(now) {
            return Decision::Hold(Hold {
                by: By::Window,
                until,
                wait: LONG,
            });
        }
        self.pressed = pressed;
        let mut most = wanted;
        if let Some(budget) = &mut self.budget {
            match budget.next(now) {
                budget::Next::Room(records) => most = most.min(records),
                budget::Next::Save(spent) => return Decision::Save(spent),
                budget::Next::Spent(until) => {
                    return Decision::Hold(Hold {
                        by: By::Budget,
                        until,
                        wait: LONG,
                    });
                }
            }
        }
        let trickle = pressed.then_some((By::Priority, &self.trickle));
        let rate = self.rate.as_ref().map(|rate| (By::Rate, rate));
        for (by, meter) in [trickle, rate].into_iter().flatten() {
            most = most.min(meter.room(now.monotonic_us));
            if most == 0 {
                return Decision::Hold(Hold {
                    by,
                    until: None,
                    wait: meter.wait(now.monotonic_us).min(LONG),
                });
            }
        }
        Decision::Send(most)
    }

    /// A reading was handed to the producer, as so many bytes before compression.
    pub fn sent(&mut self, now: &Moment, bytes: usize) {
        if self.pressed {
            self.trickle.take(now.monotonic_us);
        }
        if let Some(rate) = &mut self.rate {
            rate.take(now.monotonic_us);
        }
        if let Some(budget) = &mut self.budget {
            budget.sent(bytes as u64);
        }
    }

    /// What counts against the budget of the day.
    pub fn budget(&mut self) -> Option<&mut Budget> {
        self.budget.as_mut()
    }

    /// What [`Decision::Save`] asked for is durable.
    pub fn saved(&mut self, spent: &Spent) {
        if let Some(budget) = &mut self.budget {
            budget.saved(spent);
        }
    }

    fn look(&mut self, now: &Moment) -> Opened {
        if self.windows.is_empty() {
            return Opened::Yes;
        }
        if let Some((at, opened)) = self.looked
            && now.monotonic_us.saturating_sub(at) < LOOK_US
        {
            return opened;
        }
        let opened = opened(&self.windows, now.wall);
        self.looked = Some((now.monotonic_us, opened));
        opened
    }
}

/// Whether one of the windows is open, else when the next one opens.
fn opened(windows: &[Window], now: Timestamp) -> Opened {
    // A time that no calendar has is no time to keep a lane shut for.
    let Ok(now) = jiff::Timestamp::from_microsecond(now.as_micros()) else {
        return Opened::Yes;
    };
    let is_open = |window: &Window| {
        let lasts = SignedDuration::try_from(window.lasts).ok()?;
        let opening = window.next_opening(now.saturating_sub(lasts).ok()?)?;
        Some(opening <= now)
    };
    if windows.iter().any(|window| is_open(window) == Some(true)) {
        return Opened::Yes;
    }
    let next = windows.iter().filter_map(|window| window.next_opening(now));
    let next = next.min().map(|next| next.as_microsecond());
    Opened::Until(next.and_then(|next| Timestamp::from_micros(next).ok()))
}

/// Evenly spaced readings, after a second's worth of them at once (the generic cell rate algorithm).
#[derive(Debug)]
struct Meter {
    /// Between two readings, in nanoseconds.
    interval: u128,
    /// When the next one would be due if they were evenly spaced, in nanoseconds since boot.
    due: u128,
}

const SECOND: u128 = 1_000_000_000;

impl Meter {
    fn new(per_second: f64) -> Self {
        let interval = Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Duration::MAX);
        Self {
            interval: interval.as_nanos().max(1),
            due: 0,
        }
    }

    fn burst(&self) -> u128 {
        SECOND.max(self.interval)
    }

    fn room(&self, now_us: u64) -> usize {
        let now = u128::from(now_us) * 1000;
        let free = (now + self.burst()).saturating_sub(self.due.max(now));
        usize::try_from(free / self.interval).unwrap_or(usize::MAX)
    }

    fn take(&mut self, now_us: u64) {
        self.due = self.due.max(u128::from(now_us) * 1000) + self.interval;
    }

    /// Until there is room for one.
    fn wait(&self, now_us: u64) -> Duration {
        let at = (self.due + self.interval).saturating_sub(self.burst());
        let left = at.saturating_sub(u128::from(now_us) * 1000);
        u64::try_from(left).map_or(Duration::MAX, Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests;
