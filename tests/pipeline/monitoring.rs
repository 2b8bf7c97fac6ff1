//! What operators put beside the daemons: alert rules, each with a story that makes it fire, and a dashboard. Judged by
//! Prometheus' own `promtool`; where it cannot be had these tests say that they are skipped.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value as Json;

/// The files for an operator.
pub fn packaging() -> PathBuf {
    harness::tree().join("packaging")
}

/// `promtool`, to be given its arguments; `None`, said aloud, where there is none.
pub fn promtool() -> Result<Option<Command>> {
    if Command::new("promtool").arg("--version").output().is_ok() {
        return Ok(Some(Command::new("promtool")));
    }
    let test = std::thread::current();
    let name = test.name().unwrap_or("a test").to_owned();
    // Not through the macros, whose output a test that passes keeps to itself.
    writeln!(
        std::io::stderr(),
        "skipped {name}: promtool is missing (apt-get install prometheus)"
    )?;
    Ok(None)
}

fn must_succeed(mut command: Command) -> Result<()> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn files(folder: &str, ending: &str) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(packaging().join(folder))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|file| file.display().to_string().ends_with(ending));
    ensure!(!files.is_empty(), "no {ending} in packaging/{folder}");
    files.sort();
    Ok(files)
}

fn rules() -> Result<Vec<PathBuf>> {
    files("prometheus", ".rules.yml")
}

fn alerts() -> Result<BTreeSet<String>> {
    let mut alerts = BTreeSet::new();
    for file in rules()? {
        let text = fs::read_to_string(file)?;
        let names = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- alert: "));
        alerts.extend(names.map(str::to_owned));
    }
    ensure!(!alerts.is_empty(), "no alert was found");
    Ok(alerts)
}

fn dashboard() -> Result<Json> {
    let file = packaging().join("grafana/edge-to-mongodb.json");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

/// Every expression in the dashboard, as Grafana would send it.
fn expressions(of: &Json, into: &mut Vec<String>) {
    match of {
        Json::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("expr", Json::String(expression)) => into.push(
                        expression
                            .replace("$__rate_interval", "1m")
                            .replace("$gateway", ".*"),
                    ),
                    _ => expressions(member, into),
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| expressions(item, into)),
        _ => {}
    }
}

/// Every metric of ours that rules and dashboard ask for.
pub fn metrics_asked_for() -> Result<BTreeSet<String>> {
    let mut texts = Vec::new();
    expressions(&dashboard()?, &mut texts);
    for file in rules()? {
        // Comments and annotations name no metrics but those that the expression has.
        texts.push(fs::read_to_string(file)?);
    }
    let words = texts
        .iter()
        .flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    let ours = words.filter(|word| word.starts_with("edge_") || word.starts_with("sink_"));
    Ok(ours.map(str::to_owned).collect())
}

#[test]
fn promtool_accepts_the_rules_and_the_configuration() -> Result<()> {
    let Some(mut promtool) = promtool()? else {
        return Ok(());
    };
    promtool.args(["check", "config", "--lint-fatal"]);
    promtool.arg(packaging().join("prometheus/prometheus.yml"));
    must_succeed(promtool)
}

#[test]
fn every_alert_fires_when_its_story_says_so_and_not_before() -> Result<()> {
    let Some(mut promtool) = promtool()? else {
        return Ok(());
    };
    promtool.args(["test", "rules"]);
    promtool.args(files("prometheus/tests", ".yml")?);
    must_succeed(promtool)
}

#[test]
fn every_alert_has_a_story_and_a_place_in_the_documentation() -> Result<()> {
    let page = fs::read_to_string(harness::tree().join("docs/operations.md"))?;
    let alerts = alerts()?;
    for alert in &alerts {
        let file = packaging().join(format!("prometheus/tests/{alert}.yml"));
        let story = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
        let times = story
            .lines()
            .filter(|line| line.contains("eval_time"))
            .count();
        ensure!(times >= 2, "{alert} is not shown to be quiet and to fire");
        ensure!(story.contains("exp_labels"), "{alert} never fires");
        ensure!(
            page.contains(&format!("| `{alert}` |")),
            "docs/operations.md has no {alert}"
        );
    }
    let explained = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.starts_with("Edge") || name.starts_with("Sink"));
    for name in explained {
        ensure!(alerts.contains(name), "{name} is documented and no alert");
    }
    Ok(())
}

#[test]
fn every_expression_of_the_dashboard_can_be_parsed() -> Result<()> {
    let dashboard = dashboard()?;
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    ensure!(found.len() > 10, "only {} expressions", found.len());
    let ids: Vec<u64> = dashboard["panels"]
        .as_array()
        .context("no panels")?
        .iter()
        .filter_map(|panel| panel["id"].as_u64())
        .collect();
    let different: BTreeSet<u64> = ids.iter().copied().collect();
    ensure!(ids.len() == different.len(), "a panel id is used twice");

    let Some(mut promtool) = promtool()? else {
        return Ok(());
    };
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (number, expression) in found.iter().enumerate() {
        ensure!(
            !expression.contains('$'),
            "a variable is left: {expression}"
        );
        // JSON's texts are YAML's.
        let expression = serde_json::to_string(expression)?;
        rules += &format!("      - {{ record: panel:{number}, expr: {expression} }}\n");
    }
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("dashboard.rules.yml");
    fs::write(&file, rules)?;
    promtool.args(["check", "rules"]).arg(&file);
    must_succeed(promtool)
}

/// What Prometheus' linter says of a scrape in the text format.
pub fn lint(scrape: &str, dir: &Path) -> Result<()> {
    let Some(mut promtool) = promtool()? else {
        return Ok(());
    };
    let file = dir.join("scrape.txt");
    fs::write(&file, scrape)?;
    promtool
        .args(["check", "metrics"])
        .stdin(fs::File::open(file)?);
    must_succeed(promtool)
}

/// One panel or one alert: the metrics it asks for, and the labels that it takes from them.
#[derive(Debug)]
pub struct Asked {
    pub metrics: BTreeSet<String>,
    pub labels: BTreeSet<String>,
}

/// Everything that the dashboard and the rules take from metrics of ours.
pub fn asked_for() -> Result<Vec<Asked>> {
    let mut texts = Vec::new();
    targets(&dashboard()?, &mut texts);
    for file in rules()? {
        let text = fs::read_to_string(file)?;
        texts.extend(text.split("- alert: ").skip(1).map(str::to_owned));
    }
    let asked: Vec<Asked> = texts.iter().map(|text| asked(text)).collect();
    Ok(asked
        .into_iter()
        .filter(|asked| !asked.metrics.is_empty())
        .collect())
}

/// Each query of the dashboard with its legend.
fn targets(of: &Json, into: &mut Vec<String>) {
    if let Some(expression) = of["expr"].as_str() {
        let legend = of["legendFormat"].as_str().unwrap_or_default();
        into.push(format!("{expression} {legend}"));
    }
    match of {
        Json::Object(members) => members.values().for_each(|one| targets(one, into)),
        Json::Array(items) => items.iter().for_each(|item| targets(item, into)),
        _ => {}
    }
}

/// Labels stand in `{label="…"}`, `by (label)`, `on (label)`, `{{label}}` and `$labels.label`.
fn asked(text: &str) -> Asked {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_name(c));
    let metrics = words.filter(|word| word.starts_with("edge_") || word.starts_with("sink_"));
    let mut labels: BTreeSet<&str> = BTreeSet::new();
    for clause in ["by (", "on ("] {
        for rest in text.split(clause).skip(1) {
            let list = rest.split(')').next().unwrap_or_default();
            labels.extend(list.split(',').map(str::trim));
        }
    }
    for mark in ["{{", "$labels."] {
        let rests = text.split(mark).skip(1);
        labels.extend(rests.filter_map(|rest| rest.split(|c| !is_name(c)).next()));
    }
    for rest in text.split('{').skip(1) {
        let matchers = rest.split('}').next().unwrap_or_default();
        let matchers = matchers
            .split(", ")
            .filter_map(|one| one.split_once(['=', '!']));
        labels.extend(matchers.map(|(label, _)| label));
    }
    Asked {
        metrics: metrics.map(str::to_owned).collect(),
        labels: labels
            .into_iter()
            .filter(|label| !label.is_empty() && label.chars().all(is_name))
            .map(str::to_owned)
            .collect(),
    }
}
