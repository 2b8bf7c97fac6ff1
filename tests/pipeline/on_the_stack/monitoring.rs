//! What Prometheus finds in both daemons is what rules, dashboard and documentation name.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, ensure};
use harness::{
    port,
    rig::{PATIENCE, Rig},
    service::Kind,
    wait,
};

use super::sink_dead_letters::foreign;
use crate::monitoring::{lint, metrics_asked_for};

/// The names of a scrape's samples; a histogram's parts under its own.
fn names(scrape: &str) -> BTreeSet<String> {
    let samples = scrape.lines().filter(|line| !line.starts_with('#'));
    let names = samples.filter_map(|line| line.split(['{', ' ']).next());
    names.map(whole).collect()
}

/// The names that a scrape declares: also those that have no sample yet, for want of a label's value.
fn declared(scrape: &str) -> BTreeSet<String> {
    let types = scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            _ => name.to_owned(),
        })
        .collect()
}

fn whole(name: &str) -> String {
    let parts = ["_bucket", "_sum", "_count"];
    let whole = parts.iter().find_map(|part| name.strip_suffix(part));
    whole.unwrap_or(name).to_owned()
}

/// The metrics that docs/operations.md explains, by their names without labels.
fn documented() -> Result<BTreeSet<String>> {
    let page = fs::read_to_string(harness::tree().join("docs/operations.md"))?;
    let tables = page.split("## Metrics of ").skip(1).collect::<String>();
    let rows = tables.lines().filter(|line| line.starts_with("| `"));
    // The first column; what a metric means may name others.
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let ours = names.filter(|name| name.starts_with("edge_") || name.starts_with("sink_"));
    Ok(ours
        .filter_map(|name| name.split('{').next())
        .map(str::to_owned)
        .collect())
}

#[test]
fn every_metric_that_is_asked_for_or_explained_is_in_a_real_scrape() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(super::MQTT)?;
    // Its uplink is away, so that something waits.
    let config = fs::read_to_string(rig.agent.config_file())?;
    let away = format!("127.0.0.1:{}", port::free()?);
    rig.agent
        .configure(&config.replace(rig.address(Kind::Kafka), &away))?;
    rig.agent.start()?;
    super::publish(&rig, "press", 0..3)?;
    let publisher = rig.publisher("noise")?;
    publisher.publish(&format!("{}/noise/state", rig.name()), "{".to_owned())?;
    publisher.wait_acknowledged(1)?;
    rig.sink.start()?;
    let good = foreign(br#"{"device":"tank","level_m":1.5}"#);
    rig.kafka
        .write(rig.kafka.readings(), &[good, foreign(b"{")])?;

    let wanted = metrics_asked_for()?;
    let wanted: BTreeSet<String> = wanted.iter().map(|name| whole(name)).collect();
    let documented = documented()?;
    let mut difference = String::new();
    let met = wait::until_true("all metrics to be there", PATIENCE, || {
        let scrapes = [rig.agent.page("/metrics")?, rig.sink.page("/metrics")?];
        let found: BTreeSet<String> = scrapes.iter().flat_map(|scrape| names(scrape)).collect();
        let all: BTreeSet<String> = scrapes.iter().flat_map(|scrape| declared(scrape)).collect();
        let less = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
            let difference = one.difference(other).cloned().collect::<Vec<_>>();
            difference.join(" ")
        };
        difference = format!(
            "asked for and not there: {}\nexplained and not there: {}\nthere and not explained: {}",
            less(&wanted, &found),
            less(&documented, &all),
            less(&all, &documented)
        );
        Ok(wanted.is_subset(&found) && documented == all)
    });
    met.with_context(|| difference.clone())?;
    for daemon in [&rig.agent, &rig.sink] {
        let scrape = daemon.page("/metrics")?;
        ensure!(scrape.ends_with("# EOF\n"), "the scrape has no end");
        lint(&scrape, rig.dir())?;
    }
    rig.done()
}
