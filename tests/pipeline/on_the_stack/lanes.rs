//! Lanes that are held back by windows and budgets, and alarms that are not.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use harness::{
    daemon::{AgentStatus, LaneStatus},
    rig::{PATIENCE, Rig, kafka::Kafka},
    service::Kind,
    wait,
    wall_clock::WallClock,
};

use super::audit;

/// Readings, and alarms in a lane of their own.
const TWO_LANES: &str = r#"
[[mqtt]]
name = "house"
url = "{{mqtt}}"
subscribe = [
  { topic = "{{rig}}/{device}/state", preset = "json", sequence = "seq", boot = "boot" },
  { topic = "{{rig}}/{device}/alarm", preset = "json", sequence = "seq", boot = "boot", kafka_topic = "{{rig}}.alarms" },
]

[[topic]]
name = "{{rig}}.alarms"
alarm = true
"#;

/// A window that will not open while a test runs, unless it begins in the last seconds of a February with 29 days.
const NEVER: &str = "windows = [{ opens = \"0 0 29 2 *\", for = \"1m\" }]\n";

/// The lane of the readings, with these limits.
fn limited(rig: &Rig, limits: &str) -> String {
    let readings = rig.kafka.readings();
    format!("\n[[topic]]\nname = \"{readings}\"\n{limits}")
}

/// No day of a budget ends there while a test runs.
fn zone_where_it_is_noon() -> Result<String> {
    let hour = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 3600 % 24;
    // These names count westwards: what is called +3 is three hours behind UTC.
    Ok(match hour.checked_sub(12) {
        Some(0) => "UTC".to_owned(),
        Some(behind) => format!("Etc/GMT+{behind}"),
        None => format!("Etc/GMT-{}", 12 - hour),
    })
}

fn lane(rig: &Rig) -> Result<LaneStatus> {
    let status = rig.agent_status()?;
    let mut lanes = status.lanes.into_iter();
    let found = lanes.find(|lane| lane.topic == rig.kafka.readings());
    found.context("no lane of readings")
}

#[test]
fn an_alarm_passes_a_backlog_that_waits_for_its_window_and_nothing_of_it_is_lost() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let alarms = format!("{}.alarms", rig.name());
    Kafka::create(rig.address(Kind::Kafka), &[(&alarms, 3, false)])?;
    let sink = fs::read_to_string(rig.sink.config_file())?;
    let route = format!("[[route]]\ntopic = \"{alarms}\"\ncollection = \"readings\"\n\n[status]");
    rig.sink.configure(&sink.replace("[status]", &route))?;
    rig.configure_agent(&format!("{TWO_LANES}{}", limited(&rig, NEVER)))?;
    rig.sink.start()?;
    rig.agent.start()?;
    super::publish(&rig, "press", 0..200)?;

    // An alarm comes after all of them, and through.
    let publisher = rig.publisher("smoke")?;
    publisher.publish(&format!("{}/smoke/alarm", rig.name()), super::payload(0))?;
    publisher.wait_acknowledged(1)?;
    rig.wait_until_stored(1)?;
    super::assert_stored_once(&rig, &["smoke"], 1)?;

    // What waits is counted and named, and nobody calls it an outage.
    let readings = rig.kafka.readings().to_owned();
    let status = rig.wait_agent("a lane that is held back", |agent| {
        let held = agent.held(&readings);
        agent.ready && agent.balance.queued == 200 && held.is_some_and(|held| held.by == "window")
    })?;
    ensure!(status.held(&alarms).is_none(), "{:?}", status.lanes);
    let until = status.held(&readings).and_then(|held| held.until.clone());
    ensure!(
        until.is_some_and(|until| until.contains("-02-29T00:00")),
        "{status:?}"
    );
    let metric = format!("edge_uplink_held{{topic=\"{readings}\",by=\"window\"}} 1");
    wait::until_true("the metric of it", PATIENCE, || {
        Ok(rig.agent.page("/metrics")?.contains(&metric))
    })?;
    let log = fs::read_to_string(rig.agent.log())?;
    let mut told = log.lines().filter(|line| line.contains("lane held back"));
    ensure!(told.clone().count() == 1, "{log}");
    ensure!(
        told.next_back()
            .is_some_and(|line| line.contains("by=window")),
        "{log}"
    );
    ensure!(
        rig.kafka.count(&readings)? == 0,
        "readings went through a closed window"
    );

    // Stopped, it does not wait for the window; started without one, everything comes, in order, once.
    rig.agent.stop(PATIENCE)?;
    rig.configure_agent(TWO_LANES)?;
    rig.agent.start()?;
    rig.wait_until_stored(201)?;
    super::assert_at_rest(&mut rig)?;
    super::assert_in_order(&rig.kafka.read_all(&readings)?)?;
    super::assert_audit_is_clean(&rig, 201)?;
    rig.done()
}

/// What `max_rate` and `priority` hold back, is held and comes later; an alarm passes it.
#[test]
fn an_alarm_passes_a_lane_that_waits_for_its_rate_and_one_of_less_priority_makes_way() -> Result<()>
{
    const BACKLOG: u64 = 400;
    let mut rig = Rig::new(&[])?;
    let lanes = ["alarms", "events", "notes"].map(|lane| format!("{}.{lane}", rig.name()));
    let made: Vec<_> = lanes.iter().map(|lane| (lane.as_str(), 3, false)).collect();
    Kafka::create(rig.address(Kind::Kafka), &made)?;
    let [alarms, events, notes] = &lanes;
    let route = |topic| format!("[[route]]\ntopic = \"{topic}\"\ncollection = \"readings\"\n\n");
    let routes = lanes.iter().map(route).collect::<String>() + "[status]";
    let sink = fs::read_to_string(rig.sink.config_file())?;
    rig.sink.configure(&sink.replace("[status]", &routes))?;
    let subscription = |lane| {
        format!(
            "  {{ topic = \"{{{{rig}}}}/{{device}}/{lane}\", preset = \"json\", sequence = \"seq\", boot = \"boot\", kafka_topic = \"{{{{rig}}}}.{lane}\" }},\n"
        )
    };
    let sources = subscription("events") + &subscription("notes") + "]\n\n[[topic]]";
    let sources = TWO_LANES.replace("]\n\n[[topic]]", &sources);
    // While a batch of it waits to be full, its readings are on their way, and whoever is below makes way.
    let above = format!("\n[[topic]]\nname = \"{events}\"\npriority = 5\nlinger = \"1s\"\n");
    let slow = limited(&rig, "max_rate = 1\n");
    rig.configure_agent(&format!("{sources}{above}{slow}"))?;
    rig.sink.start()?;
    rig.agent.start()?;

    // At one a second they outlast the test.
    super::publish(&rig, "press", 0..BACKLOG)?;
    let readings = rig.kafka.readings().to_owned();
    let is_held = |agent: &AgentStatus, topic: &str, by: &str| {
        agent.held(topic).is_some_and(|held| held.by == by)
    };
    rig.wait_agent("a lane that waits for its rate", |agent| {
        is_held(agent, &readings, "rate")
    })?;
    let door = rig.publisher("door")?;
    let publish = |lane: &str, sequence| {
        let topic = format!("{}/door/{lane}", rig.name());
        door.publish(&topic, super::payload(sequence))
    };
    publish("alarm", 0)?;
    wait::until_true("the alarm", PATIENCE, || Ok(rig.kafka.count(alarms)? == 1))?;
    let backlog = lane(&rig)?;
    ensure!(backlog.readings > 0, "{backlog:?}");

    let mut sequence = 0;
    wait::until_true("a lane that makes way", PATIENCE, || {
        sequence += 1;
        publish("events", sequence)?;
        for note in 0..20 {
            publish("notes", 1_000_000 + 20 * sequence + note)?;
        }
        Ok(is_held(&rig.agent_status()?, notes, "priority"))
    })?;

    // Nothing of it is lost: without the limits all of it comes, each lane in its order.
    let all = BACKLOG + 1 + 21 * sequence;
    door.wait_acknowledged(usize::try_from(all - BACKLOG)?)?;
    rig.agent.stop(PATIENCE)?;
    rig.configure_agent(&sources)?;
    rig.agent.start()?;
    rig.wait_until_stored(all)?;
    super::assert_at_rest(&mut rig)?;
    for topic in [&readings, events, notes] {
        super::assert_in_order(&rig.kafka.read_all(topic)?)?;
    }
    super::assert_audit_is_clean(&rig, all)?;
    rig.done()
}

#[test]
fn a_spent_budget_stays_spent_over_kill_9_and_the_rest_comes_with_a_new_one() -> Result<()> {
    let zone = zone_where_it_is_noon()?;
    let budget = format!("budget_per_day = \"64KiB\"\nlinger = \"5ms\"\ntimezone = \"{zone}\"\n");
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(&format!("{}{}", super::MQTT, limited(&rig, &budget)))?;
    let agent = fs::read_to_string(rig.agent.config_file())?;
    // So that the wire takes what the readings are long.
    let plain = "[kafka]\nproperties = { \"compression.type\" = \"none\" }\n";
    rig.agent
        .configure(&agent.replacen("[kafka]\n", plain, 1))?;
    rig.sink.start()?;
    rig.agent.start()?;
    super::publish(&rig, "press", 0..400)?;

    let readings = rig.kafka.readings().to_owned();
    let held_by_budget = |rig: &Rig| {
        rig.wait_agent("a spent budget", |agent| {
            agent
                .held(&readings)
                .is_some_and(|held| held.by == "budget")
        })
    };
    // What the wire took becomes known a moment later: it may be held, send a little more, and be held again.
    let within_budget = |rig: &Rig| -> Result<()> {
        held_by_budget(rig)?;
        let lane = lane(rig)?;
        let sent = rig.kafka.read_all(&readings)?;
        let bytes: usize = sent.iter().map(|record| record.value.len()).sum();
        ensure!(
            (10_000..=64 << 10).contains(&bytes),
            "{bytes} bytes of values, {lane:?}"
        );
        ensure!(lane.readings > 0, "the budget was enough: {lane:?}");
        let budget = lane.budget.context("no budget")?;
        ensure!(budget.spent_bytes > 60_000, "{budget:?}");
        Ok(())
    };
    within_budget(&rig)?;
    rig.agent.kill()?;
    rig.agent.start()?;
    within_budget(&rig)?;
    let log = fs::read_to_string(rig.agent.log())?;
    ensure!(log.contains("lane held back"), "{log}");

    rig.agent.stop(PATIENCE)?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.wait_until_stored(400)?;
    super::assert_all_is_well(&mut rig, &["press"], 400)?;
    rig.done()
}

#[test]
fn what_grows_too_old_in_a_lane_that_is_held_back_is_declared_lost() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let limits = limited(&rig, &format!("{NEVER}max_age = \"2s\"\n"));
    let queue = "[queue]\nsegment_age = \"1s\"\n";
    rig.configure_agent(&format!("{}{queue}{limits}", super::MQTT))?;
    // Ages count by a clock that is known to be right.
    let clock = WallClock::new(rig.dir())?;
    rig.agent.set_environment(clock.environment());
    clock.synchronise()?;
    rig.sink.start()?;
    rig.agent.start()?;
    super::publish(&rig, "press", 0..50)?;
    let mut published = 50;
    let mut dropped = 0;
    wait::until_true("the old ones to be dropped", PATIENCE, || {
        // The newest segment is not dropped before there is a newer one.
        super::publish(&rig, "press", published..published + 1)?;
        published += 1;
        let reasons = rig.agent_status()?.balance.dropped;
        dropped = reasons.get("too_old").copied().unwrap_or_default();
        Ok(dropped >= 50)
    })?;
    ensure!(
        rig.kafka.count(rig.kafka.readings())? == 0,
        "sent through a closed window"
    );

    // What is left is sent once it may be, and the sink has heard of the rest: nothing is missing without a reason.
    rig.agent.stop(PATIENCE)?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    audit::wait_settled(&rig, published)?;
    let report = audit::audit(&rig, &["--format", "json"])?;
    ensure!(report.code == Some(0), "{}", report.text);
    let declared = audit::sum(&report.json()?, "declared");
    ensure!(
        declared >= dropped && declared < published,
        "{}",
        report.text
    );
    rig.wait_until_stored(published - declared)?;
    rig.done()
}
