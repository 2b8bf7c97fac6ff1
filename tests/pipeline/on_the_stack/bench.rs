//! The bench runs, whatever it would measure.

use std::{collections::BTreeSet, process::Command};

use anyhow::{Context, Result, ensure};
use harness::binary;
use serde::Deserialize;

/// A line of `dev/bench --json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    bench: String,
    ratio: f64,
    min: f64,
    max: f64,
    ours: f64,
    limit: f64,
    unit: String,
    target: Option<f64>,
    met: Option<bool>,
}

/// Each row counts its readings at its far end and has no figure when one is missing. The figures of a
/// debug build in a tiny size mean nothing and are not looked at.
#[test]
fn every_row_of_the_bench_runs_and_misses_no_reading() -> Result<()> {
    let output = Command::new(binary("bench")?)
        .args(["--smoke", "--json"])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    let mut benches = BTreeSet::new();
    for text in String::from_utf8(output.stdout)?.lines() {
        let line: Line = serde_json::from_str(text).context(text.to_owned())?;
        let figures = [line.ratio, line.min, line.max, line.ours, line.limit];
        ensure!(figures.iter().all(|figure| figure.is_finite()), "{line:?}");
        ensure!(line.target.is_some() == line.met.is_some(), "{line:?}");
        ensure!(!line.unit.is_empty(), "{line:?}");
        ensure!(benches.insert(line.bench), "printed twice: {text}");
    }
    let page = std::fs::read_to_string(harness::tree().join("docs/performance.md"))?;
    for bench in benches {
        let family = bench.split('-').next().unwrap_or_default();
        let known = page.contains(&format!("`{bench}`")) || page.contains(&format!("`{family}-*`"));
        ensure!(known, "{bench} is not in docs/performance.md");
    }
    Ok(())
}
