//! `cloud-sink audit`: gathers the evidence gateway by gateway, and prints the judgement.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{Span, SpanRelativeTo};
use protocol::{GatewayId, Timestamp};

use super::{Ended, exit};
use crate::{
    audit::{self, GatewayReport, Report},
    config::{Config, Kind, Route},
    run::open_store,
    store::{Outage, Store},
};

/// What can be chosen.
#[derive(Debug, Args)]
pub struct Options {
    /// Only what had news in this time, such as 24h or 7d
    #[arg(long, value_parser = span)]
    since: Option<Duration>,
    /// Count the documents themselves, not only what the sink noted of them
    #[arg(long)]
    full: bool,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t)]
    format: Form,
}

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Form {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("is not a time span: \"{text}\", write for example 24h or 7d");
    let span: Span = text.parse().map_err(|_| wrong())?;
    let days = SpanRelativeTo::days_are_24_hours();
    let duration = span.to_duration(days).map_err(|_| wrong())?;
    Duration::try_from(duration).map_err(|_| wrong())
}

/// Runs it: 0 when nothing is unexplained, 1 when anything is, 69 when MongoDB does not answer.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line prints its answer"
)]
pub async fn run(config: &Config, options: &Options) -> Ended {
    let store = open_store(config).await?;
    let report = match gather(&store, config, options).await {
        Ok(report) => report,
        Err(outage) => {
            eprintln!("mongodb    {}   FAIL {outage}", store.name());
            eprintln!("           fix: check mongodb.uri and that the server runs");
            return Ok(exit::UNAVAILABLE);
        }
    };
    match options.format {
        Form::Text => {
            let mut text = String::new();
            audit::write(&report, &mut text)?;
            print!("{text}");
        }
        Form::Json => {
            let json = serde_json::to_string_pretty(&report).context("the report")?;
            println!("{json}");
        }
    }
    if report.full && !report.clean {
        // Everything in a collection of another name would be called deleted, and nobody deleted it.
        for absent in store.absent(&config.routes).await.unwrap_or_default() {
            let database = &config.mongodb.database;
            eprintln!(
                "{database}.{absent}   FAIL there is no such collection, so nothing was counted in it"
            );
            eprintln!("           fix: [[route]] collection has to be that of the sink that runs");
        }
    }
    Ok(u8::from(!report.clean))
}

fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = i64::try_from(since_1970.unwrap_or_default().as_micros());
    let now = Timestamp::from_micros(micros.unwrap_or(i64::MAX));
    now.unwrap_or(Timestamp::UNIX_EPOCH)
}

async fn gather(store: &Store, config: &Config, options: &Options) -> Result<Report, Outage> {
    let at = now();
    let since = options.since.and_then(|since| {
        let micros = i64::try_from(since.as_micros()).ok()?;
        Timestamp::from_micros(at.as_micros().checked_sub(micros)?).ok()
    });
    let collections: BTreeMap<&str, &Route> = if options.full {
        let routes = config.routes.iter().rev();
        routes.map(|r| (&*r.collection, r)).collect()
    } else {
        BTreeMap::new()
    };
    let names: Vec<&str> = collections.keys().copied().collect();
    // A time series has no index of ids; of what is in it, something is in coverage.
    let indexed = collections.values().filter(|r| r.kind == Kind::Regular);
    let indexed: Vec<&str> = indexed.map(|r| &*r.collection).collect();
    let gateways = store.gateways(&indexed).await?;
    let progress = progress(store, &names, gateways.len()).await?;

    let (mut reports, mut left_out, mut foreign) = (Vec::new(), 0, 0);
    for gateway in &gateways {
        progress.set_message(gateway.to_string());
        let (report, others) = one(store, gateway, &collections, since, &progress).await?;
        foreign += others;
        match report {
            Some(report) => reports.push(report),
            None => left_out += u64::from(since.is_some()),
        }
        if !options.full {
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(Report {
        v: 1,
        at,
        full: options.full,
        clean: reports.iter().all(GatewayReport::is_clean),
        gateways: reports,
        left_out,
        foreign: options.full.then_some(foreign),
    })
}

/// On a terminal: by gateways, or by documents where they are counted.
async fn progress(
    store: &Store,
    collections: &[&str],
    gateways: usize,
) -> Result<ProgressBar, Outage> {
    let mut length = 0;
    for collection in collections {
        length += store.size(collection).await?;
    }
    let bar = ProgressBar::new(if collections.is_empty() {
        gateways as u64
    } else {
        length
    });
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} {msg}");
    Ok(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
}

/// Judges a gateway; `None` where nothing came of it in the time that was asked for. Beside it, how many
/// documents under its name are other producers'.
async fn one(
    store: &Store,
    gateway: &GatewayId,
    collections: &BTreeMap<&str, &Route>,
    since: Option<Timestamp>,
    progress: &ProgressBar,
) -> Result<(Option<GatewayReport>, u64), Outage> {
    let (mut evidence, positions) = store.evidence(gateway).await?;
    let mut foreign = 0;
    if !collections.is_empty() {
        // Last of all: what was noted as stored before must be there now.
        let mut found = Vec::new();
        for route in collections.values() {
            let counted = store.count(gateway, route, |n| progress.inc(n));
            let (epochs, others) = counted.await?;
            found.extend(epochs);
            foreign += others;
        }
        evidence.found = Some(found);
    }
    if evidence.is_empty() {
        return Ok((None, foreign));
    }
    Ok((audit::judge(&evidence, &positions, now(), since), foreign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_a_unit_and_days_have_24_hours() {
        assert_eq!(span("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(span("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for wrong in ["24", "yesterday", "-1h", ""] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
