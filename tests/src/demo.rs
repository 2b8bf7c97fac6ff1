//! The main job, watched: simulated devices, the real daemons, plugs pulled, and the verdict.
//!
//! ```text
//! play ─▶ uplink away ─▶ back ─▶ agent kill -9 ─▶ sink kill -9 ─▶ devices stop ─▶ drain ─▶ verify ─▶ audit
//! ```
//!
//! Everything is a child of this process and in `target/demo`; nothing remains but that folder, unless
//! `--keep` is given: then all of it stays (`keep`).

mod keep;
mod plant;
mod view;
mod watch;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use self::{
    plant::{Plant, Verdict},
    view::View,
    watch::Watch,
};
use crate::interrupt::Interrupt;

/// What can be chosen.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Apache Kafka and Mosquitto instead of the embedded ones.
    #[arg(long)]
    real: bool,
    /// A dozen devices as they are bought instead of four that number their readings.
    #[arg(long)]
    house: bool,
    /// Leave everything running after the verdict, and print where to look.
    #[arg(long)]
    keep: bool,
    /// End what --keep left running.
    #[arg(long, exclusive = true)]
    stop: bool,
    /// This is the process that --keep leaves running.
    #[arg(long, hide = true)]
    staying: bool,
    /// Somebody copies the output to a terminal.
    #[arg(long, hide = true)]
    live: bool,
}

/// How long each act lasts. Long enough to be watched; nothing depends on it.
const QUIET: Duration = Duration::from_secs(10);
const AWAY: Duration = Duration::from_secs(8);
const SHORT: Duration = Duration::from_secs(4);
/// By when everything is stated and checkpointed after that.
const STATED: Duration = Duration::from_secs(90);
/// By when all readings must have arrived after the devices stopped.
const DRAINED: Duration = Duration::from_secs(180);

/// Plays it.
///
/// # Errors
/// Something did not start, ended on its own, or the readings did not arrive; the logs are kept.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.stop {
        return keep::stop();
    }
    if options.keep {
        return keep::show(options.real, options.house);
    }
    if options.staying {
        keep::leave_terminal()?;
    } else {
        keep::none_stays()?;
    }
    let interrupt = Interrupt::catch()?;
    let mut view = View::new(options.live);
    let mut plant = Plant::build(options.real, options.house, &mut view)?;
    let watch = Watch::start(plant.places())?;
    let mut stage = Stage {
        plant: &mut plant,
        view: &mut view,
        watch: &watch,
        interrupt: &interrupt,
    };
    let verdict = stage.play();
    if let Err(error) = &verdict
        && !interrupt.came()
    {
        view.event(&format!("failed: {error:#}"));
        view.event(&format!("logs are in {}", plant.dir().display()));
    }
    let clean = verdict?;
    for line in plant.some_documents()? {
        view.event(&line);
    }
    if options.staying {
        stay(clean, &mut plant, &mut view, &watch, &interrupt)?;
    }
    plant.end()?;
    Ok(keep::code(clean))
}

/// What an act of the play needs.
struct Stage<'a> {
    plant: &'a mut Plant,
    view: &'a mut View,
    watch: &'a Watch,
    interrupt: &'a Interrupt,
}

impl Stage<'_> {
    fn play(&mut self) -> Result<bool> {
        self.plant.start_sink()?;
        self.plant.start_agent()?;
        // What is published before the first subscription is nobody's: the broker forgets it.
        self.until("the agent to subscribe", |seen| seen.mqtt_is_up())?;
        self.plant.start_devices(self.watch)?;
        self.view
            .event(&format!("devices play: {}", self.plant.who_plays()));
        self.until("the first reading in MongoDB", |seen| seen.stored > 0)?;
        self.view.event("the first readings are in MongoDB");
        self.go_on(QUIET)?;

        self.view
            .event("the uplink goes away: Kafka is down, the queue on disk grows");
        self.plant.kafka_down()?;
        self.go_on(AWAY)?;
        self.view.event("the uplink is back");
        self.plant.kafka_up()?;
        self.until("the queue to shrink", |seen| seen.queued < 50)?;
        self.view.event("what waited in the queue is in Kafka");
        self.go_on(SHORT)?;

        self.view.event("the agent is killed (SIGKILL)");
        self.plant.agent.kill()?;
        self.go_on(Duration::from_secs(1))?;
        self.plant.start_agent()?;
        self.view
            .event("the agent is started again, on the queue it left");
        self.go_on(SHORT)?;

        self.view.event("the sink is killed (SIGKILL)");
        self.plant.sink.kill()?;
        self.go_on(Duration::from_secs(1))?;
        self.plant.start_sink()?;
        self.view.event("the sink is started again");
        self.go_on(SHORT)?;

        self.view
            .event("the devices stop once all they sent is acknowledged");
        self.plant.stop_devices()?;
        self.until("every reading to arrive", |seen| seen.drained())?;
        let mut clean = true;
        if let Some(verdict) = self.plant.verify()? {
            self.view
                .event("the queue is empty; MongoDB against what the devices know:");
            for line in verdict.text.lines() {
                self.view.event(line);
            }
            clean = verdict.clean;
        }
        self.view
            .event("what the sink itself can prove (cloud-sink audit):");
        let audit = self.audit()?;
        for line in audit.text.lines() {
            self.view.event(line);
        }
        Ok(clean && audit.clean)
    }

    /// The audit, once the gateway has stated its last progress, which it does every ten seconds.
    fn audit(&mut self) -> Result<Verdict> {
        let end = Instant::now() + STATED;
        loop {
            let audit = self.plant.audit()?;
            if audit.clean || Instant::now() > end {
                return Ok(audit);
            }
            self.go_on(Duration::from_secs(1))?;
        }
    }

    /// Lets the play go on.
    fn go_on(&mut self, duration: Duration) -> Result<()> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.tick()?;
        }
        Ok(())
    }

    fn until(&mut self, what: &str, condition: impl Fn(&watch::Seen) -> bool) -> Result<()> {
        let end = Instant::now() + DRAINED;
        while !condition(&self.watch.seen()) {
            ensure!(Instant::now() < end, "waited {DRAINED:?} for {what}");
            self.tick()?;
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<()> {
        if self.interrupt.came() {
            bail!("interrupted");
        }
        self.plant.check()?;
        self.view.show(&self.watch.seen());
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    }
}

/// Lets the devices play again, shows where to look, and stays until it is told to end.
fn stay(
    clean: bool,
    plant: &mut Plant,
    view: &mut View,
    watch: &Watch,
    interrupt: &Interrupt,
) -> Result<()> {
    plant.start_devices_again(watch)?;
    view.event("the devices play again, and all of it stays:");
    for (what, place) in plant.where_to_look() {
        view.event(&format!("{what:<10} {place}"));
    }
    view.event("end it with dev/demo --stop");
    let _sign = keep::Sign::set(clean)?;
    while !interrupt.came() {
        plant.check()?;
        std::thread::sleep(Duration::from_millis(200));
    }
    plant.stop_devices()
}
