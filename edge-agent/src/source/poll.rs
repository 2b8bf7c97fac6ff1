//! When to ask whom on a line that carries one question at a time; a state machine.
//!
//! Each slave has a grid: its rounds begin at multiples of its interval from the start, so they do not
//! drift. A round asks the slave's questions one after the other; between two questions any other slave
//! whose round is due may come first. A point of the grid that passed while the line was busy
//! is an overrun, and is counted.
//!
//! A question without an answer costs the line one timeout, and is put again only when nobody else
//! waits. A slave that answered nothing in a round is asked one question a round from then on, and
//! only every 2nd, 4th … round up to [`RAREST`], until it answers. So a dead slave delays the others by
//! one timeout at a time, and rarely.

use std::time::Duration;

/// Longest pause between two probes of a dead slave, unless its own interval is longer.
const RAREST: Duration = Duration::from_secs(60);

/// The line.
#[derive(Debug)]
pub(super) struct Poll {
    slaves: Vec<Slave>,
    retries: u8,
}

#[derive(Debug)]
struct Slave {
    every: Duration,
    questions: usize,
    /// When the next round may begin, a point of the grid.
    due: Duration,
    /// The question at hand, while a round is under way.
    at: Option<usize>,
    tries: u8,
    answers: usize,
    /// Rounds in a row without any answer.
    dead: u32,
    overruns: u64,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Put this question; then call [`Poll::answered`] or [`Poll::unanswered`].
    Ask {
        /// Whom.
        slave: usize,
        /// Which of his questions.
        question: usize,
    },
    /// Nothing is due before then.
    Wait(Duration),
}

/// What an answer, or the lack of one, did to the round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    /// It goes on.
    Open,
    /// It is over, with this many answers.
    Over(usize),
}

impl Poll {
    /// `slaves` are interval and number of questions, at least one, of each; all are due at `now`.
    pub(super) fn new(
        slaves: impl IntoIterator<Item = (Duration, usize)>,
        retries: u8,
        now: Duration,
    ) -> Self {
        let slaves = slaves.into_iter().map(|(every, questions)| Slave {
            every: every.max(Duration::from_millis(1)),
            questions,
            due: now,
            at: None,
            tries: 0,
            answers: 0,
            dead: 0,
            overruns: 0,
        });
        Self {
            slaves: slaves.collect(),
            retries,
        }
    }

    /// What to do at `now`; the time only grows.
    pub(super) fn next(&mut self, now: Duration) -> Next {
        // Fresh questions before repeated ones, then who has waited longest.
        let ready = |slave: &Slave| slave.at.is_some() || slave.due <= now;
        let chosen = (0..self.slaves.len())
            .filter(|&index| ready(&self.slaves[index]))
            .min_by_key(|&index| (self.slaves[index].tries > 0, self.slaves[index].due, index));
        let Some(index) = chosen else {
            let due = self.slaves.iter().map(|slave| slave.due).min();
            return Next::Wait(due.unwrap_or(Duration::MAX));
        };
        let slave = &mut self.slaves[index];
        if slave.at.is_none() {
            slave.begin(now);
        }
        Next::Ask {
            slave: index,
            question: slave.at.unwrap_or(0),
        }
    }

    /// The question at hand was answered, be it with "no".
    pub(super) fn answered(&mut self, index: usize) -> Round {
        let slave = &mut self.slaves[index];
        slave.answers += 1;
        slave.dead = 0;
        slave.tries = 0;
        let next = slave.at.map_or(0, |at| at + 1);
        slave.at = (next < slave.questions).then_some(next);
        slave.round()
    }

    /// Nothing came in time, or nothing that could be read.
    pub(super) fn unanswered(&mut self, index: usize) -> Round {
        let retries = self.retries;
        let slave = &mut self.slaves[index];
        slave.tries += 1;
        if slave.dead == 0 && slave.tries <= retries {
            return Round::Open;
        }
        slave.tries = 0;
        let next = slave.at.map_or(0, |at| at + 1);
        // Who answered nothing yet is not asked the rest.
        let go_on = slave.answers > 0 && next < slave.questions;
        slave.at = go_on.then_some(next);
        if slave.at.is_none() && slave.answers == 0 {
            slave.dead = slave.dead.saturating_add(1);
            let rounds = 1u32 << slave.dead.min(16).saturating_sub(1);
            let most = RAREST.max(slave.every);
            let pause = slave.every.saturating_mul(rounds).min(most);
            // Still a point of the grid.
            let points = (pause.as_nanos() / slave.every.as_nanos()).max(1);
            let points = u32::try_from(points).unwrap_or(u32::MAX);
            slave.due += slave.every.saturating_mul(points - 1);
        }
        slave.round()
    }

    /// Points of the grid that passed while the line was busy, of all slaves.
    pub(super) fn overruns(&self) -> u64 {
        self.slaves.iter().map(|slave| slave.overruns).sum()
    }

    /// Whether a slave is taken for dead.
    pub(super) fn is_dead(&self, index: usize) -> bool {
        self.slaves[index].dead > 0
    }
}

impl Slave {
    fn begin(&mut self, now: Duration) {
        let late = now.saturating_sub(self.due).as_nanos() / self.every.as_nanos();
        let late = u32::try_from(late).unwrap_or(u32::MAX);
        self.overruns += u64::from(late);
        self.due += self.every.saturating_mul(late.saturating_add(1));
        self.at = Some(0);
        self.tries = 0;
        self.answers = 0;
    }

    fn round(&self) -> Round {
        match self.at {
            Some(_) => Round::Open,
            None => Round::Over(self.answers),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn ask(slave: usize, question: usize) -> Next {
        Next::Ask { slave, question }
    }

    #[test]
    fn rounds_begin_on_the_grid_however_long_answers_take() {
        let mut poll = Poll::new([(ms(1000), 2)], 0, ms(5));
        for round in 0..5 {
            let begin = ms(5 + round * 1000);
            assert_eq!(poll.next(begin), ask(0, 0));
            assert_eq!(poll.answered(0), Round::Open);
            assert_eq!(poll.next(begin + ms(300)), ask(0, 1));
            assert_eq!(poll.answered(0), Round::Over(2));
            assert_eq!(poll.next(begin + ms(600)), Next::Wait(begin + ms(1000)));
        }
        assert_eq!(poll.overruns(), 0);
    }

    #[test]
    fn points_that_passed_are_overruns_and_are_not_made_up_for() {
        let mut poll = Poll::new([(ms(100), 1)], 0, ms(0));
        assert_eq!(poll.next(ms(0)), ask(0, 0));
        assert_eq!(poll.answered(0), Round::Over(1));
        assert_eq!(poll.next(ms(350)), ask(0, 0));
        assert_eq!(poll.overruns(), 2);
        poll.answered(0);
        assert_eq!(poll.next(ms(360)), Next::Wait(ms(400)));
    }

    #[test]
    fn a_dead_slave_delays_the_others_by_one_timeout_and_is_probed_rarely() {
        let mut poll = Poll::new([(ms(1000), 3), (ms(1000), 1)], 2, ms(0));
        let mut now = ms(0);
        let (mut asked, mut worst) = (0, ms(0));
        let mut other_due = ms(0);
        while now < ms(300_000) {
            match poll.next(now) {
                Next::Wait(until) => now = until,
                Next::Ask { slave: 0, question } => {
                    assert_eq!(question, 0);
                    asked += 1;
                    now += ms(200);
                    poll.unanswered(0);
                }
                Next::Ask { .. } => {
                    worst = worst.max(now - other_due);
                    other_due += ms(1000);
                    now += ms(10);
                    assert_eq!(poll.answered(1), Round::Over(1));
                }
            }
        }
        assert!(worst <= ms(200), "{worst:?}");
        assert!(poll.is_dead(0) && asked < 20, "{asked}");
        assert_eq!(poll.overruns(), 0);
        // It comes back, and is asked everything again.
        while poll.next(now) != ask(0, 0) {
            match poll.next(now) {
                Next::Wait(until) => now = until,
                Next::Ask { slave, .. } => drop(poll.answered(slave)),
            }
        }
        assert_eq!(poll.answered(0), Round::Open);
        assert!(!poll.is_dead(0));
    }

    #[test]
    fn a_question_is_put_again_only_when_nobody_else_waits() {
        let mut poll = Poll::new([(ms(1000), 2), (ms(1000), 1)], 1, ms(0));
        assert_eq!(poll.next(ms(0)), ask(0, 0));
        assert_eq!(poll.unanswered(0), Round::Open);
        assert_eq!(poll.next(ms(200)), ask(1, 0));
        poll.answered(1);
        assert_eq!(poll.next(ms(210)), ask(0, 0));
        assert_eq!(poll.answered(0), Round::Open);
        // One question of a living slave stays open: the round is over with what there is.
        assert_eq!(poll.next(ms(220)), ask(0, 1));
        assert_eq!(poll.unanswered(0), Round::Open);
        assert_eq!(poll.unanswered(0), Round::Over(1));
        assert!(!poll.is_dead(0));
    }

    proptest! {
        #[test]
        fn whatever_is_answered_the_line_is_never_left_idle_while_somebody_is_due(
            slaves in prop::collection::vec((1u64..5000, 1usize..4), 1..6),
            replies in prop::collection::vec((any::<bool>(), 1u64..400), 1..200),
        ) {
            let slaves = slaves.into_iter().map(|(every, questions)| (ms(every), questions));
            let mut poll = Poll::new(slaves, 1, ms(0));
            let mut now = ms(0);
            for (answers, took) in replies {
                match poll.next(now) {
                    Next::Wait(until) => {
                        prop_assert!(until > now);
                        now = until;
                    }
                    Next::Ask { slave, .. } => {
                        now += ms(took);
                        if answers {
                            poll.answered(slave);
                        } else {
                            poll.unanswered(slave);
                        }
                    }
                }
            }
        }
    }
}
