//! What Prometheus finds in both daemons is what rules, dashboard and documentation name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context as _, Result, ensure};
use harness::{
    port,
    rig::{PATIENCE, Rig},
    service::Kind,
    wait,
};

use super::sink_dead_letters::foreign;
use crate::monitoring::{asked_for, lint, metrics_asked_for};

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
    types.map(|(name, _)| name.to_owned()).collect()
}

/// The labels of each metric that has any.
fn labels(scrape: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in scrape.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, rest)) = line.split_once('{') {
            let names = rest
                .split("=\"")
                .filter_map(|part| part.rsplit([',', '"']).next());
            let names = names.filter(|name| !name.contains(['}', ' ']));
            let known = labels.entry(whole(name)).or_default();
            known.extend(names.map(str::to_owned));
        }
    }
    labels
}

/// Dashboard and alerts take labels from metrics that have them; Prometheus itself adds two.
fn every_label_that_is_asked_for_is_there(scrapes: &[String]) -> Result<()> {
    let known: BTreeMap<_, _> = scrapes.iter().flat_map(|scrape| labels(scrape)).collect();
    for asked in asked_for()? {
        let metrics = asked.metrics.iter().map(|name| whole(name));
        let mut there: BTreeSet<&str> = ["instance", "job"].into();
        for metric in metrics {
            let has = known.get(&metric).into_iter().flatten();
            there.extend(has.map(String::as_str));
        }
        let missing = asked
            .labels
            .iter()
            .find(|label| !there.contains(label.as_str()));
        ensure!(missing.is_none(), "no {missing:?} for {asked:?}");
    }
    Ok(())
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
    let mut scrapes = Vec::new();
    for daemon in [&rig.agent, &rig.sink] {
        let scrape = daemon.page("/metrics")?;
        lint(&scrape, rig.dir())?;
        scrapes.push(scrape);
        // Prometheus gets the newer form.
        let url = format!("{}/metrics", daemon.url());
        let asked = ureq::get(url).header("accept", "application/openmetrics-text; version=1.0.0");
        let newer = asked.call()?.body_mut().read_to_string()?;
        ensure!(newer.ends_with("# EOF\n"), "the scrape has no end");
    }
    every_label_that_is_asked_for_is_there(&scrapes)?;
    rig.done()
}
