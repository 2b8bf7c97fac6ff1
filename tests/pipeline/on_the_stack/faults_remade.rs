//! Topics that are deleted and made again under their old name: offsets begin again, and mean other records.

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::{
    rig::{PATIENCE, Rig, kafka::Kafka},
    service::Kind,
    wait,
};

use super::{audit, timeseries};

/// Deletes the topic of the readings and makes it again.
fn remake(rig: &Rig) -> Result<()> {
    let topic = rig.kafka.readings();
    rig.kafka.remove(topic)?;
    Kafka::create(rig.address(Kind::Kafka), &[(topic, 3, false)])
}

/// The new topic has more records than were read of the old one, and Kafka gives no error for it: once while
/// the sink is away, and once while it has the topic, and stands still so that it cannot see that there was
/// none for a moment. `before` that comes what the brokers go through.
fn read_through_three_lives(rig: &mut Rig, before: impl Fn(&mut Rig) -> Result<()>) -> Result<()> {
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(rig, "press", 0..20)?;
    rig.wait_until_stored(20)?;
    let status = rig.sink.stop(PATIENCE)?;
    ensure!(status.success(), "{}", rig.sink.end_of_log());
    remake(rig)?;
    super::publish(rig, "press", 20..120)?;
    rig.sink.start()?;
    rig.wait_until_stored(120)?;

    before(rig)?;
    super::publish(rig, "press", 120..140)?;
    rig.wait_until_stored(140)?;
    rig.sink.process()?.freeze()?;
    remake(rig)?;
    super::publish(rig, "press", 140..500)?;
    rig.sink.process()?.thaw()?;
    rig.wait_until_stored(500)?;

    let incidents = rig.documents.all("incidents")?;
    let kinds = incidents.iter().filter_map(|one| one.get_str("kind").ok());
    let told = kinds.filter(|kind| *kind == "topic_recreated").count();
    ensure!(told == 2, "{incidents:?}\n{}", rig.sink.end_of_log());
    Ok(())
}

#[test]
fn a_topic_made_again_under_its_old_name_is_read_from_its_start_though_it_is_longer() -> Result<()>
{
    let mut rig = Rig::new(&[Kind::Kafka])?;
    read_through_three_lives(&mut rig, |rig| {
        // The leaders of the old topic are of a later epoch then than those of the new one ever were: brokers
        // refuse every request of a client that holds on to them.
        let kafka = rig.service(Kind::Kafka)?;
        kafka.kill()?;
        kafka.start()?;
        kafka.wait_ready()
    })?;
    super::assert_at_rest(&mut rig)?;
    super::assert_stored_once(&rig, &["press"], 500)?;
    super::assert_audit_is_clean(&rig, 500)?;
    rig.done()
}

#[test]
fn a_time_series_takes_each_reading_once_though_its_topic_is_made_again() -> Result<()> {
    let Some(mut rig) = timeseries::rig(&[Kind::Series])? else {
        return Ok(());
    };
    read_through_three_lives(&mut rig, |_| Ok(()))?;
    super::assert_at_rest(&mut rig)?;
    timeseries::assert_once(&rig, 500)?;
    audit::wait_settled(&rig, 500)?;
    rig.done()
}

/// Row 32, in the middle of the work: somebody deletes the topic.
#[test]
fn a_topic_deleted_under_running_daemons_is_named_by_both_and_a_new_one_takes_what_waited()
-> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..20)?;
    rig.wait_until_stored(20)?;
    let topic = rig.kafka.readings().to_owned();
    rig.kafka.remove(&topic)?;
    super::publish(&rig, "press", 20..50)?;
    rig.wait_agent("a link that says how to make the topic", |agent| {
        let mut details = agent.links.iter().filter_map(|link| link.detail.as_ref());
        agent.balance.queued == 30 && details.any(|why| why.contains("cloud-sink topics apply"))
    })?;
    wait::until_true("a line that says how to find the topic", PATIENCE, || {
        let log = fs::read_to_string(rig.sink.log())?;
        Ok(log.contains("cloud-sink topics plan says which is missing"))
    })
    .with_context(|| rig.sink.end_of_log())?;
    let status = rig.agent_status()?;
    ensure!(
        status.balance.dropped.values().sum::<u64>() == 0,
        "{status:?}"
    );

    Kafka::create(rig.address(Kind::Kafka), &[(&topic, 3, false)])?;
    rig.wait_until_stored(50)?;
    super::assert_at_rest(&mut rig)?;
    super::assert_stored_once(&rig, &["press"], 50)?;
    super::assert_audit_is_clean(&rig, 50)?;
    rig.done()
}
