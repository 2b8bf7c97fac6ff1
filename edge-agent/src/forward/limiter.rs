//! What holds a lane back, carried out: the file of its budget, the other lanes, and what people see of it.
//! The decisions are [`allowance`](super::allowance)'s.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tracing::{info, warn};

use super::{
    Counters,
    allowance::{Allowance, By, Decision, Hold, budget::Spent},
};
use crate::{clock::Moment, config::Limits};

/// A lane that gets nothing into Kafka for so long makes nobody wait.
const STUCK: Duration = Duration::from_secs(5);
/// Between two tries to make a budget durable.
const DISK_RETRY: Duration = Duration::from_millis(500);
const VERSION: u64 = 1;

/// How many lanes of each rank are sending; shared by all forwarders.
#[derive(Debug, Clone, Default)]
pub struct Precedence(Arc<[AtomicUsize; RANKS]>);

/// What holds a lane back, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Held {
    /// `window`, `budget`, `priority` or `rate`.
    pub by: &'static str,
    /// By the gateway's clock, where that is known.
    pub until: Option<String>,
}

/// Priorities 0 to 9, and alarms above them.
const RANKS: usize = 11;

/// What a lane's forwarder has to know of its limits.
#[derive(Debug)]
pub struct Limiter {
    lane: String,
    allowance: Allowance,
    /// Where the budget of the day is kept, where there is one.
    file: Option<PathBuf>,
    precedence: Precedence,
    rank: usize,
    is_busy: bool,
    is_pressing: bool,
    /// The last moment that something got through, or set out.
    moved: Instant,
    counters: Arc<Counters>,
    /// By what that lasts, and since when.
    held: Option<(By, Instant)>,
    /// The disk refuses the budget, and that was said.
    is_disk_told: bool,
}

impl Limiter {
    /// Of the lane `lane`; `budgets` is the directory of what was spent.
    pub fn new(
        lane: &str,
        limits: &Limits,
        budgets: &Path,
        precedence: Precedence,
        counters: Arc<Counters>,
        now: &Moment,
    ) -> Self {
        let file = budgets.join(format!("{lane}.json"));
        let file = limits.budget_per_day.map(|_| file);
        let spent = file.as_deref().map_or_else(Spent::default, |file| {
            read(file).unwrap_or_else(|error| {
                warn!(lane, %error, "daily budget cannot be read, counting from nothing");
                Spent::default()
            })
        });
        let rank = match limits.alarm {
            true => RANKS - 1,
            false => usize::from(limits.priority).min(RANKS - 2),
        };
        let mut limiter = Self {
            lane: lane.to_owned(),
            allowance: Allowance::new(limits, spent, now),
            file,
            precedence,
            rank,
            is_busy: false,
            is_pressing: false,
            moved: Instant::now(),
            counters,
            held: None,
            is_disk_told: false,
        };
        limiter.show_spent();
        limiter
    }

    /// How many of `wanted` readings may be sent now; otherwise what holds the lane back, and for how long not
    /// to ask.
    pub fn room(&mut self, now: &Moment, wanted: usize) -> Result<usize, (By, Duration)> {
        let pressed = self.is_pressed();
        // At most one slice has to be saved before there is an answer.
        for _ in 0..2 {
            match self.allowance.next(now, pressed, wanted) {
                Decision::Send(records) => {
                    self.release();
                    return Ok(records);
                }
                Decision::Hold(hold) => {
                    self.hold(&hold);
                    return Err((hold.by, hold.wait));
                }
                Decision::Save(spent) => {
                    if self.save(&spent) {
                        self.allowance.saved(&spent);
                    } else {
                        break;
                    }
                }
            }
        }
        Err((By::Budget, DISK_RETRY))
    }

    /// A reading was handed to the producer, as so many bytes.
    pub fn sent(&mut self, now: &Moment, bytes: usize) {
        self.allowance.sent(now, bytes);
        self.show_spent();
    }

    /// Readings of so many bytes are in Kafka.
    pub fn settled(&mut self, bytes: usize) {
        self.moved = Instant::now();
        if let Some(budget) = self.allowance.budget() {
            budget.settled(bytes as u64);
        }
    }

    /// The producer has sent and received so much since it was made.
    pub fn measured(&mut self, total: u64) {
        if let Some(budget) = self.allowance.budget() {
            budget.measured(total);
        }
        self.show_spent();
    }

    /// The producer is gone, with all it had.
    pub fn restarted(&mut self) {
        if let Some(budget) = self.allowance.budget() {
            budget.restarted();
        }
        self.show_spent();
    }

    /// Says whether the lane has readings on their way: lanes of a lower priority make way for it, as long as
    /// they get through.
    pub fn press(&mut self, is_busy: bool) {
        if is_busy && !self.is_busy {
            self.moved = Instant::now();
        }
        self.is_busy = is_busy;
        let presses = is_busy && self.moved.elapsed() < STUCK;
        if presses != self.is_pressing {
            self.is_pressing = presses;
            let lanes = &self.precedence.0[self.rank];
            match presses {
                true => lanes.fetch_add(1, Ordering::Relaxed),
                false => lanes.fetch_sub(1, Ordering::Relaxed),
            };
        }
    }

    fn is_pressed(&self) -> bool {
        let mut above = self.precedence.0.iter().skip(self.rank + 1);
        above.any(|lanes| lanes.load(Ordering::Relaxed) > 0)
    }

    fn hold(&mut self, hold: &Hold) {
        let until = hold.until.map(|until| until.to_string());
        self.show(Some(Held {
            by: hold.by.as_str(),
            until: until.clone(),
        }));
        if hold.by.is_long() && self.held.map(|(by, _)| by) != Some(hold.by) {
            let (lane, by) = (&self.lane, hold.by.as_str());
            info!(lane, by, until, "lane held back");
            self.held = Some((hold.by, Instant::now()));
        }
    }

    fn release(&mut self) {
        self.show(None);
        if let Some((by, since)) = self.held.take() {
            let (lane, by, held_s) = (&self.lane, by.as_str(), since.elapsed().as_secs());
            info!(lane, by, held_s, "lane sends again");
        }
    }

    fn show(&self, held: Option<Held>) {
        let mut shown = self
            .counters
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *shown = held;
    }

    fn show_spent(&mut self) {
        if let Some(budget) = self.allowance.budget() {
            let counter = &self.counters.budget_spent_bytes;
            counter.store(budget.spent(), Ordering::Relaxed);
        }
    }

    /// Makes it durable; nothing is sent otherwise.
    fn save(&mut self, spent: &Spent) -> bool {
        let Some(file) = &self.file else {
            return true;
        };
        match write(file, spent) {
            Ok(()) => {
                self.is_disk_told = false;
                true
            }
            Err(error) => {
                if !self.is_disk_told {
                    let lane = &self.lane;
                    warn!(lane, %error, "daily budget cannot be written, nothing is sent meanwhile");
                }
                self.is_disk_told = true;
                false
            }
        }
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.press(false);
        if let Some(word) = self.allowance.budget().map(|budget| budget.last_word()) {
            // Else the file says more than was spent, by a slice at most.
            self.save(&word);
        }
    }
}

/// What was spent, of a lane that never spent anything if there is no file.
fn read(file: &Path) -> io::Result<Spent> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Spent::default()),
        text => text?,
    };
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the file is damaged");
    let value: Value = serde_json::from_str(&text).map_err(|_| damaged())?;
    if value["version"] != VERSION {
        return Err(io::Error::other("the file is of another version"));
    }
    let day = match &value["day"] {
        Value::Null => None,
        day => {
            let day = day.as_str().and_then(|day| day.parse().ok());
            Some(day.ok_or_else(damaged)?)
        }
    };
    let bytes = value["bytes"].as_u64().ok_or_else(damaged)?;
    Ok(Spent { day, bytes })
}

/// There is the old file or the new one, never a part.
fn write(file: &Path, spent: &Spent) -> io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let day = spent.day.map(|day| day.to_string());
    let text = json!({ "version": VERSION, "day": day, "bytes": spent.bytes }).to_string();
    let new = file.with_extension("new");
    let mut written = File::create(&new)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    fs::rename(&new, file)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests;
