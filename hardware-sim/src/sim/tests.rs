//! Whole runs on real pseudo terminals, with a fake agent at the other end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use protocol::frame::{Ack, Decoder, Frame, FrameReading, Hello, Verdict};
use rustix::event::{PollFd, PollFlags, Timespec};
use tempfile::TempDir;

use super::*;
use crate::truth::{Exact, Line, Reader, State};

const LONGEST: Duration = Duration::from_secs(20);

struct Rig {
    dir: TempDir,
    sim: Option<Sim>,
}

impl Rig {
    fn play(scenario: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            seed: None,
            truth: Some(dir.path().join("truth.jsonl")),
            mqtt: None,
            pty_dir: dir.path().join("pty"),
        };
        let sim = Sim::start(&scenario.parse().unwrap(), &options).unwrap();
        Self {
            dir,
            sim: Some(sim),
        }
    }

    fn sim(&self) -> &Sim {
        self.sim.as_ref().unwrap()
    }

    fn port(&self, device: &str) -> PathBuf {
        self.dir.path().join("pty").join(device)
    }

    /// Ends the run and reads the truth.
    fn truth(&mut self, settle: Duration) -> Vec<Line> {
        self.sim.take().unwrap().stop(settle).unwrap();
        let mut reader = Reader::open(&self.dir.path().join("truth.jsonl")).unwrap();
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line().unwrap() {
            lines.push(line);
        }
        assert!(reader.complete);
        lines
    }
}

fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONGEST;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The agent's end: acknowledges what it is told to.
struct Agent {
    line: File,
    decoder: Decoder,
    /// First reading seen of each (boot, sequence).
    readings: BTreeMap<(u32, u32), FrameReading>,
    hellos: Vec<Hello>,
    seen: usize,
    acknowledges: bool,
}

impl Agent {
    fn open(port: &Path) -> Self {
        let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
        let line = File::options()
            .read(true)
            .write(true)
            .custom_flags(nonblock)
            .open(port)
            .unwrap();
        Self {
            line,
            decoder: Decoder::new(),
            readings: BTreeMap::new(),
            hellos: Vec::new(),
            seen: 0,
            acknowledges: true,
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let mut fds = [PollFd::new(&self.line, PollFlags::IN)];
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        rustix::event::poll(&mut fds, Some(&timeout)).unwrap();
        let mut buffer = vec![0; 4096];
        let length = self.line.read(&mut buffer).unwrap_or(0);
        buffer.truncate(length);
        buffer
    }

    fn step(&mut self) {
        for byte in self.bytes() {
            match self.decoder.push(byte) {
                Some(Ok(Frame::Hello(hello))) => self.hellos.push(hello),
                Some(Ok(Frame::Reading(reading))) => self.take(reading),
                _ => {}
            }
        }
    }

    /// As the protocol says: of a boot it does not know it takes nothing, but asks.
    fn take(&mut self, reading: FrameReading) {
        let (boot, sequence) = (reading.boot, reading.sequence);
        if !self.hellos.iter().any(|hello| hello.boot == boot) {
            self.say(&Frame::Hello(Hello {
                device: "gw".into(),
                model: String::new(),
                firmware: String::new(),
                boot: 0,
                time_us: None,
                reply: true,
            }));
            return;
        }
        self.seen += 1;
        if self.acknowledges {
            let verdict = Verdict::Stored;
            self.say(&Frame::Ack(Ack {
                boot,
                sequence,
                verdict,
            }));
        }
        let first = self
            .readings
            .entry((boot, sequence))
            .or_insert(reading.clone());
        assert_eq!(
            first.fields, reading.fields,
            "a retransmission says the same"
        );
    }

    fn say(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        // An ack that finds no room is a lost one.
        self.line.write_all(&bytes).unwrap_or_default();
    }

    fn step_until(&mut self, what: &str, mut happened: impl FnMut(&Self) -> bool) {
        until(what, || {
            self.step();
            happened(self)
        });
    }
}

fn values(reading: &FrameReading) -> BTreeMap<String, Exact> {
    (reading.fields.iter().cloned())
        .map(|(name, value)| (name, value.into()))
        .collect()
}

/// Every acknowledged line is a reading the agent took, value by value.
fn assert_true(truth: &[Line], agent: &Agent) {
    for line in truth {
        if let Some(reading) = agent.readings.get(&(line.boot, line.seq)) {
            assert_eq!(values(reading), line.values);
        } else {
            assert_ne!(line.state, State::Acknowledged, "{line:?} was never taken");
        }
    }
    let known: BTreeSet<_> = truth.iter().map(|line| (line.boot, line.seq)).collect();
    let unknown = agent.readings.keys().find(|key| !known.contains(key));
    assert_eq!(unknown, None, "taken, but not in the truth");
}

const FRAMED: &str = r#"
[[device]]
id = "meter-1"
kind = "meter"
every = "4ms"
link = { pty = { mode = "frames" } }
"#;

#[test]
fn what_the_agent_acknowledged_is_the_truth() {
    let mut rig = Rig::play(FRAMED);
    let mut agent = Agent::open(&rig.port("meter-1"));
    agent.step_until("readings", |agent| agent.readings.len() >= 50);
    assert_eq!(agent.hellos[0].device, "meter-1");
    let sim = rig.sim.take().unwrap();
    let stopping = std::thread::spawn(move || sim.stop(LONGEST).unwrap());
    agent.step_until("the end", |_| stopping.is_finished());
    let counts = stopping.join().unwrap();
    assert_eq!(counts.sent, counts.acknowledged);
    let mut reader = Reader::open(&rig.dir.path().join("truth.jsonl")).unwrap();
    let mut truth = Vec::new();
    while let Some(line) = reader.next_line().unwrap() {
        assert_eq!(line.state, State::Acknowledged);
        truth.push(line);
    }
    assert_eq!(truth.len(), agent.readings.len());
    assert_true(&truth, &agent);
}

#[test]
fn an_agent_that_was_killed_gets_everything_again() {
    let mut rig = Rig::play(FRAMED);
    let mut killed = Agent::open(&rig.port("meter-1"));
    killed.acknowledges = false;
    killed.step_until("readings", |agent| agent.readings.len() >= 10);
    let before = killed.readings;
    drop(killed.line);
    let mut agent = Agent::open(&rig.port("meter-1"));
    agent.step_until("the same again", |agent| {
        before.keys().all(|key| agent.readings.contains_key(key))
    });
    assert_eq!(agent.hellos[0].device, "meter-1", "it said who it is");
    for (key, reading) in &before {
        assert_eq!(agent.readings[key].fields, reading.fields);
    }
    agent.readings.extend(before);
    let taken = agent.seen;
    agent.step_until("more", |agent| agent.seen > taken + 10);
    let truth = rig.truth(Duration::ZERO);
    assert_true(&truth, &agent);
    assert!(truth.iter().any(|line| line.state == State::Acknowledged));
}

#[test]
fn a_pulled_plug_takes_the_name_away_and_gives_it_back() {
    let mut rig = Rig::play(FRAMED);
    let port = rig.port("meter-1");
    let mut agent = Agent::open(&port);
    agent.step_until("readings", |agent| agent.readings.len() >= 5);
    let unplug = Occasion::Unplug(Duration::from_millis(200));
    assert!(rig.sim().order("meter-1", unplug));
    assert!(!rig.sim().order("nobody", unplug));
    until("no name", || !port.exists());
    until("a name again", || port.exists());
    let readings = std::mem::take(&mut agent.readings);
    let mut agent = Agent::open(&port);
    agent.readings = readings;
    let before = agent.readings.len();
    agent.step_until("more", |agent| agent.readings.len() > before + 5);
    assert_true(&rig.truth(Duration::ZERO), &agent);
}

#[test]
fn a_reboot_begins_a_new_boot_at_sequence_0() {
    let mut rig = Rig::play(FRAMED);
    let mut agent = Agent::open(&rig.port("meter-1"));
    agent.step_until("readings", |agent| agent.readings.len() >= 5);
    rig.sim().order("meter-1", Occasion::Reboot);
    agent.step_until("two boots", |agent| agent.hellos.len() == 2);
    let boot = agent.hellos[1].boot;
    assert!(boot > agent.hellos[0].boot);
    agent.step_until("its first", |agent| agent.readings.contains_key(&(boot, 0)));
    assert_true(&rig.truth(Duration::ZERO), &agent);
}

#[test]
fn with_every_fault_what_was_acknowledged_was_still_taken() {
    let rates = [
        "corrupt",
        "truncate",
        "drop",
        "duplicate",
        "reorder",
        "garbage",
        "oversized",
    ];
    let faults: String = (rates.iter())
        .map(|kind| format!("[[fault]]\nkind = \"{kind}\"\nrate = 0.05\n"))
        .collect();
    let more = "[[fault]]\nkind = \"lost-acks\"\nrate = 0.2\n\
                [[fault]]\nkind = \"reboot\"\nevery = \"500ms\"\n\
                [[fault]]\nkind = \"stall\"\nevery = \"500ms\"\nlasts = \"50ms\"\n\
                [[fault]]\nkind = \"clock-jump\"\nevery = \"300ms\"\n";
    let mut rig = Rig::play(&format!("{FRAMED}{faults}{more}"));
    let mut agent = Agent::open(&rig.port("meter-1"));
    agent.step_until("readings", |agent| agent.readings.len() >= 150);
    assert!(rig.sim().counts().faults > 20);
    let truth = rig.truth(Duration::ZERO);
    assert_true(&truth, &agent);
    assert!(
        truth
            .iter()
            .any(|line| line.sends > 1 && line.state == State::Acknowledged)
    );
}

#[test]
fn a_line_of_text_is_written_only_while_somebody_listens() {
    let scenario = r#"
        [[device]]
        id = "climate-1"
        kind = "climate"
        every = "5ms"
        link = { pty = { mode = "lines", format = "json" } }
    "#;
    let mut rig = Rig::play(scenario);
    until("unheard lines", || rig.sim().counts().unheard >= 3);
    assert_eq!(rig.sim().counts().sent, 0);
    let mut agent = Agent::open(&rig.port("climate-1"));
    let mut text = String::new();
    until("lines", || {
        text.push_str(&String::from_utf8(agent.bytes()).unwrap());
        text.lines().count() > 20
    });
    let truth = rig.truth(LONGEST);
    text.push_str(&String::from_utf8(agent.bytes()).unwrap_or_default());
    assert!(truth.iter().all(|line| line.state == State::Sent));
    let heard: Vec<serde_json::Value> = (text.lines().filter(|line| !line.is_empty()))
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert!(heard.len() >= 20);
    for (heard, line) in heard.iter().zip(&truth) {
        assert_eq!(heard["seq"], line.seq);
        let Exact::Float(temperature) = line.values["temperature_c"] else {
            panic!("{line:?}");
        };
        assert_eq!(heard["temperature_c"].as_f64(), Some(temperature));
    }
}

#[test]
fn a_full_ring_stops_the_device_and_is_counted() {
    let scenario = FRAMED.replace("every", "ring = 5\nevery");
    let mut rig = Rig::play(&scenario);
    until("a full ring", || rig.sim().counts().ring_full > 5);
    let mut agent = Agent::open(&rig.port("meter-1"));
    agent.step_until("readings", |agent| agent.readings.len() > 10);
    let sequences: Vec<_> = agent
        .readings
        .keys()
        .map(|(_, sequence)| *sequence)
        .collect();
    let without_gap = u32::try_from(sequences.len()).unwrap();
    assert_eq!(sequences, (0..without_gap).collect::<Vec<_>>());
    assert_true(&rig.truth(Duration::ZERO), &agent);
}

#[test]
fn a_line_that_a_fault_took_or_damaged_is_no_obligation() {
    let scenario = r#"
        [[device]]
        id = "climate-1"
        kind = "climate"
        every = "4ms"
        link = { pty = { mode = "lines", format = "json" } }
        [[fault]]
        kind = "corrupt"
        rate = 0.2
        [[fault]]
        kind = "truncate"
        rate = 0.2
        [[fault]]
        kind = "drop"
        rate = 0.2
        [[fault]]
        kind = "garbage"
        rate = 0.2
    "#;
    let mut rig = Rig::play(scenario);
    let mut agent = Agent::open(&rig.port("climate-1"));
    let mut bytes = Vec::new();
    until("lines", || {
        bytes.extend(agent.bytes());
        rig.sim().counts().sent > 100
    });
    let truth = rig.truth(LONGEST);
    bytes.extend(agent.bytes());
    let whole: BTreeSet<_> = (bytes.split(|byte| *byte == b'\n'))
        .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
        .filter_map(|line| line["seq"].as_u64())
        .collect();
    for line in &truth {
        let arrived = whole.contains(&line.seq.into());
        assert_eq!(arrived, line.state == State::Sent, "{line:?}");
    }
    let damaged = truth
        .iter()
        .filter(|line| line.state == State::Damaged)
        .count();
    assert!(damaged > 20, "{damaged} of {}", truth.len());
}
