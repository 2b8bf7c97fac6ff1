//! The lines of every interval: what was written, and how near retention is.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tokio::{
    task::spawn_blocking,
    time::{interval, sleep},
};
use tracing::{debug, error, info, warn};

use super::{Telemetry, WINDOW};
use crate::{
    clock::now_ms,
    conservation::{Balance, Conservation},
    kafka::{Gate, Retentions, Settings, Topics, backlog},
    latency,
    link::LinkKind,
    message::Partition,
    status::Watched,
    unread::{Alarm, Remaining, Urgency, show},
};

/// Settings of topics change seldom.
const ASK_AGAIN: Duration = Duration::from_secs(300);
/// Unless the brokers could not be asked.
const RETRY: Duration = Duration::from_secs(10);

/// Whether MongoDB is away is looked at so often.
const LOOK: Duration = Duration::from_secs(5);
/// While it is, the brokers are asked what waits; in between it only grows older.
const ASK_BACKLOG: Duration = Duration::from_secs(60);

/// Says every [`WINDOW`] what was done in it, if anything was, and when retention comes near.
pub async fn report(kept: &Conservation, gate: &Gate, telemetry: &Telemetry) {
    let mut window = Window::default();
    let mut alarm = Alarm::default();
    let mut tick = interval(WINDOW);
    loop {
        tick.tick().await;
        let remaining = telemetry.unread.remaining(&gate.lags(), now_ms());
        let worst = remaining.into_iter().min_by_key(|(_, one)| one.left);
        let done = window.next(kept.snapshot(), telemetry.latencies.snapshot());
        if let Some(done) = done {
            let left = worst.as_ref().map(|(_, worst)| show(worst.left));
            done.say(gate.lag(), left);
        }
        if let Some((partition, worst)) = worst
            && let Some(urgency) = alarm.judge(worst, Instant::now())
        {
            warn_of_loss(urgency, &partition, worst);
        }
    }
}

fn warn_of_loss(urgency: Urgency, partition: &Partition, worst: Remaining) {
    let Partition { topic, number } = partition;
    let time_to_loss = show(worst.left);
    let retention = show(worst.retention);
    match urgency {
        Urgency::Calm => {
            info!(%topic, partition = number, time_to_loss, "unread records are far from their retention again");
        }
        Urgency::Behind => {
            warn!(%topic, partition = number, time_to_loss, retention, "unread records have used half of their retention");
        }
        Urgency::Soon => {
            error!(%topic, partition = number, time_to_loss, retention, "unread records are about to be deleted by retention");
        }
    }
}

/// What was there when the window began.
#[derive(Debug, Default)]
struct Window {
    balance: Balance,
    latencies: latency::Snapshot,
}

/// What was done in one window.
#[derive(Debug, PartialEq, Eq)]
struct Done {
    docs: u64,
    duplicates: u64,
    dead_letters: u64,
    conflicts: u64,
    p99_ms: Option<u64>,
}

impl Window {
    fn next(&mut self, balance: Balance, latencies: latency::Snapshot) -> Option<Done> {
        let before = std::mem::replace(&mut self.balance, balance);
        let window = latencies.since(&self.latencies);
        self.latencies = latencies;
        let done = Done {
            docs: balance.written - before.written,
            duplicates: balance.duplicates - before.duplicates,
            dead_letters: balance.dead_letters - before.dead_letters,
            conflicts: balance.conflicts - before.conflicts,
            p99_ms: window.p99_ms(),
        };
        let any = done.docs + done.duplicates + done.dead_letters + done.conflicts > 0;
        any.then_some(done)
    }
}

impl Done {
    fn say(&self, lag: Option<u64>, time_to_loss: Option<String>) {
        info!(
            docs = self.docs,
            duplicates = self.duplicates,
            dead_letters = self.dead_letters,
            conflicts = (self.conflicts > 0).then_some(self.conflicts),
            lag,
            time_to_loss,
            p99_ms = self.p99_ms,
            window = %format_args!("{}s", WINDOW.as_secs()),
            "written"
        );
    }
}

/// Keeps what the brokers say of the topics' retention. It may change while the sink runs.
pub async fn watch_retention(topics: &Topics, telemetry: &Telemetry) {
    let mut troubles = None;
    loop {
        let (said, again) = match topics.retentions().await {
            Ok(retentions) => {
                let said = troubles_of(&retentions);
                telemetry.unread.keep(retentions.known);
                (said, ASK_AGAIN)
            }
            // What was known still holds; that Kafka is away is said elsewhere.
            Err(_) => (troubles.clone().unwrap_or_default(), RETRY),
        };
        if troubles.as_ref() != Some(&said) {
            for (topic, trouble) in &said {
                match trouble {
                    Trouble::Unknown(reason) => {
                        warn!(
                            topic,
                            reason, "retention of the topic cannot be read, time to loss unknown"
                        );
                    }
                    Trouble::BySize => {
                        warn!(
                            topic,
                            "topic is bounded in bytes, records may be lost before time_to_loss"
                        );
                    }
                }
            }
            troubles = Some(said);
        }
        sleep(again).await;
    }
}

/// Keeps what waits in partitions that nobody can take while MongoDB is away. A sink that is started then has
/// none, and would know of no age.
pub async fn watch_backlog(settings: &Settings, watched: &Watched) {
    let unread = &watched.telemetry.unread;
    let mut asked: Option<Instant> = None;
    loop {
        sleep(LOOK).await;
        if !watched.links.is_down(LinkKind::Mongodb) {
            if asked.take().is_some() {
                unread.wait(HashMap::new());
                watched.gate.set_waiting(HashMap::new());
            }
            continue;
        }
        let topics = unread.limited();
        if topics.is_empty() || asked.is_some_and(|asked| asked.elapsed() < ASK_BACKLOG) {
            continue;
        }
        let settings = settings.clone();
        let found = spawn_blocking(move || backlog(&settings, &topics)).await;
        // A panic, which ends the process as one of any stage does.
        let Ok(found) = found else { return };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                // That Kafka is away, too, is said elsewhere.
                debug!(%error, "what waits is not known");
                continue;
            }
        };
        asked = Some(Instant::now());
        let lags = found.iter().map(|(at, waiting)| (at.clone(), waiting.lag));
        watched.gate.set_waiting(lags.collect());
        let oldest = found.into_iter();
        unread.wait(
            oldest
                .map(|(at, waiting)| (at, waiting.oldest_ms))
                .collect(),
        );
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    Unknown(String),
    BySize,
}

fn troubles_of(retentions: &Retentions) -> Vec<(String, Trouble)> {
    let unknown = retentions.unknown.iter();
    let unknown = unknown.map(|(topic, why)| (topic.to_string(), Trouble::Unknown(why.clone())));
    let by_size = retentions.by_size.iter();
    let by_size = by_size.map(|topic| (topic.to_string(), Trouble::BySize));
    unknown.chain(by_size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latencies;

    #[test]
    fn a_window_counts_what_was_done_in_it_and_an_idle_one_says_nothing() {
        let latencies = Latencies::default();
        let mut window = Window::default();
        assert_eq!(window.next(Balance::default(), latencies.snapshot()), None);
        let mut balance = Balance {
            written: 10,
            ..Balance::default()
        };
        latencies.add(38);
        let done = window.next(balance, latencies.snapshot()).unwrap();
        assert_eq!((done.docs, done.p99_ms), (10, Some(40)));
        balance.control += 5;
        assert_eq!(window.next(balance, latencies.snapshot()), None);
        balance.dead_letters += 1;
        let done = window.next(balance, latencies.snapshot()).unwrap();
        assert_eq!((done.docs, done.dead_letters, done.p99_ms), (0, 1, None));
    }
}
