use std::{io::Write, path::PathBuf};

use serialport::{SerialPort, TTYPort};
use tempfile::TempDir;

use super::*;
use crate::config::{self, Secrets};

struct Rig {
    dir: TempDir,
}

impl Rig {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A box whose Kafka is not there.
    fn config(&self, sources: &str, status: &str) -> Config {
        let path = self.dir.path().join("agent.toml");
        let text = format!(
            "[agent]\ngateway = \"gw7\"\nstate_dir = {:?}\nshutdown_timeout = \"200ms\"\n{sources}
            [kafka]\nbootstrap = \"127.0.0.1:1\"\ntopic = \"readings\"\n[status]\nlisten = \"{status}\"\n",
            self.state()
        );
        fs::write(&path, text).unwrap();
        config::load(&path, Secrets::Read).unwrap_or_else(|problems| panic!("{problems:?}"))
    }
}

const LINES: &str = "mode = \"lines\"\nformat = \"key-value\"\ndevice = \"d\"\n";

/// Nobody asks for the configuration to be read again.
fn never() -> mpsc::Receiver<Reread> {
    mpsc::channel(1).1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reading_from_a_serial_line_is_in_the_queue_after_an_orderly_end() {
    let rig = Rig::new();
    let (mut device, line) = TTYPort::pair().unwrap();
    let port = line.name().unwrap();
    let source = format!("[[serial]]\nname = \"a\"\nport = {port:?}\n{LINES}");
    let config = rig.config(&source, "off");
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(run(config, never(), shutdown.clone()));

    let queue = rig.state().join("queue");
    let lane = "readings";
    let waiting = || queue::inspect::stat(&queue, lane).map_or(0, |seen| seen.stat.readings);
    let deadline = Instant::now() + Duration::from_secs(60);
    while waiting() == 0 {
        assert!(!running.is_finished(), "{:?}", running.await);
        assert!(Instant::now() < deadline, "nothing queued");
        device.write_all(b"temperature_c=21.5\n").unwrap();
        time::sleep(Duration::from_millis(50)).await;
    }

    shutdown.cancel();
    running.await.unwrap().unwrap();
    let entries = queue::inspect::peek(&queue, lane, 1).unwrap();
    assert_eq!(entries[0].record.reading.device.as_str(), "d");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_address_that_is_taken_keeps_it_from_starting_and_is_named() {
    let rig = Rig::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = rig.config("", &address.to_string());
    let error = run(config, never(), CancellationToken::new())
        .await
        .unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.starts_with(&format!("status.listen {address}: ")),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_is_no_longer_configured_is_opened_to_drain() {
    let rig = Rig::new();
    let line = |topic: &str| {
        format!("[[serial]]\nname = \"a\"\nport = \"/nonexistent\"\ntopic = \"{topic}\"\n{LINES}")
    };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(run(
        rig.config(&line("old"), "off"),
        never(),
        shutdown.clone(),
    ));
    while !rig.state().join("queue/old/lane").exists() {
        assert!(!running.is_finished());
        time::sleep(Duration::from_millis(5)).await;
    }
    shutdown.cancel();
    running.await.unwrap().unwrap();

    let lanes = lanes_to_drain(&rig.config(&line("new"), "off"), &rig.state().join("queue"));
    assert_eq!(lanes.unwrap(), ["old"]);
    let lanes = lanes_to_drain(&rig.config(&line("old"), "off"), &rig.state().join("queue"));
    assert!(lanes.unwrap().is_empty());
}

#[tokio::test]
async fn the_first_stage_to_end_is_told_by_name() {
    let forever = |stop: crate::stage::Stop| {
        while stop.deadline().is_none() {
            std::thread::park();
        }
        Ok(())
    };
    let mut stages = [
        Stage::spawn("steady", forever).unwrap(),
        Stage::spawn("broken", |_| Err("out of paper".into())).unwrap(),
    ];
    let (name, result) = first_end(&mut stages).await;
    assert_eq!(
        (name.as_str(), result),
        ("broken", Err("out of paper".into()))
    );
    stages[0].stop(Instant::now());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_that_blocks_its_sources_does_not_keep_it_from_an_orderly_end() {
    let rig = Rig::new();
    let (mut device, line) = TTYPort::pair().unwrap();
    device.set_timeout(Duration::from_secs(1)).unwrap();
    let port = line.name().unwrap();
    let source = format!(
        "[[serial]]\nname = \"a\"\nport = {port:?}\n{LINES}\n\
         [queue]\nmax_bytes = \"4MiB\"\nsegment_bytes = \"1MiB\"\nwhen_full = \"block\"\n"
    );
    let config = rig.config(&source, "off");
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(run(config, never(), shutdown.clone()));

    let queue = rig.state().join("queue");
    let full =
        || queue::inspect::stat(&queue, "readings").is_ok_and(|seen| seen.stat.bytes > 3 << 20);
    let fields: Vec<String> = (0..60).map(|n| format!("quantity_{n}={n}.25")).collect();
    let text = format!("{}\n", fields.join(" "));
    let deadline = Instant::now() + Duration::from_secs(120);
    // Nobody reads the line any more once the gate is closed.
    while device.write_all(text.as_bytes()).is_ok() || !full() {
        assert!(!running.is_finished(), "{:?}", running.await);
        assert!(Instant::now() < deadline, "never full");
        tokio::task::yield_now().await;
    }

    shutdown.cancel();
    running.await.unwrap().unwrap();
}
