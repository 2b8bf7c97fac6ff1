//! Every few seconds, whether the topics are still those that were read (see [`crate::checkpoint`]).

use std::{
    collections::HashMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tracing::debug;

use super::Pipeline;
use crate::{
    checkpoint::{Found, LOOK, Look, Mark},
    message::Partition,
};

/// An answer is waited for so long; longer than Kafka is asked.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was asked for, and what was found of it.
pub(super) type Looked = (Vec<Look>, HashMap<Partition, Found>);

/// When to look, and the answers.
pub(super) struct Looks {
    at: Instant,
    asked: mpsc::UnboundedSender<Looked>,
    /// At most one.
    pub(super) answers: mpsc::UnboundedReceiver<Looked>,
}

impl Looks {
    pub(super) fn new(now: Instant) -> Self {
        let (asked, answers) = mpsc::unbounded_channel();
        Self {
            at: now + LOOK,
            asked,
            answers,
        }
    }
}

impl Pipeline {
    /// Looks on a thread of its own: Kafka may take its time, and nobody waits for it at the end.
    pub(super) fn start_look(&mut self, now: Instant) {
        if now < self.looks.at || self.stopping.is_some() {
            return;
        }
        self.looks.at = now + LOOK;
        let looks = self.checkpoints.look();
        if looks.is_empty() {
            return;
        }
        let witness = Arc::clone(&self.ends.witness);
        let asked = self.looks.asked.clone();
        let started = thread::Builder::new().name("marks".into()).spawn(move || {
            let mark = |look: &Look| (look.partition.clone(), look.mark);
            let marks: Vec<(Partition, Mark)> = looks.iter().map(mark).collect();
            let found = witness.look(&marks);
            if asked.send((looks, found)).is_err() {
                debug!("marks were looked at after the end");
            }
        });
        match started {
            Ok(_) => self.looks.at = now + PATIENCE,
            Err(error) => debug!(%error, "no thread to look at the marks"),
        }
    }

    pub(super) fn on_looked(&mut self, (looks, found): Looked) {
        self.looks.at = Instant::now() + LOOK;
        for look in looks {
            let found = found.get(&look.partition);
            let begins = found.and_then(|found| self.checkpoints.looked(&look, *found));
            if let Some(from) = begins {
                self.ends.gate.begin_again(look.partition, from);
            }
        }
    }
}
