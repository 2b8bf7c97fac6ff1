//! The report for people.

use std::fmt::{self, Write};

use protocol::{Epoch, GatewayId, RecordId, Timestamp};

use super::report::{EpochReport, Finding, GatewayReport, LaneReport, Part, Report, State, Totals};

/// Ranges of one part that are shown; JSON has all.
const SHOWN: usize = 20;

/// Writes it.
///
/// # Errors
/// Only those of `out`.
pub fn write(report: &Report, out: &mut impl Write) -> fmt::Result {
    for gateway in &report.gateways {
        write_gateway(gateway, out)?;
    }
    if let Some(foreign) = report.foreign.filter(|count| *count > 0) {
        writeln!(
            out,
            "{foreign} documents of other producers, which no audit covers"
        )?;
    }
    if report.left_out > 0 {
        let count = report.left_out;
        writeln!(
            out,
            "{count} gateway{} without news in that time",
            plural(count)
        )?;
    }
    if report.gateways.is_empty() && report.left_out == 0 {
        // Not "nothing is missing": whoever asks in the wrong place would believe it.
        return writeln!(
            out,
            "no gateway is known here: no sink has written anything of one to this database yet"
        );
    }
    let mut totals = Totals::default();
    let (mut findings, mut silent) = (0, 0);
    for gateway in &report.gateways {
        silent += u64::from(gateway.silent_since.is_some());
        for lane in &gateway.lanes {
            sum(&mut totals, &lane.totals);
            findings += lane.findings.len();
        }
    }
    let Totals { expected, .. } = totals;
    write!(out, "{expected} readings: ")?;
    if report.clean {
        return match (totals.in_flight, totals.queued) {
            (0, 0) => writeln!(out, "nothing is missing"),
            (flight, queued) => writeln!(
                out,
                "nothing is missing, {flight} in flight, {queued} queued at gateways"
            ),
        };
    }
    let unexplained = totals.unexplained();
    write!(
        out,
        "{unexplained} unexplained, {findings} finding{}",
        plural(findings as u64)
    )?;
    writeln!(out, ", {silent} silent gateway{}", plural(silent))
}

fn sum(totals: &mut Totals, other: &Totals) {
    totals.expected += other.expected;
    totals.in_flight += other.in_flight;
    totals.queued += other.queued;
    totals.missing += other.missing;
    totals.deleted += other.deleted;
    totals.abandoned += other.abandoned;
    totals.unverifiable += other.unverifiable;
    totals.uncounted += other.uncounted;
    totals.conflicts += other.conflicts;
    totals.duplicated += other.duplicated;
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn write_gateway(report: &GatewayReport, out: &mut impl Write) -> fmt::Result {
    let gateway = &report.gateway;
    let verdict = if report.is_clean() { "ok" } else { "FAIL" };
    write!(out, "{gateway}   {verdict}")?;
    match report.silent_since {
        Some(Timestamp::UNIX_EPOCH) => write!(out, "   never heard of, unverifiable")?,
        Some(since) => write!(out, "   silent, unverifiable since {since}")?,
        None => {}
    }
    writeln!(out)?;
    for lane in &report.lanes {
        write_lane(gateway, lane, out)?;
    }
    Ok(())
}

fn write_lane(gateway: &GatewayId, report: &LaneReport, out: &mut impl Write) -> fmt::Result {
    let LaneReport {
        lane,
        epochs,
        complete,
        totals,
        ..
    } = report;
    writeln!(
        out,
        "  {lane}   {epochs} epoch{}, {complete} complete",
        plural(*epochs)
    )?;
    write!(out, "    expected {}", totals.expected)?;
    let sums = [
        ("present", totals.present),
        ("expired", totals.expired),
        ("dead-lettered", totals.dead_lettered),
        ("declared lost", totals.declared),
        ("lost to retention", totals.retention),
        ("lost with topic", totals.topic_remade),
        ("in flight", totals.in_flight),
        ("queued", totals.queued),
        ("MISSING", totals.missing),
        ("DELETED", totals.deleted),
        ("ABANDONED", totals.abandoned),
        ("UNVERIFIABLE", totals.unverifiable),
        ("UNCOUNTED", totals.uncounted),
        ("CONFLICTS", totals.conflicts),
        ("DUPLICATED", totals.duplicated),
    ];
    for (name, count) in sums.into_iter().filter(|(_, count)| *count > 0) {
        write!(out, "   {name} {count}")?;
    }
    writeln!(out)?;
    for epoch in &report.open {
        write_epoch(gateway, epoch, out)?;
    }
    for finding in &report.findings {
        write_finding(finding, out)?;
    }
    Ok(())
}

fn write_epoch(gateway: &GatewayId, report: &EpochReport, out: &mut impl Write) -> fmt::Result {
    let epoch = report.epoch;
    for Part { state, ranges } in &report.parts {
        if matches!(state, State::Present | State::Expired) {
            continue;
        }
        let mut note = match state {
            State::Declared { reason, merged, at } => {
                let merged = if *merged {
                    ", joined with neighbours"
                } else {
                    ""
                };
                format!("{} at {at}{merged}", reason.as_str())
            }
            State::Queued => report
                .as_of
                .map_or_else(String::new, |at| format!("as of {at}")),
            State::Uncounted => "run with --full".into(),
            _ => String::new(),
        };
        if !note.is_empty() {
            note.insert_str(0, "   ");
        }
        let word = state.as_str();
        for (first, last) in ranges.iter().take(SHOWN) {
            let count = last - first + 1;
            write!(
                out,
                "    {epoch}   {word}   {first}..{last}   {count}{note}"
            )?;
            if state.is_unexplained() {
                write_ids(gateway, epoch, first, last, out)?;
            }
            writeln!(out)?;
        }
        if ranges.len() > SHOWN {
            let more = ranges.len() - SHOWN;
            writeln!(out, "    {epoch}   {word}   and {more} more ranges")?;
        }
    }
    for (word, ranges) in [
        ("conflict", &report.conflicts),
        ("duplicated", &report.duplicated),
    ] {
        for (first, last) in ranges.iter().take(SHOWN) {
            let count = last - first + 1;
            write!(out, "    {epoch}   {word}   {first}..{last}   {count}")?;
            write_ids(gateway, epoch, first, last, out)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// As a person would look for them.
fn write_ids(
    gateway: &GatewayId,
    epoch: Epoch,
    first: u64,
    last: u64,
    out: &mut impl Write,
) -> fmt::Result {
    let id = |sequence| RecordId {
        gateway: gateway.clone(),
        epoch,
        sequence,
    };
    write!(out, "   {}", id(first))?;
    if first == last {
        return Ok(());
    }
    write!(out, " to {}", id(last))
}

fn write_finding(finding: &Finding, out: &mut impl Write) -> fmt::Result {
    let list = |epochs: &[Epoch]| {
        let texts: Vec<String> = epochs.iter().map(ToString::to_string).collect();
        texts.join(", ")
    };
    match finding {
        Finding::Fork { epoch, successors } => writeln!(
            out,
            "    {epoch}   continued by several runs: {}; a cloned card or a restored image",
            list(successors)
        ),
        Finding::Roots { epochs } => writeln!(
            out,
            "    several first runs: {}; a replaced or emptied card",
            list(epochs)
        ),
        Finding::Unstated { epoch } => writeln!(
            out,
            "    {epoch}   readings came, but the gateway never stated this run"
        ),
    }
}
