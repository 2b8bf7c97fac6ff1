//! From a device to a document.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use hardware_sim::{
    Options, Scenario, Sim,
    verify::{
        Verdict,
        mongodb::{Place, verify},
    },
};
use harness::{
    daemon::{AgentStatus, SinkStatus, status_of},
    rig::{PATIENCE, Rig},
    service::Kind,
    wait,
};

/// A bit of everything: a frame device, lines in three formats, MQTT.
const SCENARIO: &str = r#"
seed = 3

[[device]]
id = "meter"
kind = "meter"
every = "20ms"
link = { pty = { mode = "frames" } }

[[device]]
id = "climate-json"
kind = "climate"
every = "50ms"
link = { pty = { mode = "lines", format = "json" } }

[[device]]
id = "climate-kv"
kind = "climate"
every = "50ms"
link = { pty = { mode = "lines", format = "key-value" } }

[[device]]
id = "press"
kind = "machine"
every = "20ms"
ring = 4096
link = { mqtt = { topic = "RIG/{device}/state" } }

[[device]]
id = "air"
kind = "air-quality"
every = "20ms"
ring = 4096
link = { mqtt = { topic = "RIG/{device}/state" } }
"#;

const SOURCES: &str = r#"
[[serial]]
name = "meter"
port = "{{dir}}/meter"
mode = "frames"

[[serial]]
name = "climate-json"
port = "{{dir}}/climate-json"
mode = "lines"
format = "json"
device = "climate-json"
time = "time"
sequence = "seq"
boot = "boot"

[[serial]]
name = "climate-kv"
port = "{{dir}}/climate-kv"
mode = "lines"
format = "key-value"
device = "climate-kv"
time = "time"
sequence = "seq"
boot = "boot"

[[mqtt]]
name = "house"
url = "{{mqtt}}"
subscribe = [ { topic = "{{rig}}/{device}/state", time = "time", sequence = "seq", boot = "boot" } ]
"#;

/// Looks at both daemons while devices play, at least.
const SCRAPES: u32 = 50;

/// Devices that play by themselves and know what they sent.
pub struct Play {
    sim: Sim,
}

impl Play {
    /// Starts the agent, then the devices of this module, with `faults` added to the scenario.
    pub fn start(rig: &mut Rig, faults: &str) -> Result<Self> {
        rig.configure_agent(SOURCES)?;
        rig.agent.start()?;
        // What is published before the first subscription is nobody's: the broker forgets it.
        rig.wait_agent("the broker", AgentStatus::mqtt_is_up)?;
        let scenario: Scenario = format!("{SCENARIO}{faults}")
            .replace("RIG", rig.name())
            .parse()?;
        let options = Options {
            seed: None,
            truth: Some(rig.dir().join("truth.jsonl")),
            mqtt: Some(rig.address(Kind::Mosquitto).to_owned()),
            pty_dir: rig.dir().to_owned(),
        };
        Ok(Self {
            sim: Sim::start(&scenario, &options)?,
        })
    }

    /// Waits until the devices have sent `more` readings from now.
    pub fn wait_sent(&self, more: u64) -> Result<()> {
        let wanted = self.sim.counts().sent + more;
        wait::until_true(&format!("{wanted} readings"), PATIENCE, || {
            Ok(self.sim.counts().sent >= wanted)
        })
    }

    /// Stops the devices once all is acknowledged, and waits until MongoDB agrees with them.
    pub fn end(self, rig: &Rig) -> Result<()> {
        self.sim.stop(PATIENCE)?;
        let place = Place {
            uri: rig.address(Kind::Mongodb).to_owned(),
            database: rig.name().to_owned(),
            collection: "readings".to_owned(),
            gateway: rig.name().parse()?,
        };
        let runtime = tokio::runtime::Runtime::new()?;
        let truth = rig.dir().join("truth.jsonl");
        let mut last = Verdict::default();
        let clean = wait::until_true("a clean verdict", PATIENCE, || {
            last = runtime.block_on(verify(&truth, &place))?;
            Ok(last.clean)
        });
        clean.with_context(|| {
            let (agent, sink) = (rig.agent.end_of_log(), rig.sink.end_of_log());
            format!("{last}\n{agent}\n{sink}")
        })?;
        ensure!(last.stored > 0, "nothing was stored");
        ensure!(last.declared_lost == 0, "declared lost: {last}");
        Ok(())
    }
}

#[test]
fn readings_of_every_source_are_in_mongodb_exactly_once() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let play = Play::start(&mut rig, "")?;
    rig.sink.start()?;
    play.wait_sent(1000)?;
    play.end(&rig)?;
    rig.done()
}

#[test]
fn damaged_doubled_and_lost_transmissions_change_nothing() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let faults = r#"
[[fault]]
kind = "corrupt"
rate = 0.05
devices = ["meter", "climate-*"]
[[fault]]
kind = "duplicate"
rate = 0.05
[[fault]]
kind = "lost-acks"
rate = 0.05
[[fault]]
kind = "garbage"
rate = 0.05
[[fault]]
kind = "reboot"
every = "3s"
"#;
    let play = Play::start(&mut rig, faults)?;
    rig.sink.start()?;
    play.wait_sent(1500)?;
    play.end(&rig)?;
    rig.done()
}

#[test]
fn every_scrape_shows_numbers_that_are_conserved() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let play = Play::start(&mut rig, "")?;
    rig.sink.start()?;
    let (agent, sink) = (rig.agent.url(), rig.sink.url());
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let scrapes = scope.spawn(|| -> Result<()> {
            let mut scrapes = 0;
            while scrapes < SCRAPES || !ended.load(Ordering::Relaxed) {
                let agent: AgentStatus = status_of(&agent)?;
                ensure!(agent.balance.holds(), "agent: {:?}", agent.balance);
                let sink: SinkStatus = status_of(&sink)?;
                ensure!(sink.balance.holds(), "sink: {:?}", sink.balance);
                scrapes += 1;
            }
            Ok(())
        });
        let played = play.wait_sent(1000);
        ended.store(true, Ordering::Relaxed);
        scrapes.join().expect("the scraper does not panic")?;
        played
    })?;
    play.end(&rig)?;
    rig.done()
}

#[test]
fn one_reading_can_be_followed_from_the_line_to_the_document() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(super::serial::FRAMES)?;
    let mut line = rig.line("meter")?;
    rig.agent.start()?;
    rig.sink.start()?;
    line.greet("meter-1", 7)?;
    line.send_reading(7, 0, 230.25)?;
    line.wait_ack(7, 0, PATIENCE)?;
    rig.wait_until_stored(1)?;

    let records = rig.kafka.read_all(rig.kafka.readings())?;
    ensure!(records.len() == 1, "{records:?}");
    let record = &records[0];
    ensure!(record.key == rig.name().as_bytes(), "key {:?}", record.key);
    let id = record.header("ce_id").context("ce_id")?;
    let id = std::str::from_utf8(id)?;
    ensure!(
        record.header("ce_subject") == Some(b"meter-1"),
        "{record:?}"
    );
    let reading = record.reading()?;
    ensure!(reading.id.to_string() == id, "{} is not {id}", reading.id);

    let documents = rig.documents.readings_by_id()?;
    let document = &documents[0];
    ensure!(document.get_str("_id")? == id, "{document}");
    let meta = document.get_document("meta")?;
    ensure!(meta.get_str("gateway")? == rig.name(), "{document}");
    ensure!(meta.get_str("device")? == "meter-1", "{document}");
    ensure!(document.get_f64("power_w")? == 230.25, "{document}");
    rig.done()
}
