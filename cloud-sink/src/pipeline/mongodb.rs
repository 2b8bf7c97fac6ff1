//! MongoDB comes and goes: hold Kafka back, ask, resume alone.

use std::time::Instant;

use tracing::{info, warn};

use super::{PING, Pipeline, TOO_LONG};
use crate::{
    link::{LinkKind, LinkState},
    outage::Outage,
};

impl Pipeline {
    /// When MongoDB is asked without need whether it is there, if nothing is being asked now.
    pub(super) fn next_question(&self) -> Option<Instant> {
        let at = match &self.outage {
            Some(outage) => outage.retry_at(),
            None => self.answered_at + PING,
        };
        (self.writing == 0).then_some(at)
    }

    /// Shows MongoDB as away when it owes an answer for long. What that means for the write is only
    /// known at its deadline.
    pub(super) fn note_silence(&mut self, now: Instant) {
        if self
            .owing_since
            .is_some_and(|since| since + TOO_LONG <= now)
        {
            let silent = LinkState::Down(format!("no answer for {TOO_LONG:?}"));
            self.links.set(LinkKind::Mongodb, silent);
            // Once is enough until the next answer.
            self.owing_since = None;
        }
    }

    pub(super) fn mongodb_up(&mut self) {
        self.answered_at = Instant::now();
        self.links.set(LinkKind::Mongodb, LinkState::Up);
        if let Some(outage) = self.outage.take() {
            self.ends.gate.hold(self.stopping.is_some());
            let balance = self.kept.snapshot();
            let lasted = outage.lasted(Instant::now()).as_secs();
            info!(outage = %format_args!("{lasted}s"), held = balance.in_flight, lost = 0, "mongodb back");
        }
    }

    pub(super) fn mongodb_down(&mut self, reason: String) {
        let now = Instant::now();
        let state = LinkState::Down(reason.clone());
        self.links.set(LinkKind::Mongodb, state);
        let outage = match &mut self.outage {
            Some(outage) => {
                // Batches that were under way when it began fail too; only probes count.
                if outage.retry_at() <= now {
                    outage.failed(now);
                }
                outage
            }
            none => none.insert(Outage::new(now)),
        };
        self.ends.gate.hold(true);
        if outage.should_say(now) {
            let since = outage.lasted(now).as_secs();
            let retry_in = outage.retry_in();
            let partitions_paused = self.assignments.len();
            warn!(reason, since = %format_args!("{since}s"), retry_in = ?retry_in, partitions_paused, "mongodb unreachable, holding");
        }
    }
}
