//! The stage on a real queue.

use std::{fs, path::Path, thread};

use protocol::{Clock as ReadingClock, DeviceId, FieldName, Fields, GatewayId, Metadata};
use tokio::sync::mpsc::{UnboundedReceiver, error::TryRecvError, unbounded_channel};

use super::*;
use crate::{
    config::{self, WhenFull},
    link::{LinkKind, LinkState},
    quarantine,
    queue::{self, Reader},
};

const MIB: u64 = 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);

struct Rig {
    ingest: Ingest,
    reader: Reader,
    conservation: Arc<Conservation>,
    links: Links,
    receipts: UnboundedReceiver<Receipt>,
    to: UnboundedSender<Receipt>,
    dir: tempfile::TempDir,
}

fn settings() -> config::Queue {
    config::Queue {
        max_bytes: 64 * MIB,
        max_age: Duration::from_secs(3600),
        min_free_bytes: 0,
        when_full: WhenFull::Block,
        commit_every: Duration::from_millis(50),
        segment_bytes: MIB,
        segment_age: Duration::from_secs(3600),
    }
}

fn lane() -> Topic {
    Topic::new("telemetry.readings.v1").unwrap()
}

impl Rig {
    fn new(settings: &config::Queue) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, links) = (Clock::new(), Links::default());
        let conservation = Arc::new(Conservation::default());
        let opened = queue::open(
            &dir.path().join("queue"),
            &GatewayId::new("gw7").unwrap(),
            &lane(),
            settings,
            Arc::clone(&conservation),
            clock.now().queue(),
        )
        .unwrap();
        let rejected = dir.path().join("quarantine");
        let around = Surroundings {
            runtime: Handle::current(),
            clock,
            conservation: Arc::clone(&conservation),
            quarantine: Quarantine::open(&rejected, quarantine::MAX_BYTES).unwrap(),
            links: links.clone(),
            pulses: Pulses::new(Duration::from_secs(60)),
        };
        let lanes = vec![(lane(), opened.writer)];
        let ingest = start(lanes, settings.commit_every, around).unwrap();
        let (to, receipts) = unbounded_channel();
        Self {
            ingest,
            reader: opened.reader,
            conservation,
            links,
            receipts,
            to,
            dir,
        }
    }

    /// A message of so many readings of some 3 KB each, that asks.
    fn message(&self, token: u64, readings: usize) -> Message {
        let to = self.to.clone();
        Message {
            lane: lane(),
            readings: vec![reading(); readings],
            origin: Origin::Unknown,
            received: Timestamp::UNIX_EPOCH,
            answer: Some(Answer { token, to }),
        }
    }

    async fn receipt(&mut self) -> Receipt {
        let receipt = tokio::time::timeout(PATIENCE, self.receipts.recv());
        receipt.await.expect("no receipt").unwrap()
    }

    fn disk(&self) -> Option<LinkState> {
        let links = self.links.snapshot();
        let disk = links.into_iter().find(|(kind, ..)| *kind == LinkKind::Disk);
        disk.map(|(_, _, state)| state)
    }

    /// Waits for the disk to be reported as full.
    async fn until_full(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !matches!(self.disk(), Some(LinkState::Down(_))) {
            assert!(Instant::now() < deadline, "never full");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Plays the forwarder: forgets everything that is there. Returns the times of its commits.
    fn forward(&mut self) -> Vec<Timestamp> {
        let now = Clock::new().now().queue();
        let mut commits = Vec::new();
        loop {
            let entries = self.reader.next(1000, now).unwrap();
            if entries.is_empty() {
                return commits;
            }
            commits.extend(entries.iter().map(|entry| entry.committed));
            self.reader
                .acknowledge(entries.len(), &[(0, 1)].into(), now)
                .unwrap();
        }
    }

    fn quarantined(&self) -> String {
        let deadline = Instant::now() + PATIENCE;
        assert!(self.ingest.gate.0.quarantine.drain(deadline));
        read(&self.dir.path().join("quarantine"))
    }
}

fn read(dir: &Path) -> String {
    let files = fs::read_dir(dir).unwrap();
    files
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

fn reading() -> Reading {
    let text = |n: u8| {
        let name = FieldName::new(format!("note_{n}")).unwrap();
        (name, Value::Text("x".repeat(250).into()))
    };
    Reading {
        device: DeviceId::new("meter-1").unwrap(),
        time: Timestamp::UNIX_EPOCH,
        clock: ReadingClock::Synced,
        fields: Fields::new((0..12).map(text).collect()).unwrap(),
        source: None,
        meta: Metadata::default(),
    }
}

#[tokio::test]
async fn a_source_is_answered_after_the_commit() {
    let mut rig = Rig::new(&settings());
    rig.ingest.gate.send(rig.message(7, 2)).await.unwrap();
    let receipt = rig.receipt().await;
    assert_eq!(receipt.token, 7);
    assert_eq!(receipt.outcome, Outcome::Stored);
    let balance = rig.conservation.snapshot();
    assert_eq!((balance.queued, balance.uncommitted), (2, 0));
    assert_eq!(rig.forward().len(), 2);
}

#[tokio::test]
async fn messages_that_arrive_during_a_commit_share_the_next_one() {
    let mut rig = Rig::new(&settings());
    for token in 0..1000 {
        rig.ingest.gate.send(rig.message(token, 1)).await.unwrap();
    }
    for token in 0..1000 {
        assert_eq!(rig.receipt().await.token, token, "answered out of order");
    }
    let mut commits = rig.forward();
    assert_eq!(commits.len(), 1000);
    commits.dedup();
    assert!(commits.len() < 500, "{} commits", commits.len());
}

#[tokio::test]
async fn a_message_that_nobody_waits_for_is_committed_by_commit_every() {
    let mut rig = Rig::new(&settings());
    let mut message = rig.message(0, 1);
    message.answer = None;
    rig.ingest.gate.send(message).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while rig.conservation.snapshot().queued == 0 {
        assert!(Instant::now() < deadline, "never committed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(rig.forward().len(), 1);
}

#[tokio::test]
async fn a_full_queue_holds_back_the_source_answers_nothing_and_recovers() {
    let mut rig = Rig::new(&config::Queue {
        max_bytes: 6 * MIB,
        ..settings()
    });
    let gate = rig.ingest.gate.clone();
    let messages: Vec<Message> = (0..6000).map(|token| rig.message(token, 1)).collect();
    let weight = weigh(&messages[0]).bytes as u64;
    let source = tokio::spawn(async move {
        for message in messages {
            gate.send(message).await.unwrap();
        }
    });
    rig.until_full().await;
    // Let the source run against the gate: it may go on until its budget is used up, no further.
    let lane_budget = Arc::clone(&rig.ingest.gate.0.lanes[&lane()].budget);
    let deadline = Instant::now() + PATIENCE;
    while lane_budget.available_permits() as u64 >= weight {
        assert!(Instant::now() < deadline, "the budget is never used up");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!source.is_finished());
    let balance = rig.conservation.snapshot();
    assert!(balance.holds(), "{balance:?}");
    assert!(balance.uncommitted * weight <= u64::from(BUDGET_BYTES));
    let mut answered = 0;
    while rig.receipts.try_recv() != Err(TryRecvError::Empty) {
        answered += 1;
    }
    assert_eq!(
        answered, balance.queued,
        "what is not durable is not answered"
    );

    while answered < 6000 {
        rig.forward();
        match rig.receipts.try_recv() {
            Ok(receipt) => {
                assert_eq!(receipt.token, answered);
                assert_eq!(receipt.outcome, Outcome::Stored);
                answered += 1;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    source.await.unwrap();
    rig.forward();
    assert_eq!(rig.disk(), Some(LinkState::Up));
    let balance = rig.conservation.snapshot();
    assert_eq!((balance.acknowledged, balance.queued), (6000, 0));
}

#[tokio::test]
async fn what_was_sent_before_the_stop_is_committed_and_nothing_after_it_taken() {
    let mut rig = Rig::new(&settings());
    let gate = rig.ingest.gate.clone();
    for token in 0..300 {
        gate.send(rig.message(token, 1)).await.unwrap();
    }
    rig.ingest.stop(Instant::now() + PATIENCE);
    assert_eq!(gate.send(rig.message(300, 1)).await, Err(Closed));
    assert_eq!(rig.ingest.stages[0].ended().await, Ok(()));
    for token in 0..300 {
        assert_eq!(rig.receipt().await.token, token);
    }
    assert_eq!(rig.forward().len(), 300);
    assert!(rig.conservation.snapshot().holds());
}

#[tokio::test]
async fn a_stop_with_a_full_queue_ends_by_its_deadline_and_answers_nothing() {
    let mut rig = Rig::new(&config::Queue {
        min_free_bytes: u64::MAX / 2,
        ..settings()
    });
    rig.ingest.gate.send(rig.message(0, 1)).await.unwrap();
    rig.until_full().await;
    rig.ingest.stop(Instant::now() + Duration::from_millis(200));
    let ended = tokio::time::timeout(PATIENCE, rig.ingest.stages[0].ended());
    assert_eq!(ended.await.unwrap(), Ok(()));
    assert_eq!(rig.receipts.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(rig.conservation.snapshot().uncommitted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_hands_over_as_a_task_does() {
    let mut rig = Rig::new(&settings());
    let (gate, message) = (rig.ingest.gate.clone(), rig.message(5, 1));
    thread::spawn(move || gate.blocking_send(message).unwrap());
    assert_eq!(rig.receipt().await.token, 5);
}

#[tokio::test]
async fn what_can_never_be_accepted_is_counted_kept_and_answered() {
    let mut rig = Rig::new(&settings());
    let gate = rig.ingest.gate.clone();
    let mut elsewhere = rig.message(1, 2);
    elsewhere.lane = Topic::new("no.such.lane").unwrap();
    for message in [elsewhere, rig.message(2, 0), rig.message(3, 1001)] {
        gate.send(message).await.unwrap();
        assert_eq!(rig.receipt().await.outcome, Outcome::Rejected);
    }
    gate.reject(
        "house",
        Rejection::Malformed,
        0,
        &"line 1, column 9",
        b"{\"t\":",
    );
    let balance = rig.conservation.snapshot();
    assert!(balance.holds());
    assert_eq!(balance.rejected, 2 + 1 + 1001 + 1);
    let rejections = gate.rejections();
    assert!(rejections.contains(&("house".into(), Rejection::Malformed, 1)));
    let kept = rig.quarantined();
    assert!(kept.contains("line 1, column 9"), "{kept}");
    assert_eq!(kept.lines().count(), 4);
}

#[tokio::test]
async fn a_reading_too_large_once_encoded_is_answered_as_rejected() {
    let mut rig = Rig::new(&settings());
    let mut message = rig.message(1, 1);
    let text = |n: u8| {
        let name = FieldName::new(format!("note_{n}")).unwrap();
        (name, Value::Text("x".repeat(250).into()))
    };
    message.readings[0].fields = Fields::new((0..40).map(text).collect()).unwrap();
    rig.ingest.gate.send(message).await.unwrap();
    assert_eq!(rig.receipt().await.outcome, Outcome::Rejected);
    let balance = rig.conservation.snapshot();
    assert!(balance.holds());
    assert_eq!((balance.rejected, balance.uncommitted), (1, 0));
    assert!(rig.quarantined().contains("too large once encoded"));
}
