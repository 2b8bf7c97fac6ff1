//! A lane's commit thread: collects, commits, answers. What to commit when is [`Batch`]'s decision.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    thread,
    time::{Duration, Instant},
};

use protocol::Topic;
use protocol_host::supervisor::Pulse;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{error, warn};

use super::{
    Admitted, Inbox, Message, Outcome, Rejection, as_json,
    batch::{Batch, Next},
    rejections::Rejections,
};
use crate::{
    clock::Clock,
    link::{LinkKind, LinkState, Links},
    quarantine::Quarantine,
    queue::{CommitError, Writer},
    stage::Stop,
};

/// How often the queue is given time for its own chores.
const TICK: Duration = Duration::from_secs(1);
/// First and longest pause before a failed commit is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

pub struct Lane {
    pub topic: Topic,
    pub writer: Writer,
    pub inbox: Receiver<Inbox>,
    pub commit_every: Duration,
    pub clock: Clock,
    pub quarantine: Quarantine,
    pub links: Links,
    pub rejections: Arc<Rejections>,
    /// Beaten before every commit: one that does not come back is a loop that stands still.
    pub pulse: Pulse,
}

/// The messages of one commit, with their shares of the budget.
#[derive(Default)]
struct Group {
    messages: Vec<Message>,
    permits: Vec<OwnedSemaphorePermit>,
}

impl Lane {
    /// Runs until the gate is closed and what came through it is committed.
    pub fn run(mut self, stop: &Stop) -> Result<(), String> {
        let mut batch = Batch::new(self.commit_every);
        let mut group = Group::default();
        // The message that came last and does not fit into the group, and whether none will follow.
        let mut outside = None;
        let mut closed = false;
        let mut tick = Instant::now() + TICK;
        self.report(LinkState::Up);
        loop {
            self.pulse.beat();
            while let Some(admitted) = outside.take().or_else(|| self.arrived(&mut closed)) {
                let Admitted {
                    message,
                    weight,
                    permit,
                } = admitted;
                if !batch.fits(weight) {
                    outside = Some(Admitted {
                        message,
                        weight,
                        permit,
                    });
                    break;
                }
                batch.push(Instant::now(), weight);
                group.messages.push(message);
                group.permits.push(permit);
            }
            let now = Instant::now();
            if now >= tick {
                self.chores(now);
                tick = now + TICK;
            }
            match batch.next(now, closed || outside.is_some()) {
                Next::Commit => {
                    if self.commit(&mut group, stop)?.is_break() {
                        break;
                    }
                    batch.clear(now);
                }
                Next::Idle if closed => break,
                Next::Idle => outside = self.wait(tick - now, &mut closed),
                Next::Rest(until) => thread::sleep(until - now),
                Next::Until(due) => outside = self.wait(due.min(tick) - now, &mut closed),
            }
        }
        let now = self.clock.now().queue();
        self.writer
            .close(now)
            .map_err(|error| format!("lane {} is not closed in order: {error}", self.topic))
    }

    fn arrived(&self, closed: &mut bool) -> Option<Admitted> {
        match self.inbox.try_recv() {
            Ok(Inbox::Message(admitted)) => Some(admitted),
            Err(TryRecvError::Empty) => None,
            Ok(Inbox::Close) | Err(TryRecvError::Disconnected) => {
                *closed = true;
                None
            }
        }
    }

    fn wait(&self, at_most: Duration, closed: &mut bool) -> Option<Admitted> {
        match self.inbox.recv_timeout(at_most) {
            Ok(Inbox::Message(admitted)) => Some(admitted),
            Err(RecvTimeoutError::Timeout) => None,
            Ok(Inbox::Close) | Err(RecvTimeoutError::Disconnected) => {
                *closed = true;
                None
            }
        }
    }

    /// Commits the group, however long it takes, and answers. Gives up only when the process ends: an
    /// error if the disk failed, none if the queue was full and held them, as `when_full = "block"` says.
    fn commit(&mut self, group: &mut Group, stop: &Stop) -> Result<ControlFlow<()>, String> {
        let mut pause = RETRY.0;
        loop {
            self.pulse.beat();
            let now = self.clock.now().queue();
            let error = match self.writer.commit(&group.messages, now) {
                Ok(outcomes) => {
                    self.report(LinkState::Up);
                    self.answer(group, outcomes)?;
                    return Ok(ControlFlow::Continue(()));
                }
                Err(error @ CommitError::Exhausted) => {
                    return Err(format!("lane {}: {error}", self.topic));
                }
                Err(error) => error,
            };
            self.report(LinkState::Down(error.to_string()));
            if stop
                .deadline()
                .is_some_and(|at| Instant::now() + pause > at)
            {
                let (topic, n) = (&self.topic, readings(&group.messages));
                if let CommitError::Full(_) = error {
                    warn!(%topic, n, "stopped with readings that the full queue held at its gate");
                    return Ok(ControlFlow::Break(()));
                }
                error!(%topic, n, %error, "stopped with readings that the disk would not take");
                return Err(format!("lane {topic}: {n} readings not committed: {error}"));
            }
            thread::park_timeout(pause);
            pause = (2 * pause).min(RETRY.1);
            if let CommitError::Full(_) = error {
                // Frees what has become too old; a disk that fails shows at the commit.
                let now = self.clock.now().queue();
                self.writer.tick(now).ok();
                self.rejections.report(Instant::now());
            }
        }
    }

    fn answer(&mut self, group: &mut Group, outcomes: Vec<Outcome>) -> Result<(), String> {
        if outcomes.len() != group.messages.len() {
            let (got, sent) = (outcomes.len(), group.messages.len());
            return Err(format!("queue answered {got} of {sent} messages"));
        }
        for (message, outcome) in group.messages.drain(..).zip(outcomes) {
            if outcome == Outcome::Rejected {
                self.rejected(&message);
            }
            if let Some(answer) = message.answer {
                answer.give(outcome);
            }
        }
        group.permits.clear();
        Ok(())
    }

    fn rejected(&self, message: &Message) {
        let n = message.readings.len() as u64;
        let (source, reason) = (self.topic.as_str(), Rejection::TooLarge);
        let detail = "a reading is too large once encoded: send fewer or shorter fields";
        self.rejections
            .note(Instant::now(), source, reason, n, &detail);
        let time = self.clock.now().wall;
        let bytes = as_json(&message.readings);
        self.quarantine
            .keep(time, source, reason.as_str(), detail.into(), &bytes);
    }

    fn chores(&mut self, now: Instant) {
        self.rejections.report(now);
        match self.writer.tick(self.clock.now().queue()) {
            Ok(()) => self.report(LinkState::Up),
            // Tried again in a second; the state of the link tells it once.
            Err(error) => self.report(LinkState::Down(error.to_string())),
        }
    }

    fn report(&self, state: LinkState) {
        self.links.set(LinkKind::Disk, self.topic.as_str(), state);
    }
}

fn readings(messages: &[Message]) -> usize {
    messages.iter().map(|message| message.readings.len()).sum()
}
