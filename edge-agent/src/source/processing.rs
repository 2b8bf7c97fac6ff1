//! Where `[[process]]` stands in a source's way: behind the decoder, in front of the gate.
//!
//! The sources share one [`Process`], for a rule may be for all of them. Windows that are over while nothing comes
//! are closed by [`Processing::keep_time`], which outlives the sources and then closes the rest.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use protocol::{Reading, Timestamp, Topic};
use tokio::sync::mpsc;

use crate::{
    clock::Clock,
    ingest::{Closed, Gate, Message, Origin},
    process::{Applied, Process, Rule},
};

/// How late a window may be closed.
const TICK: Duration = Duration::from_millis(250);

/// A source's share of it.
#[derive(Debug, Clone)]
pub(super) struct Processing {
    process: Option<Arc<Mutex<Process>>>,
    /// Held by every source: when all are gone, nothing comes any more.
    alive: mpsc::Sender<()>,
}

/// The time keeper's.
#[derive(Debug)]
pub(super) struct TimeKeeper {
    process: Arc<Mutex<Process>>,
    gone: mpsc::Receiver<()>,
}

fn unpoisoned(process: &Mutex<Process>) -> MutexGuard<'_, Process> {
    // Plain data; a panic elsewhere leaves it whole.
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Processing {
    /// The time keeper only where there is something to do.
    pub(super) fn new(rules: &[Rule]) -> (Self, Option<TimeKeeper>) {
        let (alive, gone) = mpsc::channel(1);
        let process = Process::new(rules.to_vec());
        if process.is_empty() {
            let process = None;
            return (Self { process, alive }, None);
        }
        let process = Arc::new(Mutex::new(process));
        let keeper = TimeKeeper {
            process: Arc::clone(&process),
            gone,
        };
        let process = Some(process);
        (Self { process, alive }, Some(keeper))
    }

    /// What comes of a reading.
    pub(super) fn apply(&self, source: &str, lane: &Topic, reading: Reading) -> Applied {
        debug_assert!(self.alive.max_capacity() > 0, "held, never used");
        match &self.process {
            None => Applied {
                kept: Some(reading),
                ..Applied::default()
            },
            Some(process) => unpoisoned(process).apply(source, lane, reading, Instant::now()),
        }
    }
}

impl TimeKeeper {
    /// Closes windows in time until every source is gone, then all of them.
    pub(super) async fn run(mut self, gate: Gate, clock: Clock) -> Result<(), Closed> {
        let mut tick = tokio::time::interval(TICK);
        loop {
            let last = tokio::select! {
                _ = self.gone.recv() => true,
                _ = tick.tick() => false,
            };
            let closed = match last {
                true => unpoisoned(&self.process).drain(),
                false => unpoisoned(&self.process).due(Instant::now()),
            };
            for (lane, reading) in closed {
                gate.send(message(lane, reading, clock.now().wall)).await?;
            }
            if last {
                return Ok(());
            }
        }
    }
}

/// A reading that came out of a window: nobody waits for it.
pub(super) fn message(lane: Topic, reading: Reading, received: Timestamp) -> Message {
    Message {
        lane,
        readings: vec![reading],
        origin: Origin::Unknown,
        received,
        answer: None,
    }
}
